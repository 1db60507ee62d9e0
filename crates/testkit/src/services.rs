//! Real servers for tests, as `cargo x services` installs them: emulators of BigQuery, Cloud Storage and Pub/Sub; Kafka, a
//! schema registry and PostgreSQL.
//!
//! They listen on free ports of this machine, keep nothing, and end with the value or the process that started them,
//! however that ends.

mod bigquery;
mod cloud_storage;
pub mod kafka;
mod postgres;
mod process;
mod pubsub;
mod registry;

use std::io::Write;
use std::path::PathBuf;

pub use bigquery::BigQueryEmulator;
pub use cloud_storage::CloudStorage;
pub use kafka::{Kafka, KafkaOptions};
pub use postgres::Postgres;
pub use pubsub::{Fate, PubSub, PubSubMessage};
pub use registry::{Reference, Registry};

/// The project that the emulators answer for.
pub const PROJECT: &str = "test";

/// The Python that has Google's own clients of BigQuery; `None` (said loudly) where [`CloudStorage::start`] says `None`.
///
/// # Panics
/// With `CI=true` instead of `None`.
pub fn python() -> Option<PathBuf> {
    Some(installed("python")?.join("bin/python"))
}

/// Where a part is installed; `None` (said loudly) if it is not.
fn installed(part: &str) -> Option<PathBuf> {
    let why = match std::env::var_os("LONGSHORE_SERVICES") {
        Some(services) => {
            // A server's own folder is where it runs.
            let folder = std::path::absolute(services).expect("this process has a folder").join(part);
            if folder.join("installed.txt").exists() {
                return Some(folder);
            }
            format!("a test that needs {}, which cargo x services has not installed", folder.display())
        }
        None => "a test that needs real servers; run cargo x test, or set LONGSHORE_SERVICES as cargo x services says".to_owned(),
    };
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "in CI: SKIPPED: {why}");
    // Not by a macro: the test harness would keep that to itself.
    let _ = writeln!(std::io::stderr(), "\n==== SKIPPED: {why} ====\n");
    None
}
