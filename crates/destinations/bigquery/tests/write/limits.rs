//! Quotas, bad rows, partitions and widened columns.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use longshore_bigquery::config::{Changes, Method};
use longshore_core::commit::{AttemptId, Contract, Published, WriteDisposition};
use longshore_core::destination::{Mode, SchemaChange};
use longshore_core::error::Retry;
use longshore_core::event::{Events, Observer, RunEvent};
use longshore_core::retry::Patience;
use longshore_core::schema::{Field, TableSchema, Type};
use longshore_core::stop::Stop;
use longshore_core::table_options::TableOptions;
use longshore_fakes::bigquery::{Fault, Rule};
use serde_json::{Value, json};

use crate::cases::{Bench, TABLE, is_done, schema};
use crate::own_server::Shop;

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn event(&self, event: &RunEvent) {
        if let RunEvent::Waiting { reason } = event {
            self.0.lock().unwrap().push(reason.clone());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_up_quota_is_waited_for_by_everybody_who_needs_it_and_told_as_waiting() {
    for (method, call) in [(Method::LoadJob, "jobs.insert"), (Method::StorageWritePending, "CreateWriteStream")] {
        let bench = Bench::new(method).await;
        let told = Arc::new(Told::default());
        bench.worker.attend(&Patience { stop: Stop::default(), events: Events::new(told.clone()) });
        let fault = Rule::on(call, Fault::out_of_quota("quotaExceeded", Some(2)));
        let begin = Instant::now();
        let staged = if method == Method::LoadJob {
            let staged = bench.stage("a", &[1]).await.unwrap();
            bench.arm(fault);
            staged
        } else {
            bench.arm(fault);
            bench.stage("a", &[1]).await.unwrap()
        };
        // Refused once at most: nobody asks again before the time that was asked for.
        assert!(is_done(&bench.published(1, &staged).await), "{method:?}");
        assert!(begin.elapsed() >= Duration::from_secs(2), "{method:?}");
        assert_eq!(bench.ids(), [1]);
        let told = told.0.lock().unwrap();
        assert!(!told.is_empty() || method == Method::LoadJob, "{method:?}: {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_refused_rows_than_allowed_stop_the_run_and_land_nothing() {
    for (most, fits) in [(1, false), (2, true)] {
        let mut shop = Shop::new(Method::StorageWritePending).await;
        shop.max_bad_records = Some(most);
        let worker = shop.open();
        let bench = Bench { shop, worker };
        bench.prepare().await;
        bench.arm(Rule::on("AppendRows", Fault::RefuseRows(vec![0, 2])));
        let staged = bench.stage_all("a", &[1, 2, 3]).await;
        match staged {
            Ok(staged) => assert!(fits && staged.refused.len() == 2, "{staged:?}"),
            Err(error) => {
                assert!(!fits && error.code() == "bigquery_rows_refused" && error.retry() == Retry::AfterFix, "{error:?}");
            }
        }
        assert_eq!(bench.ids(), [] as [i64; 0]);
    }
}

fn dated() -> TableSchema {
    TableSchema::new(vec![Field::new("id", Type::Int64), Field::new("day", Type::Date)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_partition_of_a_table_is_replaced_and_the_others_stay() {
    let shop = Shop::new(Method::LoadJob).await;
    shop.server.create_table("shop", TABLE, &dated(), json!({"timePartitioning": {"type": "DAY", "field": "day"}}));
    for (id, day) in [(1, "2024-01-30"), (2, "2024-01-31")] {
        let url = format!("{}/bigquery/v2/projects/acme/datasets/shop/tables/{TABLE}/insertAll", shop.server.rest());
        let rows = json!({"rows": [{"json": {"id": id, "day": day}}]});
        assert!(reqwest::Client::new().post(url).json(&rows).send().await.unwrap().status().is_success());
    }
    let worker = shop.open();
    let bench = Bench { shop, worker };
    let name = format!("{TABLE}$20240131");
    let change = SchemaChange {
        table: name.clone(),
        wanted: dated(),
        contract: Contract::Evolve,
        disposition: WriteDisposition::Truncate,
        options: TableOptions::default(),
    };
    let plan = bench.worker.prepare(&change, Mode::Apply).await.unwrap();
    assert_eq!((plan.existed, plan.changes), (true, Vec::new()));
    let rows = crate::cases::batch_of(&dated(), &[json!({"id": 7, "day": "2024-01-31"})]);
    let staged = bench.stage_rows("a", &name, &dated(), WriteDisposition::Truncate, rows).await.unwrap().committable;
    assert!(is_done(&bench.publish(1, &staged).await));
    assert_eq!(bench.ids(), [1, 7]);
    assert!(matches!(bench.publish(1, &staged).await, Ok(Published::Already(_))));
    // Other methods cannot.
    let streams = Shop::new(Method::StorageWrite).await;
    let error = streams.open().prepare(&change, Mode::Apply).await.expect_err("refused");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("load_job")), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_21_rows_that_were_staged_before_their_column_was_widened_land_as_wide() {
    for method in
        [Method::LoadJob, Method::StorageWritePending, Method::StorageWrite, Method::StorageWriteDefault, Method::InsertAll]
    {
        let bench = Bench::new(method).await;
        let staged = bench.stage("a", &[1, i64::MAX]).await.unwrap();
        // Another pipeline's decimals come in between.
        let wanted = TableSchema::new(vec![Field::new("id", Type::Numeric)]);
        let change = SchemaChange {
            table: TABLE.into(),
            wanted,
            contract: Contract::Evolve,
            disposition: WriteDisposition::Append,
            options: TableOptions::default(),
        };
        let plan = bench.shop.open().prepare(&change, Mode::Apply).await.unwrap();
        assert_eq!(plan.changes, ["widen column id from INT64 to NUMERIC"]);
        let mut published = bench.published(1, &staged).await;
        if let Ok(Published::Refused(refused)) = &published {
            let attempt = AttemptId("b".into());
            let again = bench.worker.restage(&attempt, TABLE, &schema(), std::slice::from_ref(&staged), refused).await.unwrap();
            assert_eq!(again.refused, []);
            let worker = bench.worker.clone();
            published = bench.publish_amended(worker.as_ref(), 1, 1, &again.committable).await;
        }
        assert!(is_done(&published), "{method:?}: {published:?}");
        let mut ids: Vec<String> =
            bench.shop.server.rows("shop", TABLE).iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        assert_eq!(ids, ["1", "9223372036854775807"], "{method:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_takes_changes_by_merging_has_a_column_of_ours_that_rows_do_not_see() {
    let mut shop = Shop::new(Method::StorageWrite).await;
    shop.changes = Changes::Merge;
    let worker = shop.open();
    let change = SchemaChange {
        table: TABLE.into(),
        wanted: schema(),
        contract: Contract::Evolve,
        disposition: WriteDisposition::Append,
        options: TableOptions { key: vec!["id".into()], ..TableOptions::default() },
    };
    for existed in [false, true] {
        let plan = worker.prepare(&change, Mode::Apply).await.unwrap();
        assert_eq!((plan.existed, &plan.schema), (existed, &schema()));
    }
    let table = shop.server.table("shop", TABLE).unwrap();
    let names: Vec<&Value> = table["schema"]["fields"].as_array().unwrap().iter().map(|field| &field["name"]).collect();
    assert_eq!(names, ["id", "_longshore_order"]);
    assert_eq!(table["tableConstraints"]["primaryKey"]["columns"], json!(["id"]));
}
