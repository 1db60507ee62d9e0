//! Topics that are made again, and what is added while it is read.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::position::{Delta, Partition, Position};
use longshore_testkit::services::Kafka;
use serde_json::{Value, json};

use crate::support::{Books, Worker, config, fresh, record};

/// Reads a topic, which is then deleted and made again with more records than it had.
async fn made_again_while_it_is_read(settings: Value) {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("again");
    kafka.create_topic(&topic, 2, &[]).await;
    kafka.produce(&topic, (0..20).map(|n| record(format!("old {n}")).partition(n % 2))).await;
    let books = Arc::new(Books::default());
    let started = settings["start"] != "latest";
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, settings), &topic, &books).await;
    worker.catch_up().await;
    let old = books.len();
    assert_eq!(old, if started { 20 } else { 0 });
    kafka.delete_topic(&topic).await;
    kafka.create_topic(&topic, 2, &[]).await;
    kafka.produce(&topic, (0..200).map(|n| record(format!("new {n}")).partition(n % 2))).await;
    worker.until(old + 200).await;
    worker.catch_up().await;
    let values = books.values();
    assert_eq!(values.iter().filter(|value| value.starts_with("new")).count(), 200);
    assert_eq!((values.len(), books.refused()), (old + 200, 0));
    assert_eq!(worker.told.count("deleted and made again while it was read"), 1, "{:?}", worker.told.all());
    let ids: std::collections::BTreeSet<String> =
        books.positions().into_iter().map(|(name, _)| name.rsplit_once('/').expect("a number").0.to_owned()).collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_again_while_it_is_read_and_grows_past_the_old_offset_is_read_from_its_start() {
    made_again_while_it_is_read(json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_again_while_it_is_read_is_read_from_its_start_wherever_the_first_one_began() {
    made_again_while_it_is_read(json!({"start": "latest"})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_again_while_it_is_read_by_the_newer_protocol_is_read_from_its_start() {
    made_again_while_it_is_read(json!({"options": {"group.protocol": "consumer"}})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_again_while_nobody_read_it_is_read_from_its_start() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("again-away");
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.produce(&topic, (0..10).map(record)).await;
    let books = Arc::new(Books::default());
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, json!({})), &topic, &books).await;
    worker.catch_up().await;
    worker.close().await;
    kafka.delete_topic(&topic).await;
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.produce(&topic, (0..50).map(record)).await;
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, json!({})), &topic, &books).await;
    worker.catch_up().await;
    assert_eq!((books.len(), books.refused()), (60, 0));
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_from_before_topics_had_ids_is_carried_over_once() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("carried");
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.produce(&topic, (0..20).map(record)).await;
    let books = Arc::new(Books::default());
    let nameless = Partition(format!("kafka:{}/{topic}@/0", kafka.cluster_id()));
    let before = Delta { partition: nameless, from: None, to: Position::from_count(5) };
    assert!(books.journal(&[before], Vec::new()));
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, json!({})), &topic, &books).await;
    // It was not journalled the first time.
    worker.delivery().await;
    worker.subscription.rewind().await.expect("rewinds");
    worker.until(15).await;
    worker.close().await;
    assert_eq!((books.offsets(), books.refused()), ((5..20).collect(), 0));
    kafka.delete_topic(&topic).await;
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.produce(&topic, (0..20).map(record)).await;
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, json!({})), &topic, &books).await;
    worker.catch_up().await;
    assert_eq!((books.len(), books.refused()), (35, 0));
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_while_it_is_read_are_read_from_their_start() {
    let Some(kafka) = Kafka::shared().await else { return };
    for protocol in ["classic", "consumer"] {
        let topic = fresh("added");
        kafka.create_topic(&topic, 1, &[]).await;
        kafka.produce(&topic, (0..10).map(|n| record(n).partition(0))).await;
        let books = Arc::new(Books::default());
        let settings = config(&kafka.brokers(), &topic, json!({"start": "latest", "options": {"group.protocol": protocol}}));
        let mut worker = Worker::new(settings, &topic, &books).await;
        worker.catch_up().await;
        kafka.add_partitions(&topic, 3).await;
        kafka.produce(&topic, (0..90).map(|n| record(n).partition(n % 3))).await;
        worker.until(90).await;
        worker.catch_up().await;
        assert_eq!((books.len(), books.refused(), books.positions().len()), (90, 0, 3), "{protocol}");
        worker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_matches_the_pattern_later_is_read_from_its_start() {
    let Some(kafka) = Kafka::shared().await else { return };
    for protocol in ["classic", "consumer"] {
        let family = fresh("family");
        let (first, second, other) = (format!("{family}.a"), format!("{family}.b"), format!("x{family}.c"));
        for topic in [&first, &other] {
            kafka.create_topic(topic, 1, &[]).await;
            kafka.produce(topic, (0..10).map(record)).await;
        }
        let books = Arc::new(Books::default());
        let more = json!({"topics": null, "pattern": format!("{family}\\..*"), "options": {"group.protocol": protocol}});
        let mut worker = Worker::new(config(&kafka.brokers(), &first, more), &family, &books).await;
        worker.until(10).await;
        kafka.create_topic(&second, 1, &[]).await;
        kafka.produce(&second, (0..10).map(record)).await;
        worker.until(20).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        worker.catch_up().await;
        assert_eq!(books.len(), 20, "{protocol}: the other topic does not match");
        worker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_that_matches_the_topic_of_dead_letters_does_not_mean_it() {
    let Some(kafka) = Kafka::shared().await else { return };
    for protocol in ["classic", "consumer"] {
        let family = fresh("family");
        let (first, dead) = (format!("{family}.a"), format!("{family}.dead"));
        for topic in [&first, &dead] {
            kafka.create_topic(topic, 1, &[]).await;
            kafka.produce(topic, (0..10).map(record)).await;
        }
        let books = Arc::new(Books::default());
        let more = json!({
            "topics": null, "pattern": format!("{family}\\..*"), "dead_letter_topic": dead,
            "options": {"group.protocol": protocol},
        });
        let mut worker = Worker::new(config(&kafka.brokers(), &first, more), &family, &books).await;
        worker.until(10).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        worker.catch_up().await;
        assert!(
            books.positions().iter().all(|(partition, _)| partition.contains(&format!("/{first}@"))),
            "{:?}",
            books.positions()
        );
        assert_eq!(books.len(), 10, "{protocol}");
        worker.close().await;
    }
}
