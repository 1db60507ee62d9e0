//! `cargo x kafka`: a Kafka for whoever tries the examples.

mod lines;
mod tools;

use std::hash::{BuildHasher, RandomState};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::services::{self, Kafka};
use crate::{Outcome, Workspace};

/// The topic of the example.
const TOPIC: &str = "harbour";
/// Where Kafka usually is, and where the example looks for it.
const PORT: u16 = 9092;
/// How many ports are tried from there on.
const TRIES: u16 = 100;
/// The variable that names another place, here and in the example's pipeline file.
const BROKERS: &str = "KAFKA_BROKERS";
/// Stays in the foreground while the broker runs, and leaves nothing behind however it ends.
const SCRIPT: &str = include_str!("broker.sh");
/// A topic is made when something is sent to it. The rest is what a broker that is alone needs.
const SETTINGS: &str = "auto.create.topics.enable=true
num.partitions=3
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
";

/// Starts a broker with the example's messages. Once it runs, this process is a shell that waits for Ctrl-C.
pub fn run(workspace: &Workspace) -> Outcome {
    let kafka = services::kafka(workspace)?;
    let port = free_port()?;
    let folder = workspace.target.join("local-kafka").join(port.to_string());
    prepare(&kafka, &folder, port)?;
    let brokers = format!("127.0.0.1:{port}");
    services::write(&folder.join("next"), &next(workspace, &brokers))?;
    let program = std::env::current_exe().map_err(|e| format!("this program cannot be found: {e}"))?;
    println!("starting Kafka on {brokers}");
    let mut shell = Command::new("sh");
    shell.args(["-c", SCRIPT, "cargo x kafka"]).arg(&folder).arg(program);
    shell.arg(workspace.root.join("examples/streams/harbour/messages.jsonl")).arg(&kafka.java);
    shell.arg(arguments(&kafka)).arg("kafka.Kafka").arg(folder.join("server.properties"));
    Err(format!("`sh` could not be started: {}", shell.env(BROKERS, brokers).exec()))
}

/// Does something with the broker that runs: `--send FILE` and `--topic TOPIC` send the messages of a file, `--topic TOPIC` alone makes a topic.
pub fn ask(workspace: &Workspace, options: &[&str]) -> Outcome {
    let wanted = wanted(options)?;
    let lines = wanted.file.map(|file| lines::read(Path::new(file))).transpose()?;
    let (brokers, topic) = (running(workspace)?, wanted.topic);
    let kafka = services::any_kafka(workspace)?;
    let Some(lines) = lines else {
        tools::make_topic(&kafka, &brokers, topic)?;
        println!("the topic {topic} is there on {brokers}");
        return Ok(());
    };
    tools::send(&kafka, &brokers, topic, &lines)?;
    let messages = if lines.len() == 1 { "message" } else { "messages" };
    println!("sent {} {messages} to the topic {topic} on {brokers}", lines.len());
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Wanted<'a> {
    file: Option<&'a str>,
    topic: &'a str,
}

fn wanted<'a>(options: &[&'a str]) -> Outcome<Wanted<'a>> {
    let (mut file, mut topic) = (None, TOPIC);
    for option in options.chunks(2) {
        match option {
            ["--send", path] => file = Some(*path),
            ["--topic", name] => topic = name,
            _ => return Err(format!("`cargo x kafka` takes `--send FILE` and `--topic TOPIC`, not `{}`", option.join(" "))),
        }
    }
    Ok(Wanted { file, topic })
}

/// The brokers to send to: those of the variable, else the one that `cargo x kafka` has started.
fn running(workspace: &Workspace) -> Outcome<String> {
    if let Some(brokers) = std::env::var(BROKERS).ok().filter(|brokers| !brokers.is_empty()) {
        return Ok(brokers);
    }
    // Each has a folder that is called like its port. One that was killed leaves it behind.
    let folders = std::fs::read_dir(workspace.target.join("local-kafka")).into_iter().flatten().flatten();
    let ports = folders.filter_map(|folder| folder.file_name().to_str()?.parse::<u16>().ok());
    let answers =
        |port: &u16| TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], *port)), Duration::from_secs(1)).is_ok();
    let mut running: Vec<String> = ports.filter(answers).map(|port| format!("127.0.0.1:{port}")).collect();
    running.sort();
    match running.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err("no broker runs; `cargo x kafka` starts one, and the variable KAFKA_BROKERS names another".to_owned()),
        several => Err(format!("several brokers run: {}; say which one with the variable KAFKA_BROKERS", several.join(", "))),
    }
}

