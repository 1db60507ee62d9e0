//! Kafka's topics into many tables of the embedded warehouse, by the program as people run it: poison, kills at every step, dead letters that
//! are corrected and replayed while it runs. Several workers are in `streams_fleet.rs`.
//!
//! At the end a checker counts: each message once in its table or once in the dead letters, in order per key.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use longshore_core::failpoint;
use longshore_testkit::services::kafka::Record;
use longshore_testkit::services::{Kafka, KafkaOptions};

use crate::place::Place;

/// A topic, and the place where it is landed.
struct Scene {
    kafka: &'static Kafka,
    topic: String,
    place: Place,
    /// The numbers of the messages sent.
    sent: BTreeSet<i64>,
}

impl Scene {
    /// A topic of so many partitions, and a pipeline file that routes by the header `destination_table`.
    async fn new(partitions: i32, more: &str) -> Option<Self> {
        let kafka = kafka().await?;
        let topic = format!("t{}", uuid());
        kafka.create_topic(&topic, partitions, &[]).await;
        let scene = Self { kafka, topic, place: Place::new(), sent: BTreeSet::new() };
        scene.pipeline(more);
        Some(scene)
    }

    fn pipeline(&self, more: &str) {
        let (brokers, topic) = (self.kafka.brokers(), &self.topic);
        self.place.write(
            "pipeline.yaml",
            &format!(
                "pipeline: harbour
source:
  type: kafka
  brokers: {brokers}
  topics: {topic}
  route: {{header: destination_table}}
  options: {{session.timeout.ms: \"2000\", heartbeat.interval.ms: \"500\"}}
destination: {{type: delta, path: warehouse, dataset: main}}
commit: {{every: 200ms}}
{more}
"
            ),
        );
    }

    fn schema(&self, table: &str, columns: &str) {
        let column = |name: &str| {
            let (name, type_) = name.split_once(' ').expect("a name and a type");
            format!(r#"{{"name": "{name}", "type": "{type_}"}}"#)
        };
        let columns: Vec<String> = columns.split(", ").map(column).collect();
        self.place.write(&format!("schemas/{table}.json"), &format!("[{}]", columns.join(", ")));
    }

    /// Sends messages `first..first + number`, spread over tables `t0` ... and keys.
    async fn send(&mut self, first: i64, number: i64, tables: i64) {
        let records = (first..first + number).map(|id| message(id, &format!("t{}", id % tables)));
        self.kafka.produce(&self.topic, records).await;
        self.sent.extend(first..first + number);
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.place.command(args);
        command.env("LONGSHORE_TEST_LEASE_MS", "1500");
        command
    }

    fn start(&self, args: &[&str]) -> Worker {
        let mut command = self.command(args);
        Worker(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts"))
    }

    fn until_idle(&self) {
        let output = self.command(&["run", "pipeline.yaml", "--until-idle"]).output().expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn tables(&self) -> Vec<String> {
        let folder = self.place.path().join("warehouse/main");
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(|name| !name.starts_with('.')).collect()
    }

    /// Where each message is: its tables, `!` for the dead letters.
    fn found(&self) -> BTreeMap<i64, Vec<String>> {
        let mut found: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for table in self.tables().iter().filter(|table| *table != "_dead_letters") {
            for row in self.place.rows(&format!("select id from main.{table}")) {
                found.entry(row["id"].as_i64().expect("a number")).or_default().push(table.clone());
            }
        }
        if self.tables().iter().any(|table| table == "_dead_letters") {
            for row in self.place.rows("select decoding from main._dead_letters") {
                found.entry(id_of(&row["decoding"])).or_default().push("!".to_owned());
            }
        }
        found
    }

    /// Each message once.
    fn check(&self, what: &str) {
        let found = self.found();
        for id in &self.sent {
            assert_eq!(found.get(id).map_or(0, Vec::len), 1, "{what}: message {id}: {:?}", found.get(id));
        }
        assert_eq!(found.len(), self.sent.len(), "{what}: messages that nobody sent");
    }

    /// Waits until so many messages are somewhere.
    fn wait_for(&self, number: usize, what: &str) {
        let begin = Instant::now();
        loop {
            let found = if self.place.has("warehouse/main") { self.found().len() } else { 0 };
            if found >= number {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(90), "{what}: only {found} of {number}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// A broker for these tests, which soon takes members that are dead for dead.
async fn kafka() -> Option<&'static Kafka> {
    static KAFKA: tokio::sync::OnceCell<Option<Kafka>> = tokio::sync::OnceCell::const_new();
    let config = vec![("group.min.session.timeout.ms".to_owned(), "500".to_owned())];
    let start = || Kafka::start_with(KafkaOptions { config, ..KafkaOptions::default() });
    KAFKA.get_or_init(start).await.as_ref()
}

/// A running program, which does not outlive its test.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Worker {
    fn signal(&self, signal: i32) {
        let pid = self.0.id().to_string();
        std::process::Command::new("kill").args([format!("-{signal}"), pid]).status().expect("kill runs");
    }

    fn end(mut self, signal: i32) -> std::process::ExitStatus {
        self.signal(signal);
        self.0.wait().expect("it ends")
    }
}

/// The header that tells a message's number, whatever its content.
const NUMBER: &str = "number";

fn message(id: i64, table: &str) -> Record {
    let value = format!(r#"{{"id": {id}, "key": "k{}", "at": "2026-11-21T10:00:00Z"}}"#, id % 7);
    Record::new(value).key(format!("k{}", id % 7)).header("destination_table", table).header(NUMBER, id.to_string())
}

/// The number in the headers of a dead letter.
fn id_of(decoding: &serde_json::Value) -> i64 {
    let text = decoding.as_str().map(|text| serde_json::from_str(text).expect("JSON"));
    let decoding: &serde_json::Value = text.as_ref().unwrap_or(decoding);
    let headers = decoding["headers"].as_array().expect("headers");
    let number = headers.iter().find(|header| header[0] == NUMBER).expect("a number");
    let bytes = longshore_files::values::base64(number[1].as_str().expect("base64")).expect("base64");
    String::from_utf8(bytes).expect("text").parse().expect("a number")
}

fn uuid() -> String {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    format!("{nanos:x}{}", std::process::id())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_land_in_the_tables_that_their_headers_name_and_poison_in_the_dead_letters() {
    let Some(mut scene) = Scene::new(3, "schemas: schemas").await else { return };
    for table in ["t0", "t1", "dlq"] {
        scene.schema(table, "id INT64, key STRING, at TIMESTAMP");
    }
    scene.send(0, 500, 2).await;
    let good = message(500, "dlq");
    let with = |id: i64, value: &[u8], table: Option<&str>| {
        let record = Record::new(value).header(NUMBER, id.to_string());
        table.into_iter().fold(record, |record, table| record.header("destination_table", table))
    };
    let deep = "[".repeat(5000);
    let poison: Vec<(&[u8], Option<&str>, &str)> = vec![
        (b"not json", Some("t0"), "json_invalid"),
        (br#"{"id": "seven"}"#, Some("t0"), "type_mismatch"),
        (br#"{"nope": 1}"#, Some("t0"), "unknown_column"),
        (br#"[1, 2]"#, Some("t0"), "not_an_object"),
        (br#"{"id": 1}"#, Some("no_such_table"), "unknown_table"),
        (br#"{"id": 1}"#, Some("T0"), "unknown_table"),
        (br#"{"id": 1}"#, None, "no_destination"),
        (b"{\"key\": \"\xff\xfe\"}", Some("t0"), "encoding_invalid"),
        (deep.as_bytes(), Some("t0"), "json_invalid"),
    ];
    let records = poison.iter().enumerate().map(|(i, (value, table, _))| with(501 + i as i64, value, *table));
    scene.kafka.produce(&scene.topic, std::iter::once(good).chain(records)).await;
    scene.sent.extend(500..501 + poison.len() as i64);
    scene.until_idle();
    scene.check("poison");
    assert_eq!(scene.place.rows("select count(*) as n from main.dlq")[0]["n"], 1);
    let letters = scene.place.rows("select code, unit, decoding from main._dead_letters");
    assert_eq!(letters.len(), poison.len());
    let mut wrong = Vec::new();
    for letter in letters {
        let wanted = poison[(id_of(&letter["decoding"]) - 501) as usize].2;
        if letter["code"] != wanted {
            wrong.push((wanted, letter["code"].clone()));
        }
        assert_eq!(letter["unit"], "message");
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_each_message_lands_once() {
    let Some(mut scene) = Scene::new(2, "create_tables: true").await else { return };
    scene.send(0, 50, 3).await;
    scene.until_idle();
    let mut next = 50;
    let mut hit = 0;
    for step in failpoint::ALL {
        for count in [1, 3] {
            scene.send(next, 60, 4).await;
            next += 60;
            let mut command = scene.command(&["run", "pipeline.yaml", "--until-idle"]);
            let output = command.env("LONGSHORE_FAILPOINT", format!("{step}:{count}")).output().expect("the program runs");
            match output.status.signal() {
                Some(9) => hit += 1,
                _ => assert!(output.status.success(), "{step}: {}", String::from_utf8_lossy(&output.stderr)),
            }
        }
        // The next run, without a failpoint, publishes what was journalled and reads the rest.
        scene.until_idle();
        scene.check(step);
    }
    assert!(hit >= 20, "only {hit} kills");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_does_not_fit_is_found_understood_corrected_and_replayed_while_it_runs() {
    let Some(mut scene) = Scene::new(1, "schemas: schemas").await else { return };
    scene.schema("t0", "id INT64, key STRING, at TIMESTAMP");
    scene.send(0, 10, 1).await;
    let bad = Record::new(r#"{"id": "ten", "key": "k"}"#).header("destination_table", "t0").header(NUMBER, "10");
    let nowhere = Record::new(r#"{"id": 11}"#).header("destination_table", "later").header(NUMBER, "11");
    let nameless = |id: i64| Record::new(format!(r#"{{"id": {id}}}"#)).header(NUMBER, id.to_string());
    scene.kafka.produce(&scene.topic, [bad, nowhere, nameless(12), nameless(13)]).await;
    scene.sent.extend(10..14);
    let worker = scene.start(&["run", "pipeline.yaml"]);
    scene.wait_for(14, "it runs");
    let letters = scene.place.good(&["dead-letters", "list", "--json"]).objects();
    assert_eq!(letters.len(), 4);
    let id = |code: &str| {
        letters.iter().find(|letter| letter["code"] == code).expect("there")["id"].as_str().expect("text").to_owned()
    };
    let (bad, nowhere) = (id("type_mismatch"), id("unknown_table"));
    let mut shown = scene.place.good(&["dead-letters", "show", &bad, "--json"]).objects().remove(0);
    assert!(shown["reason"].as_str().expect("words").contains("id"), "{shown}");
    shown["payload"] = r#"{"id": 10, "key": "k"}"#.into();
    scene.place.write("letters.jsonl", &format!("{shown}\n"));
    // The table that was not there is made by its file.
    scene.schema("later", "id INT64");
    let replay = ["dead-letters", "replay", "--pipeline-file", "pipeline.yaml", "--from", "letters.jsonl"];
    scene.place.good(&replay);
    scene.place.good(&["dead-letters", "replay", "--pipeline-file", "pipeline.yaml", &nowhere]);
    // Two name no table: a person does, in the letter or for all.
    let mut nameless = letters.iter().filter(|letter| letter["code"] == "no_destination").map(|letter| letter["id"].as_str());
    let (one, other) = (nameless.next().flatten().expect("an id"), nameless.next().flatten().expect("an id"));
    let mut shown = scene.place.good(&["dead-letters", "show", one, "--json"]).objects().remove(0);
    shown["table"] = "later".into();
    scene.place.write("letters.jsonl", &format!("{shown}\n"));
    scene.place.good(&replay);
    scene.place.good(&["dead-letters", "replay", "--pipeline-file", "pipeline.yaml", "--table", "later", other]);
    assert_eq!(worker.end(15).code(), Some(143));
    let rows = scene.place.rows("select id from main.t0 where id = 10");
    assert_eq!(rows.len(), 1);
    assert_eq!(scene.place.rows("select id from main.later where id in (11, 12, 13)").len(), 3);
    let open = scene.place.good(&["dead-letters", "list", "--json"]).objects();
    assert!(open.iter().all(|letter| letter["state"] == "replayed"), "{open:?}");
    let again = scene.place.run(&["dead-letters", "replay", "--pipeline-file", "pipeline.yaml", &nowhere]);
    assert_eq!(again.code, 2, "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ten_thousand_messages_a_third_is_poison_and_all_are_accounted_for() {
    let Some(mut scene) = Scene::new(3, "schemas: schemas").await else { return };
    for table in ["t0", "t1", "t2"] {
        scene.schema(table, "id INT64, key STRING, at TIMESTAMP");
    }
    let kafka = scene.kafka;
    let topic = format!("{}big", scene.topic);
    kafka.create_topic(&topic, 3, &[("max.message.bytes", "60000000")]).await;
    scene.topic = topic;
    scene.pipeline("schemas: schemas");
    let deep = "[".repeat(3000);
    let poisoned = |id: i64| {
        let record = match id % 7 {
            0 => Record::new("not json"),
            1 => Record::new(r#"{"id": "x"}"#),
            2 => Record::new(r#"{"nope": true}"#),
            3 => Record::new(b"{\"key\": \"\xff\"}".to_vec()),
            4 => Record::new(deep.as_str()),
            5 => return Record::new(r#"{"id": 1}"#).header(NUMBER, id.to_string()),
            _ => return Record::new(r#"{"id": 1}"#).header("destination_table", "nowhere").header(NUMBER, id.to_string()),
        };
        record.header("destination_table", "t0").header(NUMBER, id.to_string())
    };
    let records = (0..10_000).map(|id| if id % 10 < 3 { poisoned(id) } else { message(id, &format!("t{}", id % 3)) });
    kafka.produce(&scene.topic, records).await;
    let large = format!(r#"{{"key": "{}"}}"#, "x".repeat(20 << 20));
    let large = Record::new(large).header("destination_table", "t0").header(NUMBER, "10000");
    kafka.produce(&scene.topic, [large]).await;
    scene.sent.extend(0..=10_000);
    let run = ["run", "pipeline.yaml", "--until-idle", "--memory", "64MiB"];
    let output = scene.command(&run).output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    scene.check("poison");
    let letters = scene.place.rows("select code, count(*) as n from main._dead_letters group by code");
    let total: i64 = letters.iter().map(|row| row["n"].as_i64().expect("a number")).sum();
    assert_eq!(total, 3001);
    assert!(letters.iter().any(|row| row["code"] == "record_too_large" && row["n"] == 1), "{letters:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_is_a_history_in_the_embedded_warehouse_and_rows_as_they_are_now_in_bigquery() {
    let Some(scene) = Scene::new(1, "").await else { return };
    let value = |text: &str| Record::new(format!(r#"{{"name": "{text}"}}"#));
    let changes = vec![
        value("one").key(r#"{"id": 1}"#),
        value("two").key(r#"{"id": 2}"#),
        value("uno").key(r#"{"id": 1}"#),
        Record::tombstone(r#"{"id": 2}"#),
        value("three").key(r#"{"id": 3}"#),
    ];
    scene.kafka.produce(&scene.topic, changes).await;
    let (server, runtime) = tokio::task::spawn_blocking(|| crate::cloud::server("harbour")).await.expect("a BigQuery");
    let (brokers, topic) = (scene.kafka.brokers(), &scene.topic);
    let pipeline = |name: &str, destination: &str| {
        let text = format!(
            "pipeline: {name}
source: {{type: kafka, brokers: \"{brokers}\", topics: {topic}, changes: true, route: {{table: ships}}}}
destination: {destination}
create_tables: true
"
        );
        scene.place.write(&format!("{name}.yaml"), &text);
        let output = scene.command(&["run", &format!("{name}.yaml"), "--until-idle"]).output().expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    pipeline("local", "{type: delta, path: warehouse, dataset: main}");
    let rows = scene.place.rows("select id, name, _operation from main.ships order by _order");
    let told: Vec<String> = rows.iter().map(|row| format!("{} {} {}", row["id"], row["name"], row["_operation"])).collect();
    assert_eq!(
        told,
        [r#"1 "one" "upsert""#, r#"2 "two" "upsert""#, r#"1 "uno" "upsert""#, r#"2 null "delete""#, r#"3 "three" "upsert""#]
    );
    let (rest, grpc) = (server.rest(), server.grpc());
    let cloud = format!(
        "{{type: bigquery, project: acme, dataset: harbour, anonymous: true, endpoint: \"{rest}\", write_endpoint: \"{grpc}\", storage_endpoint: \"{rest}\", staging: \"gs://landing/staging\"}}"
    );
    pipeline("cloud", &cloud);
    let mut rows: Vec<String> =
        server.rows("harbour", "ships").iter().map(|row| format!("{} {}", row["id"], row["name"]).replace('"', "")).collect();
    rows.sort();
    assert_eq!(rows, ["1 uno", "3 three"]);
    tokio::task::spawn_blocking(move || drop((server, runtime))).await.expect("it ends");
}
