//! Messages with ordering keys.

use std::collections::BTreeMap;

use longshore_fakes::pubsub::{Fault, Options, Rule};
use serde_json::json;

use crate::harness::{NAME, Read, Stage, order};

const KEYS: usize = 5;

fn ordered() -> Options {
    Options { ordered: true, exactly_once: true, ..Options::default() }
}

async fn stage(count: usize) -> Stage {
    let stage = Stage::new(ordered()).await;
    for number in 0..count {
        stage.fake.publish(NAME, order(number, &format!("key{}", number % KEYS)));
    }
    stage
}

/// Asserts that the orders of each key came in order, all of them.
fn in_order(orders: &[i64], count: usize) {
    let mut keys: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    orders.iter().for_each(|order| keys.entry(order % KEYS as i64).or_default().push(*order));
    for (key, orders) in keys {
        let expected: Vec<i64> = (0..count as i64).filter(|order| order % KEYS as i64 == key).collect();
        assert_eq!(orders, expected);
    }
}

#[tokio::test]
async fn the_messages_of_a_key_come_in_order_over_several_streams() {
    let stage = stage(2_000).await;
    let mut worker = stage.worker_with(json!({"streams": 3})).await;
    let read = worker.read(2_000).await;
    in_order(&read.orders, 2_000);
    assert!(worker.commit(&read).await);
    stage.acknowledged(2_000).await;
}

#[tokio::test]
async fn a_rewind_brings_the_messages_of_a_key_back_in_order_also_those_that_were_on_their_way() {
    let stage = stage(5_000).await;
    let mut worker = stage.worker_with(json!({"idle_after": "300ms", "streams": 2})).await;
    let mut landed = Vec::new();
    for round in 0..6 {
        let mut read = Read::default();
        read.add(&worker.delivery().await);
        if round % 2 == 1 {
            worker.subscription.rewind().await.expect("rewinds");
            continue;
        }
        assert!(worker.commit(&read).await);
        landed.extend(read.orders);
    }
    let rest = worker.caught_up().await;
    assert!(worker.commit(&rest).await);
    landed.extend(rest.orders);
    in_order(&landed, 5_000);
    assert_eq!(landed.len(), 5_000);
}

#[tokio::test]
async fn leases_that_end_bring_keys_again_and_nothing_is_handed_out_twice_or_out_of_order() {
    let stage = stage(1_000).await;
    let mut worker = stage.worker_with(json!({"idle_after": "300ms"})).await;
    let mut read = Read::default();
    read.add(&worker.delivery().await);
    stage.fake.expire(NAME);
    let rest = worker.caught_up().await;
    read.covers.extend(rest.covers);
    read.orders.extend(rest.orders);
    in_order(&read.orders, 1_000);
    assert!(worker.commit(&read).await);
    stage.acknowledged(1_000).await;
}

#[tokio::test]
async fn acknowledgements_of_ordered_messages_are_sent_in_order() {
    let stage = stage(3_500).await;
    stage.fake.rule(Rule::on("Acknowledge", Fault::Each("TRANSIENT_FAILURE_UNORDERED_ACK_ID")));
    let mut worker = stage.worker_with(json!({"streams": 1})).await;
    let read = worker.read(3_500).await;
    assert!(worker.commit(&read).await);
    stage.acknowledged(3_500).await;
    let acknowledged = stage.fake.acknowledged(NAME);
    // The first request was refused and comes last; the others keep their order among themselves.
    assert!(acknowledged[..2_500].is_sorted() && acknowledged[2_500..].is_sorted());
}
