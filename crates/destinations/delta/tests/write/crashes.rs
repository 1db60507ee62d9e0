//! This process kills a copy of itself at each failpoint of the write path, then goes on where the copy died.

use std::process::Command;

use longshore_core::commit::{AttemptId, Committable, Published};
use longshore_core::destination::Destination;
use longshore_delta::DeltaDestination;

use crate::bench::{Warehouse, change, columns, config, mark, prepare, publish, stage};

const FOLDER: &str = "LONGSHORE_TEST_FOLDER";

/// What the copy does: stages, writes its journal, publishes. Does nothing in an ordinary test run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_copy_stages_and_publishes() {
    let Some(folder) = std::env::var_os(FOLDER).map(std::path::PathBuf::from) else { return };
    let destination = DeltaDestination::open_dataset(&config(&folder)).unwrap();
    let staged = stage(&destination, "copy", &[1, 2]).await.unwrap();
    std::fs::write(folder.join("journal"), serde_json::to_string(&staged).unwrap()).unwrap();
    publish(&destination, 1, &[staged]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_failpoint_loses_nothing_and_doubles_nothing() {
    for (failpoint, journalled, visible) in [
        ("stage.first_batch", false, false),
        ("stage.before_sync", false, false),
        ("publish.before_log_entry", true, false),
        ("publish.log_entry_unsynced", true, true),
    ] {
        let warehouse = Warehouse::new();
        let destination = warehouse.open();
        prepare(&destination, &change(columns())).await;
        let copy = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crashes::the_copy_stages_and_publishes", "--nocapture"])
            .env(FOLDER, warehouse.path())
            .env("LONGSHORE_FAILPOINT", failpoint)
            .output()
            .unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&copy.status), Some(9), "{failpoint}: {copy:?}");
        let journal = std::fs::read_to_string(warehouse.path().join("journal")).ok();
        assert_eq!(journal.is_some(), journalled, "{failpoint}");
        assert_eq!(mark(&destination).await, visible.then_some(1), "{failpoint}");
        assert_eq!(warehouse.ids().await, if visible { vec![1, 2] } else { vec![] }, "{failpoint}");
        let staged: Committable = match journal {
            Some(journal) => serde_json::from_str(&journal).unwrap(),
            None => {
                // Never journalled: the attempt is dead, its files go, the rows are staged anew.
                assert!(!warehouse.data_files().is_empty(), "{failpoint} came before anything was written");
                destination.sweep(&[AttemptId("copy".into())]).await.unwrap();
                assert_eq!(warehouse.data_files().len(), 0);
                stage(&destination, "again", &[1, 2]).await.unwrap()
            }
        };
        let published = publish(&destination, 1, &[staged]).await;
        assert_eq!(matches!(published, Published::Already(_)), visible, "{failpoint}: {published:?}");
        assert_eq!(warehouse.ids().await, [1, 2], "{failpoint}");
        assert_eq!(mark(&destination).await, Some(1));
    }
}
