//! Endless sources: several workers over one source, with one of them publishing; what a broker, a destination and other workers do to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use longshore_core::commit::Contract;
use longshore_core::destination::Destination;
use longshore_core::error::Retry;
use longshore_core::event::Silent;
use longshore_core::stop::Stop;
use longshore_core::store::{DeadLetterFilter, DeadLetterIndex, Journal, Store, Worker, Workers};
use longshore_core::stream::{LetterCopy, Letterbox};
use longshore_engine::{Outcome, Pipeline, StreamSettings};
use longshore_store::MemoryStore;
use longshore_testkit::memory_destination::MemoryDestination;
use longshore_testkit::memory_stream::{MemoryStream, Message};
use tokio::task::JoinHandle;

/// A store, a broker and a destination, for any number of workers.
struct Scene {
    store: MemoryStore,
    stream: MemoryStream,
    destination: MemoryDestination,
    sent: BTreeSet<i64>,
}

impl Scene {
    fn new(stream: MemoryStream) -> Self {
        Self { store: MemoryStore::new(), stream, destination: MemoryDestination::default(), sent: BTreeSet::new() }
    }

    fn send(&mut self, partition: &str, messages: impl IntoIterator<Item = Message>) {
        let messages: Vec<Message> = messages.into_iter().collect();
        self.sent.extend(messages.iter().map(|message| message.id));
        self.stream.send(partition, messages);
    }

    fn pipeline() -> Pipeline {
        let stream = StreamSettings {
            commit_every: Duration::from_millis(30),
            commit_messages: 25,
            create_tables: true,
            park_after: Duration::from_millis(300),
            ..StreamSettings::default()
        };
        Pipeline { name: "p".into(), lanes: 2, stream, ..Pipeline::default() }
    }

    fn start(&self, pipeline: Pipeline, stop: Stop, until_idle: bool) -> JoinHandle<longshore_core::Result<Outcome>> {
        let (store, stream): (Arc<dyn Store>, _) = (Arc::new(self.store.clone()), Arc::new(self.stream.clone()));
        let destination: Arc<dyn Destination> = Arc::new(self.destination.clone());
        tokio::spawn(async move {
            longshore_engine::run_stream(store, stream, destination, &pipeline, Arc::new(Silent), stop, until_idle).await
        })
    }

    async fn until_idle(&self) -> Outcome {
        self.until_idle_with(Self::pipeline()).await
    }

    async fn until_idle_with(&self, pipeline: Pipeline) -> Outcome {
        let run = self.start(pipeline, Stop::default(), true);
        tokio::time::timeout(Duration::from_secs(30), run).await.expect("it ends").expect("no panic").expect("it lands")
    }

    /// Where each message is: its tables, dead letters as `!`.
    fn found(&self) -> BTreeMap<i64, Vec<String>> {
        let mut found: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for table in self.destination.tables() {
            for row in self.destination.rows(&table) {
                if table == "_dead_letters" {
                    let id = super::text(&row["payload"]).parse().expect("a number");
                    found.entry(id).or_default().push("!".into());
                } else {
                    found.entry(super::number(&row["id"]) as i64).or_default().push(table.clone());
                }
            }
        }
        found
    }

    /// Each message once in a table or once in the dead letters; of one partition and table in order.
    fn check(&self) {
        let found = self.found();
        for id in &self.sent {
            assert_eq!(found.get(id).map_or(0, Vec::len), 1, "message {id}: {:?}", found.get(id));
        }
        assert_eq!(found.len(), self.sent.len(), "messages that nobody sent");
        for table in self.destination.tables() {
            let mut last: BTreeMap<String, u64> = BTreeMap::new();
            for row in self.destination.rows(&table).iter().filter(|_| table != "_dead_letters") {
                let (partition, id) = (super::text(&row["partition"]), super::number(&row["id"]));
                if partition != "queue" {
                    assert!(last.insert(partition, id).is_none_or(|before| before < id), "{table}: {id} is out of order");
                }
            }
        }
    }

