//! Three replicas of the program on one consumer group, under load: killed, paused and resumed, told to leave and joined by others in the
//! middle of commits, while partitions are added and brokers fail. Into the embedded warehouse, and into BigQuery.
//!
//! A checker counts all along: of each key, what is visible is a beginning of what was sent, in its order; at the end it is everything, once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use longshore_testkit::services::kafka::Record;
use longshore_testkit::services::{Kafka, KafkaOptions};

use crate::cloud::Cloud;
use crate::place::Place;

/// Keys of the first partitions, one each, and of those that are added.
const KEYS: (i64, i64) = (6, 9);
const TABLES: i64 = 3;
/// Messages of a key in a round.
const ROUND: i64 = 60;
const TOPIC: &str = "arrivals";
/// Every so many messages of a key one does not fit.
const POISON: i64 = 10;

struct Scene {
    kafka: Kafka,
    place: Place,
    /// A BigQuery to land in, instead of the embedded warehouse.
    cloud: Option<Cloud>,
    /// How many messages of each key were sent.
    sent: BTreeMap<i64, i64>,
}

impl Scene {
    async fn new(cloud: Option<Cloud>) -> Option<Self> {
        let config = vec![("group.min.session.timeout.ms".to_owned(), "500".to_owned())];
        let kafka = Kafka::start_with(KafkaOptions { nodes: 3, config, ..KafkaOptions::default() }).await?;
        kafka.create_topic(TOPIC, KEYS.0 as i32, &[]).await;
        let scene = Self { kafka, place: Place::new(), cloud, sent: BTreeMap::new() };
        let destination = match &scene.cloud {
            Some(cloud) => cloud.destination("harbour"),
            None => "{type: delta, path: warehouse, dataset: harbour}".to_owned(),
        };
        let brokers = scene.kafka.brokers();
        let file = format!(
            "pipeline: harbour
source:
  type: kafka
  brokers: \"{brokers}\"
  topics: {TOPIC}
  route: {{header: destination_table}}
  options: {{session.timeout.ms: \"2000\", heartbeat.interval.ms: \"500\", topic.metadata.refresh.interval.ms: \"1000\"}}
destination: {destination}
schemas: schemas
commit: {{every: 300ms}}
"
        );
        scene.place.write("pipeline.yaml", &file);
        for table in 0..TABLES {
            let columns = r#"[{"name": "key", "type": "INT64"}, {"name": "number", "type": "INT64"}]"#;
            scene.place.write(&format!("schemas/t{table}.json"), columns);
        }
        Some(scene)
    }

    /// A round of messages of these keys. A key has a partition and a table of its own.
    async fn send(&mut self, keys: i64) {
        let mut records = Vec::new();
        for number in 0..ROUND {
            for key in 0..keys {
                let number = self.sent.get(&key).unwrap_or(&0) + number;
                let value = match number % POISON {
                    9 => format!(r#"{{"key": "not {key}", "number": {number}}}"#),
                    _ => format!(r#"{{"key": {key}, "number": {number}}}"#),
                };
                let record = Record::new(value).key(key.to_string()).partition(key as i32);
                records.push(record.header("destination_table", format!("t{}", key % TABLES)));
            }
        }
        self.kafka.produce(TOPIC, records).await;
        (0..keys).for_each(|key| *self.sent.entry(key).or_default() += ROUND);
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = match &self.cloud {
            Some(cloud) => cloud.command(&self.place, args),
            None => self.place.command(args),
        };
        command.env("LONGSHORE_TEST_LEASE_MS", "1500");
        command
    }

    fn start(&self) -> Replica {
        let mut command = self.command(&["run", "pipeline.yaml"]);
        let said = tempfile::tempfile().expect("a file");
        let stderr = said.try_clone().expect("a file");
        Replica { child: command.stdout(Stdio::null()).stderr(stderr).spawn().expect("the program starts"), said }
    }

    fn rows(&self, table: &str) -> Vec<serde_json::Value> {
        match &self.cloud {
            Some(cloud) => cloud.server.rows("harbour", table),
            None if self.place.has(&format!("warehouse/harbour/{table}")) => {
                self.place.rows(&format!("select * from harbour.{table}"))
            }
            None => Vec::new(),
        }
    }

    /// The numbers of each key that are visible as rows, in ascending order; and how many dead letters there are.
    fn found(&self) -> (BTreeMap<i64, Vec<i64>>, usize) {
        let number = |value: &serde_json::Value| value.as_i64().or_else(|| value.as_str()?.parse().ok()).expect("a number");
        let mut found: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for table in 0..TABLES {
            for row in self.rows(&format!("t{table}")) {
                let key = number(&row["key"]);
                assert_eq!(key % TABLES, table, "{row}");
                found.entry(key).or_default().push(number(&row["number"]));
            }
        }
        found.values_mut().for_each(|numbers| numbers.sort_unstable());
        (found, self.rows("_dead_letters").len())
    }

    /// Of each key a beginning is visible, each message once. Returns whether that is everything.
    fn check(&self, when: &str) -> bool {
        let (found, letters) = self.found();
        let good = |number: &i64| number % POISON != 9;
        for (key, numbers) in &found {
            let wanted: Vec<i64> = (0..self.sent[key]).filter(good).take(numbers.len()).collect();
            assert_eq!(numbers, &wanted, "{when}: key {key}");
        }
        let rows: i64 = found.values().map(|numbers| numbers.len() as i64).sum();
        let (all, poison) = self.sent.values().fold((0, 0), |(all, poison), sent| (all + sent, poison + sent / POISON));
        assert!(letters as i64 <= poison, "{when}: {letters} dead letters of {poison}");
        rows + letters as i64 == all
    }
}

/// A running program, which does not outlive its test.
struct Replica {
    child: Child,
    said: File,
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Replica {
    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        Command::new("kill").args([format!("-{signal}"), pid]).status().expect("kill runs");
    }

    /// Tells it to leave; it does so cleanly.
    fn leave(mut self) {
        self.signal("TERM");
        let status = self.child.wait().expect("it ends");
        let mut said = String::new();
        self.said.seek(SeekFrom::Start(0)).and_then(|_| self.said.read_to_string(&mut said)).expect("text");
        assert_eq!(status.code(), Some(143), "{said}");
    }
}

async fn replicas_under_load(mut scene: Scene) {
    let mut replicas = vec![scene.start(), scene.start(), scene.start()];
    let mut keys = KEYS.0;
    for round in 0..20 {
        scene.send(keys).await;
        match round {
            // Killed in the middle of whatever it does, twice: the first has the lease, most likely.
            2 | 12 => {
                drop(replicas.remove(0));
                replicas.push(scene.start());
            }
            // Taken for dead, and back.
            4 => replicas[0].signal("STOP"),
            8 => replicas[0].signal("CONT"),
            6 => {
                scene.kafka.add_partitions(TOPIC, KEYS.1 as i32).await;
                keys = KEYS.1;
            }
            // A broker fails, and leaders move.
            10 => scene.kafka.stop_node(1).await,
            14 => scene.kafka.start_node(1).await,
            15 => scene.kafka.pause_node(2),
            17 => scene.kafka.resume_node(2),
            // One joins and one leaves, each in the middle of commits: the group divides anew.
            16 => replicas.push(scene.start()),
            18 => replicas.remove(0).leave(),
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
        if round % 4 == 3 {
            scene.check(&format!("round {round}"));
        }
    }
    let begin = Instant::now();
    while !scene.check("at the end") {
        assert!(begin.elapsed() < Duration::from_secs(90), "found {:?} of {:?}", scene.found(), scene.sent);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    replicas.into_iter().for_each(Replica::leave);
    // What is left of it says that everything was told.
    let output = scene.command(&["run", "pipeline.yaml", "--until-idle"]).output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(scene.check("after them"));
    // A server's runtime may not end on one of the test's threads.
    tokio::task::spawn_blocking(move || drop(scene)).await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_and_brokers_fail_under_load_and_each_message_lands_once_and_in_order() {
    let Some(scene) = Scene::new(None).await else { return };
    replicas_under_load(scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_and_brokers_fail_under_load_and_each_message_lands_once_and_in_order_in_bigquery() {
    let cloud = tokio::task::spawn_blocking(|| Cloud::new("harbour", "storage_write")).await.expect("a BigQuery");
    let Some(scene) = Scene::new(Some(cloud)).await else { return };
    replicas_under_load(scene).await;
}
