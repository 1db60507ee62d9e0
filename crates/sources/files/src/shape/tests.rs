use longshore_core::schema::TableSchema;
use proptest::prelude::*;
use serde_json::json;

use super::{Overrides, Shape};
use crate::config::{CsvConfig, CsvHeader, FilesConfig, Infer};
use crate::csv::CsvFormat;
use crate::cut::{Format, Limits, empty_records};
use crate::json::JsonFormat;
use crate::tape::{Tape, Token};

fn shape_of(format: &dyn Format, text: &str, chunk: usize) -> Shape {
    let limits = Limits { chunk, ..Limits::for_memory(64 << 20, std::env::temp_dir()) };
    let mut cutter = format.cutter(Box::new(std::io::Cursor::new(text.as_bytes().to_vec())), &limits);
    let mut shape = Shape::new();
    while let Some(chunk) = cutter.next().expect("readable") {
        let mut records = empty_records(format);
        format.parse(&chunk, &mut records).expect("parsed");
        let mut later = Shape::new();
        later.observe_all(&records[0]);
        shape.merge(later);
    }
    shape
}

fn columns(schema: &TableSchema) -> String {
    let columns: Vec<String> = schema.fields.iter().map(|field| format!("{} {field}", field.name)).collect();
    columns.join(", ")
}

fn json_with(lines: &str, overrides: &Overrides) -> String {
    let format = JsonFormat::detect("file".into(), lines.as_bytes(), &[]).expect("a layout");
    columns(&shape_of(&format, lines, 1 << 20).resolve(overrides).expect("columns"))
}

fn json(lines: &str) -> String {
    json_with(lines, &Overrides::default())
}