    /// Waits until something is so.
    async fn wait_for(&self, what: &str, so: impl Fn(&Self) -> bool) {
        for _ in 0..1000 {
            if so(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what}: never; found {:?}", self.found().len());
    }
}

/// Numbers from `first`, spread over some tables.
fn messages(first: i64, number: i64, tables: i64) -> impl Iterator<Item = Message> {
    (first..first + number).map(move |id| Message::new(id, &format!("t{}", id % tables)))
}

#[tokio::test]
async fn messages_of_many_tables_land_once_and_the_broker_is_told_afterwards() {
    for stream in [MemoryStream::partitions(), MemoryStream::queue()] {
        let mut scene = Scene::new(stream);
        for partition in 0..3 {
            scene.send(&format!("p{partition}"), messages(partition * 1000, 200, 5));
        }
        let outcome = scene.until_idle().await;
        scene.check();
        assert_eq!(outcome.summary.landed, 600);
        assert_eq!(outcome.summary.tables.values().sum::<u64>(), 600);
        let told = scene.stream.committed("p0") == 200 || scene.stream.acknowledged().len() == 600;
        assert!(told, "the broker knows");
        let state = scene.store.pipeline("p").await.expect("known");
        assert!(state.open.is_empty() && state.parked.is_empty());
        // Again, with a little more: only that is read.
        scene.send("p0", messages(9000, 7, 5));
        assert_eq!(scene.until_idle().await.summary.landed, 7);
        scene.check();
    }
}

#[tokio::test]
async fn bad_messages_and_unknown_tables_are_dead_letters_and_stop_nobody() {
    let mut scene = Scene::new(MemoryStream::partitions());
    let poison = |mut message: Message| {
        if message.id % 3 == 0 {
            message.bad = true;
        } else if message.id % 3 == 1 {
            message.table = "nowhere".into();
        }
        message
    };
    scene.send("p", messages(0, 5, 1));
    scene.until_idle().await;
    scene.send("p", messages(5, 300, 1).map(poison));
    let mut pipeline = Scene::pipeline();
    let folder = tempfile::tempdir().expect("a folder");
    (pipeline.stream.create_tables, pipeline.stream.dead_letter_folder) = (false, Some(folder.path().join("letters")));
    let outcome = scene.until_idle_with(pipeline).await;
    scene.check();
    assert_eq!(outcome.summary.rejects, 200);
    let letters = scene.store.dead_letters(&DeadLetterFilter::default()).await.expect("an index");
    assert_eq!(letters.len(), 200);
    assert!(!scene.destination.tables().contains(&"nowhere".to_owned()));
    let copies = std::fs::read_dir(folder.path().join("letters")).expect("copies").count();
    assert_eq!(copies, 400, "the bytes of each, and what is known about it");
}

#[tokio::test]
async fn a_name_that_no_table_can_have_is_a_dead_letter_and_stops_nobody() {
    let mut scene = Scene::new(MemoryStream::partitions());
    scene.send("p", messages(0, 20, 2));
    scene.send("p", [Message::new(20, MemoryDestination::NO_NAME)]);
    scene.send("p", messages(21, 20, 2));
    scene.until_idle().await;
    scene.check();
    assert_eq!(scene.found()[&20], ["!"]);
}

#[tokio::test]
async fn a_new_table_and_a_new_column_are_picked_up_while_it_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, more: bool| {
        let columns = MemoryStream::columns(more).to_json().to_string();
        std::fs::write(folder.path().join(name), columns).expect("written");
    };
    file("t0.json", false);
    let mut scene = Scene::new(MemoryStream::partitions());
    let mut pipeline = Scene::pipeline();
    pipeline.contract = Contract::Freeze;
    (pipeline.stream.create_tables, pipeline.stream.schemas) = (false, Some(folder.path().to_owned()));
    let stop = Stop::default();
    let run = scene.start(pipeline, stop.clone(), false);
    scene.send("p", messages(0, 10, 1));
    scene.wait_for("the first table", |scene| scene.found().len() == 10).await;
    // A table that is not there yet, and a column.
    file("t1.schema.json", false);
    file("t0.json", true);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let more = |message: Message| Message { more: Some("x".into()), ..message };
    scene.send("p", messages(10, 10, 1).map(more));
    scene.send("p", (20..30).map(|id| Message::new(id, "t1")));
    scene.wait_for("the second table", |scene| scene.found().len() == 30).await;
    stop.request();
    let error = run.await.expect("no panic").expect_err("it was told to stop");
    assert_eq!(error.code(), "interrupted");
    scene.check();
    assert_eq!(scene.destination.rows("t0").iter().filter(|row| row["more"] == "x").count(), 10);
    assert_eq!(scene.destination.rows("t1").len(), 10);
}

