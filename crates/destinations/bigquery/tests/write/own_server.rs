//! The list that every destination passes, whole, against a fault server of our own.

use std::sync::Arc;

use async_trait::async_trait;
use longshore_bigquery::BigQueryDestination;
use longshore_bigquery::config::{BigQueryConfig, Method};
use longshore_core::destination::Destination;
use longshore_fakes::bigquery::{FakeBigQuery, Fault as Wrong, Rule};
use longshore_testkit::destination_conformance::{Fault, Subject, check_all};
use serde_json::Value;

const PROJECT: &str = "acme";
const DATASET: &str = "shop";
const BUCKET: &str = "landing";

/// A dataset in a server of its own.
pub struct Shop {
    pub server: FakeBigQuery,
    pub method: Method,
    state: tempfile::TempDir,
}

impl Shop {
    pub async fn new(method: Method) -> Self {
        let server = FakeBigQuery::start().await;
        server.create_dataset(PROJECT, DATASET, "EU");
        server.create_bucket(BUCKET, "EU");
        Self { server, method, state: tempfile::tempdir().unwrap() }
    }

    pub fn open(&self) -> Arc<dyn Destination> {
        let config = BigQueryConfig {
            project: PROJECT.into(),
            dataset: DATASET.into(),
            method: self.method,
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
            Fault::PublishRefused => Rule::on(self.publishes(), denied()),
            Fault::PublishAnswerLost => Rule::on(self.publishes(), Wrong::LoseAnswer),
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
        self.method != Method::StorageWrite
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
