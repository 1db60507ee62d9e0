//! Every type at its bounds, by every way that rows take.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use futures::TryStreamExt;
use longshore_bigquery::config::{BigQueryConfig, FileFormat, Method};
use longshore_bigquery::query::{Reader, objects};
use longshore_core::batch::Rows;
use longshore_core::commit::WriteDisposition;
use longshore_core::schema::TableSchema;
use reqwest::Method as Verb;
use serde_json::{Map, Value, json};

use super::Dataset;
use super::tables::Land;
use crate::samples::{as_inserted, every_type_columns as columns, every_type_rows as rows, keyed, upserts};

/// What BigQuery tells of a table, by Longshore's own reader.
async fn read(dataset: &Dataset, table: &str, narrow: bool) -> Result<(RecordBatch, Vec<Value>), String> {
    let words = |error: longshore_core::error::Error| error.to_string();
    let names: Vec<String> =
        columns(narrow).as_array().unwrap().iter().map(|field| field["name"].as_str().unwrap().to_owned()).collect();
    let sql = format!("SELECT {} FROM {} ORDER BY id", names.join(", "), dataset.sql_name(table));
    let reader = Reader::open(&dataset.config(Method::Auto)).map_err(words)?;
    let answer = reader.query(&sql).await.map_err(words)?;
    let schema = answer.schema.clone();
    let batches: Vec<RecordBatch> = answer.stream.try_collect().await.map_err(words)?;
    let rows = concat_batches(&schema, &batches).unwrap();
    let shown = objects(reader.query(&sql).await.map_err(words)?).await.map_err(words)?;
    Ok((rows, shown.into_iter().map(|row| Value::Object(without_nulls(row))).collect()))
}

fn without_nulls(row: Map<String, Value>) -> Map<String, Value> {
    // An ARRAY is never null.
    let empty = |(name, value): &(String, Value)| value.is_null() || (name != "j" && *value == json!([]));
    row.into_iter().filter(|cell| !empty(cell)).collect()
}

/// Inserts rows as JSON, reads them back, and sends what was read by every other way.
pub async fn bounds(dataset: &Dataset) {
    let sheet = &dataset.sheet;
    dataset.make_table("source", columns(false), json!({})).await;
    let sent: Vec<Value> = rows().iter().map(|row| json!({"json": as_inserted(row)})).collect();
    insert(dataset, &json!({"rows": sent, "skipInvalidRows": true})).await;
    let (batch, shown) = read(dataset, "source", false).await.unwrap();
    for (row, found) in rows().iter().zip(&shown) {
        let expected = Value::Object(without_nulls(row.as_object().unwrap().clone()));
        differing(dataset, "insertAll and back", found, &expected);
    }
    sheet.same("all rows are read back", shown.len(), rows().len());
    let (narrow, narrow_shown) = read(dataset, "source", true).await.unwrap();
    for (what, table, method, format) in [
        ("a pending stream", "pending", Method::StorageWritePending, FileFormat::Auto),
        ("the default stream", "at_once", Method::StorageWriteDefault, FileFormat::Auto),
        ("insertAll", "inserted", Method::InsertAll, FileFormat::Auto),
        ("a load job of JSON lines", "as_json", Method::LoadJob, FileFormat::Json),
        ("a load job of Parquet", "as_parquet", Method::LoadJob, FileFormat::Parquet),
        ("a load job of Avro", "as_avro", Method::LoadJob, FileFormat::Avro),
    ] {
        if method == Method::LoadJob && !dataset.has_bucket() {
            continue;
        }
        if format == FileFormat::Avro && !dataset.cloud.is_google() {
            dataset.sheet.left_out(what, "our own server does not read Avro");
            continue;
        }
        let is_narrow = matches!(format, FileFormat::Parquet | FileFormat::Avro);
        dataset.make_table(table, columns(is_narrow), json!({})).await;
        let worker = dataset.open_as(&BigQueryConfig { format, ..dataset.config(method) });
        let land = Land { worker, table, schema: TableSchema::from_json(&columns(is_narrow)).unwrap() };
        let (rows, expected) = if is_narrow { (&narrow, &narrow_shown) } else { (&batch, &shown) };
        landed(dataset, what, &land, Rows::Plain(rows.clone()), expected, is_narrow).await;
    }
    dataset.make_table("changed", columns(false), keyed()).await;
    let worker = dataset.open(Method::StorageWrite);
    let land = Land { worker, table: "changed", schema: TableSchema::from_json(&columns(false)).unwrap() };
    landed(dataset, "change rows", &land, upserts(batch), &shown, false).await;
}

/// Tells the values of a row that differ; how many.
fn differing(dataset: &Dataset, what: &str, found: &Value, expected: &Value) -> usize {
    let names = columns(false);
    let names = names.as_array().unwrap().iter().filter_map(|field| field["name"].as_str());
    let differing: Vec<&str> = names.filter(|name| found[name] != expected[name]).collect();
    for name in &differing {
        dataset.sheet.same(&format!("{what}: {name} of row {}", expected["id"]), &found[name], &expected[name]);
    }
    differing.len()
}

/// A table that was just made may not be known yet where rows are inserted.
async fn insert(dataset: &Dataset, request: &Value) {
    let path = format!("/datasets/{}/tables/source/insertAll", dataset.name);
    for _ in 0..60 {
        let (status, answer) = dataset.cloud.ask(Verb::POST, &path, Some(request)).await;
        if status == 200 {
            return dataset.sheet.same("insertAll takes every row", &answer["insertErrors"], &Value::Null);
        }
        assert_eq!(status, 404, "{answer}");
        dataset.sheet.told("a new table is not known to insertAll", &answer["error"]["message"].to_string());
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    }
    panic!("a table that was made is not found by insertAll");
}

async fn landed(dataset: &Dataset, what: &str, land: &Land, rows: Rows, expected: &[Value], narrow: bool) {
    let staged = match land.stage_rows("a", rows, WriteDisposition::Append).await {
        Ok(staged) => staged,
        Err(error) => return dataset.sheet.holds(&format!("{what}: rows are staged"), false, &format!("{error:?}")),
    };
    let refused: Vec<_> = staged.refused.iter().map(|refused| (refused.row, &refused.reason)).collect();
    dataset.sheet.same(&format!("{what}: no row is refused"), refused, vec![]);
    let published = land.try_publish(1, 0, &staged.committable).await;
    let done = matches!(published, Ok(longshore_core::commit::Published::Done(_)));
    dataset.sheet.holds(&format!("{what}: rows are published"), done, &format!("{published:?}"));
    match read(dataset, land.table, narrow).await {
        Ok((_, found)) => {
            dataset.sheet.same(&format!("{what}: rows that landed"), found.len(), expected.len());
            let differ =
                found.iter().zip(expected).map(|(found, expected)| differing(dataset, what, found, expected)).sum::<usize>();
            dataset.sheet.same(&format!("{what}: values that differ"), differ, 0);
        }
        Err(words) => dataset.sheet.holds(&format!("{what}: rows are read back"), false, &words),
    }
}
