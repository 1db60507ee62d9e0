//! Copies of dead letters into a topic.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use longshore_core::batch::Reject;
use longshore_core::stream::{LetterCopy, StreamSource};
use longshore_kafka::KafkaSource;
use longshore_testkit::services::Kafka;
use longshore_testkit::services::kafka::Record;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::json;

use crate::support::{Books, Worker, config, fresh, tables};

fn copy(id: &str, reject: Reject) -> LetterCopy {
    let at: DateTime<Utc> = DateTime::from_timestamp_millis(1_700_000_000_000).expect("a time");
    LetterCopy { id: id.to_owned(), reject, pipeline: "p".into(), run: "r".into(), at }
}

/// Key, value and headers of a record.
type Read = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Vec<u8>)>);

/// All records of a topic with one partition.
fn read(kafka: &Kafka, topic: &str, count: usize) -> Vec<Read> {
    let client: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", kafka.internal()).set("group.id", "reads").create().expect("a client");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).expect("an offset");
    client.assign(&list).expect("assigned");
    let mut all = Vec::new();
    while all.len() < count {
        let record = client.poll(Duration::from_secs(30)).expect("a record").expect("a record");
        let headers = record.headers().into_iter().flat_map(|headers| headers.iter());
        let headers = headers.map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect();
        all.push((record.key().map(<[u8]>::to_vec), record.payload().map(<[u8]>::to_vec), headers));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_copied_with_its_bytes_key_and_headers_and_what_is_known_about_it() {
    let Some(kafka) = Kafka::shared().await else { return };
    let (topic, letters) = (fresh("poison"), fresh("letters"));
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.create_topic(&letters, 1, &[]).await;
    let poison = [
        Record::new("{\"value\": ").key("k\u{1}").header("kind", "a").header("kind", [0xFF_u8, 0].as_slice()),
        Record::tombstone("gone"),
    ];
    kafka.produce(&topic, poison).await;
    let settings = || config(&kafka.brokers(), &topic, json!({"dead_letter_topic": letters}));
    let mut worker = Worker::new(settings(), &topic, &Arc::<Books>::default()).await;
    let mut rejects = Vec::new();
    while rejects.len() < 2 {
        let decoded = worker.delivery().await.decode.decode(&tables()).expect("decodes");
        rejects.extend(decoded.rejects.into_iter().chain(decoded.batches.into_iter().flat_map(|batch| batch.rejects)));
    }
    worker.close().await;
    let source = KafkaSource::new(settings()).expect("settings");
    let letterbox = source.letterbox().expect("a topic");
    assert_eq!(letterbox.name(), format!("the topic {letters}"));
    let copies: Vec<LetterCopy> = rejects.into_iter().zip(["1", "2"]).map(|(reject, id)| copy(id, reject)).collect();
    letterbox.deliver(&copies).await.expect("taken");
    let mut all = read(kafka, &letters, 2);
    all.sort_by_key(|(key, ..)| key.clone());
    let (key, value, headers) = &all[1];
    assert_eq!((key.as_deref(), value.as_deref()), (Some("k\u{1}".as_bytes()), Some(b"{\"value\": ".as_slice())));
    assert_eq!(headers[..2], [("kind".to_owned(), b"a".to_vec()), ("kind".to_owned(), vec![0xFF, 0])]);
    let about =
        |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| String::from_utf8_lossy(value).into_owned());
    assert_eq!(about("longshore-code").as_deref(), Some("json_invalid"));
    assert_eq!(about("longshore-source"), Some(format!("kafka:{topic}/0:0")));
    assert_eq!(about("longshore-id").as_deref(), Some("1"));
    assert_eq!((all[0].0.as_deref(), all[0].1.as_deref()), (Some(b"gone".as_slice()), None), "a tombstone stays one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_no_broker_takes_ends_within_seconds_and_may_be_tried_again() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("away");
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.produce(&topic, [Record::new("[]")]).await;
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, json!({})), &topic, &Arc::<Books>::default()).await;
    let decoded = worker.delivery().await.decode.decode(&tables()).expect("decodes");
    let reject = decoded.batches.into_iter().flat_map(|batch| batch.rejects).next().expect("a reject");
    worker.close().await;
    // One that refuses connections, and one that takes them and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    for broker in ["127.0.0.1:1".to_owned(), silent.local_addr().expect("an address").to_string()] {
        let settings = config(&broker, &topic, json!({"dead_letter_topic": "letters"}));
        let letterbox = KafkaSource::new(settings).expect("settings").letterbox().expect("a topic");
        let began = std::time::Instant::now();
        let error = letterbox.deliver(&[copy("1", reject.clone())]).await.expect_err("nobody takes it");
        assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
        assert_eq!((error.code(), error.retry()), ("kafka_letters", longshore_core::error::Retry::Backoff), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_dead_letters_that_is_not_there_is_an_error_with_a_hint() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("one");
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.produce(&topic, [Record::new("[]")]).await;
    let settings = || config(&kafka.brokers(), &topic, json!({"dead_letter_topic": fresh("nowhere")}));
    let mut worker = Worker::new(settings(), &topic, &Arc::<Books>::default()).await;
    let decoded = worker.delivery().await.decode.decode(&tables()).expect("decodes");
    let reject =
        decoded.rejects.into_iter().chain(decoded.batches.into_iter().flat_map(|batch| batch.rejects)).next().expect("a reject");
    worker.close().await;
    let letterbox = KafkaSource::new(settings()).expect("settings").letterbox().expect("a topic");
    let error = letterbox.deliver(&[copy("1", reject)]).await.expect_err("nowhere");
    assert_eq!(error.code(), "kafka_letters");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("make the topic")), "{error:?}");
}
