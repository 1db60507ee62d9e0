//! Jobs: loads, copies, and jobs that fail, hang or come twice.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, ListArray, RecordBatch};
use arrow::datatypes::Int64Type;
use longshore_fakes::bigquery::{FakeBigQuery, Fault, Rule};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use crate::client::*;

fn load(id: &str, more: Value) -> Value {
    let mut load = json!({
        "sourceUris": ["gs://b/in/*.json"], "sourceFormat": "NEWLINE_DELIMITED_JSON",
        "destinationTable": {"projectId": "p", "datasetId": "d", "tableId": "t"},
    });
    load.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"jobReference": {"projectId": "p", "jobId": id, "location": "US"}, "configuration": {"load": load}})
}

async fn insert(fake: &FakeBigQuery, body: Value) -> Value {
    let (status, job) = post(fake, "projects/p/jobs", body).await;
    assert_eq!(status, 200, "{job}");
    job
}

fn failed(job: &Value) -> &str {
    job["status"]["errorResult"]["reason"].as_str().unwrap_or("")
}

#[tokio::test]
async fn a_job_of_the_same_id_runs_once() {
    let fake = fake().await;
    table(&fake, json!([{"name": "n", "type": "INT64"}]));
    fake.put_object("b", "in/1.json", "{\"n\": 1}\n\n{\"n\": \"2\"}\n");
    fake.put_object("b", "in/2.json", "{\"n\": 3}");
    fake.put_object("b", "in/other.csv", "x");
    fake.arm(Rule::on("jobs.insert", Fault::LoseAnswer).about("load one"));
    let url = format!("{}/bigquery/v2/projects/p/jobs", fake.rest());
    assert!(reqwest::Client::new().post(url).json(&load("one", json!({}))).send().await.is_err());
    let again = post(&fake, "projects/p/jobs", load("one", json!({}))).await;
    assert_eq!((again.0, reason(&again)), (409, "duplicate"));
    let (_, job) = get(&fake, "projects/p/jobs/one?location=US").await;
    assert_eq!(job["status"], json!({"state": "DONE"}));
    assert_eq!((&job["statistics"]["load"]["outputRows"], &job["statistics"]["load"]["inputFiles"]), (&json!("3"), &json!("2")));
    assert_eq!(seen(&fake), [1, 2, 3]);
    assert_eq!(get(&fake, "projects/p/jobs/none").await.0, 404);
    assert_eq!(get(&fake, "projects/p/jobs/one?location=EU").await.0, 404);
    assert_eq!(get(&fake, "projects/p/jobs").await.1["jobs"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn dispositions_decide_what_stays() {
    let fake = fake().await;
    fake.put_object("b", "in/1.json", "{\"n\": 1}");
    let never = insert(&fake, load("0", json!({"createDisposition": "CREATE_NEVER"}))).await;
    assert_eq!(failed(&never), "notFound");
    let schema = json!({"fields": [{"name": "n", "type": "INTEGER"}]});
    let made = json!({"schema": schema, "clustering": {"fields": ["n"]}});
    assert_eq!(failed(&insert(&fake, load("1", made)).await), "");
    assert_eq!(fake.table("d", "t").unwrap()["clustering"], json!({"fields": ["n"]}));
    insert(&fake, load("2", json!({"writeDisposition": "WRITE_APPEND"}))).await;
    assert_eq!(seen(&fake), [1, 1]);
    assert_eq!(failed(&insert(&fake, load("3", json!({"writeDisposition": "WRITE_EMPTY"}))).await), "duplicate");
    insert(&fake, load("4", json!({"writeDisposition": "WRITE_TRUNCATE"}))).await;
    assert_eq!(seen(&fake), [1]);
    let gone = insert(&fake, load("5", json!({"sourceUris": ["gs://b/none"]}))).await;
    assert_eq!(failed(&gone), "notFound");
    let elsewhere = json!({"destinationTable": {"projectId": "p", "datasetId": "none", "tableId": "t"}});
    assert_eq!(post(&fake, "projects/p/jobs", load("6", elsewhere)).await.0, 404);
}

#[tokio::test]
async fn bad_rows_fail_a_load_unless_they_are_allowed() {
    let fake = fake().await;
    table(&fake, json!([{"name": "n", "type": "INT64", "mode": "REQUIRED"}]));
    fake.put_object("b", "in/1.json", "{\"n\": 1}\n{\"n\": \"x\"}\n{oops\n{}\n{\"n\": 2, \"more\": 1}\n");
    let job = insert(&fake, load("1", json!({}))).await;
    assert_eq!(failed(&job), "invalid");
    assert_eq!(job["status"]["errorResult"]["location"], "gs://b/in/1.json");
    assert_eq!(job["status"]["errors"].as_array().unwrap().len(), 5);
    assert!(seen(&fake).is_empty());
    let job = insert(&fake, load("2", json!({"maxBadRecords": 4}))).await;
    assert_eq!(job["statistics"]["load"]["badRecords"], "4");
    let job = insert(&fake, load("3", json!({"maxBadRecords": 3, "ignoreUnknownValues": true}))).await;
    assert_eq!(job["statistics"]["load"]["outputRows"], "2");
    assert_eq!(seen(&fake), [1, 1, 2]);
}

#[tokio::test]
async fn a_partition_is_replaced_alone() {
    let fake = fake().await;
    let fields = schema(json!([{"name": "n", "type": "INT64"}, {"name": "at", "type": "TIMESTAMP"}]));
    fake.create_table("d", "t", &fields, json!({"timePartitioning": {"type": "DAY", "field": "at"}}));
    fake.put_object(
        "b",
        "in/1.json",
        "{\"n\": 1, \"at\": \"2024-01-01T05:00:00Z\"}\n{\"n\": 2, \"at\": \"2024-01-02T05:00:00Z\"}",
    );
    insert(&fake, load("1", json!({}))).await;
    fake.put_object("b", "in/1.json", "{\"n\": 3, \"at\": \"2024-01-02T06:00:00Z\"}");
    let to = |day: &str| {
        let table = json!({"projectId": "p", "datasetId": "d", "tableId": format!("t${day}")});
        json!({"writeDisposition": "WRITE_TRUNCATE", "destinationTable": table})
    };
    assert_eq!(failed(&insert(&fake, load("2", to("20240103"))).await), "invalid");
    assert_eq!(failed(&insert(&fake, load("3", to("20240102"))).await), "");
    assert_eq!(seen(&fake), [1, 3]);

    fake.drop_table("d", "t");
    fake.create_table("d", "t", &schema(json!([{"name": "n", "type": "INT64"}])), json!({"timePartitioning": {"type": "DAY"}}));
    fake.put_object("b", "in/1.json", "{\"n\": 1}");
    for (id, day) in [("4", "20240101"), ("5", "20240102"), ("6", "20240101")] {
        insert(&fake, load(id, to(day))).await;
    }
    assert_eq!(seen(&fake), [1, 1]);
}

fn parquet(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[tokio::test]
async fn parquet_files_bring_their_schema() {
    let fake = fake().await;
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let money: ArrayRef = Arc::new(Decimal128Array::from(vec![150, 250]).with_precision_and_scale(10, 2).unwrap());
    fake.put_object("b", "p/1.parquet", parquet(vec![("n", numbers.clone())]));
    let from = |uri: &str, more: Value| {
        let mut all = json!({"sourceUris": [uri], "sourceFormat": "PARQUET"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    assert_eq!(failed(&insert(&fake, load("1", from("gs://b/p/1.parquet", json!({})))).await), "");
    fake.put_object("b", "p/2.parquet", parquet(vec![("n", numbers.clone()), ("m", money)]));
    assert_eq!(failed(&insert(&fake, load("2", from("gs://b/p/2.parquet", json!({})))).await), "invalid");
    let add = from("gs://b/p/2.parquet", json!({"schemaUpdateOptions": ["ALLOW_FIELD_ADDITION"]}));
    assert_eq!(failed(&insert(&fake, load("3", add)).await), "");
    assert_eq!(fake.rows("d", "t")[3], json!({"n": 2, "m": "2.5"}));
    let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1)])]));
    fake.put_object("b", "p/3.parquet", parquet(vec![("l", list)]));
    let other = json!({"destinationTable": {"projectId": "p", "datasetId": "d", "tableId": "l"}});
    let lists = from("gs://b/p/3.parquet", other.clone());
    assert_eq!(failed(&insert(&fake, load("4", lists.clone())).await), "invalid");
    let mut inferred = lists;
    inferred["parquetOptions"] = json!({"enableListInference": true});
    assert_eq!(failed(&insert(&fake, load("5", inferred)).await), "");
    assert_eq!(fake.rows("d", "l"), [json!({"l": [1]})]);
    fake.put_object("b", "p/4.parquet", "not parquet");
    let broken = insert(&fake, load("6", from("gs://b/p/4.parquet", json!({})))).await;
    assert_eq!(broken["status"]["errorResult"]["location"], "gs://b/p/4.parquet");
}

#[tokio::test]
async fn jobs_fail_hang_and_refuse_rows_on_command() {
    let fake = fake().await;
    table(&fake, json!([{"name": "n", "type": "INT64"}]));
    fake.put_object("b", "in/1.json", "{\"n\": 1}\n{\"n\": 2}");
    fake.arm(Rule::on("jobs.insert", Fault::job_fails("backendError", "again")));
    assert_eq!(failed(&insert(&fake, load("1", json!({}))).await), "backendError");
    fake.arm(Rule::on("jobs.insert", Fault::JobRefusesRows(vec![1])));
    assert_eq!(failed(&insert(&fake, load("2", json!({}))).await), "invalid");
    fake.arm(Rule::on("jobs.insert", Fault::JobStaysRunning).times(2));
    assert_eq!(insert(&fake, load("3", json!({}))).await["status"]["state"], "RUNNING");
    insert(&fake, load("4", json!({}))).await;
    assert!(seen(&fake).is_empty());
    let (_, cancelled) = post(&fake, "projects/p/jobs/4/cancel?location=US", json!({})).await;
    assert_eq!(failed(&cancelled["job"]), "stopped");
    fake.release_jobs().await;
    assert_eq!(get(&fake, "projects/p/jobs/3").await.1["status"]["state"], "DONE");
    assert_eq!(seen(&fake), [1, 2]);
    fake.arm(Rule::on("jobs.query", Fault::JobStaysRunning));
    let (_, answer) = post(&fake, "projects/p/queries", json!({"query": "SELECT n FROM d.t"})).await;
    assert_eq!(answer["jobComplete"], false);
    fake.release_jobs().await;
    let path = format!("projects/p/queries/{}", answer["jobReference"]["jobId"].as_str().unwrap());
    assert_eq!(get(&fake, &path).await.1["totalRows"], "2");
    assert_eq!(fake.jobs().len(), 5);
}

#[tokio::test]
async fn copies_and_queries_write_tables() {
    let fake = fake().await;
    table(&fake, json!([{"name": "n", "type": "INT64"}]));
    post(&fake, "projects/p/datasets/d/tables/t/insertAll", json!({"rows": [{"json": {"n": 1}}]})).await;
    let reference = |table: &str| json!({"projectId": "p", "datasetId": "d", "tableId": table});
    let copy = |how: &str| {
        json!({"configuration": {"copy": {
        "sourceTable": reference("t"), "destinationTable": reference("u"), "writeDisposition": how}}})
    };
    assert_eq!(failed(&insert(&fake, copy("WRITE_EMPTY")).await), "");
    assert_eq!(failed(&insert(&fake, copy("WRITE_EMPTY")).await), "duplicate");
    insert(&fake, copy("WRITE_APPEND")).await;
    assert_eq!(fake.row_count("d", "u"), 2);
    insert(&fake, copy("WRITE_TRUNCATE")).await;
    assert_eq!(fake.row_count("d", "u"), 1);
    let query = json!({"configuration": {"query": {"query": "SELECT n + 1 AS n FROM d.t", "destinationTable": reference("v")}}});
    assert_eq!(failed(&insert(&fake, query).await), "");
    assert_eq!(fake.rows("d", "v"), [json!({"n": 2})]);
}

#[tokio::test]
async fn a_whole_table_is_replaced_with_its_schema_and_constraints() {
    let fake = fake().await;
    let fields = schema(json!([{"name": "n", "type": "INT64", "mode": "REQUIRED"}, {"name": "j", "type": "JSON"}]));
    fake.create_table("d", "t", &fields, json!({"tableConstraints": {"primaryKey": {"columns": ["n"]}}}));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let json: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["[1]"]));
    fake.put_object("b", "p/1.parquet", parquet(vec![("n", numbers), ("j", json)]));
    let how = |how: &str| json!({"sourceUris": ["gs://b/p/*"], "sourceFormat": "PARQUET", "writeDisposition": how});
    let required = insert(&fake, load("1", how("WRITE_APPEND"))).await;
    assert!(required["status"]["errorResult"]["message"].as_str().unwrap().contains("from REQUIRED to NULLABLE"));
    let mut relaxed = how("WRITE_APPEND");
    relaxed["schemaUpdateOptions"] = json!(["ALLOW_FIELD_RELAXATION"]);
    assert_eq!(failed(&insert(&fake, load("2", relaxed)).await), "");
    insert(&fake, load("3", how("WRITE_TRUNCATE_DATA"))).await;
    assert_eq!(fake.rows("d", "t"), [json!({"n": 1, "j": [1]})]);
    assert!(fake.table("d", "t").unwrap().get("tableConstraints").is_some());
    insert(&fake, load("4", how("WRITE_TRUNCATE"))).await;
    assert_eq!(fake.rows("d", "t"), [json!({"n": 1, "j": "[1]"})]);
    assert!(fake.table("d", "t").unwrap().get("tableConstraints").is_none());
}

#[tokio::test]
async fn a_statement_that_fails_leaves_a_job_that_failed() {
    let fake = fake().await;
    let reference = json!({"projectId": "p", "jobId": "q", "location": "US"});
    let query = json!({"jobReference": reference, "configuration": {"query": {"query": "SELECT 1 FROM d.none"}}});
    assert_eq!(failed(&insert(&fake, query.clone()).await), "notFound");
    assert_eq!(post(&fake, "projects/p/jobs", query).await.0, 409);
    let answer = get(&fake, "projects/p/queries/q").await;
    assert_eq!((answer.0, reason(&answer)), (404, "notFound"));
    let body = json!({"query": "SELECT nothing", "requestId": "r"});
    assert_eq!(post(&fake, "projects/p/queries", body.clone()).await.0, 400);
    assert_eq!(post(&fake, "projects/p/queries", body).await.0, 400);
    assert_eq!(fake.jobs().len(), 2);
    assert!(format!("{fake:?}").contains("127.0.0.1"));
}
