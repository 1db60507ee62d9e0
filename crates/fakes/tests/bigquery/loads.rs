//! Load jobs: partitions, and rows that do not fit.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use longshore_fakes::bigquery::FakeBigQuery;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use crate::client::*;

/// Loads JSON lines, or what `more` says instead.
async fn load(fake: &FakeBigQuery, table: &str, lines: &[Value], more: Value) -> Value {
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fake.put_object("b", "in/rows.json", lines);
    let mut load = json!({
        "sourceUris": ["gs://b/in/rows.json"], "sourceFormat": "NEWLINE_DELIMITED_JSON",
        "destinationTable": {"projectId": "p", "datasetId": "d", "tableId": table},
    });
    load.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, job) = post(fake, "projects/p/jobs", json!({"configuration": {"load": load}})).await;
    assert_eq!(status, 200, "{job}");
    job
}

fn error(job: &Value) -> (&str, &str) {
    let error = &job["status"]["errorResult"];
    (error["reason"].as_str().unwrap_or_default(), error["message"].as_str().unwrap_or_default())
}

fn is_done(job: &Value) -> bool {
    job["status"] == json!({"state": "DONE"})
}

#[tokio::test]
async fn a_decorator_names_a_partition_of_the_tables_unit() {
    let rows = [
        json!({"n": 1, "at": "2024-01-31T22:00:00Z"}),
        json!({"n": 2, "at": "2024-01-31T23:00:00Z"}),
        json!({"n": 3, "at": "2024-02-01T00:00:00Z"}),
        json!({"n": 4, "at": "2025-01-01T00:00:00Z"}),
        json!({"n": 5}),
    ];
    let new = json!({"n": 9, "at": "2024-01-31T23:30:00Z"});
    let wrong = ["2024", "202401", "20240131", "2024013123", "20240132", "2024013", "tomorrow", "__NULL__"];
    for (unit, partition, left) in [
        ("HOUR", "2024013123", vec![1, 3, 4, 5, 9]),
        ("DAY", "20240131", vec![3, 4, 5, 9]),
        ("MONTH", "202401", vec![3, 4, 5, 9]),
        ("YEAR", "2024", vec![4, 5, 9]),
    ] {
        let fake = fake().await;
        let fields = schema(json!([{"name": "n", "type": "INT64"}, {"name": "at", "type": "TIMESTAMP"}]));
        fake.create_table("d", "t", &fields, json!({"timePartitioning": {"type": unit, "field": "at"}}));
        assert!(is_done(&load(&fake, "t", &rows, json!({})).await));
        let truncate = json!({"writeDisposition": "WRITE_TRUNCATE"});
        for wrong in wrong.into_iter().filter(|wrong| *wrong != partition) {
            let refused = load(&fake, &format!("t${wrong}"), std::slice::from_ref(&new), truncate.clone()).await;
            assert_eq!(error(&refused).0, "invalid", "{unit} {wrong}: {refused}");
        }
        let strange = load(&fake, &format!("t${partition}"), &[new.clone(), rows[3].clone()], truncate.clone()).await;
        let words = format!("Some rows belong to different partitions rather than destination partition p:d.t${partition}");
        assert_eq!(error(&strange), ("invalid", words.as_str()));
        assert_eq!(seen(&fake), [1, 2, 3, 4, 5], "{unit}");
        let to = format!("t${partition}");
        let empty = load(&fake, &to, std::slice::from_ref(&new), json!({"writeDisposition": "WRITE_EMPTY"})).await;
        assert_eq!(error(&empty).0, "duplicate");
        assert!(is_done(&load(&fake, &to, std::slice::from_ref(&new), truncate).await), "{unit}");
        assert_eq!(seen(&fake), left, "{unit}");
        assert!(is_done(&load(&fake, &to, std::slice::from_ref(&new), json!({"writeDisposition": "WRITE_APPEND"})).await));
        assert_eq!(fake.row_count("d", "t"), left.len() + 1);
        let nulls = load(&fake, "t$__NULL__", &[json!({"n": 7})], json!({"writeDisposition": "WRITE_TRUNCATE"})).await;
        assert!(is_done(&nulls), "{nulls}");
        assert!(seen(&fake).contains(&7) && !seen(&fake).contains(&5));
    }
}

