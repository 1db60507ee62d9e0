use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use longshore_core::commit::Contract;
use longshore_core::schema::TableSchema;
use longshore_core::source::Target;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::config::{CsvConfig, CsvHeader};
use crate::csv::CsvFormat;
use crate::cut::Limits;
use crate::fuzz::{Everything, everything};
use crate::json::JsonFormat;
use crate::tape::{Tape, Token};
use crate::values::{calendar, to_base64};

use super::Decoder;

fn limits() -> Limits {
    Limits::for_memory(64 << 20, std::env::temp_dir())
}

fn target(schema: Value, contract: Contract) -> Target {
    Target { schema: TableSchema::from_json(&schema).expect("a valid schema"), contract }
}

fn decode(schema: Value, contract: Contract, text: &str) -> Everything {
    let format = JsonFormat::detect("file".into(), text.as_bytes(), &[]).expect("a layout");
    everything(&format, text.as_bytes(), &limits(), Some(&target(schema, contract))).expect("readable")
}

fn decode_csv(schema: Value, text: &str) -> Everything {
    let config = CsvConfig { header: CsvHeader::Yes, ..CsvConfig::default() };
    let format = CsvFormat::detect("file".into(), text.as_bytes(), true, &config).expect("a dialect");
    everything(&format, text.as_bytes(), &limits(), Some(&target(schema, Contract::Freeze))).expect("readable")
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> &'a dyn Array {
    rows.column_by_name(name).expect("the column").as_ref()
}

fn strings(array: &dyn Array) -> Vec<Option<&str>> {
    array.as_string::<i32>().iter().collect()
}

#[test]
fn a_misfit_names_its_column_value_type_and_the_way_out_and_leaves_other_rows_alone() {
    let text = "{\"a\":1,\"s\":{\"n\":5}}\n{\"a\":\"twelve\",\"s\":{\"n\":6}}\n{\"a\":3,\"s\":{\"n\":true}}\n{\"a\":4}\n";
    let schema = json!([
        {"name": "a", "type": "INT64"},
        {"name": "s", "type": "STRUCT", "fields": [{"name": "n", "type": "INT64"}]},
    ]);
    let got = decode(schema, Contract::Freeze, text);
    assert_eq!(column(&got.rows[0], "a").as_primitive::<Int64Type>().values(), &[1, 4]);
    let rejects = &got.rejects[0];
    assert_eq!(rejects.len(), 2);
    assert_eq!((rejects[0].code, rejects[0].field.as_deref(), rejects[0].at), ("type_mismatch", Some("a"), (1, 2, 1)));
    assert_eq!(rejects[0].payload, b"{\"a\":\"twelve\",\"s\":{\"n\":6}}");
    for words in ["column a", "\"twelve\"", "INT64", "--type a=STRING"] {
        assert!(rejects[0].reason.contains(words), "{}", rejects[0].reason);
    }
    assert_eq!((rejects[1].field.as_deref(), rejects[1].at), (Some("s.n"), (2, 3, 1)));
}

#[test]
fn a_reason_quotes_at_most_forty_characters() {
    let text = format!("{{\"a\":\"{}\"}}", "ü".repeat(100));
    let got = decode(json!([{"name": "a", "type": "DATE"}]), Contract::Freeze, &text);
    let reason = &got.rejects[0][0].reason;
    assert!(reason.contains(&format!("\"{}...\"", "ü".repeat(40))), "{reason}");
}

