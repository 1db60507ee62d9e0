//! Kafka's own tools.

use std::io::Write;
use std::process::{Command, Stdio};

use super::{arguments, lines};
use crate::Outcome;
use crate::services::Kafka;

/// Sends messages in their order, one after the other; each is stored before the next one goes. Errors: what the tool said.
pub fn send(kafka: &Kafka, brokers: &str, topic: &str, messages: &[String]) -> Outcome {
    let mut sender = tool(kafka, "ConsoleProducer", brokers, topic);
    // It would wait a second for more messages before it sends one.
    sender.args(["--sync", "--timeout", "0", "--max-block-ms", "20000"]);
    for (name, value) in [
        ("parse.headers", "true".to_owned()),
        ("parse.key", "true".to_owned()),
        ("headers.delimiter", lines::HEADERS_END.to_string()),
        ("headers.separator", lines::HEADERS.to_string()),
        ("headers.key.separator", lines::HEADER.to_string()),
        ("key.separator", lines::KEY_END.to_string()),
        ("null.marker", lines::NOTHING.to_string()),
    ] {
        sender.args(["--reader-property".to_owned(), format!("{name}={value}")]);
    }
    run(sender, messages).map_err(|why| format!("nobody knows which of the messages are in the topic {topic}: {why}"))
}

/// Makes a topic with three partitions, unless it is there.
pub fn make_topic(kafka: &Kafka, brokers: &str, topic: &str) -> Outcome {
    let mut maker = tool(kafka, "TopicCommand", brokers, topic);
    maker.args(["--create", "--if-not-exists", "--partitions", "3"]);
    run(maker, &[])
}

fn tool(kafka: &Kafka, name: &str, brokers: &str, topic: &str) -> Command {
    let mut tool = Command::new(&kafka.java);
    // That a topic which was just made has no leader yet is a warning of no interest.
    tool.arg(arguments(kafka)).arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error");
    tool.arg(format!("org.apache.kafka.tools.{name}")).args(["--bootstrap-server", brokers, "--topic", topic]);
    tool
}

/// Runs a tool with these lines as its input. Errors: what it said.
fn run(mut tool: Command, input: &[String]) -> Outcome {
    let failed = |e: std::io::Error| format!("Kafka's tool could not be run: {e}");
    let mut running = tool.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    // It says little, and nothing before it fails: neither side waits for the other.
    let written = running.stdin.take().map_or(Ok(()), |mut pipe| input.iter().try_for_each(|line| writeln!(pipe, "{line}")));
    let output = running.wait_with_output().map_err(failed)?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() && said.trim().is_empty() {
        return written.map_err(failed);
    }
    let said: Vec<&str> = said.lines().filter(|line| !line.is_empty() && !line.starts_with("\tat ")).collect();
    Err(format!("Kafka's tool ended with {}; it said:\n{}", output.status, said.join("\n")))
}