#[tokio::test]
async fn a_table_by_ingestion_takes_rows_into_the_partition_that_is_named() {
    let fake = fake().await;
    let fields = schema(json!([{"name": "n", "type": "INT64"}]));
    fake.create_table("d", "t", &fields, json!({"timePartitioning": {"type": "MONTH"}}));
    let truncate = json!({"writeDisposition": "WRITE_TRUNCATE"});
    for (partition, n) in [("202401", 1), ("202402", 2), ("202401", 3)] {
        assert!(is_done(&load(&fake, &format!("t${partition}"), &[json!({"n": n})], truncate.clone()).await));
    }
    assert_eq!(seen(&fake), [2, 3]);
    assert!(is_done(&load(&fake, "t", &[json!({"n": 4})], json!({})).await));
    let refused = load(&fake, "t$20240101", &[], truncate.clone()).await;
    let words = "Incompatible table partitioning specification. Expects partitioning specification interval(type:month), but input \
                 partitioning specification is interval(type:day)";
    assert_eq!(error(&refused), ("invalid", words));
    let other = json!({"timePartitioning": {"type": "DAY", "field": "at"}});
    assert!(error(&load(&fake, "t", &[], other).await).1.ends_with("is interval(type:day,field:at)"));

    let made = json!({"schema": {"fields": [{"name": "n", "type": "INTEGER"}]}, "timePartitioning": {"type": "DAY"}});
    assert!(is_done(&load(&fake, "new$20240101", &[json!({"n": 1})], made.clone()).await));
    assert_eq!(fake.row_count("d", "new"), 1);
    let plain = json!({"schema": made["schema"]});
    assert!(
        error(&load(&fake, "plain$20240101", &[json!({"n": 1})], plain).await)
            .1
            .contains("Expects partitioning specification none")
    );
    assert!(fake.table("d", "plain").is_none());

    let range = json!({"rangePartitioning": {"field": "n", "range": {"start": "0", "end": "100", "interval": "10"}}});
    fake.create_table("d", "r", &fields, range);
    assert!(is_done(&load(&fake, "r", &[json!({"n": 11}), json!({"n": 25})], json!({})).await));
    assert!(is_done(&load(&fake, "r$10", &[json!({"n": 19})], truncate.clone()).await));
    assert_eq!(error(&load(&fake, "r$15", &[json!({"n": 19})], truncate).await).0, "invalid");
    assert_eq!(fake.rows("d", "r"), [json!({"n": 25}), json!({"n": 19})]);
}

#[tokio::test]
async fn bad_rows_are_left_out_and_told_with_their_places() {
    let fake = fake().await;
    table(&fake, json!([{"name": "n", "type": "INT64", "mode": "REQUIRED"}, {"name": "s", "type": "STRING"}]));
    let text = "{\"n\": 1}\n{\"n\": \"x\"}\n\n{oops\n{\"s\": \"é\"}\n{\"n\": 2, \"more\": 1}\n{\"n\": 3}";
    let starts: Vec<usize> = ["{\"n\": \"x\"}", "{oops", "{\"s\"", "{\"n\": 2"].map(|line| text.find(line).unwrap()).into();
    let with = |allowed: Value| {
        fake.put_object("b", "in/bad.json", text);
        json!({"sourceUris": ["gs://b/in/bad.json"], "maxBadRecords": allowed})
    };
    let job = load(&fake, "t", &[], with(json!(4))).await;
    assert_eq!((&job["status"]["state"], job["status"].get("errorResult")), (&json!("DONE"), None));
    let statistics = &job["statistics"]["load"];
    assert_eq!((&statistics["badRecords"], &statistics["outputRows"]), (&json!("4"), &json!("2")));
    assert_eq!(seen(&fake), [1, 3]);
    let listed = job["status"]["errors"].as_array().unwrap().clone();
    assert_eq!(listed.len(), 4);
    for (error, start) in listed.iter().zip(starts) {
        assert_eq!((&error["reason"], &error["location"]), (&json!("invalid"), &json!("gs://b/in/bad.json")));
        let begins = format!("Error while reading data, error message: JSON parsing error in row starting at position {start}: ");
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with(&begins) && message.ends_with(" File: gs://b/in/bad.json"), "{message}");
    }
    assert!(listed[3]["message"].as_str().unwrap().contains(": No such field: more."));

    // Beyond the limit nothing is loaded, and the same list stands behind what it comes to.
    let job = load(&fake, "t", &[], with(json!("3"))).await;
    let (reason, message) = error(&job);
    let words = "Error while reading data, error message: JSON table encountered too many errors, giving up. Rows: 6; errors: 4. \
                 Please look into the errors[] collection for more details.";
    assert_eq!((reason, message), ("invalid", words));
    assert_eq!(job["status"]["errors"].as_array().unwrap()[1..], listed);
    assert_eq!(job["status"]["errors"][0], job["status"]["errorResult"]);
    assert_eq!(job["statistics"]["load"]["badRecords"], "4");
    assert_eq!(seen(&fake), [1, 3]);
}

#[tokio::test]
async fn a_parquet_file_with_a_bad_row_fails_whole_and_names_the_file_alone() {
    let fake = fake().await;
    let fields = json!([{"name": "n", "type": "INT64", "mode": "REQUIRED"}]);
    table(&fake, fields.clone());
    let file = |values: Vec<Option<i64>>| {
        let array: ArrayRef = Arc::new(Int64Array::from(values));
        let batch = RecordBatch::try_from_iter_with_nullable([("n", array, true)]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    };
    fake.put_object("b", "p/1.parquet", file(vec![Some(1)]));
    fake.put_object("b", "p/2.parquet", file(vec![Some(2), None]));
    let more = json!({
        "sourceUris": ["gs://b/p/*.parquet"], "sourceFormat": "PARQUET", "maxBadRecords": 10, "schema": {"fields": fields},
    });
    let job = load(&fake, "t", &[], more).await;
    let (reason, message) = error(&job);
    assert_eq!((reason, &job["status"]["errorResult"]["location"]), ("invalid", &json!("gs://b/p/2.parquet")));
    assert!(message.ends_with("File: gs://b/p/2.parquet") && !message.contains("row") && !message.contains("Row"), "{message}");
    assert_eq!(job["status"]["errors"].as_array().unwrap().len(), 1);
    assert_eq!(fake.row_count("d", "t"), 0);
}
