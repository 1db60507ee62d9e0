//! Messages out.

use longshore_core::error::{Kind, Retry};
use longshore_core::retry::Patience;
use longshore_core::stream::{LetterCopy, StreamSource as _, Tables};
use longshore_fakes::pubsub::{FakePubSub, Fault, Message, Options, Rule};
use longshore_pubsub::config::Access;
use longshore_pubsub::{Outgoing, Publisher};
use serde_json::json;
use tonic::Code;

use crate::harness::{NAME, Stage};

const TOPIC: &str = "projects/test/topics/dlq";

async fn publisher() -> (FakePubSub, Publisher) {
    let fake = FakePubSub::start().await;
    fake.create_topic(TOPIC);
    let access = Access { endpoint: Some(fake.endpoint()), ..Access::default() };
    (fake, Publisher::new(&access, Some("test")).expect("a publisher"))
}

fn message(number: usize, key: &str) -> Outgoing {
    Outgoing {
        data: format!("{number}").into(),
        attributes: vec![("reason".to_owned(), "unknown_table".to_owned())],
        ordering_key: key.to_owned(),
    }
}

#[tokio::test]
async fn messages_are_published_with_attributes_and_their_ids_come_in_order() {
    let (fake, publisher) = publisher().await;
    let messages: Vec<_> = (0..2_500).map(|number| message(number, ["", "a", "b"][number % 3])).collect();
    let ids = publisher.publish("dlq", messages.clone(), &Patience::default()).await.expect("publishes");
    let published = fake.published(TOPIC);
    assert_eq!((ids.len(), published.len()), (2_500, 2_500));
    for key in ["", "a", "b"] {
        let sent: Vec<_> = messages.iter().filter(|message| message.ordering_key == key).map(|message| &message.data).collect();
        let came: Vec<_> = published.iter().filter(|message| message.ordering_key == key).map(|message| &message.data).collect();
        assert_eq!(came, sent, "{key}");
    }
    assert!(published.iter().all(|message| message.attributes["reason"] == "unknown_table"));
    // The id of each is that of its own message.
    let first: u64 = ids.iter().map(|id| id.parse().expect("a number")).min().expect("some");
    for (message, id) in messages.iter().zip(&ids) {
        let place = (id.parse::<u64>().expect("a number") - first) as usize;
        assert_eq!(published[place].data, message.data);
    }
}

#[tokio::test]
async fn case_25_an_answer_that_is_lost_publishes_twice() {
    let (fake, publisher) = publisher().await;
    fake.rule(Rule::on("Publish", Fault::LoseAnswer));
    let ids = publisher.publish(TOPIC, vec![message(1, "")], &Patience::default()).await.expect("publishes");
    assert_eq!((ids.len(), fake.published(TOPIC).len()), (1, 2));
}

#[tokio::test]
async fn a_topic_that_is_not_there_or_not_ours_is_an_error_with_a_hint() {
    let (fake, publisher) = publisher().await;
    let patience = Patience::default();
    let publish = |topic: &'static str| publisher.publish(topic, vec![message(1, "")], &patience);
    let error = publish("nowhere").await.expect_err("refused");
    assert_eq!((error.code(), error.kind(), error.retry()), ("pubsub_missing", Kind::Source, Retry::AfterFix));
    assert!(error.hint_text().is_some_and(|hint| hint.contains("topics create")));
    fake.rule(Rule::on("Publish", Fault::Refuse(Code::PermissionDenied, "no".into())));
    let error = publish("dlq").await.expect_err("refused");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("roles/pubsub.publisher")), "{error:?}");
    assert_eq!(publish("a/b").await.expect_err("refused").code(), "pubsub_name");
}

/// The dead letters of messages that are none, as copies.
async fn letters(stage: &Stage, count: usize) -> Vec<LetterCopy> {
    for number in 0..count {
        let attributes = [("kind".to_owned(), "bad".to_owned()), ("longshore-id".to_owned(), "an earlier one".to_owned())].into();
        let data = format!("{number} {{").into();
        stage.fake.publish(NAME, Message { data, attributes, ordering_key: "key".into() });
    }
    let delivery = stage.worker().await.delivery().await;
    let decoded = delivery.decode.decode(&Tables::default()).expect("decodes");
    assert_eq!(decoded.rejects.len(), count);
    let copy = |(number, reject)| LetterCopy {
        id: format!("id{number}"),
        reject,
        pipeline: "test".into(),
        run: "run".into(),
        at: chrono::Utc::now(),
    };
    (0..).zip(decoded.rejects).map(copy).collect()
}

