//! The interleavings and refusals that break a naive version, one test each, against the fault server of our own.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use async_trait::async_trait;
use futures::StreamExt;
use longshore_bigquery::config::Method;
use longshore_core::Result;
use longshore_core::batch::Rows;
use longshore_core::commit::{Application, AttemptId, CommitNumber, Committable, Contract, Published, WriteDisposition};
use longshore_core::destination::{Destination, Fence, Mode, Publication, SchemaChange, Staged};
use longshore_core::error::Retry;
use longshore_core::retry::{Patience, Policy};
use longshore_core::schema::{Field, TableSchema, Type};
use longshore_fakes::bigquery::{Fault, Rule};
use serde_json::{Value, json};

use crate::own_server::Shop;

pub const TABLE: &str = "orders";

pub struct Free;

#[async_trait]
impl Fence for Free {
    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

pub fn schema() -> TableSchema {
    TableSchema::new(vec![Field::new("id", Type::Int64)])
}

/// A worker over a table that is there.
pub struct Bench {
    pub shop: Shop,
    pub worker: Arc<dyn Destination>,
}

impl Bench {
    pub async fn new(method: Method) -> Self {
        let shop = Shop::new(method).await;
        let worker = shop.open();
        let bench = Self { shop, worker };
        bench.prepare().await;
        bench
    }

    pub async fn prepare(&self) {
        let change = SchemaChange {
            table: TABLE.into(),
            wanted: schema(),
            contract: Contract::Evolve,
            disposition: WriteDisposition::Append,
            options: Default::default(),
        };
        self.worker.prepare(&change, Mode::Apply).await.unwrap();
    }

    pub async fn stage(&self, attempt: &str, ids: &[i64]) -> Result<Committable> {
        self.stage_for(attempt, ids, WriteDisposition::Append).await
    }

    pub async fn stage_for(&self, attempt: &str, ids: &[i64], disposition: WriteDisposition) -> Result<Committable> {
        let staged = self.stage_rows(attempt, TABLE, &schema(), disposition, batch(ids)).await?;
        assert_eq!(staged.refused, []);
        Ok(staged.committable)
    }

    /// With what was refused.
    pub async fn stage_all(&self, attempt: &str, ids: &[i64]) -> Result<Staged> {
        self.stage_rows(attempt, TABLE, &schema(), WriteDisposition::Append, batch(ids)).await
    }

    pub async fn stage_rows(
        &self,
        attempt: &str,
        table: &str,
        schema: &TableSchema,
        disposition: WriteDisposition,
        rows: RecordBatch,
    ) -> Result<Staged> {
        let batches = futures::stream::iter(vec![Ok(Rows::Plain(rows))]).boxed();
        self.worker.stage(&AttemptId(attempt.into()), table, schema, disposition, batches).await
    }

    pub async fn publish(&self, n: CommitNumber, committable: &Committable) -> Result<Published> {
        self.publish_by(self.worker.as_ref(), n, committable).await
    }

    pub async fn publish_by(&self, worker: &dyn Destination, n: CommitNumber, committable: &Committable) -> Result<Published> {
        self.publish_amended(worker, n, 0, committable).await
    }

    pub async fn publish_amended(
        &self,
        worker: &dyn Destination,
        n: CommitNumber,
        amendment: i64,
        committable: &Committable,
    ) -> Result<Published> {
        publish(worker, n, amendment, committable).await
    }

    /// As the engine publishes: what passes is tried again.
    pub async fn published(&self, n: CommitNumber, committable: &Committable) -> Result<Published> {
        Policy { tries: 8, ..Policy::default() }.run(&Patience::default(), || self.publish(n, committable)).await
    }

    pub fn ids(&self) -> Vec<i64> {
        let rows = self.shop.server.rows("shop", TABLE);
        let mut ids: Vec<i64> = rows.iter().map(|row| row["id"].as_i64().unwrap()).collect();
        ids.sort_unstable();
        ids
    }

