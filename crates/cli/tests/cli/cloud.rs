//! A BigQuery of our own, and the program set up to write there.

use std::process::Command;

use longshore_fakes::bigquery::FakeBigQuery;
use tokio::runtime::Runtime;

use crate::place::Place;

/// A server, and the method by which the program writes to it.
pub struct Cloud {
    /// It has the project `acme` with an empty dataset, and the bucket `landing`.
    pub server: FakeBigQuery,
    /// As `LONGSHORE_BIGQUERY_METHOD` has it.
    pub method: &'static str,
    _runtime: Runtime,
}

impl Cloud {
    /// A new one with a dataset of this name.
    pub fn new(dataset: &str, method: &'static str) -> Self {
        let (server, runtime) = server(dataset);
        Self { server, method, _runtime: runtime }
    }

    /// A dataset of it as the destination of a pipeline file.
    pub fn destination(&self, dataset: &str) -> String {
        let (rest, grpc, method) = (self.server.rest(), self.server.grpc(), self.method);
        format!(
            "{{type: bigquery, project: acme, dataset: {dataset}, method: {method}, anonymous: true, endpoint: \"{rest}\", write_endpoint: \"{grpc}\"}}"
        )
    }

    /// The program with these arguments, in this place.
    pub fn command(&self, place: &Place, args: &[&str]) -> Command {
        let mut command = place.command(args);
        command
            .env("LONGSHORE_BIGQUERY_ENDPOINT", self.server.rest())
            .env("LONGSHORE_BIGQUERY_WRITE_ENDPOINT", self.server.grpc())
            .env("LONGSHORE_BIGQUERY_STORAGE_ENDPOINT", self.server.rest())
            .env("LONGSHORE_BIGQUERY_ANONYMOUS", "true")
            .env("LONGSHORE_BIGQUERY_METHOD", self.method);
        if self.method == "load_job" {
            command.env("LONGSHORE_BIGQUERY_STAGING", "gs://landing/staging");
        }
        command
    }
}

/// A server with a dataset of this name and the bucket `landing`; it answers while the runtime lives.
pub fn server(dataset: &str) -> (FakeBigQuery, Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let server = runtime.block_on(FakeBigQuery::start());
    server.create_dataset("acme", dataset, "EU");
    server.create_bucket("landing", "EU");
    (server, runtime)
}
