use super::*;

#[test]
fn objects_become_rows_and_a_bad_message_is_a_reject_that_leaves_the_others_alone() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(600), "]".repeat(600));
    let all: Vec<&[u8]> = vec![
        br#"{"a":1,"s":"x"}"#,
        b"not json",
        br#"{"a":2,"s":"\u00e9"}"#,
        b"[1,2]",
        b"null",
        b"{\"a\":3,\"s\":\"\xFF\"}",
        br#"{"a":"four","s":"y"}"#,
        deep.as_bytes(),
        br#"{"a":1,"a":2}"#,
        br#"{"a":5,"new":1}"#,
        b"",
        br#"{"a":6}"#,
    ];
    let got = decode(json!({}), &[("a", "INT64"), ("s", "STRING")], &all);
    let expected = json!([{"a": 1, "s": "x"}, {"a": 2, "s": "é"}, {"a": 6, "s": null}]);
    assert_eq!(of_table(&got, "t"), expected);
    let codes: Vec<_> = rejected(&got).into_iter().map(|(_, code, index)| (code, index)).collect();
    let expected = [
        ("json_invalid", 1),
        ("not_an_object", 3),
        ("not_an_object", 4),
        ("encoding_invalid", 5),
        ("type_mismatch", 6),
        ("json_invalid", 7),
        ("duplicate_key", 8),
        ("unknown_column", 9),
        ("json_invalid", 10),
    ];
    assert_eq!(codes, expected);
    for reject in all_rejects(&got) {
        assert_eq!(payload(reject), all[reject.index as usize], "byte for byte");
        assert_eq!(reject.table.as_deref(), Some("t"));
        assert_eq!(reject.place.to_string(), format!("kafka:topic/2:{}", reject.index));
    }
    let mismatch = all_rejects(&got).find(|reject| reject.code == "type_mismatch").expect("one");
    assert_eq!(mismatch.field.as_deref(), Some("a"));
    assert!(mismatch.reason.contains("\"four\"") && mismatch.reason.contains("INT64"), "{}", mismatch.reason);
    assert!(!mismatch.reason.contains("--type"), "messages are not files: {}", mismatch.reason);
}

#[test]
fn the_five_bytes_of_a_schema_registry_are_skipped_and_kept_in_a_payload() {
    let all: [&[u8]; 3] = [b"\0\0\0\0\x09{\"a\":1}", b"\0\0\0\0\x09{\"a\":}", b"\0\0\0"];
    let got = decode(json!({}), &[("a", "INT64")], &all);
    assert_eq!(of_table(&got, "t"), json!([{"a": 1}]));
    assert_eq!(rejected(&got), [(Some("t"), "json_invalid", 1), (Some("t"), "json_invalid", 2)]);
    assert!(all_rejects(&got).all(|reject| payload(reject) == all[reject.index as usize]));
}

#[test]
fn unknown_columns_are_rejected_and_said_so_that_they_can_be_added_or_dropped_as_the_contract_says() {
    let messages = [r#"{"a":1}"#, r#"{"a":2,"b":{"c":[1.5]}}"#, r#"{"a":"x","b":7}"#, r#"{"a":3,"b":null,"d":[]}"#];
    for contract in [Contract::Evolve, Contract::Freeze] {
        let tables = tables(contract, &[("t", columns(&[("a", "INT64")]))]);
        let got = decoder(json!({})).decode(contents(&messages)).decode(&tables).expect("decoded");
        assert_eq!(of_table(&got, "t"), json!([{"a": 1}, {"a": 3}]), "what carries nothing is nothing to lose");
        // What is found first counts: of the third message its unknown column.
        assert_eq!(rejected(&got), [(Some("t"), "unknown_column", 1), (Some("t"), "unknown_column", 2)]);
        let wanted = &got.wanted["t"].columns;
        let names: Vec<String> = wanted.fields.iter().map(|f| format!("{} {f}", f.name)).collect();
        assert_eq!(names, ["a STRING", "b JSON"]);
    }
    let tables = tables(Contract::Ignore, &[("t", columns(&[("a", "INT64")]))]);
    let got = decoder(json!({})).decode(contents(&messages)).decode(&tables).expect("decoded");
    assert_eq!(of_table(&got, "t"), json!([{"a": 1}, {"a": 2}, {"a": 3}]));
    assert_eq!(rejected(&got), [(Some("t"), "type_mismatch", 2)]);
    assert!(got.wanted.is_empty());
}

#[test]
fn where_all_columns_are_known_nobody_is_asked_for_more() {
    let got = decode(json!({}), &[("a", "INT64")], &[r#"{"a":1}"#, r#"{"a":"x"}"#]);
    assert!(got.wanted.is_empty(), "a value of the wrong type is no column");
}

#[test]
fn a_message_of_more_than_a_quarter_of_the_memory_is_a_reject() {
    let decoder = decoder(json!({}));
    let cx = longshore_core::source::Context {
        pipeline: "p".into(),
        run: "r".into(),
        budget: longshore_core::budget::Budget::new(1 << 20),
        lanes: 1,
        events: longshore_core::event::Events::silent(),
        stop: longshore_core::stop::Stop::default(),
    };
    decoder.attach(&cx);
    let long = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8)).into_bytes();
    let all = [long(1 << 18), long((1 << 18) + 1)];
    let got = decoder.decode(contents(&all)).decode(&tables(Contract::Freeze, &[("t", columns(&[("a", "STRING")]))]));
    let got = got.expect("decoded");
    assert_eq!(rejected(&got), [(Some("t"), "record_too_large", 1)]);
    assert_eq!(got.batches[0].rows.len(), 1);
}

#[test]
fn times_without_a_zone_or_with_nanoseconds_are_taken_if_the_settings_say_how() {
    let all: [&[u8]; 4] = [
        br#"{"at":"2024-01-01T12:00:00"}"#,
        br#"{"at":"2024-01-01T12:00:00.123456789+01:00"}"#,
        br#"{"at":"2024-01-01T12:00:00.123456789"}"#,
        br#"{"at":"12 o'clock"}"#,
    ];
    let taken = |settings| {
        let got = decode(settings, &[("at", "TIMESTAMP")], &all);
        (of_table(&got, "t").as_array().expect("rows").len(), rejected(&got).len())
    };
    assert_eq!(taken(json!({})), (0, 4));
    assert_eq!(taken(json!({"assume_utc": true})), (1, 3));
    assert_eq!(taken(json!({"truncate_nanoseconds": true})), (1, 3));
    let got = decode(json!({"assume_utc": true, "truncate_nanoseconds": true}), &[("at", "TIMESTAMP")], &all);
    let rows = of_table(&got, "t");
    let at = |row: usize| rows[row]["at"].as_str().expect("a time").trim_end_matches('Z').to_owned();
    assert_eq!(at(0), "2024-01-01T12:00:00");
    assert_eq!((at(1), at(2)), ("2024-01-01T11:00:00.123456".into(), "2024-01-01T12:00:00.123456".into()));
    assert_eq!(rejected(&got).len(), 1);
}
