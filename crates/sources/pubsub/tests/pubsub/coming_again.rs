//! Messages that come more than once: after a lease that ended, a crash, a rewind.

use std::sync::atomic::Ordering;
use std::time::Duration;

use longshore_core::error::Retry;
use longshore_core::stream::Arrival;
use longshore_fakes::pubsub::{Fault, Options, Rule};
use serde_json::json;

use crate::harness::{NAME, Stage, numbers, sorted, until};

#[tokio::test]
async fn what_comes_again_while_we_have_it_is_not_handed_out_twice_and_acknowledged_by_its_last_delivery() {
    let stage = Stage::new(Options { exactly_once: true, ..Options::default() }).await;
    stage.publish(0..50);
    let mut worker = stage.worker().await;
    let read = worker.read(50).await;
    stage.fake.expire(NAME);
    until(|| stage.fake.sent(NAME) == 100, || stage.fake.sent(NAME).to_string()).await;
    worker.nothing().await;
    assert_eq!(worker.subscription.lag()[0].messages, Some(50));
    // The old ack ids would be refused.
    assert!(worker.commit(&read).await);
    stage.acknowledged(50).await;
}

#[tokio::test]
async fn case_20_what_was_committed_and_not_acknowledged_is_acknowledged_when_it_comes_again() {
    let stage = Stage::with(30).await;
    let mut before = stage.worker().await;
    let read = before.read(30).await;
    assert!(stage.journal.journal(&read.ids()));
    stage.journal.complete(&read.ids());
    // A crash before the acknowledgement.
    stage.dies(before).await;
    stage.fake.expire(NAME);
    let mut after = stage.worker_with(json!({"idle_after": "200ms"})).await;
    assert!(after.caught_up().await.orders.is_empty());
    stage.acknowledged(30).await;
}

#[tokio::test]
async fn what_is_journalled_elsewhere_is_held_until_its_commit_is_complete() {
    let stage = Stage::with(30).await;
    let mut before = stage.worker().await;
    let read = before.read(30).await;
    assert!(stage.journal.journal(&read.ids()[..20]));
    stage.dies(before).await;
    stage.fake.expire(NAME);
    let mut after = stage.worker_with(json!({"idle_after": "100ms"})).await;
    let rest = after.read(10).await;
    assert!(rest.ids().iter().all(|id| read.ids()[20..].contains(id)));
    // Held: neither the end nor anything else, and its lease is ours.
    assert!(tokio::time::timeout(Duration::from_millis(1500), after.subscription.next()).await.is_err());
    assert_eq!((stage.fake.acknowledged_count(NAME), stage.fake.outstanding(NAME)), (0, 30));
    stage.journal.complete(&read.ids()[..20]);
    assert!(matches!(after.next().await, Ok(Arrival::CaughtUp)));
    stage.acknowledged(20).await;
    assert!(after.commit(&rest).await);
    stage.acknowledged(30).await;
}

#[tokio::test]
async fn what_is_held_and_then_journalled_by_nobody_comes_again() {
    let stage = Stage::new(Options::default()).await;
    let id = stage.publish([0]).remove(0);
    assert!(stage.journal.journal(std::slice::from_ref(&id)));
    let mut worker = stage.worker().await;
    worker.nothing().await;
    stage.journal.forget(&id);
    let read = worker.read(1).await;
    assert_eq!(read.ids(), [id]);
    assert!(worker.commit(&read).await);
    stage.acknowledged(1).await;
}

#[tokio::test]
async fn a_rewind_hands_out_again_what_was_not_journalled_and_nothing_else() {
    let stage = Stage::with(60).await;
    let mut worker = stage.worker().await;
    let mut read = crate::harness::Read::default();
    while read.orders.len() < 60 {
        read.add(&worker.delivery().await);
    }
    let journalled = longshore_core::position::Covers::Ids { scope: format!("pubsub:{NAME}"), ids: read.ids()[..25].to_vec() };
    assert!(stage.journal.journal(&read.ids()[..25]));
    worker.subscription.journalled(std::slice::from_ref(&journalled));
    worker.subscription.rewind().await.expect("rewinds");
    let again = worker.read(35).await;
    assert_eq!(sorted(again.orders.clone()), sorted(read.orders[25..].to_vec()));
    worker.nothing().await;
    assert!(worker.commit(&again).await);
    worker.subscription.acknowledge(&[journalled]).await.expect("acknowledges");
    stage.acknowledged(60).await;
}

