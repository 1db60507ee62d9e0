//! Pub/Sub's messages into many tables by an attribute: the embedded warehouse and BigQuery, kills at every step, several workers with their books
//! in PostgreSQL.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use longshore_core::failpoint;
use longshore_testkit::services::{Postgres, PubSub, PubSubMessage};
use serde_json::json;

use crate::cloud::Cloud;
use crate::place::Place;

/// A subscription, and the place where it is landed.
struct Scene {
    server: PubSub,
    place: Place,
    /// A BigQuery to land in, instead of the embedded warehouse.
    cloud: Option<Cloud>,
    store: Option<String>,
    sent: BTreeSet<i64>,
}

impl Scene {
    async fn new(cloud: Option<Cloud>, more: &str) -> Option<Self> {
        let server = PubSub::start().await?;
        server.create_topic("arrivals").await;
        server.create_subscription("all", "arrivals", json!({"ackDeadlineSeconds": 10})).await;
        let scene = Self { server, place: Place::new(), cloud, store: None, sent: BTreeSet::new() };
        let destination = match &scene.cloud {
            Some(cloud) => cloud.destination("harbour"),
            None => "{type: delta, path: warehouse, dataset: harbour}".to_owned(),
        };
        scene.place.write(
            "pipeline.yaml",
            &format!(
                "pipeline: harbour
source: {{type: pubsub, subscription: {}, idle_after: 1s, ack_deadline: 10s}}
destination: {destination}
commit: {{every: 300ms}}
schemas: schemas
{more}
",
                PubSub::subscription("all")
            ),
        );
        for table in ["t0", "t1", "t2"] {
            let schema = r#"[{"name": "id", "type": "INT64"}, {"name": "text", "type": "STRING"}]"#;
            scene.place.write(&format!("schemas/{table}.json"), schema);
        }
        Some(scene)
    }

