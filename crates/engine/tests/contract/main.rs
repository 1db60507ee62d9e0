//! The loop against the in-memory twins: every step refused, answers lost, two replicas, foreign stores, tables that are gone.
//! At the end of each scene a checker counts: each record once in its table or once in the dead letters.

mod amend;
mod changes;
mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::commit::WriteDisposition;
use longshore_core::error::Retry;
use longshore_core::event::{Silent, Status};
use longshore_core::stop::Stop;
use longshore_core::store::{Journal, Runs};
use longshore_engine::{Outcome, Pipeline};
use longshore_store::MemoryStore;
use longshore_testkit::memory_destination::{MemoryDestination, POINTS};
use longshore_testkit::memory_source::MemorySource;

const TABLES: u64 = 3;

fn is_bad(record: u64) -> bool {
    record % 7 == 3
}

/// One store, one source, one destination.
struct World {
    store: MemoryStore,
    source: Arc<MemorySource>,
    destination: MemoryDestination,
    partitions: BTreeMap<String, u64>,
}

impl World {
    fn new() -> Self {
        let store = MemoryStore::new();
        let source = Arc::new(MemorySource::new(Arc::new(store.clone()), TABLES, is_bad));
        let mut world = Self { store, source, destination: MemoryDestination::default(), partitions: BTreeMap::new() };
        world.grow("a", 50);
        world.grow("b", 23);
        world
    }

    fn grow(&mut self, partition: &str, records: u64) {
        self.source.grow(partition, records);
        self.partitions.insert(partition.to_owned(), records);
    }

    fn pipeline() -> Pipeline {
        Pipeline { name: "p".into(), lanes: 2, wait: Duration::from_secs(60), commit_splits: 1, ..Pipeline::default() }
    }

    async fn run(&self) -> longshore_core::Result<Outcome> {
        self.run_as(&Self::pipeline(), Stop::default()).await
    }

    async fn run_as(&self, pipeline: &Pipeline, stop: Stop) -> longshore_core::Result<Outcome> {
        let (store, destination) = (Arc::new(self.store.clone()), Arc::new(self.destination.clone()));
        longshore_engine::run(store, self.source.clone(), destination, pipeline, Arc::new(Silent), stop).await
    }

    /// The checker.
    fn check(&self, what: &str) {
        let mut seen: BTreeMap<(String, u64), (usize, usize)> = BTreeMap::new();
        for t in 0..TABLES {
            for row in self.destination.rows(&format!("t{t}")) {
                let id = number(&row["id"]);
                assert_eq!(id % TABLES, t, "{what}: record {id} is in another table");
                seen.entry((text(&row["partition"]), id)).or_default().0 += 1;
            }
        }
        for row in self.destination.rows("_dead_letters") {
            let payload = text(&row["payload"]);
            let (partition, id) = payload.split_once('/').expect("a payload of the twin");
            seen.entry((partition.to_owned(), id.parse().expect("a number"))).or_default().1 += 1;
        }
        for (partition, records) in &self.partitions {
            for id in 0..*records {
                let wanted = if is_bad(id) { (0, 1) } else { (1, 0) };
                let found = seen.remove(&(partition.clone(), id));
                assert_eq!(found, Some(wanted), "{what}: record {partition}/{id} (in tables, in dead letters)");
            }
        }
        assert!(seen.is_empty(), "{what}: records that nobody wrote: {seen:?}");
    }

    /// Runs again until nothing fails, then checks that the books are closed.
    async fn settle(&self, what: &str) {
        self.run().await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        self.check(what);
        let state = self.store.pipeline("p").await.expect("known");
        assert!(state.open.is_empty(), "{what}: entries are open");
        // Each receipt stands for one staged part of one table.
        let published = self.store.receipts(None, 10_000).await.expect("receipts").len();
        assert_eq!(self.destination.kept(), published, "{what}: staged rows that nobody published or swept");
    }
}

