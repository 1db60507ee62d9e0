//! The folder is followed as it changes.

use super::*;

fn names(world: &World) -> Vec<(String, String)> {
    world.told(|event| match event {
        ServerEvent::Serving { pipeline, .. } => Some(("serving".to_owned(), pipeline.clone())),
        ServerEvent::Changed { pipeline, .. } => Some(("changed".to_owned(), pipeline.clone())),
        ServerEvent::Removed { pipeline, .. } => Some(("removed".to_owned(), pipeline.clone())),
        ServerEvent::Stopped { pipeline } => Some(("stopped".to_owned(), pipeline.clone())),
        _ => None,
    })
}

fn broken(world: &World) -> Vec<(String, Option<String>, String)> {
    world.told(|event| match event {
        ServerEvent::Broken { file, goes_on, failure } => Some((file.clone(), goes_on.clone(), failure.error.clone())),
        _ => None,
    })
}

#[tokio::test(start_paused = true)]
async fn a_new_file_is_started_and_a_removed_one_stopped() {
    let (a, b) = (Fake::endless(Duration::ZERO), Fake::endless(Duration::ZERO));
    let (a_file, b_file) = (endless("a.yaml", "a", "1", &a), endless("b.yaml", "b", "1", &b));
    let world = World::new(vec![a_file.clone()]);
    seconds(10).await;
    assert_eq!((a.seconds(), b.seconds()), (vec![0], vec![]));
    world.set(vec![a_file, b_file.clone()]);
    seconds(5).await;
    assert_eq!(b.running(), 1);
    world.set(vec![b_file]);
    seconds(5).await;
    assert_eq!((a.running(), b.running(), a.seconds(), b.seconds().len()), (0, 1, vec![0], 1));
    assert!(!world.shared.board.pipelines().contains_key("a"));
    let said: Vec<(&str, &str)> = vec![("serving", "a"), ("serving", "b"), ("removed", "a"), ("stopped", "a")];
    assert_eq!(names(&world), said.into_iter().map(|(what, name)| (what.into(), name.into())).collect::<Vec<_>>());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_is_started_anew_when_its_old_run_has_ended() {
    let (old, new) = (Fake::endless(Duration::from_secs(20)), Fake::endless(Duration::ZERO));
    let world = World::new(vec![endless("a.yaml", "a", "1", &old)]);
    seconds(9).await;
    world.set(vec![endless("a.yaml", "a", "2", &new)]);
    seconds(20).await;
    assert_eq!((old.running(), new.seconds()), (1, vec![]), "it commits what is whole first");
    assert_eq!(world.shared.board.pipelines()["a"].state, state::State::Stopping);
    seconds(5).await;
    assert_eq!((old.running(), new.seconds()), (0, vec![32]), "seen at 10 s and 12 s, ended 20 s later");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_file_whose_text_is_the_same_again_is_left_alone() {
    let fake = Fake::endless(Duration::ZERO);
    let file = endless("a.yaml", "a", "1", &fake);
    let world = World::new(vec![file.clone()]);
    seconds(9).await;
    // Half written, and gone, for a moment each.
    for moment in [vec![endless("a.yaml", "a", "half", &fake)], vec![]] {
        world.set(moment);
        seconds(2).await;
        world.set(vec![file.clone()]);
        seconds(6).await;
    }
    // Another name, the same pipeline.
    world.set(vec![endless("b.yaml", "a", "1", &fake)]);
    seconds(6).await;
    assert_eq!((fake.seconds(), fake.running()), (vec![0], 1));
    assert_eq!(world.shared.board.pipelines()["a"].file, "b.yaml");
    assert!(broken(&world).is_empty(), "{:?}", broken(&world));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_invalid_file_is_told_once_with_its_place_and_the_old_one_goes_on() {
    let (old, new) = (Fake::endless(Duration::ZERO), Fake::endless(Duration::ZERO));
    let world = World::new(vec![endless("a.yaml", "a", "1", &old), File::Broken("b.yaml".into(), "`source` is missing")]);
    seconds(1).await;
    assert_eq!(broken(&world), [("b.yaml".into(), None, "b.yaml:3:5: `source` is missing".into())]);
    world.set(vec![File::Broken("a.yaml".into(), "not YAML")]);
    seconds(60).await;
    assert_eq!(broken(&world)[1..], [("a.yaml".into(), Some("a".into()), "a.yaml:3:5: not YAML".into())]);
    assert_eq!((old.running(), old.seconds()), (1, vec![0]));
    assert_eq!(world.shared.board.not_ready().len(), 1);
    world.set(vec![endless("a.yaml", "a", "2", &new)]);
    seconds(5).await;
    assert_eq!((old.running(), new.running()), (0, 1));
    assert!(world.shared.board.files().is_empty() && world.shared.board.not_ready().is_empty());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn of_two_files_with_one_pipelines_name_the_one_that_runs_is_kept() {
    let (first, second) = (Fake::endless(Duration::ZERO), Fake::endless(Duration::ZERO));
    let world = World::new(vec![endless("b.yaml", "a", "1", &first), endless("c.yaml", "a", "2", &second)]);
    seconds(5).await;
    world.set(vec![
        endless("a.yaml", "a", "2", &second),
        endless("b.yaml", "a", "1", &first),
        endless("c.yaml", "a", "2", &second),
    ]);
    seconds(5).await;
    assert_eq!((first.running(), second.seconds()), (1, vec![]));
    let wrong: Vec<String> = broken(&world).into_iter().map(|(.., error)| error).collect();
    assert_eq!(
        wrong,
        ["c.yaml: the pipeline a is in b.yaml already", "a.yaml: the pipeline a is in b.yaml already"],
        "each is told once"
    );
    // The first of the others takes over when it is gone.
    world.set(vec![endless("a.yaml", "a", "2", &second)]);
    seconds(6).await;
    assert_eq!((first.running(), second.running()), (0, 1));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_cannot_be_read_for_a_while_stops_nothing() {
    let fake = Fake::endless(Duration::ZERO);
    let world = World::new(vec![endless("a.yaml", "a", "1", &fake)]);
    seconds(3).await;
    let files = locked(&world.folder.0).take();
    seconds(30).await;
    assert_eq!(fake.running(), 1);
    assert_eq!(world.told(|event| matches!(event, ServerEvent::FolderUnreadable { .. }).then_some(())).len(), 1);
    assert_eq!(world.shared.board.not_ready().len(), 1);
    world.set(files.expect("it was there"));
    seconds(6).await;
    assert_eq!((fake.seconds(), world.shared.board.not_ready()), (vec![0], vec![]));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_neither_endless_nor_scheduled_is_said_once_and_not_run() {
    let fake = Fake::endless(Duration::ZERO);
    let File::Job(mut job) = endless("a.yaml", "a", "1", &fake) else { panic!("a job") };
    job.kind = Kind::ByHand;
    let world = World::new(vec![File::Job(job)]);
    seconds(30).await;
    assert!(fake.seconds().is_empty());
    let told = world.told(|event| matches!(event, ServerEvent::ByHand { .. }).then_some(()));
    assert_eq!((told.len(), world.shared.board.not_ready()), (1, vec![]));
    assert_eq!(world.shared.board.pipelines()["a"].state, state::State::ByHand);
    world.end().await;
}
