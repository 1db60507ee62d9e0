//! Real servers for tests: an emulator of BigQuery and one of Cloud Storage, as `cargo x services` installs them.
//!
//! They listen on free ports of this machine, keep nothing, and end with the value or the process that started them,
//! however that ends.

mod process;

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;
use tokio::sync::OnceCell;

use process::{Process, Spec, free_port};

/// The project that the emulators answer for.
pub const PROJECT: &str = "test";

/// The Python that has Google's own clients of BigQuery; `None` (said loudly) where [`CloudStorage::start`] says `None`.
///
/// # Panics
/// With `CI=true` instead of `None`.
pub fn python() -> Option<PathBuf> {
    Some(folder()?.join("python/bin/python"))
}

/// Where the servers are installed.
fn folder() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("LONGSHORE_SERVICES") {
        return Some(folder.into());
    }
    let why = "SKIPPED: a test that needs real servers; run cargo x test, or set LONGSHORE_SERVICES as cargo x services says";
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "in CI: {why}");
    // Not by a macro: the test harness would keep that to itself.
    let _ = writeln!(std::io::stderr(), "\n==== {why} ====\n");
    None
}

/// An emulator of Cloud Storage. Buckets are folders, so a name cannot be both an object and the prefix of others.
#[derive(Debug)]
pub struct CloudStorage {
    process: Process,
    url: String,
}

impl CloudStorage {
    /// Starts one without buckets; `None` (said loudly) if the emulators are not installed.
    ///
    /// # Panics
    /// If it does not start, with what it said; with `CI=true` if it is not installed.
    pub async fn start() -> Option<Self> {
        Some(Self::start_in(&folder()?).await)
    }

    async fn start_in(services: &Path) -> Self {
        let mut port = 0;
        let process = Process::start(|own| {
            port = free_port();
            let args = [
                "-backend".to_owned(),
                "filesystem".to_owned(),
                "-filesystem-root".to_owned(),
                own.join("buckets").display().to_string(),
                "-scheme".to_owned(),
                "http".to_owned(),
                "-host".to_owned(),
                "127.0.0.1".to_owned(),
                "-port".to_owned(),
                port.to_string(),
                "-public-host".to_owned(),
                format!("127.0.0.1:{port}"),
                "-log-level".to_owned(),
                "warn".to_owned(),
            ];
            Spec {
                program: services.join("bin/fake-gcs-server"),
                args: args.into(),
                env: Vec::new(),
                ready: format!("http://127.0.0.1:{port}/_internal/healthcheck"),
                ports: Vec::new(),
            }
        })
        .await;
        Self { process, url: format!("http://127.0.0.1:{port}") }
    }

    /// Where clients find it, `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The folder that has a folder for each bucket. An object put there behind the server's back breaks its listings.
    pub fn buckets(&self) -> PathBuf {
        self.process.folder().join("buckets")
    }

    /// Makes a bucket.
    ///
    /// # Panics
    /// If the server does not make it, say because it is there.
    pub async fn create_bucket(&self, name: &str) {
        let url = format!("{}/storage/v1/b?project={PROJECT}", self.url);
        let answer = process::client().post(url).json(&json!({ "name": name })).send().await.expect("Cloud Storage answers");
        let status = answer.status();
        assert!(status.is_success(), "bucket {name} is not made: {status} {}", answer.text().await.unwrap_or_default());
    }

    /// What the server has said, for a test that fails.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

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
        let services = folder()?;
        let storage = CloudStorage::start_in(&services).await;
        let (mut rest, mut grpc) = (0, 0);
        let process = Process::start(|_| {
            (rest, grpc) = (free_port(), free_port());
            let args = format!("start --ephemeral --project {PROJECT} --log-level warning --rest-port {rest} --grpc-port {grpc}");
            Spec {
                program: services.join("python/bin/bqemulator"),
                args: args.split(' ').map(str::to_owned).collect(),
                env: vec![("HOME", services.join("home")), ("BQEMU_GCS_LOCAL_ROOT", storage.buckets())],
                ready: format!("http://127.0.0.1:{rest}/bigquery/v2/projects/{PROJECT}/datasets"),
                ports: vec![grpc],
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
