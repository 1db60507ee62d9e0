//! Google's own client against the emulator, with the proxy between them.

use std::path::Path;
use std::process::Stdio;

use longshore_testkit::proxy::{Proxy, Rule, What};
use longshore_testkit::services::{self, BigQueryEmulator};
use tokio::process::Command;

#[tokio::test]
async fn the_second_of_three_appends_is_done_and_its_answer_lost() {
    let (Some(emulator), Some(python)) = (BigQueryEmulator::shared().await, services::python()) else { return };
    let (rest, grpc) = (Proxy::start(emulator.rest()).await, Proxy::start(emulator.grpc()).await);
    grpc.arm(Rule::once("BigQueryWrite/AppendRows", What::LoseAnswer { after_messages: 1 }));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/append.py");
    let output = Command::new(python).arg(script).args([rest.url(), grpc.url()]).stderr(Stdio::inherit()).output().await.unwrap();
    // 6 is "already exists": the lost answer was to a write that was done.
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "ok 0; InternalServerError\nerror 6; ok 2\nrows 3\n", "{}", emulator.log());
    assert_eq!(grpc.fired(), 1);
    let appends = "POST /google.cloud.bigquery.storage.v1.BigQueryWrite/AppendRows";
    assert_eq!(grpc.requests().iter().filter(|request| *request == appends).count(), 2);
    assert!(rest.requests().len() >= 3);
}
