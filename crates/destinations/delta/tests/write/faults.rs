//! Every single step of a commit fails once, before it is done and after; and what publishing costs.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use longshore_core::Result;
use longshore_core::commit::{AttemptId, Published};
use longshore_core::destination::{Destination, Mode};
use longshore_core::error::{Kind, Retry};
use longshore_delta::{DeltaDestination, Faults, Step};

use crate::bench::{Free, Warehouse, change, columns, mark, prepare, publish, publish_through, stage};

/// Counts the steps and fails one of them.
#[derive(Default)]
struct Counting {
    /// Which step, from 0, and whether after it is done; `None` for none.
    fails: Mutex<Option<(usize, bool)>>,
    error: Mutex<Option<io::ErrorKind>>,
    seen: Mutex<Vec<(Step, String)>>,
}

impl Counting {
    fn failing(at: usize, after: bool, error: io::ErrorKind) -> Arc<Self> {
        Arc::new(Self { fails: Mutex::new(Some((at, after))), error: Mutex::new(Some(error)), seen: Mutex::default() })
    }

    fn check(&self, after: bool, number: usize) -> io::Result<()> {
        if *self.fails.lock().unwrap() == Some((number, after)) {
            return Err((*self.error.lock().unwrap()).unwrap_or(io::ErrorKind::Other).into());
        }
        Ok(())
    }

    fn count(&self, step: Step) -> usize {
        self.seen.lock().unwrap().iter().filter(|(seen, _)| *seen == step).count()
    }
}

impl Faults for Counting {
    fn before(&self, step: Step, path: &str) -> io::Result<()> {
        let mut seen = self.seen.lock().unwrap();
        seen.push((step, path.to_owned()));
        let number = seen.len() - 1;
        drop(seen);
        self.check(false, number)
    }

    fn after(&self, _step: Step, _path: &str) -> io::Result<()> {
        // A test may have emptied the list while a checkpoint was written in the background.
        let Some(number) = self.seen.lock().unwrap().len().checked_sub(1) else { return Ok(()) };
        self.check(true, number)
    }
}

