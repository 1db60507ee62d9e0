//! A ledger that runs of the engine wrote, read as a source: the list that every source must pass, and what is particular to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_core::commit::WriteDisposition;
use longshore_core::destination::{Destination, Mode, SchemaChange};
use longshore_core::event::{RunEvent, Silent};
use longshore_core::schema::{Field, TableSchema, Type};
use longshore_core::stop::Stop;
use longshore_core::store::{Journal, Runs, Store};
use longshore_engine::{Outcome, Pipeline};
use longshore_ledger::{DEAD_LETTER_INDEX, LedgerSource, RECEIPTS, RUN_EVENTS, RUNS};
use longshore_store::MemoryStore;
use longshore_testkit::memory_destination::MemoryDestination;
use longshore_testkit::memory_source::MemorySource;
use longshore_testkit::source_conformance::{Scene, check_all};
use serde_json::{Value, json};

/// Records of the pipeline whose runs are in the ledger; of these the tenths do not fit.
const RECORDS: u64 = 100;

async fn engine(
    store: &MemoryStore,
    source: Arc<dyn longshore_core::source::Source>,
    to: &MemoryDestination,
    pipeline: Pipeline,
) -> longshore_core::Result<Outcome> {
    let destination = Arc::new(to.clone());
    longshore_engine::run(Arc::new(store.clone()), source, destination, &pipeline, Arc::new(Silent), Stop::default()).await
}

/// A ledger with two runs: one that landed records and one that found nothing.
async fn ledger() -> MemoryStore {
    let store = MemoryStore::new();
    let source = Arc::new(MemorySource::new(Arc::new(store.clone()), 2, |record| record % 10 == 3));
    source.grow("a", RECORDS);
    let data = MemoryDestination::default();
    for _ in 0..2 {
        let pipeline = Pipeline { name: "p".into(), destination: "memory".into(), ..Pipeline::default() };
        engine(&store, source.clone(), &data, pipeline).await.expect("landed");
    }
    store
}

async fn export(store: &MemoryStore, to: &MemoryDestination) -> longshore_core::Result<Outcome> {
    let pipeline =
        Pipeline { name: "export:memory".into(), disposition: WriteDisposition::Truncate, lanes: 2, ..Pipeline::default() };
    engine(store, Arc::new(LedgerSource::new(Arc::new(store.clone()))), to, pipeline).await
}