#[test]
fn wider_columns_take_narrower_values_and_narrower_ones_only_what_they_hold() {
    let schema = json!([
        {"name": "n", "type": "NUMERIC"}, {"name": "b", "type": "BIGNUMERIC"}, {"name": "f", "type": "FLOAT64"},
        {"name": "dt", "type": "DATETIME"}, {"name": "l", "type": "INT64", "mode": "REPEATED"}, {"name": "i", "type": "INT64"},
        {"name": "s", "type": "STRING"},
    ]);
    let text = "{\"n\":7,\"b\":7,\"f\":7,\"dt\":\"2024-01-01\",\"l\":7,\"i\":7.0,\"s\":7.50}\n\
                {\"f\":9007199254740993}\n{\"i\":7.5}\n{\"n\":0.0000000001}\n{\"dt\":\"2024-01-01T00:00:00Z\"}\n{\"s\":true}\n{\"s\":{}}\n";
    let got = decode(schema, Contract::Freeze, text);
    let rows = &got.rows[0];
    assert_eq!(rows.num_rows(), 2);
    assert_eq!(column(rows, "n").as_primitive::<Decimal128Type>().value(0), 7_000_000_000);
    assert_eq!(strings(column(rows, "b"))[0], Some("7"));
    assert_eq!(column(rows, "f").as_primitive::<Float64Type>().value(0), 7.0);
    let midnight = calendar::datetime(b"2024-01-01T00:00:00").expect("a datetime");
    assert_eq!(column(rows, "dt").as_primitive::<TimestampMicrosecondType>().value(0), midnight);
    assert_eq!(column(rows, "l").as_list::<i32>().value(0).as_primitive::<Int64Type>().values(), &[7]);
    assert_eq!(column(rows, "i").as_primitive::<Int64Type>().value(0), 7);
    assert_eq!(strings(column(rows, "s")), [Some("7.50"), Some("true")]);
    let fields: Vec<_> = got.rejects[0].iter().map(|r| (r.code, r.field.as_deref().unwrap_or(""))).collect();
    assert_eq!(fields, ["f", "i", "n", "dt", "s"].map(|field| ("type_mismatch", field)));
}

#[test]
fn a_null_for_an_array_is_empty_and_a_null_in_one_is_a_dead_letter() {
    let schema = json!([{"name": "l", "type": "STRING", "mode": "REPEATED"}, {"name": "i", "type": "INT64"}]);
    let got = decode(schema, Contract::Freeze, "{\"l\":null}\n{\"i\":1}\n{\"l\":[\"a\",null]}\n{\"l\":[\"b\",\"\"]}\n{\"l\":[]}");
    let lists = column(&got.rows[0], "l").as_list::<i32>();
    assert_eq!((0..lists.len()).map(|i| lists.value_length(i)).collect::<Vec<_>>(), [0, 0, 2, 0]);
    assert_eq!(lists.null_count(), 0);
    assert_eq!(got.rejects[0].len(), 1);
    assert_eq!((got.rejects[0][0].code, got.rejects[0][0].field.as_deref()), ("null_in_array", Some("l")));
}

#[test]
fn a_required_column_without_a_value_is_a_dead_letter_but_not_inside_a_missing_struct() {
    let schema = json!([
        {"name": "id", "type": "INT64", "mode": "REQUIRED"},
        {"name": "s", "type": "STRUCT", "fields": [{"name": "k", "type": "STRING", "mode": "REQUIRED"}, {"name": "v", "type": "STRING"}]},
    ]);
    let got = decode(
        schema,
        Contract::Freeze,
        "{\"id\":1}\n{\"id\":null}\n{\"id\":2,\"s\":{\"v\":\"x\"}}\n{\"id\":3,\"s\":{\"k\":\"y\"}}\n",
    );
    assert_eq!(column(&got.rows[0], "id").as_primitive::<Int64Type>().values(), &[1, 3]);
    let fields: Vec<_> = got.rejects[0].iter().map(|r| (r.code, r.field.clone().expect("a field"))).collect();
    assert_eq!(fields, [("required_missing", "id".to_owned()), ("required_missing", "s.k".to_owned())]);
    let structs = column(&got.rows[0], "s").as_struct();
    assert!(structs.is_null(0) && structs.is_valid(1));
}

#[test]
fn an_unknown_column_is_a_dead_letter_when_frozen_and_dropped_when_ignored() {
    let schema = json!([{"name": "a", "type": "INT64"}]);
    let text = "{\"a\":1,\"b\":2}\n{\"a\":2,\"b\":null,\"c\":[],\"d\":{}}\n{\"a\":3,\"b\":[null]}\n";
    let frozen = decode(schema.clone(), Contract::Freeze, text);
    let codes: Vec<_> = frozen.rejects[0].iter().map(|r| (r.code, r.at.0)).collect();
    assert_eq!(codes, [("unknown_column", 0), ("null_in_array", 2)]);
    assert_eq!(decode(schema, Contract::Ignore, text).rows[0].num_rows(), 3);
}

