//! Against Google's own fake, which delivers in single messages and ends leases by a clock that can be set.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_core::stream::Arrival;
use longshore_core::stream::StreamSource as _;
use longshore_testkit::services::{PubSub, PubSubMessage};
use serde_json::{Value, json};

use crate::harness::{Read, Stage, Worker, ids, numbers, sorted, source, until};

/// A topic with a subscription of the same name, and a worker that reads it.
struct Real {
    server: PubSub,
    /// For its journal and context; its own server is not used.
    stage: Stage,
}

impl Real {
    async fn start(options: Value) -> Option<Self> {
        let server = PubSub::start().await?;
        server.create_topic("orders").await;
        server.create_subscription("orders", "orders", options).await;
        Some(Self { server, stage: Stage::new(longshore_fakes::pubsub::Options::default()).await })
    }

    async fn worker(&self, more: Value) -> Worker {
        let endpoint = format!("http://{}", self.server.endpoint());
        let settings = json!({"subscription": "orders", "project": "test", "endpoint": endpoint, "idle_after": "300ms"});
        Worker::of(&source(settings, more), &self.stage.context(), &self.stage.journal).await
    }

    async fn publish(&self, numbers: std::ops::Range<usize>, key: impl Fn(usize) -> String) -> Vec<String> {
        let message = |number: usize| {
            let message = PubSubMessage::new(format!("{{\"id\": {number}}}")).attribute("destination_table", "orders");
            message.ordering_key(&key(number))
        };
        self.server.publish("orders", &numbers.map(message).collect::<Vec<_>>()).await
    }

    /// How often each message was handed out, and acknowledged.
    async fn fates(&self) -> Vec<(u64, u64)> {
        self.server.fates().await.iter().map(|fate| (fate.deliveries, fate.acks)).collect()
    }

