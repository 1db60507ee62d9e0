//! Tables that other programs write too, or made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray};
use async_trait::async_trait;
use futures::StreamExt;
use longshore_core::Result;
use longshore_core::commit::{AttemptId, Published, WriteDisposition};
use longshore_core::destination::{Destination, Fence, Mode};
use longshore_core::error::Retry;
use longshore_core::schema::{Field, TableSchema, Type};
use serde_json::{Value, json};

use crate::bench::{TABLE, Warehouse, change, columns, load, mark, prepare, publish, publish_through, read, stage, stage_rows};

/// Another program, which writes into the log right before we do.
struct Intruder<'a> {
    warehouse: &'a Warehouse,
    version: AtomicU64,
    lines: Vec<Vec<Value>>,
}

#[async_trait]
impl Fence for Intruder<'_> {
    async fn check(&self) -> Result<()> {
        let version = self.version.fetch_add(1, Ordering::SeqCst);
        let first = self.warehouse.log_entry(version).exists();
        if let Some(lines) = self.lines.get(usize::try_from(version).unwrap() - 2).filter(|_| !first) {
            self.warehouse.write_entry(version, lines);
        }
        Ok(())
    }
}

fn txn(app: &str) -> Vec<Value> {
    vec![json!({"commitInfo": {"operation": "WRITE"}}), json!({"txn": {"appId": app, "version": 3}})]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_taken_between_reading_and_writing_is_read_and_passed() {
    let warehouse = Warehouse::new();
    let destination = warehouse.open();
    prepare(&destination, &change(columns())).await;
    let first = [stage(&destination, "a", &[1]).await.unwrap()];
    publish(&destination, 1, &first).await;
    let second = [stage(&destination, "b", &[2]).await.unwrap()];
    let intruder = Intruder { warehouse: &warehouse, version: AtomicU64::new(2), lines: vec![txn("spark-1"), txn("spark-2")] };
    let published = publish_through(&destination, 2, &second, &intruder).await.unwrap();
    assert_eq!(published, Published::Done("4".into()), "two versions were taken before ours");
    assert_eq!(warehouse.ids().await, [1, 2]);
    assert_eq!(mark(&warehouse.open()).await, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_come_between_are_replaced_too() {
    let warehouse = Warehouse::new();
    let destination = warehouse.open();
    prepare(&destination, &change(columns())).await;
    let first = [stage(&destination, "a", &[1]).await.unwrap()];
    publish(&destination, 1, &first).await;
    let mut add = warehouse.actions(1, "add")[0].clone();
    std::fs::copy(warehouse.table().join(add["path"].as_str().unwrap()), warehouse.table().join("foreign file.parquet")).unwrap();
    add["path"] = json!("foreign%20file.parquet");
    let rows = futures::stream::iter([Ok(longshore_core::batch::Rows::Plain(crate::bench::batch(&[7])))]).boxed();
    let attempt = AttemptId("t".into());
    let staged = [destination.stage(&attempt, TABLE, &columns(), WriteDisposition::Truncate, rows).await.unwrap().committable];
    let intruder = Intruder { warehouse: &warehouse, version: AtomicU64::new(2), lines: vec![vec![json!({"add": add})]] };
    assert_eq!(publish_through(&destination, 2, &staged, &intruder).await.unwrap(), Published::Done("3".into()));
    assert_eq!(warehouse.actions(3, "remove").len(), 2);
    assert_eq!(warehouse.ids().await, [7]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_made_anew_under_a_worker_that_knows_the_old_one_is_another_table() {
    let warehouse = Warehouse::new();
    let destination = warehouse.open();
    prepare(&destination, &change(columns())).await;
    let staged = [stage(&destination, "a", &[1]).await.unwrap()];
    publish(&destination, 5, &staged).await;
    let late = [stage(&destination, "b", &[2]).await.unwrap()];
    std::fs::remove_dir_all(warehouse.table()).unwrap();
    assert!(!prepare(&destination, &change(columns())).await.existed);
    assert_eq!(mark(&destination).await, None);
    assert!(matches!(publish(&destination, 6, &late).await, Published::Parked(why) if why.contains("made anew")));
    std::fs::remove_file(warehouse.log_entry(0)).unwrap();
    assert_eq!(mark(&destination).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staged_files_that_are_missing_or_cut_short_park_the_table() {
    let warehouse = Warehouse::new();
    let destination = warehouse.open();
    prepare(&destination, &change(columns())).await;
    let staged = [stage(&destination, "a", &[1]).await.unwrap()];
    let file = warehouse.data_files().remove(0);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    assert!(matches!(publish(&destination, 1, &staged).await, Published::Parked(why) if why.contains("missing or damaged")));
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(publish(&destination, 1, &staged).await, Published::Parked(_)));
    std::fs::write(&file, &bytes).unwrap();
    assert!(matches!(publish(&destination, 1, &staged).await, Published::Done(_)));
}

/// A table with narrow types, as another program makes it.
fn narrow_table(warehouse: &Warehouse) {
    let field = |name: &str, type_: &str| json!({"name": name, "type": type_, "nullable": true, "metadata": {"note": 7}});
    let map = json!({"type": "map", "keyType": "string", "valueType": "long", "valueContainsNull": true});
    let fields = json!([
        field("I", "integer"),
        field("s", "short"),
        field("f", "float"),
        field("d", "decimal(10,2)"),
        field("wide", "decimal(38,18)"),
        {"name": "m", "type": map, "nullable": true, "metadata": {}},
    ]);
    let schema = json!({"type": "struct", "fields": fields}).to_string();
    let metadata = json!({"id": "foreign", "format": {"provider": "parquet", "options": {}}, "schemaString": schema,
        "partitionColumns": [], "configuration": {}, "createdTime": 1});
    warehouse
        .write_entry(0, &[json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}), json!({"metaData": metadata})]);
}

fn narrow_rows(i: i64, f: f64) -> RecordBatch {
    let numeric = |v: i128| Arc::new(Decimal128Array::from(vec![v]).with_precision_and_scale(38, 9).unwrap()) as ArrayRef;
    RecordBatch::try_from_iter_with_nullable(vec![
        ("I", Arc::new(Int64Array::from(vec![i])) as ArrayRef, true),
        ("s", Arc::new(Int64Array::from(vec![-5])) as ArrayRef, true),
        ("f", Arc::new(Float64Array::from(vec![f])) as ArrayRef, true),
        ("d", numeric(12_340_000_000), true),
        ("wide", Arc::new(StringArray::from(vec!["0.000000000000000001"])) as ArrayRef, true),
    ])
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_with_narrow_types_takes_what_fits_exactly() {
    let warehouse = Warehouse::new();
    narrow_table(&warehouse);
    let destination = warehouse.open();
    let wanted = TableSchema::new(vec![Field::new("i", Type::Int64), Field::new("added", Type::String)]);
    let plan = prepare(&destination, &change(wanted)).await;
    let types: Vec<(&str, &str)> = plan.schema.fields.iter().map(|f| (f.name.as_str(), f.type_.name())).collect();
    let expected =
        [("I", "INT64"), ("s", "INT64"), ("f", "FLOAT64"), ("d", "NUMERIC"), ("wide", "BIGNUMERIC"), ("added", "STRING")];
    assert_eq!(types, expected, "the map is nobody's to fill");
    // What the other program wrote about its columns is still there.
    let schema: Value = serde_json::from_str(warehouse.actions(1, "metaData")[0]["schemaString"].as_str().unwrap()).unwrap();
    assert_eq!(schema["fields"][0]["metadata"]["note"], 7);
    assert_eq!(warehouse.actions(1, "metaData")[0]["id"], "foreign");
    let fitting = TableSchema::new(plan.schema.fields[..5].to_vec());
    let staged = [stage_rows(&destination, "a", &fitting, vec![narrow_rows(i64::from(i32::MAX), 0.5)]).await.unwrap()];
    assert!(matches!(publish(&destination, 1, &staged).await, Published::Done(_)));
    let rows = read(&warehouse.table(), "select \"I\", s, f, cast(d as varchar) d, cast(wide as varchar) w from t").await;
    assert_eq!(rows, [json!({"I": i32::MAX, "s": -5, "f": 0.5, "d": "12.34", "w": "0.000000000000000001"})]);
    for (i, f) in [(1 << 31, 0.5), (1, 0.1)] {
        let error = stage_rows(&destination, "b", &fitting, vec![narrow_rows(i, f)]).await.unwrap_err();
        assert_eq!((error.code(), error.retry()), ("delta_value_does_not_fit", Retry::AfterFix));
    }
    assert_eq!(warehouse.data_files().len(), 1);
    let map = change(TableSchema::new(vec![Field::new("M", Type::Json)]));
    assert_eq!(destination.prepare(&map, Mode::DryRun).await.unwrap_err().code(), "delta_table_unsupported");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_the_library_is_appended_to_and_replaced() {
    let warehouse = Warehouse::new();
    let table = warehouse.table();
    std::fs::create_dir_all(&table).unwrap();
    let url = url::Url::from_directory_path(&table).unwrap();
    let made = deltalake::DeltaTableBuilder::from_url(url).unwrap().build().unwrap();
    made.write(vec![crate::bench::batch(&[1, 2])]).await.unwrap();
    let destination = warehouse.open();
    let plan = prepare(&destination, &change(columns())).await;
    assert_eq!((plan.schema, plan.existed, plan.changes.len()), (columns(), true, 0));
    let staged = [stage(&destination, "a", &[3]).await.unwrap()];
    assert_eq!(publish(&destination, 1, &staged).await, Published::Done("1".into()));
    // The library goes on with what we wrote.
    load(&table).await.write(vec![crate::bench::batch(&[4])]).await.unwrap();
    assert_eq!(warehouse.ids().await, [1, 2, 3, 4]);
    assert_eq!(mark(&destination).await, Some(1));
    let rows = futures::stream::iter([Ok(longshore_core::batch::Rows::Plain(crate::bench::batch(&[9])))]).boxed();
    let attempt = AttemptId("t".into());
    let staged = [destination.stage(&attempt, TABLE, &columns(), WriteDisposition::Truncate, rows).await.unwrap().committable];
    publish(&destination, 2, &staged).await;
    assert_eq!(warehouse.ids().await, [9]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_we_could_damage_is_refused_by_name() {
    let features = |reader: &[&str], writer: &[&str]| json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": reader, "writerFeatures": writer});
    let plain = json!({"minReaderVersion": 1, "minWriterVersion": 2});
    let none = json!({});
    let cases = [
        (
            features(&["columnMapping"], &["columnMapping"]),
            json!({"delta.columnMapping.mode": "name"}),
            none.clone(),
            "columnMapping",
        ),
        (features(&[], &["rowTracking", "domainMetadata"]), none.clone(), none.clone(), "rowTracking"),
        (features(&["v2Checkpoint"], &["v2Checkpoint"]), none.clone(), none.clone(), "v2Checkpoint"),
        (json!({"minReaderVersion": 4, "minWriterVersion": 8}), none.clone(), none.clone(), "protocol 4/8"),
        (
            plain.clone(),
            json!({"delta.setTransactionRetentionDuration": "interval 7 days"}),
            none.clone(),
            "setTransactionRetention",
        ),
        (plain.clone(), json!({"delta.constraints.positive": "id > 0"}), none.clone(), "delta.constraints.positive"),
        (plain.clone(), none.clone(), json!({"delta.generationExpression": "1"}), "delta.generationExpression"),
        (plain.clone(), none.clone(), json!({"delta.invariants": "{}"}), "delta.invariants"),
    ];
    for (protocol, configuration, column, words) in cases {
        let warehouse = Warehouse::new();
        let fields = json!([{"name": "id", "type": "long", "nullable": true, "metadata": column}]);
        let metadata = json!({"id": "x", "schemaString": json!({"type": "struct", "fields": fields}).to_string(),
            "format": {"provider": "parquet", "options": {}}, "partitionColumns": [], "configuration": configuration});
        warehouse.write_entry(0, &[json!({"protocol": protocol}), json!({"metaData": metadata})]);
        let error = warehouse.open().prepare(&change(columns()), Mode::DryRun).await.unwrap_err();
        assert_eq!((error.code(), error.retry()), ("delta_table_unsupported", Retry::AfterFix));
        assert!(error.message().contains(words), "{error} should name {words}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_takes_appends_only_is_not_replaced() {
    let warehouse = Warehouse::new();
    let fields = json!([{"name": "id", "type": "long", "nullable": true, "metadata": {}}]);
    let metadata = json!({"id": "x", "schemaString": json!({"type": "struct", "fields": fields}).to_string(),
        "format": {"provider": "parquet", "options": {}}, "partitionColumns": [], "configuration": {"delta.appendOnly": "true"}});
    let protocol = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}});
    warehouse.write_entry(0, &[protocol, json!({"metaData": metadata})]);
    let destination = warehouse.open();
    let mut wanted = change(TableSchema::new(vec![Field::new("id", Type::Int64)]));
    prepare(&destination, &wanted).await;
    wanted.disposition = WriteDisposition::Truncate;
    let error = destination.prepare(&wanted, Mode::Apply).await.unwrap_err();
    assert!(error.message().contains("delta.appendOnly"), "{error}");
}