#[test]
fn dropped_values_are_counted_by_path() {
    let text = b"{\"a\":1,\"b\":2}\n{\"s\":{\"x\":1,\"y\":2}}\n{\"b\":3}\n";
    let target = target(
        json!([{"name": "a", "type": "INT64"}, {"name": "s", "type": "STRUCT", "fields": [{"name": "x", "type": "INT64"}]}]),
        Contract::Ignore,
    );
    let format = JsonFormat::detect("file".into(), text, &[]).expect("a layout");
    let format: &dyn crate::cut::Format = &format;
    let mut cutter = format.cutter(Box::new(&text[..]), &limits());
    let chunk = cutter.next().expect("readable").expect("a chunk");
    let mut records = crate::cut::empty_records(format);
    format.parse(&chunk, &mut records).expect("parsed");
    let decoder = super::Decoder::new("t", "file".into(), &target, Value::Null);
    let decoded = decoder.decode(records.remove(0), &chunk.bytes).expect("decoded");
    let ignored: Vec<_> = decoded.ignored.iter().map(|(path, count)| (path.as_str(), *count)).collect();
    assert_eq!(ignored, [("b", 2), ("s.y", 1)]);
}

#[test]
fn keys_find_their_column_by_the_source_s_name_and_without_case_if_that_is_clear() {
    let schema = json!([{"name": "order_date", "type": "STRING", "originalName": "order-date"}, {"name": "Id", "type": "INT64"}]);
    let got = decode(
        schema,
        Contract::Freeze,
        "{\"order-date\":\"x\",\"ID\":1}\n{\"order_date\":\"y\",\"id\":2}\n{\"Id\":1,\"id\":2}\n",
    );
    assert_eq!(strings(column(&got.rows[0], "order_date")), [Some("x"), Some("y")]);
    assert_eq!(got.rejects[0][0].code, "duplicate_key");
}

#[test]
fn a_key_that_carries_nothing_says_nothing_about_a_column_of_nearly_its_name() {
    let schema = json!([{"name": "A", "type": "STRUCT", "fields": [{"name": "x", "type": "INT64"}]}]);
    let got = decode(schema, Contract::Freeze, "{\"a\":[]}\n{\"a\":null,\"A\":{\"x\":1}}\n{\"a\":[null]}\n");
    assert_eq!(got.rows[0].num_rows(), 2);
    assert_eq!(got.rejects[0][0].code, "null_in_array");
}

#[test]
fn a_struct_s_text_field_takes_plain_text() {
    use crate::tape::{Records, Row, Tape, Token};
    let mut tape = Tape::default();
    let root = tape.open(Token::Object { end: 0 });
    let key = tape.span("price");
    tape.push(Token::Key(key));
    let text = tape.span("12");
    tape.push(Token::Text(text));
    tape.close(root);
    let rows = vec![Row { token: 0, start: 0, len: 0, line: 1, column: 1, index: 0 }];
    let target = target(
        json!([{"name": "price", "type": "STRUCT", "fields": [{"name": "unit", "type": "STRING"}, {"name": "_text", "type": "INT64"}]}]),
        Contract::Freeze,
    );
    let decoder = super::Decoder::new("t", "file".into(), &target, Value::Null);
    let decoded = decoder.decode(Records { tape, rows, rejects: Vec::new() }, b"").expect("decoded");
    let longshore_core::batch::Rows::Plain(batch) = decoded.batch.rows else { panic!("plain rows") };
    let price = column(&batch, "price").as_struct();
    assert_eq!(price.column(1).as_primitive::<Int64Type>().value(0), 12);
    assert!(price.column(0).is_null(0));
}

#[test]
fn json_columns_hold_compact_json_and_text_in_them_must_be_json() {
    let schema = json!([{"name": "j", "type": "JSON"}]);
    let got = decode(schema.clone(), Contract::Freeze, "{\"j\":{ \"a\" : [1, 2.50] }}\n{\"j\":\"x\"}\n{\"j\":1}\n{\"j\":null}\n");
    assert_eq!(strings(column(&got.rows[0], "j")), [Some("{\"a\":[1,2.50]}"), Some("\"x\""), Some("1"), None]);
    let got = decode_csv(schema, "j\n\"{\"\"a\"\": 1}\"\nplain\n");
    assert_eq!(strings(column(&got.rows[0], "j")), [Some("{\"a\":1}")]);
    assert_eq!(got.rejects[0][0].code, "type_mismatch");
}

