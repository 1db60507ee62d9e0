//! Plain clients of the fake: REST by reqwest, Storage Write by tonic.

use arrow::array::RecordBatch;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use googleapis_tonic_google_cloud_bigquery_storage_v1::google::cloud::bigquery::storage::v1 as pb;
use longshore_core::schema::TableSchema;
use longshore_fakes::bigquery::FakeBigQuery;
use pb::append_rows_request::{ArrowData, Rows};
use pb::big_query_write_client::BigQueryWriteClient;
use serde_json::{Value, json};
use tonic::transport::Channel;

pub const TABLE: &str = "projects/p/datasets/d/tables/t";

/// A fake with the project `p`, the dataset `d` and the bucket `b`.
pub async fn fake() -> FakeBigQuery {
    let fake = FakeBigQuery::start().await;
    fake.create_dataset("p", "d", "US");
    fake.create_bucket("b", "US");
    fake
}

/// A table `t` of these columns.
pub fn table(fake: &FakeBigQuery, fields: Value) {
    fake.create_table("d", "t", &schema(fields), json!({}));
}

pub fn schema(fields: Value) -> TableSchema {
    TableSchema::from_json(&fields).unwrap()
}

/// A REST call: its status and its answer.
pub async fn call(fake: &FakeBigQuery, method: &str, path: &str, body: Value) -> (u16, Value) {
    let request = reqwest::Client::new().request(method.parse().unwrap(), format!("{}/bigquery/v2/{path}", fake.rest()));
    let request = if body.is_null() { request } else { request.json(&body) };
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

pub async fn post(fake: &FakeBigQuery, path: &str, body: Value) -> (u16, Value) {
    call(fake, "POST", path, body).await
}

pub async fn get(fake: &FakeBigQuery, path: &str) -> (u16, Value) {
    call(fake, "GET", path, Value::Null).await
}

/// The reason of an error.
pub fn reason(answer: &(u16, Value)) -> &str {
    answer.1["error"]["errors"][0]["reason"].as_str().unwrap_or("")
}

pub async fn write_client(fake: &FakeBigQuery) -> BigQueryWriteClient<Channel> {
    BigQueryWriteClient::new(Channel::from_shared(fake.grpc()).unwrap().connect().await.unwrap())
}

pub async fn create_stream(fake: &FakeBigQuery, kind: pb::write_stream::Type) -> String {
    let stream = pb::WriteStream { r#type: kind as i32, ..Default::default() };
    let request = pb::CreateWriteStreamRequest { parent: TABLE.into(), write_stream: Some(stream) };
    write_client(fake).await.create_write_stream(request).await.unwrap().into_inner().name
}

/// A batch as a request holds it.
pub fn arrow_rows(batch: &RecordBatch) -> Rows {
    let options = IpcWriteOptions::default();
    let generator = IpcDataGenerator {};
    let mut tracker = DictionaryTracker::new(false);
    let message = |encoded: arrow::ipc::writer::EncodedData| {
        let mut bytes = Vec::new();
        arrow::ipc::writer::write_message(&mut bytes, encoded, &options).unwrap();
        bytes
    };
    let schema = generator.schema_to_bytes_with_dictionary_tracker(&batch.schema(), &mut tracker, &options);
    let mut context = IpcWriteContext::default();
    let (_, rows) = generator.encode(batch, &mut tracker, &options, &mut context).unwrap();
    Rows::ArrowRows(ArrowData {
        writer_schema: Some(pb::ArrowSchema { serialized_schema: message(schema).into() }),
        rows: Some(pb::ArrowRecordBatch { serialized_record_batch: message(rows).into(), ..Default::default() }),
    })
}

pub fn request(stream: &str, offset: Option<i64>, rows: Rows) -> pb::AppendRowsRequest {
    pb::AppendRowsRequest { write_stream: stream.into(), offset, rows: Some(rows), ..Default::default() }
}

/// Sends requests over one connection; the answers, and the status at its end if that is an error.
pub async fn append(
    fake: &FakeBigQuery,
    requests: Vec<pb::AppendRowsRequest>,
) -> (Vec<pb::AppendRowsResponse>, Option<tonic::Status>) {
    let mut client = write_client(fake).await.max_encoding_message_size(64 << 20);
    let mut answers = match client.append_rows(futures::stream::iter(requests)).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return (Vec::new(), Some(status)),
    };
    let mut all = Vec::new();
    loop {
        match answers.message().await {
            Ok(Some(answer)) => all.push(answer),
            Ok(None) => return (all, None),
            Err(status) => return (all, Some(status)),
        }
    }
}

/// The gRPC code and the storage error of an answer; zeros if it is none.
pub fn error(answer: &pb::AppendRowsResponse) -> (i32, i32) {
    match &answer.response {
        Some(pb::append_rows_response::Response::Error(status)) => (status.code, storage_error(&status.details)),
        _ => (0, 0),
    }
}

pub fn storage_error(details: &[prost_types::Any]) -> i32 {
    use prost::Message as _;
    details.first().map_or(0, |any| pb::StorageError::decode(any.value.as_slice()).unwrap().code)
}

/// The storage error in the details of a status.
pub fn status_error(status: &tonic::Status) -> i32 {
    use prost::Message as _;
    let status =
        googleapis_tonic_google_cloud_bigquery_storage_v1::google::rpc::Status::decode(status.details()).unwrap_or_default();
    storage_error(&status.details)
}

/// The offset of an append that was done.
pub fn offset(answer: &pb::AppendRowsResponse) -> Option<i64> {
    match &answer.response {
        Some(pb::append_rows_response::Response::AppendResult(result)) => result.offset,
        other => panic!("no result: {other:?}"),
    }
}

/// Rows with one INT64 column `n`.
pub fn numbers(from: i64, to: i64) -> Rows {
    let array = arrow::array::Int64Array::from_iter_values(from..to);
    arrow_rows(&RecordBatch::try_from_iter([("n", std::sync::Arc::new(array) as arrow::array::ArrayRef)]).unwrap())
}

/// The values of `n`.
pub fn seen(fake: &FakeBigQuery) -> Vec<i64> {
    fake.rows("d", "t").iter().map(|row| row["n"].as_i64().unwrap()).collect()
}
