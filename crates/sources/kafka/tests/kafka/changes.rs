//! The order of changes by key.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use longshore_core::batch::Rows;
use longshore_core::commit::Contract;
use longshore_core::position::Covers;
use longshore_core::schema::{Field, TableSchema, Type};
use longshore_core::source::Target;
use longshore_core::stream::{Arrival, Delivery, Tables};
use longshore_kafka::KafkaConfig;
use longshore_testkit::services::Kafka;
use longshore_testkit::services::kafka::Record;
use serde_json::json;

use crate::support::{Books, Worker, config, fresh};

/// Some time in 2023, in milliseconds.
const NOW: i64 = 1_700_000_000_000;

/// The order of each change, by partition and offset.
type Orders = BTreeMap<(i64, i64), String>;

fn orders(delivery: &Delivery) -> Orders {
    let columns = [("key", Type::String), ("n", Type::Int64), ("_topic_partition", Type::Int64), ("_offset", Type::Int64)];
    let schema = TableSchema::new(columns.into_iter().map(|(name, kind)| Field::new(name, kind)).collect());
    let known = [("all".to_owned(), Target { schema, contract: Contract::Freeze })].into();
    let decoded = delivery.decode.decode(&Tables { known, ..Tables::default() }).expect("decodes");
    let mut orders = Orders::new();
    for batch in decoded.batches {
        assert!(batch.rejects.is_empty(), "{:?}", batch.rejects);
        let Rows::Changes(changes) = batch.rows else { panic!("changes") };
        let number = |name: &str| changes.rows.column_by_name(name).expect("a column").as_primitive::<Int64Type>().clone();
        let places =
            number("_topic_partition").values().iter().copied().zip(number("_offset").values().to_vec()).collect::<Vec<_>>();
        orders.extend(places.into_iter().zip(changes.order));
    }
    orders
}

/// Reads until so many changes have landed in all.
async fn land(worker: &mut Worker, changes: usize, all: &mut Orders) {
    while all.len() < changes {
        let Arrival::Delivery(delivery) = worker.next().await.expect("goes on") else { continue };
        let [Covers::Deltas(deltas)] = delivery.covers.as_slice() else { panic!("one list of deltas") };
        assert!(worker.books.journal(deltas, Vec::new()), "refused");
        all.extend(orders(&delivery));
    }
}

fn settings(kafka: &Kafka, topic: &str) -> KafkaConfig {
    config(&kafka.brokers(), topic, json!({"changes": true, "columns": ["partition", "offset"]}))
}

/// A change of a key, some seconds after the others began.
fn change(key: &str, partition: i32, seconds: i64) -> Record {
    Record::new(json!({"n": seconds}).to_string()).key(key).partition(partition).time(NOW + seconds * 1000)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_moves_to_a_partition_that_was_added_keeps_the_order_of_its_changes() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("moves");
    kafka.create_topic(&topic, 2, &[]).await;
    kafka.produce(&topic, (0..50).map(|n| change("other", 0, n)).chain([change("a", 0, 50), change("b", 1, 50)])).await;
    let books = Arc::new(Books::default());
    let mut worker = Worker::new(settings(kafka, &topic), &topic, &books).await;
    let mut all = Orders::new();
    land(&mut worker, 52, &mut all).await;
    kafka.add_partitions(&topic, 4).await;
    // One goes to a new partition, the other to an old one whose offsets are lower.
    kafka.produce(&topic, [change("b", 3, 60), change("a", 1, 60), change("a", 1, 61)]).await;
    land(&mut worker, 55, &mut all).await;
    assert!(all[&(0, 50)] < all[&(1, 1)] && all[&(1, 1)] < all[&(1, 2)], "{all:?}");
    assert!(all[&(1, 0)] < all[&(3, 0)], "{all:?}");
    worker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn within_a_partition_the_offset_decides_whatever_the_times_are_and_whoever_reads_on() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("times");
    kafka.create_topic(&topic, 1, &[]).await;
    let books = Arc::new(Books::default());
    let mut all = Orders::new();
    for (round, seconds) in [[10, 5], [7, 12], [0, 3]].into_iter().enumerate() {
        kafka.produce(&topic, seconds.map(|seconds| change("k", 0, seconds))).await;
        let mut worker = Worker::new(settings(kafka, &topic), &topic, &books).await;
        // What is read twice has the same place both times.
        let first = orders(&worker.delivery().await);
        worker.subscription.rewind().await.expect("rewinds");
        land(&mut worker, round * 2 + 2, &mut all).await;
        assert!(first.iter().all(|(place, order)| all[place] == *order), "{first:?} {all:?}");
        worker.close().await;
    }
    assert!(all.values().is_sorted(), "{all:?}");
    let positions = books.checkpoint();
    assert_eq!(positions, [format!("{:020}@{}", 6, NOW + 12_000)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_again_has_later_changes_and_what_is_ahead_of_the_time_is_told() {
    let Some(kafka) = Kafka::shared().await else { return };
    let topic = fresh("again");
    kafka.create_topic(&topic, 1, &[]).await;
    kafka.produce(&topic, (0..5).map(|n| change("k", 0, n))).await;
    let books = Arc::new(Books::default());
    let mut worker = Worker::new(settings(kafka, &topic), &topic, &books).await;
    let mut before = Orders::new();
    land(&mut worker, 5, &mut before).await;
    worker.close().await;
    kafka.delete_topic(&topic).await;
    // Older brokers take any time.
    kafka.create_topic(&topic, 1, &[("message.timestamp.after.max.ms", "9223372036854775807")]).await;
    let ahead = chrono::Utc::now().timestamp_millis() / 1000 + 7200 - NOW / 1000;
    kafka.produce(&topic, [change("k", 0, 10), change("k", 0, ahead)]).await;
    let mut worker = Worker::new(settings(kafka, &topic), &topic, &books).await;
    let mut after = Orders::new();
    land(&mut worker, 2, &mut after).await;
    assert!(before[&(0, 4)] < after[&(0, 0)], "{before:?} {after:?}");
    worker.told.until("are taken for older ones").await;
    worker.close().await;
}
