//! Write streams: offsets, visibility, states.

use googleapis_tonic_google_cloud_bigquery_storage_v1::google::cloud::bigquery::storage::v1 as pb;
use pb::storage_error::StorageErrorCode as E;
use pb::write_stream::Type;
use serde_json::json;
use tonic::Code;

use crate::client::*;

fn int() -> serde_json::Value {
    json!([{"name": "n", "type": "INT64"}])
}

fn flush(stream: &str, offset: i64) -> pb::FlushRowsRequest {
    pb::FlushRowsRequest { write_stream: stream.into(), offset: Some(offset) }
}

#[tokio::test]
async fn a_buffered_stream_shows_what_was_flushed_once() {
    let fake = fake().await;
    table(&fake, int());
    let stream = create_stream(&fake, Type::Buffered).await;
    let later = |from, to, at| pb::AppendRowsRequest {
        rows: Some(match numbers(from, to) {
            pb::append_rows_request::Rows::ArrowRows(data) => {
                pb::append_rows_request::Rows::ArrowRows(pb::append_rows_request::ArrowData { writer_schema: None, ..data })
            }
            other => other,
        }),
        offset: Some(at),
        ..Default::default()
    };
    let (answers, end) = append(&fake, vec![request(&stream, Some(0), numbers(0, 3)), later(3, 5, 3)]).await;
    assert_eq!(answers.iter().map(offset).collect::<Vec<_>>(), [Some(0), Some(3)], "{end:?}");
    assert!(seen(&fake).is_empty());

    let again = [request(&stream, Some(3), numbers(3, 5)), later(9, 10, 7), later(5, 6, 5)].to_vec();
    let (answers, _) = append(&fake, again).await;
    assert_eq!(error(&answers[0]), (Code::AlreadyExists as i32, E::OffsetAlreadyExists as i32));
    assert_eq!(error(&answers[1]), (Code::OutOfRange as i32, E::OffsetOutOfRange as i32));
    assert_eq!(offset(&answers[2]), Some(5));

    let mut client = write_client(&fake).await;
    assert_eq!(client.flush_rows(flush(&stream, 1)).await.unwrap().into_inner().offset, 1);
    assert_eq!(seen(&fake), [0, 1]);
    client.flush_rows(flush(&stream, 1)).await.unwrap();
    let beyond = client.flush_rows(flush(&stream, 6)).await.unwrap_err();
    assert_eq!((beyond.code(), status_error(&beyond)), (Code::OutOfRange, E::OffsetOutOfRange as i32));
    client.flush_rows(flush(&stream, 5)).await.unwrap();
    assert_eq!(seen(&fake), [0, 1, 2, 3, 4, 5]);

    let name = pb::FinalizeWriteStreamRequest { name: stream.clone() };
    assert_eq!(client.finalize_write_stream(name).await.unwrap().into_inner().row_count, 6);
    assert_eq!(client.flush_rows(flush(&stream, 1)).await.unwrap_err().code(), Code::FailedPrecondition);
    let (answers, _) = append(&fake, vec![request(&stream, Some(6), numbers(6, 7))]).await;
    assert_eq!(error(&answers[0]), (Code::FailedPrecondition as i32, E::StreamFinalized as i32));
}

#[tokio::test]
async fn pending_streams_are_committed_together_or_not_at_all() {
    let fake = fake().await;
    table(&fake, int());
    let (one, two) = (create_stream(&fake, Type::Pending).await, create_stream(&fake, Type::Pending).await);
    append(&fake, vec![request(&one, Some(0), numbers(0, 2))]).await;
    append(&fake, vec![request(&two, None, numbers(2, 4))]).await;
    let mut client = write_client(&fake).await;
    let commit = |streams: &[&String]| pb::BatchCommitWriteStreamsRequest {
        parent: TABLE.into(),
        write_streams: streams.iter().map(|s| (*s).clone()).collect(),
    };
    client.finalize_write_stream(pb::FinalizeWriteStreamRequest { name: one.clone() }).await.unwrap();
    let answer = client.batch_commit_write_streams(commit(&[&one, &two])).await.unwrap().into_inner();
    assert!(answer.commit_time.is_none());
    assert_eq!(answer.stream_errors[0].code, E::InvalidStreamState as i32);
    assert_eq!(answer.stream_errors[0].entity, two);
    assert!(seen(&fake).is_empty());

    client.finalize_write_stream(pb::FinalizeWriteStreamRequest { name: two.clone() }).await.unwrap();
    let answer = client.batch_commit_write_streams(commit(&[&one, &two])).await.unwrap().into_inner();
    assert!(answer.commit_time.is_some() && answer.stream_errors.is_empty());
    assert_eq!(seen(&fake), [0, 1, 2, 3]);

    let answer = client.batch_commit_write_streams(commit(&[&one])).await.unwrap().into_inner();
    assert_eq!(answer.stream_errors[0].code, E::StreamAlreadyCommitted as i32);
    let get = pb::GetWriteStreamRequest { name: one, view: pb::WriteStreamView::Full as i32 };
    let stream = client.get_write_stream(get).await.unwrap().into_inner();
    assert!(stream.commit_time.is_some() && stream.table_schema.unwrap().fields[0].name == "n");
    assert_eq!(seen(&fake).len(), 4);
}

