//! What the destination relies on in write streams.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use longshore_bigquery::config::Method;
use longshore_core::commit::WriteDisposition;
use longshore_core::schema::{Field, TableSchema, Type as ColumnType};
use serde_json::json;
use tonic::Code;

use super::Dataset;
use super::tables::{Land, apply, change};
use super::wire::{Appended, StorageErrorCode, Type, Wire};

fn ids(ids: &[i64]) -> RecordBatch {
    RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef)]).unwrap()
}

async fn table_of_ids(dataset: &Dataset) {
    dataset.make_table("orders", json!([{"name": "id", "type": "INT64"}]), json!({})).await;
}

fn code(appended: &Appended) -> Option<Code> {
    match appended {
        Appended::Refused(code, _) => Some(Code::from_i32(*code)),
        _ => None,
    }
}

/// Buffered streams: the offset of a flush is that of the last row that shows, and flushing again changes nothing.
pub async fn flush(dataset: &Dataset) {
    let (wire, sheet) = (Wire::of(dataset), &dataset.sheet);
    table_of_ids(dataset).await;
    let stream = wire.create("orders", Type::Buffered).await;
    sheet.same("the first rows are at offset 0", wire.append(&stream, Some(0), &ids(&[10, 11, 12])).await, Appended::At(Some(0)));
    sheet.same("the next rows are behind them", wire.append(&stream, Some(3), &ids(&[13, 14])).await, Appended::At(Some(3)));
    sheet.same("appended rows are hidden", dataset.numbers("orders", "id").await, vec![]);
    let repeated = wire.append(&stream, Some(3), &ids(&[13, 14])).await;
    sheet.same("rows at an offset that is taken are refused as there", code(&repeated), Some(Code::AlreadyExists));
    let beyond = wire.append(&stream, Some(9), &ids(&[19])).await;
    sheet.same("rows beyond the end are refused", code(&beyond), Some(Code::OutOfRange));
    let answer = wire.flush(&stream, 2).await;
    sheet.same("a flush tells its offset", answer.map_err(|status| status.code()), Ok(2));
    sheet.same("a flush shows the row of its offset, too, and no more", dataset.numbers("orders", "id").await, vec![10, 11, 12]);
    for (what, offset) in [("flushing the same offset again", 2), ("flushing a lower offset", 0)] {
        match wire.flush(&stream, offset).await {
            Ok(offset) => sheet.told(what, &format!("is answered with {offset}")),
            Err(status) => sheet.same(&format!("{what} is refused as done"), status.code(), Code::AlreadyExists),
        }
        sheet.same(&format!("{what} changes nothing"), dataset.numbers("orders", "id").await, vec![10, 11, 12]);
    }
    let beyond = wire.flush(&stream, 100).await;
    sheet.told("flushing beyond the end", &format!("{:?}", beyond.as_ref().map_err(|status| (status.code(), status.message()))));
    sheet.holds("flushing beyond the end is refused", beyond.is_err(), "it is taken");
    sheet.same("the last rows", wire.flush(&stream, 4).await.map_err(|status| status.code()), Ok(4));
    sheet.same("all rows show", dataset.numbers("orders", "id").await, vec![10, 11, 12, 13, 14]);
}

/// Pending streams: all rows of several at once; a second commit says that they were, and so does each stream.
pub async fn commit(dataset: &Dataset) {
    let (wire, sheet) = (Wire::of(dataset), &dataset.sheet);
    table_of_ids(dataset).await;
    let (one, two) = (wire.create("orders", Type::Pending).await, wire.create("orders", Type::Pending).await);
    sheet.same("rows of the first stream", wire.append(&one, Some(0), &ids(&[1, 2])).await, Appended::At(Some(0)));
    sheet.same("rows of the second stream", wire.append(&two, Some(0), &ids(&[3])).await, Appended::At(Some(0)));
    let early = wire.commit("orders", &[&one, &two]).await;
    let refused = early.as_ref().map_or(true, |answer| !answer.stream_errors.is_empty());
    sheet.holds("streams that are not finalized are refused", refused, "they are committed");
    for (stream, rows) in [(&one, 2), (&two, 1), (&one, 2)] {
        sheet.same("finalizing counts the rows", wire.finalize(stream).await.map_err(|status| status.code()), Ok(rows));
    }
    sheet.same("rows are hidden until the commit", dataset.numbers("orders", "id").await, vec![]);
    let before = wire.get("orders", Some(&one)).await.unwrap();
    sheet.holds("a stream has no commit time before", before.commit_time.is_none(), &format!("{:?}", before.commit_time));
    let first = wire.commit("orders", &[&one, &two]).await.unwrap();
    sheet.holds("a commit tells its time", first.commit_time.is_some() && first.stream_errors.is_empty(), &format!("{first:?}"));
    sheet.same("all rows show at once", dataset.numbers("orders", "id").await, vec![1, 2, 3]);
    match wire.commit("orders", &[&one, &two]).await {
        Ok(again) => {
            let codes: Vec<StorageErrorCode> = again.stream_errors.iter().map(|error| error.code()).collect();
            let known = codes.is_empty() || codes.iter().all(|code| *code == StorageErrorCode::StreamAlreadyCommitted);
            sheet.holds("a second commit says of each stream that it was committed", known, &format!("{again:?}"));
        }
        Err(status) => sheet.told("a second commit is refused as a whole", &format!("{:?}: {}", status.code(), status.message())),
    }
    let after = wire.get("orders", Some(&one)).await.unwrap();
    sheet.same("the stream knows its commit time", after.commit_time, first.commit_time);
    sheet.same("a second commit changes nothing", dataset.numbers("orders", "id").await, vec![1, 2, 3]);
}

