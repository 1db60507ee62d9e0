use longshore_core::error::Retry;
use longshore_core::event::{Events, Observer, RunEvent};

use super::server::{Server, framed};
use super::*;

const ORDER: &str = r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"long"}]}"#;

fn settings(server: &Server) -> Value {
    json!({"format": "avro", "registry": {"url": server.url}})
}

fn known() -> Tables {
    tables(Contract::Freeze, &[("t", columns(&[("id", "INT64")]))])
}

#[test]
fn a_schema_is_asked_for_once_and_known_for_ever() {
    let server = Server::start();
    server.register(7, "AVRO", ORDER, &[]);
    let decoder = decoder(settings(&server));
    for _ in 0..3 {
        let got = decoder.decode(contents(&[framed(7, &[2]), framed(7, &[4])])).decode(&known()).expect("decoded");
        assert_eq!(of_table(&got, "t"), json!([{"id": 1}, {"id": 2}]));
    }
    server.fail(Some(500));
    decoder.decode(contents(&[framed(7, &[2])])).decode(&known()).expect("no need to ask");
    assert_eq!(server.asked(), [("/schemas/ids/7".to_owned(), None)]);
}

#[test]
fn an_unknown_or_unusable_schema_is_a_reject_and_not_asked_for_with_every_message() {
    let server = Server::start();
    server.register(1, "AVRO", ORDER, &[]);
    server.register(2, "AVRO", "{\"type\":\"recrod\"}", &[]);
    server.register(3, "PROTOBUF", "syntax = \"proto3\"; message M { int64 id = 1; }", &[]);
    server.register(4, "XML", "<a/>", &[]);
    server.register(5, "AVRO", "\"string\"", &[]);
    server.register(6, "AVRO", ORDER, &[("gone.avsc", "gone")]);
    let decoder = decoder(settings(&server));
    let all = [
        framed(9, &[2]),
        framed(1, &[2]),
        framed(2, &[2]),
        framed(3, &[2]),
        framed(4, &[2]),
        framed(5, &[0]),
        framed(6, &[2]),
        vec![],
        b"{}".to_vec(),
        vec![0, 0, 0, 1],
        framed(9, &[2]),
    ];
    let got = decoder.decode(contents(&all)).decode(&known()).expect("decoded");
    assert_eq!(of_table(&got, "t"), json!([{"id": 1}]));
    let codes: Vec<_> = rejected(&got).into_iter().map(|(_, code, index)| (code, index)).collect();
    let expected = [
        ("unknown_schema", 0),
        ("schema_unusable", 2),
        ("schema_unusable", 3),
        ("schema_unusable", 4),
        ("not_an_object", 5),
        ("schema_unusable", 6),
        ("no_schema_id", 7),
        ("no_schema_id", 8),
        ("no_schema_id", 9),
        ("unknown_schema", 10),
    ];
    assert_eq!(codes, expected);
    let asked = |path: &str| server.asked().iter().filter(|(asked, _)| asked == path).count();
    assert_eq!((asked("/schemas/ids/9"), asked("/schemas/ids/2"), asked("/subjects/gone/versions/1")), (1, 1, 1));
    let reasons: Vec<&str> = all_rejects(&got).map(|reject| reject.reason.as_str()).collect();
    assert!(reasons[1].contains("recrod"), "{}", reasons[1]);
    assert!(reasons[2].contains("schema 3 is Protocol Buffers") && reasons[2].contains("Avro"), "{}", reasons[2]);
    assert!(reasons[5].contains("gone.avsc"), "{}", reasons[5]);
}

#[derive(Default)]
struct Heard(std::sync::Mutex<Vec<String>>);

impl Observer for Heard {
    fn event(&self, event: &RunEvent) {
        if let RunEvent::Warning { text } | RunEvent::Note { text } = event {
            self.0.lock().expect("not poisoned").push(text.clone());
        }
    }
}

