//! What is acknowledged, and when.

use std::time::Duration;

use longshore_fakes::pubsub::{Fault, Options, Rule};
use serde_json::json;
use tonic::Code;

use crate::harness::{NAME, Stage, numbers, sorted, until};

fn exactly_once() -> Options {
    Options { exactly_once: true, ..Options::default() }
}

#[tokio::test]
async fn nothing_is_acknowledged_before_its_commit_is_complete() {
    let stage = Stage::with(100).await;
    let mut worker = stage.worker().await;
    let read = worker.read(100).await;
    assert_eq!(sorted(read.orders.clone()), numbers(0..100));
    assert!(stage.journal.journal(&read.ids()));
    worker.subscription.journalled(&read.covers);
    worker.nothing().await;
    assert_eq!((stage.fake.acknowledged_count(NAME), stage.fake.outstanding(NAME)), (0, 100));
    worker.subscription.acknowledge(&read.covers).await.expect("acknowledges");
    stage.acknowledged(100).await;
    assert_eq!(stage.fake.outstanding(NAME), 0);
    worker.subscription.acknowledge(&read.covers).await.expect("a second time changes nothing");
    assert_eq!(worker.subscription.lag()[0].messages, Some(0));
}

#[tokio::test]
async fn leases_are_kept_for_longer_than_a_lease_lasts_though_extensions_fail_now_and_then() {
    let stage = Stage::with(50).await;
    stage.fake.rule(Rule::on("ModifyAckDeadline", Fault::Refuse(Code::Unavailable, "later".into())).times(2));
    let mut worker = stage.worker_with(json!({"ack_deadline": "10s"})).await;
    let read = worker.read(50).await;
    // Journalled, as in a long commit.
    worker.subscription.journalled(&read.covers);
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert!(stage.fake.calls("ModifyAckDeadline") > 2);
    assert_eq!(stage.fake.sent(NAME), 50, "nothing came again");
    assert!(worker.commit(&read).await);
    stage.acknowledged(50).await;
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again() {
    for options in [Options::default(), exactly_once()] {
        let stage = Stage::new(options).await;
        stage.publish(0..20);
        stage.fake.rule(Rule::on("Acknowledge", Fault::LoseAnswer).times(3));
        let mut worker = stage.worker().await;
        let read = worker.read(20).await;
        assert!(worker.commit(&read).await);
        stage.acknowledged(20).await;
        assert_eq!(worker.subscription.lag()[0].messages, Some(0));
        worker.nothing().await;
    }
}

#[tokio::test]
async fn acknowledgements_that_are_refused_for_now_are_tried_until_they_are_taken() {
    let stage = Stage::new(exactly_once()).await;
    stage.publish(0..20);
    stage.fake.rule(Rule::on("Acknowledge", Fault::Refuse(Code::ResourceExhausted, "quota".into())).times(2));
    stage.fake.rule(Rule::on("Acknowledge", Fault::Each("TRANSIENT_FAILURE_UNORDERED_ACK_ID")).times(2));
    let mut worker = stage.worker().await;
    let read = worker.read(20).await;
    assert!(worker.commit(&read).await);
    stage.acknowledged(20).await;
    assert!(stage.fake.calls("Acknowledge") >= 5);
}

#[tokio::test]
async fn what_cannot_be_acknowledged_any_more_comes_again_and_is_acknowledged_then() {
    let stage = Stage::new(exactly_once()).await;
    // As many as a request holds: the answer about them is long.
    stage.publish(0..1_000);
    stage.fake.rule(Rule::on("Acknowledge", Fault::Each("PERMANENT_FAILURE_INVALID_ACK_ID")));
    let mut worker = stage.worker().await;
    let read = worker.read(1_000).await;
    assert!(worker.commit(&read).await);
    until(|| worker.subscription.lag()[0].messages == Some(0) && stage.fake.calls("Acknowledge") > 0, String::new).await;
    worker.nothing().await;
    assert_eq!((stage.fake.acknowledged_count(NAME), stage.fake.calls("Acknowledge")), (0, 1), "these will never be taken");
    stage.fake.expire(NAME);
    worker.nothing().await;
    stage.acknowledged(1_000).await;
}

#[tokio::test]
async fn an_acknowledgement_of_another_subscription_or_of_nothing_is_none_of_ours() {
    use longshore_core::position::Covers;
    let stage = Stage::with(3).await;
    let mut worker = stage.worker().await;
    let read = worker.read(3).await;
    let other = Covers::Ids { scope: "pubsub:projects/test/subscriptions/other".into(), ids: read.ids() };
    let unknown = Covers::Ids { scope: format!("pubsub:{NAME}"), ids: vec!["17".into()] };
    worker.subscription.acknowledge(&[other, unknown]).await.expect("nothing to do");
    assert_eq!(stage.fake.acknowledged_count(NAME), 0);
}

#[tokio::test]
async fn many_are_acknowledged_in_requests_below_the_limit() {
    let stage = Stage::with(4_500).await;
    let mut worker = stage.worker().await;
    let read = worker.read(4_500).await;
    assert!(worker.commit(&read).await);
    stage.acknowledged(4_500).await;
    assert!((5..20).contains(&stage.fake.calls("Acknowledge")), "{}", stage.fake.calls("Acknowledge"));
}

#[tokio::test]
async fn nobody_waits_for_an_acknowledgement_that_nobody_answers_and_it_is_told_once() {
    let stage = Stage::with(3).await;
    stage.fake.rule(Rule::on("Acknowledge", Fault::Refuse(Code::Unavailable, "down".into())).times(1_000));
    let mut worker = stage.worker().await;
    let read = worker.read(3).await;
    let started = std::time::Instant::now();
    assert!(worker.commit(&read).await);
    assert!(started.elapsed() < Duration::from_secs(1));
    until(|| stage.told().len() == 1, || format!("{:?}", stage.told())).await;
    assert!(stage.told()[0].contains("cannot be reached") && stage.told()[0].contains("down"), "{:?}", stage.told());
    worker.subscription.close().await.expect("leaves");
    assert!(started.elapsed() < Duration::from_secs(15));
    assert_eq!(stage.fake.outstanding(NAME), 3, "what is journalled is nobody else's before its lease ends");
}
