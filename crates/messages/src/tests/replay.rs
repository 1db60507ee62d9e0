use longshore_core::batch::Operation;
use longshore_core::letters::Letter;

use super::server::{Server, framed};
use super::*;
use crate::Original;

/// The dead letter of a reject, corrected.
fn letter(reject: &Reject, payload: impl Into<Vec<u8>>) -> Letter {
    let decoding = reject.decoding.as_deref().cloned();
    // As it comes back from where it was kept.
    let decoding = decoding.map(|decoding| serde_json::from_str(&decoding.to_string()).expect("JSON"));
    Letter {
        id: "1".to_owned(),
        table: reject.table.clone(),
        readdressed: false,
        payload: Payload::Inline(payload.into()),
        decoding,
    }
}

#[test]
fn a_corrected_payload_becomes_the_row_that_the_message_would_have_been() {
    let settings =
        json!({"route": {"expression": "t_{header.to|lower}"}, "columns": ["key", "headers", "time", "offset", "partition"]});
    let decoder = decoder(settings);
    let mut messages = Messages::new();
    let headers: [(&str, &[u8]); 2] = [("to", b"A"), ("bin", b"\xFF")];
    messages.push(kafka(42, Some(b"\xFEk"), Some(b"{\"x\":"), &headers));
    messages.push(kafka(42, Some(b"\xFEk"), Some(b"{\"x\":1}"), &headers));
    let first = decoder.decode(messages.clone()).decode(&Tables::default()).expect("decoded");
    let known = tables(Contract::Freeze, &[("t_a", first.wanted["t_a"].columns.to_json())]);
    let got = decoder.decode(messages).decode(&known).expect("decoded");
    let reject = all_rejects(&got).next().expect("one");
    let again = decoder.again(&letter(reject, "{\"x\":1}")).expect("a message").decode(&known).expect("decoded");
    assert_eq!((of_table(&again, "t_a"), rejected(&again)), (of_table(&got, "t_a"), vec![]), "as if it had been right");
    let still = decoder.again(&letter(reject, payload(reject))).expect("a message").decode(&known).expect("decoded");
    assert_eq!(rejected(&still), [(Some("t_a"), "json_invalid", 42)]);
    assert_eq!(all_rejects(&still).next().expect("one").decoding, reject.decoding, "and may be corrected once more");
}