#[test]
fn empty_text_is_null_but_for_strings_and_bytes() {
    let got = decode_csv(json!([{"name": "a", "type": "INT64"}, {"name": "s", "type": "STRING"}]), "a,s\n,\n1,\"\"\n");
    assert!(column(&got.rows[0], "a").is_null(0));
    assert_eq!(strings(column(&got.rows[0], "s")), [None, Some("")]);
}

/// One value of each type: as its text, and whether JSON writes it bare.
fn row() -> impl Strategy<Value = Vec<(String, bool)>> {
    let text = prop_oneof![any::<String>(), "[a-z,;\"\n\r\t|']{0,12}"];
    let micros = -62_135_596_800_000_000i64..253_402_300_800_000_000;
    (
        text,
        any::<Vec<u8>>(),
        any::<i64>(),
        any::<f64>().prop_filter("finite", |f| f.is_finite()),
        (any::<bool>(), 0u128..10u128.pow(38)),
        any::<bool>(),
        micros.clone(),
        -719_162..2_932_897i32,
        0..86_400_000_000i64,
        micros,
    )
        .prop_map(|(text, bytes, int, float, (negative, numeric), boolean, timestamp, date, time, datetime)| {
            let (whole, fraction) = (numeric / 1_000_000_000, numeric % 1_000_000_000);
            let sign = if negative && numeric != 0 { "-" } else { "" };
            vec![
                (text, false),
                (to_base64(&bytes), false),
                (int.to_string(), true),
                (format!("{float:e}"), true),
                (format!("{sign}{whole}.{fraction:09}"), false),
                (boolean.to_string(), true),
                (format!("{}Z", calendar::datetime_text(timestamp)), false),
                (calendar::date_text(date), false),
                (calendar::time_text(time), false),
                (calendar::datetime_text(datetime), false),
            ]
        })
}

const NAMES: [(&str, &str); 10] = [
    ("s", "STRING"),
    ("y", "BYTES"),
    ("i", "INT64"),
    ("f", "FLOAT64"),
    ("n", "NUMERIC"),
    ("b", "BOOL"),
    ("ts", "TIMESTAMP"),
    ("d", "DATE"),
    ("t", "TIME"),
    ("dt", "DATETIME"),
];

/// The value of a cell as the text that was written.
fn written(rows: &RecordBatch, name: &str, at: usize) -> String {
    let array = column(rows, name);
    assert!(array.is_valid(at), "{name} is null");
    match name {
        "s" | "t" => array.as_string::<i32>().value(at).to_owned(),
        "y" => to_base64(array.as_binary::<i32>().value(at)),
        "i" => array.as_primitive::<Int64Type>().value(at).to_string(),
        "f" => format!("{:e}", array.as_primitive::<Float64Type>().value(at)),
        "n" => {
            let value = array.as_primitive::<Decimal128Type>().value(at);
            let (sign, value) = (if value < 0 { "-" } else { "" }, value.unsigned_abs());
            format!("{sign}{}.{:09}", value / 1_000_000_000, value % 1_000_000_000)
        }
        "b" => array.as_boolean().value(at).to_string(),
        "ts" => format!("{}Z", calendar::datetime_text(array.as_primitive::<TimestampMicrosecondType>().value(at))),
        "d" => calendar::date_text(array.as_primitive::<Date32Type>().value(at)),
        _ => calendar::datetime_text(array.as_primitive::<TimestampMicrosecondType>().value(at)),
    }
}

