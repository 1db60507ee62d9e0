//! Where reading begins and goes on.

use std::sync::Arc;

use longshore_core::position::{Delta, Partition, Position};
use longshore_testkit::services::Kafka;
use longshore_testkit::services::kafka::Record;
use serde_json::json;

use crate::support::{Books, Worker, config, decode, fresh, record};

fn numbers(range: std::ops::Range<i64>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn records(range: std::ops::Range<i64>) -> Vec<Record> {
    range.map(|n| record(n).partition(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_read_from_its_start_and_the_end_is_told() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("start");
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.produce(&topic, records(0..100)).await;
    let books = Arc::new(Books::default());
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, json!({})), &topic, &books).await;
    worker.catch_up().await;
    assert_eq!(books.values(), numbers(0..100));
    let positions = books.positions();
    assert_eq!(positions.len(), 1);
    assert!(positions[0].0.starts_with(&format!("kafka:{}/{topic}@", kafka.cluster_id())), "{positions:?}");
    assert_eq!(positions[0].1, 100);
    // Told again when there was more.
    kafka.produce(&topic, records(100..105)).await;
    worker.catch_up().await;
    assert_eq!(books.len(), 105);
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journals_position_wins_over_the_groups_and_over_the_start() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("journal");
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.produce(&topic, records(0..100)).await;
    // The first worker lands everything and tells the group so.
    let books = Arc::new(Books::default());
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, json!({})), &topic, &books).await;
    worker.catch_up().await;
    worker.close().await;
    // Another journal of the same group knows less.
    let partition = Partition(books.positions()[0].0.clone());
    for start in [json!("latest"), json!("earliest")] {
        let other = Arc::new(Books::default());
        let before = Delta { partition: partition.clone(), from: None, to: Position::from_count(40) };
        assert!(other.journal(&[before], Vec::new()));
        let mut worker = Worker::new(config(&kafka.brokers(), &topic, json!({"start": start})), &topic, &other).await;
        worker.catch_up().await;
        assert_eq!(other.values(), numbers(40..100));
        worker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_start_is_where_it_says_and_is_handed_out_at_once_unless_it_is_the_beginning() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("starts");
    kafka.create_topic(&topic, 1, &[]).await;
    let at = |n: i64| 1_700_000_000_000 + n * 1000;
    kafka.produce(&topic, (0..100).map(|n| record(n).partition(0).time(at(n)))).await;
    let time = |n: i64| chrono::DateTime::from_timestamp_millis(at(n)).expect("a time").to_rfc3339();
    for (start, first) in [
        (json!("earliest"), 0),
        (json!("latest"), 100),
        (json!({"time": time(30)}), 30),
        (json!({"time": time(200)}), 100),
        (json!({"offsets": {"0": 70}}), 70),
        (json!({"offsets": {format!("{topic}/0"): 71, "0": 3}}), 71),
    ] {
        let (books, group) = (Arc::new(Books::default()), fresh("group"));
        let settings = config(&kafka.brokers(), &topic, json!({"start": start, "group": group}));
        let mut worker = Worker::new(settings, &topic, &books).await;
        let delivery = if first == 100 { Some(worker.delivery().await) } else { None };
        if let Some(delivery) = &delivery {
            assert_eq!(delivery.messages, 0);
            let taken = decode(delivery);
            assert_eq!((taken.deltas[0].from.clone(), taken.deltas[0].to.clone()), (None, Position::from_count(100)));
            assert!(books.journal(&taken.deltas, Vec::new()));
        }
        worker.catch_up().await;
        assert_eq!(books.values(), numbers(first..100), "{start}");
        worker.close().await;
        // From here on the journal counts.
        let mut worker =
            Worker::new(config(&kafka.brokers(), &topic, json!({"start": "latest", "group": group})), &topic, &books).await;
        worker.catch_up().await;
        assert_eq!((books.len() as i64, books.refused()), (100 - first, 0), "{start}");
        worker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_beyond_the_end_is_an_error_that_says_the_end() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("beyond-start");
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.produce(&topic, records(0..5)).await;
    let settings = config(&kafka.brokers(), &topic, json!({"start": {"offsets": {"0": 6}}}));
    let error = Worker::new(settings, &topic, &Arc::new(Books::default())).await.error().await;
    assert_eq!(error.code(), "kafka_start_beyond_end");
    assert!(error.to_string().contains("it ends at 5"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_has_removed_is_told_and_reading_goes_on_behind_it() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("retention");
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.produce(&topic, records(0..100)).await;
    let books = Arc::new(Books::default());
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, json!({})), &topic, &books).await;
    let taken = decode(&worker.delivery().await);
    assert!(books.journal(&taken.deltas, taken.rows));
    let landed = books.len() as i64;
    worker.close().await;
    kafka.produce(&topic, records(100..200)).await;
    kafka.delete_records(&topic, 0, 150).await;
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, json!({})), &topic, &books).await;
    worker.catch_up().await;
    assert_eq!(worker.told.count(&format!("{} offsets of {topic}/0 are gone", 150 - landed)), 1, "{:?}", worker.told.all());
    assert_eq!(books.offsets(), (0..landed).chain(150..200).collect::<Vec<_>>());
    assert_eq!(books.refused(), 0, "the deltas join");
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_removes_while_nobody_reads_it_is_told_by_who_is_reading() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("retention-now");
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.produce(&topic, records(0..10)).await;
    let books = Arc::new(Books::default());
    let small =
        json!({"options": {"queued.min.messages": "1", "fetch.message.max.bytes": "2000", "queued.max.messages.kbytes": "1"}});
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, small), &topic, &books).await;
    worker.catch_up().await;
    // Deliveries of a MiB wait untaken, so that the rest stays with the broker.
    let large = "x".repeat(100_000);
    kafka.produce(&topic, (0..200).map(|_| record(&large).partition(0))).await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    kafka.delete_records(&topic, 0, 200).await;
    worker.catch_up().await;
    assert_eq!(worker.told.count("offsets of"), 1, "{:?}", worker.told.all());
    let offsets = books.offsets();
    assert!(offsets.len() < 200 && offsets.ends_with(&(200..210).collect::<Vec<_>>()), "{offsets:?}");
    assert_eq!(books.refused(), 0, "the deltas join");
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_beyond_the_end_of_the_same_topic_is_an_error_and_nothing_is_read() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("beyond");
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.produce(&topic, records(0..10)).await;
    let books = Arc::new(Books::default());
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, json!({})), &topic, &books).await;
    worker.catch_up().await;
    worker.close().await;
    let partition = Partition(books.positions()[0].0.clone());
    let ahead = Delta { partition, from: Some(Position::from_count(10)), to: Position::from_count(50) };
    assert!(books.journal(&[ahead], Vec::new()));
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, json!({})), &topic, &books).await;
    let error = worker.error().await;
    assert_eq!((error.code(), error.retry()), ("kafka_position_beyond_end", longshore_core::error::Retry::AfterFix));
    assert!(error.to_string().contains("up to offset 50") && error.to_string().contains("up to 10 only"), "{error}");
    assert_eq!(books.len(), 10);
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rewinding_hands_out_once_more_what_is_not_journalled() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("rewind");
    kafka.create_topic(&topic, 3, &[]).await;
    kafka.produce(&topic, (0..900).map(|n: i32| record(n).partition(n % 3))).await;
    let books = Arc::new(Books::default());
    let mut worker =
        Worker::new(config(&kafka.brokers(), &topic, json!({"start": {"offsets": {"0": 10}}})), &topic, &books).await;
    // Some of what is handed out is journalled, the rest thrown away.
    for round in 0..6 {
        let taken = decode(&worker.delivery().await);
        if round % 2 == 0 {
            assert!(books.journal(&taken.deltas, taken.rows));
        }
        kafka.produce(&topic, (0..300).map(|n: i32| record(n).partition(n % 3))).await;
        worker.subscription.rewind().await.expect("rewinds");
    }
    worker.until(2690).await;
    worker.catch_up().await;
    assert_eq!((books.len(), books.refused()), (2690, 0));
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chosen_start_stays_when_it_is_read_again_before_it_was_journalled() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("chosen");
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.produce(&topic, records(0..10)).await;
    let books = Arc::new(Books::default());
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, json!({"start": "latest"})), &topic, &books).await;
    let announced = decode(&worker.delivery().await);
    assert_eq!(announced.deltas[0].to, Position::from_count(10));
    kafka.produce(&topic, records(10..20)).await;
    let lost = worker.delivery().await;
    assert_eq!(lost.messages, 10);
    worker.subscription.rewind().await.expect("rewinds");
    worker.until(10).await;
    assert_eq!(books.values(), numbers(10..20));
    worker.close().await;
}
