//! Streams that end, servers that are away, workers that leave.

use std::time::Duration;

use longshore_core::stream::Arrival;
use longshore_fakes::pubsub::{FakePubSub, Fault, Options, Rule};
use serde_json::json;
use tonic::Code;

use crate::harness::{NAME, Read, Stage, Worker, numbers, order, sorted, source, until};

#[tokio::test]
async fn streams_that_end_are_opened_again_and_nobody_is_told() {
    let stage = Stage::with(500).await;
    let mut worker = stage.worker_with(json!({"idle_after": "500ms"})).await;
    let mut read = worker.caught_up().await;
    for round in 0..5 {
        stage.fake.break_streams();
        stage.publish((500 + round * 100)..(600 + round * 100));
        let more = worker.caught_up().await;
        read.covers.extend(more.covers);
        read.orders.extend(more.orders);
    }
    assert!(sorted(read.orders.clone()) == numbers(0..1_000), "{} orders", read.orders.len());
    assert!(worker.commit(&read).await);
    stage.acknowledged(1_000).await;
    assert!(stage.fake.calls("StreamingPull") >= 12);
    assert_eq!(stage.told(), [""; 0]);
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for_and_told_once() {
    let stage = Stage::new(Options::default()).await;
    let address = "127.0.0.1:0";
    let port = std::net::TcpListener::bind(address).expect("a port").local_addr().expect("an address");
    let settings = json!({"subscription": NAME, "endpoint": format!("http://{port}"), "idle_after": "100ms"});
    let mut worker = Worker::of(&source(settings, json!({})), &stage.context(), &stage.journal).await;
    // It is not there, which is not the end of what there is to read.
    assert!(tokio::time::timeout(Duration::from_secs(6), worker.subscription.next()).await.is_err());
    let told = stage.told();
    assert!(told.len() == 1 && told[0].contains("cannot be reached") && told[0].contains(NAME), "{told:?}");
    let fake = FakePubSub::start_at(&port.to_string()).await;
    fake.create_subscription(NAME, Options::default());
    fake.publish(NAME, order(0, ""));
    assert_eq!(worker.read(1).await.orders, [0]);
    until(|| stage.told().len() == 2, || format!("{:?}", stage.told())).await;
    assert!(stage.told()[1].contains("can be reached again"), "{:?}", stage.told());
}

#[tokio::test]
async fn passing_refusals_of_streams_are_not_the_end() {
    let stage = Stage::with(10).await;
    for code in [Code::Unavailable, Code::Internal, Code::ResourceExhausted, Code::Aborted, Code::Unknown, Code::Cancelled] {
        stage.fake.rule(Rule::on("StreamingPull", Fault::Refuse(code, "for now".into())));
    }
    // A token that has just run out.
    stage.fake.rule(Rule::on("StreamingPull", Fault::Refuse(Code::Unauthenticated, "expired".into())));
    let mut worker = stage.worker_with(json!({"streams": 1})).await;
    assert_eq!(worker.read(10).await.orders.len(), 10);
}

#[tokio::test]
async fn who_leaves_gives_back_at_once_what_is_not_journalled() {
    let stage = Stage::with(100).await;
    let mut leaving = stage.worker().await;
    let read = leaving.read(100).await;
    let (done, rest) = (read.ids()[..40].to_vec(), read.ids()[40..].to_vec());
    let covers = longshore_core::position::Covers::Ids { scope: format!("pubsub:{NAME}"), ids: done.clone() };
    assert!(stage.journal.journal(&done));
    leaving.subscription.journalled(&[covers]);
    leaving.subscription.close().await.expect("leaves");
    // What is journalled stays lent until whoever publishes it is done, or its lease ends.
    assert_eq!(stage.fake.outstanding(NAME), 40);
    let mut staying = stage.worker().await;
    let again = staying.read(60).await;
    assert!(again.ids().iter().all(|id| rest.contains(id)));
    stage.journal.complete(&done);
    stage.fake.expire(NAME);
    assert!(staying.commit(&again).await);
    staying.nothing().await;
    stage.acknowledged(100).await;
    leaving.subscription.close().await.expect("a second time changes nothing");
}

#[tokio::test]
async fn nobody_waits_long_for_a_network_that_swallows_what_is_given_back() {
    let stage = Stage::with(3_000).await;
    let mut worker = stage.worker_with(json!({"ack_deadline": "10s"})).await;
    worker.read(3_000).await;
    stage.fake.rule(Rule::on("ModifyAckDeadline", Fault::Hold).times(usize::MAX));
    let within = |began: tokio::time::Instant| assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let began = tokio::time::Instant::now();
    worker.subscription.rewind().await.expect("rewinds");
    within(began);
    // It comes back by itself.
    assert_eq!(worker.read(3_000).await.orders.len(), 3_000);
    let began = tokio::time::Instant::now();
    worker.subscription.close().await.expect("leaves");
    within(began);
}

#[tokio::test]
async fn what_is_refused_when_it_is_given_back_is_given_up_with_the_first_request() {
    let stage = Stage::with(3_000).await;
    let mut worker = stage.worker().await;
    worker.read(3_000).await;
    stage.fake.rule(Rule::on("ModifyAckDeadline", Fault::Refuse(Code::Unavailable, "away".into())).times(usize::MAX));
    let before = stage.fake.calls("ModifyAckDeadline");
    worker.subscription.close().await.expect("leaves");
    assert_eq!(stage.fake.calls("ModifyAckDeadline") - before, 4, "the tries of one request");
}

#[tokio::test]
async fn who_leaves_waits_for_acknowledgements_on_their_way() {
    let stage = Stage::with(10).await;
    stage.fake.rule(Rule::on("Acknowledge", Fault::Refuse(Code::Unavailable, "for now".into())).times(3));
    let mut worker = stage.worker().await;
    let read = worker.read(10).await;
    stage.journal.complete(&read.ids());
    worker.subscription.acknowledge(&read.covers).await.expect("acknowledges");
    worker.subscription.close().await.expect("leaves");
    stage.acknowledged(10).await;
}

#[tokio::test]
async fn who_dies_leaves_everything_to_its_leases() {
    let stage = Stage::with(10).await;
    let mut dying = stage.worker().await;
    dying.read(10).await;
    stage.dies(dying).await;
    let mut other = stage.worker().await;
    other.nothing().await;
    stage.fake.expire(NAME);
    assert_eq!(other.read(10).await.orders.len(), 10);
    let calls = stage.fake.calls("ModifyAckDeadline");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(stage.fake.calls("ModifyAckDeadline"), calls, "nothing of the dead one works on");
}

#[tokio::test]
async fn the_end_of_what_there_is_is_not_told_while_streams_are_closed() {
    let stage = Stage::with(1).await;
    let mut worker = stage.worker_with(json!({"idle_after": "100ms", "streams": 1})).await;
    let mut read = Read::default();
    read.add(&worker.delivery().await);
    stage.fake.rule(Rule::on("StreamingPull", Fault::Refuse(Code::Unavailable, "down".into())).times(4));
    stage.fake.break_streams();
    stage.publish([1]);
    // One of them may still have been told of the open stream.
    let mut told = 0;
    loop {
        match worker.next().await.expect("reads") {
            Arrival::Delivery(delivery) => break read.add(&delivery),
            _ => told += 1,
        }
    }
    assert!(told <= 1);
    assert_eq!(read.orders, [0, 1]);
}

#[tokio::test]
async fn what_a_worker_has_that_died_is_waited_for_before_everything_counts_as_read() {
    let (stage, idle) = (Stage::with(10).await, Stage::with(0).await);
    let settings = json!({"ack_deadline": "10s", "idle_after": "100ms"});
    let mut dying = stage.worker_with(settings.clone()).await;
    dying.read(10).await;
    let mut other = stage.worker_with(settings.clone()).await;
    stage.dies_beside(dying, 2).await;
    let mut alone = idle.worker_with(settings).await;
    assert_eq!(other.subscription.remembers(), Some((format!("pubsub:{NAME}"), Duration::from_secs(24 * 3600))));
    let started = tokio::time::Instant::now();
    for worker in [&mut other, &mut alone] {
        assert!(worker.caught_up().await.orders.is_empty());
        assert!(!worker.subscription.rest_is_read().await.expect("tells"));
    }
    assert_eq!(other.read(10).await.orders.len(), 10);
    assert!(!other.subscription.rest_is_read().await.expect("tells"));
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    tokio::time::sleep_until(started + Duration::from_millis(11_500)).await;
    assert!(alone.subscription.rest_is_read().await.expect("tells"), "nobody had anything");
}
