use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Float64Array, Int64Array, ListBuilder, StringArray, StringBuilder,
    StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow_avro::schema::FingerprintStrategy;
use arrow_avro::writer::WriterBuilder;
use arrow_avro::writer::format::AvroSoeFormat;
use proptest::prelude::*;

use super::server::{Server, framed};
use super::*;

/// A varint, zigzag.
fn long(value: i64) -> Vec<u8> {
    let mut bits = ((value << 1) ^ (value >> 63)) as u64;
    let mut out = Vec::new();
    while bits >= 0x80 {
        out.push(bits as u8 | 0x80);
        bits >>= 7;
    }
    out.push(bits as u8);
    out
}

fn text(text: &str) -> Vec<u8> {
    [long(text.len() as i64), text.as_bytes().to_vec()].concat()
}

fn record(fields: &Value) -> String {
    json!({"type": "record", "name": "Row", "fields": fields}).to_string()
}

/// A decoder for schemas, numbered from 1.
fn with_schemas(schemas: &[&str], settings: Value) -> Arc<Decoder> {
    let server = Server::start();
    for (id, schema) in (1..).zip(schemas) {
        server.register(id, "AVRO", schema, &[]);
    }
    let mut all = json!({"format": "avro", "registry": {"url": server.url}});
    all.as_object_mut().expect("a map").extend(settings.as_object().expect("a map").clone());
    decoder(all)
}

