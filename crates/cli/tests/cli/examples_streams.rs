//! The examples of endless sources, as they are in the repository: each message has the outcome that its line names, and the walk of the
//! harbour's README goes as it says.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use longshore_testkit::services::Kafka;
use longshore_testkit::services::kafka::Record;
use serde_json::Value;

use crate::place::{Place, Said, examples, package};

/// An example in a folder of its own, with a broker.
struct Example {
    kafka: Kafka,
    folder: &'static str,
    place: Place,
}

/// A message of an example's file.
struct Message {
    record: Record,
    expect: Value,
}

impl Example {
    /// The broker is the test's own, since examples name their topics.
    async fn new(folder: &'static str, topics: &[(&str, i32)]) -> Option<Self> {
        let kafka = Kafka::start().await?;
        for (topic, partitions) in topics {
            kafka.create_topic(topic, *partitions, &[]).await;
        }
        let place = Place::new();
        for below in ["", "schemas", "later"] {
            copy(&place, &format!("{folder}/{below}"));
        }
        Some(Self { kafka, folder, place })
    }

    fn messages(&self, file: &str) -> Vec<Message> {
        examples(&format!("{}/{file}", self.folder)).lines().map(|line| Message::of(line, file)).collect()
    }

    fn file(&self, name: &str) -> String {
        format!("examples/{}/{name}", self.folder)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.place.command(args);
        command.env("KAFKA_BROKERS", self.kafka.brokers());
        command
    }

    fn run(&self, args: &[&str]) -> Said {
        self.place.said(self.command(args).output().expect("the program runs"))
    }

    /// Starts to run until it is told to stop.
    fn start(&self) -> Running {
        let mut command = self.command(&["run", &self.file("pipeline.yaml")]);
        Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts"))
    }

    /// Sends messages and checks, once a run has read them, that the dead letters are those that are expected, each for its reason.
    async fn send_and_run(&self, topic: &str, messages: &[Message]) {
        let stored = self.kafka.produce(topic, messages.iter().map(|message| message.record.clone())).await;
        let place = |at: &(i32, i64)| format!("kafka:{topic}/{}:{}", at.0, at.1);
        let code = |message: &Message| message.expect["dead_letter"].as_str().map(str::to_owned);
        let wanted: BTreeMap<String, String> =
            messages.iter().zip(&stored).filter_map(|(message, at)| Some((place(at), code(message)?))).collect();
        let said = self.run(&["run", &self.file("pipeline.yaml"), "--until-idle"]);
        assert_eq!(said.code, 0, "{said}");
        let letters = self.place.good(&["dead-letters", "list", "--json"]).objects();
        let found: BTreeMap<String, String> = letters.iter().map(|letter| (coordinates(letter), text(&letter["code"]))).collect();
        assert_eq!(found, wanted);
        assert_eq!(letters.len(), wanted.len(), "one is there twice");
        assert!(!wanted.is_empty() && wanted.len() < messages.len(), "the example has messages of both kinds");
    }

    fn replay(&self, what: &[&str]) -> Said {
        let file = self.file("pipeline.yaml");
        self.run(&[&["dead-letters", "replay", "--pipeline-file", &file], what].concat())
    }
}

impl Message {
    fn of(line: &str, file: &str) -> Self {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{file}: {e} in {line}"));
        let bytes = |value: &Value| value.as_str().map(|text| text.as_bytes().to_vec());
        let headers = line["headers"].as_object().into_iter().flatten();
        let record = Record {
            key: bytes(&line["key"]),
            value: bytes(&line["value"]),
            headers: headers.map(|(name, value)| (name.clone(), bytes(value))).collect(),
            ..Record::default()
        };
        Self { record, expect: line["expect"].clone() }
    }

    /// What it holds, for one that lands.
    fn content(&self) -> Value {
        serde_json::from_slice(self.record.value.as_ref().expect("a value")).expect("JSON")
    }
}

/// Copies the files of a folder of the repository's examples to the same place here.
fn copy(place: &Place, folder: &str) {
    let from = package().join("../../examples").join(folder);
    let files = std::fs::read_dir(from).into_iter().flatten().map(|entry| entry.expect("an entry").path());
    for file in files.filter(|path| path.is_file()) {
        let name = file.file_name().and_then(|name| name.to_str()).expect("text");
        place.write(&format!("examples/{folder}/{name}"), &std::fs::read_to_string(&file).expect("text"));
    }
}

