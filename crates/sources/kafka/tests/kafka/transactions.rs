//! Transactions and compaction: offsets without records.

use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore_core::position::{Delta, Partition, Position};
use longshore_testkit::services::kafka::Record;
use longshore_testkit::services::{Kafka, KafkaOptions};
use serde_json::json;

use crate::support::{Books, Worker, config, fresh, record};

#[tokio::test(flavor = "multi_thread")]
async fn records_of_aborted_transactions_are_left_out_and_the_end_is_told_behind_their_markers() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("transactions");
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.produce_transaction(&topic, (0..10).map(record), true).await;
    kafka.produce_transaction(&topic, (10..20).map(record), false).await;
    for (isolation, expected) in [("read_committed", 10), ("read_uncommitted", 20)] {
        let books = Arc::new(Books::default());
        let more = json!({"isolation": isolation, "group": fresh("group")});
        let mut worker = Worker::new(config(&kafka.brokers(), &topic, more), &topic, &books).await;
        worker.catch_up().await;
        assert_eq!(books.len(), expected, "{isolation}");
        // Ten records, a marker, ten records, a marker.
        while books.positions()[0].1 < 22 {
            worker.step().await.expect("goes on");
        }
        worker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_is_waited_for_and_the_end_is_told_before_it() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("open");
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.produce(&topic, (0..5).map(record)).await;
    let transaction = kafka.transaction().await;
    transaction.produce(&topic, (5..10).map(record)).await;
    kafka.produce(&topic, (10..15).map(record)).await;
    let books = Arc::new(Books::default());
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, json!({})), &topic, &books).await;
    worker.catch_up().await;
    assert_eq!(books.len(), 5, "what comes behind it waits as well");
    transaction.commit().await;
    worker.until(15).await;
    worker.catch_up().await;
    assert_eq!((books.len(), books.refused()), (15, 0));
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_offsets_without_a_record_are_covered_though_nothing_lands() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("aborted");
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.produce_transaction(&topic, (0..12_000).map(record), false).await;
    let books = Arc::new(Books::default());
    let mut worker = Worker::new(config(&kafka.brokers(), &topic, json!({})), &topic, &books).await;
    worker.catch_up().await;
    assert_eq!((books.len(), books.positions()[0].1), (0, 12_001));
    worker.close().await;
}

/// Reads on from an offset that compaction has removed, which is no loss; `all` has what is there.
async fn goes_on_at_an_offset_that_is_gone(kafka: &Kafka, topic: &str, all: &Books) {
    let books = Arc::new(Books::default());
    let (partition, position) = all.positions().remove(0);
    let before = Delta { partition: Partition(partition), from: None, to: Position::from_count(50) };
    assert!(books.journal(&[before], Vec::new()));
    let more = json!({"group": fresh("group")});
    let mut worker = Worker::new(config(&kafka.brokers(), topic, more), topic, &books).await;
    worker.catch_up().await;
    // More may have been removed meanwhile.
    let (offsets, there) = (books.offsets(), all.offsets());
    assert!(offsets.iter().all(|offset| there.contains(offset)) && offsets.last() == there.last(), "{offsets:?} {there:?}");
    assert_eq!((books.positions()[0].1, books.refused(), worker.told.count("are gone")), (position, 0, 0));
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_compaction_has_removed_are_not_missed() {
    let config_ = vec![("log.cleaner.backoff.ms".to_owned(), "200".to_owned())];
    let Some(kafka) = Kafka::start_with(KafkaOptions { config: config_, ..KafkaOptions::default() }).await else { return };
    let topic = fresh("compacted");
    let compact = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "500"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("max.compaction.lag.ms", "1000"),
    ];
    kafka.create_topic(&topic, 1, &compact).await;
    let keyed = |n: i32| Record { key: Some(format!("{}", n % 3).into_bytes()), ..record(n) };
    kafka.produce(&topic, (0..300).map(keyed)).await;
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        // The last segment is never compacted.
        tokio::time::sleep(Duration::from_millis(700)).await;
        kafka.produce(&topic, [keyed(999)]).await;
        let books = Arc::new(Books::default());
        let more = json!({"group": fresh("group")});
        let mut worker = Worker::new(config(&kafka.brokers(), &topic, more), &topic, &books).await;
        worker.catch_up().await;
        let (_, end) = kafka.watermarks(&topic, 0).await;
        assert_eq!((books.positions()[0].1, worker.told.count("are gone")), (end, 0));
        worker.close().await;
        if books.len() < 100 {
            assert!(books.offsets().first() > Some(&200), "{:?}", books.offsets());
            goes_on_at_an_offset_that_is_gone(&kafka, &topic, &books).await;
            break;
        }
        assert!(Instant::now() < until, "nothing was compacted in a minute");
    }
}