#[tokio::test]
async fn a_journal_that_is_away_for_a_while_is_an_error_after_which_a_rewind_goes_on() {
    let stage = Stage::with(40).await;
    let mut worker = stage.worker_with(json!({"idle_after": "200ms"})).await;
    stage.journal.failing.store(1, Ordering::Relaxed);
    let error = worker.next().await.err().expect("the journal was away");
    assert_eq!((error.message(), error.retry()), ("the store is away", Retry::Backoff));
    worker.subscription.rewind().await.expect("rewinds");
    let read = worker.read(40).await;
    // Others are held, and the journal is away when it is asked about them again.
    assert!(stage.journal.journal(&read.ids()[..20]));
    worker.subscription.rewind().await.expect("rewinds");
    let rest = worker.read(20).await;
    stage.journal.failing.store(1, Ordering::Relaxed);
    assert_eq!(worker.next().await.err().expect("the journal was away").message(), "the store is away");
    stage.journal.complete(&read.ids()[..20]);
    worker.subscription.rewind().await.expect("rewinds");
    let again = worker.read(20).await;
    assert_eq!(sorted(again.orders.clone()), sorted(rest.orders));
    assert!(worker.commit(&again).await);
    assert!(worker.caught_up().await.orders.is_empty());
    stage.acknowledged(40).await;
}

#[tokio::test]
async fn a_rewind_while_messages_stream_in_loses_and_doubles_nothing() {
    let stage = Stage::with(3_000).await;
    let mut worker = stage.worker_with(json!({"idle_after": "300ms"})).await;
    let mut landed = Vec::new();
    for round in 0..4 {
        let delivery = worker.delivery().await;
        let mut read = crate::harness::Read::default();
        read.add(&delivery);
        if round % 2 == 0 {
            worker.subscription.rewind().await.expect("rewinds");
        } else {
            assert!(worker.commit(&read).await);
            landed.extend(read.orders);
        }
    }
    let rest = worker.caught_up().await;
    assert!(worker.commit(&rest).await);
    landed.extend(rest.orders);
    assert_eq!(sorted(landed), numbers(0..3_000));
    stage.acknowledged(3_000).await;
}

#[tokio::test]
async fn case_19_a_lease_that_ends_in_a_long_stage_lets_somebody_else_journal_and_us_start_anew() {
    let stage = Stage::with(40).await;
    let mut paused = stage.worker_with(json!({"idle_after": "200ms"})).await;
    let stale = paused.read(40).await;
    // The first one stands still: its streams too.
    let mut other = stage.worker_with(json!({"idle_after": "200ms"})).await;
    stage.fake.break_streams();
    let mut taken = crate::harness::Read::default();
    for _ in 0..50 {
        stage.fake.expire(NAME);
        while let Ok(Ok(Arrival::Delivery(delivery))) =
            tokio::time::timeout(Duration::from_millis(100), other.subscription.next()).await
        {
            taken.add(&delivery);
        }
        if taken.orders.len() == 40 {
            break;
        }
    }
    assert_eq!(sorted(taken.orders.clone()), numbers(0..40));
    assert!(other.commit(&taken).await);
    assert!(!paused.commit(&stale).await, "the ids are taken");
    paused.subscription.rewind().await.expect("rewinds");
    assert!(paused.caught_up().await.orders.is_empty());
    stage.acknowledged(40).await;
    assert_eq!(stage.journal.len(), 40);
}

#[tokio::test]
async fn two_workers_share_a_subscription_while_leases_end_and_nothing_lands_twice() {
    let stage = Stage::with(2_000).await;
    let mut workers = vec![stage.worker().await, stage.worker().await];
    let mut landed: Vec<i64> = Vec::new();
    let mut round = 0;
    while landed.len() < 2_000 {
        round += 1;
        assert!(round < 500, "{}", landed.len());
        for worker in &mut workers {
            let Ok(Ok(Arrival::Delivery(delivery))) =
                tokio::time::timeout(Duration::from_millis(100), worker.subscription.next()).await
            else {
                continue;
            };
            let mut read = crate::harness::Read::default();
            read.add(&delivery);
            if round % 3 == 0 {
                stage.fake.expire(NAME);
            }
            match worker.commit(&read).await {
                true => landed.extend(read.orders),
                false => worker.subscription.rewind().await.expect("rewinds"),
            }
        }
    }
    assert_eq!(sorted(landed), numbers(0..2_000));
    let idle = async |worker: &mut crate::harness::Worker| worker.nothing().await;
    for worker in &mut workers {
        idle(worker).await;
    }
    stage.acknowledged(2_000).await;
}

#[tokio::test]
async fn a_rewind_whose_answer_is_lost_gives_back_all_the_same() {
    let stage = Stage::with(10).await;
    let mut worker = stage.worker().await;
    worker.read(10).await;
    stage.fake.rule(Rule::on("ModifyAckDeadline", Fault::LoseAnswer));
    worker.subscription.rewind().await.expect("rewinds");
    assert_eq!(worker.read(10).await.orders.len(), 10);
}