#[test]
fn a_message_that_names_no_table_goes_where_its_content_now_says_or_to_the_table_of_its_letter() {
    let decoder = decoder(json!({"route": {"field": "to"}}));
    let got = decoder.decode(contents(&[r#"{"n":1}"#])).decode(&Tables::default()).expect("decoded");
    let reject = &got.rejects[0];
    assert_eq!((reject.code, reject.table.as_deref()), ("no_destination", None));
    let wanted = |letter: &Letter| {
        let again = decoder.again(letter).expect("a message").decode(&Tables::default()).expect("decoded");
        again.wanted.into_keys().next().ok_or(again.rejects.first().map(|reject| reject.code))
    };
    assert_eq!(wanted(&letter(reject, r#"{"n":1}"#)), Err(Some("no_destination")));
    assert_eq!(wanted(&letter(reject, r#"{"n":1,"to":"corrected"}"#)), Ok("corrected".to_owned()));
    let chosen = |payload: &str| Letter { table: Some("chosen".to_owned()), ..letter(reject, payload) };
    assert_eq!(wanted(&chosen(r#"{"n":1}"#)), Ok("chosen".to_owned()));
    assert_eq!(wanted(&chosen(r#"{"n":1,"to":"corrected"}"#)), Ok("corrected".to_owned()));
    let readdressed = Letter { readdressed: true, ..chosen(r#"{"n":1,"to":"corrected"}"#) };
    assert_eq!(wanted(&readdressed), Ok("chosen".to_owned()));
}

#[test]
fn a_change_keeps_its_order_and_a_tombstone_stays_one() {
    let decoder = decoder(json!({"changes": true}));
    let mut messages = Messages::new();
    messages.push(kafka(5, Some(b"\"k\""), None, &[]));
    let latest = DateTime::from_timestamp_millis(1_700_000_000_123);
    messages.push(Message { latest, ..kafka(6, Some(b"\"k\""), Some(b""), &[]) });
    let schema = json!([{"name": "other", "type": "STRING"}]);
    let got = decoder.decode(messages).decode(&tables(Contract::Freeze, &[("t", schema)])).expect("decoded");
    let rejects: Vec<&Reject> = all_rejects(&got).collect();
    assert_eq!(rejected(&got), [(Some("t"), "unknown_column", 5), (Some("t"), "json_invalid", 6)]);
    let known = tables(Contract::Freeze, &[("t", columns(&[("key", "STRING"), ("n", "INT64")]))]);
    let orders = [format!("{:020}", 5), format!("11700000000123{:018}", 6)];
    let of = [(rejects[0], "", Operation::Delete), (rejects[1], r#"{"n":1}"#, Operation::Upsert)];
    for ((reject, payload, operation), order) in of.into_iter().zip(orders) {
        let again = decoder.again(&letter(reject, payload)).expect("a message").decode(&known).expect("decoded");
        let Rows::Changes(changes) = &again.batches[0].rows else { panic!("changes") };
        assert_eq!((&changes.operations, &changes.order), (&vec![operation], &vec![order]));
    }
}

#[test]
fn every_format_is_decoded_again() {
    let server = Server::start();
    server.register(1, "AVRO", r#"{"type":"record","name":"R","fields":[{"name":"n","type":"long"}]}"#, &[]);
    server.register(2, "PROTOBUF", "syntax = \"proto3\"; message R { int64 n = 1; }", &[]);
    server.register(3, "JSON", r#"{"properties":{"n":{"type":"integer"}}}"#, &[]);
    let csv = json!({"columns": ["n", "rest"], "delimiter": ";", "jagged": "fill"});
    let cases: Vec<(Value, Vec<u8>, Vec<u8>)> = vec![
        (json!({"format": "avro"}), framed(1, &[]), framed(1, &[14])),
        (json!({"format": "protobuf"}), framed(2, &[0, 8]), framed(2, &[0, 8, 7])),
        (json!({"format": "json_schema"}), framed(3, b"{"), framed(3, b"{\"n\":7}")),
        (json!({"format": "json"}), b"{".to_vec(), b"{\"n\":7}".to_vec()),
        (json!({"format": "csv", "csv": csv}), b"7;x;y".to_vec(), b"7;".to_vec()),
        (json!({"format": "raw", "raw": {"text": true, "column": "n"}}), b"\xFF".to_vec(), b"7".to_vec()),
    ];
    for (mut settings, bad, good) in cases {
        settings["registry"] = json!({"url": server.url, "user": "me", "password": "secret"});
        let type_ = if settings["format"] == "raw" { "STRING" } else { "INT64" };
        let known = tables(Contract::Freeze, &[("t", columns(&[("n", type_), ("rest", "STRING")]))]);
        let decoder = decoder(settings.clone());
        let got = decoder.decode(contents(&[bad])).decode(&known).expect("decoded");
        let reject = all_rejects(&got).next().expect("one");
        let decoding = reject.decoding.as_deref().expect("how");
        assert_eq!(decoding["content"], settings["format"]);
        let again = decoder.again(&letter(reject, good)).expect("a message").decode(&known).expect("decoded");
        assert_eq!(of_table(&again, "t")[0]["n"].to_string().trim_matches('"'), "7", "{settings}");
    }
}

#[test]
fn a_letter_that_is_no_messages_says_so() {
    let decoder = decoder(json!({}));
    let with = |decoding: Option<Value>| {
        let letter =
            Letter { id: "1".to_owned(), table: None, readdressed: false, payload: Payload::Inline(Vec::new()), decoding };
        decoder.again(&letter).err().expect("nothing to decode")
    };
    assert!(with(None).contains("which message it was"));
    let of_file = json!({"format": "csv", "kafka": {"topic": "t", "partition": 0, "offset": 0}, "content": "csv"});
    for decoding in [json!({"format": "json"}), of_file, json!(null), json!({"format": "message", "content": "json"})] {
        assert!(with(Some(decoding)).contains("which message it was"));
    }
}

#[test]
fn a_dead_letter_topic_can_be_given_the_message_as_it_was() {
    let mut messages = Messages::new();
    let headers: [(&str, &[u8]); 2] = [("a", b"\xFF"), ("a", b"")];
    messages.push(kafka(1, Some(b"\x00"), Some(b"x"), &headers));
    let from = From::PubSub { subscription: "projects/p/subscriptions/s", id: "9", ordering_key: "o" };
    messages.push(Message { from, ..pubsub("", b"y", &[("to", b"t")]) });
    let got =
        decoder(json!({})).decode(messages.clone()).decode(&tables(Contract::Freeze, &[("t", json!([]))])).expect("decoded");
    let mut made = Messages::new();
    for reject in all_rejects(&got) {
        Original::read(reject.decoding.as_deref().expect("how")).expect("a message").push(payload(reject), &mut made);
    }
    for index in 0..2 {
        assert_eq!((made.key(index), made.value(index)), (messages.key(index), messages.value(index)));
        assert_eq!((made.from(index), made.time(index)), (messages.from(index), messages.time(index)));
        assert_eq!(made.headers(index).collect::<Vec<_>>(), messages.headers(index).collect::<Vec<_>>());
    }
    let decoding = all_rejects(&got).next().and_then(|reject| reject.decoding.as_deref()).expect("how");
    let expected = json!({
        "format": "message", "kafka": {"topic": "topic", "partition": 2, "offset": 1}, "time": "2023-11-14T22:13:20.000001Z",
        "key": "AA==", "headers": [["a", "/w=="], ["a", ""]], "table": "t", "content": "json",
    });
    assert_eq!(*decoding, expected);
}
