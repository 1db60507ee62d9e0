use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field as ArrowField, Fields, Int32Type, Schema, i256};
use serde_json::json;

use super::*;
use crate::schema::{Field, Mode, TableSchema, Type};
use crate::schema_arrow::field_to_arrow;

fn field(type_: Type) -> ArrowField {
    field_to_arrow(&Field::new("c", type_))
}

/// The text and the JSON of the first row.
fn shown(field: &ArrowField, array: &dyn Array) -> (String, Value) {
    let text = value_to_text(field, array, 0).expect("not null");
    let value = value_to_json(field, array, 0);
    // Both ways to JSON must agree.
    let mut line = String::new();
    column::Column::new(field, array).write_json(0, &mut line);
    assert_eq!(serde_json::from_str::<Value>(&line).expect("valid JSON"), value, "{line}");
    (text, value)
}

#[test]
fn every_type_has_its_text_and_its_json() {
    let strings = |text: &str| StringArray::from(vec![text]);
    let timestamps = |micros: i64| TimestampMicrosecondArray::from(vec![micros]);
    let cases: Vec<(Type, ArrayRef, &str, Value)> = vec![
        (Type::String, Arc::new(strings("a\"b\n")), "a\"b\n", json!("a\"b\n")),
        (Type::String, Arc::new(StringViewArray::from(vec!["view"])), "view", json!("view")),
        (Type::Bytes, Arc::new(BinaryArray::from_vec(vec![b"\x00\xffhi"])), "AP9oaQ==", json!("AP9oaQ==")),
        (Type::Bytes, Arc::new(BinaryViewArray::from(vec![b"abc" as &[u8]])), "YWJj", json!("YWJj")),
        (Type::Int64, Arc::new(Int64Array::from(vec![-42])), "-42", json!(-42)),
        (Type::Int64, Arc::new(Int64Array::from(vec![1 << 53])), "9007199254740992", json!(9007199254740992i64)),
        (Type::Int64, Arc::new(Int64Array::from(vec![i64::MIN])), "-9223372036854775808", json!("-9223372036854775808")),
        (Type::Float64, Arc::new(Float64Array::from(vec![0.1])), "0.1", json!(0.1)),
        (Type::Float64, Arc::new(Float64Array::from(vec![1e300])), "1e300", json!(1e300)),
        (Type::Float64, Arc::new(Float64Array::from(vec![f64::NAN])), "NaN", json!("NaN")),
        (Type::Float64, Arc::new(Float64Array::from(vec![f64::NEG_INFINITY])), "-Infinity", json!("-Infinity")),
        (Type::Bool, Arc::new(BooleanArray::from(vec![true])), "true", json!(true)),
        (Type::BigNumeric, Arc::new(strings("12.5")), "12.5", json!("12.5")),
        (Type::Time, Arc::new(strings("03:04:05.600000")), "03:04:05.600", json!("03:04:05.600")),
        (Type::Time, Arc::new(strings("03:04:05.000000")), "03:04:05", json!("03:04:05")),
        (Type::Time, Arc::new(Time64MicrosecondArray::from(vec![11_045_678_901])), "03:04:05.678901", json!("03:04:05.678901")),
        (
            Type::Json,
            Arc::new(strings("{\"b\":[1,null],\"a\":\"x\"}")),
            "{\"b\":[1,null],\"a\":\"x\"}",
            json!({"b": [1, null], "a": "x"}),
        ),
        (Type::Json, Arc::new(strings("not json")), "not json", json!("not json")),
        (Type::Geography, Arc::new(strings("POINT(1 2)")), "POINT(1 2)", json!("POINT(1 2)")),
        (Type::Date, Arc::new(Date32Array::from(vec![19_724])), "2024-01-02", json!("2024-01-02")),
        (Type::Date, Arc::new(Date32Array::from(vec![-719_162])), "0001-01-01", json!("0001-01-01")),
        (Type::Date, Arc::new(Date32Array::from(vec![2_932_896])), "9999-12-31", json!("9999-12-31")),
        (
            Type::Timestamp,
            Arc::new(timestamps(1_704_164_645_678_901).with_timezone("UTC")),
            "2024-01-02T03:04:05.678901Z",
            json!("2024-01-02T03:04:05.678901Z"),
        ),
        (
            Type::Timestamp,
            Arc::new(timestamps(-1).with_timezone("UTC")),
            "1969-12-31T23:59:59.999999Z",
            json!("1969-12-31T23:59:59.999999Z"),
        ),
        (Type::DateTime, Arc::new(timestamps(1_704_164_645_000_000)), "2024-01-02T03:04:05", json!("2024-01-02T03:04:05")),
        (
            Type::DateTime,
            Arc::new(TimestampNanosecondArray::from(vec![1])),
            "1970-01-01T00:00:00.000000001",
            json!("1970-01-01T00:00:00.000000001"),
        ),
        (Type::Interval, Arc::new(DurationSecondArray::from(vec![-3_661])), "0-0 0 -1:1:1", json!("0-0 0 -1:1:1")),
    ];
    for (type_, array, text, value) in cases {
        assert_eq!(shown(&field(type_), &array), (text.to_owned(), value));
    }
}