#[test]
fn a_registry_that_does_not_answer_makes_messages_wait_and_is_told_once() {
    let server = Server::start();
    server.register(7, "AVRO", ORDER, &[]);
    let decoder = decoder(settings(&server));
    let heard = Arc::new(Heard::default());
    decoder.attach(&longshore_core::source::Context {
        pipeline: "p".into(),
        run: "r".into(),
        budget: longshore_core::budget::Budget::new(1 << 20),
        lanes: 1,
        events: Events::new(heard.clone()),
        stop: longshore_core::stop::Stop::default(),
    });
    let decode = decoder.decode(contents(&[framed(7, &[2])]));
    server.fail(Some(503));
    for _ in 0..3 {
        let error = decode.decode(&known()).expect_err("no answer");
        assert_eq!((error.code(), error.retry()), ("registry_unavailable", Retry::Backoff));
    }
    server.fail(None);
    assert_eq!(of_table(&decode.decode(&known()).expect("decoded"), "t"), json!([{"id": 1}]));
    let heard = heard.0.lock().expect("not poisoned");
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(heard[0].contains("does not answer") && heard[0].contains("503"), "{}", heard[0]);
    assert!(heard[1].contains("answers again"), "{}", heard[1]);

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let decoder = super::decoder(json!({"format": "avro", "registry": {"url": format!("http://{nobody}")}}));
    let error = decoder.decode(contents(&[framed(7, &[2])])).decode(&known()).expect_err("nobody there");
    assert_eq!((error.code(), error.retry()), ("registry_unavailable", Retry::Backoff));
}

