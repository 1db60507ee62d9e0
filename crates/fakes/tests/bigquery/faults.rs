//! What goes wrong on command.

use googleapis_tonic_google_cloud_bigquery_storage_v1::google::cloud::bigquery::storage::v1 as pb;
use longshore_fakes::bigquery::{Fault, Gate, Rule};
use pb::write_stream::Type;
use serde_json::json;
use tonic::Code;

use crate::client::*;

const INSERT: &str = "projects/p/datasets/d/tables/t/insertAll";

fn row(n: i64) -> serde_json::Value {
    json!({"rows": [{"json": {"n": n}}]})
}

#[tokio::test]
async fn a_rule_counts_calls() {
    let fake = fake().await;
    table(&fake, json!([{"name": "n", "type": "INT64"}]));
    let fault = Fault::Refuse { status: 429, reason: "rateLimitExceeded".into(), message: "slower".into(), retry_after: Some(7) };
    fake.arm(Rule::on("tabledata.insertAll", fault).skip(1).times(2).about("d.t"));
    let mut statuses = Vec::new();
    for n in 0..4 {
        let url = format!("{}/bigquery/v2/{INSERT}", fake.rest());
        let answer = reqwest::Client::new().post(url).json(&row(n)).send().await.unwrap();
        let after = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        statuses.push((answer.status().as_u16(), after));
    }
    let refused = (429, Some("7".to_owned()));
    assert_eq!(statuses, [(200, None), refused.clone(), refused, (200, None)]);
    assert_eq!(seen(&fake), [0, 3]);
    assert_eq!(fake.calls("tabledata.insertAll"), 4);
    assert_eq!(fake.requests()[0], "tabledata.insertAll d.t");
}

#[tokio::test]
async fn an_answer_is_lost_after_the_work_and_a_request_before_it() {
    let fake = fake().await;
    table(&fake, json!([{"name": "n", "type": "INT64"}]));
    let send = async |n| {
        let url = format!("{}/bigquery/v2/{INSERT}", fake.rest());
        reqwest::Client::new().post(url).json(&row(n)).send().await.is_ok()
    };
    fake.arm(Rule::on("tabledata.insertAll", Fault::LoseAnswer));
    assert!(!send(1).await);
    fake.arm(Rule::on("tabledata.insertAll", Fault::LoseRequest));
    assert!(!send(2).await);
    assert!(send(3).await);
    assert_eq!(seen(&fake), [1, 3]);

    let stream = create_stream(&fake, Type::Buffered).await;
    fake.arm(Rule::on("AppendRows", Fault::LoseAnswer).skip(1));
    let requests = vec![request(&stream, Some(0), numbers(4, 5)), request(&stream, Some(1), numbers(5, 6))];
    let (_, end) = append(&fake, requests).await;
    assert!(end.is_some());
    assert_eq!(fake.streams()[0].rows, 2);
    fake.arm(Rule::on("FlushRows", Fault::LoseAnswer));
    let flush = pb::FlushRowsRequest { write_stream: stream, offset: Some(1) };
    assert!(write_client(&fake).await.flush_rows(flush).await.is_err());
    assert_eq!(seen(&fake), [1, 3, 4, 5]);
}

#[tokio::test]
async fn what_is_held_is_done_even_if_the_client_is_gone() {
    let fake = fake().await;
    table(&fake, json!([{"name": "n", "type": "INT64"}]));
    let gate = Gate::new();
    fake.arm(Rule::on("tabledata.insertAll", Fault::Hold(gate.clone())));
    let url = format!("{}/bigquery/v2/{INSERT}", fake.rest());
    let client = tokio::spawn(async move { reqwest::Client::new().post(url).json(&row(1)).send().await });
    gate.reached(1).await;
    client.abort();
    _ = client.await;
    assert!(seen(&fake).is_empty());
    gate.open();
    // The next call comes after it, as both take the same lock.
    while seen(&fake).is_empty() {
        tokio::task::yield_now().await;
    }

    let stream = create_stream(&fake, Type::Committed).await;
    let held = Gate::new();
    fake.arm(Rule::on("AppendRows", Fault::Hold(held.clone())));
    let late = append(&fake, vec![request(&stream, Some(0), numbers(2, 3))]);
    let early = async {
        held.reached(1).await;
        append(&fake, vec![request(&stream, Some(0), numbers(2, 3))]).await;
        held.open();
    };
    let ((answers, _), ()) = tokio::join!(late, early);
    assert_eq!(error(&answers[0]).0, Code::AlreadyExists as i32);
    assert_eq!(seen(&fake), [1, 2]);
}