#[test]
fn decimals_lose_trailing_zeros_and_no_digit() {
    let numeric = |unscaled: i128| Decimal128Array::from(vec![unscaled]).with_precision_and_scale(38, 9).expect("fits");
    for (unscaled, text) in [
        (3_350_000_000, "3.35"),
        (0, "0"),
        (-1, "-0.000000001"),
        (-120_000_000_000, "-120"),
        (99_999_999_999_999_999_999_999_999_999_999_999_999, "99999999999999999999999999999.999999999"),
    ] {
        assert_eq!(shown(&field(Type::Numeric), &numeric(unscaled)), (text.to_owned(), json!(text)));
    }
    let big = Decimal256Array::from(vec![i256::MAX]).with_precision_and_scale(76, 38).expect("type");
    let text = "578960446186580977117854925043439539266.34992332820282019728792003956564819967";
    assert_eq!(shown(&field(Type::BigNumeric), &big), (text.to_owned(), json!(text)));
    let hundreds = Decimal128Array::from(vec![7]).with_precision_and_scale(5, -2).expect("type");
    assert_eq!(shown(&field(Type::Numeric), &hundreds).0, "700");
}

#[test]
fn structs_and_arrays_are_compact_json_that_knows_the_types_inside() {
    let fields =
        vec![Field::new("b", Type::Json), Field::new("a", Type::Time).with_mode(Mode::Repeated), Field::new("n", Type::Int64)];
    let arrow = field(Type::Struct(fields));
    let DataType::Struct(children) = arrow.data_type().clone() else { panic!("a struct") };
    let times = ListArray::new(
        Arc::new(ArrowField::new("element", DataType::Utf8, false)),
        OffsetBuffer::from_lengths([2]),
        Arc::new(StringArray::from(vec!["01:00:00.000000", "02:00:00.500000"])),
        None,
    );
    let array = StructArray::new(
        children,
        vec![Arc::new(StringArray::from(vec!["{\n \"x\": 1}"])), Arc::new(times), Arc::new(Int64Array::from(vec![None::<i64>]))],
        None,
    );
    let (text, value) = shown(&arrow, &array);
    assert_eq!(text, r#"{"b":{  "x": 1},"a":["01:00:00","02:00:00.500"],"n":null}"#);
    assert_eq!(value, json!({"b": {"x": 1}, "a": ["01:00:00", "02:00:00.500"], "n": null}));
}

#[test]
fn dictionaries_and_maps_are_shown_as_what_they_hold() {
    let dictionary: DictionaryArray<Int32Type> = vec![Some("x"), None, Some("y")].into_iter().collect();
    let plain = ArrowField::new("c", dictionary.data_type().clone(), true);
    assert_eq!(value_to_text(&plain, &dictionary, 2).as_deref(), Some("y"));
    assert_eq!(value_to_text(&plain, &dictionary, 1), None);
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    map.keys().append_value("k");
    map.values().append_value(1);
    map.append(true).expect("one entry");
    let map = map.finish();
    let plain = ArrowField::new("c", map.data_type().clone(), true);
    assert_eq!(value_to_json(&plain, &map, 0), json!([{"keys": "k", "values": 1}]));
}

fn people() -> (arrow::datatypes::SchemaRef, RecordBatch) {
    let schema = TableSchema::new(vec![Field::new("name", Type::String), Field::new("n", Type::Int64)]).to_arrow();
    let names = StringArray::from(vec![Some("Ann"), Some(""), None, Some("a,\"b\"\nc")]);
    let numbers = Int64Array::from(vec![Some(1), Some(20), Some(300), None]);
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(names), Arc::new(numbers)]).expect("batch");
    (schema, batch)
}