/// A request with bad rows: each is named by its index, and none of the request is in the stream.
pub async fn refused_rows(dataset: &Dataset) {
    let (wire, sheet) = (Wire::of(dataset), &dataset.sheet);
    let columns = json!([{"name": "id", "type": "INT64"}, {"name": "s", "type": "STRING", "mode": "REQUIRED"}]);
    dataset.make_table("orders", columns, json!({})).await;
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("c"), None]));
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3, 4])) as ArrayRef, true),
        ("s", texts, true),
    ]);
    let rows = rows.unwrap();
    let stream = wire.create("orders", Type::Pending).await;
    sheet.same("bad rows are named by their index", wire.append(&stream, Some(0), &rows).await, Appended::Rows(vec![1, 3]));
    let good = rows.slice(0, 1);
    sheet.same("none of their request was taken", wire.append(&stream, Some(0), &good).await, Appended::At(Some(0)));

    // The same through the destination: the rest is in the stream, and each refused row comes back with its values.
    let mut land = Land::new(dataset.open(Method::StorageWritePending), "orders");
    land.schema = TableSchema::new(vec![Field::new("id", ColumnType::Int64), Field::new("s", ColumnType::String)]);
    let staged = land.stage("a", rows, WriteDisposition::Append).await.unwrap();
    let refused: Vec<_> = staged.refused.iter().map(|refused| (refused.row, refused.values.clone())).collect();
    sheet.same("they come back with their values", refused, vec![(1, json!({"id": 2})), (3, json!({"id": 4}))]);
    sheet.told("in BigQuery's words", staged.refused.first().map_or("", |refused| &refused.reason));
    land.publish(1, &staged.committable).await;
    sheet.same("the others land", dataset.numbers("orders", "id").await, vec![1, 3]);
}

/// How soon a column is known where rows are written.
pub async fn new_columns(dataset: &Dataset) {
    let (wire, sheet) = (Wire::of(dataset), &dataset.sheet);
    table_of_ids(dataset).await;
    let stream = wire.create("orders", Type::Buffered).await;
    wire.append(&stream, Some(0), &ids(&[1])).await;
    let wanted = TableSchema::new(vec![Field::new("id", ColumnType::Int64), Field::new("late", ColumnType::String)]);
    let worker = dataset.open(Method::StorageWrite);
    let begin = Instant::now();
    // It waits by itself until the column is known.
    let plan = apply(&worker, change("orders", wanted.clone(), Default::default())).await;
    sheet.same(
        "the column is added",
        plan.map(|plan| plan.changes).map_err(|error| error.to_string()),
        Ok(vec!["add column late STRING".into()]),
    );
    sheet.told("until GetWriteStream of the default stream tells a new column", &seconds(begin.elapsed()));
    let wide = RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from(vec![2])) as ArrayRef, true),
        ("late", Arc::new(StringArray::from(vec!["x"])) as ArrayRef, true),
    ]);
    let wide = wide.unwrap();
    for (what, stream, offset) in [
        ("a stream that was there", stream, Some(1)),
        ("a new stream", wire.create("orders", Type::Buffered).await, Some(0)),
        ("the default stream", wire.default_stream("orders"), None),
    ] {
        let taken = first_taken(&wire, &stream, offset, &wide).await;
        sheet.told(&format!("until {what} takes rows with the new column"), &taken.map_or_else(|words| words, seconds));
    }
    let mut land = Land::new(worker, "orders");
    land.schema = wanted;
    let staged = land.stage("a", wide, WriteDisposition::Append).await;
    sheet.holds("the destination stages rows with it right away", staged.is_ok(), &format!("{:?}", staged.err()));
}

/// How long until a stream takes rows; its last words if that is longer than ten minutes.
async fn first_taken(wire: &Wire<'_>, stream: &str, offset: Option<i64>, rows: &RecordBatch) -> Result<Duration, String> {
    let begin = Instant::now();
    loop {
        match wire.append(stream, offset, rows).await {
            Appended::At(_) => return Ok(begin.elapsed()),
            other if begin.elapsed() > Duration::from_secs(600) => return Err(format!("not in ten minutes: {other:?}")),
            _ => tokio::time::sleep(Duration::from_secs(2)).await,
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
