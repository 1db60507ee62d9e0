//! Change rows on the default stream.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use googleapis_tonic_google_cloud_bigquery_storage_v1::google::cloud::bigquery::storage::v1 as pb;
use longshore_fakes::bigquery::FakeBigQuery;
use pb::write_stream::Type;
use serde_json::json;
use tonic::Code;

use crate::client::*;

fn keyed(fake: &FakeBigQuery) {
    let fields = schema(json!([{"name": "id", "type": "INT64", "mode": "REQUIRED"}, {"name": "v", "type": "STRING"}]));
    fake.create_table("d", "t", &fields, json!({"tableConstraints": {"primaryKey": {"columns": ["id"]}}}));
}

fn rows(changes: &[(i64, &str, &str, &str)]) -> pb::append_rows_request::Rows {
    let text = |values: Vec<&str>| Arc::new(StringArray::from(values)) as ArrayRef;
    let columns = [
        ("id", Arc::new(Int64Array::from_iter_values(changes.iter().map(|c| c.0))) as ArrayRef),
        ("v", text(changes.iter().map(|c| c.1).collect())),
        ("_CHANGE_TYPE", text(changes.iter().map(|c| c.2).collect())),
        ("_CHANGE_SEQUENCE_NUMBER", text(changes.iter().map(|c| c.3).collect())),
    ];
    arrow_rows(&RecordBatch::try_from_iter(columns).unwrap())
}

#[tokio::test]
async fn the_newest_change_of_a_key_stands() {
    let fake = fake().await;
    keyed(&fake);
    let default = format!("{TABLE}/streams/_default");
    let first = rows(&[(1, "a", "UPSERT", "1"), (2, "b", "UPSERT", "1"), (1, "older", "UPSERT", "0"), (3, "c", "UPSERT", "0/A")]);
    let second = rows(&[(2, "", "DELETE", "3"), (3, "newer", "UPSERT", "0/10"), (4, "", "DELETE", "5")]);
    let third = rows(&[(2, "late", "UPSERT", "2"), (4, "late", "UPSERT", "4/FFFF"), (1, "equal", "UPSERT", "1")]);
    let sent = |rows| request(&default, None, rows);
    let (answers, end) = append(&fake, vec![sent(first), sent(second), sent(third)]).await;
    assert!(answers.iter().all(|answer| error(answer).0 == 0), "{answers:?} {end:?}");
    assert_eq!(fake.rows("d", "t"), [json!({"id": 1, "v": "equal"}), json!({"id": 3, "v": "newer"})]);
    let (answers, _) = append(&fake, vec![sent(rows(&[(2, "back", "UPSERT", "4")]))]).await;
    assert_eq!(error(&answers[0]).0, 0);
    assert_eq!(fake.row_count("d", "t"), 3);
}

#[tokio::test]
async fn changes_need_a_key_the_default_stream_and_valid_words() {
    let fake = fake().await;
    keyed(&fake);
    let default = format!("{TABLE}/_default");
    let refused = async |stream: &str, rows| {
        let (answers, _) = append(&fake, vec![request(stream, None, rows)]).await;
        (error(&answers[0]).0, answers[0].row_errors.len())
    };
    let invalid = Code::InvalidArgument as i32;
    assert_eq!(refused(&default, rows(&[(1, "a", "INSERT", "1")])).await, (invalid, 1));
    assert_eq!(refused(&default, rows(&[(1, "a", "UPSERT", "x"), (1, "a", "UPSERT", "1/2/3/4/5")])).await, (invalid, 2));
    let buffered = create_stream(&fake, Type::Buffered).await;
    assert_eq!(refused(&buffered, rows(&[(1, "a", "UPSERT", "1")])).await, (invalid, 0));
    fake.drop_table("d", "t");
    table(&fake, json!([{"name": "id", "type": "INT64"}, {"name": "v", "type": "STRING"}]));
    assert_eq!(refused(&default, rows(&[(1, "a", "UPSERT", "1")])).await, (invalid, 0));
    assert_eq!(fake.row_count("d", "t"), 0);
}
