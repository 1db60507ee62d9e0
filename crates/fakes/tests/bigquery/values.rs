//! Values of each type, as Arrow: what is taken, what is refused, and how it is shown.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{IntervalMonthDayNano, i256};
use serde_json::{Value, json};
use tonic::Code;

use crate::client::*;

/// Appends one column; the rows that are there then, or the code and the number of bad rows.
async fn written(type_: &str, array: ArrayRef) -> Result<Vec<Value>, (i32, usize)> {
    let fake = fake().await;
    table(&fake, json!([{"name": "n", "type": type_}]));
    let batch = RecordBatch::try_from_iter_with_nullable([("n", array, true)]).unwrap();
    let (answers, end) = append(&fake, vec![request(&format!("{TABLE}/_default"), None, arrow_rows(&batch))]).await;
    assert!(end.is_none(), "{end:?}");
    match error(&answers[0]).0 {
        0 => Ok(fake.rows("d", "t").iter().map(|row| row["n"].clone()).collect()),
        code => Err((code, answers[0].row_errors.len())),
    }
}

#[tokio::test]
async fn native_arrow_types_become_the_forms_of_the_table() {
    let taken: Vec<(&str, ArrayRef, Value)> = vec![
        ("INT64", Arc::new(Int16Array::from(vec![7])), json!(7)),
        ("INT64", Arc::new(UInt64Array::from(vec![7])), json!(7)),
        ("STRING", Arc::new(StringViewArray::from(vec!["a"])), json!("a")),
        ("BYTES", Arc::new(BinaryArray::from_vec(vec![b"\x01"])), json!("AQ==")),
        ("FLOAT64", Arc::new(Float32Array::from(vec![0.5])), json!(0.5)),
        ("NUMERIC", Arc::new(Decimal128Array::from(vec![150]).with_precision_and_scale(5, 2).unwrap()), json!("1.5")),
        (
            "BIGNUMERIC",
            Arc::new(Decimal256Array::from(vec![i256::from_i128(-25)]).with_precision_and_scale(76, 38).unwrap()),
            json!("-0.00000000000000000000000000000000000025"),
        ),
        ("TIME", Arc::new(Time64MicrosecondArray::from(vec![3_723_500_000])), json!("01:02:03.500")),
        ("DATE", Arc::new(Date32Array::from(vec![-719_162])), json!("0001-01-01")),
        ("DATETIME", Arc::new(TimestampMillisecondArray::from(vec![1_500])), json!("1970-01-01T00:00:01.500")),
        ("TIMESTAMP", Arc::new(TimestampSecondArray::from(vec![1]).with_timezone("UTC")), json!("1970-01-01T00:00:01Z")),
        (
            "TIMESTAMP",
            Arc::new(TimestampNanosecondArray::from(vec![1_000]).with_timezone("UTC")),
            json!("1970-01-01T00:00:00.000001Z"),
        ),
        (
            "INTERVAL",
            Arc::new(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(14, -3, 1_500_000_000)])),
            json!("1-2 -3 0:0:1.500"),
        ),
        ("JSON", Arc::new(StringArray::from(vec!["{\"a\": [1]}"])), json!({"a": [1]})),
        ("GEOGRAPHY", Arc::new(StringArray::from(vec!["POINT(1 2)"])), json!("POINT(1 2)")),
    ];
    for (type_, array, shown) in taken {
        assert_eq!(written(type_, array).await, Ok(vec![shown]), "{type_}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let bad = Err((Code::InvalidArgument as i32, 1));
    let max = 99_999_999_999_999_999_999_999_999_999_999_999_999i128;
    let rows: Vec<(&str, ArrayRef)> = vec![
        ("INT64", Arc::new(UInt64Array::from(vec![u64::MAX]))),
        ("NUMERIC", Arc::new(Decimal128Array::from(vec![max]).with_precision_and_scale(38, 8).unwrap())),
        ("NUMERIC", Arc::new(Decimal128Array::from(vec![1]).with_precision_and_scale(38, 10).unwrap())),
        ("TIMESTAMP", Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX]).with_timezone("UTC"))),
        ("TIMESTAMP", Arc::new(TimestampNanosecondArray::from(vec![1]).with_timezone("UTC"))),
        ("DATE", Arc::new(Date32Array::from(vec![i32::MAX]))),
        ("TIME", Arc::new(Time64MicrosecondArray::from(vec![86_400_000_000]))),
        ("JSON", Arc::new(StringArray::from(vec!["{"]))),
        ("GEOGRAPHY", Arc::new(StringArray::from(vec!["here"]))),
    ];
    for (type_, array) in rows {
        assert_eq!(written(type_, array).await, bad, "{type_}");
    }
    let types: Vec<(&str, ArrayRef)> = vec![
        ("INT64", Arc::new(StringArray::from(vec!["1"]))),
        ("STRING", Arc::new(Int64Array::from(vec![1]))),
        ("BIGNUMERIC", Arc::new(StringArray::from(vec!["1"]))),
        ("TIME", Arc::new(StringArray::from(vec!["01:00:00"]))),
        ("TIMESTAMP", Arc::new(TimestampMicrosecondArray::from(vec![1]))),
        ("DATETIME", Arc::new(TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC"))),
    ];
    for (type_, array) in types {
        assert_eq!(written(type_, array).await, Err((Code::InvalidArgument as i32, 0)), "{type_}");
    }
}

#[tokio::test]
async fn lists_and_structs_nest() {
    let fake = fake().await;
    let fields = json!([{"name": "s", "type": "RECORD", "mode": "REPEATED", "fields": [
        {"name": "t", "type": "TIME", "mode": "REQUIRED"}, {"name": "l", "type": "STRING", "mode": "REPEATED"},
        {"name": "in", "type": "RECORD", "fields": [{"name": "x", "type": "INT64", "mode": "REQUIRED"}]}]}]);
    table(&fake, fields);
    let rows =
        json!({"rows": [{"json": {"s": [{"t": "01:00:00", "l": ["a"]}, {"t": "02:00:00", "in": {"x": 1}}]}}, {"json": {}}]});
    post(&fake, "projects/p/datasets/d/tables/t/insertAll", rows).await;
    let before = fake.rows("d", "t");
    assert_eq!(before[0]["s"][1], json!({"t": "02:00:00", "l": [], "in": {"x": 1}}));
    assert_eq!(before[0]["s"][0]["in"], Value::Null);
    assert_eq!(before[1], json!({"s": []}));

    let batch = fake.batch("d", "t").unwrap();
    // TIME is text in the table and has a type of its own in a request.
    let (answers, _) = append(&fake, vec![request(&format!("{TABLE}/_default"), None, arrow_rows(&batch))]).await;
    assert_eq!(error(&answers[0]).0, Code::InvalidArgument as i32);
}
