//! What fails is started again, and takes nothing else with it.

use super::*;
use crate::pauses::Pauses;

fn again(world: &World) -> Vec<Option<i64>> {
    world.told(|event| match event {
        ServerEvent::Failed { again, .. } => Some(again.map(|again| (again - dawn()).num_seconds())),
        _ => None,
    })
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_started_again_after_pauses_that_double() {
    let fake = Fake::failing(Retry::Backoff);
    let world = World::new(vec![endless("a.yaml", "a", "1", &fake)]);
    seconds(40).await;
    assert_eq!(fake.seconds(), [0, 1, 3, 7, 15, 31]);
    assert_eq!(again(&world), [1, 3, 7, 15, 31, 63].map(Some));
    let known = &world.shared.board.pipelines()["a"];
    assert_eq!((known.state, known.totals.failures, known.is_up()), (state::State::Retrying, 6, false));
    assert_eq!(known.last_error.as_ref().expect("failed").failure.error, "refused");
    assert_eq!(world.end().await, 0, "a pause does not hold up the end");
}

#[tokio::test(start_paused = true)]
async fn a_server_comes_back_a_little_later_by_chance() {
    let world = World::new(vec![]);
    let Shared { board, store, listener, clock, .. } = world.shared.as_ref();
    let (board, store, listener, clock) = (board.clone(), store.clone(), listener.clone(), clock.clone());
    let unlucky = Shared { board, store, listener, clock, chance: || 1.0 };
    let error = Error::new(ErrorKind::Source, code::BUG, "lost").with_retry(Retry::Backoff);
    let pause = |shared: &Shared| shared.again(&mut Pauses::default(), &error, Duration::ZERO) - shared.now();
    assert_eq!((pause(&world.shared).num_milliseconds(), pause(&unlucky).num_milliseconds()), (1000, 1250));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn after_ten_minutes_of_good_work_pauses_begin_anew() {
    let fake = Fake::new(|call| async move {
        if call.number == 4 {
            seconds(600).await;
        }
        Err(Error::new(ErrorKind::Source, code::BUG, "lost").with_retry(Retry::Backoff))
    });
    let world = World::new(vec![endless("a.yaml", "a", "1", &fake)]);
    seconds(7 + 600 + 5).await;
    assert_eq!(fake.seconds(), [0, 1, 3, 7, 608, 610]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_person_has_to_mend_is_tried_every_quarter_of_an_hour_and_at_once_when_its_file_changes() {
    let fake = Fake::failing(Retry::AfterFix);
    let world = World::new(vec![endless("a.yaml", "a", "1", &fake)]);
    seconds(1000).await;
    assert_eq!(fake.seconds(), [0, 900]);
    let mended = Fake::endless(Duration::ZERO);
    world.set(vec![endless("a.yaml", "a", "2", &mended)]);
    seconds(5).await;
    assert_eq!((fake.seconds().len(), mended.running()), (2, 1));
    assert!(world.shared.board.pipelines()["a"].is_up() && world.shared.board.not_ready().is_empty());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_one_run_and_no_other_pipeline() {
    let panicking = Fake::new(|_| async move { panic!("as the test wants it") });
    let good = Fake::endless(Duration::ZERO);
    let world = World::new(vec![endless("a.yaml", "a", "1", &panicking), endless("b.yaml", "b", "1", &good)]);
    seconds(100).await;
    assert_eq!((panicking.seconds(), good.seconds(), good.running()), (vec![0], vec![0], 1));
    let codes = world.told(|event| match event {
        ServerEvent::Failed { failure, pipeline, .. } => Some((pipeline.clone(), failure.code.clone())),
        _ => None,
    });
    assert_eq!(codes, [("a".to_owned(), "pipeline_panicked".to_owned())]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_endless_source_that_ends_is_read_again() {
    let fake = Fake::brief(Duration::from_secs(1));
    let world = World::new(vec![endless("a.yaml", "a", "1", &fake)]);
    seconds(6).await;
    assert_eq!(fake.seconds(), [0, 2, 5]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_somebody_cancels_is_no_failure_and_is_run_again_later() {
    let fake = Fake::new(|call| async move {
        if call.number == 1 {
            seconds(5).await;
            call.stop.request();
        }
        call.stop.requested().await;
        Err(interrupted())
    });
    let world = World::new(vec![endless("a.yaml", "a", "1", &fake)]);
    seconds(1000).await;
    assert_eq!(fake.seconds(), [0, 905]);
    assert_eq!(world.shared.board.pipelines()["a"].totals.failures, 0);
    assert_eq!(world.end().await, 0);
}

#[tokio::test(start_paused = true)]
async fn all_pipelines_are_stopped_gracefully_side_by_side() {
    let (slow, slower) = (Fake::endless(Duration::from_secs(7)), Fake::endless(Duration::from_secs(10)));
    let cron = Fake::brief(Duration::from_secs(20));
    let world = World::new(vec![
        endless("a.yaml", "a", "1", &slow),
        endless("b.yaml", "b", "1", &slower),
        scheduled("c.yaml", "c", "0 * * * *", &cron),
    ]);
    seconds(5).await;
    assert_eq!((slow.running(), slower.running()), (1, 1));
    let told = world.told.clone();
    assert_eq!(world.end().await, 10);
    assert_eq!((slow.running(), slower.running()), (0, 0));
    let stopped = locked(&told.0).iter().filter(|event| matches!(event, ServerEvent::Stopped { .. })).count();
    assert_eq!(stopped, 3);
}