#[test]
fn csv_quotes_only_what_needs_it_and_tells_empty_from_null() {
    let (schema, batch) = people();
    let mut writer = CsvWriter::new(Vec::new(), schema).expect("header");
    writer.write(&batch).expect("rows");
    let text = String::from_utf8(writer.finish().expect("flush")).expect("text");
    assert_eq!(text, "name,n\nAnn,1\n\"\",20\n,300\n\"a,\"\"b\"\"\nc\",\n");
}

#[test]
fn json_lines_hold_one_object_a_row_and_keep_columns_of_one_name_apart() {
    let (schema, batch) = people();
    let mut writer = JsonWriter::new(Vec::new(), schema.clone());
    writer.write(&batch.slice(2, 2)).expect("rows");
    let text = String::from_utf8(writer.finish().expect("flush")).expect("text");
    assert_eq!(text, "{\"name\":null,\"n\":300}\n{\"name\":\"a,\\\"b\\\"\\nc\",\"n\":null}\n");

    let twins =
        Arc::new(Schema::new(vec![ArrowField::new("id", DataType::Int64, true), ArrowField::new("id", DataType::Int64, true)]));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let batch = RecordBatch::try_new(twins.clone(), vec![numbers.clone(), numbers]).expect("batch");
    let mut writer = JsonWriter::new(Vec::new(), twins);
    writer.write(&batch).expect("row");
    assert_eq!(writer.finish().expect("flush"), b"{\"id\":1,\"id_2\":1}\n");
}

fn table(max_rows: usize, width: Option<usize>) -> (String, TableShown) {
    let (schema, batch) = people();
    let mut writer = TableWriter::new(schema, max_rows, width);
    writer.push(&batch);
    let mut out = Vec::new();
    let shown = writer.finish(&mut out).expect("written");
    (String::from_utf8(out).expect("text"), shown)
}

#[test]
fn a_table_aligns_numbers_right_and_keeps_each_row_on_its_line() {
    let (text, shown) = table(10, None);
    let lines =
        ["name     │    n", "─────────┼─────", "Ann      │    1", "         │   20", "NULL     │  300", "a,\"b\"\\nc │ NULL"];
    assert_eq!(text.lines().collect::<Vec<_>>(), lines);
    assert_eq!(shown, TableShown { rows: 4, more_rows: 0, hidden_columns: 0 });
}

#[test]
fn a_table_stops_at_its_row_limit_and_counts_the_rest() {
    let (text, shown) = table(1, None);
    assert_eq!(text, "name │ n\n─────┼──\nAnn  │ 1\n");
    assert_eq!(shown, TableShown { rows: 1, more_rows: 3, hidden_columns: 0 });
}

#[test]
fn a_table_is_never_wider_than_the_terminal() {
    let fields: Vec<Field> = (0..20).map(|i| Field::new(format!("column_number_{i}"), Type::String)).collect();
    let schema = TableSchema::new(fields).to_arrow();
    let columns = (0..20).map(|_| Arc::new(StringArray::from(vec!["a rather long value", "b"])) as ArrayRef).collect();
    let batch = RecordBatch::try_new(schema.clone(), columns).expect("batch");
    for width in [20, 79, 80, 200, 459, 460, 1_000] {
        let mut writer = TableWriter::new(schema.clone(), 100, Some(width));
        writer.push(&batch);
        let mut out = Vec::new();
        let shown = writer.finish(&mut out).expect("written");
        let text = String::from_utf8(out).expect("text");
        assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
        assert_eq!(shown.hidden_columns > 0, width < 177, "{width}: {shown:?}");
        assert_eq!(text.contains('…'), width < 437, "{width}");
    }
}

#[test]
fn a_value_cannot_command_the_terminal() {
    let schema = TableSchema::new(vec![Field::new("c", Type::String)]).to_arrow();
    let values: ArrayRef = Arc::new(StringArray::from(vec!["\u{1b}[2J\u{202e}"]));
    let batch = RecordBatch::try_new(schema.clone(), vec![values]).expect("batch");
    let mut writer = TableWriter::new(schema, 10, None);
    writer.push(&batch);
    let mut out = Vec::new();
    writer.finish(&mut out).expect("written");
    assert_eq!(String::from_utf8(out).expect("text").lines().last(), Some("\\u{1b}[2J\\u{202e}"));
}

#[test]
fn an_empty_struct_is_an_empty_object() {
    let array = StructArray::new_empty_fields(1, None);
    let plain = ArrowField::new("c", DataType::Struct(Fields::empty()), true);
    assert_eq!(shown(&plain, &array).0, "{}");
}