fn coordinates(letter: &Value) -> String {
    format!("{}:{}", text(&letter["place"]["file"]), letter["place"]["line"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// A running pipeline, which does not outlive its test.
struct Running(Child);

impl Running {
    fn terminate(mut self) -> Option<i32> {
        let told = Command::new("kill").arg(self.0.id().to_string()).status().expect("kill runs");
        assert!(told.success());
        self.0.wait().expect("it ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < Duration::from_secs(60), "it does not come true that {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_harbour_s_messages_end_where_they_say_and_its_walk_goes_as_its_readme_says() {
    let Some(example) = Example::new("streams/harbour", &[("harbour", 3)]).await else { return };
    let place = &example.place;
    let messages = example.messages("messages.jsonl");
    example.send_and_run("harbour", &messages).await;
    for table in ["arrivals", "departures"] {
        let expected = messages.iter().filter(|message| message.expect["table"] == table);
        let mut expected: Vec<String> = expected.map(|message| text(&message.content()["ship"])).collect();
        expected.sort();
        let rows = place.rows(&format!("select ship from harbour.{table} order by ship"));
        assert_eq!(rows.iter().map(|row| text(&row["ship"])).collect::<Vec<_>>(), expected, "{table}");
    }

    // A message is found, corrected and replayed.
    let found = place.good(&["dead-letters", "list", "--json", "--code", "type_mismatch"]).objects();
    let shown = place.good(&["dead-letters", "show", &text(&found[0]["id"]), "--json"]).stdout;
    assert!(shown.contains("half past six"), "{shown}");
    place.write("letters.jsonl", &shown.replace("half past six", "2026-03-02T06:30:00Z"));
    let running = example.start();
    let said = example.replay(&["--from", "letters.jsonl"]);
    assert_eq!(said.code, 0, "{said}");
    assert_eq!(place.rows("select ship from harbour.arrivals where arrived_at = timestamp '2026-03-02T06:30:00Z'").len(), 1);

    // A table is added while it runs.
    let tides = || if place.has("warehouse/harbour/tides") { place.rows("select at from harbour.tides").len() } else { 0 };
    let schema = std::fs::read_to_string(place.path().join(example.file("later/tides.json"))).expect("the example has it");
    place.write(&example.file("schemas/tides.json"), &schema);
    let later = example.messages("tides.jsonl");
    example.kafka.produce("harbour", later.iter().map(|message| message.record.clone())).await;
    until("the new table has its rows", || tides() == later.len());
    let said = example.replay(&["--code", "unknown_table"]);
    assert_eq!(said.code, 0, "{said}");
    assert_eq!(tides(), later.len() + 1);

    // And a column.
    let departures = example.file("schemas/departures.json");
    let schema = std::fs::read_to_string(place.path().join(&departures)).expect("it was copied");
    place.write(&departures, &schema.replace("\n]", ",\n  {\"name\": \"tugs\", \"type\": \"INT64\", \"mode\": \"NULLABLE\"}\n]"));
    let said = example.replay(&["--code", "unknown_column"]);
    assert_eq!(said.code, 0, "{said}");
    assert_eq!(place.rows("select tugs from harbour.departures where tugs = 2").len(), 1);
    assert_eq!(running.terminate(), Some(143));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_measurements_end_where_they_say_and_copies_of_the_rest_are_in_the_topic_of_dead_letters() {
    let copies = "measurements-dead-letters";
    let Some(example) = Example::new("streams/kafka", &[("measurements", 3), (copies, 1)]).await else { return };
    let messages = example.messages("messages.jsonl");
    example.send_and_run("measurements", &messages).await;
    let expected: Vec<&Value> = messages.iter().map(|message| &message.expect["row"]).filter(|row| !row.is_null()).collect();
    let rows = example.place.rows("select * from lab.measurements");
    assert_eq!(rows.len(), expected.len());
    for row in expected {
        assert!(rows.contains(row), "{row} is not among {rows:#?}");
    }
    let letters = (messages.len() - rows.len()) as i64;
    assert_eq!(example.kafka.watermarks(copies, 0).await, (0, letters));
}

#[test]
fn every_pipeline_that_the_guide_and_the_readme_show_can_be_used() {
    let mut shown = 0;
    for page in ["docs/guides/streams.md", "README.md"] {
        let text = std::fs::read_to_string(package().join("../..").join(page)).expect("a page");
        for block in text.split("```yaml\n").skip(1) {
            let block = block.split("```").next().expect("a part");
            let place = Place::with(&[("pipeline.yaml", &whole(block))]);
            // With nothing to replay, the file is read and no broker asked.
            let mut command = place.command(&["dead-letters", "replay", "--all", "--pipeline-file", "pipeline.yaml"]);
            for secret in ["KAFKA_PASSWORD", "OAUTH_SECRET", "REGISTRY_PASSWORD"] {
                command.env(secret, "secret");
            }
            let said = place.said(command.output().expect("the program runs"));
            assert_eq!(said.code, 0, "{page}:\n{block}\n{said}");
            shown += 1;
        }
    }
    assert!(shown > 10, "only {shown} are found");
}

/// A part of a pipeline file with what it lacks.
fn whole(part: &str) -> String {
    let mut whole = part.to_owned();
    for (key, rest) in [
        ("pipeline:", " guide\n"),
        ("source:", " {type: kafka, brokers: \"a:1\", topics: [t]}\n"),
        ("destination:", " {type: delta, path: warehouse, dataset: main}\n"),
    ] {
        if !part.lines().any(|line| line.starts_with(key)) {
            whole.push_str(key);
            whole.push_str(rest);
        }
    }
    whole
}
