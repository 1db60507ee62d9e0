//! Upserts and deletes by key, sent as change rows or merged.

use arrow::array::RecordBatch;
use futures::StreamExt;
use longshore_bigquery::config::{Changes as Way, Method};
use longshore_core::Result;
use longshore_core::batch::Rows;
use longshore_core::commit::{AttemptId, Committable, Published, WriteDisposition};
use longshore_core::schema::{Field, TableSchema, Type};
use longshore_fakes::bigquery::{Fault, Rule};
use serde_json::{Value, json};

use crate::cases::{Bench, TABLE, is_done};
use crate::own_server::Shop;
use crate::samples::{as_inserted, batch, every_type_columns, every_type_rows, keyed, schema, upserts};

const WAYS: [Way; 2] = [Way::Cdc, Way::Merge];

async fn bench(way: Way, extra: Value) -> Bench {
    let mut shop = Shop::new(Method::StorageWrite).await;
    shop.changes = way;
    let mut fields = schema();
    if way == Way::Merge {
        fields.fields.push(Field::new("_longshore_order", Type::String));
    }
    shop.server.create_table("shop", TABLE, &fields, extra);
    let worker = shop.open();
    Bench { shop, worker }
}

async fn stage(bench: &Bench, attempt: &str, batches: Vec<Rows>) -> Result<Committable> {
    let batches = futures::stream::iter(batches.into_iter().map(Ok)).boxed();
    let attempt = AttemptId(attempt.into());
    let staged = bench.worker.stage(&attempt, TABLE, &schema(), WriteDisposition::Append, batches).await?;
    assert_eq!(staged.refused, []);
    Ok(staged.committable)
}

fn rows(bench: &Bench) -> Vec<(i64, String)> {
    let rows = bench.shop.server.rows("shop", TABLE);
    let mut rows: Vec<_> =
        rows.iter().map(|row| (row["id"].as_i64().unwrap(), row["name"].as_str().unwrap().to_owned())).collect();
    rows.sort();
    rows
}

