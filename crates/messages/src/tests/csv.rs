use super::*;

#[test]
fn a_message_is_one_row_by_the_columns_of_the_settings() {
    let settings = json!({"format": "csv", "csv": {"columns": ["id", "name", "at"], "delimiter": ";", "null": "-"}});
    let all: Vec<&[u8]> = vec![
        b"1;x;2024-01-31",
        b"2;\"a;\"\"b\"\"\nc\";-\r\n",
        b"3;\"\";\n\n",
        b"4;x",
        b"5;x;;",
        b"6;x;\n7;y;\n",
        b"8;\"x;",
        b"9;\"x\"y;",
        b"10;\xFF;",
        b"eleven;x;",
    ];
    let got = decode(settings, &[("id", "INT64"), ("name", "STRING"), ("at", "DATE")], &all);
    let expected = json!([
        {"id": 1, "name": "x", "at": "2024-01-31"},
        {"id": 2, "name": "a;\"b\"\nc", "at": null},
        {"id": 3, "name": "", "at": null},
    ]);
    assert_eq!(of_table(&got, "t"), expected);
    let codes: Vec<_> = rejected(&got).into_iter().map(|(_, code, index)| (code, index)).collect();
    let expected = [
        ("row_too_short", 3),
        ("row_too_long", 4),
        ("several_records", 5),
        ("unclosed_quote", 6),
        ("quote_misplaced", 7),
        ("encoding_invalid", 8),
        ("type_mismatch", 9),
    ];
    assert_eq!(codes, expected);
}

#[test]
fn a_table_that_is_yet_to_be_made_gets_the_types_that_are_seen_and_missing_values_may_be_null() {
    let settings = json!({"format": "csv", "csv": {"columns": ["id", "order-no", "note"], "delimiter": "tab", "jagged": "fill"}});
    let decode = decoder(settings).decode(contents(&["1\t2.50\tx", "2"]));
    let wanted = decode.decode(&Tables::default()).expect("decoded").wanted.remove("t").expect("wanted").columns;
    let names: Vec<String> = wanted.fields.iter().map(|field| format!("{} {field}", field.name)).collect();
    assert_eq!(names, ["id INT64", "order_no NUMERIC", "note STRING"]);
    let got = decode.decode(&tables(Contract::Freeze, &[("t", wanted.to_json())])).expect("decoded");
    let expected = json!([{"id": 1, "order_no": 2.5, "note": "x"}, {"id": 2, "order_no": null, "note": null}]);
    assert_eq!(of_table(&got, "t").to_string().replace("2.500000000", "2.5"), expected.to_string());
}

#[test]
fn settings_without_columns_or_with_a_strange_delimiter_are_refused() {
    for (csv, words) in [
        (json!({}), "`csv.columns` is missing"),
        (json!({"columns": ["a", "a"]}), "there twice"),
        (json!({"columns": [""]}), "is empty"),
        (json!({"columns": ["a"], "delimiter": ";;"}), "not a single ASCII character"),
        (json!({"columns": ["a"], "delimiter": "\""}), "also the quote"),
    ] {
        let config = config(json!({"format": "csv", "csv": csv}));
        let error = Decoder::new(&config, Route::Topic).err().expect("refused");
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("csv: {")), "{error}");
    }
}
