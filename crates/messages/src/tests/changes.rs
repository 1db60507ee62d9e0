use longshore_core::batch::{Changes, Operation};

use super::*;

fn changes<'a>(got: &'a Decoded, table: &str) -> &'a Changes {
    let batch = got.batches.iter().find(|batch| batch.table == table).expect("rows of the table");
    match &batch.rows {
        Rows::Changes(changes) => changes,
        Rows::Plain(_) => panic!("changes"),
    }
}

/// Key and content.
type Pair<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

fn pushed(all: &[Pair<'_>]) -> Messages {
    let mut messages = Messages::new();
    for (offset, (key, value)) in (10..).zip(all) {
        messages.push(kafka(offset, *key, *value, &[]));
    }
    messages
}

#[test]
fn upserts_and_deletes_come_in_order_with_the_columns_of_their_keys() {
    let messages = pushed(&[
        (Some(br#"{"id":1}"#), Some(br#"{"id":1,"n":"a"}"#)),
        (Some(br#"{"id":2}"#), None),
        (Some(br#"{"id":3}"#), Some(br#"{"n":"c"}"#)),
        (None, Some(br#"{"id":4,"n":"d"}"#)),
        (Some(br#"{"id":5}"#), Some(br#"{"n":null}"#)),
        (Some(br#"{"id":"#), Some(br#"{"n":"f"}"#)),
        (Some(br#"{"id":1}"#), None),
    ]);
    let schema = json!([
        {"name": "id", "type": "INT64", "mode": "REQUIRED"},
        {"name": "n", "type": "STRING", "mode": "REQUIRED"},
        {"name": "_offset", "type": "INT64"},
    ]);
    let decoder = decoder(json!({"changes": true, "columns": ["offset"]}));
    let got = decoder.decode(messages).decode(&tables(Contract::Freeze, &[("t", schema)])).expect("decoded");
    let changes = changes(&got, "t");
    let expected = json!([
        {"id": 1, "n": "a", "_offset": 10},
        {"id": 2, "n": null, "_offset": 11},
        {"id": 3, "n": "c", "_offset": 12},
        {"id": 1, "n": null, "_offset": 16},
    ]);
    assert_eq!(rows(&changes.rows), expected);
    use Operation::{Delete, Upsert};
    assert_eq!(changes.operations, [Upsert, Delete, Upsert, Delete]);
    assert_eq!(changes.order, [10, 11, 12, 16].map(|offset| format!("{offset:020}")));
    let expected = [(Some("t"), "no_key", 13), (Some("t"), "required_missing", 14), (Some("t"), "key_invalid", 15)];
    assert_eq!(rejected(&got), expected);
}

#[test]
fn a_table_that_is_yet_to_be_made_is_told_its_key() {
    let decoder = decoder(json!({"changes": true, "key_column": "order-no"}));
    let open = pushed(&[(Some(b"17"), Some(br#"{"n":1}"#)), (Some(b"18"), None)]);
    let got = decoder.decode(open).decode(&Tables::default()).expect("decoded");
    let wanted = &got.wanted["t"];
    let columns: Vec<String> = wanted.columns.fields.iter().map(|field| format!("{} {field}", field.name)).collect();
    assert_eq!(columns, ["order_no STRING", "n INT64"], "a key that is a number today may be none tomorrow");
    assert_eq!(wanted.key, ["order_no"]);

    let known = pushed(&[(Some(b"17"), Some(br#"{"n":1,"order-no":17}"#)), (Some(b"18"), None)]);
    let got = decoder.decode(known).decode(&Tables::default()).expect("decoded");
    assert_eq!(got.wanted["t"].columns.fields[0].to_string(), "INT64", "the content says what it is");

    let fields = pushed(&[
        (Some(b"odd"), Some(br#"{"n":1}"#)),
        (Some(br#"{"a":1,"b":"x"}"#), Some(br#"{"n":1}"#)),
        (Some(br#"{"b":"x","a":1}"#), Some(br#"{"n":1}"#)),
    ]);
    let got = decoder.decode(fields).decode(&Tables::default()).expect("decoded");
    assert_eq!(got.wanted["t"].key, ["a", "b"], "what most keys have");
}

#[test]
fn without_changes_a_message_without_content_says_what_to_set() {
    let schema = tables(Contract::Freeze, &[("t", columns(&[("n", "INT64")]))]);
    let messages = pushed(&[(Some(b"1"), None), (Some(b"1"), Some(br#"{"n":1}"#))]);
    let got = decoder(json!({})).decode(messages).decode(&schema).expect("decoded");
    assert_eq!(rejected(&got), [(Some("t"), "tombstone", 10)]);
    let reject = all_rejects(&got).next().expect("one");
    assert!(reject.reason.contains("changes: true"), "{}", reject.reason);
    assert_eq!(reject.decoding.as_ref().expect("how")["tombstone"], json!(true));
}

#[test]
fn a_table_that_ignores_unknown_columns_does_not_lose_a_key() {
    let schema = tables(Contract::Ignore, &[("t", columns(&[("n", "INT64")]))]);
    let messages = pushed(&[(Some(br#"{"id":1}"#), Some(br#"{"n":1}"#))]);
    let got = decoder(json!({"changes": true})).decode(messages).decode(&schema).expect("decoded");
    assert_eq!(rejected(&got), [(Some("t"), "unknown_column", 10)]);
}

#[test]
fn a_batch_of_deletes_alone_or_of_nothing_has_the_columns_of_the_table() {
    let decoder = decoder(json!({"changes": true}));
    let schema = json!([{"name": "id", "type": "INT64"}, {"name": "n", "type": "STRING", "mode": "REQUIRED"}]);
    let known = tables(Contract::Freeze, &[("t", schema)]);
    let got = decoder.decode(pushed(&[(Some(br#"{"id":1}"#), None)])).decode(&known).expect("decoded");
    assert_eq!(rows(&changes(&got, "t").rows), json!([{"id": 1, "n": null}]));
    let got = decoder.decode(pushed(&[(None, None)])).decode(&known).expect("decoded");
    assert_eq!(changes(&got, "t").rows.num_columns(), 2);
    assert_eq!(rejected(&got), [(Some("t"), "no_key", 10)]);
}
