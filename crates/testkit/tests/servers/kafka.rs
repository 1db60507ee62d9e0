//! A broker stores, forgets, dies and comes back; clusters let in who may come in.

use std::time::Duration;

use longshore_testkit::services::kafka::{ALICE, BOB, CAROL, ERIN, Record};
use longshore_testkit::services::{Kafka, KafkaOptions};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

/// The values of a partition from its start to its end.
async fn values(config: ClientConfig, topic: &str) -> Vec<String> {
    let topic = topic.to_owned();
    let read = move || {
        let consumer: BaseConsumer = config.create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, 0, Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        let mut values = Vec::new();
        loop {
            match consumer.poll(Duration::from_secs(60)).expect("a record, or the end, within a minute") {
                Ok(message) => values.push(String::from_utf8(message.payload().unwrap().to_vec()).unwrap()),
                Err(rdkafka::error::KafkaError::PartitionEOF(_)) => return values,
                Err(e) => panic!("{e}"),
            }
        }
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "none").set("enable.partition.eof", "true");
    config
}

fn record(number: usize) -> Record {
    Record::new(format!("{number}")).partition(0)
}

#[tokio::test]
async fn a_broker_keeps_records_in_order_with_all_that_they_have() {
    let Some(kafka) = Kafka::shared().await else { return };
    kafka.create_topic("kept", 2, &[]).await;
    let whole = Record::new("v").key("k").partition(1).header("a", "1").header("a", "2").time(1_700_000_000_000);
    assert_eq!(kafka.produce("kept", [whole]).await, [(1, 0)]);
    let stored = kafka.produce("kept", (0..10_000).map(record)).await;
    assert_eq!(stored, (0..10_000).map(|offset| (0, offset)).collect::<Vec<_>>());
    let expected: Vec<_> = (0..10_000).map(|n| n.to_string()).collect();
    assert_eq!(values(config(&kafka.brokers()), "kept").await, expected);

    let consumer: BaseConsumer = config(&kafka.brokers()).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("kept", 1, Offset::Offset(0)).unwrap();
    consumer.assign(&list).unwrap();
    let read = consumer.poll(Duration::from_secs(60)).unwrap().unwrap().detach();
    let headers: Vec<_> = read.headers().unwrap().iter().map(|h| (h.key, h.value.unwrap())).collect();
    assert_eq!((read.key(), read.timestamp().to_millis()), (Some(&b"k"[..]), Some(1_700_000_000_000)));
    assert_eq!(headers, [("a", &b"1"[..]), ("a", &b"2"[..])]);
    assert_eq!(consumer.client().fetch_cluster_id(Duration::from_secs(60)).as_deref(), Some(kafka.cluster_id()));
}

#[tokio::test]
async fn a_topic_gets_partitions_loses_records_and_is_removed() {
    let Some(kafka) = Kafka::shared().await else { return };
    kafka.create_topic("changed", 1, &[("retention.ms", "-1")]).await;
    kafka.produce("changed", (0..10).map(record)).await;
    kafka.add_partitions("changed", 3).await;
    assert_eq!(kafka.produce("changed", [Record::new("v").partition(2)]).await, [(2, 0)]);
    kafka.delete_records("changed", 0, 4).await;
    assert_eq!(kafka.watermarks("changed", 0).await, (4, 10));
    kafka.delete_topic("changed").await;
    kafka.create_topic("changed", 1, &[]).await;
    assert_eq!(kafka.watermarks("changed", 0).await, (0, 0));
    assert_eq!(kafka.produce("changed", (0..20).map(record)).await.last(), Some(&(0, 19)));
}

#[tokio::test]
async fn an_aborted_transaction_is_not_read_and_an_open_one_holds_readers_up() {
    let Some(kafka) = Kafka::shared().await else { return };
    kafka.create_topic("transactions", 1, &[]).await;
    kafka.produce_transaction("transactions", (0..2).map(record), true).await;
    kafka.produce_transaction("transactions", (2..4).map(record), false).await;
    let open = kafka.transaction().await;
    open.produce("transactions", (4..6).map(record)).await;
    kafka.produce("transactions", [record(6)]).await;
    let read = |isolation: &str| values(config(&kafka.brokers()).set("isolation.level", isolation).clone(), "transactions");
    assert_eq!(read("read_committed").await, ["0", "1"]);
    assert_eq!(read("read_uncommitted").await, ["0", "1", "2", "3", "4", "5", "6"]);
    open.commit().await;
    assert_eq!(read("read_committed").await, ["0", "1", "4", "5", "6"]);
}

