//! Contract case 11: rows that BigQuery says a final no to when they are published.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use futures::StreamExt;
use longshore_bigquery::config::{FileFormat, Method};
use longshore_core::batch::Rows;
use longshore_core::commit::{AttemptId, Published, Refused, WriteDisposition};
use longshore_core::schema::{Field, Mode, TableSchema, Type};
use longshore_fakes::bigquery::{Fault, Rule};
use serde_json::{Value, json};

use crate::cases::{Bench, TABLE, is_done, schema};
use crate::changes::every_type;
use crate::own_server::Shop;

fn refusal(published: longshore_core::Result<Published>) -> Refused {
    match published {
        Ok(Published::Refused(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_11_a_load_job_that_refuses_rows_is_followed_by_a_stream_without_them() {
    for (format, disposition) in [FileFormat::Parquet, FileFormat::Avro, FileFormat::Json]
        .into_iter()
        .flat_map(|f| [WriteDisposition::Append, WriteDisposition::Truncate].map(|d| (f, d)))
    {
        let mut bench = Bench::new(Method::LoadJob).await;
        bench.shop.format = format;
        bench.worker = bench.shop.open();
        let ids: Vec<i64> = (0..1000).collect();
        let staged = bench.stage_for("a", &ids, disposition).await.unwrap();
        bench.arm(Rule::on("jobs.insert", Fault::JobRefusesRows(vec![7])));
        let refused = refusal(bench.publish(1, &staged).await);
        // (The server does not read Avro: it refuses the files as a whole.)
        let named = format == FileFormat::Avro || refused.reason.contains("gs://landing/");
        assert!(named, "the file is named: {}", refused.reason);
        assert_eq!((refused.rows.as_slice(), refused.others_shown), (&[][..], false));
        assert_eq!(bench.ids(), [] as [i64; 0]);

        // The stream says of each row what is wrong with it.
        bench.arm(Rule::on("AppendRows", Fault::RefuseRows(vec![7, 500, 999])));
        let attempt = AttemptId("b".into());
        let again = bench.worker.restage(&attempt, TABLE, &schema(), std::slice::from_ref(&staged), &refused).await.unwrap();
        let out: Vec<(u64, &Value)> = again.refused.iter().map(|refused| (refused.row, &refused.values)).collect();
        assert_eq!(out, [(7, &json!({"id": 7})), (500, &json!({"id": 500})), (999, &json!({"id": 999}))]);
        assert_eq!(again.committable.rows, 997);
        assert_eq!(bench.shop.server.objects().len(), 1, "the first files stay until the commit is published");

        let worker = bench.worker.clone();
        assert!(is_done(&bench.publish_amended(worker.as_ref(), 1, 1, &again.committable).await));
        let rest: Vec<i64> = ids.into_iter().filter(|id| ![7, 500, 999].contains(id)).collect();
        assert_eq!(bench.ids(), rest, "{format:?} {disposition:?}");
        let again = bench.publish_amended(worker.as_ref(), 1, 1, &again.committable).await;
        assert!(matches!(again, Ok(Published::Already(_))), "{again:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_refused_while_they_are_sent_are_told_with_their_values_and_no_other_is_sent_again() {
    for method in [Method::StorageWriteDefault, Method::InsertAll] {
        let shop = Shop::new(method).await;
        let required =
            TableSchema::new(vec![Field::new("id", Type::Int64), Field::new("s", Type::String).with_mode(Mode::Required)]);
        shop.server.create_table("shop", TABLE, &required, json!({}));
        let worker = shop.open();
        let bench = Bench { shop, worker };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![1, 2, 3, 4])),
            Arc::new(StringArray::from(vec![Some("a"), None, Some("c"), None])),
        ];
        // Another program than Longshore may say that a column is required after rows were decoded.
        let schema = TableSchema::new(vec![Field::new("id", Type::Int64), Field::new("s", Type::String)]);
        let batch = RecordBatch::try_new(schema.to_arrow(), columns).unwrap();
        let batches = futures::stream::iter([Ok(Rows::Plain(batch))]).boxed();
        let attempt = AttemptId("a".into());
        let staged = bench.worker.stage(&attempt, TABLE, &schema, WriteDisposition::Append, batches).await.unwrap().committable;
        let refused = refusal(bench.publish(1, &staged).await);
        assert_eq!(refused.rows.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 3]);
        assert!(refused.others_shown && refused.rows.iter().all(|(_, reason)| !reason.is_empty()));
        assert_eq!(bench.ids(), [1, 3], "{method:?}");
        let attempt = AttemptId("b".into());
        let again = bench.worker.restage(&attempt, TABLE, &schema, std::slice::from_ref(&staged), &refused).await.unwrap();
        let out: Vec<&Value> = again.refused.iter().map(|refused| &refused.values).collect();
        assert_eq!((out, again.committable.rows), (vec![&json!({"id": 2}), &json!({"id": 4})], 2));
        let worker = bench.worker.clone();
        assert!(is_done(&bench.publish_amended(worker.as_ref(), 1, 1, &again.committable).await));
        assert_eq!(bench.ids(), [1, 3], "{method:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_9_rows_that_show_at_once_are_sent_only_once_they_are_journalled_and_by_whoever_comes() {
    for method in [Method::StorageWriteDefault, Method::InsertAll] {
        let bench = Bench::new(method).await;
        bench.stage("never journalled", &[7]).await.unwrap();
        let staged = bench.stage("a", &[1, 2]).await.unwrap();
        assert_eq!(bench.ids(), [] as [i64; 0], "{method:?}");
        // The process is killed before it sends anything; another one has only the journal and the files.
        bench.worker.sweep(&[AttemptId("never journalled".into())]).await.unwrap();
        let recovered = bench.shop.open();
        assert!(is_done(&bench.publish_by(recovered.as_ref(), 1, &staged).await));
        assert_eq!(bench.ids(), [1, 2], "{method:?}");
        let again = bench.publish_by(bench.shop.open().as_ref(), 1, &staged).await;
        assert!(matches!(again, Ok(Published::Already(_))), "{again:?}");
        assert_eq!(bench.ids(), [1, 2], "{method:?}");
        assert_eq!(bench.shop.waiting(), 0, "nothing of ours stays");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_in_files_of_ours_and_is_removed_is_parked_and_not_taken_for_landed() {
    let bench = Bench::new(Method::InsertAll).await;
    let staged = bench.stage("a", &[1]).await.unwrap();
    bench.worker.sweep(&[AttemptId("a".into())]).await.unwrap();
    let parked = bench.publish(1, &staged).await;
    assert!(matches!(parked, Ok(Published::Parked(_))), "{parked:?}");
    assert_eq!(bench.ids(), [] as [i64; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_back_from_files_of_a_load_job_is_what_was_written_to_them() {
    for format in [FileFormat::Parquet, FileFormat::Avro, FileFormat::Json] {
        let (mut bench, every, rows) = every_type(Method::LoadJob).await;
        bench.shop.format = format;
        bench.worker = bench.shop.open();
        // Parquet and Avro do not carry what load jobs take from text only.
        let text = |field: &Field| matches!(field.type_, Type::Json | Type::Geography | Type::Interval);
        let kept: Vec<usize> =
            (0..every.fields.len()).filter(|i| format == FileFormat::Json || !text(&every.fields[*i])).collect();
        let schema = TableSchema::new(kept.iter().map(|i| every.fields[*i].clone()).collect());
        let rows = rows.project(&kept).unwrap();
        bench.shop.server.create_table("shop", TABLE, &schema, json!({}));
        let staged = bench.stage_rows("a", TABLE, &schema, WriteDisposition::Append, rows).await.unwrap();
        assert_eq!(staged.refused, []);
        let ending = format!(".{format:?}").to_lowercase();
        assert!(bench.shop.server.objects().iter().all(|name| name.ends_with(&ending)), "{format:?}");
        bench.arm(Rule::on("jobs.insert", Fault::JobRefusesRows(vec![0])));
        let refused = refusal(bench.publish(1, &staged.committable).await);
        let attempt = AttemptId("b".into());
        let again = bench.worker.restage(&attempt, TABLE, &schema, &[staged.committable], &refused).await.unwrap();
        assert_eq!(again.refused, [], "{format:?}");
        let worker = bench.worker.clone();
        assert!(is_done(&bench.publish_amended(worker.as_ref(), 1, 1, &again.committable).await), "{format:?}");
        let mut wanted = bench.shop.server.rows("shop", "source");
        for row in &mut wanted {
            row.as_object_mut().unwrap().retain(|name, _| schema.field(name).is_some());
        }
        assert_eq!(bench.shop.server.rows("shop", TABLE), wanted, "{format:?}");
        assert_eq!(bench.shop.server.objects(), [] as [String; 0]);
    }
}
