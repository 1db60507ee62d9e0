//! What Google says no to, and what settings cannot be.

use longshore_core::error::{Kind, Retry};
use longshore_core::stream::StreamSource;
use longshore_fakes::pubsub::{Fault, Options, Rule};
use longshore_pubsub::PubSubSource;
use serde_json::{Value, json};
use tonic::Code;

use crate::harness::{NAME, Stage};

#[tokio::test]
async fn a_subscription_that_is_not_there_is_an_error_that_says_how_to_make_it() {
    let stage = Stage::new(Options::default()).await;
    stage.fake.delete_subscription(NAME);
    let error = stage.source(json!({})).subscribe(&stage.context(), stage.journal.clone()).await.err().expect("refused");
    assert_eq!((error.code(), error.kind(), error.retry()), ("pubsub_missing", Kind::Source, Retry::AfterFix));
    assert!(error.message().contains(NAME) && error.message().contains("Resource not found"), "{error}");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("subscriptions create")));
}

#[tokio::test]
async fn a_subscription_that_is_deleted_while_it_is_read_ends_the_run() {
    let stage = Stage::with(3).await;
    let mut worker = stage.worker().await;
    worker.read(3).await;
    stage.fake.delete_subscription(NAME);
    let error = loop {
        match worker.next().await {
            Err(error) => break error,
            Ok(_) => continue,
        }
    };
    assert_eq!(error.code(), "pubsub_missing");
}

#[tokio::test]
async fn who_may_not_read_is_told_the_role_in_googles_words() {
    let denied = "User not authorized to perform this action.";
    for (code, name, hint) in [
        (Code::PermissionDenied, "pubsub_denied", "roles/pubsub.subscriber"),
        (Code::Unauthenticated, "pubsub_credentials", "credentials"),
        (Code::InvalidArgument, "pubsub_refused", ""),
    ] {
        let stage = Stage::with(1).await;
        stage.fake.rule(Rule::on("StreamingPull", Fault::Refuse(code, denied.into())).times(10));
        // Who may read need not be allowed to look.
        stage.fake.rule(Rule::on("GetSubscription", Fault::Refuse(Code::PermissionDenied, denied.into())));
        let error = stage.worker().await.next().await.err().expect("refused");
        assert_eq!((error.code(), error.kind(), error.retry()), (name, Kind::Source, Retry::AfterFix));
        assert!(error.message().contains(denied), "{error}");
        assert!(error.hint_text().unwrap_or_default().contains(hint), "{error:?}");
    }
}

#[tokio::test]
async fn a_subscription_that_pushes_cannot_be_read() {
    let stage = Stage::new(Options { push: "https://example.com/in".into(), ..Options::default() }).await;
    let error = stage.source(json!({})).subscribe(&stage.context(), stage.journal.clone()).await.err().expect("refused");
    assert_eq!((error.code(), error.kind()), ("pubsub_refused", Kind::Config));
    assert!(error.message().contains("https://example.com/in"), "{error}");
}

#[tokio::test]
async fn a_look_says_what_the_subscription_is_and_takes_nothing() {
    let stage = Stage::new(Options {
        topic: "projects/test/topics/orders".into(),
        exactly_once: true,
        ordered: true,
        ..Options::default()
    })
    .await;
    stage.publish(0..3);
    let lines = stage.source(json!({})).inspect(&stage.context()).await.expect("looks").join("\n");
    for part in [NAME, &stage.fake.endpoint(), "nobody", "projects/test/topics/orders", "exactly once", "ordering key"] {
        assert!(lines.contains(part), "{part}: {lines}");
    }
    assert_eq!((stage.fake.calls("StreamingPull"), stage.fake.sent(NAME)), (0, 0));
    stage.fake.rule(Rule::on("GetSubscription", Fault::Refuse(Code::PermissionDenied, "no".into())));
    let lines = stage.source(json!({})).inspect(&stage.context()).await.expect("may be read").join("\n");
    assert!(lines.contains("roles/pubsub.viewer"), "{lines}");
    stage.fake.delete_subscription(NAME);
    let error = stage.source(json!({})).inspect(&stage.context()).await.expect_err("refused");
    assert_eq!(error.code(), "pubsub_missing");
}

#[tokio::test]
async fn an_answer_that_is_none_is_an_error_and_no_panic() {
    let stage = Stage::new(Options::default()).await;
    // A web server in place of Pub/Sub.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    let source = crate::harness::source(json!({"subscription": NAME, "endpoint": format!("http://{address}")}), json!({}));
    let error = source.inspect(&stage.context()).await.expect_err("refused");
    assert_eq!((error.code(), error.retry()), ("pubsub_unavailable", Retry::Backoff));
    server.abort();
}

#[test]
fn settings_that_cannot_be_used_are_refused_with_what_would_do() {
    for (settings, part) in [
        (json!({"subscription": "orders"}), "the project of `orders` is missing"),
        (json!({"subscription": NAME, "project": "other"}), "another project"),
        (json!({"subscription": NAME, "ack_deadline": "5s"}), "`ack_deadline`"),
        (json!({"subscription": NAME, "ack_deadline": "11m"}), "`ack_deadline`"),
        (json!({"subscription": NAME, "streams": 0}), "`streams`"),
        (json!({"subscription": NAME, "max_outstanding": {"messages": 1}}), "`max_outstanding`"),
        (json!({"subscription": NAME, "endpoint": "localhost:8085"}), "`endpoint: localhost:8085`"),
        (json!({"subscription": NAME, "credentials": "/nowhere/key.json"}), "/nowhere/key.json"),
    ] {
        let error = PubSubSource::new(serde_json::from_value(settings.clone()).expect("readable")).err().expect("refused");
        assert_eq!((error.kind(), error.retry()), (Kind::Config, Retry::AfterFix), "{settings}");
        assert!(error.message().contains(part), "{settings}: {error}");
    }
    let unreadable: Result<longshore_pubsub::config::PubSubConfig, _> =
        serde_json::from_value(json!({"subscription": NAME, "dedupe_window": "a day"}));
    assert!(unreadable.expect_err("refused").to_string().contains("`a day`"));
}

#[test]
fn every_setting_has_its_text_beside_the_others() {
    let schema = schemars::schema_for!(longshore_pubsub::config::PubSubConfig).to_value();
    let properties = schema["properties"].as_object().expect("an object");
    for name in
        ["subscription", "project", "credentials", "endpoint", "max_outstanding", "dedupe_window", "format", "route", "columns"]
    {
        assert!(properties.get(name).is_some_and(|property| property["description"].is_string()), "{name}: {properties:?}");
    }
    assert_eq!(schema["required"], Value::from(["subscription"].as_slice()));
}
