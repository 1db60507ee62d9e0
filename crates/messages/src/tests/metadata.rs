use longshore_core::schema::{Mode, Type};

use super::*;

const KAFKA: [&str; 6] = ["key", "headers", "time", "topic", "partition", "offset"];

fn wanted(settings: Value, message: Message<'_>) -> TableSchema {
    let mut messages = Messages::new();
    messages.push(message);
    let got = decoder(settings).decode(messages).decode(&Tables::default()).expect("decoded");
    got.wanted["t"].columns.clone()
}

fn types(schema: &TableSchema) -> Vec<String> {
    schema.fields.iter().map(|field| format!("{} {field}", field.name)).collect()
}

#[test]
fn what_comes_with_a_message_of_kafka_becomes_columns() {
    let settings = json!({"columns": KAFKA});
    let headers: [(&str, &[u8]); 2] = [("a", b"\xFF\x00"), ("b", b"")];
    let message = kafka(7, Some(b"k"), Some(br#"{"x":1}"#), &headers);
    let schema = wanted(settings.clone(), message);
    let expected = [
        "x INT64",
        "_key BYTES",
        "_headers ARRAY<STRUCT<name STRING, value BYTES>>",
        "_time TIMESTAMP",
        "_topic STRING",
        "_topic_partition INT64",
        "_offset INT64",
    ];
    assert_eq!(types(&schema), expected);
    let known = tables(Contract::Freeze, &[("t", schema.to_json())]);
    let mut messages = Messages::new();
    messages.push(message);
    messages.push(kafka(8, None, Some(br#"{"x":2}"#), &[]));
    let got = decoder(settings).decode(messages).decode(&known).expect("decoded");
    let expected = json!([
        {"x": 1, "_key": "6b", "_headers": [{"name": "a", "value": "ff00"}, {"name": "b", "value": ""}],
         "_time": "2023-11-14T22:13:20.000007Z", "_topic": "topic", "_topic_partition": 2, "_offset": 7},
        {"x": 2, "_key": null, "_headers": [],
         "_time": "2023-11-14T22:13:20.000008Z", "_topic": "topic", "_topic_partition": 2, "_offset": 8},
    ]);
    assert_eq!(of_table(&got, "t"), expected);
}

#[test]
fn what_comes_with_a_message_of_pubsub_becomes_columns_under_other_names() {
    let settings = json!({"columns": {
        "attributes": "attrs", "message_id": null, "ordering_key": "ok", "subscription": {"name": "sub"}, "time": "published",
    }});
    let attributes = [("k", "ü".as_bytes())];
    let message = pubsub("12", br#"{"x":1}"#, &attributes);
    let schema = wanted(settings.clone(), message);
    let expected = [
        "x INT64",
        "attrs ARRAY<STRUCT<name STRING, value STRING>>",
        "_message_id STRING",
        "ok STRING",
        "sub STRING",
        "published TIMESTAMP",
    ];
    assert_eq!(types(&schema), expected);
    let known = tables(Contract::Freeze, &[("t", schema.to_json())]);
    let mut messages = Messages::new();
    messages.push(message);
    let got = decoder(settings).decode(messages).decode(&known).expect("decoded");
    let expected = json!([{
        "x": 1, "attrs": [{"name": "k", "value": "ü"}], "_message_id": "12", "ok": null, "sub": "s",
        "published": "1970-01-01T00:00:00.000001Z",
    }]);
    assert_eq!(of_table(&got, "t"), expected);
}

#[test]
fn a_tables_own_column_says_whether_bytes_are_text() {
    let settings = json!({"columns": ["key", "headers"]});
    let headers = json!({"name": "_headers", "type": "STRUCT", "mode": "REPEATED", "fields": [
        {"name": "name", "type": "STRING"}, {"name": "value", "type": "STRING"},
    ]});
    let schema = json!([{"name": "x", "type": "INT64"}, {"name": "_key", "type": "STRING"}, headers]);
    let mut messages = Messages::new();
    messages.push(kafka(0, Some(b"text"), Some(br#"{"x":1}"#), &[("h", b"v")]));
    messages.push(kafka(1, Some(b"\xFF"), Some(br#"{"x":2}"#), &[]));
    messages.push(kafka(2, Some(b""), Some(br#"{"x":3}"#), &[("h", b"\xFF")]));
    let got = decoder(settings).decode(messages).decode(&tables(Contract::Freeze, &[("t", schema)])).expect("decoded");
    assert_eq!(of_table(&got, "t"), json!([{"x": 1, "_key": "text", "_headers": [{"name": "h", "value": "v"}]}]));
    let fields: Vec<_> = all_rejects(&got).map(|reject| (reject.code, reject.field.as_deref(), reject.index)).collect();
    assert_eq!(fields, [("encoding_invalid", Some("_key"), 1), ("encoding_invalid", Some("_headers"), 2)]);
    let asked = json!({"columns": {"key": {"type": "string"}, "headers": {"name": "h", "type": "STRING"}}});
    let schema = wanted(asked, kafka(0, None, Some(b"{}"), &[]));
    assert_eq!(types(&schema), ["_key STRING", "h ARRAY<STRUCT<name STRING, value STRING>>"]);
}

#[test]
fn a_column_that_was_asked_for_and_that_the_table_lacks_is_unknown_unless_it_ignores_those() {
    let settings = json!({"columns": ["offset"]});
    let schema = columns(&[("x", "INT64")]);
    let frozen = tables(Contract::Freeze, &[("t", schema.clone())]);
    let decoder = decoder(settings);
    let messages = || contents(&[r#"{"x":1}"#]);
    let got = decoder.decode(messages()).decode(&frozen).expect("decoded");
    assert_eq!(rejected(&got), [(Some("t"), "unknown_column", 0)]);
    let added = &got.wanted["t"].columns.fields[1];
    assert_eq!((added.name.as_str(), &added.type_, added.mode), ("_offset", &Type::Int64, Mode::Nullable));
    let ignoring = tables(Contract::Ignore, &[("t", schema)]);
    let got = decoder.decode(messages()).decode(&ignoring).expect("decoded");
    assert_eq!((rejected(&got), of_table(&got, "t")), (vec![], json!([{"x": 1}])));
}

#[test]
fn a_field_of_the_content_with_the_name_of_such_a_column_is_a_reject() {
    let schema = [("x", "INT64"), ("_offset", "INT64")];
    let got = decode(json!({"columns": ["offset"]}), &schema, &[r#"{"x":1,"_offset":5}"#, r#"{"x":1}"#]);
    assert_eq!(rejected(&got), [(Some("t"), "duplicate_key", 0)]);
    assert_eq!(of_table(&got, "t"), json!([{"x": 1, "_offset": 1}]));
}

#[test]
fn settings_of_columns_that_cannot_be_are_refused() {
    for (columns, words) in [
        (json!(["offzet"]), "`offzet` is not known; known: key, headers"),
        (json!([1]), "1 is not a word"),
        (json!(7), "a list or a map"),
        (json!({"key": {"nam": "x"}}), "`columns.key`"),
        (json!({"key": ""}), "cannot be called"),
        (json!({"key": "a.b"}), "cannot be called"),
        (json!({"key": {"type": "INT64"}}), "STRING or BYTES"),
        (json!({"offset": {"type": "STRING"}}), "its type is always the same"),
        (json!({"key": "x", "offset": "X"}), "`key` and `offset` have one name"),
    ] {
        let error = serde_json::from_value::<MessagesConfig>(json!({"columns": columns})).expect_err("refused").to_string();
        assert!(error.contains(words), "{columns}: {error}");
    }
    assert_eq!(config(json!({"columns": "key"})).columns.0.len(), 1);
}

#[test]
fn settings_flattened_into_a_sources_own_have_all_their_keys_in_its_schema() {
    #[derive(serde::Deserialize, schemars::JsonSchema)]
    struct Source {
        /// Own.
        #[expect(dead_code, reason = "only its schema counts")]
        brokers: String,
        #[serde(flatten)]
        #[expect(dead_code, reason = "only its schema counts")]
        messages: MessagesConfig,
    }
    let schema = schemars::schema_for!(Source).to_value();
    let properties = schema["properties"].as_object().expect("properties");
    for key in ["brokers", "format", "route", "columns", "changes", "key_column", "raw", "csv", "avro", "protobuf", "registry"] {
        assert!(properties[key]["description"].is_string(), "{key}");
    }
    assert_eq!(schema["required"], json!(["brokers"]));
    let source = json!({"brokers": "b", "format": "csv", "registry": {"url": "u", "password": "secret"}});
    let source: Source = serde_json::from_value(source).expect("settings");
    let _ = source;
}

#[test]
fn secrets_are_neither_shown_nor_written() {
    let config = config(json!({"registry": {"url": "u", "user": "me", "password": "hidden", "token": "hidden"}}));
    assert!(!format!("{config:?}").contains("hidden"));
    let written = serde_json::to_string(&config).expect("JSON");
    assert!(written.contains("me") && !written.contains("hidden"), "{written}");
}