#[tokio::test]
async fn a_compacted_topic_is_compacted_while_a_test_waits() {
    let Some(kafka) = Kafka::shared().await else { return };
    let config_of_topic = [("cleanup.policy", "compact"), ("segment.ms", "100"), ("min.cleanable.dirty.ratio", "0.01")];
    kafka.create_topic("compacted", 1, &config_of_topic).await;
    kafka.produce("compacted", (0..50).map(|n| record(n).key("same"))).await;
    let compacted = async {
        // Nobody tells when. A segment is closed by a record that comes later.
        while values(config(&kafka.brokers()), "compacted").await.iter().filter(|value| *value != "last").count() > 1 {
            kafka.produce("compacted", [Record::new("last").key("other").partition(0)]).await;
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), compacted).await.expect("old values of the key go");
}

#[tokio::test]
async fn a_broker_that_was_killed_or_paused_comes_back_with_what_it_has() {
    let own = vec![("auto.create.topics.enable".to_owned(), "true".to_owned())];
    let Some(kafka) = Kafka::start_with(KafkaOptions { config: own, ..KafkaOptions::default() }).await else { return };
    // A setting of a test's own counts: nobody has made the topic.
    kafka.produce("kept", (0..10).map(record)).await;
    kafka.stop_node(1).await;
    let consumer: BaseConsumer = config(&kafka.brokers()).create().unwrap();
    assert!(consumer.fetch_metadata(None, Duration::from_millis(500)).is_err());
    kafka.start_node(1).await;
    assert_eq!(values(config(&kafka.brokers()), "kept").await.len(), 10);
    kafka.pause_node(1);
    assert!(consumer.fetch_metadata(None, Duration::from_millis(500)).is_err());
    kafka.resume_node(1);
    assert_eq!(values(config(&kafka.brokers()), "kept").await.len(), 10, "{}", kafka.log());
}

/// Who is let in by TLS and a password, or by TLS and a certificate; what a broker says to others.
#[tokio::test]
async fn three_brokers_with_tls_know_who_may_what_and_one_may_die() {
    let Some(kafka) = Kafka::start_with(KafkaOptions { nodes: 3, tls_sasl: true, ..KafkaOptions::default() }).await else {
        return;
    };
    kafka.create_topic("kept", 1, &[]).await;
    kafka.produce("kept", (0..10).map(record)).await;
    for user in [ALICE, BOB] {
        let mut config = config(&kafka.brokers());
        config.set("security.protocol", "SASL_SSL").set("ssl.ca.location", kafka.ca()).set("sasl.mechanism", user.mechanism);
        config.set("sasl.username", user.name).set("sasl.password", user.password);
        assert_eq!(values(config, "kept").await.len(), 10, "{}", user.name);
    }
    let mut by_token = config(&kafka.brokers());
    by_token.set("security.protocol", "SASL_SSL").set("ssl.ca.location", kafka.ca()).set("sasl.mechanism", "OAUTHBEARER");
    by_token.set("enable.sasl.oauthbearer.unsecure.jwt", "true").set("sasl.oauthbearer.config", format!("principal={ERIN}"));
    assert_eq!(values(by_token, "kept").await.len(), 10);
    let mut by_certificate = config(&kafka.mutual());
    by_certificate.set("security.protocol", "SSL").set("ssl.ca.location", kafka.ca());
    let without = by_certificate.clone();
    by_certificate.set("ssl.certificate.location", kafka.client_certificate()).set("ssl.key.location", kafka.client_key());
    assert_eq!(values(by_certificate.clone(), "kept").await.len(), 10);
    let refused = |config: &ClientConfig| {
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.fetch_metadata(Some("kept"), Duration::from_secs(3)).map(|found| found.topics()[0].error())
    };
    assert!(refused(&without).is_err(), "a certificate is asked for");
    assert!(refused(by_certificate.set("ssl.ca.location", kafka.other_ca())).is_err(), "the broker's certificate is checked");
    let mut carol = config(&kafka.brokers());
    carol.set("security.protocol", "SASL_SSL").set("ssl.ca.location", kafka.ca()).set("sasl.mechanism", CAROL.mechanism);
    carol.set("sasl.username", CAROL.name).set("sasl.password", CAROL.password);
    assert!(matches!(refused(&carol), Ok(Some(_))), "who may nothing is told so");
    assert!(refused(carol.set("sasl.password", "wrong")).is_err());

    kafka.stop_node(2).await;
    kafka.produce("kept", (0..10).map(record)).await;
    kafka.start_node(2).await;
    assert_eq!(values(config(&kafka.internal()), "kept").await.len(), 20, "{}", kafka.log());
}