/// A whole commit, as an engine makes it: prepare, stage, publish.
async fn commit(destination: &DeltaDestination, attempt: &str) -> Result<Published> {
    destination.prepare(&change(columns()), Mode::Apply).await?;
    let staged = stage(destination, attempt, &[1, 2]).await?;
    publish_through(destination, 1, &[staged], &Free).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_single_failing_step_loses_nothing_and_doubles_nothing() {
    let clean = Arc::new(Counting::default());
    commit(&Warehouse::new().open_with(clean.clone()), "clean").await.unwrap();
    let steps = clean.seen.lock().unwrap().len();
    assert!(steps > 15, "a commit takes {steps} steps");
    for number in 0..steps {
        for after in [false, true] {
            let error = if number % 2 == 0 { io::ErrorKind::StorageFull } else { io::ErrorKind::Other };
            let warehouse = Warehouse::new();
            let faulty = Counting::failing(number, after, error);
            let outcome = commit(&warehouse.open_with(faulty.clone()), "first").await;
            let failed = faulty.seen.lock().unwrap()[number].clone();
            if let Err(error) = &outcome {
                assert_eq!(error.kind(), Kind::Destination, "{failed:?}");
                assert_ne!(error.retry(), Retry::Never, "{failed:?}");
            }
            let destination = warehouse.open();
            let visible = mark(&destination).await.is_some();
            assert!(visible || outcome.is_err(), "{failed:?}: it said that it was done");
            // The first attempt is dead; if it did become visible, its rows are part of the table and stay.
            destination.sweep(&[AttemptId("first".into())]).await.unwrap();
            commit(&destination, "second").await.unwrap();
            assert_eq!(warehouse.ids().await, [1, 2], "{failed:?}, after: {after}, visible: {visible}");
            assert_eq!(mark(&destination).await, Some(1));
            destination.sweep(&[AttemptId("second".into())]).await.unwrap();
            assert_eq!(warehouse.data_files().len(), 1, "{failed:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_while_staging_needs_a_person_and_leaves_nothing() {
    let warehouse = Warehouse::new();
    prepare(&warehouse.open(), &change(columns())).await;
    let clean = Arc::new(Counting::default());
    stage(&warehouse.open_with(clean.clone()), "clean", &[1]).await.unwrap();
    let write = clean.seen.lock().unwrap().iter().position(|(step, _)| *step == Step::Write).unwrap();
    let destination = warehouse.open_with(Counting::failing(write, false, io::ErrorKind::StorageFull));
    let error = stage(&destination, "full", &[1]).await.unwrap_err();
    assert_eq!((error.code(), error.retry()), ("disk_full", Retry::AfterFix));
    assert!(error.hint_text().is_some());
    assert_eq!(warehouse.data_files().len(), 1, "only the file of the clean attempt is there");
    assert_eq!(warehouse.ids().await, [] as [i64; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_whose_answer_was_lost_is_known_again_by_its_id() {
    let warehouse = Warehouse::new();
    prepare(&warehouse.open(), &change(columns())).await;
    let staged = [stage(&warehouse.open(), "a", &[1]).await.unwrap()];
    let clean = Arc::new(Counting::default());
    let other = Warehouse::new();
    prepare(&other.open(), &change(columns())).await;
    let theirs = [stage(&other.open(), "a", &[1]).await.unwrap()];
    publish(&other.open_with(clean.clone()), 1, &theirs).await;
    let put = clean.seen.lock().unwrap().iter().position(|(step, _)| *step == Step::PutIfAbsent).unwrap();
    let faulty = warehouse.open_with(Counting::failing(put, true, io::ErrorKind::TimedOut));
    assert_eq!(publish(&faulty, 1, &staged).await, Published::Done("1".into()), "not merely `Already`");
    let history = faulty.history(&crate::bench::application(), "orders").await.unwrap();
    assert_eq!(
        history.iter().map(|past| (past.n, past.note.clone())).collect::<Vec<_>>(),
        [(1, serde_json::json!({"covers": "a file"}))]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_an_entry_that_nobody_synced_syncs_the_log_before_saying_so() {
    let warehouse = Warehouse::new();
    let destination = warehouse.open();
    prepare(&destination, &change(columns())).await;
    let staged = [stage(&destination, "a", &[1]).await.unwrap()];
    publish(&destination, 1, &staged).await;
    let watched = Arc::new(Counting::default());
    let other = warehouse.open_with(watched.clone());
    assert_eq!(publish(&other, 1, &staged).await, Published::Already(Some("1".into())));
    let synced = watched.seen.lock().unwrap().iter().any(|(step, path)| *step == Step::SyncDir && path.ends_with("_delta_log"));
    assert!(synced);
    assert_eq!(watched.count(Step::PutIfAbsent), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_reads_new_entries_only_and_checkpoints_follow() {
    let warehouse = Warehouse::new();
    let watched = Arc::new(Counting::default());
    let destination = warehouse.open_with(watched.clone());
    prepare(&destination, &change(columns())).await;
    let mut costs: BTreeMap<usize, usize> = BTreeMap::new();
    for n in 1..=250 {
        let staged = [stage(&destination, "a", &[n]).await.unwrap()];
        let before = watched.count(Step::Read) + watched.count(Step::List);
        assert_eq!(publish(&destination, n, &staged).await, Published::Done(n.to_string()));
        *costs.entry(watched.count(Step::Read) + watched.count(Step::List) - before).or_default() += 1;
        watched.seen.lock().unwrap().clear();
    }
    // A look for the next entry, found or not: the same after 250 commits as after one.
    assert!(costs.keys().all(|reads| *reads <= 3), "{costs:?}");
    destination.close().await.unwrap();
    let checkpoints: Vec<u64> =
        (0..=250).filter(|v| warehouse.log_entry(*v).with_extension("checkpoint.parquet").exists()).collect();
    assert!(!checkpoints.is_empty() && checkpoints[0] >= 100, "{checkpoints:?}");
    // Without the entries that the checkpoint stands for, a new reader finds the same.
    let fresh = Arc::new(Counting::default());
    for version in 0..checkpoints[0] {
        std::fs::remove_file(warehouse.log_entry(version)).unwrap();
    }
    assert_eq!(mark(&warehouse.open_with(fresh.clone())).await, Some(250));
    assert!(fresh.count(Step::Read) <= 152, "{} reads", fresh.count(Step::Read));
    assert_eq!(warehouse.ids().await, (1..=250).collect::<Vec<_>>());
    // Replacing 250 files needs the checkpoint's own list of them.
    let other = warehouse.open();
    let rows = futures::StreamExt::boxed(futures::stream::empty());
    let truncate = longshore_core::commit::WriteDisposition::Truncate;
    let staged = [other.stage(&AttemptId("t".into()), "orders", &columns(), truncate, rows).await.unwrap().committable];
    publish(&other, 251, &staged).await;
    assert_eq!(warehouse.actions(251, "remove").len(), 250);
    assert_eq!(warehouse.ids().await, [] as [i64; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_checkpoint_is_passed_over() {
    let warehouse = Warehouse::new();
    let destination = warehouse.open();
    prepare(&destination, &change(columns())).await;
    let staged = [stage(&destination, "a", &[1]).await.unwrap()];
    publish(&destination, 1, &staged).await;
    std::fs::write(warehouse.log_entry(1).with_extension("checkpoint.parquet"), b"torn by a power cut").unwrap();
    assert_eq!(mark(&warehouse.open()).await, Some(1));
    std::fs::write(warehouse.log_entry(2), b"").unwrap();
    let error = warehouse.open().open(&crate::bench::application(), &["orders".to_owned()]).await.unwrap_err();
    assert_eq!(error.code(), "delta_log_damaged");
}
