//! What the destination relies on in jobs.

use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray};
use longshore_bigquery::config::{BigQueryConfig, FileFormat, Method};
use longshore_core::commit::{AttemptId, Published, WriteDisposition};
use longshore_core::schema::{Field, TableSchema, Type};
use reqwest::Method as Verb;
use serde_json::{Value, json};

use super::Dataset;
use super::tables::Land;

/// 2024-01-31, in days.
const JANUARY_31: i32 = 19_753;

/// Runs a job under this id and waits for its end. What comes back is the status of the call and the job, or what was answered in its place.
async fn job(dataset: &Dataset, id: &str, configuration: &Value) -> (u16, Value) {
    let place = &dataset.cloud.location;
    let reference = json!({"projectId": dataset.cloud.project, "jobId": id, "location": place});
    let request = json!({"jobReference": reference, "configuration": configuration});
    let (status, mut job) = dataset.cloud.ask(Verb::POST, "/jobs", Some(&request)).await;
    while status == 200 && job["status"]["state"] != "DONE" {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        job = dataset.cloud.ask(Verb::GET, &format!("/jobs/{id}?location={place}"), None).await.1;
    }
    (status, job)
}

/// A job's id is used once: a second job of that id is refused, and the first one can be looked at.
pub async fn taken_id(dataset: &Dataset) {
    let sheet = &dataset.sheet;
    for (what, sql, fails) in [("a job that is done", "SELECT 1", false), ("a job that failed", "SELECT 1/0", true)] {
        let id = format!("{}_{fails}", dataset.name);
        let configuration = json!({"query": {"query": sql, "useLegacySql": false}, "labels": {"longshore": "check"}});
        let (status, first) = job(dataset, &id, &configuration).await;
        sheet.same(&format!("{what}: it is taken"), status, 200);
        sheet.same(&format!("{what}: it says so"), first["status"]["errorResult"].is_object(), fails);
        let (status, refused) = job(dataset, &id, &configuration).await;
        sheet.same(
            &format!("{what}: its id is refused"),
            (status, &refused["error"]["errors"][0]["reason"]),
            (409, &json!("duplicate")),
        );
        let path = format!("/jobs/{id}?location={}", dataset.cloud.location);
        let (status, looked) = dataset.cloud.ask(Verb::GET, &path, None).await;
        sheet.same(&format!("{what}: it is found by its id"), (status, &looked["status"]["state"]), (200, &json!("DONE")));
        sheet.same(&format!("{what}: its end is told again"), looked["status"]["errorResult"].is_object(), fails);
    }
}

/// A load job that refuses a row: its files are read back, a stream finds the row, the others land.
pub async fn bad_row(dataset: &Dataset) {
    if !dataset.has_bucket() {
        return;
    }
    for (format, table) in [(FileFormat::Json, "of_json"), (FileFormat::Parquet, "of_parquet")] {
        bad_row_in(dataset, format, table).await;
    }
}

async fn bad_row_in(dataset: &Dataset, format: FileFormat, table: &'static str) {
    let (sheet, kind) = (&dataset.sheet, format!("{format:?}"));
    let columns = json!([{"name": "id", "type": "INT64"}, {"name": "s", "type": "STRING", "mode": "REQUIRED"}]);
    dataset.make_table(table, columns, json!({})).await;
    let worker = dataset.open_as(&BigQueryConfig { format, ..dataset.config(Method::LoadJob) });
    let schema = TableSchema::new(vec![Field::new("id", Type::Int64), Field::new("s", Type::String)]);
    let land = Land { worker, table, schema };
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(vec![1, 2, 3])), Arc::new(StringArray::from(vec![Some("a"), None, Some("c")]))];
    let rows = RecordBatch::try_new(land.schema.to_arrow(), columns).unwrap();
    let staged = land.stage("a", rows, WriteDisposition::Append).await.unwrap().committable;
    let refused = match land.try_publish(1, 0, &staged).await {
        Ok(Published::Refused(refused)) => refused,
        other => return sheet.holds(&format!("{kind}: the job refuses its rows"), false, &format!("{other:?}")),
    };
    sheet.told(&format!("{kind}: the job refuses its rows"), &refused.reason);
    sheet.same(&format!("{kind}: none of them shows"), dataset.numbers(table, "id").await, vec![]);
    let again = land.worker.restage(&AttemptId("b".into()), table, &land.schema, &[staged], &refused).await.unwrap();
    let out: Vec<_> = again.refused.iter().map(|refused| (refused.row, refused.values.clone())).collect();
    sheet.same(&format!("{kind}: a stream finds the row"), out, vec![(1, json!({"id": 2}))]);
    let published = land.try_publish(1, 1, &again.committable).await;
    sheet.holds(
        &format!("{kind}: the others are published"),
        matches!(published, Ok(Published::Done(_))),
        &format!("{published:?}"),
    );
    sheet.same(&format!("{kind}: they are there once"), dataset.numbers(table, "id").await, vec![1, 3]);
}

