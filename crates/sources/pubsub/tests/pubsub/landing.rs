//! Messages as they come.

use std::time::Duration;

use arrow::array::{Array, AsArray};
use longshore_core::schema::{Field, Type};
use longshore_core::stream::Arrival;
use longshore_fakes::pubsub::{Generated, Options};
use serde_json::json;

use crate::harness::{NAME, Stage, Worker, decoded, numbers, order, sorted, source};

#[tokio::test]
async fn messages_are_handed_out_with_content_attributes_and_coordinates() {
    let stage = Stage::new(Options::default()).await;
    let id = stage.fake.publish(NAME, order(7, "key"));
    let columns = json!({"columns": ["message_id", "ordering_key", "time", "subscription"]});
    let delivery = stage.worker_with(columns).await.delivery().await;
    assert_eq!(delivery.messages, 1);
    assert_eq!(delivery.bytes, (order(7, "").data.len() + "destination_table".len() + "orders".len()) as u64);
    let age = chrono::Utc::now() - delivery.oldest.expect("a time");
    assert!(age.num_seconds().abs() < 20, "{age}");
    let text = |name: &str| Field::new(name, Type::String);
    let columns = vec![text("_message_id"), text("_ordering_key"), text("_subscription"), Field::new("_time", Type::Timestamp)];
    let rows = decoded(&delivery, [columns, vec![Field::new("id", Type::Int64)]].concat());
    let texts: Vec<_> = (0..3).map(|column| rows.column(column).as_string::<i32>().value(0).to_owned()).collect();
    assert_eq!(texts, [id.as_str(), "key", NAME]);
    assert_eq!(rows.column(3).null_count(), 0);
}

#[tokio::test]
async fn a_subscription_is_found_by_its_short_name_too() {
    let stage = Stage::with(3).await;
    let settings = json!({"subscription": "orders", "project": "test", "endpoint": stage.fake.endpoint()});
    let mut worker = Worker::of(&source(settings, json!({})), &stage.context(), &stage.journal).await;
    assert_eq!(sorted(worker.read(3).await.orders), numbers(0..3));
}

#[tokio::test]
async fn deliveries_hold_up_to_a_thousand_messages_and_a_mebibyte() {
    let stage = Stage::new(Options::default()).await;
    stage.fake.generate(NAME, Generated { messages: 5_000, tables: 1, bytes: 100, per_second: None });
    stage.publish(0..0);
    let mut worker = stage.worker_with(json!({"route": {"table": "orders"}})).await;
    let (mut messages, mut largest) = (0, 0);
    while messages < 5_000 {
        let Arrival::Delivery(delivery) = worker.next().await.expect("reads") else { panic!("messages were left") };
        assert!(delivery.messages <= 1_000);
        (messages, largest) = (messages + delivery.messages, largest.max(delivery.messages));
    }
    assert_eq!((messages, largest), (5_000, 1_000));
    let stage = Stage::new(Options::default()).await;
    stage.fake.generate(NAME, Generated { messages: 50, tables: 1, bytes: 300 << 10, per_second: None });
    let mut worker = stage.worker().await;
    let mut messages = 0;
    while messages < 50 {
        let delivery = worker.delivery().await;
        assert!(delivery.messages <= 3, "{}", delivery.messages);
        messages += delivery.messages;
    }
}

#[tokio::test]
async fn a_message_larger_than_all_buffers_passes_alone() {
    let mut stage = Stage::new(Options::default()).await;
    stage.memory = 8 << 20;
    stage.fake.generate(NAME, Generated { messages: 3, tables: 1, bytes: 9 << 20, per_second: None });
    let mut worker = stage.worker().await;
    for _ in 0..3 {
        let delivery = worker.delivery().await;
        assert_eq!(delivery.messages, 1);
        assert!(delivery.bytes > 9 << 20);
    }
}