/// The rows of a table by the values of some columns.
fn by(rows: &[Value], columns: &[&str]) -> BTreeMap<String, Value> {
    let key = |row: &Value| columns.iter().map(|column| row[*column].to_string()).collect::<Vec<_>>().join(" ");
    let found: BTreeMap<String, Value> = rows.iter().map(|row| (key(row), row.clone())).collect();
    assert_eq!(found.len(), rows.len(), "each row once");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_passes_the_list_of_sources() {
    let store = ledger().await;
    let runs = store.runs(None, usize::MAX).await.expect("runs");
    let mut records = runs.len();
    for run in &runs {
        records += store.run(&run.id).await.expect("read").expect("there").1.len();
        records += store.receipts(Some(&run.id), usize::MAX).await.expect("receipts").len();
    }
    records += usize::try_from(RECORDS / 10).expect("few");
    check_all(|| Scene {
        source: Arc::new(LedgerSource::new(Arc::new(store.clone()))),
        ledger: Arc::new(store.clone()),
        pipeline: "export:memory".into(),
        records: records as u64,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_table_says_what_the_store_says() {
    let store = ledger().await;
    let to = MemoryDestination::default();
    let outcome = export(&store, &to).await.expect("exported");
    let runs = by(&to.rows(RUNS), &["run"]);
    assert_eq!(runs.len(), 3);
    let own = runs.values().find(|row| row["pipeline"] == "export:memory").expect("the export itself");
    assert_eq!((&own["run"], &own["status"]), (&json!(outcome.run), &json!("RUNNING")));
    let landed = runs.values().find(|row| row["rows"] == json!(90)).expect("the run that landed something");
    assert_eq!((&landed["rejects"], &landed["commits"], &landed["status"]), (&json!(10), &json!(1), &json!("SUCCEEDED")));
    assert_eq!(landed["destination"], "memory");
    let id = landed["run"].as_str().expect("an id");

    let receipts = by(&to.rows(RECEIPTS), &["run", "n", "table_name"]);
    let kept = store.receipts(Some(id), usize::MAX).await.expect("receipts");
    assert_eq!(receipts.len(), kept.len());
    for receipt in kept {
        let row = receipts.values().find(|row| row["table_name"] == receipt.table.as_str()).expect("a row");
        assert_eq!((&row["rows"], &row["bytes"]), (&json!(receipt.rows), &json!(receipt.bytes)));
        assert_eq!((&row["digests"], &row["run"]), (&json!(receipt.digests), &json!(id)));
        let covers: Value = serde_json::from_str(row["covers"].as_str().expect("text")).expect("JSON");
        assert_eq!(covers, json!(receipt.covers));
    }

    let events = by(&to.rows(RUN_EVENTS), &["run", "sequence"]);
    let (_, history) = store.run(id).await.expect("read").expect("there");
    assert_eq!(events.values().filter(|row| row["run"] == id).count(), history.len());
    for line in history {
        let row = &events[&format!("{} {}", json!(id), line.sequence)];
        let details: Value = serde_json::from_str(row["details"].as_str().expect("text")).expect("JSON");
        assert_eq!((&details, &details["event"]), (&json!(line.event), &row["event"]));
    }
    assert!(events.values().all(|row| row["run"] != outcome.run.as_str()), "its own history is not written yet");

    let letters = by(&to.rows(DEAD_LETTER_INDEX), &["id"]);
    assert_eq!(letters.len(), 10);
    assert!(letters.values().all(|row| row["state"] == "open" && row["run"] == id && row["n"] == 1), "{letters:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_made_again_replaces_the_rows_and_knows_the_one_before() {
    let store = ledger().await;
    let to = MemoryDestination::default();
    let first = export(&store, &to).await.expect("exported").run;
    let before: BTreeMap<&str, usize> =
        [RUNS, RECEIPTS, DEAD_LETTER_INDEX].into_iter().map(|table| (table, to.rows(table).len())).collect();
    export(&store, &to).await.expect("exported again");
    let runs = by(&to.rows(RUNS), &["run"]);
    assert_eq!(runs.len(), before[RUNS] + 1);
    let known = &runs[&json!(first).to_string()];
    assert_eq!((&known["status"], &known["commits"]), (&json!("SUCCEEDED"), &json!(1)));
    // The receipts of the first export: one a table, empty or not.
    assert_eq!(by(&to.rows(RECEIPTS), &["pipeline", "n", "table_name"]).len(), before[RECEIPTS] + 4);
    assert_eq!(to.rows(DEAD_LETTER_INDEX).len(), before[DEAD_LETTER_INDEX]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_of_a_new_store_is_its_export_alone() {
    let (store, to) = (MemoryStore::new(), MemoryDestination::default());
    export(&store, &to).await.expect("exported");
    assert_eq!(to.rows(RUNS).len(), 1);
    for table in [RUN_EVENTS, RECEIPTS, DEAD_LETTER_INDEX] {
        assert_eq!((to.rows(table).len(), to.schema(table).is_some()), (0, true), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_begin_while_the_ledger_is_copied_are_left_to_the_next_copy() {
    let store = ledger().await;
    let to = MemoryDestination::default();
    let gate = to.gate("prepare.before");
    let exporting = tokio::spawn({
        let (store, to) = (store.clone(), to.clone());
        async move { export(&store, &to).await }
    });
    gate.reached(1).await;
    let late = store.begin_run("later").await.expect("begun");
    gate.open();
    exporting.await.expect("no panic").expect("exported");
    assert!(to.rows(RUNS).iter().all(|row| row["run"] != late.as_str()));
    export(&store, &to).await.expect("exported again");
    let runs = by(&to.rows(RUNS), &["run"]);
    assert_eq!(runs[&json!(late).to_string()]["status"], "PENDING");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_of_many_runs_is_read_in_many_chunks() {
    use futures::StreamExt;
    use longshore_core::batch::Item;
    use longshore_core::source::{Context, Source, Target};

    let store = MemoryStore::new();
    for _ in 0..40 {
        let run = store.begin_run("p").await.expect("begun");
        let notes = vec![RunEvent::Note { text: "n".repeat(10_000) }; 10];
        store.append_events(&run, &notes).await.expect("written");
    }
    let store: Arc<dyn Store> = Arc::new(store);
    let source = LedgerSource::new(store);
    let memory = 4 << 20;
    let cx = Context {
        pipeline: "export:memory".into(),
        run: "none".into(),
        budget: longshore_core::budget::Budget::new(memory),
        lanes: 1,
        events: longshore_core::event::Events::silent(),
        stop: Stop::default(),
    };
    let ledger = MemoryStore::new();
    let found = source.splits(&cx, &ledger).await.expect("splits");
    let found = source.describe(&cx, found.splits, &ledger).await.expect("described");
    let target = |schema| Target { schema, contract: Default::default() };
    let targets = found.tables.into_iter().map(|(table, schema)| (table, target(schema))).collect();
    let mut items = source.read(&cx, &found.splits[0], &targets).await.expect("read");
    let mut sizes = Vec::new();
    while let Some(item) = items.next().await {
        let Item::Chunk(chunk) = item.expect("a chunk") else { panic!("a chunk") };
        assert!(chunk.permit.is_some(), "what waits is taken from the budget");
        sizes.push(chunk.bytes);
    }
    assert!(sizes.len() >= 4, "{sizes:?}");
    assert!(sizes.iter().all(|bytes| *bytes < memory / 2), "{sizes:?}");
    // Who is to stop hands out nothing more.
    let mut items = source.read(&cx, &found.splits[0], &targets).await.expect("read");
    cx.stop.request();
    let Some(Err(error)) = items.next().await else { panic!("it went on") };
    assert_eq!(error.code(), "interrupted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_this_name_with_other_columns_is_left_alone() {
    let store = ledger().await;
    let to = MemoryDestination::default();
    let change = SchemaChange {
        table: RUNS.into(),
        wanted: TableSchema::new(vec![Field::new("run", Type::Int64)]),
        contract: Default::default(),
        disposition: WriteDisposition::Append,
        options: Default::default(),
    };
    to.prepare(&change, Mode::Apply).await.expect("made by somebody else");
    let error = export(&store, &to).await.expect_err("refused");
    assert_eq!(error.code(), "type_mismatch");
    assert!(error.to_string().contains("longshore_runs") && error.to_string().contains("run is not STRING"), "{error}");
}
