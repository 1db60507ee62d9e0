//! Brokers that fail, and topics that are not there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use longshore_core::position::{Partition, Position};
use longshore_core::stream::{Arrival, Progress, StreamSource};
use longshore_kafka::KafkaSource;
use longshore_testkit::services::{Kafka, KafkaOptions};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, util::Timeout};
use serde_json::json;

use crate::support::{Books, Told, Worker, config, context, decode, fresh, record};

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_away_are_waited_for_and_told_of_once() {
    let Some(kafka) = Kafka::start().await else { return };
    let topic = fresh("away");
    kafka.create_topic(&topic, 2, &[]).await;
    kafka.produce(&topic, (0..100).map(record)).await;
    let books = Arc::new(Books::default());
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, json!({})), &topic, &books).await;
    worker.catch_up().await;
    for round in 1..=2 {
        kafka.stop_node(1).await;
        worker.told.until("no broker can be reached").await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        kafka.start_node(1).await;
        kafka.produce(&topic, (0..100).map(record)).await;
        worker.until(100 + round * 100).await;
        worker.told.until("can be reached again").await;
        assert_eq!(worker.told.count("no broker can be reached"), round, "{:?}", worker.told.all());
        // The next round is told of anew.
        while worker.told.count("can be reached again") < round {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert_eq!((books.len(), books.refused()), (300, 0));
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_begins_before_the_brokers_are_there_waits_for_them_and_can_be_stopped() {
    let Some(kafka) = Kafka::start().await else { return };
    let topic = fresh("early");
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.produce(&topic, (0..10).map(record)).await;
    kafka.stop_node(1).await;
    let source = KafkaSource::new(config(&kafka.brokers(), &topic, json!({}))).expect("settings");
    let error = source.inspect(&context(&topic, &Arc::default())).await.expect_err("nobody is there");
    assert_eq!(error.code(), "kafka_unreachable");
    let (told, books) = (Arc::new(Told::default()), Arc::new(Books::default()));
    let stopped = context(&topic, &told);
    stopped.stop.request();
    let error = source.subscribe(&stopped, books.clone()).await.err().expect("was stopped");
    assert_eq!(error.code(), "interrupted");
    let waiting = context(&topic, &told);
    let (subscription, ()) = tokio::join!(source.subscribe(&waiting, books.clone()), kafka.start_node(1));
    let mut worker = Worker { subscription: subscription.expect("in the end"), books: books.clone(), told };
    worker.until(10).await;
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_worker_does_not_wait_for_brokers_that_are_away() {
    let Some(kafka) = Kafka::start().await else { return };
    let topic = fresh("leaving");
    kafka.create_topic(&topic, 1, &[]).await;
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, json!({})), &topic, &Arc::default()).await;
    worker.catch_up().await;
    kafka.pause_node(1);
    let began = std::time::Instant::now();
    worker.close().await;
    kafka.resume_node(1);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_a_broker_of_three_loses_and_doubles_nothing() {
    let Some(kafka) = Kafka::start_with(KafkaOptions { nodes: 3, ..KafkaOptions::default() }).await else { return };
    let topic = fresh("three");
    kafka.create_topic(&topic, 6, &[]).await;
    let books = Arc::new(Books::default());
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, json!({})), &topic, &books).await;
    let writing = async {
        for round in 0..40 {
            kafka.produce(&topic, (0..50).map(|n| record(round * 50 + n))).await;
        }
    };
    let failing = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        for node in [1, 2] {
            kafka.stop_node(node).await;
            tokio::time::sleep(Duration::from_secs(5)).await;
            kafka.start_node(node).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    };
    let everything = async { tokio::join!(writing, failing, worker.until(2000)) };
    tokio::time::timeout(Duration::from_secs(180), everything).await.expect("everything lands");
    worker.catch_up().await;
    assert_eq!((books.len(), books.refused()), (2000, 0));
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_are_not_there_are_an_error_and_one_of_several_a_warning() {
    let Some(kafka) = Kafka::shared().await else { return };
    let (there, not_there) = (fresh("there"), fresh("not-there"));
    kafka.create_topic(&there, 1, &[]).await;
    kafka.produce(&there, (0..5).map(record)).await;
    let source = KafkaSource::new(config(&kafka.brokers(), &not_there, json!({}))).expect("settings");
    let error = source.subscribe(&context("p", &Arc::default()), Arc::<Books>::default()).await.err().expect("is not there");
    assert_eq!(error.code(), "kafka_topic_unknown");
    assert!(error.to_string().contains(&not_there) && error.hint_text().is_some(), "{error}");
    let books = Arc::new(Books::default());
    let settings = config(&kafka.brokers(), &there, json!({"topics": [there, not_there]}));
    let mut worker = Worker::new(settings, &there, &books).await;
    worker.catch_up().await;
    assert_eq!(books.len(), 5);
    worker.told.until(&format!("{not_there} is not there")).await;
    // And once it is there, it is read.
    kafka.create_topic(&not_there, 1, &[]).await;
    kafka.produce(&not_there, (0..5).map(record)).await;
    worker.until(10).await;
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_that_is_none_is_an_error_of_the_settings() {
    let Some(kafka) = Kafka::shared().await else { return };
    let settings = config(&kafka.brokers(), "t", json!({"topics": null, "pattern": "orders-("}));
    let source = KafkaSource::new(settings).expect("nobody has looked at it yet");
    let error = source.subscribe(&context("p", &Arc::default()), Arc::<Books>::default()).await.err().expect("refused");
    assert_eq!((error.code(), error.kind()), ("config", longshore_core::error::Kind::Config));
    assert!(error.to_string().contains("orders-("), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_named_twice_is_read_once() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("twice");
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.produce(&topic, (0..10).map(record)).await;
    let books = Arc::new(Books::default());
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, json!({"topics": [topic, topic]})), &topic, &books).await;
    worker.catch_up().await;
    assert_eq!((books.len(), books.refused()), (10, 0));
    assert!(worker.subscription.rest_is_read().await.expect("an answer"));
    kafka.produce(&topic, [record("more")]).await;
    assert!(!worker.subscription.rest_is_read().await.expect("an answer"));
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_20_mb_passes_a_reader_that_has_less_memory() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("large");
    kafka.create_topic(&topic, 1, &[("max.message.bytes", "41943040")]).await;
    let large = "x".repeat(20_000_000);
    kafka.produce(&topic, [record("before"), record(&large), record("after")]).await;
    let told = Arc::new(Told::default());
    let mut cx = context(&topic, &told);
    cx.budget = longshore_core::budget::Budget::new(8 << 20);
    let source = KafkaSource::new(config(&kafka.brokers(), &topic, json!({}))).expect("settings");
    let mut subscription = source.subscribe(&cx, Arc::<Books>::default()).await.expect("a subscription");
    let (mut messages, mut bytes) = (0, 0);
    while messages < 3 {
        if let Arrival::Delivery(delivery) =
            tokio::time::timeout(crate::support::PATIENCE, subscription.next()).await.expect("comes").expect("goes on")
        {
            messages += delivery.messages;
            bytes += delivery.bytes;
        }
    }
    assert!(bytes > 20_000_000);
    subscription.close().await.expect("leaves");
}

/// A cluster of librdkafka's own, with a topic of records.
async fn mock(
    brokers: i32,
    topic: &str,
    partitions: i32,
    records: i32,
) -> MockCluster<'static, rdkafka::producer::DefaultProducerContext> {
    let cluster = MockCluster::new(brokers).expect("a cluster");
    cluster.create_topic(topic, partitions, brokers.min(3)).expect("a topic");
    write(&cluster.bootstrap_servers(), topic, partitions, 0..records).await;
    cluster
}