    pub fn arm(&self, rule: Rule) {
        self.shop.server.arm(rule);
    }
}

/// Publishes as the one pipeline that there is.
pub async fn publish(worker: &dyn Destination, n: CommitNumber, amendment: i64, committable: &Committable) -> Result<Published> {
    let application = Application { pipeline: "p".into(), ledger: "l".into(), store: "s".into() };
    let publication = Publication {
        application: &application,
        n,
        token: &format!("token{n}"),
        amendment,
        table: &committable.table,
        committables: std::slice::from_ref(committable),
        note: json!({}),
        fence: &Free,
    };
    worker.publish(publication).await
}

fn batch(ids: &[i64]) -> RecordBatch {
    RecordBatch::try_new(schema().to_arrow(), vec![Arc::new(Int64Array::from(ids.to_vec()))]).unwrap()
}

/// JSON objects in these columns.
pub fn batch_of(schema: &TableSchema, rows: &[Value]) -> RecordBatch {
    let mut decoder = arrow::json::ReaderBuilder::new(schema.to_arrow()).build_decoder().unwrap();
    decoder.serialize(rows).unwrap();
    decoder.flush().unwrap().unwrap()
}

pub fn is_done(published: &Result<Published>) -> bool {
    matches!(published, Ok(Published::Done(_)))
}

const EVERY_METHOD: [Method; 3] = [Method::LoadJob, Method::StorageWritePending, Method::StorageWrite];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_6_rows_that_were_never_journalled_stay_hidden_when_the_next_ones_are_flushed() {
    let bench = Bench::new(Method::StorageWrite).await;
    bench.stage("refused", &[1, 2]).await.unwrap();
    let next = bench.stage("taken", &[3]).await.unwrap();
    assert!(is_done(&bench.publish(1, &next).await));
    assert_eq!(bench.ids(), [3]);
    assert_eq!(bench.shop.server.calls("CreateWriteStream"), 2, "the next rows went to a stream of their own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_7_a_flush_shows_the_rows_of_its_commit_and_not_one_more() {
    let bench = Bench::new(Method::StorageWrite).await;
    for n in 1..=4 {
        let staged = bench.stage(&format!("a{n}"), &[n * 10, n * 10 + 1]).await.unwrap();
        let before: Vec<i64> = (1..n).flat_map(|n| [n * 10, n * 10 + 1]).collect();
        assert_eq!(bench.ids(), before, "staged rows are hidden");
        assert!(is_done(&bench.publish(n, &staged).await));
        assert_eq!(bench.ids().len(), before.len() + 2);
    }
    assert_eq!(bench.shop.server.calls("CreateWriteStream"), 1, "one stream serves commit after commit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_8_a_stream_that_expired_is_parked_and_never_taken_for_published() {
    for method in [Method::StorageWritePending, Method::StorageWrite] {
        let bench = Bench::new(method).await;
        let staged = bench.stage("a", &[1]).await.unwrap();
        bench.shop.server.expire_streams();
        for _ in 0..2 {
            let published = bench.publish(1, &staged).await;
            assert!(matches!(published, Ok(Published::Parked(_))), "{method:?}: {published:?}");
        }
        assert_eq!(bench.ids(), [] as [i64; 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_10_a_job_that_failed_for_a_passing_reason_makes_room_for_the_next_one() {
    for disposition in [WriteDisposition::Append, WriteDisposition::Truncate] {
        let bench = Bench::new(Method::LoadJob).await;
        let staged = bench.stage_for("a", &[1], disposition).await.unwrap();
        bench.arm(Rule::on("jobs.insert", Fault::job_fails("backendError", "Error encountered during execution.")));
        bench.arm(Rule::on("jobs.insert", Fault::LoseAnswer));
        // The answer to the first job is lost, too: recovery submits it again and is told that it is there.
        let recovered = bench.shop.open();
        let published = Policy::default().run(&Patience::default(), || bench.publish_by(recovered.as_ref(), 1, &staged)).await;
        assert!(published.is_ok(), "{published:?}");
        assert_eq!(bench.ids(), [1]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_12_a_job_that_takes_long_is_waited_for() {
    let bench = Arc::new(Bench::new(Method::LoadJob).await);
    let staged = bench.stage("a", &[1]).await.unwrap();
    bench.arm(Rule::on("jobs.insert", Fault::JobStaysRunning));
    let (other, waiting) = (bench.clone(), staged.clone());
    let publishing = tokio::spawn(async move { other.publish(1, &waiting).await });
    while bench.shop.server.calls("jobs.get") < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(bench.ids(), [] as [i64; 0]);
    bench.shop.server.release_jobs().await;
    assert!(is_done(&publishing.await.unwrap()));
    assert_eq!((bench.ids(), bench.shop.server.calls("jobs.insert")), (vec![1], 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_14_a_table_made_anew_gets_none_of_the_old_ones_rows() {
    for method in EVERY_METHOD {
        let bench = Bench::new(method).await;
        let staged = bench.stage("a", &[1]).await.unwrap();
        assert!(bench.shop.server.recreate_table("shop", TABLE));
        assert!(matches!(bench.publish(1, &staged).await, Ok(Published::Parked(_))), "{method:?}");
        assert_eq!(bench.ids(), [] as [i64; 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_17_files_that_somebody_else_deleted_are_found_missing() {
    let bench = Bench::new(Method::LoadJob).await;
    let staged = bench.stage("a", &[1]).await.unwrap();
    let object = bench.shop.server.objects().remove(0);
    let (bucket, key) = object.split_once('/').unwrap();
    let url = format!("{}/storage/v1/b/{bucket}/o/{}", bench.shop.server.rest(), key.replace('/', "%2F"));
    assert!(reqwest::Client::new().delete(url).send().await.unwrap().status().is_success());
    let published = bench.publish(1, &staged).await;
    assert!(matches!(published, Ok(Published::Parked(_))), "{published:?}");
    assert_eq!(bench.ids(), [] as [i64; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_22_a_replacement_that_was_never_journalled_leaves_the_table_as_it_is() {
    for method in EVERY_METHOD {
        let bench = Bench::new(method).await;
        let first = bench.stage("a", &[1]).await.unwrap();
        assert!(is_done(&bench.publish(1, &first).await));
        bench.stage_for("b", &[2], WriteDisposition::Truncate).await.unwrap();
        assert_eq!(bench.ids(), [1], "{method:?}");
        bench.worker.sweep(&[AttemptId("b".into())]).await.unwrap();
        let own: Vec<String> = bench.shop.server.tables("shop");
        assert!(own.iter().all(|table| !table.starts_with("_longshore_stage")), "{own:?}");
        assert_eq!((bench.ids(), bench.shop.server.objects()), (vec![1], Vec::new()), "{method:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_refusals_passes_and_the_wait_that_is_asked_for_is_kept() {
    let storm = |status, reason: &str| Fault::Refuse {
        status,
        reason: reason.into(),
        message: "Exceeded rate limits".into(),
        retry_after: Some(1),
    };
    for (status, reason) in [(429, "rateLimitExceeded"), (403, "quotaExceeded"), (503, "backendError")] {
        let bench = Bench::new(Method::LoadJob).await;
        let staged = bench.stage("a", &[1]).await.unwrap();
        bench.arm(Rule::on("jobs.insert", storm(status, reason)).times(2));
        let error = bench.publish(1, &staged).await.expect_err("refused");
        assert_eq!(error.retry(), Retry::Backoff);
        assert_eq!(error.retry_after(), Some(std::time::Duration::from_secs(1)), "{error:?}");
        assert!(is_done(&bench.published(1, &staged).await));
        assert_eq!(bench.ids(), [1]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_expires_on_the_way_is_replaced_by_the_next_one() {
    for method in EVERY_METHOD {
        let bench = Bench::new(method).await;
        for call in ["tables.get", "AppendRows", "jobs.insert", "BatchCommitWriteStreams", "FlushRows"] {
            bench.arm(Rule::on(call, Fault::ExpireToken));
        }
        let mut staged = bench.stage("a", &[1]).await;
        if staged.is_err() {
            staged = bench.stage("b", &[1]).await;
        }
        assert!(is_done(&bench.published(1, &staged.unwrap()).await), "{method:?}");
        assert_eq!(bench.ids(), [1], "{method:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_in_mid_stream_doubles_and_loses_nothing() {
    for method in [Method::StorageWritePending, Method::StorageWrite] {
        for fault in [Fault::LoseAnswer, Fault::LoseRequest] {
            let bench = Bench::new(method).await;
            // Some eighty requests.
            let ids: Vec<i64> = (0..200_000).collect();
            let many = ids.chunks(2_500).map(|ids| {
                let column = Arc::new(Int64Array::from(ids.to_vec()));
                Ok(Rows::Plain(RecordBatch::try_new(schema().to_arrow(), vec![column]).unwrap()))
            });
            let batches = futures::stream::iter(many.collect::<Vec<_>>()).boxed();
            bench.arm(Rule::on("AppendRows", fault.clone()).skip(20).times(3));
            let attempt = AttemptId("a".into());
            let staged = bench.worker.stage(&attempt, TABLE, &schema(), WriteDisposition::Append, batches).await.unwrap();
            assert!(is_done(&bench.published(1, &staged.committable).await));
            assert_eq!(bench.ids(), ids, "{method:?}, {fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_bigquery_refuses_come_back_in_its_own_words_and_the_rest_lands_once() {
    // Rows that come at once, and rows that are waited for while refusals come in: then the second refusal meets the third request.
    let paces = [(0, [2, 3, 5]), (30, [3, 5, 6])];
    for (method, (pause, wrong)) in
        [Method::StorageWritePending, Method::StorageWrite].into_iter().flat_map(|method| paces.map(|pace| (method, pace)))
    {
        let bench = Bench::new(method).await;
        // The second request of three, and the rest of it in its second try, when the third has been refused for its offset.
        bench.arm(Rule::on("AppendRows", Fault::RefuseRows(vec![1, 3])).skip(1));
        bench.arm(Rule::on("AppendRows", Fault::RefuseRows(vec![0])).skip(2));
        let batch = |ids: &[i64]| {
            let column = Arc::new(Int64Array::from(ids.to_vec()));
            Ok(Rows::Plain(RecordBatch::try_new(schema().to_arrow(), vec![column]).unwrap()))
        };
        let batches = futures::stream::iter(vec![batch(&[1, 2]), batch(&[3, 4, 5, 6]), batch(&[7])]);
        let batches = batches.then(move |batch| async move {
            if pause > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
            }
            batch
        });
        let batches = batches.boxed();
        let attempt = AttemptId("a".into());
        let staged = bench.worker.stage(&attempt, TABLE, &schema(), WriteDisposition::Append, batches).await.unwrap();
        let refused: Vec<(u64, &Value)> = staged.refused.iter().map(|refused| (refused.row, &refused.values)).collect();
        assert_eq!(staged.committable.rows + refused.len() as u64, 7, "{method:?}: {refused:?}");
        assert_eq!(refused.iter().map(|(row, _)| *row).collect::<Vec<_>>(), wrong, "{method:?}, {pause}");
        assert!(refused.iter().all(|(row, values)| **values == json!({"id": row + 1})), "{refused:?}");
        assert!(staged.refused.iter().all(|refused| !refused.reason.is_empty()));
        assert!(is_done(&bench.published(1, &staged.committable).await));
        let rest: Vec<i64> = (1..=7).filter(|id| !wrong.contains(&u64::try_from(id - 1).unwrap())).collect();
        assert_eq!(bench.ids(), rest, "{method:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_at_another_place_is_refused_before_anything_is_staged() {
    let shop = Shop::new(Method::LoadJob).await;
    shop.server.create_dataset("acme", "shop", "us-east1");
    let worker = shop.open();
    let bench = Bench { shop, worker };
    bench.prepare().await;
    let error = bench.stage("a", &[1]).await.expect_err("refused");
    assert_eq!((error.code(), error.retry()), ("bigquery_location", Retry::AfterFix));
    assert_eq!(bench.shop.server.objects(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_columns_leave_everything_else_of_a_table_as_it_is() {
    let shop = Shop::new(Method::StorageWritePending).await;
    let kept = json!({
        "description": "Of the shop", "labels": {"team": "sales"}, "clustering": {"fields": ["id"]},
        "expirationTime": "4102444800000", "maxStaleness": "0-0 0 0:15:0",
    });
    shop.server.create_table("shop", TABLE, &schema(), kept.clone());
    let worker = shop.open();
    let mut wanted = schema();
    wanted.fields.push(Field::new("Fax", Type::String));
    let change = SchemaChange {
        table: TABLE.into(),
        wanted,
        contract: Contract::Evolve,
        disposition: WriteDisposition::Append,
        options: Default::default(),
    };
    let plan = worker.prepare(&change, Mode::Apply).await.unwrap();
    assert_eq!(plan.changes, ["add column Fax STRING"]);
    let table = shop.server.table("shop", TABLE).unwrap();
    for (key, value) in kept.as_object().unwrap() {
        assert_eq!(&table[key], value, "{key}");
    }
    let names: Vec<&Value> = table["schema"]["fields"].as_array().unwrap().iter().map(|field| &field["name"]).collect();
    assert_eq!(names, ["id", "Fax"]);
}