#[test]
fn every_type_becomes_the_column_that_holds_it_exactly() {
    let logical = |type_: &str, logical: &str| json!({"type": type_, "logicalType": logical});
    let decimal =
        |precision: i32, scale: i32| json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale});
    let fields: Vec<(&str, Value, Vec<u8>, &str, Value)> = vec![
        ("flag", json!("boolean"), vec![1], "BOOL", json!(true)),
        ("small", json!("int"), long(-7), "INT64", json!(-7)),
        ("large", json!("long"), long(i64::MIN), "INT64", json!(i64::MIN)),
        ("half", json!("float"), 0.1f32.to_le_bytes().to_vec(), "FLOAT64", json!(f64::from(0.1f32))),
        ("double", json!("double"), 0.1f64.to_le_bytes().to_vec(), "FLOAT64", json!(0.1)),
        ("bytes", json!("bytes"), [long(2), vec![0xFF, 0]].concat(), "BYTES", json!("ff00")),
        ("string", json!("string"), text("ü"), "STRING", json!("ü")),
        ("fixed", json!({"type": "fixed", "name": "F", "size": 2}), vec![1, 2], "BYTES", json!("0102")),
        ("color", json!({"type": "enum", "name": "E", "symbols": ["RED", "BLUE"]}), long(1), "STRING", json!("BLUE")),
        ("day", logical("int", "date"), long(19_000), "DATE", json!("2022-01-08")),
        ("noon", logical("int", "time-millis"), long(43_200_001), "TIME", json!("12:00:00.001000")),
        ("micro", logical("long", "time-micros"), long(1), "TIME", json!("00:00:00.000001")),
        ("ms", logical("long", "timestamp-millis"), long(-1), "TIMESTAMP", json!("1969-12-31T23:59:59.999Z")),
        ("us", logical("long", "timestamp-micros"), long(1), "TIMESTAMP", json!("1970-01-01T00:00:00.000001Z")),
        ("ns", logical("long", "timestamp-nanos"), long(1000), "TIMESTAMP", json!("1970-01-01T00:00:00.000001Z")),
        ("local", logical("long", "local-timestamp-micros"), long(1), "DATETIME", json!("1970-01-01T00:00:00.000001")),
        ("price", decimal(10, 2), [long(2), vec![0xFB, 0x2E]].concat(), "NUMERIC", json!("-12.34")),
        ("exact", decimal(60, 30), [long(1), vec![1]].concat(), "BIGNUMERIC", json!("0.000000000000000000000000000001")),
        ("huge", decimal(100, 2), [long(1), vec![1]].concat(), "STRING", json!("0.01")),
        ("uuid", logical("string", "uuid"), text("a-b"), "STRING", json!("a-b")),
        (
            "span",
            json!({"type": {"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}}),
            vec![13, 0, 0, 0, 2, 0, 0, 0, 0xDC, 5, 0, 0],
            "INTERVAL",
            json!("1-1 2 0:0:1.5"),
        ),
        ("maybe", json!(["null", "long"]), [long(1), long(5)].concat(), "INT64", json!(5)),
        ("absent", json!(["string", "null"]), long(1), "STRING", json!(null)),
        ("either", json!(["null", "string", "long"]), [long(2), long(5)].concat(), "STRING", json!("5")),
        (
            "mixed",
            json!(["long", {"type": "array", "items": "long"}]),
            [long(1), long(1), long(5), long(0)].concat(),
            "JSON",
            json!("[5]"),
        ),
        (
            "list",
            json!({"type": "array", "items": "string"}),
            [long(-2), long(4), text("a"), text("b"), long(1), text("c"), long(0)].concat(),
            "ARRAY<STRING>",
            json!(["a", "b", "c"]),
        ),
        (
            "lists",
            json!({"type": "array", "items": {"type": "array", "items": "int"}}),
            [long(1), long(1), long(7), long(0), long(0)].concat(),
            "JSON",
            json!("[[7]]"),
        ),
        (
            "map",
            json!({"type": "map", "values": "int"}),
            [long(1), text("k"), long(7), long(0)].concat(),
            "ARRAY<STRUCT<key STRING, value INT64>>",
            json!([{"key": "k", "value": 7}]),
        ),
        (
            "inner",
            json!({"type": "record", "name": "I", "fields": [{"name": "x", "type": "E"}]}),
            long(0),
            "STRUCT<x STRING>",
            json!({"x": "RED"}),
        ),
        ("odd_name", json!("string"), text("x"), "STRING", json!("x")),
    ];
    let schema: Vec<Value> = fields
        .iter()
        .map(|(name, type_, ..)| match type_.get("type").filter(|_| *name == "span") {
            Some(inner) => json!({"name": name, "type": inner}),
            None => json!({"name": name, "type": type_}),
        })
        .collect();
    let mut schema = schema;
    schema.push(json!({"name": "void", "type": "null"}));
    let content: Vec<u8> = fields.iter().flat_map(|(_, _, bytes, ..)| bytes.clone()).collect();
    let decoder = with_schemas(&[&record(&json!(schema))], json!({}));
    let (columns, got) = decode_wanted(&decoder, &[framed(1, &content)]);
    let expected: Vec<String> = fields.iter().map(|(name, _, _, type_, _)| format!("{name} {type_}")).collect();
    assert_eq!(columns, expected);
    assert_eq!(rejected(&got), []);
    let rows = of_table(&got, "t");
    for (name, _, _, _, value) in &fields {
        let found = match &rows[0][name] {
            // The writer of JSON gives decimals as numbers.
            Value::Number(number) if *name == "price" => json!(number.to_string()),
            found => found.clone(),
        };
        let found = if *name == "price" { json!(found.as_str().expect("text").trim_end_matches('0')) } else { found };
        assert_eq!(&found, value, "{name}");
    }
}

#[test]
fn a_damaged_message_says_where_and_spoils_no_other() {
    let schema = record(&json!([
        {"name": "n", "type": "int"},
        {"name": "s", "type": {"type": "record", "name": "S", "fields": [
            {"name": "color", "type": {"type": "enum", "name": "E", "symbols": ["RED"]}},
            {"name": "list", "type": {"type": "array", "items": "string"}},
        ]}},
        {"name": "u", "type": ["null", "boolean"]},
        {"name": "d", "type": {"type": "int", "logicalType": "date"}},
    ]));
    let good = [long(1), long(0), long(0), long(0), long(0)].concat();
    let damaged: Vec<(Vec<u8>, &str, &str)> = vec![
        (vec![], "n", "ends within a number"),
        (vec![0xFF; 11], "n", "more than 64 bits"),
        (long(1 << 40), "n", "no 32-bit number"),
        ([long(1), long(1)].concat(), "s.color", "only 1 symbols"),
        ([long(1), long(-1)].concat(), "s.color", "only 1 symbols"),
        ([long(1), long(0), long(1), long(-5)].concat(), "s.list", "is no length"),
        ([long(1), long(0), long(1), long(9)].concat(), "s.list", "9 bytes are needed, and only 0"),
        ([long(1), long(0), long(1), long(1), vec![0xFF]].concat(), "s.list", "not UTF-8"),
        ([long(1), long(0), long(0), long(2)].concat(), "u", "only 2 branches"),
        ([long(1), long(0), long(0), long(1), vec![2]].concat(), "u", "2 is no boolean"),
        ([long(1), long(0), long(0), long(0), long(9_000_000)].concat(), "d", "years 1 to 9999"),
        ([good.clone(), vec![0]].concat(), "", "1 bytes are left over"),
    ];
    let mut all = vec![framed(1, &good)];
    all.extend(damaged.iter().map(|(bytes, ..)| framed(1, bytes)));
    all.push(framed(1, &good));
    let decoder = with_schemas(&[&schema], json!({}));
    let (_, got) = decode_wanted(&decoder, &all);
    assert_eq!(got.batches[0].rows.len(), 2);
    let rejects: Vec<&Reject> = all_rejects(&got).collect();
    assert_eq!(rejects.len(), damaged.len());
    for (reject, (bytes, field, words)) in rejects.into_iter().zip(&damaged) {
        assert_eq!((reject.code, payload(reject)), ("avro_invalid", &framed(1, bytes)[..]));
        assert_eq!(reject.field.as_deref().unwrap_or_default(), *field);
        assert!(reject.reason.contains(words), "{}", reject.reason);
    }
}

#[test]
fn schemas_that_changed_land_side_by_side_and_the_newest_tells_the_columns() {
    let first = record(&json!([{"name": "id", "type": "int"}, {"name": "old", "type": "string"}]));
    let second =
        record(&json!([{"name": "id", "type": ["null", "string"]}, {"name": "new", "type": "double", "doc": "What it costs"}]));
    let decoder = with_schemas(&[&first, &second], json!({}));
    let one = framed(1, &[long(1), text("x")].concat());
    let two = framed(2, &[long(1), text("two"), 0.5f64.to_le_bytes().to_vec()].concat());
    let decode = decoder.decode(contents(&[&one, &two, &one]));
    let wanted = decode.decode(&Tables::default()).expect("decoded").wanted.remove("t").expect("wanted").columns;
    let names: Vec<String> = wanted.fields.iter().map(|field| format!("{} {field}", field.name)).collect();
    assert_eq!(names, ["id STRING", "new FLOAT64", "old STRING"]);
    assert_eq!(wanted.fields[1].description.as_deref(), Some("What it costs"));
    let got = decode.decode(&tables(Contract::Freeze, &[("t", wanted.to_json())])).expect("decoded");
    let row = json!({"id": "1", "new": null, "old": "x"});
    assert_eq!(of_table(&got, "t"), json!([row, {"id": "two", "new": 0.5, "old": null}, row]));
    let got = decode.decode(&tables(Contract::Evolve, &[("t", columns(&[("id", "STRING"), ("old", "STRING")]))]));
    let got = got.expect("decoded");
    assert_eq!(rejected(&got), [(Some("t"), "unknown_column", 1)]);
    assert_eq!(wanted_columns(&got, "t"), ["id STRING", "new FLOAT64"], "what the messages have that did not fit");
}

#[test]
fn values_go_into_other_columns_only_where_nothing_changes() {
    let schema = record(&json!([
        {"name": "i", "type": "long"}, {"name": "d", "type": "double"}, {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "b", "type": "bytes"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    ]));
    let decoder = with_schemas(&[&schema], json!({}));
    let content =
        |i: i64, d: f64| framed(1, &[long(i), d.to_le_bytes().to_vec(), long(1), [long(1), vec![7]].concat(), long(0)].concat());
    let into = |types: [&str; 5], content: &[u8]| {
        let all: Vec<(&str, &str)> = ["i", "d", "day", "b", "at"].into_iter().zip(types).collect();
        let got =
            decoder.decode(contents(&[content])).decode(&tables(Contract::Freeze, &[("t", columns(&all))])).expect("decoded");
        let reject = all_rejects(&got).next();
        reject.map_or_else(|| Ok(of_table(&got, "t")[0].clone()), |reject| Err(reject.reason.clone()))
    };
    let row = into(["FLOAT64", "INT64", "DATETIME", "BYTES", "STRING"], &content(7, 8.0)).expect("fits");
    let expected = json!({"i": 7.0, "d": 8, "day": "1970-01-02T00:00:00", "b": "07", "at": "1970-01-01T00:00:00.000000Z"});
    assert_eq!(row, expected);
    let row = into(["NUMERIC", "BIGNUMERIC", "STRING", "JSON", "TIMESTAMP"], &content(-7, -8.0)).expect("fits");
    let expected = json!({"d": "-8", "day": "1970-01-02", "b": "\"Bw==\"", "at": "1970-01-01T00:00:00Z"});
    for (key, value) in expected.as_object().expect("a map") {
        assert_eq!(&row[key], value);
    }
    let row = into(["BIGNUMERIC", "STRING", "JSON", "BYTES", "JSON"], &content(i64::MAX, 0.1)).expect("fits");
    let expected = json!({"i": "9223372036854775807", "d": "0.1", "day": "\"1970-01-02\"", "b": "07", "at": "\"1970-01-01T00:00:00.000000Z\""});
    assert_eq!(row, expected);
    for (types, i, d, words) in [
        (
            ["FLOAT64", "FLOAT64", "DATE", "BYTES", "TIMESTAMP"],
            i64::MAX,
            0.0,
            "column i: found the number 9223372036854775807, expected FLOAT64",
        ),
        (["INT64", "INT64", "DATE", "BYTES", "TIMESTAMP"], 0, 0.5, "column d: found the number 0.5, expected INT64"),
        (["INT64", "NUMERIC", "DATE", "BYTES", "TIMESTAMP"], 0, 0.5, "expected NUMERIC"),
        (["INT64", "FLOAT64", "TIMESTAMP", "BYTES", "TIMESTAMP"], 0, 0.5, "found the day 1970-01-02, expected TIMESTAMP"),
        (["INT64", "FLOAT64", "DATE", "STRING", "TIMESTAMP"], 0, 0.5, "found 1 bytes, expected STRING"),
        (
            ["INT64", "FLOAT64", "DATE", "BYTES", "DATETIME"],
            0,
            0.5,
            "found the moment 1970-01-01T00:00:00.000000Z, expected DATETIME",
        ),
        (["BOOL", "FLOAT64", "DATE", "BYTES", "TIMESTAMP"], 1, 0.5, "expected BOOL"),
    ] {
        let reason = into(types, &content(i, d)).expect_err("does not fit");
        assert!(reason.contains(words), "{reason}");
    }
}

#[test]
fn times_finer_than_a_microsecond_are_refused_or_cut_as_settings_say() {
    let schema = record(&json!([{"name": "at", "type": {"type": "long", "logicalType": "timestamp-nanos"}}]));
    let all = [framed(1, &long(1_999)), framed(1, &long(-1))];
    let (_, got) = decode_wanted(&with_schemas(&[&schema], json!({})), &all);
    assert_eq!(got.batches[0].rows.len(), 0);
    assert!(
        all_rejects(&got).all(|reject| reject.reason.contains("truncate_nanoseconds") && reject.field.as_deref() == Some("at"))
    );
    let (_, got) = decode_wanted(&with_schemas(&[&schema], json!({"truncate_nanoseconds": true})), &all);
    let expected = json!([{"at": "1970-01-01T00:00:00.000001Z"}, {"at": "1969-12-31T23:59:59.999999Z"}]);
    assert_eq!(of_table(&got, "t"), expected);
}

#[test]
fn types_within_themselves_are_json_and_never_read_for_ever() {
    let schema = record(&json!([
        {"name": "label", "type": "string"},
        {"name": "next", "type": ["null", "Row"]},
        {"name": "nothing", "type": {"type": "array", "items": "null"}},
        {"name": "wide", "type": {"type": "array", "items": {"type": "record", "name": "Empty", "fields": []}}},
    ]));
    let decoder = with_schemas(&[&schema], json!({}));
    let end = |label: &str| [text(label), long(0), long(0), long(0)].concat();
    let nested = [text("a"), long(1), end("b"), long(0), long(0)].concat();
    let endless: Vec<u8> = [text("a"), long(1)].concat().repeat(5_000);
    let bomb = [text("a"), long(0), long(1 << 50), long(0), long(0)].concat();
    let wide = [text("a"), long(0), long(0), long(i64::MIN), long(0), long(0)].concat();
    let (columns, got) = decode_wanted(&decoder, &[framed(1, &nested), framed(1, &endless), framed(1, &bomb), framed(1, &wide)]);
    assert_eq!(columns, ["label STRING", "next JSON"]);
    let next = json!({"label": "b", "next": null, "nothing": [], "wide": []});
    assert_eq!(of_table(&got, "t"), json!([{"label": "a", "next": next.to_string()}]));
    let codes: Vec<_> = rejected(&got).into_iter().map(|(_, code, index)| (code, index)).collect();
    assert_eq!(codes, [("avro_invalid", 1), ("avro_invalid", 2), ("avro_invalid", 3)]);
}

#[test]
fn a_file_has_the_schema_of_plain_messages_and_of_single_objects() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("row.avsc");
    let schema = record(&json!([{"name": "id", "type": "long"}]));
    std::fs::write(&path, &schema).expect("written");
    let settings = json!({"format": "avro", "avro": {"schema": path}});
    let marked = {
        let fields = vec![Field::new("id", DataType::Int64, false)];
        let metadata = [("avro.schema".to_owned(), schema)].into();
        let batch = RecordBatch::try_new(
            Arc::new(Schema::new_with_metadata(fields, metadata)),
            vec![Arc::new(Int64Array::from(vec![9]))],
        );
        let batch = batch.expect("a batch");
        let mut writer = WriterBuilder::new(batch.schema().as_ref().clone())
            .with_fingerprint_strategy(FingerprintStrategy::Rabin)
            .build::<_, AvroSoeFormat>(Vec::new())
            .expect("a writer");
        writer.write(&batch).expect("written");
        writer.finish().expect("written");
        writer.into_inner()
    };
    assert_eq!(marked[..2], [0xC3, 0x01]);
    let got = decode(settings, &[("id", "INT64")], &[&long(7)[..], &marked, &[0xC3, 0x01, 0, 0]]);
    assert_eq!(of_table(&got, "t"), json!([{"id": 7}, {"id": 9}]));
    assert_eq!(rejected(&got), [(Some("t"), "avro_invalid", 2)]);
    for (text, words) in [
        ("{", "is no Avro schema"),
        ("\"long\"", "describes no record"),
        (r#"{"type":"record","name":"R","fields":[]}"#, "no record"),
    ] {
        std::fs::write(&path, text).expect("written");
        let config = config(json!({"format": "avro", "avro": {"schema": path}}));
        let error = Decoder::new(&config, Route::Topic).err().expect("refused");
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// Rows as Arrow, each framed message as another Avro writer writes it.
fn written_by_others(batch: &RecordBatch) -> Vec<Vec<u8>> {
    (0..batch.num_rows())
        .map(|row| {
            let mut writer = WriterBuilder::new(batch.schema().as_ref().clone())
                .with_fingerprint_strategy(FingerprintStrategy::Id(1))
                .build::<_, AvroSoeFormat>(Vec::new())
                .expect("a writer");
            writer.write(&batch.slice(row, 1)).expect("written");
            writer.finish().expect("written");
            writer.into_inner()
        })
        .collect()
}

const BY_OTHERS: &str = r#"{"type":"record","name":"Row","fields":[
    {"name":"i","type":["null","long"]},{"name":"d","type":"double"},{"name":"s","type":["null","string"]},{"name":"b","type":"bytes"},
    {"name":"ok","type":["null","boolean"]},{"name":"day","type":["null",{"type":"int","logicalType":"date"}]},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
    {"name":"list","type":{"type":"array","items":"string"}},
    {"name":"inner","type":{"type":"record","name":"Inner","fields":[{"name":"x","type":["null","long"]}]}}]}"#;

proptest! {
    #[test]
    fn what_another_writer_writes_is_read_back(
        rows in prop::collection::vec((
            any::<Option<i64>>(), any::<f64>().prop_filter("JSON has no such numbers", |d| d.is_finite()), prop::option::of("\\PC{0,8}"),
            prop::collection::vec(any::<u8>(), 0..8), any::<Option<bool>>(), prop::option::of(-700_000i32..2_900_000),
            -62_135_596_800_000_000i64..253_402_300_799_999_999, prop::collection::vec("\\PC{0,3}", 0..4),
        ), 1..20),
    ) {
        let inner: Fields = vec![Field::new("x", DataType::Int64, true)].into();
        let mut lists = ListBuilder::new(StringBuilder::new()).with_field(Field::new("item", DataType::Utf8, false));
        for (.., list) in &rows {
            list.iter().for_each(|text| lists.values().append_value(text));
            lists.append(true);
        }
        let ints: ArrayRef = Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>());
        let arrays: Vec<ArrayRef> = vec![
            ints.clone(),
            Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Float64Array>()),
            Arc::new(rows.iter().map(|row| row.2.clone()).collect::<StringArray>()),
            Arc::new(rows.iter().map(|row| Some(row.3.clone())).collect::<BinaryArray>()),
            Arc::new(rows.iter().map(|row| row.4).collect::<BooleanArray>()),
            Arc::new(rows.iter().map(|row| row.5).collect::<Date32Array>()),
            Arc::new(rows.iter().map(|row| Some(row.6)).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
            Arc::new(lists.finish()),
            Arc::new(StructArray::new(inner, vec![ints], None)),
        ];
        let nullable = ["i", "s", "ok", "day"];
        let fields: Vec<Field> = ["i", "d", "s", "b", "ok", "day", "at", "list", "inner"]
            .into_iter()
            .zip(&arrays)
            .map(|(name, array)| Field::new(name, array.data_type().clone(), nullable.contains(&name)))
            .collect();
        let schema = Schema::new_with_metadata(fields, [("avro.schema".to_owned(), BY_OTHERS.to_owned())].into());
        let batch = RecordBatch::try_new(Arc::new(schema), arrays).expect("a batch");
        let (_, got) = decode_wanted(&with_schemas(&[BY_OTHERS], json!({})), &written_by_others(&batch));
        prop_assert_eq!(rejected(&got), []);
        prop_assert_eq!(of_table(&got, "t"), super::rows(&batch));
    }
}
