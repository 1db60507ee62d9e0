//! `cargo x kafka` as a person runs it: a broker with the example's messages, until it is told to stop.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The folder that `cargo x services` has filled; `None` (said loudly) without one.
fn services() -> Option<PathBuf> {
    let folder = std::env::var_os("LONGSHORE_SERVICES").map(PathBuf::from);
    let found = folder.filter(|folder| folder.join("kafka/installed.txt").exists());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "Kafka is not installed, in CI");
        eprintln!("\n==== SKIPPED: `cargo x services` installs Kafka ====\n");
    }
    found
}

/// A running `cargo x kafka`, which does not outlive its test.
struct Running {
    child: Child,
    brokers: String,
    said: Vec<String>,
}

impl Running {
    /// Waits until it says what to type next.
    fn start(target: &Path) -> Self {
        let mut child = x(target, "", &["kafka"]).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut said = Vec::new();
        for line in BufReader::new(child.stdout.take().expect("a pipe")).lines() {
            said.push(line.expect("text"));
            if said.last().is_some_and(|line| line.contains("Ctrl-C")) {
                break;
            }
        }
        let place = said.iter().find_map(|line| line.strip_prefix("starting Kafka on ")).map(str::to_owned);
        Self { child, brokers: place.unwrap_or_else(|| panic!("it does not say where: {said:?}")), said }
    }

    fn tell_to_stop(&self) {
        let told = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(told.success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.tell_to_stop();
            let _ = self.child.wait();
        }
    }
}

fn x(target: &Path, brokers: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(args).env("CARGO_TARGET_DIR", target).env("KAFKA_BROKERS", brokers).stdin(Stdio::null());
    command
}

fn good(mut command: Command) -> Output {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// What a topic has, by Kafka's own tool: a line for each record.
fn records(services: &Path, brokers: &str, topic: &str, number: usize) -> Vec<String> {
    let mut consumer = Command::new(services.join("java/bin/java"));
    consumer.arg(format!("@{}", services.join("kafka/java.args").display()));
    consumer.args(["org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", brokers, "--topic", topic]);
    consumer.args(["--from-beginning", "--timeout-ms", "20000", "--max-messages", &number.to_string()]);
    consumer.args(["--formatter-property", "print.key=true", "--formatter-property", "print.headers=true"]);
    let output = good(consumer);
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
}

#[test]
fn a_broker_has_the_messages_of_the_example_takes_those_of_other_files_and_leaves_nothing_behind() {
    let Some(services) = services() else { return };
    let target = services.parent().expect("it is in the target folder");
    let mut running = Running::start(target);
    let brokers = running.brokers.clone();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/streams/harbour/messages.jsonl");
    let number = std::fs::read_to_string(example).expect("the example").lines().count();
    let sent = format!("sent {number} messages to the topic harbour on {brokers}");
    assert!(running.said.contains(&sent), "{:?}", running.said);
    let found = records(&services, &brokers, "harbour", number);
    let poison = "destination_table:arrivals\tnull\tship: Draco";
    assert!(found.iter().any(|line| line == poison), "{found:#?}");

    let folder = target.join("local-kafka").join(brokers.rsplit(':').next().expect("a port"));
    let more = folder.join("more.jsonl");
    let line = r#"{"value": "{\"name\": \"Ærøskøbing, \\\"1\\\"\"}", "key": "k:1", "headers": {"a": "1,2", "b": null}}"#;
    std::fs::write(&more, format!("{line}\n\n{{\"value\": null}}\n")).expect("it is written");
    good(x(target, &brokers, &["kafka", "--topic", "made"]));
    good(x(target, &brokers, &["kafka", "--send", more.to_str().expect("text"), "--topic", "made"]));
    let mut found = records(&services, &brokers, "made", 2);
    found.sort();
    assert_eq!(found, ["NO_HEADERS\tnull\tnull", "a:1,2,b:null\tk:1\t{\"name\": \"Ærøskøbing, \\\"1\\\"\"}"]);

    running.tell_to_stop();
    assert_eq!(running.child.wait().expect("it ends").code(), Some(143));
    assert!(!folder.exists(), "{} is left", folder.display());
    let output = x(target, &brokers, &["kafka", "--send", "no.jsonl"]).output().expect("it starts");
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("cannot read no.jsonl"));
}