fn assert_same(got: &Everything, rows: &[Vec<(String, bool)>]) {
    assert!(got.rejects[0].is_empty(), "{:?}", got.rejects[0]);
    assert_eq!(got.rows[0].num_rows(), rows.len());
    for (at, row) in rows.iter().enumerate() {
        for ((name, _), (text, _)) in NAMES.iter().zip(row) {
            assert_eq!(&written(&got.rows[0], name, at), text, "column {name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_value_of_any_type_comes_back_from_json_and_csv(rows in prop::collection::vec(row(), 1..8)) {
        let schema: Vec<Value> = NAMES.iter().map(|(name, type_)| json!({"name": name, "type": type_})).collect();
        let mut lines = String::new();
        let mut table = NAMES.map(|(name, _)| name).join(",") + "\n";
        for row in &rows {
            let mut object = String::new();
            for ((name, _), (text, bare)) in NAMES.iter().zip(row) {
                let value = if *bare { text.clone() } else { Value::from(text.as_str()).to_string() };
                object += &format!("{}\"{name}\":{value}", if object.is_empty() { "" } else { "," });
            }
            lines += &format!("{{{object}}}\n");
            let cells: Vec<String> = row.iter().map(|(text, _)| format!("\"{}\"", text.replace('"', "\"\""))).collect();
            table += &(cells.join(",") + "\r\n");
        }
        assert_same(&decode(Value::Array(schema.clone()), Contract::Freeze, &lines), &rows);
        assert_same(&decode_csv(Value::Array(schema), &table), &rows);
    }
}

/// Run with `--ignored --nocapture`: MB of input per second and core, for each step.
#[test]
#[ignore = "prints measurements"]
fn how_fast_the_steps_are() {
    let mut lines = String::new();
    let mut table = String::from("id,customer,city,amount,paid,created_at,note\n");
    let mut state = 42u64;
    for i in 0..150_000u64 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (r, day) = (state >> 33, 1 + (state >> 40) % 28);
        let row =
            (format!("customer {}", r % 5000), ["Oslo", "Bergen", "Malmö", "Århus"][(r % 4) as usize], r % 100_000, r % 100);
        lines += &format!(
            "{{\"id\":{i},\"customer\":\"{}\",\"city\":\"{}\",\"amount\":{}.{:02},\"paid\":{},\"created_at\":\"2024-03-{day:02}T10:11:12Z\",\
             \"items\":[{{\"sku\":\"A-{}\",\"qty\":{}}},{{\"sku\":\"B-{}\",\"qty\":2}}],\"note\":\"as \\\"agreed\\\" with {}\"}}\n",
            row.0,
            row.1,
            row.2,
            row.3,
            r % 2 == 0,
            r % 977,
            r % 9,
            r % 31,
            row.1
        );
        table += &format!(
            "{i},{},{},{}.{:02},{},2024-03-{day:02}T10:11:12Z,as agreed with {}\n",
            row.0,
            row.1,
            row.2,
            row.3,
            r % 2 == 0,
            row.1
        );
    }
    let json = JsonFormat::detect("file".into(), lines.as_bytes(), &[]).expect("a layout");
    let csv = CsvFormat::detect("file".into(), table.as_bytes(), true, &CsvConfig::default()).expect("a dialect");
    measure("json lines", &json, &lines);
    measure("csv", &csv, &table);
    let quoted = table.lines().map(|line| format!("\"{}\"\n", line.replace(',', "\",\""))).collect::<String>();
    measure("csv quoted", &csv, &quoted);
    let array = format!("[{}]", lines.trim_end().replace('\n', ","));
    let array_format = JsonFormat::detect("file".into(), array.as_bytes(), &[]).expect("a layout");
    measure("json array", &array_format, &array);
}

fn measure(name: &str, format: &dyn crate::cut::Format, text: &str) {
    // The thread's own CPU time, since other work on the machine would count in wall time.
    let now = || -> f64 {
        let spent = std::fs::read_to_string("/proc/thread-self/schedstat").expect("measured under Linux");
        spent.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds")
    };
    let rate = |since: f64| (text.len() as f64 / (now() - since) * 1e3).round();
    let input = std::io::Cursor::new(text.as_bytes().to_vec());
    let mut limits = limits();
    limits.chunk = 1 << 20;
    let begun = now();
    let mut cutter = format.cutter(Box::new(input), &limits);
    let mut chunks = Vec::new();
    while let Some(chunk) = cutter.next().expect("readable") {
        chunks.push(chunk);
    }
    let cut = rate(begun);
    let mut best = [0.0f64; 3];
    for _ in 0..5 {
        let begun = now();
        let parsed: Vec<_> = chunks
            .iter()
            .map(|chunk| {
                let mut records = crate::cut::empty_records(format);
                format.parse(chunk, &mut records).expect("parsed");
                records.remove(0)
            })
            .collect();
        best[0] = best[0].max(rate(begun));
        let begun = now();
        let mut shape = crate::shape::Shape::new();
        for records in &parsed {
            let mut later = crate::shape::Shape::new();
            later.observe_all(records);
            shape.merge(later);
        }
        best[1] = best[1].max(rate(begun));
        let schema = shape.resolve(&crate::shape::Overrides::default()).expect("columns");
        let decoder = super::Decoder::new("t", "file".into(), &Target { schema, contract: Contract::Evolve }, Value::Null);
        let begun = now();
        for (chunk, records) in chunks.iter().zip(parsed) {
            decoder.decode(records, &chunk.bytes).expect("decoded");
        }
        best[2] = best[2].max(rate(begun));
    }
    println!("{name}: {} MB; cut {cut}, parse {}, observe {}, decode {} MB/s", text.len() / 1_000_000, best[0], best[1], best[2]);
}

/// One record with the field `v`, into a column of a type: its only value, or why it does not fit.
fn fit_one(type_: &str, write: impl Fn(&mut Tape) -> Token) -> Result<RecordBatch, String> {
    let mut tape = Tape::default();
    let name = tape.span("v");
    let record = tape.open(Token::Object { end: 0 });
    tape.push(Token::Key(name));
    let value = write(&mut tape);
    tape.push(value);
    tape.close(record);
    let target = target(json!([{"name": "v", "type": type_}]), Contract::Freeze);
    let fitted = Decoder::new("t", "f".into(), &target, Value::Null).fit(&tape, &[record]).expect("no fault of ours");
    match fitted.misfits.into_iter().next() {
        Some((0, misfit)) => Err(misfit.what),
        Some((other, _)) => panic!("there is no record {other}"),
        None => Ok(fitted.rows),
    }
}

#[test]
fn typed_values_go_where_they_do_not_change() {
    use crate::tape::Value::{Date, DateTime, Double, Int, Time, Timestamp};
    let text = |type_: &str, value| {
        let rows = fit_one(type_, |_| Token::typed(value))?;
        Ok::<_, String>(column(&rows, "v").as_string::<i32>().value(0).to_owned())
    };
    for (type_, value, expected) in [
        ("STRING", Int(-5), "-5"),
        ("STRING", Double(0.1), "0.1"),
        ("STRING", Double(f64::NEG_INFINITY), "-Infinity"),
        ("STRING", Date(0), "1970-01-01"),
        ("STRING", Timestamp(1), "1970-01-01T00:00:00.000001Z"),
        ("BIGNUMERIC", Int(i64::MIN), "-9223372036854775808"),
        ("BIGNUMERIC", Double(8.0), "8"),
        ("TIME", Time(1), "00:00:00.000001"),
        ("JSON", Double(f64::NAN), "\"NaN\""),
        ("JSON", DateTime(0), "\"1970-01-01T00:00:00.000000\""),
    ] {
        assert_eq!(text(type_, value).as_deref(), Ok(expected), "{type_}");
    }
    for (type_, value) in [
        ("INT64", Double(0.5)),
        ("INT64", Double(1e300)),
        ("FLOAT64", Int((1 << 53) + 1)),
        ("FLOAT64", Int(i64::MAX)),
        ("NUMERIC", Double(0.1)),
        ("BIGNUMERIC", Double(f64::NAN)),
        ("DATE", DateTime(0)),
        ("TIMESTAMP", DateTime(0)),
        ("DATETIME", Timestamp(0)),
        ("TIME", Int(0)),
        ("BOOL", Int(1)),
        ("BYTES", Int(1)),
        ("INTERVAL", Int(1)),
    ] {
        assert!(fit_one(type_, |_| Token::typed(value)).is_err(), "{type_} {value:?}");
    }
    let rows = fit_one("FLOAT64", |_| Token::typed(Int(1 << 60))).expect("a double holds it");
    assert_eq!(column(&rows, "v").as_primitive::<Float64Type>().value(0), (1u64 << 60) as f64);
    let rows = fit_one("NUMERIC", |_| Token::typed(Int(-7))).expect("fits");
    assert_eq!(column(&rows, "v").as_primitive::<Decimal128Type>().value(0), -7_000_000_000);
    let rows = fit_one("DATETIME", |_| Token::typed(Date(1))).expect("fits");
    assert_eq!(column(&rows, "v").as_primitive::<TimestampMicrosecondType>().value(0), calendar::MICROS_PER_DAY);
    let rows = fit_one("BYTES", |tape| tape.blob(&[0xFF, 0])).expect("fits");
    assert_eq!(column(&rows, "v").as_binary::<i32>().value(0), [0xFF, 0]);
    assert_eq!(fit_one("STRING", |tape| tape.blob(b"abc")).expect_err("bytes"), "column v: found 3 bytes, expected STRING");
}
