//! Cloud Storage.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::process::{Process, Ready, Spec, client, free_port};
use super::{PROJECT, installed};

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
        Some(Self::start_in(&installed("bin")?).await)
    }

    async fn start_in(bin: &Path) -> Self {
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
                program: bin.join("fake-gcs-server"),
                args: args.map(Into::into).into(),
                ready: Ready::Page(format!("http://127.0.0.1:{port}/_internal/healthcheck")),
                ..Spec::default()
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
        let answer = client().post(url).json(&json!({ "name": name })).send().await.expect("Cloud Storage answers");
        let status = answer.status();
        assert!(status.is_success(), "bucket {name} is not made: {status} {}", answer.text().await.unwrap_or_default());
    }

    /// What the server has said, for a test that fails.
    pub fn log(&self) -> String {
        self.process.log()
    }
}