fn number(value: &serde_json::Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).expect("a number")
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().expect("a text").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_lands_once_with_a_receipt_and_is_acknowledged() {
    let world = World::new();
    let outcome = world.run().await.expect("succeeds");
    world.check("one run");
    let bad: u64 = [50, 23].into_iter().map(|records| (0..records).filter(|&i| is_bad(i)).count() as u64).sum();
    assert_eq!(outcome.summary.rejects, bad);
    assert_eq!(outcome.summary.tables.values().sum::<u64>() + bad, 73, "every record read is counted");
    assert_eq!(outcome.summary.commits, 2);
    let receipts = world.store.receipts(Some(&outcome.run), 100).await.expect("receipts");
    assert_eq!(receipts.iter().map(|receipt| receipt.rows).sum::<u64>(), 73, "the receipts account for every record");
    assert_eq!(world.source.acknowledged().len(), 2);
    let (run, _) = world.store.run(&outcome.run).await.expect("read").expect("known");
    assert_eq!(run.status, Status::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_the_destination_that_fails_for_good_is_made_good_by_the_next_run() {
    for point in POINTS {
        for which in 1..4 {
            let mut world = World::new();
            world.run().await.expect("a first run");
            world.grow("a", 80);
            world.grow("c", 31);
            // The first, second or third time that a run comes by.
            world.destination.fail(point, which, Retry::Never);
            for _ in 0..which {
                let _ = world.run().await;
            }
            world.settle(&format!("{point}, {which} times")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_once_is_settled_within_the_run() {
    for point in ["publish.before", "publish.after", "prepare.before", "prepare.after"] {
        let world = World::new();
        world.destination.fail(point, 1, Retry::Backoff);
        world.run().await.unwrap_or_else(|error| panic!("{point}: {error:?}"));
        world.settle(point).await;
    }
}

/// Contract case 16, and the same for the store's other calls: what is not known to have been done is asked for again before anything
/// is cleaned away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_of_the_store_loses_and_doubles_nothing() {
    for call in ["journal", "complete", "acknowledged", "begin_attempt", "keep_letters", "swept"] {
        let mut world = World::new();
        world.run().await.expect("a first run");
        world.grow("a", 90);
        // Something to sweep.
        world.destination.fail("stage.after", 1, Retry::Never);
        let _ = world.run().await;
        world.store.lose_answer(call);
        let result = world.run().await;
        if matches!(call, "journal" | "complete" | "keep_letters") {
            result.unwrap_or_else(|error| panic!("{call} is asked again within the run: {error:?}"));
        }
        world.settle(call).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_at_once_land_each_record_once() {
    let world = World::new();
    let pipeline = World::pipeline();
    let (one, two) = tokio::join!(world.run_as(&pipeline, Stop::default()), world.run_as(&pipeline, Stop::default()));
    let (one, two) = (one.expect("one"), two.expect("two"));
    assert_eq!(one.summary.commits + two.summary.commits, 2, "what one landed the other does not");
    world.settle("two at once").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_told_to_stop_lands_nothing_half() {
    let world = World::new();
    let stop = Stop::default();
    stop.request();
    let error = world.run_as(&World::pipeline(), stop).await.expect_err("stopped");
    assert_eq!(error.code(), "interrupted");
    let runs = world.store.runs(Some("p"), 1).await.expect("runs");
    assert_eq!(runs[0].status, Status::Cancelled);
    world.settle("stopped").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_dead_letters_than_allowed_stop_a_run_unpublished_if_asked() {
    let world = World::new();
    let strict = Pipeline { max_dead_letters: Some(2), stop_on_max: true, ..World::pipeline() };
    let error = world.run_as(&strict, Stop::default()).await.expect_err("too many");
    assert_eq!(error.code(), "too_many_dead_letters");
    assert!((0..TABLES).all(|t| world.destination.rows(&format!("t{t}")).is_empty()), "nothing was published");
    let lenient = Pipeline { max_dead_letters: Some(2), ..World::pipeline() };
    assert!(world.run_as(&lenient, Stop::default()).await.expect("goes on").over_max);
    world.settle("allowed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn truncate_replaces_the_rows_in_the_same_commit() {
    let mut world = World::new();
    world.run().await.expect("a first run");
    world.grow("c", 9);
    let replacing = Pipeline { disposition: WriteDisposition::Truncate, ..World::pipeline() };
    world.run_as(&replacing, Stop::default()).await.expect("replaces");
    let rows: usize = (0..TABLES).map(|t| world.destination.rows(&format!("t{t}")).len()).sum();
    assert_eq!(rows, (0..9).filter(|&i| !is_bad(i)).count(), "only what came last");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_meets_only_anothers_marks_is_refused_and_changes_nothing() {
    let world = World::new();
    world.run().await.expect("a first run");
    let stranger = MemoryStore::new();
    let source = Arc::new(MemorySource::new(Arc::new(stranger.clone()), TABLES, is_bad));
    source.grow("a", 50);
    let (destination, pipeline) = (Arc::new(world.destination.clone()), World::pipeline());
    let run = longshore_engine::run(Arc::new(stranger), source, destination, &pipeline, Arc::new(Silent), Stop::default());
    assert_eq!(run.await.expect_err("refused").code(), "store_foreign_mark");
    world.check("refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_gone_is_refused_and_found_by_repair() {
    let mut world = World::new();
    world.run().await.expect("a first run");
    world.destination.drop_table("t1");
    world.grow("c", 9);
    assert_eq!(world.run().await.expect_err("refused").code(), "table_behind_store");
    let repair = |apply| {
        let (store, destination) = (Arc::new(world.store.clone()), Arc::new(world.destination.clone()));
        async move { longshore_engine::repair(store, destination, "p", &[], &[], apply).await.expect("compares") }
    };
    let shown = repair(false).await;
    assert_eq!(shown.iter().map(|f| (f.table.as_str(), f.applied)).collect::<Vec<_>>(), [("t1", false)]);
    assert_eq!(world.run().await.expect_err("showing changes nothing").code(), "table_behind_store");
    assert!(repair(true).await[0].applied);
    assert!(repair(false).await.is_empty(), "mended");
    world.run().await.expect("goes on");
}