#[tokio::test]
async fn case_1_and_2_workers_share_a_source_through_rebalances_and_each_message_lands_once() {
    for stream in [MemoryStream::partitions(), MemoryStream::queue()] {
        let mut scene = Scene::new(stream);
        let stop = Stop::default();
        let runs: Vec<_> = (0..3).map(|_| scene.start(Scene::pipeline(), stop.clone(), false)).collect();
        for round in 0..20 {
            for partition in 0..4 {
                scene.send(&format!("p{partition}"), messages(round * 1000 + partition * 100, 40, 3));
            }
            if round % 3 == 0 {
                scene.stream.rebalance();
            }
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        scene.wait_for("all of it", |scene| scene.found().len() == scene.sent.len()).await;
        stop.request();
        for run in runs {
            let error = run.await.expect("no panic").expect_err("it was told to stop");
            assert_eq!(error.code(), "interrupted", "{error:?}");
        }
        scene.check();
    }
}

#[tokio::test]
async fn case_18_a_table_that_is_blocked_lets_the_others_flow_and_catches_up_in_order() {
    let mut scene = Scene::new(MemoryStream::queue());
    scene.send("q", messages(0, 50, 50));
    scene.until_idle().await;
    let stop = Stop::default();
    scene.destination.block("t7");
    let run = scene.start(Scene::pipeline(), stop.clone(), false);
    scene.send("q", messages(50, 1000, 50));
    scene.wait_for("the others", |scene| scene.found().len() == 50 + 1000 - 20).await;
    // The broker's outstanding limit is not eaten up: what waits is acknowledged.
    scene.wait_for("acknowledged", |scene| scene.stream.acknowledged().len() == 1050).await;
    let parked = scene.store.pipeline("p").await.expect("known").parked;
    assert!(!parked.is_empty() && parked.iter().all(|part| part.table == "t7"));
    scene.destination.unblock("t7");
    scene.wait_for("the blocked one", |scene| scene.found().len() == 1050).await;
    stop.request();
    drop(run.await.expect("no panic").expect_err("it was told to stop"));
    scene.check();
    let ids: Vec<u64> = scene.destination.rows("t7").iter().map(|row| super::number(&row["id"])).collect();
    assert!(ids.is_sorted(), "in order of the commits: {ids:?}");
    assert!(scene.store.pipeline("p").await.expect("known").parked.is_empty());
}

#[tokio::test]
async fn a_table_that_takes_no_rows_sends_its_messages_to_the_dead_letters_and_stops_nobody() {
    for retry in [Retry::AfterFix, Retry::Backoff] {
        let mut scene = Scene::new(MemoryStream::partitions());
        scene.send("p", messages(0, 20, 4));
        scene.until_idle().await;
        scene.destination.break_table("t1", retry);
        let stop = Stop::default();
        let run = scene.start(Scene::pipeline(), stop.clone(), false);
        scene.send("p", messages(20, 200, 4));
        scene.wait_for("all of it", |scene| scene.found().len() == 220).await;
        let found = scene.found();
        assert!((20..220).all(|id| (found[&id] == ["!"]) == (id % 4 == 1)), "{retry:?}: {found:?}");
        // Once it is mended, what comes goes there again, soon.
        scene.destination.mend_table("t1");
        let mut next = 220;
        while scene.destination.rows("t1").len() == 5 {
            assert!(next < 2000, "{retry:?}: it stays closed");
            scene.send("p", messages(next, 4, 4));
            next += 4;
            scene.wait_for("the next ones", |scene| scene.found().len() == scene.sent.len()).await;
        }
        stop.request();
        drop(run.await.expect("no panic").expect_err("it was told to stop"));
        scene.check();
    }
}

#[tokio::test]
async fn a_destination_that_takes_no_rows_at_all_ends_the_run_and_loses_nothing() {
    let mut scene = Scene::new(MemoryStream::partitions());
    scene.send("p", messages(0, 20, 2));
    scene.until_idle().await;
    for table in ["t0", "t1", "_dead_letters"] {
        scene.destination.break_table(table, Retry::AfterFix);
    }
    scene.send("p", messages(20, 20, 2));
    let run = scene.start(Scene::pipeline(), Stop::default(), false);
    let error =
        tokio::time::timeout(Duration::from_secs(20), run).await.expect("it ends").expect("no panic").expect_err("broken");
    assert!(error.to_string().contains("_dead_letters"), "{error}");
    for table in ["t0", "t1", "_dead_letters"] {
        scene.destination.mend_table(table);
    }
    scene.until_idle().await;
    scene.check();
    assert!(scene.found().values().all(|tables| tables != &["!"]), "{:?}", scene.found());
}

#[tokio::test]
async fn a_table_that_was_made_anew_is_parked_until_somebody_has_looked_and_stops_nobody() {
    let mut scene = Scene::new(MemoryStream::queue());
    scene.send("p", messages(0, 20, 2));
    scene.until_idle().await;
    scene.destination.drop_table("t1");
    let stop = Stop::default();
    let run = scene.start(Scene::pipeline(), stop.clone(), false);
    scene.send("p", messages(20, 100, 2));
    // The dropped table had ten rows.
    scene.wait_for("the other table", |scene| scene.found().len() == 10 + 50).await;
    scene.wait_for("acknowledged", |scene| scene.stream.acknowledged().len() == 120).await;
    assert!(scene.destination.rows("t1").is_empty());
    let (store, destination) = (scene.store.clone(), scene.destination.clone());
    let repair = |apply: bool| {
        let (store, destination): (Arc<dyn Store>, Arc<dyn Destination>) =
            (Arc::new(store.clone()), Arc::new(destination.clone()));
        async move { longshore_engine::repair(store, destination, "p", &[], &[], apply).await.expect("compares") }
    };
    let shown = repair(false).await;
    assert_eq!(shown.len(), 2, "{shown:#?}");
    assert!(shown[0].what.contains("lacks commits") && shown[1].what.contains("50 rows"), "{shown:#?}");
    // It is as it should be; what waits is for the new table.
    repair(true).await;
    scene.wait_for("what waited", |scene| scene.found().len() == 10 + 100).await;
    scene.send("p", messages(120, 20, 2));
    scene.wait_for("the rest", |scene| scene.found().len() == 10 + 120).await;
    stop.request();
    drop(run.await.expect("no panic").expect_err("it was told to stop"));
    assert!(scene.store.pipeline("p").await.expect("known").parked.is_empty());
    assert!(repair(false).await.is_empty());
}

#[tokio::test]
async fn the_ids_of_a_commit_stand_in_one_tables_log_and_a_slow_table_holds_nobody_up() {
    let mut scene = Scene::new(MemoryStream::queue());
    scene.send("q", messages(0, 200, 4));
    scene.until_idle().await;
    let application = scene.store.pipeline("p").await.expect("known").application;
    let mut telling: BTreeMap<i64, usize> = BTreeMap::new();
    for table in ["t0", "t1", "t2", "t3"] {
        for past in scene.destination.history(&application, table).await.expect("a history") {
            *telling.entry(past.n).or_default() += past.note["covers"].as_array().expect("a list").len();
        }
    }
    assert!(telling.len() > 1 && telling.values().all(|tables| *tables == 1), "{telling:?}");
    // The first table hangs: the next one tells them.
    scene.destination.block("t0");
    let (stop, mut pipeline) = (Stop::default(), Scene::pipeline());
    pipeline.stream.park_after = Duration::from_secs(3600);
    (pipeline.stream.commit_messages, pipeline.stream.commit_every) = (1_000, Duration::from_millis(300));
    let run = scene.start(pipeline, stop.clone(), false);
    scene.send("q", messages(200, 40, 4));
    scene.wait_for("the others", |scene| scene.found().len() == 230).await;
    scene.destination.unblock("t0");
    scene.wait_for("the slow one", |scene| scene.found().len() == 240).await;
    stop.request();
    drop(run.await.expect("no panic").expect_err("it was told to stop"));
    scene.check();
}

#[tokio::test]
async fn rows_that_wait_are_given_up_by_name_and_only_when_it_is_applied() {
    let mut scene = Scene::new(MemoryStream::partitions());
    scene.send("p", messages(0, 10, 2));
    scene.until_idle().await;
    scene.destination.block("t1");
    scene.send("p", messages(10, 100, 2));
    scene.until_idle().await;
    let (store, destination): (Arc<dyn Store>, Arc<dyn Destination>) =
        (Arc::new(scene.store.clone()), Arc::new(scene.destination.clone()));
    for (give_up, apply, left) in [("t0", true, 50), ("t1", false, 50), ("t1", true, 0)] {
        let names = [give_up.to_owned()];
        let found =
            longshore_engine::repair(store.clone(), destination.clone(), "p", &[], &names, apply).await.expect("compares");
        assert!(found[0].what.contains("50 rows") && found[0].applied == (left == 0), "{found:#?}");
        let parked = scene.store.pipeline("p").await.expect("known").parked;
        assert_eq!(parked.iter().map(|part| part.receipt.rows).sum::<u64>(), left);
    }
}

#[tokio::test]
async fn parked_parts_outlive_the_process_and_are_published_by_the_next_one() {
    let mut scene = Scene::new(MemoryStream::partitions());
    scene.send("p", messages(0, 10, 2));
    scene.until_idle().await;
    scene.destination.block("t1");
    scene.send("p", messages(10, 100, 2));
    scene.until_idle().await;
    assert_eq!(scene.found().len(), 60);
    scene.destination.unblock("t1");
    let stop = Stop::default();
    let run = scene.start(Scene::pipeline(), stop.clone(), false);
    scene.wait_for("the blocked one", |scene| scene.found().len() == 110).await;
    stop.request();
    drop(run.await);
    scene.check();
}

#[tokio::test]
async fn more_than_may_wait_for_a_table_ends_the_run_and_loses_nothing() {
    let mut scene = Scene::new(MemoryStream::partitions());
    scene.send("p", messages(0, 10, 2));
    scene.until_idle().await;
    scene.destination.block("t1");
    let mut pipeline = Scene::pipeline();
    pipeline.stream.max_parked_bytes = 1;
    scene.send("p", messages(10, 100, 2));
    let run = scene.start(pipeline, Stop::default(), false);
    let error =
        tokio::time::timeout(Duration::from_secs(20), run).await.expect("it ends").expect("no panic").expect_err("too much");
    assert_eq!(error.code(), "table_parked");
    assert!(error.to_string().contains("t1"), "{error}");
    scene.destination.unblock("t1");
    let stop = Stop::default();
    let run = scene.start(Scene::pipeline(), stop.clone(), false);
    scene.wait_for("all of it", |scene| scene.found().len() == 110).await;
    stop.request();
    drop(run.await);
    scene.check();
}

#[tokio::test]
async fn case_16_and_20_answers_that_are_lost_lose_and_double_nothing() {
    for stream in [MemoryStream::partitions(), MemoryStream::queue()] {
        let mut scene = Scene::new(stream);
        scene.send("p", messages(0, 200, 3));
        for call in ["begin_attempt", "journal", "complete", "acknowledged", "journal", "complete"] {
            scene.store.lose_answer(call);
        }
        scene.stream.lose_acknowledgements(2);
        scene.until_idle().await;
        // What the broker was not told is known when it comes again.
        scene.until_idle().await;
        scene.check();
    }
}

#[tokio::test]
async fn a_source_that_fails_for_a_while_is_read_again_from_where_the_journal_is() {
    for stream in [MemoryStream::partitions(), MemoryStream::queue()] {
        let mut scene = Scene::new(stream);
        let stop = Stop::default();
        let run = scene.start(Scene::pipeline(), stop.clone(), false);
        for round in 0..6 {
            // While it waits, while it gathers, twice in a row.
            scene.stream.fail(round % 3);
            scene.send("p", messages(round as i64 * 100, 100, 3));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        scene.wait_for("all of it", |scene| scene.found().len() == 600).await;
        stop.request();
        assert_eq!(run.await.expect("no panic").expect_err("it was told to stop").code(), "interrupted");
        scene.check();
        // One that stays away ends the run.
        scene.stream.fail(1000);
        let run = scene.start(Scene::pipeline(), Stop::default(), false);
        let error = tokio::time::timeout(Duration::from_secs(60), run).await.expect("it ends").expect("no panic");
        assert!(error.expect_err("away").to_string().contains("away"));
    }
}

#[tokio::test(start_paused = true)]
async fn fault_24_what_decoding_needs_is_waited_for_and_whoever_wants_to_stop_can() {
    let mut scene = Scene::new(MemoryStream::partitions());
    scene.send("p", messages(0, 30, 3));
    scene.stream.lack(4);
    scene.until_idle().await;
    scene.check();
    scene.stream.lack(usize::MAX);
    scene.send("p", messages(30, 30, 3));
    let stop = Stop::default();
    let run = scene.start(Scene::pipeline(), stop.clone(), false);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!run.is_finished(), "it waits for any time");
    stop.request();
    assert_eq!(run.await.expect("no panic").expect_err("it was told to stop").code(), "interrupted");
    scene.stream.lack(0);
    scene.until_idle().await;
    scene.check();
}

#[tokio::test]
async fn a_commit_ends_by_messages_by_bytes_and_by_time_whatever_comes_first() {
    for limit in ["messages", "bytes", "time"] {
        let mut scene = Scene::new(MemoryStream::partitions());
        let mut pipeline = Scene::pipeline();
        let limits = &mut pipeline.stream;
        (limits.commit_every, limits.commit_messages, limits.commit_bytes) = (Duration::from_secs(3600), u64::MAX, u64::MAX);
        match limit {
            "messages" => limits.commit_messages = 25,
            // Eight for each message.
            "bytes" => limits.commit_bytes = 25 * 8,
            _ => limits.commit_every = Duration::from_millis(50),
        }
        scene.send("p", messages(0, 95, 1));
        let stop = Stop::default();
        let run = scene.start(pipeline, stop.clone(), false);
        // Deliveries are of ten: commits of thirty, and a rest that waits.
        let shown = if limit == "time" { 95 } else { 90 };
        scene.wait_for(limit, |scene| scene.found().len() == shown).await;
        let state = scene.store.pipeline("p").await.expect("known");
        assert!(limit == "time" || state.last == 3, "{limit}: {} commits", state.last);
        stop.request();
        drop(run.await.expect("no panic").expect_err("it was told to stop"));
        scene.check();
    }
}

#[tokio::test]
async fn names_that_nobody_knows_are_dead_letters_however_many_they_are() {
    let mut scene = Scene::new(MemoryStream::partitions().together(25_000));
    let mut pipeline = Scene::pipeline();
    pipeline.stream.create_tables = false;
    pipeline.stream.commit_messages = 100_000;
    scene.send("p", (0..25_000).map(|id| Message::new(id, &format!("unknown{id}"))));
    scene.until_idle_with(pipeline).await;
    scene.check();
}

/// Takes nothing, and does not say so.
struct Hangs;

#[async_trait::async_trait]
impl Letterbox for Hangs {
    fn name(&self) -> String {
        "a topic that hangs".to_owned()
    }

    async fn deliver(&self, _: &[LetterCopy]) -> longshore_core::Result<()> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_of_dead_letters_that_hangs_holds_a_commit_up_for_seconds_and_stops_nobody() {
    let mut scene = Scene::new(MemoryStream::partitions().with_letterbox(Arc::new(Hangs)));
    scene.send("p", messages(0, 20, 2));
    scene.send("p", (20..40).map(|id| Message { bad: true, ..Message::new(id, "t0") }));
    let began = tokio::time::Instant::now();
    scene.until_idle().await;
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    scene.check();
}

#[tokio::test]
async fn a_failing_step_of_the_destination_is_tried_again_and_loses_and_doubles_nothing() {
    for point in ["stage.before", "stage.after", "publish.before", "publish.after", "prepare.before"] {
        let mut scene = Scene::new(MemoryStream::partitions());
        scene.send("p", messages(0, 200, 3));
        scene.destination.fail(point, 2, longshore_core::error::Retry::Backoff);
        scene.until_idle().await;
        scene.until_idle().await;
        scene.check();
    }
}

#[tokio::test]
async fn a_worker_that_was_taken_for_dead_joins_anew_and_goes_on() {
    let mut scene = Scene::new(MemoryStream::partitions());
    let stop = Stop::default();
    let run = scene.start(Scene::pipeline(), stop.clone(), false);
    scene.send("p", messages(0, 100, 2));
    scene.wait_for("the first", |scene| scene.found().len() == 100).await;
    for id in scene.store.workers("p").await.expect("workers") {
        scene.store.expire_worker(&Worker { pipeline: "p".into(), id });
    }
    scene.send("p", messages(100, 300, 2));
    scene.wait_for("the rest", |scene| scene.found().len() == 400).await;
    stop.request();
    drop(run.await);
    scene.check();
}