    /// Waits until every message was acknowledged once, after so many deliveries.
    async fn acknowledged(&self, deliveries: u64) {
        let mut fates = Vec::new();
        for _ in 0..400 {
            fates = self.fates().await;
            if fates.iter().all(|fate| *fate == (deliveries, 1)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{fates:?}");
    }
}

fn no_key(_: usize) -> String {
    String::new()
}

#[tokio::test]
async fn messages_land_and_are_acknowledged_after_their_commit() {
    let Some(real) = Real::start(json!({})).await else { return };
    real.publish(0..40, no_key).await;
    let mut worker = real.worker(json!({})).await;
    let read = worker.caught_up().await;
    assert_eq!(sorted(read.orders.clone()), numbers(0..40));
    assert!(real.fates().await.iter().all(|fate| *fate == (1, 0)));
    assert!(worker.commit(&read).await);
    real.acknowledged(1).await;
    worker.subscription.close().await.expect("leaves");
}

#[tokio::test]
async fn a_lease_that_ends_brings_messages_again_and_the_last_delivery_is_acknowledged() {
    let Some(real) = Real::start(json!({})).await else { return };
    real.publish(0..20, no_key).await;
    let mut worker = real.worker(json!({"ack_deadline": "10s"})).await;
    let read = worker.read(20).await;
    real.server.clock_ahead(Duration::from_secs(20)).await;
    real.server.clock_ahead(Duration::ZERO).await;
    let mut again = Vec::new();
    for _ in 0..40 {
        worker.nothing().await;
        again = real.fates().await;
        if again.iter().all(|fate| *fate == (2, 0)) {
            break;
        }
    }
    assert!(again.iter().all(|fate| *fate == (2, 0)), "{again:?}");
    assert!(worker.commit(&read).await);
    // It takes no ack id but the last.
    real.acknowledged(2).await;
}

#[tokio::test]
async fn leases_are_kept_over_their_end() {
    let Some(real) = Real::start(json!({})).await else { return };
    real.publish(0..20, no_key).await;
    let mut worker = real.worker(json!({"ack_deadline": "10s"})).await;
    let read = worker.read(20).await;
    tokio::time::sleep(Duration::from_secs(13)).await;
    let fates = real.server.fates().await;
    assert!(fates.iter().all(|fate| fate.deliveries == 1 && fate.deadlines.contains(&10)), "{fates:?}");
    assert!(worker.commit(&read).await);
}

#[tokio::test]
async fn a_rewind_and_a_leave_give_messages_back_at_once() {
    let Some(real) = Real::start(json!({})).await else { return };
    real.publish(0..20, no_key).await;
    let mut worker = real.worker(json!({})).await;
    worker.read(20).await;
    worker.subscription.rewind().await.expect("rewinds");
    let again = worker.read(20).await;
    assert_eq!(sorted(again.orders), numbers(0..20));
    worker.subscription.close().await.expect("leaves");
    let mut other = real.worker(json!({})).await;
    let read = other.read(20).await;
    assert!(other.commit(&read).await);
    real.acknowledged(3).await;
    assert!(real.server.fates().await.iter().all(|fate| fate.deadlines.contains(&0)));
}

#[tokio::test]
async fn messages_of_a_key_land_in_order_with_a_rewind_among_them() {
    let Some(real) = Real::start(json!({"enableMessageOrdering": true})).await else { return };
    // It lends one message of a key at a time.
    real.publish(0..30, |number| format!("key{}", number % 10)).await;
    let mut worker = real.worker(json!({"streams": 2})).await;
    let mut landed = Vec::new();
    let mut rewound = false;
    while landed.len() < 30 {
        let Arrival::Delivery(delivery) = worker.next().await.expect("reads") else { continue };
        let mut read = Read::default();
        read.add(&delivery);
        if landed.len() >= 10 && !rewound {
            rewound = true;
            worker.subscription.rewind().await.expect("rewinds");
            continue;
        }
        assert!(worker.commit(&read).await);
        landed.extend(read.orders);
    }
    let mut keys: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    landed.iter().for_each(|order| keys.entry(order % 10).or_default().push(*order));
    assert!(rewound && keys.values().all(|orders| orders.is_sorted() && orders.len() == 3), "{keys:?}");
}

#[tokio::test]
async fn an_exactly_once_subscription_confirms() {
    let Some(real) = Real::start(json!({"enableExactlyOnceDelivery": true})).await else { return };
    let published = real.publish(0..20, no_key).await;
    let mut worker = real.worker(json!({})).await;
    let read = worker.caught_up().await;
    let mut came = ids(&read.covers);
    came.sort();
    let mut published = published;
    published.sort();
    assert_eq!(came, published);
    assert!(worker.commit(&read).await);
    real.acknowledged(1).await;
}

#[tokio::test]
async fn streams_that_end_every_second_lose_nothing() {
    let Some(real) = Real::start(json!({})).await else { return };
    real.server.streams_end_after(Duration::from_secs(1)).await;
    let mut worker = real.worker(json!({"streams": 1, "ack_deadline": "10s"})).await;
    let mut read = Read::default();
    for round in 0..4 {
        real.publish(round * 20..(round + 1) * 20, no_key).await;
        let some = worker.caught_up().await;
        read.covers.extend(some.covers);
        read.orders.extend(some.orders);
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    while read.orders.len() < 80 {
        read.add(&worker.delivery().await);
    }
    assert_eq!(sorted(read.orders.clone()), numbers(0..80));
    assert!(worker.commit(&read).await);
    assert_eq!(real.stage.told(), [""; 0]);
}

#[tokio::test]
async fn a_server_that_dies_is_waited_for() {
    let Some(real) = Real::start(json!({})).await else { return };
    let mut worker = real.worker(json!({})).await;
    worker.caught_up().await;
    real.server.kill().await;
    assert!(tokio::time::timeout(Duration::from_secs(5), worker.subscription.next()).await.is_err());
    until(|| real.stage.told().len() == 1, || format!("{:?}", real.stage.told())).await;
}

#[tokio::test]
async fn a_look_and_a_missing_subscription() {
    let Some(real) = Real::start(json!({"enableMessageOrdering": true})).await else { return };
    let endpoint = format!("http://{}", real.server.endpoint());
    let named = |name: &str| source(json!({"subscription": PubSub::subscription(name), "endpoint": endpoint}), json!({}));
    let cx = real.stage.context();
    let lines = named("orders").inspect(&cx).await.expect("looks").join("\n");
    assert!(lines.contains(&PubSub::topic("orders")) && lines.contains("in order"), "{lines}");
    let error = named("nowhere").subscribe(&cx, real.stage.journal.clone()).await.err().expect("refused");
    assert_eq!(error.code(), "pubsub_missing");
}
