use super::*;

#[test]
fn bytes_become_one_column_and_a_message_without_content_a_null() {
    let decoder = decoder(json!({"format": "raw"}));
    let mut messages = Messages::new();
    messages.push(kafka(0, None, Some(b"\xFF\x00"), &[]));
    messages.push(kafka(1, None, None, &[]));
    messages.push(kafka(2, None, Some(b""), &[]));
    let decode = decoder.decode(messages);
    let got = decode.decode(&Tables::default()).expect("decoded");
    assert_eq!(got.wanted["t"].columns.to_json(), json!([{"name": "value", "type": "BYTES", "mode": "NULLABLE"}]));
    let got = decode.decode(&tables(Contract::Freeze, &[("t", got.wanted["t"].columns.to_json())])).expect("decoded");
    assert_eq!(of_table(&got, "t"), json!([{"value": "ff00"}, {"value": null}, {"value": ""}]));
    assert!(rejected(&got).is_empty());
}

#[test]
fn text_has_to_be_text() {
    let settings = json!({"format": "raw", "raw": {"text": true, "column": "line"}});
    let all: [&[u8]; 3] = ["ü\n".as_bytes(), b"\xFF", b"{}"];
    let got = decode(settings.clone(), &[("line", "STRING")], &all);
    assert_eq!(of_table(&got, "t"), json!([{"line": "ü\n"}, {"line": "{}"}]));
    assert_eq!(rejected(&got), [(Some("t"), "encoding_invalid", 1)]);
    let wanted = decoder(settings).decode(contents(&all)).decode(&Tables::default()).expect("decoded").wanted;
    assert_eq!(wanted["t"].columns.fields[0].to_string(), "STRING");
    let got = decode(json!({"format": "raw"}), &[("value", "STRING")], &all);
    let reject = all_rejects(&got).next().expect("bytes are no STRING");
    assert_eq!((reject.code, reject.field.as_deref()), ("type_mismatch", Some("value")));
}

#[test]
fn with_changes_a_message_without_content_deletes_the_row_of_its_key() {
    let decoder = decoder(json!({"format": "raw", "changes": true}));
    let mut messages = Messages::new();
    messages.push(kafka(0, Some(b"k"), Some(b"v"), &[]));
    messages.push(kafka(1, Some(b"k"), None, &[]));
    let decode = decoder.decode(messages);
    let wanted = decode.decode(&Tables::default()).expect("decoded").wanted.remove("t").expect("wanted");
    let names: Vec<String> = wanted.columns.fields.iter().map(|field| format!("{} {field}", field.name)).collect();
    assert_eq!((names, wanted.key), (vec!["key STRING".to_owned(), "value BYTES".to_owned()], vec!["key".to_owned()]));
    let got = decode.decode(&tables(Contract::Freeze, &[("t", wanted.columns.to_json())])).expect("decoded");
    assert_eq!(of_table(&got, "t"), json!([{"key": "k", "value": "76"}, {"key": "k", "value": null}]));
}