#[tokio::test]
async fn a_dead_letter_is_copied_as_it_came_with_what_is_known_about_it() {
    let stage = Stage::new(Options::default()).await;
    stage.fake.create_topic(TOPIC);
    let mut copies = letters(&stage, 3).await;
    copies[0].reject.reason = "ä".repeat(2_000);
    for name in ["dlq", TOPIC] {
        let letterbox = stage.source(json!({"dead_letter_topic": name})).letterbox().expect("a topic");
        assert_eq!(letterbox.name(), format!("the topic {TOPIC}"));
        letterbox.deliver(&copies).await.expect("taken");
    }
    let published = stage.fake.published(TOPIC);
    assert_eq!(published.len(), 6);
    for (number, message) in published.iter().enumerate() {
        let attribute = |name: &str| message.attributes[name].as_str();
        assert_eq!(message.data, format!("{} {{", number % 3));
        assert_eq!((attribute("kind"), message.ordering_key.as_str()), ("bad", "key"));
        assert_eq!(attribute("longshore-id"), format!("id{}", number % 3));
        assert_eq!(attribute("longshore-code"), "no_destination");
        assert_eq!((attribute("longshore-pipeline"), attribute("longshore-run")), ("test", "run"));
        assert!(attribute("longshore-source").contains(NAME) && attribute("longshore-reason").len() <= 1_024);
    }
    assert!(stage.source(json!({})).letterbox().is_none());
}

#[tokio::test]
async fn a_copy_that_is_refused_takes_no_other_along() {
    let stage = Stage::new(Options::default()).await;
    stage.fake.create_topic(TOPIC);
    let copies = letters(&stage, 3).await;
    // All of them together, the second half of them, and then the second.
    let refused = || Fault::Refuse(Code::InvalidArgument, "The message is too large.".into());
    stage.fake.rule(Rule::on("Publish", refused()));
    stage.fake.rule(Rule::on("Publish", refused()).skip(1).times(2));
    let letterbox = stage.source(json!({"dead_letter_topic": TOPIC})).letterbox().expect("a topic");
    let error = letterbox.deliver(&copies).await.expect_err("one is refused");
    assert!(error.message().contains("too large"), "{error}");
    let published: Vec<_> = stage.fake.published(TOPIC).into_iter().map(|message| message.data).collect();
    assert_eq!(published, ["0 {", "2 {"]);
}

#[tokio::test]
async fn a_delivery_that_is_not_taken_ends_within_seconds_and_may_be_tried_again() {
    let stage = Stage::new(Options::default()).await;
    stage.fake.create_topic(TOPIC);
    let copies = letters(&stage, 3).await;
    let letterbox = stage.source(json!({"dead_letter_topic": TOPIC})).letterbox().expect("a topic");
    for fault in [Fault::Refuse(Code::Unavailable, "away".into()), Fault::Hold] {
        stage.fake.rule(Rule::on("Publish", fault));
        let (before, began) = (stage.fake.calls("Publish"), std::time::Instant::now());
        let error = letterbox.deliver(&copies).await.expect_err("nobody takes it");
        assert!(began.elapsed() < std::time::Duration::from_secs(12), "{:?}", began.elapsed());
        assert_eq!((error.code(), error.retry()), ("pubsub_unavailable", Retry::Backoff), "{error}");
        assert_eq!(stage.fake.calls("Publish") - before, 1, "whoever asks for it tries again");
    }
    letterbox.deliver(&copies).await.expect("taken");
}

#[tokio::test]
async fn dead_letters_do_not_go_to_the_topic_that_they_come_from() {
    let stage = Stage::new(Options { topic: TOPIC.into(), ..Options::default() }).await;
    let source = stage.source(json!({"dead_letter_topic": "dlq"}));
    let error = source.subscribe(&stage.context(), stage.journal.clone()).await.err().expect("refused");
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.message().contains("`dead_letter_topic`"), "{error}");
}
