//! BigQuery.

use tokio::sync::OnceCell;

use super::process::{Process, Ready, Spec, free_port};
use super::{CloudStorage, PROJECT, installed};

/// An emulator of BigQuery, with one of Cloud Storage that it loads files from.
#[derive(Debug)]
pub struct BigQueryEmulator {
    // Ends before what it reads.
    process: Process,
    storage: CloudStorage,
    rest: String,
    grpc: String,
}

impl BigQueryEmulator {
    /// Starts one without datasets, which takes some seconds; `None` (said loudly) if the emulators are not installed.
    ///
    /// # Panics
    /// If it does not start, with what it said; with `CI=true` if it is not installed.
    pub async fn start() -> Option<Self> {
        let (python, home) = (installed("python")?, installed("home")?);
        let storage = CloudStorage::start().await?;
        let (mut rest, mut grpc) = (0, 0);
        let process = Process::start(|_| {
            (rest, grpc) = (free_port(), free_port());
            let args = format!("start --ephemeral --project {PROJECT} --log-level warning --rest-port {rest} --grpc-port {grpc}");
            Spec {
                program: python.join("bin/bqemulator"),
                args: args.split(' ').map(Into::into).collect(),
                env: vec![("HOME", home.clone().into()), ("BQEMU_GCS_LOCAL_ROOT", storage.buckets().into())],
                ready: Ready::Page(format!("http://127.0.0.1:{rest}/bigquery/v2/projects/{PROJECT}/datasets")),
                ports: vec![grpc],
                ..Spec::default()
            }
        })
        .await;
        Some(Self { process, storage, rest: format!("http://127.0.0.1:{rest}"), grpc: format!("http://127.0.0.1:{grpc}") })
    }

    /// The one that all tests of this process share, started at the first call; each test makes datasets and buckets of its
    /// own in it. It ends with the process. `None` and panics as for [`Self::start`].
    pub async fn shared() -> Option<&'static Self> {
        static SHARED: OnceCell<Option<BigQueryEmulator>> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await.as_ref()
    }

    /// Where it answers REST, `http://127.0.0.1:PORT`; requests go to `/bigquery/v2` there, uploads to `/upload/bigquery/v2`.
    pub fn rest(&self) -> &str {
        &self.rest
    }

    /// Where it answers gRPC, `http://127.0.0.1:PORT`.
    pub fn grpc(&self) -> &str {
        &self.grpc
    }

    /// The Cloud Storage whose objects it loads: `gs://bucket/object`.
    pub fn storage(&self) -> &CloudStorage {
        &self.storage
    }

    /// Where its Cloud Storage answers.
    pub fn url(&self) -> &str {
        self.storage.url()
    }

    /// Makes a bucket that it can load from; see [`CloudStorage::create_bucket`].
    pub async fn create_bucket(&self, name: &str) {
        self.storage.create_bucket(name).await;
    }

    /// What the emulator of BigQuery has said, for a test that fails.
    pub fn log(&self) -> String {
        self.process.log()
    }
}
