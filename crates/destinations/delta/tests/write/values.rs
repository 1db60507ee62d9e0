//! Values, types and partitions: what goes in is what readers find.

use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::json::ReaderBuilder;
use longshore_core::commit::Published;
use longshore_core::destination::{Destination, Mode, SchemaChange};
use longshore_core::schema::{Field, TableSchema, Type};
use longshore_core::table_options::{ColumnOptions, Partition, PartitionBy, TableOptions};
use serde_json::{Value, json};

use crate::bench::{Warehouse, change, columns, load, prepare, publish, query, read, stage_rows, to_json};

fn every_type() -> TableSchema {
    TableSchema::from_json(&json!([
        {"name": "i", "type": "INT64", "mode": "REQUIRED", "description": "a number"},
        {"name": "s", "type": "STRING", "originalName": "s-s", "maxLength": "12"},
        {"name": "y", "type": "BYTES"},
        {"name": "f", "type": "FLOAT64"},
        {"name": "n", "type": "NUMERIC"},
        {"name": "bn", "type": "BIGNUMERIC"},
        {"name": "b", "type": "BOOL"},
        {"name": "ts", "type": "TIMESTAMP"},
        {"name": "d", "type": "DATE"},
        {"name": "t", "type": "TIME"},
        {"name": "dt", "type": "DATETIME"},
        {"name": "j", "type": "JSON"},
        {"name": "g", "type": "GEOGRAPHY"},
        {"name": "iv", "type": "INTERVAL"},
        {"name": "st", "type": "STRUCT", "fields": [
            {"name": "r", "type": "INT64", "mode": "REQUIRED"},
            {"name": "t", "type": "TIME", "mode": "REPEATED"},
            {"name": "x", "type": "STRUCT", "mode": "REPEATED", "fields": [{"name": "a", "type": "NUMERIC"}]},
        ]},
        {"name": "l", "type": "JSON", "mode": "REPEATED"},
        {"name": "ld", "type": "DATE", "mode": "REPEATED"},
    ]))
    .unwrap()
}

