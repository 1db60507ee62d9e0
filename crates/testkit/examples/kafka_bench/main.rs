//! What the benchmarks of Kafka need besides Longshore: a broker, a schema registry, records in them, and a bare consumer of librdkafka to compare
//! with. Prints where the servers are, then does what each line of its standard input says and answers with one line of JSON:
//!
//! - `fill TOPIC FORMAT MESSAGES`: a topic of four partitions with so many records, in the format `json`, `avro`, or `poison` (as `json`,
//!   but three of ten do not fit; with `poison_large` some of these have 20 MB). Returns its `bytes`.
//! - `pace TOPIC PER_SECOND SECONDS`: more records of JSON into a topic that is there, at an even pace.
//! - `read TOPIC MESSAGES`: how many `seconds` the bare consumer takes for them.

mod records;

use std::error::Error;
use std::io::BufRead as _;
use std::time::{Duration, Instant};

use longshore_testkit::services::{Kafka, KafkaOptions, Registry};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use self::records::{Format, Records};

type Outcome<T> = Result<T, Box<dyn Error>>;

const PARTITIONS: i32 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Outcome<()> {
    // A record of 20 MB is among the poison.
    let large = [("message.max.bytes", "33554432"), ("replica.fetch.max.bytes", "33554432")];
    let config = large.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let kafka = Kafka::start_with(KafkaOptions { config, ..KafkaOptions::default() }).await.ok_or("Kafka is not installed")?;
    let registry = Registry::start().await.ok_or("the schema registry is not installed")?;
    println!("{}", json!({"brokers": kafka.brokers(), "registry": registry.url(), "columns": records::columns()}));
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words.as_slice() {
            ["fill", topic, format, messages] => fill(&kafka, &registry, topic, Format::of(format)?, messages.parse()?).await?,
            ["pace", topic, rate, seconds] => pace(&kafka, topic, rate.parse()?, seconds.parse()?)?,
            ["read", topic, messages] => read(&kafka, topic, messages.parse()?)?,
            _ => return Err(format!("what is {line:?}?").into()),
        };
        println!("{answer}");
    }
    Ok(())
}

async fn fill(kafka: &Kafka, registry: &Registry, topic: &str, format: Format, messages: u64) -> Outcome<Value> {
    kafka.create_topic(topic, PARTITIONS, &[]).await;
    let schema = match format {
        Format::Avro => registry.register(&format!("{topic}-value"), &records::avro_schema(), "AVRO", &[]).await,
        Format::Json | Format::Poison { .. } => 0,
    };
    let records = Records::new(format, schema);
    let producer = producer(kafka)?;
    let mut bytes = 0;
    for n in 0..messages {
        bytes += send(&producer, topic, &records, n)? as u64;
    }
    producer.flush(PATIENCE)?;
    Ok(json!({"bytes": bytes}))
}

fn pace(kafka: &Kafka, topic: &str, rate: u64, seconds: u64) -> Outcome<Value> {
    let records = Records::new(Format::Json, 0);
    let producer = producer(kafka)?;
    let began = Instant::now();
    let mut bytes = 0;
    for n in 0..rate * seconds {
        let due = Duration::from_secs_f64(n as f64 / rate as f64);
        let early = due.saturating_sub(began.elapsed());
        // Some at a time: a sleep is not that exact.
        if early > Duration::from_millis(5) {
            std::thread::sleep(early);
        }
        bytes += send(&producer, topic, &records, n)? as u64;
    }
    producer.flush(PATIENCE)?;
    Ok(json!({"bytes": bytes}))
}

fn producer(kafka: &Kafka) -> Outcome<ThreadedProducer<DefaultProducerContext>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.internal()).set("linger.ms", "5").set("message.max.bytes", "33554432");
    config.set("queue.buffering.max.kbytes", "131072").set("acks", "1");
    Ok(config.create()?)
}

/// Sends the record of this number; returns its length.
fn send(producer: &ThreadedProducer<DefaultProducerContext>, topic: &str, records: &Records, n: u64) -> Outcome<usize> {
    let (table, value) = records.get(n);
    let headers = OwnedHeaders::new().insert(Header { key: "destination_table", value: table });
    let partition = i32::try_from(n % PARTITIONS as u64)?;
    let mut record = BaseRecord::<(), _>::to(topic).payload(value).partition(partition);
    if table.is_some() {
        record = record.headers(headers);
    }
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(value.len()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                record = again;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

/// Nothing but librdkafka: every partition from its start, each record looked at and dropped.
fn read(kafka: &Kafka, topic: &str, messages: u64) -> Outcome<Value> {
    let began = Instant::now();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.internal()).set("group.id", "bare").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create()?;
    let mut partitions = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        partitions.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&partitions)?;
    let (mut seen, mut bytes) = (0, 0);
    while seen < messages {
        let message = consumer.poll(PATIENCE).ok_or("no more records")??;
        seen += 1;
        bytes += message.payload_len() as u64;
    }
    Ok(json!({"seconds": began.elapsed().as_secs_f64(), "bytes": bytes}))
}
