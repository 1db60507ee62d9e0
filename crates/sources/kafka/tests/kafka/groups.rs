//! Several workers in one group.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore_core::stream::Arrival;
use longshore_testkit::services::Kafka;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::support::{Books, Worker, config, decode, fresh, record};

/// The offset that a group has for a partition.
fn committed(kafka: &Kafka, group: &str, topic: &str, partition: i32) -> Option<i64> {
    let client: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", kafka.internal()).set("group.id", group).create().expect("a client");
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    let answer = client.committed_offsets(list, Duration::from_secs(20)).expect("an answer");
    match answer.elements()[0].offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

/// Three workers come and go while records are written; what they land is checked by the journal.
async fn workers_come_and_go(more: Value) {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("group");
    kafka.create_topic(&topic, 6, &[]).await;
    let books = Arc::new(Books::default());
    let total = 6000;
    let writing = {
        let topic = topic.clone();
        async move {
            for batch in 0..60 {
                let records = (0..100).map(|n| record(batch * 100 + n).partition(n % 6));
                kafka.produce(&topic, records).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    };
    let worker = |after: u64, stays: u64| {
        let (books, topic, settings) = (books.clone(), topic.clone(), config(&kafka.brokers(), &topic, more.clone()));
        async move {
            tokio::time::sleep(Duration::from_millis(after)).await;
            let mut worker = Worker::new(settings, &topic, &books).await;
            let until = Instant::now() + Duration::from_millis(stays);
            while (Instant::now() < until || stays == 0) && books.len() < total {
                match tokio::time::timeout(Duration::from_millis(200), worker.subscription.next()).await {
                    Ok(Ok(Arrival::Delivery(delivery))) => {
                        let taken = decode(&delivery);
                        // A commit takes its time, and others may have the partition by then.
                        tokio::time::sleep(Duration::from_millis(30)).await;
                        if !books.journal(&taken.deltas, taken.rows) {
                            worker.subscription.rewind().await.expect("rewinds");
                        }
                    }
                    Ok(Ok(_)) | Err(_) => {}
                    Ok(Err(error)) => panic!("{error:?}"),
                }
            }
            worker.close().await;
        }
    };
    let all = async { tokio::join!(writing, worker(0, 0), worker(1000, 2500), worker(2000, 2500)) };
    tokio::time::timeout(Duration::from_secs(120), all).await.expect("everything lands");
    let numbers: BTreeSet<usize> = books.values().iter().map(|value| value.parse().expect("a number")).collect();
    assert_eq!((numbers.len(), books.len()), (total, total), "refused: {}", books.refused());
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_come_and_go_lose_and_double_nothing() {
    workers_come_and_go(json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_come_and_go_by_the_newer_protocol_lose_and_double_nothing() {
    workers_come_and_go(json!({"options": {"group.protocol": "consumer"}})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_loses_partitions_is_told_and_one_without_any_has_caught_up() {
    let Some(kafka) = Kafka::shared().await else { return };
    for protocol in ["classic", "consumer"] {
        let topic = fresh("told");
        kafka.create_topic(&topic, 2, &[]).await;
        let books = Arc::new(Books::default());
        let settings = || config(&kafka.brokers(), &topic, json!({"options": {"group.protocol": protocol}}));
        let mut first = Worker::new(settings(), &topic, &books).await;
        first.catch_up().await;
        let mut second = Worker::new(settings(), &topic, &books).await;
        while !matches!(first.next().await.expect("goes on"), Arrival::Rebalance) {}
        second.catch_up().await;
        let mut third = Worker::new(settings(), &topic, &books).await;
        third.catch_up().await;
        for worker in [first, second, third] {
            worker.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_partitions_has_caught_up_once_more_after_a_rewind() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("rewinds");
    kafka.create_topic(&topic, 1, &[]).await;
    let books = Arc::new(Books::default());
    let settings = || config(&kafka.brokers(), &topic, json!({}));
    let mut first = Worker::new(settings(), &topic, &books).await;
    first.catch_up().await;
    let mut second = Worker::new(settings(), &topic, &books).await;
    second.catch_up().await;
    for worker in [&mut first, &mut second] {
        worker.subscription.rewind().await.expect("rewinds");
        worker.catch_up().await;
    }
    first.close().await;
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_of_partitions_that_are_taken_away_is_forgotten_and_the_rest_read_once_more() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("forgotten");
    kafka.create_topic(&topic, 4, &[]).await;
    let text = "x".repeat(10_000);
    kafka.produce(&topic, (0..2000).map(|n: i32| record(format!("{n}{text}")).partition(n % 4))).await;
    let books = Arc::new(Books::default());
    let settings = || config(&kafka.brokers(), &topic, json!({}));
    let mut first = Worker::new(settings(), &topic, &books).await;
    first.step().await.expect("it has the partitions");
    // Deliveries wait while half of them go.
    let mut second = Worker::new(settings(), &topic, &books).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(matches!(first.next().await.expect("goes on"), Arrival::Rebalance));
    let both = async {
        tokio::join!(first.share(2000), second.share(2000));
    };
    let landed = tokio::time::timeout(Duration::from_secs(60), both).await;
    assert!(landed.is_ok(), "{:?} {:?} {:?}", books.positions(), first.subscription.lag(), second.subscription.lag());
    assert_eq!(books.len(), 2000);
    assert_eq!(books.refused(), 0, "what is handed out joins what was handed out before");
    first.close().await;
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_closes_hands_over_at_once_and_the_group_knows_what_was_acknowledged() {
    let Some(kafka) = Kafka::shared().await else { return };
    for protocol in ["classic", "consumer"] {
        let (topic, group) = (fresh("closes"), fresh("group"));
        kafka.create_topic(&topic, 1, &[]).await;
        kafka.produce(&topic, (0..10).map(record)).await;
        let books = Arc::new(Books::default());
        let settings = || config(&kafka.brokers(), &topic, json!({"group": group, "options": {"group.protocol": protocol}}));
        let mut first = Worker::new(settings(), &topic, &books).await;
        first.catch_up().await;
        first.close().await;
        assert_eq!(committed(kafka, &group, &topic, 0), Some(10), "{protocol}");
        kafka.produce(&topic, (10..20).map(record)).await;
        let began = Instant::now();
        let mut second = Worker::new(settings(), &topic, &books).await;
        second.until(20).await;
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        second.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_groups_offset_never_goes_back() {
    let Some(kafka) = Kafka::shared().await else { return };
    let (topic, group) = (fresh("back"), fresh("group"));
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.produce(&topic, (0..10).map(record)).await;
    let books = Arc::new(Books::default());
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, json!({"group": group})), &topic, &books).await;
    let first = decode(&worker.delivery().await).deltas;
    kafka.produce(&topic, (10..20).map(record)).await;
    let second = decode(&worker.delivery().await).deltas;
    for deltas in [second, first] {
        worker.subscription.acknowledge(&[longshore_core::position::Covers::Deltas(deltas)]).await.expect("tells");
    }
    worker.close().await;
    assert_eq!(committed(kafka, &group, &topic, 0), Some(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_takes_nothing_for_long_stays_in_the_group() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("slow");
    kafka.create_topic(&topic, 1, &[]).await;
    let text = "x".repeat(100_000);
    kafka.produce(&topic, (0..200).map(|n| record(format!("{n} {text}")))).await;
    let books = Arc::new(Books::default());
    let options = json!({"options": {"max.poll.interval.ms": "6000", "session.timeout.ms": "6000"}});
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, options), &topic, &books).await;
    worker.step().await.expect("goes on");
    tokio::time::sleep(Duration::from_secs(9)).await;
    // Not even once were its partitions taken away.
    let mut rebalances = 0;
    while books.len() < 200 {
        match worker.next().await.expect("goes on") {
            Arrival::Delivery(delivery) => {
                let taken = decode(&delivery);
                assert!(books.journal(&taken.deltas, taken.rows));
            }
            Arrival::Rebalance => rebalances += 1,
            Arrival::CaughtUp => {}
        }
    }
    assert_eq!((rebalances, books.refused()), (0, 0));
    worker.close().await;
}