    /// Messages spread over three tables; every tenth does not fit.
    async fn send(&mut self, first: i64, number: i64) {
        let message = |id: i64| {
            let data = if id % 10 == 9 { format!(r#"{{"id": "no {id}"}}"#) } else { format!(r#"{{"id": {id}, "text": "x"}}"#) };
            let message = PubSubMessage::new(data).attribute("number", &id.to_string());
            if id % 20 == 9 { message } else { message.attribute("destination_table", &format!("t{}", id % 3)) }
        };
        let messages: Vec<PubSubMessage> = (first..first + number).map(message).collect();
        self.server.publish("arrivals", &messages).await;
        self.sent.extend(first..first + number);
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut args = args.to_vec();
        if let Some(store) = &self.store {
            args.extend(["--store", store]);
        }
        let mut command = match &self.cloud {
            Some(cloud) => cloud.command(&self.place, &args),
            None => self.place.command(&args),
        };
        command.env("PUBSUB_EMULATOR_HOST", self.server.endpoint()).env("LONGSHORE_TEST_LEASE_MS", "1500");
        command
    }

    fn until_idle(&self) {
        let output = self.command(&["run", "pipeline.yaml", "--until-idle"]).output().expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn rows(&self, table: &str, column: &str) -> Vec<serde_json::Value> {
        let sql = format!("select {column} from {table}");
        let args = match self.cloud {
            Some(_) => vec!["query", "--json", "--on", "bigquery://acme/harbour", &sql],
            None => vec!["query", "--json", &sql],
        };
        let output = self.command(&args).output().expect("the program runs");
        let text = String::from_utf8(output.stdout).expect("text");
        if !output.status.success() {
            return Vec::new();
        }
        text.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect()
    }

    /// Where each message is, `!` for the dead letters.
    fn found(&self) -> BTreeMap<i64, Vec<String>> {
        let mut found: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for table in ["t0", "t1", "t2"] {
            for row in self.rows(table, "id") {
                let id = row["id"].as_i64().or_else(|| row["id"].as_str()?.parse().ok()).expect("a number");
                found.entry(id).or_default().push(table.to_owned());
            }
        }
        for row in self.rows("_dead_letters", "payload") {
            let payload = row["payload"].as_str().expect("a payload");
            let id = payload.trim_start_matches(r#"{"id": "no "#).trim_end_matches(r#""}"#).parse().expect("a number");
            found.entry(id).or_default().push("!".to_owned());
        }
        found
    }

    fn check(&self, what: &str) {
        let found = self.found();
        for id in &self.sent {
            let wanted = if id % 10 == 9 { "!".to_owned() } else { format!("t{}", id % 3) };
            assert_eq!(found.get(id).map(Vec::as_slice), Some(&[wanted][..]), "{what}: message {id}");
        }
        assert_eq!(found.len(), self.sent.len(), "{what}: messages that nobody sent");
    }
}

async fn killed_at_every_step(mut scene: Scene) {
    let mut next = 0;
    let mut hit = 0;
    for step in failpoint::ALL {
        scene.send(next, 30).await;
        next += 30;
        let mut command = scene.command(&["run", "pipeline.yaml"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut run = Worker(command.env("LONGSHORE_FAILPOINT", step).spawn().expect("the program runs"));
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(4) && run.0.try_wait().expect("a child").is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // Steps that nothing came by: it is killed somewhere else.
        hit += usize::from(run.0.try_wait().expect("a child").is_some_and(|status| status.signal() == Some(9)));
        drop(run);
        // What the dead one held comes again when its leases have lapsed.
        scene.server.clock_ahead(Duration::from_secs(15)).await;
    }
    scene.until_idle();
    scene.check("killed at every step");
    assert!(hit >= 10, "only {hit} kills");
    // The server's runtime may not end on one of the test's threads.
    tokio::task::spawn_blocking(move || drop(scene)).await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_each_message_lands_once_in_the_embedded_warehouse() {
    let Some(scene) = Scene::new(None, "").await else { return };
    killed_at_every_step(scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_each_message_lands_once_in_bigquery() {
    let cloud = tokio::task::spawn_blocking(|| Cloud::new("harbour", "storage_write")).await.expect("a BigQuery");
    let Some(scene) = Scene::new(Some(cloud), "").await else { return };
    killed_at_every_step(scene).await;
}

/// Three workers with their books in PostgreSQL; one is killed, one paused for so long that it is taken for dead.
async fn shared_by_workers(mut scene: Scene) {
    let Some(postgres) = Postgres::start().await else { return };
    scene.store = Some(postgres.database().await);
    let start = |scene: &Scene| {
        let mut command = scene.command(&["run", "pipeline.yaml"]);
        Worker(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"))
    };
    let mut workers = vec![start(&scene), start(&scene), start(&scene)];
    let mut next = 0;
    for round in 0..10 {
        scene.send(next, 60).await;
        next += 60;
        match round {
            3 => {
                workers.remove(0);
                // What the dead one held comes again.
                scene.server.clock_ahead(Duration::from_secs(15)).await;
                workers.push(start(&scene));
            }
            5 => {
                workers[0].signal("STOP");
                scene.server.clock_ahead(Duration::from_secs(15)).await;
            }
            8 => workers[0].signal("CONT"),
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let begin = Instant::now();
    while scene.found().len() < next as usize {
        assert!(begin.elapsed() < Duration::from_secs(60), "only {} of {next}", scene.found().len());
        scene.server.clock_ahead(Duration::from_secs(15)).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    drop(workers);
    scene.check("workers");
    let runs = scene.command(&["runs", "list", "--json"]).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&runs.stdout).lines().count(), 4, "the books are where everybody finds them");
    assert!(!scene.place.has(".longshore/store.db"));
    // The server's runtime may not end on one of the test's threads.
    tokio::task::spawn_blocking(move || drop(scene)).await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_share_a_subscription_and_each_message_lands_once_in_the_embedded_warehouse() {
    let Some(scene) = Scene::new(None, "").await else { return };
    shared_by_workers(scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_share_a_subscription_and_each_message_lands_once_in_bigquery() {
    let cloud = tokio::task::spawn_blocking(|| Cloud::new("harbour", "storage_write")).await.expect("a BigQuery");
    let Some(scene) = Scene::new(Some(cloud), "").await else { return };
    shared_by_workers(scene).await;
}

/// A running program, killed when it is dropped.
struct Worker(std::process::Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Worker {
    fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        Command::new("kill").args([format!("-{signal}"), pid]).status().expect("kill runs");
    }
}
