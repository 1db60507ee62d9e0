//! The list that every destination passes, for every method.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use longshore_bigquery::config::Method;
use longshore_core::Result;
use longshore_core::batch::Payload;
use longshore_core::commit::{Application, AttemptId, Committable, Published, Refused, WriteDisposition};
use longshore_core::destination::{Batches, Destination, Mode, PastCommit, Plan, Publication, SchemaChange, Staged, TableMark};
use longshore_core::retry::{Patience, Policy};
use longshore_core::schema::TableSchema;
use longshore_testkit::destination_conformance::{Fault, Subject, check_all_but};
use reqwest::Method as Verb;
use serde_json::Value;

use super::sheet::words;
use super::{Cloud, Dataset};

/// What needs a server that fails on command. Our own server and the emulator show these.
const FAULTS: &[(&str, &str)] = &[
    ("a_lost_answer_of_publish_is_settled", "Google's servers do not fail on command"),
    ("a_refused_write_leaves_nothing_visible_and_is_repeated", "Google's servers do not fail on command"),
    ("a_failed_stage_leaves_nothing_visible_and_is_repeated", "Google's servers do not fail on command"),
    ("a_lost_answer_of_prepare_is_settled", "Google's servers do not fail on command"),
];
/// What no destination can promise whose rows show as soon as they are sent.
const AT_LEAST_ONCE: &[(&str, &str)] =
    &[("two_workers_publishing_the_same_number_at_once_publish_it_once", "rows that show at once are sent by both")];
const INSERTED: &[(&str, &str)] = &[
    ("truncate_replaces_the_rows_in_one_commit", "BigQuery does not change rows that insertAll wrote in the last half hour"),
    ("truncate_without_rows_empties_the_table", "BigQuery does not change rows that insertAll wrote in the last half hour"),
];
/// Failures of one list after which there is nothing more to learn.
const ENOUGH: usize = 5;

pub async fn pending(dataset: &Dataset) {
    passes(dataset, Method::StorageWritePending, &[]).await;
}

pub async fn buffered(dataset: &Dataset) {
    passes(dataset, Method::StorageWrite, &[]).await;
}

pub async fn default_stream(dataset: &Dataset) {
    passes(dataset, Method::StorageWriteDefault, AT_LEAST_ONCE).await;
}

pub async fn insert_all(dataset: &Dataset) {
    passes(dataset, Method::InsertAll, &[AT_LEAST_ONCE, INSERTED].concat()).await;
}

pub async fn load_jobs(dataset: &Dataset) {
    if dataset.has_bucket() {
        passes(dataset, Method::LoadJob, &[]).await;
    }
}

/// A check that fails is set aside, and the list begins again: one run is to tell everything.
async fn passes(dataset: &Dataset, method: Method, unable: &[(&str, &str)]) {
    let sheet = &dataset.sheet;
    let left_out = [FAULTS, unable].concat();
    for (name, why) in &left_out {
        sheet.left_out(&name.replace('_', " "), why);
    }
    let mut failed: Vec<String> = Vec::new();
    while failed.len() < ENOUGH {
        let mut exceptions = left_out.clone();
        exceptions.extend(failed.iter().map(|name| (name.as_str(), "it failed")));
        let made = Made { cloud: dataset.cloud.clone(), method, names: tokio::sync::Mutex::default() };
        let made = Arc::new(made);
        let list = check_all_but(&exceptions, || async { Made::subject(&made).await });
        let passed = AssertUnwindSafe(list).catch_unwind().await;
        made.remove().await;
        let Err(panic) = passed else { return sheet.holds("the other checks of the list", true, "") };
        let words = words(panic.as_ref());
        let (name, why) = words.split_once(": ").unwrap_or((&words, ""));
        sheet.holds(name, false, why);
        let name = name.replace(' ', "_");
        if failed.contains(&name) {
            return sheet.broke_off("the list cannot go on");
        }
        failed.push(name);
    }
    sheet.left_out("the rest of the list", "too much differs");
}

/// The datasets of a list: one for each check, since a table of the same name made anew is not known everywhere at once.
struct Made {
    cloud: Cloud,
    method: Method,
    names: tokio::sync::Mutex<Vec<Arc<Dataset>>>,
}

impl Made {
    async fn subject(self: &Arc<Self>) -> InCloud {
        self.remove().await;
        let dataset = Arc::new(self.cloud.dataset("the list").await);
        self.names.lock().await.push(dataset.clone());
        InCloud { dataset, method: self.method }
    }

