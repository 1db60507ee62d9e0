//! The emulators start, know each other, and end with whoever started them.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use longshore_testkit::proxy::Proxy;
use longshore_testkit::services::{self, BigQueryEmulator, CloudStorage, PROJECT, Postgres};
use reqwest::Client;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

#[tokio::test]
async fn the_emulator_of_bigquery_loads_an_object_of_its_cloud_storage() {
    let Some(emulator) = BigQueryEmulator::shared().await else { return };
    emulator.create_bucket("from").await;
    let client = client();
    let upload = format!("{}/upload/storage/v1/b/from/o?uploadType=media&name=in/a.json", emulator.url());
    let sent = client.post(upload).body("{\"id\": 1}\n{\"id\": 2}\n").send().await.unwrap();
    assert!(sent.status().is_success(), "{}", sent.text().await.unwrap());

    let api = format!("{}/bigquery/v2/projects/{PROJECT}", emulator.rest());
    let dataset = json!({"datasetReference": {"projectId": PROJECT, "datasetId": "loads"}});
    let made = client.post(format!("{api}/datasets")).json(&dataset).send().await.unwrap();
    assert!(made.status().is_success(), "{}", made.text().await.unwrap());
    let load = json!({
        "sourceUris": ["gs://from/in/*"], "sourceFormat": "NEWLINE_DELIMITED_JSON",
        "destinationTable": {"projectId": PROJECT, "datasetId": "loads", "tableId": "t"},
        "schema": {"fields": [{"name": "id", "type": "INT64"}]},
    });
    let job = client.post(format!("{api}/jobs")).json(&json!({"configuration": {"load": load}})).send().await.unwrap();
    assert!(job.status().is_success(), "{}", job.text().await.unwrap());
    let query = json!({"query": "select sum(id) from loads.t", "useLegacySql": false});
    let rows: Value = client.post(format!("{api}/queries")).json(&query).send().await.unwrap().json().await.unwrap();
    assert_eq!(rows["rows"][0]["f"][0]["v"], json!("3"), "{rows}\n{}", emulator.log());
}

#[tokio::test]
async fn one_emulator_is_shared() {
    let (Some(one), Some(two)) = tokio::join!(BigQueryEmulator::shared(), BigQueryEmulator::shared()) else { return };
    assert!(std::ptr::eq(one, two));
    assert_ne!(one.rest(), one.grpc());
}

#[tokio::test]
async fn a_server_ends_when_it_is_dropped() {
    let Some(storage) = CloudStorage::start().await else { return };
    let (url, buckets) = (storage.url().to_owned(), storage.buckets());
    storage.create_bucket("kept").await;
    assert!(buckets.join("kept").exists());
    drop(storage);
    assert!(client().get(url).send().await.unwrap_err().is_connect());
    assert!(!buckets.exists());
}

/// What the next tests run in a process of its own, to kill it.
#[tokio::test]
async fn a_process_that_waits_to_be_killed() {
    if std::env::var_os("LONGSHORE_TEST_KILLED").is_none() {
        return;
    }
    let Some(emulator) = BigQueryEmulator::shared().await else { return };
    let Some(postgres) = Postgres::shared().await else { return };
    let (buckets, data) = (emulator.storage().buckets(), postgres.folder());
    println!("\nserves {} {} {} {} {}", emulator.rest(), emulator.url(), postgres.url(), buckets.display(), data.display());
    std::future::pending().await
}

/// Kills a process that has servers, or its whole group, and waits until nothing of them is left.
async fn kill(signal: &str, whole_group: bool) {
    if services::python().is_none() {
        return;
    }
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "services::a_process_that_waits_to_be_killed", "--nocapture"])
        .env("LONGSHORE_TEST_KILLED", "1")
        .process_group(0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
    let said = said.find(|line| line.starts_with("serves ")).unwrap();
    let [rest, url, postgres, buckets, data] = said.split(' ').skip(1).collect::<Vec<_>>().try_into().unwrap();
    assert!(client().get(rest).send().await.is_ok() && client().get(url).send().await.is_ok());
    assert!(PgConnection::connect(postgres).await.is_ok());
    let target = format!("{}{}", if whole_group { "-" } else { "" }, process.id());
    assert!(Command::new("kill").args([signal, "--", &target]).status().unwrap().success());
    process.wait().unwrap();
    let gone = async {
        // Nobody tells when.
        while Path::new(buckets).exists()
            || Path::new(data).exists()
            || client().get(rest).send().await.is_ok()
            || client().get(url).send().await.is_ok()
            || PgConnection::connect(postgres).await.is_ok()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("the servers end, and their folder is removed");
}

#[tokio::test]
async fn servers_end_when_their_process_is_killed() {
    kill("-KILL", false).await;
}

#[tokio::test]
async fn servers_end_when_the_group_of_their_process_is_told_to_end() {
    kill("-TERM", true).await;
}

#[tokio::test]
async fn an_upload_in_parts_stays_behind_the_proxy() {
    let Some(storage) = CloudStorage::start().await else { return };
    storage.create_bucket("parts").await;
    let proxy = Proxy::start(storage.url()).await;
    let begin = format!("{}/upload/storage/v1/b/parts/o?uploadType=resumable&name=a", proxy.url());
    let begun = client().post(begin).json(&json!({})).send().await.unwrap();
    let next = begun.headers()["location"].to_str().unwrap();
    assert!(next.starts_with(proxy.url()), "{next}");
    assert!(client().put(next).body("hello").send().await.unwrap().status().is_success());
    let object = format!("{}/storage/v1/b/parts/o/a?alt=media", proxy.url());
    assert_eq!(client().get(object).send().await.unwrap().text().await.unwrap(), "hello");
    assert_eq!(proxy.requests().len(), 3);
}