fn named(rows: &[(i64, &str)]) -> Vec<(i64, String)> {
    rows.iter().map(|(id, name)| (*id, (*name).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_change_of_each_key_counts_within_a_commit_and_across_commits() {
    for way in WAYS {
        let bench = bench(way, keyed()).await;
        let first = [(1, Some("a"), "01"), (2, Some("b"), "02"), (1, Some("A"), "03")];
        let second = [(3, Some("c"), "04"), (2, None, "05"), (4, Some("d"), "06"), (4, None, "07")];
        let staged = stage(&bench, "a", vec![batch(&first), batch(&second)]).await.unwrap();
        assert_eq!((staged.rows, rows(&bench)), (7, Vec::new()), "{way:?}: nothing shows before it is journalled");
        assert!(is_done(&bench.publish(1, &staged).await), "{way:?}");
        assert_eq!(rows(&bench), named(&[(1, "A"), (3, "c")]), "{way:?}");

        let staged =
            stage(&bench, "b", vec![batch(&[(2, Some("B"), "08"), (3, None, "09"), (1, Some("AA"), "10")])]).await.unwrap();
        assert!(is_done(&bench.publish(2, &staged).await), "{way:?}");
        assert_eq!(rows(&bench), named(&[(1, "AA"), (2, "B")]), "{way:?}");
        assert_eq!(bench.shop.waiting(), 0, "{way:?}");
        let ours = |table: &String| table.starts_with("_longshore_stage");
        assert!(!bench.shop.server.tables("shop").iter().any(ours), "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_are_sent_again_after_a_crash_come_to_the_same_and_older_ones_undo_nothing() {
    for way in WAYS {
        let bench = bench(way, keyed()).await;
        let old = stage(&bench, "a", vec![batch(&[(1, Some("a"), "01"), (2, Some("b"), "02")])]).await.unwrap();
        // Killed after sending, before the mark says so; somebody else begins from the journal.
        bench.arm(Rule::on("AppendRows", Fault::refuse(403, "accessDenied", "gone")).about("_longshore").skip(1));
        bench.publish(1, &old).await.expect_err("no mark");
        let recovered = bench.shop.open();
        assert!(bench.publish_by(recovered.as_ref(), 1, &old).await.is_ok(), "{way:?}");
        assert_eq!(rows(&bench), named(&[(1, "a"), (2, "b")]), "{way:?}");

        // A dead letter of an older change is replayed after a newer one.
        let new = stage(&bench, "b", vec![batch(&[(1, Some("new"), "09")])]).await.unwrap();
        assert!(is_done(&bench.publish(2, &new).await), "{way:?}");
        let replayed = stage(&bench, "c", vec![batch(&[(1, Some("older"), "05"), (2, Some("B"), "06")])]).await.unwrap();
        assert!(is_done(&bench.publish(3, &replayed).await), "{way:?}");
        assert_eq!(rows(&bench), named(&[(1, "new"), (2, "B")]), "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_key_stays_deleted_when_an_older_change_is_replayed() {
    // Merging forgets what it deletes; the guide says so.
    let bench = bench(Way::Cdc, keyed()).await;
    let deleted = stage(&bench, "a", vec![batch(&[(1, Some("a"), "01"), (1, None, "09")])]).await.unwrap();
    assert!(is_done(&bench.publish(1, &deleted).await));
    let replayed = stage(&bench, "b", vec![batch(&[(1, Some("older"), "07")])]).await.unwrap();
    assert!(is_done(&bench.publish(2, &replayed).await));
    assert_eq!(rows(&bench), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_is_refused_is_told_as_a_row_and_the_others_count() {
    let bench = bench(Way::Cdc, keyed()).await;
    let staged = stage(&bench, "a", vec![batch(&[(1, Some("a"), "1"), (2, Some("b"), "2")]), batch(&[(3, Some("c"), "3")])]);
    let staged = staged.await.unwrap();
    bench.arm(Rule::on("AppendRows", Fault::RefuseRows(vec![1])).about(TABLE));
    let Ok(Published::Refused(refused)) = bench.publish(1, &staged).await else { panic!("refused") };
    assert_eq!(rows(&bench), named(&[(1, "a"), (3, "c")]));
    let attempt = AttemptId("b".into());
    let again = bench.worker.restage(&attempt, TABLE, &schema(), &[staged], &refused).await.unwrap();
    assert_eq!(
        again.refused.iter().map(|refused| (refused.row, &refused.values)).collect::<Vec<_>>(),
        [(1, &json!({"id": 2, "name": "b"}))]
    );
    let worker = bench.worker.clone();
    assert!(is_done(&bench.publish_amended(worker.as_ref(), 1, 1, &again.committable).await));
    assert_eq!(rows(&bench), named(&[(1, "a"), (3, "c")]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_without_a_key_takes_no_changes_and_says_how_to_give_it_one() {
    let bench = bench(Way::Cdc, json!({})).await;
    let error = stage(&bench, "a", vec![batch(&[(1, Some("a"), "1")])]).await.expect_err("refused");
    assert_eq!(error.code(), "bigquery_changes_unsupported");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("key")), "{error:?}");
}

/// A server, columns of every type, and rows with values at their bounds, in the middle, and nulls.
pub async fn every_type(method: Method) -> (Bench, TableSchema, RecordBatch) {
    let schema = TableSchema::from_json(&every_type_columns(false)).unwrap();
    let shop = Shop::new(method).await;
    let worker = shop.open();
    shop.server.create_table("shop", "source", &schema, json!({}));
    let rows: Vec<Value> = every_type_rows().iter().map(|row| json!({"json": as_inserted(row)})).collect();
    let url = format!("{}/bigquery/v2/projects/acme/datasets/shop/tables/source/insertAll", shop.server.rest());
    let answer = reqwest::Client::new().post(url).json(&json!({"rows": rows})).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["insertErrors"], Value::Null);
    let rows = shop.server.batch("shop", "source").unwrap();
    (Bench { shop, worker }, schema, rows)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_arrives_as_a_change_as_it_does_as_a_row() {
    let (bench, schema, rows) = every_type(Method::StorageWritePending).await;
    for (table, extra) in [("plain", json!({})), ("keyed", keyed())] {
        bench.shop.server.create_table("shop", table, &schema, extra);
    }
    for (table, rows) in [("plain", Rows::Plain(rows.clone())), ("keyed", upserts(rows))] {
        let batches = futures::stream::iter([Ok(rows)]).boxed();
        let attempt = AttemptId("a".into());
        let staged = bench.worker.stage(&attempt, table, &schema, WriteDisposition::Append, batches).await.unwrap();
        assert_eq!(staged.refused, []);
        let published = bench.publish(1, &staged.committable).await;
        assert!(is_done(&published), "{published:?}");
    }
    let landed = bench.shop.server.rows("shop", "keyed");
    assert_eq!(landed.len(), every_type_rows().len());
    assert_eq!(landed, bench.shop.server.rows("shop", "plain"));
}