#[tokio::test]
async fn committed_and_default_streams_show_rows_at_once() {
    let fake = fake().await;
    table(&fake, int());
    let stream = create_stream(&fake, Type::Committed).await;
    append(&fake, vec![request(&stream, Some(0), numbers(0, 2))]).await;
    let (answers, _) = append(&fake, vec![request(&format!("{TABLE}/_default"), None, numbers(2, 3))]).await;
    assert_eq!(offset(&answers[0]), None);
    append(&fake, vec![request(&format!("{TABLE}/streams/_default"), None, numbers(3, 4))]).await;
    assert_eq!(seen(&fake), [0, 1, 2, 3]);
}

#[tokio::test]
async fn streams_that_are_gone_are_not_found() {
    let fake = fake().await;
    table(&fake, int());
    let expired = create_stream(&fake, Type::Pending).await;
    fake.expire_streams();
    let stream = create_stream(&fake, Type::Buffered).await;
    let gone = async |name: &str| {
        let (answers, end) = append(&fake, vec![request(name, None, numbers(0, 1))]).await;
        assert!(answers.is_empty());
        let status = end.unwrap();
        (status.code(), status_error(&status))
    };
    assert_eq!(gone(&expired).await, (Code::NotFound, E::StreamNotFound as i32));
    assert_eq!(gone(&format!("{TABLE}/streams/none")).await, (Code::NotFound, E::StreamNotFound as i32));
    assert!(fake.recreate_table("d", "t"));
    assert_eq!(gone(&stream).await, (Code::NotFound, E::StreamNotFound as i32));
    assert_eq!(fake.streams().iter().filter(|stream| stream.valid).count(), 0);
    assert!(fake.drop_table("d", "t"));
    assert_eq!(gone(&format!("{TABLE}/_default")).await, (Code::NotFound, E::TableNotFound as i32));
}

#[tokio::test]
async fn bad_rows_are_named_and_nothing_is_written() {
    let fake = fake().await;
    table(&fake, json!([{"name": "n", "type": "INT64", "mode": "REQUIRED"}, {"name": "s", "type": "STRING", "maxLength": "2"}]));
    let rows = |n: Vec<Option<i64>>, s: Vec<&str>| {
        let n: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::Int64Array::from(n));
        let s: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::StringArray::from(s));
        arrow_rows(&arrow::array::RecordBatch::try_from_iter_with_nullable([("n", n, true), ("s", s, true)]).unwrap())
    };
    let default = format!("{TABLE}/_default");
    let bad = request(&default, None, rows(vec![Some(1), None, Some(3)], vec!["a", "b", "long"]));
    let good = request("", None, rows(vec![Some(1)], vec!["ab"]));
    let (answers, _) = append(&fake, vec![bad, good]).await;
    assert_eq!(error(&answers[0]).0, Code::InvalidArgument as i32);
    assert_eq!(answers[0].row_errors.iter().map(|row| row.index).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(fake.rows("d", "t"), [json!({"n": 1, "s": "ab"})]);

    let other: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::Int64Array::from(vec![1]));
    let batch = arrow::array::RecordBatch::try_from_iter([("n", other.clone()), ("x", other)]).unwrap();
    let (answers, _) = append(&fake, vec![request(&default, None, arrow_rows(&batch))]).await;
    assert_eq!(error(&answers[0]), (Code::InvalidArgument as i32, E::SchemaMismatchExtraFields as i32));
}

#[tokio::test]
async fn a_change_of_schema_is_told_and_a_large_request_refused() {
    let fake = fake().await;
    table(&fake, int());
    let stream = create_stream(&fake, Type::Buffered).await;
    let path = "projects/p/datasets/d/tables/t";
    let wide = json!({"schema": {"fields": [{"name": "n", "type": "INTEGER"}, {"name": "x", "type": "STRING"}]}});
    assert_eq!(call(&fake, "PATCH", path, wide).await.0, 200);
    let (answers, _) = append(&fake, vec![request(&stream, Some(0), numbers(0, 1)), request("", None, numbers(1, 2))]).await;
    let names: Vec<String> = answers[0].updated_schema.clone().unwrap().fields.into_iter().map(|f| f.name).collect();
    assert_eq!(names, ["n", "x"]);
    assert!(answers[1].updated_schema.is_none());

    fake.set_append_limit(1_000);
    let (_, end) = append(&fake, vec![request(&stream, Some(2), numbers(0, 1_000))]).await;
    assert_eq!(end.unwrap().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn hidden_rows_follow_the_table_through_changes_of_schema() {
    let fake = fake().await;
    table(&fake, int());
    let stream = create_stream(&fake, Type::Buffered).await;
    append(&fake, vec![request(&stream, Some(0), numbers(0, 2))]).await;
    for alter in ["ADD COLUMN x STRING", "ALTER COLUMN n SET DATA TYPE NUMERIC"] {
        assert_eq!(post(&fake, "projects/p/queries", json!({"query": format!("ALTER TABLE d.t {alter}")})).await.0, 200);
    }
    write_client(&fake).await.flush_rows(flush(&stream, 1)).await.unwrap();
    assert_eq!(fake.rows("d", "t"), [json!({"n": "0"}), json!({"n": "1"})]);
}