fn every_value() -> RecordBatch {
    let rows = [
        json!({"i": i64::MIN, "s": "größe ✓", "y": "00ff", "f": 0.1, "n": "12345678901234567890123456789.123456789",
            "bn": "0.00000000000000000000000000000000000001", "b": true, "ts": "0001-01-01T00:00:00Z", "d": "9999-12-31",
            "t": "23:59:59.999999", "dt": "9999-12-31T23:59:59.999999", "j": "{\"a\":null}", "g": "POINT(1 2)",
            "iv": "1-2 3 4:5:6.7", "st": {"r": 1, "t": ["00:00:00.000000"], "x": [{"a": "1.5"}, {"a": null}]},
            "l": ["1", "\"x\""], "ld": ["1969-12-31"]}),
        json!({"i": 2, "st": {"r": 2, "t": [], "x": []}, "l": [], "ld": []}),
        json!({"i": i64::MAX, "s": "", "f": -0.0, "n": "-0.000000001", "ts": "9999-12-31T23:59:59.999999Z", "d": "0001-01-01",
            "l": [], "ld": [], "b": false}),
    ];
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    let mut reader = ReaderBuilder::new(every_type().to_arrow()).build(text.as_bytes()).unwrap();
    reader.next().unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_comes_back_as_it_went_in() {
    let warehouse = Warehouse::new();
    let destination = warehouse.open();
    let plan = prepare(&destination, &change(every_type())).await;
    assert_eq!(plan.schema, every_type());
    let staged = [stage_rows(&destination, "a", &plan.schema, vec![every_value()]).await.unwrap()];
    publish(&destination, 1, &staged).await;
    let batches = query(&warehouse.table(), "select * from t order by i").await;
    let rows: Vec<Value> = batches.iter().flat_map(to_json).collect();
    let mut expected = to_json(&every_value());
    expected.sort_by_key(|row| row["i"].as_i64());
    assert_eq!(rows, expected);
    // A worker that knows only the log knows every type again.
    let plan = warehouse.open().prepare(&change(every_type()), Mode::DryRun).await.unwrap();
    assert_eq!((plan.schema, plan.changes.len()), (every_type(), 0));
    let protocol = &warehouse.actions(0, "protocol")[0];
    assert_eq!((&protocol["minReaderVersion"], &protocol["minWriterVersion"]), (&json!(3), &json!(7)), "for the DATETIME");
    // Numbers that readers answer queries from without opening the file.
    let stats: Value = serde_json::from_str(warehouse.actions(1, "add")[0]["stats"].as_str().unwrap()).unwrap();
    assert_eq!(stats["numRecords"], 3);
    assert_eq!((&stats["minValues"]["i"], &stats["maxValues"]["i"]), (&json!(i64::MIN), &json!(i64::MAX)));
    assert_eq!(stats["nullCount"]["s"], 1);
    let found = read(&warehouse.table(), "select count(*) c, min(i) a, max(i) z from t where i > 2").await;
    assert_eq!(found, [json!({"c": 1, "a": i64::MAX, "z": i64::MAX})]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_are_added_at_any_depth_and_older_rows_have_none() {
    let warehouse = Warehouse::new();
    let destination = warehouse.open();
    let table = |inner: Value, more: Value| {
        let mut fields = vec![
            json!({"name": "id", "type": "INT64"}),
            json!({"name": "who", "type": "STRUCT", "fields": inner}),
            json!({"name": "list", "type": "STRUCT", "mode": "REPEATED", "fields": inner}),
        ];
        fields.extend(more.as_array().unwrap().clone());
        TableSchema::from_json(&Value::Array(fields)).unwrap()
    };
    let narrow = table(json!([{"name": "a", "type": "INT64"}]), json!([]));
    let wide = table(
        json!([{"name": "A", "type": "INT64"}, {"name": "at", "type": "DATETIME"}]),
        json!([{"name": "note", "type": "STRING"}]),
    );
    let rows = |schema: &TableSchema, row: Value| {
        ReaderBuilder::new(schema.to_arrow()).build(row.to_string().as_bytes()).unwrap().next().unwrap().unwrap()
    };
    let plan = prepare(&destination, &change(narrow.clone())).await;
    let old = json!({"id": 1, "who": {"a": 1}, "list": [{"a": 2}]});
    let before = stage_rows(&destination, "a", &plan.schema, vec![rows(&narrow, old.clone())]).await.unwrap();
    let late = stage_rows(&destination, "a", &plan.schema, vec![rows(&narrow, json!({"id": 3, "list": []}))]).await.unwrap();
    publish(&destination, 1, &[before]).await;
    let plan = prepare(&destination, &change(wide)).await;
    assert_eq!(
        plan.changes,
        [
            "add column who.at DATETIME",
            "add column list.at DATETIME",
            "add column note STRING",
            "raise the protocol of orders to 3/7 (timestampNtz)",
        ]
    );
    let new = json!({"id": 2, "who": {"a": 3, "at": "2024-05-01T06:00:00"}, "list": [{"a": 4, "at": "2024-05-01T06:00:01"}], "note": "x"});
    let after = stage_rows(&destination, "b", &plan.schema, vec![rows(&plan.schema, new.clone())]).await.unwrap();
    // What was staged before the columns came still fits.
    assert_eq!(publish(&destination, 2, &[late, after]).await, Published::Done("3".into()));
    let found = read(&warehouse.table(), "select * from t order by id").await;
    assert_eq!(found, [old, new, json!({"id": 3, "list": []})]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_by_text_day_and_derived_day_are_read_back() {
    for (column, partition, days) in [("name", "name", false), ("day", "day", false), ("at", "at_day", true)] {
        let warehouse = Warehouse::new();
        let destination = warehouse.open();
        let schema = TableSchema::new(vec![
            Field::new("id", Type::Int64),
            Field::new("name", Type::String),
            Field::new("day", Type::Date),
            Field::new("at", Type::Timestamp),
        ]);
        let mut wanted = change(schema.clone());
        wanted.options = TableOptions::by_day(column);
        let plan = prepare(&destination, &wanted).await;
        assert_eq!(plan.schema, schema, "a derived column is nobody's to fill");
        assert_eq!(plan.changes, ["create table orders (4 columns)".to_owned(), format!("partition orders by {partition}")]);
        let batch = RecordBatch::try_from_iter_with_nullable(vec![
            ("id", Arc::new(Int64Array::from(vec![1, 2, 3, 4])) as ArrayRef, true),
            ("name", Arc::new(StringArray::from(vec![Some("São / 100%"), Some("b=c"), None, Some("b=c")])) as ArrayRef, true),
            ("day", Arc::new(Date32Array::from(vec![Some(-1), Some(0), None, Some(0)])) as ArrayRef, true),
            (
                "at",
                Arc::new(
                    TimestampMicrosecondArray::from(vec![Some(-1), Some(0), None, Some(86_399_999_999)]).with_timezone("UTC"),
                ) as ArrayRef,
                true,
            ),
        ])
        .unwrap();
        let staged = [stage_rows(&destination, "a", &schema, vec![batch.clone(), batch.slice(1, 2)]).await.unwrap()];
        assert_eq!(staged[0].rows, 6);
        assert_eq!(warehouse.data_files().len(), 3, "one file a partition");
        assert!(matches!(publish(&destination, 1, &staged).await, Published::Done(_)));
        let rows = read(&warehouse.table(), "select id, name, day, at from t order by id").await;
        let mut expected: Vec<Value> = to_json(&batch).into_iter().chain(to_json(&batch.slice(1, 2))).collect();
        expected.sort_by_key(|row| row["id"].as_i64());
        assert_eq!(rows, expected, "by {column}");
        assert_eq!(load(&warehouse.table()).await.snapshot().unwrap().metadata().partition_columns(), &[partition]);
        if days {
            let found = read(&warehouse.table(), "select distinct at_day from t order by 1").await;
            assert_eq!(found, [json!({"at_day": "1969-12-31"}), json!({"at_day": "1970-01-01"}), json!({})]);
            let twin = TableSchema::new(vec![Field::new("At_Day", Type::Date)]);
            let error = destination.prepare(&change(twin), Mode::DryRun).await.unwrap_err();
            assert_eq!(error.code(), "delta_table_unsupported");
        }
        // Every file is named as it lies on disk: the sweep of its own attempt takes none of them.
        destination.sweep(&[longshore_core::commit::AttemptId("a".into())]).await.unwrap();
        assert_eq!(warehouse.data_files().len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_partitions_than_files_may_be_open_lose_no_row() {
    let warehouse = Warehouse::new();
    let destination = warehouse.open();
    let mut wanted = change(columns());
    wanted.options = TableOptions::by_day("id");
    prepare(&destination, &wanted).await;
    let ids: Vec<i64> = (0..150).chain(0..150).collect();
    let batches = ids.chunks(40).map(crate::bench::batch).collect();
    let staged = [stage_rows(&destination, "a", &columns(), batches).await.unwrap()];
    assert_eq!(staged[0].rows, 300);
    publish(&destination, 1, &staged).await;
    let found = read(&warehouse.table(), "select count(*) n, count(distinct id) d, sum(id) s from t").await;
    assert_eq!(found, [json!({"n": 300, "d": 150, "s": 2 * (149 * 150 / 2)})]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_a_table_is_refused_before_anything_is_made() {
    let warehouse = Warehouse::new();
    let destination = warehouse.open();
    let refused = async |wanted: TableSchema, partition_by: Option<&str>| {
        let mut change = change(wanted);
        change.options = partition_by.map(TableOptions::by_day).unwrap_or_default();
        destination.prepare(&change, Mode::Apply).await.unwrap_err().code()
    };
    let of = |name: &str, type_: Type| TableSchema::new(vec![Field::new("id", Type::Int64), Field::new(name, type_)]);
    assert_eq!(refused(of("a b", Type::String), None).await, "delta_name");
    assert_eq!(refused(of("s", Type::Struct(vec![Field::new("x=y", Type::Bool)])), None).await, "delta_name");
    assert_eq!(refused(of("f", Type::Float64), Some("f")).await, "delta_partition");
    assert_eq!(refused(of("f", Type::Float64), Some("g")).await, "delta_partition");
    assert_eq!(refused(TableSchema::new(vec![Field::new("a", Type::String)]), Some("a")).await, "delta_partition");
    for name in ["../x", "", ".hidden", "a/b", "a\nb"] {
        let mut change = change(columns());
        change.table = name.into();
        assert_eq!(destination.prepare(&change, Mode::Apply).await.unwrap_err().code(), "delta_name");
    }
    assert_eq!(std::fs::read_dir(warehouse.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descriptions_labels_and_the_key_stand_in_the_log() {
    let warehouse = Warehouse::new();
    let destination = warehouse.open();
    let id = ColumnOptions { description: Some("the number".into()), policy_tag: None };
    let mut wanted = change(columns());
    wanted.options = TableOptions {
        description: Some("All orders".into()),
        labels: [("team".to_owned(), "Sales & more".to_owned())].into(),
        key: vec!["id".into()],
        columns: [("ID".to_owned(), id)].into(),
        ..TableOptions::default()
    };
    let plan = prepare(&destination, &wanted).await;
    assert_eq!(plan.schema.fields[0].description.as_deref(), Some("the number"));
    let log = std::fs::read_to_string(warehouse.table().join("_delta_log/00000000000000000000.json")).unwrap();
    let metadata =
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).find(|line| line.get("metaData").is_some());
    let metadata = metadata.unwrap()["metaData"].clone();
    assert_eq!(metadata["description"], "All orders");
    assert_eq!(metadata["configuration"]["longshore.label.team"], "Sales & more");
    assert_eq!(metadata["configuration"]["longshore.key"], r#"["id"]"#);
    // Others read it, and a change of columns keeps it.
    let mut wider = columns();
    wider.fields.push(Field::new("late", Type::String));
    prepare(&destination, &change(wider)).await;
    let table = load(&warehouse.table()).await;
    let metadata = table.snapshot().unwrap().metadata().clone();
    assert_eq!(metadata.description(), Some("All orders"));
    assert_eq!(metadata.configuration().get("longshore.key").map(String::as_str), Some(r#"["id"]"#));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_bigquery_can_do_is_refused_by_its_name() {
    let warehouse = Warehouse::new();
    let destination = warehouse.open();
    let by = |by| Some(Partition { column: "id".into(), by });
    let none = TableOptions::default;
    let tagged = ColumnOptions { policy_tag: Some("t".into()), ..ColumnOptions::default() };
    let refused = [
        ("partition_unit", TableOptions { partition: by(PartitionBy::Month), ..none() }),
        ("partition_range", TableOptions { partition: by(PartitionBy::Range { start: 0, end: 9, interval: 1 }), ..none() }),
        ("partition_expiration_days", TableOptions { partition_expiration_days: Some(1), ..TableOptions::by_day("id") }),
        ("require_partition_filter", TableOptions { require_partition_filter: true, ..TableOptions::by_day("id") }),
        ("cluster_by", TableOptions { cluster_by: vec!["id".into()], ..none() }),
        ("expiration_days", TableOptions { expiration_days: Some(1), ..none() }),
        ("max_staleness", TableOptions { max_staleness: Some(1), ..none() }),
        ("policy_tag", TableOptions { columns: [("id".to_owned(), tagged)].into(), ..none() }),
        ("key", TableOptions { key: vec!["nothing".into()], ..none() }),
    ];
    for (name, options) in refused {
        let wanted = SchemaChange { options, ..change(columns()) };
        let error = destination.prepare(&wanted, Mode::Apply).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (longshore_core::error::Kind::Config, "delta_option"), "{name}");
        assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
    }
    assert!(!warehouse.table().exists());
}
