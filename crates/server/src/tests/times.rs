//! Scheduled pipelines: when they run, for which times, and which of several servers runs them.

use super::*;
use crate::turn::{self, Turn};

fn minutes(fake: &Fake) -> Vec<i64> {
    fake.times().iter().map(|time| (*time - dawn()).num_seconds()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_run_is_for_its_scheduled_time_and_begins_then() {
    let fake = Fake::brief(Duration::from_secs(5));
    let world = World::new(vec![scheduled("a.yaml", "a", "* * * * *", &fake)]);
    seconds(1).await;
    let known = &world.shared.board.pipelines()["a"];
    assert_eq!((known.state, known.next), (state::State::Waiting, Some(dawn() + TimeDelta::seconds(30))));
    assert!(known.is_up() && world.shared.board.not_ready().is_empty());
    seconds(119).await;
    assert_eq!((fake.seconds(), minutes(&fake)), (vec![30, 90], vec![30, 90]), "not before its first time");
    assert_eq!(world.told(|event| matches!(event, ServerEvent::Landed { .. }).then_some(())).len(), 2);
    assert!(world.shared.board.pipelines()["a"].last_success.is_some());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_longer_is_followed_by_the_latest_time_only_and_never_two_at_once() {
    let fake = Fake::brief(Duration::from_secs(200));
    let world = World::new(vec![scheduled("a.yaml", "a", "* * * * *", &fake)]);
    seconds(700).await;
    // From 30 on; 210 is the latest that is past at 230, 390 at 430, 630 at 630.
    assert_eq!((fake.seconds(), minutes(&fake)), (vec![30, 230, 430, 630], vec![30, 210, 390, 630]));
    assert_eq!(fake.0.most_at_once.load(Ordering::SeqCst), 1);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_time_that_was_missed_while_down_is_run_once() {
    const DAY: i64 = 24 * 3600;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let (nightly, weekly) = (Fake::kept(&store, "a", Status::Succeeded), Fake::brief(Duration::ZERO));
    // Dawn is at 00:00:30 on a Friday.
    let files = || vec![scheduled("a.yaml", "a", "0 3 * * *", &nightly), scheduled("b.yaml", "b", "0 0 * * 6", &weekly)];
    let first = World::with(files(), store.clone());
    seconds(60).await;
    first.end().await;
    assert_eq!((nightly.seconds(), weekly.seconds()), (vec![], vec![]), "it was never served before");
    // On Sunday.
    let (second, third) = (World::later(2 * DAY, files(), store.clone()), World::later(2 * DAY, files(), store));
    seconds(60).await;
    assert_eq!(minutes(&nightly), [DAY + 3 * 3600 - 30], "three o'clock of the day before, once");
    assert!(weekly.seconds().is_empty(), "more than a day ago");
    second.end().await;
    third.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_pipeline_has_missed_nothing_however_many_servers_there_are() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let (nightly, each_minute) = (Fake::kept(&store, "a", Status::Succeeded), Fake::kept(&store, "b", Status::Succeeded));
    let files = || vec![scheduled("a.yaml", "a", "0 0 * * *", &nightly), scheduled("b.yaml", "b", "* * * * *", &each_minute)];
    let one = World::with(files(), store.clone());
    seconds(5).await;
    let two = World::later(5, files(), store.clone());
    seconds(20).await;
    let three = World::later(25, files(), store);
    seconds(20).await;
    assert!(nightly.times().is_empty(), "midnight was before any of them");
    assert_eq!(minutes(&each_minute), [30], "once, by one of them");
    for world in [one, two, three] {
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_schedule_makes_up_for_nothing() {
    let fake = Fake::brief(Duration::ZERO);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    store.first_served("a", dawn() - TimeDelta::days(9)).await.expect("kept");
    let world = World::with(vec![], store);
    seconds(5).await;
    world.set(vec![scheduled("a.yaml", "a", "0 3 * * *", &fake)]);
    seconds(60).await;
    world.set(vec![scheduled("a.yaml", "a", "0 4 * * *", &fake)]);
    seconds(60).await;
    assert!(fake.seconds().is_empty());
    world.end().await;
}

/// A scheduled pipeline in a file that says something else.
fn changed(file: File, runner: &Fake) -> Vec<File> {
    let File::Job(job) = file else { panic!("a job") };
    vec![File::Job(Job { version: format!("{}, mended", job.version), runner: Arc::new(runner.clone()), ..job })]
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_run_at_once_for_its_time_when_its_file_changes() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let (failing, mended) = (Fake::kept(&store, "a", Status::Failed), Fake::kept(&store, "a", Status::Succeeded));
    let file = || scheduled("a.yaml", "a", "0 * * * *", &failing);
    let world = World::with(vec![file()], store);
    seconds(3600).await;
    assert_eq!(failing.seconds(), [3570]);
    world.set(changed(file(), &mended));
    seconds(10).await;
    assert_eq!(minutes(&mended), [3570], "for the time that failed");
    assert!(world.shared.board.pipelines()["a"].is_up());
    // What went well is not run again for a change.
    world.set(vec![file()]);
    seconds(60).await;
    assert_eq!((failing.seconds().len(), mended.seconds().len()), (1, 1));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_a_change_interrupts_is_run_again_for_its_time() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let interrupted = Fake::new(|call| async move {
        call.stop.requested().await;
        Err(interrupted())
    });
    let new = Fake::kept(&store, "a", Status::Succeeded);
    let file = || scheduled("a.yaml", "a", "0 * * * *", &interrupted);
    let world = World::with(vec![], store);
    seconds(5).await;
    // Found while the server runs: what was before does not count, what came since does.
    world.set(vec![file()]);
    seconds(3600).await;
    assert_eq!(interrupted.running(), 1);
    world.set(changed(file(), &new));
    seconds(10).await;
    assert_eq!((interrupted.running(), minutes(&new)), (0, vec![3570]));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_own_run_failed_is_well_again_when_another_ran_the_pipeline() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let failing = Fake::new(|call| async move {
        let (n, table, reason) = (1, "orders".into(), "locked".into());
        call.observer.event(&RunEvent::Parked { n, table, reason });
        Err(Error::new(ErrorKind::Destination, code::BUG, "refused").with_retry(Retry::AfterFix))
    });
    let world = World::with(vec![scheduled("a.yaml", "a", "*/10 * * * *", &failing)], store.clone());
    seconds(600).await;
    let known = &world.shared.board.pipelines()["a"];
    assert!(!known.is_up() && known.tables["orders"].parked == 1 && known.last_success.is_none());
    // Another has the next time first.
    let run = ran(&store, Some(dawn() + TimeDelta::seconds(1170))).await;
    seconds(600).await;
    assert_eq!(minutes(&failing), [570]);
    let known = &world.shared.board.pipelines()["a"];
    let ended = store.run(&run).await.expect("an answer").expect("it is there").0.finished_at;
    assert!(known.is_up() && ended.is_some());
    let orders = &known.tables["orders"];
    assert_eq!((known.last_success, orders.parked, &orders.reason), (ended, 0, &None));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_fails_is_tried_again_until_its_next_time() {
    let fake = Fake::failing(Retry::Backoff);
    let world = World::new(vec![scheduled("a.yaml", "a", "* * * * *", &fake)]);
    seconds(100).await;
    assert_eq!(fake.seconds(), [30, 31, 33, 37, 45, 61, 90, 91, 93, 97]);
    assert_eq!(minutes(&fake), [30, 30, 30, 30, 30, 30, 90, 90, 90, 90]);
    world.end().await;
    let fake = Fake::failing(Retry::AfterFix);
    let world = World::new(vec![scheduled("a.yaml", "a", "0 * * * *", &fake)]);
    seconds(3 * 3600 - 60).await;
    let quarters: Vec<i64> = minutes(&fake);
    assert_eq!(fake.seconds()[..5], [3570, 3570 + 900, 3570 + 1800, 3570 + 2700, 7170]);
    assert_eq!(quarters[..5], [3570, 3570, 3570, 3570, 7170], "a quarter of an hour each, then for the next time");
    assert!(!world.shared.board.pipelines()["a"].is_up());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_run_that_somebody_cancels_waits_for_its_next_time() {
    let fake = Fake::new(|call| async move {
        call.stop.request();
        Err(interrupted())
    });
    let world = World::new(vec![scheduled("a.yaml", "a", "*/5 * * * *", &fake)]);
    seconds(700).await;
    assert_eq!(fake.seconds(), [270, 570]);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_waits_while_another_has_the_turn_and_takes_over_when_it_is_gone() {
    let memory = Arc::new(MemoryStore::new());
    let store: Arc<dyn Store> = memory.clone();
    let Turn::Ours(held) = turn::take(&store, "a", dawn()).await.expect("an answer") else { panic!("it is free") };
    let fake = Fake::brief(Duration::ZERO);
    let world = World::with(vec![scheduled("a.yaml", "a", "* * * * *", &fake)], store);
    seconds(50).await;
    assert!(fake.seconds().is_empty());
    // As if its process had died.
    drop(held);
    memory.expire_lease(&turn::name("a"));
    seconds(5).await;
    assert_eq!(minutes(&fake), [30]);
    world.end().await;
}

/// Whether a time is served by a run that began after it and ended like this.
async fn is_served(end: Option<Status>, cancelled: bool) -> bool {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let run = ended(&store, end, cancelled).await;
    let an_hour = TimeDelta::hours(1);
    let Turn::Ours(held) = turn::take(&store, "a", Utc::now() + an_hour).await.expect("an answer") else {
        panic!("a run is of no time after it");
    };
    assert!(matches!(turn::take(&store, "a", Utc::now() - an_hour).await, Ok(Turn::Elsewhere)), "one at a time");
    held.free().await.expect("freed");
    match turn::take(&store, "a", Utc::now() - an_hour).await.expect("an answer") {
        Turn::Ours(_) => false,
        Turn::Served(by) => by.id == run,
        Turn::Elsewhere => panic!("it was freed"),
    }
}

/// Registers a run by hand that ended like this, or not at all.
async fn ended(store: &Arc<dyn Store>, end: Option<Status>, cancelled: bool) -> String {
    let run = store.begin_run("a").await.expect("registered");
    if cancelled {
        store.request_cancel(&run).await.expect("asked");
    }
    if let Some(status) = end {
        let finished = RunEvent::Finished { status, error: None, code: None, summary: Summary::default() };
        store.append_events(&run, &[finished]).await.expect("written");
    }
    run
}

/// Registers a run that ended well, for this time if it has one.
async fn ran(store: &Arc<dyn Store>, run_time: Option<DateTime<Utc>>) -> String {
    let run = store.begin_run("a").await.expect("registered");
    let (pipeline, destination) = ("a".to_owned(), "w/main".to_owned());
    let started = RunEvent::Started { pipeline, inputs: vec![], destination, process: 7, run_time };
    let (status, summary) = (Status::Succeeded, Summary::default());
    let finished = RunEvent::Finished { status, error: None, code: None, summary };
    store.append_events(&run, &[started, finished]).await.expect("written");
    run
}

#[tokio::test]
async fn a_run_serves_the_time_that_it_is_for_whatever_the_clocks_of_the_machines_say() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    // By a server whose clock is ahead: its run began before the time, as the store sees it.
    let at = Utc::now() + TimeDelta::minutes(1);
    let run = ran(&store, Some(at)).await;
    // Runs by hand, one of them for a day long past.
    ran(&store, None).await;
    ran(&store, Some(at - TimeDelta::days(9))).await;
    assert!(matches!(turn::take(&store, "a", at).await, Ok(Turn::Served(by)) if by.id == run));
    assert!(matches!(turn::take(&store, "a", at + TimeDelta::seconds(1)).await, Ok(Turn::Ours(_))));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_asked_for_a_while_delays_a_run_and_is_no_failure_of_it() {
    let memory = Arc::new(MemoryStore::new());
    memory.lose_answer("runs");
    let fake = Fake::brief(Duration::ZERO);
    let world = World::with(vec![scheduled("a.yaml", "a", "* * * * *", &fake)], memory.clone());
    seconds(20).await;
    assert!(world.shared.board.pipelines()["a"].is_up());
    for _ in 0..3 {
        memory.lose_answer("runs");
    }
    seconds(11).await;
    assert!(!world.shared.board.pipelines()["a"].is_up());
    seconds(20).await;
    assert_eq!((fake.seconds(), minutes(&fake)), (vec![37], vec![30]), "after 1 s, 2 s and 4 s");
    let known = &world.shared.board.pipelines()["a"];
    assert_eq!((known.is_up(), known.totals.failures), (true, 0));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn when_it_last_went_well_is_known_from_the_start() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let run = ran(&store, None).await;
    store.begin_run("a").await.expect("registered");
    let ended = store.run(&run).await.expect("an answer").expect("it is there").0.finished_at;
    let world = World::with(vec![scheduled("a.yaml", "a", "0 3 * * *", &Fake::brief(Duration::ZERO))], store);
    seconds(1).await;
    assert!(ended.is_some());
    assert_eq!(world.shared.board.pipelines()["a"].last_success, ended);
    world.end().await;
}

#[tokio::test]
async fn a_time_is_served_by_a_run_that_ended_well_or_that_a_person_cancelled_and_by_no_other() {
    assert!(is_served(Some(Status::Succeeded), false).await);
    assert!(is_served(Some(Status::Cancelled), true).await);
    assert!(!is_served(Some(Status::Failed), false).await);
    assert!(!is_served(Some(Status::Cancelled), false).await);
    assert!(!is_served(None, false).await);
}

#[tokio::test]
async fn a_run_that_served_a_time_is_found_behind_newer_ones_that_did_not() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let at = Utc::now() - TimeDelta::hours(1);
    let run = ran(&store, Some(at)).await;
    for end in [Some(Status::Failed), Some(Status::Cancelled), None] {
        for _ in 0..4 {
            ended(&store, end, false).await;
        }
    }
    assert!(matches!(turn::take(&store, "a", at).await, Ok(Turn::Served(by)) if by.id == run));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_failed_is_tried_again_by_whoever_comes_after_its_server() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let (failing, mended) = (Fake::kept(&store, "a", Status::Failed), Fake::kept(&store, "a", Status::Succeeded));
    let first = World::with(vec![scheduled("a.yaml", "a", "0 * * * *", &failing)], store.clone());
    seconds(3600 - 20).await;
    assert_eq!(minutes(&failing), [3570], "it waits to try again");
    first.end().await;
    // Its clock begins anew, a moment before the hour.
    let second = World::later(3590, vec![scheduled("a.yaml", "a", "0 * * * *", &mended)], store.clone());
    seconds(60).await;
    assert_eq!(minutes(&mended), [3570], "for the same time, at once");
    second.end().await;
    let third = World::later(3700, vec![scheduled("a.yaml", "a", "0 * * * *", &mended)], store);
    seconds(60).await;
    assert_eq!(mended.seconds().len(), 1, "it is done with");
    third.end().await;
}

#[tokio::test(start_paused = true)]
async fn of_two_servers_only_one_tries_again_what_fails() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let fake = Fake::failing(Retry::AfterFix);
    let files = || vec![scheduled("a.yaml", "a", "*/10 * * * *", &fake)];
    let (one, two) = (World::with(files(), store.clone()), World::with(files(), store.clone()));
    seconds(1790).await;
    // At 570, 1170 and 1770: the pause is longer than the time to the next.
    assert_eq!(minutes(&fake), [570, 1170, 1770]);
    one.end().await;
    two.end().await;
}