fn free_port() -> Outcome<u16> {
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let last = PORT + TRIES - 1;
    (PORT..=last).find(is_free).ok_or_else(|| format!("no port is free from {PORT} to {last}"))
}

/// A folder as Kafka's own tool would make it, but in no time: what is the same in each was kept at the installation.
fn prepare(kafka: &Kafka, folder: &Path, port: u16) -> Outcome {
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(|e| format!("cannot empty {}: {e}", folder.display()))?;
    }
    let data = folder.join("data");
    std::fs::create_dir_all(&data).map_err(|e| format!("cannot create {}: {e}", data.display()))?;
    services::copy(&kafka.folder.join("bootstrap.checkpoint"), &data.join("bootstrap.checkpoint"))?;
    let identity = format!("version=1\ncluster.id={}\nnode.id=1\ndirectory.id={}\n", fresh_id(), fresh_id());
    services::write(&data.join("meta.properties"), &identity)?;
    let controller =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_err(|e| format!("no free port: {e}"))?;
    // Of two lines with one name, Kafka takes the last.
    let settings = format!(
        "{}\n{SETTINGS}node.id=1\nlog.dirs={}\ncontroller.quorum.voters=1@{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://{controller}\nadvertised.listeners=PLAINTEXT://127.0.0.1:{port}\n",
        services::read(&kafka.folder.join("server.properties"))?,
        data.display()
    );
    services::write(&folder.join("server.properties"), &settings)
}

/// The file of arguments that every program of this Kafka is run with.
fn arguments(kafka: &Kafka) -> String {
    format!("@{}", kafka.folder.join("java.args").display())
}

/// What Kafka calls a UUID: 16 bytes in base64. Each start makes another cluster, so that nobody takes its records for older ones.
fn fresh_id() -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let random = RandomState::new();
    let letter = |place: u64| char::from(LETTERS[(random.hash_one(place) % 62) as usize]);
    // The last letter stands for two bits only.
    (0..21).map(letter).chain(['A']).collect()
}

/// What to type next.
fn next(workspace: &Workspace, brokers: &str) -> String {
    let usual = brokers == format!("127.0.0.1:{PORT}") && std::env::var_os(BROKERS).is_none();
    let variable = if usual { String::new() } else { format!("export {BROKERS}={brokers}\n  ") };
    let built = workspace.target.join("debug").join("longshore");
    let program = if built.exists() {
        format!("alias longshore={}\n  ", built.display())
    } else {
        "cargo install --path crates/cli\n  ".to_owned()
    };
    format!(
        "
Kafka is ready on {brokers}. Type next, in another terminal, in {root}:

  {program}{variable}longshore run examples/streams/harbour/pipeline.yaml

The rest of the walk is in examples/streams/harbour/README.md. Ctrl-C ends Kafka and removes what it keeps.
",
        root = workspace.root.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_sent_to_the_topic_of_the_example_unless_another_is_named_and_a_topic_alone_is_made() {
        let file = Some("a.jsonl");
        assert_eq!(wanted(&["--send", "a.jsonl"]), Ok(Wanted { file, topic: "harbour" }));
        assert_eq!(wanted(&["--topic", "t", "--send", "a.jsonl"]), Ok(Wanted { file, topic: "t" }));
        assert_eq!(wanted(&["--topic", "t"]), Ok(Wanted { file: None, topic: "t" }));
        for options in [&["--send"][..], &["--send", "a", "--topic"], &["a.jsonl"], &["a.jsonl", "--send"]] {
            assert!(wanted(options).is_err_and(|why| why.contains("--send FILE")), "{options:?}");
        }
    }

    #[test]
    fn ids_are_as_long_as_kafka_wants_them_and_differ() {
        let (one, two) = (fresh_id(), fresh_id());
        assert_eq!((one.len(), two.len()), (22, 22));
        assert_ne!(one, two);
    }
}