async fn write(brokers: &str, topic: &str, partitions: i32, records: std::ops::Range<i32>) {
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", brokers).create().expect("a producer");
    for n in records {
        let value = json!({"value": n.to_string()}).to_string();
        let record: FutureRecord<'_, str, String> = FutureRecord::to(topic).partition(n % partitions).payload(&value);
        producer.send(record, Timeout::After(Duration::from_secs(20))).await.expect("stored");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_that_brokers_answer_now_and_then_pass() {
    let topic = fresh("mock");
    let cluster = mock(3, &topic, 4, 400).await;
    use RDKafkaRespErr as Broker;
    let some = [
        Broker::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Broker::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        Broker::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    ];
    cluster.request_errors(RDKafkaApiKey::Fetch, &some);
    cluster.request_errors(RDKafkaApiKey::ListOffsets, &some[..2]);
    cluster.request_errors(RDKafkaApiKey::Metadata, &[Broker::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE]);
    let group = [Broker::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, Broker::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS];
    cluster.request_errors(RDKafkaApiKey::FindCoordinator, &group[..1]);
    cluster.request_errors(RDKafkaApiKey::JoinGroup, &group);
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &group);
    let books = Arc::new(Books::default());
    let mut worker = Worker::new(config(&cluster.bootstrap_servers(), &topic, json!({})), &topic, &books).await;
    worker.until(400).await;
    worker.catch_up().await;
    assert_eq!((books.len(), books.refused()), (400, 0));
    worker.close().await;
}

/// A journal that says when it is asked about a topic.
struct Watched {
    books: Arc<Books>,
    topic: String,
    asked: tokio::sync::Notify,
}

#[async_trait]
impl Progress for Watched {
    async fn position(&self, partition: &Partition) -> longshore_core::Result<Option<Position>> {
        if partition.0.contains(&format!("/{}@", self.topic)) {
            self.asked.notify_one();
        }
        self.books.position(partition).await
    }

    async fn known(&self, scope: &str, ids: &[String]) -> longshore_core::Result<BTreeMap<String, bool>> {
        self.books.known(scope, ids).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_whose_leader_is_away_when_it_comes_is_read_later_even_after_a_rewind() {
    let (first, second) = (fresh("mock-first"), fresh("mock-second"));
    let cluster = mock(1, &first, 1, 10).await;
    let brokers = cluster.bootstrap_servers();
    let books = Arc::new(Books::default());
    let watched = Arc::new(Watched { books: books.clone(), topic: second.clone(), asked: tokio::sync::Notify::new() });
    let options = json!({"topics": [first, second], "options": {"topic.metadata.refresh.interval.ms": "500"}});
    let source = KafkaSource::new(config(&brokers, &first, options)).expect("settings");
    let told = Arc::new(Told::default());
    let subscription = source.subscribe(&context(&first, &told), watched.clone()).await.expect("a subscription");
    let mut worker = Worker { subscription, books: books.clone(), told };
    worker.catch_up().await;
    cluster.create_topic(&second, 1, 1).expect("a topic");
    cluster.partition_leader(&second, 0, None).expect("no leader");
    // While its place is looked for, the others are placed again.
    tokio::time::timeout(crate::support::PATIENCE, watched.asked.notified()).await.expect("the group gives it");
    worker.subscription.rewind().await.expect("rewinds");
    tokio::time::sleep(Duration::from_secs(8)).await;
    cluster.partition_leader(&second, 0, Some(1)).expect("a leader");
    write(&brokers, &second, 1, 10..20).await;
    worker.until(20).await;
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_the_group_has_forgotten_comes_back_and_doubles_nothing() {
    let topic = fresh("mock-fenced");
    let cluster = mock(1, &topic, 2, 100).await;
    let brokers = cluster.bootstrap_servers();
    let books = Arc::new(Books::default());
    let options = json!({"options": {"session.timeout.ms": "6000", "heartbeat.interval.ms": "500"}});
    let mut worker = Worker::new(config(&brokers, &topic, options), &topic, &books).await;
    worker.catch_up().await;
    use RDKafkaRespErr as Broker;
    for error in [Broker::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID, Broker::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION] {
        let before = i32::try_from(books.len()).expect("few");
        cluster.request_errors(RDKafkaApiKey::Heartbeat, &[error]);
        while !matches!(worker.next().await.expect("goes on"), Arrival::Rebalance) {}
        write(&brokers, &topic, 2, before..before + 100).await;
        worker.until(usize::try_from(before + 100).expect("few")).await;
    }
    worker.catch_up().await;
    assert_eq!((books.len(), books.refused()), (300, 0));
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_refuses_for_good_ends_the_reading_with_its_words() {
    use RDKafkaRespErr as Broker;
    for (key, error, code) in [
        (RDKafkaApiKey::Fetch, Broker::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "kafka_denied"),
        (RDKafkaApiKey::JoinGroup, Broker::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, "kafka_denied"),
        (RDKafkaApiKey::JoinGroup, Broker::RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL, "kafka_group_refused"),
        (RDKafkaApiKey::JoinGroup, Broker::RD_KAFKA_RESP_ERR_GROUP_MAX_SIZE_REACHED, "kafka_group_refused"),
    ] {
        let topic = fresh("mock-refused");
        let cluster = mock(1, &topic, 1, 10).await;
        cluster.request_errors(key, &[error; 20]);
        let books = Arc::new(Books::default());
        let mut worker = Worker::new(config(&cluster.bootstrap_servers(), &topic, json!({})), &topic, &books).await;
        let ended = worker.error().await;
        assert_eq!(ended.code(), code, "{ended:?}");
        assert!(ended.hint_text().is_some());
        let after = worker.next().await.err().expect("stays ended");
        assert_eq!(after.code(), "kafka_closed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_without_ids_of_topics_are_told_of_once() {
    let topic = fresh("mock-old");
    let cluster = mock(1, &topic, 2, 10).await;
    cluster.apiversion(RDKafkaApiKey::Metadata, Some(0), Some(9)).expect("an older broker");
    cluster.apiversion(RDKafkaApiKey::Fetch, Some(4), Some(11)).expect("an older broker");
    let books = Arc::new(Books::default());
    let settings = || config(&cluster.bootstrap_servers(), &topic, json!({"options": {"session.timeout.ms": "6000"}}));
    let mut worker = Worker::new(settings(), &topic, &books).await;
    worker.until(10).await;
    assert_eq!(worker.told.count("too old to have ids of topics"), 1, "{:?}", worker.told.all());
    assert!(books.positions().iter().all(|(partition, _)| partition.contains(&format!("/{topic}@/"))), "{:?}", books.positions());
    worker.close().await;
    // Later on the brokers are renewed, and what was read stays read.
    cluster.apiversion(RDKafkaApiKey::Metadata, Some(0), Some(12)).expect("a newer broker");
    let mut worker = Worker::new(settings(), &topic, &books).await;
    write(&cluster.bootstrap_servers(), &topic, 2, 10..20).await;
    worker.until(20).await;
    assert!(
        books.positions().iter().any(|(partition, _)| !partition.contains(&format!("/{topic}@/"))),
        "{:?}",
        books.positions()
    );
    worker.close().await;
    // A broker that has no ids cannot say whether it is the same topic still.
    cluster.apiversion(RDKafkaApiKey::Metadata, Some(0), Some(9)).expect("an older broker");
    let mut worker = Worker::new(settings(), &topic, &books).await;
    worker.told.until("does not tell the topic's id").await;
    cluster.broker_down(1).expect("is renewed");
    cluster.apiversion(RDKafkaApiKey::Metadata, Some(0), Some(12)).expect("a newer broker");
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.broker_up(1).expect("is renewed");
    write(&cluster.bootstrap_servers(), &topic, 2, 20..30).await;
    worker.until(30).await;
    assert_eq!((books.len(), books.refused()), (30, 0));
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_topic_of_dead_letters_does_not_count_among_those_that_a_pattern_finds() {
    let topic = fresh("mock-orders");
    let cluster = mock(1, &topic, 1, 1).await;
    let dead = format!("{topic}.dead");
    cluster.create_topic(&dead, 1, 1).expect("a topic");
    let lines = async |more: serde_json::Value| {
        let source = KafkaSource::new(config(&cluster.bootstrap_servers(), &topic, more)).expect("settings");
        source.inspect(&context("p", &Arc::default())).await.expect("an answer").join("; ")
    };
    let all = lines(json!({"topics": null, "pattern": ".*"})).await;
    assert!(all.contains("2 topics are there"), "{all}");
    let others = lines(json!({"topics": null, "pattern": ".*", "dead_letter_topic": dead})).await;
    assert!(others.contains("1 topics are there"), "{others}");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_behind_it_is_can_be_seen() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("lag");
    kafka.create_topic(&topic, 1, &[]).await;
    let text = "x".repeat(100_000);
    kafka.produce(&topic, (0..300).map(|n| record(format!("{n} {text}")))).await;
    let books = Arc::new(Books::default());
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, json!({})), &topic, &books).await;
    let delivery = worker.delivery().await;
    assert!(delivery.oldest.is_some() && !decode(&delivery).rows.is_empty());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let lag = worker.subscription.lag();
    assert_eq!(lag[0].name, format!("{topic}/0"));
    assert!(lag[0].messages.is_some_and(|behind| (100..300).contains(&behind)), "{lag:?}");
    worker.subscription.rewind().await.expect("rewinds");
    worker.catch_up().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(worker.subscription.lag()[0].messages, Some(0));
    worker.close().await;
}