    /// Removes what earlier checks left.
    async fn remove(&self) {
        for dataset in self.names.lock().await.drain(..) {
            dataset.remove().await;
        }
    }
}

struct InCloud {
    dataset: Arc<Dataset>,
    method: Method,
}

#[async_trait]
impl Subject for InCloud {
    fn worker(&self) -> Arc<dyn Destination> {
        Arc::new(Patient(self.dataset.open(self.method)))
    }

    fn arm(&self, fault: Fault) {
        panic!("{fault:?} cannot be had of Google");
    }

    async fn visible(&self, table: &str) -> Vec<Value> {
        let rows = self.dataset.query(&format!("SELECT * FROM {}", self.dataset.sql_name(table))).await;
        let of_row = |(name, cell): (String, Value)| {
            let number = if name == "id" { cell.as_str().and_then(|text| text.parse::<i64>().ok()) } else { None };
            (name, number.map_or(cell, Value::from))
        };
        let without_nulls =
            |row: serde_json::Map<String, Value>| row.into_iter().filter(|(_, cell)| !cell.is_null()).map(of_row).collect();
        rows.unwrap_or_default().into_iter().map(without_nulls).collect()
    }

    async fn kept(&self) -> usize {
        let bucket = self.dataset.cloud.bucket.as_ref().filter(|_| self.method == Method::LoadJob);
        let Some(bucket) = bucket else { return 0 };
        let storage = self.dataset.cloud.endpoint(2, "https://storage.googleapis.com");
        let url = format!("{storage}/storage/v1/b/{bucket}/o?prefix={}/", self.dataset.name);
        let (status, page) = self.dataset.cloud.ask(Verb::GET, &url, None).await;
        assert_eq!(status, 200, "{page}");
        page["items"].as_array().map_or(0, Vec::len)
    }

    async fn drop_table(&self, table: &str) {
        self.dataset.drop_table(table).await;
    }

    fn counts_what_is_kept(&self) -> bool {
        false
    }

    fn marks_first(&self) -> bool {
        true
    }

    fn tells_who_was_first(&self) -> bool {
        matches!(self.method, Method::LoadJob | Method::StorageWritePending)
    }
}

/// Tries again what passes, as the engine does.
struct Patient(Arc<dyn Destination>);

impl Patient {
    async fn run<T, F: Future<Output = Result<T>>>(&self, call: impl FnMut() -> F) -> Result<T> {
        Policy { tries: 10, ..Policy::default() }.run(&Patience::default(), call).await
    }
}

#[async_trait]
impl Destination for Patient {
    async fn open(&self, application: &Application, tables: &[String]) -> Result<BTreeMap<String, TableMark>> {
        self.run(|| self.0.open(application, tables)).await
    }

    async fn prepare(&self, change: &SchemaChange, mode: Mode) -> Result<Plan> {
        self.run(|| self.0.prepare(change, mode)).await
    }

    async fn stage(
        &self,
        attempt: &AttemptId,
        table: &str,
        schema: &TableSchema,
        disposition: WriteDisposition,
        batches: Batches,
    ) -> Result<Staged> {
        self.0.stage(attempt, table, schema, disposition, batches).await
    }

    async fn publish(&self, publication: Publication<'_>) -> Result<Published> {
        let Publication { application, n, token, amendment, table, committables, note, fence } = publication;
        self.run(|| {
            self.0.publish(Publication { application, n, token, amendment, table, committables, note: note.clone(), fence })
        })
        .await
    }

    async fn restage(
        &self,
        attempt: &AttemptId,
        table: &str,
        schema: &TableSchema,
        committables: &[Committable],
        refused: &Refused,
    ) -> Result<Staged> {
        self.0.restage(attempt, table, schema, committables, refused).await
    }

    async fn sweep(&self, attempts: &[AttemptId]) -> Result<u64> {
        self.run(|| self.0.sweep(attempts)).await
    }

    async fn keep_payload(&self, attempt: &AttemptId, id: &str, payload: &Payload) -> Result<(String, String)> {
        self.0.keep_payload(attempt, id, payload).await
    }

    async fn history(&self, application: &Application, table: &str) -> Result<Vec<PastCommit>> {
        self.run(|| self.0.history(application, table)).await
    }
}