#[tokio::test]
async fn what_nobody_takes_is_not_read_without_end() {
    let mut stage = Stage::new(Options::default()).await;
    stage.memory = 8 << 20;
    stage.fake.generate(NAME, Generated { messages: 1_000_000, tables: 1, bytes: 10_000, per_second: None });
    let worker = stage.worker().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let lag = worker.subscription.lag();
    // A mebibyte of buffer, an answer of each stream beside it.
    assert!(lag[0].messages.is_some_and(|messages| (50..400).contains(&messages)), "{lag:?}");
}

#[tokio::test]
async fn a_call_that_is_dropped_loses_nothing() {
    let stage = Stage::with(200).await;
    let mut worker = stage.worker().await;
    *stage.journal.slow.lock().expect("no panic") = Duration::from_millis(40);
    let mut read = crate::harness::Read::default();
    let mut dropped = 0;
    while read.orders.len() < 200 {
        // Mostly too short for what it waits for, at every place in turn.
        let wait = Duration::from_millis(1 + (dropped * 7) % 150);
        match tokio::time::timeout(wait, worker.subscription.next()).await {
            Ok(Ok(Arrival::Delivery(delivery))) => read.add(&delivery),
            Ok(other) => drop(other.expect("reads")),
            Err(_) => dropped += 1,
        }
        assert!(dropped < 2_000);
    }
    assert!(dropped > 0);
    assert_eq!(sorted(read.orders.clone()), numbers(0..200));
    assert!(worker.commit(&read).await);
    stage.acknowledged(200).await;
}

#[tokio::test]
async fn the_end_is_told_once_and_again_when_there_was_more() {
    let stage = Stage::with(5).await;
    let mut worker = stage.worker_with(json!({"idle_after": "300ms"})).await;
    let read = worker.caught_up().await;
    assert_eq!(read.orders.len(), 5);
    worker.nothing().await;
    stage.publish(5..7);
    let more = worker.caught_up().await;
    assert_eq!(more.orders.len(), 2);
    // What is acknowledged makes room for more.
    assert!(worker.commit(&read).await && worker.commit(&more).await);
    assert!(matches!(worker.next().await, Ok(Arrival::CaughtUp)));
}

#[tokio::test]
async fn the_end_is_not_told_while_the_allowance_is_used_up() {
    let stage = Stage::with(30).await;
    let mut worker = stage.worker_with(json!({"idle_after": "100ms", "streams": 1, "max_outstanding": {"messages": 10}})).await;
    let mut all = Vec::new();
    for _ in 0..3 {
        let read = worker.read(10).await;
        assert!(tokio::time::timeout(Duration::from_millis(500), worker.subscription.next()).await.is_err(), "more is there");
        assert_eq!(stage.fake.outstanding(NAME), 10);
        assert!(worker.commit(&read).await);
        all.extend(read.orders);
    }
    assert!(matches!(worker.next().await, Ok(Arrival::CaughtUp)));
    assert_eq!(sorted(all), numbers(0..30));
}

#[tokio::test]
async fn the_allowance_in_bytes_is_kept_too() {
    let stage = Stage::new(Options::default()).await;
    stage.fake.generate(NAME, Generated { messages: 1_000, tables: 1, bytes: 1_000, per_second: None });
    let settings = json!({"streams": 2, "route": {"table": "orders"}, "max_outstanding": {"bytes": 100_000}});
    let mut worker = stage.worker_with(settings).await;
    let mut covers = Vec::new();
    while let Ok(Ok(Arrival::Delivery(delivery))) =
        tokio::time::timeout(Duration::from_millis(500), worker.subscription.next()).await
    {
        covers.extend(delivery.covers);
    }
    let outstanding = stage.fake.outstanding(NAME);
    assert!((80..=110).contains(&outstanding), "{outstanding}");
    worker.subscription.acknowledge(&covers).await.expect("acknowledges");
    assert!(worker.delivery().await.messages > 0, "room for more at once");
}