#[test]
fn a_registry_that_refuses_or_is_none_ends_the_run_with_a_hint() {
    let server = Server::start();
    for (status, words) in [(401, "registry.user"), (403, "registry.token"), (404, "registry.url")] {
        server.fail(Some(status));
        let error = decoder(settings(&server)).decode(contents(&[framed(7, &[2])])).decode(&known()).expect_err("refused");
        assert_eq!((error.code(), error.retry()), ("registry_refused", Retry::AfterFix), "{status}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains(words)), "{error:?}");
    }
}

#[test]
fn whoever_asks_says_who_it_is_and_no_error_shows_the_secret() {
    let server = Server::start();
    server.register(7, "AVRO", ORDER, &[]);
    for (login, header) in
        [(json!({"user": "me", "password": "s3cret"}), "Basic bWU6czNjcmV0"), (json!({"token": "s3cret"}), "Bearer s3cret")]
    {
        let mut settings = settings(&server);
        settings["registry"].as_object_mut().expect("a map").extend(login.as_object().expect("a map").clone());
        decoder(settings.clone()).decode(contents(&[framed(7, &[2])])).decode(&known()).expect("decoded");
        assert_eq!(server.asked().pop().expect("asked").1.as_deref(), Some(header));
        server.fail(Some(403));
        let error = decoder(settings).decode(contents(&[framed(7, &[2])])).decode(&known()).expect_err("refused");
        assert!(!format!("{error:?}").contains("s3cret"));
        server.fail(None);
    }
}

#[test]
fn what_schemas_refer_to_is_fetched_each_once_and_its_base_path_is_kept() {
    let server = Server::start();
    let money = r#"{"type":"record","name":"shop.Money","fields":[{"name":"cents","type":"long"}]}"#;
    let line = r#"{"type":"record","name":"shop.Line","fields":[{"name":"price","type":"shop.Money"}]}"#;
    let order = r#"{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"total","type":"Money"},{"name":"line","type":"Line"}]}"#;
    server.subject("shop/money", "AVRO", money, &[]);
    server.subject("line", "AVRO", line, &[("shop.Money", "shop/money")]);
    server.register(1, "AVRO", order, &[("shop.Line", "line"), ("shop.Money", "shop/money")]);
    let (columns, got) = decode_wanted(&decoder(settings(&server)), &[framed(1, &[2, 4])]);
    assert_eq!(columns, ["total STRUCT<cents INT64>", "line STRUCT<price STRUCT<cents INT64>>"]);
    assert_eq!(of_table(&got, "t"), json!([{"total": {"cents": 1}, "line": {"price": {"cents": 2}}}]));
    assert_eq!(server.asked().len(), 3);
    let under = json!({"format": "avro", "registry": {"url": format!("{}/apis/ccompat/v7/", server.url)}});
    let _ = decoder(under).decode(contents(&[framed(1, &[2])])).decode(&known()).expect("decoded");
    assert_eq!(server.asked().pop().expect("asked").0, "/apis/ccompat/v7/schemas/ids/1");
}

#[test]
fn settings_of_a_registry_that_cannot_be_are_refused() {
    for (registry, words) in [
        (json!({"url": "registry"}), "is no address"),
        (json!({"url": "ftp://registry"}), "does not begin with"),
        (json!({"url": "http://me:hidden@registry"}), "holds a user"),
        (json!({"url": "http://r", "user": "a", "token": "b"}), "one of them"),
        (json!({"url": "http://r", "password": "b"}), "`registry.user` is not"),
        (json!({"url": "http://r", "ca": "/nowhere.pem"}), "no certificate"),
    ] {
        let config = config(json!({"format": "avro", "registry": registry}));
        let error = Decoder::new(&config, Route::Topic).err().expect("refused");
        assert!(error.to_string().contains(words) && !format!("{error:?}").contains("hidden"), "{error:?}");
    }
    for format in ["avro", "protobuf", "json_schema"] {
        let error = Decoder::new(&config(json!({"format": format})), Route::Topic).err().expect("refused");
        assert!(error.to_string().contains("`registry`"), "{error}");
    }
}

#[test]
fn keys_are_read_by_their_own_schemas_be_they_records_or_not() {
    let server = Server::start();
    server.register(1, "AVRO", ORDER, &[]);
    server.register(2, "AVRO", "\"long\"", &[]);
    server.register(
        3,
        "AVRO",
        r#"{"type":"record","name":"Key","fields":[{"name":"a","type":"string"},{"name":"b","type":"int"}]}"#,
        &[],
    );
    server.register(4, "PROTOBUF", "syntax = \"proto3\"; message Key { string a = 1; int32 b = 2; }", &[]);
    server.register(5, "JSON", r#"{"type":"string"}"#, &[]);
    let mut settings = settings(&server);
    settings["changes"] = json!(true);
    let fields = json!({"a": "x", "b": 3, "id": 1});
    for (key, columns, row) in [
        (framed(2, &[84]), &["key INT64", "id INT64"][..], json!({"key": 42, "id": 1})),
        (framed(3, &[2, b'x', 6]), &["a STRING", "b INT64", "id INT64"], fields.clone()),
        (framed(4, &[0, 0x0A, 1, b'x', 0x10, 3]), &["a STRING", "b INT64", "id INT64"], fields),
        (framed(5, b"\"2024-01-01\""), &["key STRING", "id INT64"], json!({"key": "2024-01-01", "id": 1})),
    ] {
        let mut messages = Messages::new();
        messages.push(kafka(0, Some(&key), Some(&framed(1, &[2])), &[]));
        messages.push(kafka(1, Some(&key), None, &[]));
        messages.push(kafka(2, Some(&framed(99, &[])), None, &[]));
        messages.push(kafka(3, Some(&framed(3, &[2])), None, &[]));
        let decode = decoder(settings.clone()).decode(messages);
        let first = decode.decode(&Tables::default()).expect("decoded");
        assert_eq!(wanted_columns(&first, "t"), columns);
        let known = tables(Contract::Freeze, &[("t", first.wanted["t"].columns.to_json())]);
        let got = decode.decode(&known).expect("decoded");
        let mut gone = row.clone();
        gone["id"] = Value::Null;
        assert_eq!(of_table(&got, "t"), json!([row, gone]));
        assert_eq!(rejected(&got), [(Some("t"), "unknown_schema", 2), (Some("t"), "key_invalid", 3)]);
    }
}
