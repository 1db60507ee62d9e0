use super::*;

/// The table of one message by a route, or the code of its reject.
fn table(route: Value, message: Message<'_>) -> Result<String, &'static str> {
    let decoder = decoder(json!({"route": route}));
    let mut messages = Messages::new();
    messages.push(message);
    let got = decoder.decode(messages).decode(&Tables::default()).expect("decoded");
    match got.rejects.first() {
        Some(reject) => Err(reject.code),
        None => Ok(got.wanted.into_keys().next().expect("it waits for its table")),
    }
}

#[test]
fn a_message_goes_to_the_table_that_its_route_names() {
    let headers: [(&str, &[u8]); 4] = [("h", b"first"), ("h", b"last"), ("bad", b"\xFF"), ("empty", b"")];
    let value = br#"{"kind":"order","n":7,"deep":{"a/b":["x",{"t":"inner"}]},"none":null,"list":[1],"ok":true}"#;
    let message = kafka(5, Some(b"key_1"), Some(value), &headers);
    for (route, expected) in [
        (json!({"table": "here"}), Ok("here")),
        (json!({"header": "h"}), Ok("last")),
        (json!({"attribute": "h"}), Ok("last")),
        (json!({"header": "H"}), Err("no_destination")),
        (json!({"header": "bad"}), Err("bad_destination")),
        (json!({"header": "empty"}), Err("bad_destination")),
        (json!({"key": true}), Ok("key_1")),
        (json!({"topic": true}), Ok("topic")),
        (json!({"field": "kind"}), Ok("order")),
        (json!({"field": "n"}), Ok("7")),
        (json!({"field": "ok"}), Ok("true")),
        (json!({"field": "/deep/a~1b/1/t"}), Ok("inner")),
        (json!({"field": "none"}), Err("no_destination")),
        (json!({"field": "list"}), Err("bad_destination")),
        (json!({"field": "absent"}), Err("no_destination")),
        (json!({"expression": "{topic}_{header.h|upper}-{field./deep/a~1b/0}"}), Ok("topic_LAST-x")),
        (json!({"expression": "{key|upper|lower}{field.n}"}), Ok("key_17")),
        (json!({"expression": "t_{header.none}"}), Err("no_destination")),
    ] {
        assert_eq!(table(route.clone(), message), expected.map(str::to_owned), "{route}");
    }
}

#[test]
fn a_topic_becomes_a_name_that_tables_have() {
    let from = From::Kafka { topic: "shop.orders-v2", partition: 0, offset: 0 };
    let message = Message { from, ..kafka(0, None, Some(b"{}"), &[]) };
    assert_eq!(table(json!({"topic": true}), message), Ok("shop_orders_v2".to_owned()));
    assert_eq!(table(json!({"expression": "x_{topic|name}"}), message), Ok("x_shop_orders_v2".to_owned()));
    assert_eq!(table(json!({"expression": "{topic}"}), message), Err("bad_destination"));
    assert_eq!(table(json!({"topic": true}), pubsub("1", b"{}", &[])), Err("no_destination"));
}

#[test]
fn an_ordering_key_is_the_key_of_pubsub() {
    let from = From::PubSub { subscription: "s", id: "1", ordering_key: "tenant" };
    let message = Message { from, ..pubsub("1", b"{}", &[]) };
    assert_eq!(table(json!({"key": true}), message), Ok("tenant".to_owned()));
    assert_eq!(table(json!({"key": true}), pubsub("1", b"{}", &[])), Err("no_destination"));
}

#[test]
fn what_no_table_can_be_called_is_a_bad_destination() {
    let long = "x".repeat(301);
    let exactly = "x".repeat(300);
    let bad = ["", "a.b", "a$20240101", "a/b", "a\nb", "`a`", "_dead_letters", "_longshore_notes", &long];
    for name in bad {
        let headers = [("to", name.as_bytes())];
        assert_eq!(table(json!({"header": "to"}), pubsub("1", b"{}", &headers)), Err("bad_destination"), "{name:?}");
    }
    for name in ["dlq", "Größe", "a-b c", "2024", "_x", &exactly] {
        let headers = [("to", name.as_bytes())];
        assert_eq!(table(json!({"header": "to"}), pubsub("1", b"{}", &headers)), Ok(name.to_owned()));
    }
}

#[test]
fn tables_match_with_case_and_one_that_is_known_not_to_be_there_is_a_reject() {
    let decoder = decoder(json!({"route": {"attribute": "destination_table"}}));
    let to = |table: &'static str| [("destination_table", table.as_bytes())];
    let mut messages = Messages::new();
    for (id, table) in [("1", "orders"), ("2", "ORDERS"), ("3", "other"), ("4", "orders"), ("5", "new")] {
        messages.push(pubsub(id, br#"{"a":1}"#, &to(table)));
    }
    messages.push(pubsub("6", br#"{"a":1}"#, &[]));
    let mut tables = tables(Contract::Freeze, &[("orders", columns(&[("a", "INT64")]))]);
    tables.unknown.extend(["ORDERS".to_owned(), "other".to_owned()]);
    let got = decoder.decode(messages).decode(&tables).expect("decoded");
    assert_eq!(of_table(&got, "orders"), json!([{"a": 1}, {"a": 1}]));
    let mut rejects = rejected(&got);
    rejects.sort_by_key(|(_, _, index)| *index);
    let expected = [(Some("ORDERS"), "unknown_table", 2), (Some("other"), "unknown_table", 3), (None, "no_destination", 6)];
    assert_eq!(rejects, expected);
    assert_eq!(got.wanted.keys().collect::<Vec<_>>(), ["new"], "it waits until somebody knows");
    let reject = &got.rejects[1];
    assert_eq!((reject.place.to_string(), reject.place.line), ("pubsub:s".to_owned(), None));
}

#[test]
fn a_table_that_is_there_is_reached_by_whatever_name_it_has_but_never_one_of_ours() {
    let decoder = decoder(json!({"route": {"header": "to"}}));
    let mut messages = Messages::new();
    messages.push(pubsub("1", br#"{"a":1}"#, &[("to", b"a.b")]));
    messages.push(pubsub("2", br#"{"a":1}"#, &[("to", b"_dead_letters")]));
    let schema = columns(&[("a", "INT64")]);
    let tables = tables(Contract::Freeze, &[("a.b", schema.clone()), ("_dead_letters", schema)]);
    let got = decoder.decode(messages).decode(&tables).expect("decoded");
    assert_eq!(of_table(&got, "a.b"), json!([{"a": 1}]));
    assert_eq!(rejected(&got), [(Some("_dead_letters"), "bad_destination", 2)]);
}

#[test]
fn a_content_that_is_read_for_its_route_is_a_row_as_any_other() {
    let settings = json!({"route": {"field": "to"}, "columns": ["offset"]});
    let decoder = decoder(settings);
    let all = [r#"{"to":"a","n":1}"#, r#"{"to":"b","n":2}"#, "{", r#"{"to":"a","n":3}"#, r#"{"n":4}"#];
    let schema = columns(&[("to", "STRING"), ("n", "INT64"), ("_offset", "INT64")]);
    let tables = tables(Contract::Freeze, &[("a", schema.clone()), ("b", schema)]);
    let got = decoder.decode(contents(&all)).decode(&tables).expect("decoded");
    assert_eq!(of_table(&got, "a"), json!([{"to": "a", "n": 1, "_offset": 0}, {"to": "a", "n": 3, "_offset": 3}]));
    assert_eq!(of_table(&got, "b"), json!([{"to": "b", "n": 2, "_offset": 1}]));
    assert_eq!(rejected(&got), [(None, "json_invalid", 2), (None, "no_destination", 4)]);
}

#[test]
fn settings_that_name_no_way_or_several_or_a_wrong_one_are_refused_with_the_place() {
    for (route, words) in [
        (json!({}), "takes one of"),
        (json!({"key": true, "topic": true}), "takes one of"),
        (json!({"table": "a.b"}), "a table cannot be called"),
        (json!({"field": ""}), "the name of a field is empty"),
        (json!({"expression": ""}), "at character 1: it is empty"),
        (json!({"expression": "ä{topic"}), "at character 2: `{` without `}`"),
        (json!({"expression": "a}b"}), "at character 2: `}` without `{`"),
        (json!({"expression": "ä_{heder.x}"}), "at character 4: `{heder.x}` is not known"),
        (json!({"expression": "{header.}"}), "is not known"),
        (json!({"expression": "{topic|lower|capital}"}), "at character 14: `capital` is not known"),
        (json!({"tabel": "x"}), "unknown field `tabel`"),
    ] {
        let error = serde_json::from_value::<MessagesConfig>(json!({"route": route})).expect_err("refused").to_string();
        assert!(error.contains(words), "{route}: {error}");
    }
}

#[test]
fn messages_for_a_table_that_takes_no_rows_are_rejected_with_the_reason_and_others_are_rows() {
    let decoder = decoder(json!({"route": {"field": "to"}}));
    let columns = json!([{"name": "to", "type": "STRING"}]);
    let mut tables = tables(Contract::Freeze, &[("open", columns.clone()), ("closed", columns)]);
    tables.closed.insert("closed".to_owned(), "the right is missing".to_owned());
    let got = decoder.decode(contents(&[r#"{"to":"closed"}"#, r#"{"to":"open"}"#])).decode(&tables).expect("decoded");
    assert_eq!(rejected(&got), [(Some("closed"), "table_unwritable", 0)]);
    assert!(all_rejects(&got).next().expect("one").reason.contains("the right is missing"));
    assert_eq!(of_table(&got, "open"), json!([{"to": "open"}]));
    assert!(got.wanted.is_empty(), "nothing is to be done about it");
}
