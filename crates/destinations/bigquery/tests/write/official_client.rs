//! Our own server as Google's own clients see it: what they rely on is what we may rely on.

use std::path::Path;
use std::process::Command;

use longshore_fakes::bigquery::FakeBigQuery;
use longshore_testkit::services;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn googles_python_clients_work_against_our_own_server() {
    let Some(python) = services::python() else { return };
    let server = FakeBigQuery::start().await;
    server.create_dataset("project", "dataset", "US");
    server.create_bucket("bucket", "US");
    let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let script = Path::new(&manifest).join("../../fakes/tests/official_client.py");
    let (rest, grpc) = (server.rest(), server.grpc());
    let ran = tokio::task::spawn_blocking(move || Command::new(python).arg(script).args([rest, grpc]).output());
    let output = ran.await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