/// The type of one CSV column of these values; "" for none.
fn text(values: &[&str]) -> String {
    let text = format!("v\n{}\n", values.join("\n"));
    let config = CsvConfig { header: CsvHeader::Yes, ..CsvConfig::default() };
    let format = CsvFormat::detect("file".into(), text.as_bytes(), true, &config).expect("a dialect");
    let schema = shape_of(&format, &text, 1 << 20).resolve(&Overrides::default()).expect("columns");
    schema.fields.first().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn integers_are_int64_only_in_canonical_form() {
    assert_eq!(text(&["1", "-2", "0"]), "INT64");
    for odd in ["007", "+5", "-0", "1,0", " 1"] {
        let quoted = format!("\"{odd}\"");
        assert_eq!(text(&["1", &quoted]), "STRING", "{odd}");
    }
}

#[test]
fn integers_beyond_64_bits_are_numeric_then_bignumeric_then_string() {
    assert_eq!(text(&["1", "9223372036854775808"]), "NUMERIC");
    assert_eq!(text(&["1", "100000000000000000000000000000"]), "BIGNUMERIC");
    assert_eq!(text(&["1", "578960446186580977117854925043439539267"]), "STRING");
    assert_eq!(json("{\"a\":1}\n{\"a\":9223372036854775808}\n"), "a NUMERIC");
}

#[test]
fn plain_decimals_as_text_are_numeric_then_bignumeric() {
    assert_eq!(text(&["1", "2.50"]), "NUMERIC");
    assert_eq!(text(&["1.5", "0.0000000001"]), "BIGNUMERIC");
    assert_eq!(text(&["0.123456789012345678901234567890123456789"]), "STRING");
}

#[test]
fn an_exponent_makes_text_float64_which_joins_only_exact_integers() {
    assert_eq!(text(&["1e3", "-2.5E-3"]), "FLOAT64");
    assert_eq!(text(&["1e3", "9007199254740992"]), "FLOAT64");
    assert_eq!(text(&["1e3", "9007199254740993"]), "STRING");
    assert_eq!(text(&["1e3", "1.5"]), "STRING");
    assert_eq!(text(&["1e999"]), "STRING");
}

#[test]
fn json_numbers_with_a_fraction_or_exponent_are_float64() {
    assert_eq!(json("{\"a\":1.5}\n{\"a\":2}\n{\"a\":1e3}\n"), "a FLOAT64");
    assert_eq!(json("{\"a\":1.5}\n{\"a\":9007199254740993}\n"), "a STRING");
    assert_eq!(json("{\"a\":0.12345678901234567891}\n"), "a STRING");
}

#[test]
fn bool_is_true_and_false_only() {
    assert_eq!(text(&["true", "false", ""]), "BOOL");
    assert_eq!(text(&["true", "False"]), "STRING");
    assert_eq!(text(&["true", "1"]), "STRING");
}

#[test]
fn days_and_times_are_typed_and_only_days_join_datetimes() {
    assert_eq!(text(&["2024-01-31"]), "DATE");
    assert_eq!(text(&["10:30:00", "10:30:00.123456"]), "TIME");
    assert_eq!(text(&["2024-01-31T10:30:00", "2024-01-31 10:30:00.5", "2024-01-31"]), "DATETIME");
    assert_eq!(text(&["2024-01-31T10:30:00Z", "2024-01-31 10:30:00+02:00"]), "TIMESTAMP");
    for mix in
        [["2024-01-31", "2024-01-31T10:30:00Z"], ["2024-01-31T10:30:00", "2024-01-31T10:30:00Z"], ["2024-01-31", "10:30:00"]]
    {
        assert_eq!(text(&mix), "STRING");
    }
    assert_eq!(text(&["2023-02-30"]), "STRING");
    assert_eq!(text(&["10:30:00.1234567"]), "STRING");
}

#[test]
fn inside_json_strings_only_days_and_times_are_typed() {
    assert_eq!(
        json("{\"a\":\"12\",\"b\":\"true\",\"c\":\"2024-01-31\",\"d\":\"10:00:00\"}\n"),
        "a STRING, b STRING, c DATE, d TIME"
    );
    assert_eq!(json("{\"a\":\"2024-01-31\"}\n{\"a\":1}\n{\"b\":\"\"}\n"), "a STRING, b STRING");
}

#[test]
fn only_nulls_make_no_column_and_nulls_leave_the_type_alone() {
    assert_eq!(text(&["1", "", "2"]), "INT64");
    assert_eq!(json("{\"a\":null,\"b\":[],\"c\":{},\"d\":{\"e\":null},\"f\":[{}],\"g\":1}\n"), "g INT64");
}

#[test]
fn empty_open_texts_are_neutral_and_alone_string() {
    let observe = |texts: &[&str]| {
        let mut shape = Shape::new();
        for text in texts {
            let mut tape = Tape::default();
            let root = tape.open(Token::Object { end: 0 });
            let key = tape.span("v");
            tape.push(Token::Key(key));
            let span = tape.span(text);
            tape.push(Token::Text(span));
            tape.close(root);
            shape.observe(&tape, 0);
        }
        columns(&shape.resolve(&Overrides::default()).expect("columns"))
    };
    assert_eq!(observe(&["", "1"]), "v INT64");
    assert_eq!(observe(&[""]), "v STRING");
}

#[test]
fn a_value_and_an_array_of_such_values_are_an_array() {
    assert_eq!(json("{\"a\":1}\n{\"a\":[2,3]}\n"), "a ARRAY<INT64>");
    assert_eq!(json("{\"a\":{\"x\":1}}\n{\"a\":[{\"y\":\"t\"}]}\n"), "a ARRAY<STRUCT<x INT64, y STRING>>");
}

#[test]
fn arrays_of_arrays_and_scalars_mixed_with_objects_are_json() {
    assert_eq!(json("{\"a\":[[1]],\"b\":1,\"c\":[1,{\"x\":1}]}\n{\"b\":{\"x\":1}}\n"), "a JSON, b JSON, c JSON");
}

#[test]
fn open_text_mixed_with_objects_becomes_their_text_field() {
    let mut tape = Tape::default();
    let mut shape = Shape::new();
    for with_attribute in [false, true] {
        let root = tape.open(Token::Object { end: 0 });
        let key = tape.span("p");
        tape.push(Token::Key(key));
        if with_attribute {
            let object = tape.open(Token::Object { end: 0 });
            let key = tape.span("unit");
            tape.push(Token::Key(key));
            let span = tape.span("EUR");
            tape.push(Token::Text(span));
            tape.close(object);
        } else {
            let span = tape.span("12");
            tape.push(Token::Text(span));
        }
        tape.close(root);
        shape.observe(&tape, root);
    }
    assert_eq!(columns(&shape.resolve(&Overrides::default()).expect("columns")), "p STRUCT<unit STRING, _text INT64>");
}

#[test]
fn column_order_is_first_seen_and_case_twins_get_a_number() {
    let lines = "{\"b\":1,\"a\":2}\n{\"c\":3,\"B\":4,\"order-date\":5}\n";
    assert_eq!(json(lines), "b INT64, a INT64, c INT64, B_2 INT64, order_date INT64");
    let format = JsonFormat::detect("file".into(), lines.as_bytes(), &[]).expect("a layout");
    let schema = shape_of(&format, lines, 1 << 20).resolve(&Overrides::default()).expect("columns");
    let originals: Vec<_> = schema.fields.iter().map(|field| field.original_name.as_deref()).collect();
    assert_eq!(originals, [None, None, None, Some("B"), Some("order-date")]);
}

#[test]
fn structs_deeper_than_15_levels_are_json() {
    let deep = format!("{}1{}", "{\"a\":".repeat(20), "}".repeat(20));
    let found = json(&format!("{deep}\n"));
    assert_eq!(found.matches("STRUCT<").count(), 14, "{found}");
    assert!(found.contains("a JSON"), "{found}");
    let schema = JsonFormat::detect("file".into(), deep.as_bytes(), &[]).expect("a layout");
    let schema = shape_of(&schema, &deep, 1 << 20).resolve(&Overrides::default()).expect("columns");
    TableSchema::from_json(&schema.to_json()).expect("no deeper than a schema may be");
}

#[test]
fn an_object_of_very_many_keys_is_json_and_a_record_of_very_many_is_refused() {
    let members: Vec<String> = (0..10_001).map(|i| format!("\"k{i}\":{i}")).collect();
    let object = format!("{{{}}}", members.join(","));
    assert_eq!(json(&format!("{{\"id\":1,\"m\":{object}}}\n")), "id INT64, m JSON");
    let format = JsonFormat::detect("file".into(), object.as_bytes(), &[]).expect("a layout");
    let error = shape_of(&format, &object, 1 << 20).resolve(&Overrides::default()).expect_err("too many");
    assert_eq!(error.code(), "too_many_columns");
}

#[test]
fn set_types_and_given_schemas_win() {
    let config: FilesConfig = serde_json::from_value(json!({
        "types": {"zip": "STRING", "t.s.n": "NUMERIC", "nothing": "array<int64>", "x-y": "INT64"},
        "schema": {"*": [{"name": "id", "type": "NUMERIC", "mode": "REQUIRED"}, {"name": "s", "type": "STRUCT", "fields": [{"name": "m", "type": "STRING"}]}]},
    }))
    .expect("settings");
    let overrides = Overrides::for_table(&config, "t").expect("types");
    let line = "{\"zip\":1,\"s\":{\"n\":1},\"id\":1,\"nothing\":null,\"x-y\":\"a\"}\n";
    let expected = "id NUMERIC NOT NULL, s STRUCT<m STRING, n NUMERIC>, zip STRING, nothing ARRAY<INT64>, x_y INT64";
    assert_eq!(json_with(line, &overrides), expected);
    let config: FilesConfig = serde_json::from_value(json!({"types": {"a": "STRUCT"}})).expect("settings");
    assert_eq!(Overrides::for_table(&config, "t").expect_err("refused").code(), "schema_invalid");
}

#[test]
fn without_inference_every_scalar_is_string() {
    let off = Overrides { infer: Infer::Off, ..Overrides::default() };
    assert_eq!(json_with("{\"a\":1,\"b\":[true],\"c\":{\"d\":1.5}}\n", &off), "a STRING, b ARRAY<STRING>, c STRUCT<d STRING>");
}

/// JSON values whose keys and scalars clash a lot.
fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        Just(json!(true)),
        Just(json!(1)),
        Just(json!(9_007_199_254_740_993i64)),
        Just(json!(1.5)),
        Just(json!("2024-01-31")),
        Just(json!("2024-01-31T10:00:00")),
        Just(json!("text")),
        Just(json!("")),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(serde_json::Value::from),
            prop::collection::vec(("[aAb]", inner), 0..3).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn inference_does_not_depend_on_chunks(records in prop::collection::vec(prop::collection::vec(("[aAbc]", value()), 0..4), 1..12)) {
        let lines: Vec<String> = records.into_iter().map(|members| members.into_iter().collect::<serde_json::Value>()).map(|record| if record.is_object() { record.to_string() } else { "{}".to_owned() }).collect();
        let text = lines.join("\n");
        let format = JsonFormat::detect("file".into(), text.as_bytes(), &[]).expect("a layout");
        let at_once = shape_of(&format, &text, 1 << 20).resolve(&Overrides::default()).expect("columns");
        for chunk in [1, 30, 100] {
            let in_pieces = shape_of(&format, &text, chunk).resolve(&Overrides::default()).expect("columns");
            prop_assert_eq!(&in_pieces, &at_once);
        }
    }

    #[test]
    fn what_is_inferred_from_records_holds_them(records in prop::collection::vec(prop::collection::vec(("[aAbc]", value()), 0..4), 1..12)) {
        let lines: Vec<String> = records.into_iter().map(|members| members.into_iter().collect::<serde_json::Value>()).map(|record| if record.is_object() { record.to_string() } else { "{}".to_owned() }).collect();
        crate::fuzz::fuzz_json(lines.join("\n").as_bytes());
    }
}