#[tokio::test]
async fn appends_fail_in_the_response_or_with_the_connection() {
    let fake = fake().await;
    table(&fake, json!([{"name": "n", "type": "INT64"}]));
    let stream = create_stream(&fake, Type::Committed).await;
    let refuse = Fault::RefuseAppend { code: Code::Internal as i32, message: "again".into(), storage_error: None };
    fake.arm(Rule::on("AppendRows", refuse));
    fake.arm(Rule::on("AppendRows", Fault::RefuseRows(vec![1])));
    let sent = |from, at| request(&stream, Some(at), numbers(from, from + 2));
    let (answers, end) = append(&fake, vec![sent(0, 0), sent(0, 0), sent(0, 0)]).await;
    assert!(end.is_none());
    assert_eq!(answers.iter().map(|answer| error(answer).0).collect::<Vec<_>>(), [13, 3, 0]);
    assert_eq!(answers[1].row_errors[0].index, 1);

    let ends = Fault::RefuseGrpc { code: Code::Unavailable as i32, message: "away".into(), storage_error: None };
    fake.arm(Rule::on("AppendRows", ends));
    let (_, end) = append(&fake, vec![sent(2, 2)]).await;
    assert_eq!(end.unwrap().code(), Code::Unavailable);
    fake.arm(Rule::on("AppendRows", Fault::ExpireToken));
    assert_eq!(append(&fake, vec![sent(2, 2)]).await.1.unwrap().code(), Code::Unauthenticated);
    fake.arm(Rule::on("CreateWriteStream", Fault::refuse(403, "accessDenied", "no")));
    let request = pb::CreateWriteStreamRequest { parent: TABLE.into(), ..Default::default() };
    assert_eq!(write_client(&fake).await.create_write_stream(request).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(seen(&fake), [0, 1]);
}

#[tokio::test]
async fn an_append_may_not_know_of_a_new_column_yet() {
    let fake = fake().await;
    table(&fake, json!([{"name": "n", "type": "INT64"}]));
    let wide = json!({"schema": {"fields": [{"name": "n", "type": "INTEGER"}, {"name": "x", "type": "INTEGER"}]}});
    call(&fake, "PATCH", "projects/p/datasets/d/tables/t", wide).await;
    let array: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::Int64Array::from(vec![1]));
    let batch = arrow::array::RecordBatch::try_from_iter([("n", array.clone()), ("x", array)]).unwrap();
    fake.arm(Rule::on("AppendRows", Fault::StaleSchema));
    let rows = || request(&format!("{TABLE}/_default"), None, arrow_rows(&batch));
    let (answers, _) = append(&fake, vec![rows(), rows()]).await;
    let extra = pb::storage_error::StorageErrorCode::SchemaMismatchExtraFields as i32;
    assert_eq!((error(&answers[0]).1, error(&answers[1]).1), (extra, 0));
    assert_eq!(fake.rows("d", "t"), [json!({"n": 1, "x": 1})]);
}

#[tokio::test]
async fn a_token_is_asked_for_on_command() {
    let fake = fake().await;
    fake.arm(Rule::on("datasets.get", Fault::ExpireToken));
    let path = "projects/p/datasets/d";
    assert_eq!((get(&fake, path).await.0, get(&fake, path).await.0), (401, 200));
    fake.require_token(Some("secret"));
    assert_eq!(get(&fake, path).await.0, 401);
    let url = format!("{}/bigquery/v2/{path}", fake.rest());
    assert_eq!(reqwest::Client::new().get(url).bearer_auth("secret").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_kind_of_call_is_out_of_quota_for_some_calls() {
    use prost::Message as _;
    let fake = fake().await;
    table(&fake, json!([{"name": "n", "type": "INT64"}]));
    let copy = json!({"configuration": {"copy": {
        "sourceTable": {"projectId": "p", "datasetId": "d", "tableId": "t"},
        "destinationTable": {"projectId": "p", "datasetId": "d", "tableId": "u"},
    }}});
    let url = format!("{}/bigquery/v2/projects/p/jobs", fake.rest());
    fake.arm(Rule::on("jobs.insert", Fault::out_of_quota("quotaExceeded", Some(9))).times(2));
    fake.arm(Rule::on("jobs.insert", Fault::out_of_quota("jobRateLimitExceeded", None)));
    let mut answers = Vec::new();
    for _ in 0..4 {
        let answer = reqwest::Client::new().post(&url).json(&copy).send().await.unwrap();
        let after = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        let status = answer.status().as_u16();
        let body: serde_json::Value = answer.json().await.unwrap();
        answers.push((status, after, body["error"]["errors"][0]["reason"].as_str().unwrap_or_default().to_owned()));
    }
    let exceeded = (403, Some("9".to_owned()), "quotaExceeded".to_owned());
    let rate = (400, None, "jobRateLimitExceeded".to_owned());
    assert_eq!(answers, [exceeded.clone(), exceeded, rate, (200, None, String::new())]);
    assert_eq!((fake.calls("jobs.insert"), fake.jobs().len()), (4, 1));

    fake.arm(Rule::on("CreateWriteStream", Fault::out_of_quota("quotaExceeded", Some(5))).times(2));
    let made = pb::CreateWriteStreamRequest {
        parent: TABLE.into(),
        write_stream: Some(pb::WriteStream { r#type: Type::Buffered as i32, ..Default::default() }),
    };
    let mut client = write_client(&fake).await;
    for _ in 0..2 {
        let status = client.create_write_stream(made.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().starts_with("Quota exceeded: "), "{status}");
        let rpc = googleapis_tonic_google_cloud_bigquery_storage_v1::google::rpc::Status::decode(status.details()).unwrap();
        assert_eq!(rpc.details[0].type_url, "type.googleapis.com/google.rpc.RetryInfo");
        let info =
            googleapis_tonic_google_cloud_bigquery_storage_v1::google::rpc::RetryInfo::decode(rpc.details[0].value.as_slice());
        assert_eq!(info.unwrap().retry_delay.unwrap().seconds, 5);
    }
    assert!(client.create_write_stream(made).await.is_ok());
    assert_eq!(fake.calls("CreateWriteStream"), 3);
}
