//! The list that every destination passes, whole, against a fault server of our own.

use std::sync::Arc;

use async_trait::async_trait;
use longshore_bigquery::BigQueryDestination;
use longshore_bigquery::config::{BigQueryConfig, Changes, FileFormat, Method};
use longshore_core::destination::Destination;
use longshore_fakes::bigquery::{FakeBigQuery, Fault as Wrong, Rule};
use longshore_testkit::destination_conformance::{Fault, Subject, check_all, check_all_but};
use serde_json::Value;

const PROJECT: &str = "acme";
const DATASET: &str = "shop";
const BUCKET: &str = "landing";

/// A dataset in a server of its own.
pub struct Shop {
    pub server: FakeBigQuery,
    pub method: Method,
    pub format: FileFormat,
    pub changes: Changes,
    pub max_bad_records: Option<u64>,
    state: tempfile::TempDir,
}

impl Shop {
    pub async fn new(method: Method) -> Self {
        let server = FakeBigQuery::start().await;
        server.create_dataset(PROJECT, DATASET, "EU");
        server.create_bucket(BUCKET, "EU");
        let (format, changes) = (FileFormat::Auto, Changes::Cdc);
        Self { server, method, format, changes, max_bad_records: None, state: tempfile::tempdir().unwrap() }
    }

    /// How many files of ours wait beside the store.
    pub fn waiting(&self) -> usize {
        let spool = self.state.path().join("spool");
        std::fs::read_dir(spool).map_or(0, Iterator::count)
    }

    pub fn open(&self) -> Arc<dyn Destination> {
        let config = BigQueryConfig {
            project: PROJECT.into(),
            dataset: DATASET.into(),
            method: self.method,
            format: self.format,
            changes: self.changes,
            max_bad_records: self.max_bad_records,
            anonymous: true,
            endpoint: Some(self.server.rest()),
            write_endpoint: Some(self.server.grpc()),
            storage_endpoint: Some(self.server.rest()),
            staging: (self.method == Method::LoadJob).then(|| format!("gs://{BUCKET}/staging")),
            ..BigQueryConfig::default()
        };
        Arc::new(BigQueryDestination::open_dataset(&config, self.state.path()).unwrap())
    }

    /// The call that makes rows visible.
    fn publishes(&self) -> &'static str {
        match self.method {
            Method::LoadJob => "jobs.insert",
            Method::StorageWrite => "FlushRows",
            Method::StorageWriteDefault => "AppendRows",
            Method::InsertAll => "tabledata.insertAll",
            Method::Auto | Method::StorageWritePending => "BatchCommitWriteStreams",
        }
    }
}

#[async_trait]
impl Subject for Shop {
    fn worker(&self) -> Arc<dyn Destination> {
        self.open()
    }

    fn arm(&self, fault: Fault) {
        let denied = || Wrong::refuse(403, "accessDenied", "not now");
        self.server.arm(match fault {
            Fault::StageFails if self.method == Method::LoadJob => Rule::on("objects.put", denied()),
            Fault::StageFails => Rule::on("AppendRows", denied()),
            // The marks are appended, too.
            Fault::PublishRefused => Rule::on(self.publishes(), denied()).about("orders"),
            Fault::PublishAnswerLost => Rule::on(self.publishes(), Wrong::LoseAnswer).about("orders"),
            Fault::PrepareAnswerLost => Rule::on("tables.insert", Wrong::LoseAnswer),
        });
    }

    async fn visible(&self, table: &str) -> Vec<Value> {
        self.server.rows(DATASET, table)
    }

    async fn kept(&self) -> usize {
        self.server.objects().len()
    }

    async fn drop_table(&self, table: &str) {
        self.server.drop_table(DATASET, table);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_streams_do_what_every_destination_must() {
    check_all(async || Shop::new(Method::StorageWritePending).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buffered_streams_do_what_every_destination_must() {
    check_all(async || Shop::new(Method::StorageWrite).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_jobs_do_what_every_destination_must() {
    check_all(async || Shop::new(Method::LoadJob).await).await;
}

/// What no destination can promise whose rows show as soon as they are sent.
const AT_LEAST_ONCE: &[(&str, &str)] = &[
    ("two_workers_publishing_the_same_number_at_once_publish_it_once", "both send the rows"),
    ("a_failed_stage_leaves_nothing_visible_and_is_repeated", "it stages in a file beside the store, which does not fail"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_default_stream_does_what_a_destination_can_that_shows_rows_at_once() {
    let lost = ("a_lost_answer_of_publish_is_settled", "rows whose answer was lost are sent again");
    check_all_but(&[AT_LEAST_ONCE, &[lost]].concat(), async || Shop::new(Method::StorageWriteDefault).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn insert_all_does_what_a_destination_can_that_shows_rows_at_once() {
    let buffered = "BigQuery does not change rows that insertAll wrote in the last half hour";
    let unable = [("truncate_replaces_the_rows_in_one_commit", buffered), ("truncate_without_rows_empties_the_table", buffered)];
    check_all_but(&[AT_LEAST_ONCE, &unable].concat(), async || Shop::new(Method::InsertAll).await).await;
}
