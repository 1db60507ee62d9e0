//! The list that every destination passes.

use std::io;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use longshore_core::destination::Destination;
use longshore_delta::{Faults, Step};
use longshore_testkit::destination_conformance::{Fault, Subject, check_all};
use serde_json::Value;

use crate::bench::{DATASET, Warehouse, read};

struct OnDisk {
    warehouse: Warehouse,
    faults: Arc<Armed>,
}

#[derive(Default)]
struct Armed(Mutex<Option<Fault>>);

impl Armed {
    fn fire(&self, wanted: impl Fn(Fault) -> bool, error: io::ErrorKind) -> io::Result<()> {
        let mut armed = self.0.lock().unwrap();
        if armed.is_some_and(wanted) {
            *armed = None;
            return Err(error.into());
        }
        Ok(())
    }
}

impl Faults for Armed {
    fn before(&self, step: Step, _path: &str) -> io::Result<()> {
        match step {
            Step::Write => self.fire(|fault| fault == Fault::StageFails, io::ErrorKind::StorageFull),
            Step::PutIfAbsent => self.fire(|fault| fault == Fault::PublishRefused, io::ErrorKind::Other),
            _ => Ok(()),
        }
    }

    fn after(&self, step: Step, _path: &str) -> io::Result<()> {
        let lost = |fault| matches!(fault, Fault::PublishAnswerLost | Fault::PrepareAnswerLost);
        if step == Step::PutIfAbsent { self.fire(lost, io::ErrorKind::TimedOut) } else { Ok(()) }
    }
}

#[async_trait]
impl Subject for OnDisk {
    fn worker(&self) -> Arc<dyn Destination> {
        Arc::new(self.warehouse.open_with(self.faults.clone()))
    }

    fn arm(&self, fault: Fault) {
        *self.faults.0.lock().unwrap() = Some(fault);
    }

    async fn visible(&self, table: &str) -> Vec<Value> {
        let path = self.warehouse.path().join(DATASET).join(table);
        if path.join("_delta_log").exists() { read(&path, "select * from t").await } else { Vec::new() }
    }

    async fn kept(&self) -> usize {
        self.warehouse.data_files().len()
    }

    async fn drop_table(&self, table: &str) {
        std::fs::remove_dir_all(self.warehouse.path().join(DATASET).join(table)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delta_tables_do_what_every_destination_must() {
    check_all(async || OnDisk { warehouse: Warehouse::new(), faults: Arc::default() }).await;
}