/// `table$20240131` names one partition of a table: a job replaces that one and leaves the others.
pub async fn partitions(dataset: &Dataset) {
    let sheet = &dataset.sheet;
    let columns = json!([{"name": "id", "type": "INT64"}, {"name": "day", "type": "DATE"}]);
    dataset.make_table("orders", columns, json!({"timePartitioning": {"type": "DAY", "field": "day"}})).await;
    let rows = "(SELECT 1 AS id, DATE '2024-01-30' AS day UNION ALL SELECT 2, DATE '2024-01-31')";
    dataset
        .query(&format!("INSERT INTO {} (id, day) SELECT id, day FROM {rows} AS t", dataset.sql_name("orders")))
        .await
        .unwrap();
    let into = |partition: &str, sql: &str| {
        let table =
            json!({"projectId": dataset.cloud.project, "datasetId": dataset.name, "tableId": format!("orders${partition}")});
        json!({"query": {"query": sql, "useLegacySql": false, "destinationTable": table, "writeDisposition": "WRITE_TRUNCATE"}})
    };
    let fits = into("20240131", "SELECT 3 AS id, DATE '2024-01-31' AS day");
    let (status, done) = job(dataset, &format!("{}_fits", dataset.name), &fits).await;
    sheet.same("a job replaces one partition", (status, &done["status"]["errorResult"]), (200, &Value::Null));
    sheet.same("the others stay", dataset.numbers("orders", "id").await, vec![1, 3]);
    let strays = into("20240131", "SELECT 4 AS id, DATE '2024-02-01' AS day");
    let (_, refused) = job(dataset, &format!("{}_strays", dataset.name), &strays).await;
    let words = refused["status"]["errorResult"]["message"].as_str().or(refused["error"]["message"].as_str());
    sheet.holds("a row of another partition is refused", words.is_some(), "it is taken");
    sheet.told("in BigQuery's words", words.unwrap_or_default());
    sheet.same("then nothing changes", dataset.numbers("orders", "id").await, vec![1, 3]);
    if dataset.has_bucket() {
        load_partition(dataset).await;
    }
    let path = format!("/datasets/{}/tables/orders$20240131/insertAll", dataset.name);
    let rows = json!({"rows": [{"json": {"id": 5, "day": "2024-01-31"}}]});
    let (status, answer) = dataset.cloud.ask(Verb::POST, &path, Some(&rows)).await;
    sheet.told("insertAll into one partition", &format!("{status}: {}", answer["insertErrors"]));
}

/// The destination replaces the rows of a partition by a load job of its own.
async fn load_partition(dataset: &Dataset) {
    let schema = TableSchema::new(vec![Field::new("id", Type::Int64), Field::new("day", Type::Date)]);
    let land = Land { worker: dataset.open(Method::LoadJob), table: "orders$20240131", schema };
    let days = Arc::new(Date32Array::from(vec![JANUARY_31]));
    let rows = RecordBatch::try_new(land.schema.to_arrow(), vec![Arc::new(Int64Array::from(vec![6])), days]).unwrap();
    let published = land.land(1, rows, WriteDisposition::Truncate).await;
    let done = matches!(published, Ok(Published::Done(_)));
    dataset.sheet.holds("a load job replaces one partition", done, &format!("{published:?}"));
    dataset.sheet.same("the others stay then, too", dataset.numbers("orders", "id").await, vec![1, 6]);
}
