//! The history of runs.

use std::collections::BTreeMap;

use longshore_core::error::Kind;
use longshore_core::event::{Phase, RunEvent, Status, Summary};

use super::{Pair, refused_with};

fn started(pipeline: &str) -> RunEvent {
    RunEvent::Started {
        pipeline: pipeline.into(),
        inputs: vec!["in/*".into()],
        destination: "w/main".into(),
        process: 7,
        run_time: None,
    }
}

fn finished(status: Status, error: Option<&str>) -> RunEvent {
    let summary = Summary { rejects: 2, seconds: 1.5, tables: BTreeMap::from([("orders".into(), 3)]), ..Summary::default() };
    RunEvent::Finished { status, error: error.map(Into::into), code: error.map(|_| "bug".into()), summary }
}

/// Pending while there is nothing or only waiting, running from the first work, then what `Finished` says.
pub async fn a_status_follows_from_events_and_their_order_is_kept(pair: Pair) {
    let id = pair.one.begin_run("p").await.expect("a run");
    let status = async || pair.two.run(&id).await.expect("found").expect("there").0.status;
    assert_eq!(status().await, Status::Pending);
    pair.one.append_events(&id, &[RunEvent::Waiting { reason: "a lease".into() }]).await.expect("appended");
    assert_eq!(status().await, Status::Pending);
    let progress = RunEvent::Progress { bytes: 1, rows: 1, rejects: 0, phase: Phase::Load };
    pair.one.append_events(&id, std::slice::from_ref(&progress)).await.expect("appended");
    assert_eq!(status().await, Status::Pending, "progress is not kept");
    let note = RunEvent::Note { text: "delimiter ;".into() };
    pair.one.append_events(&id, &[started("p"), progress, note.clone()]).await.expect("appended");
    assert_eq!(status().await, Status::Running);
    pair.two.append_events(&id, &[RunEvent::Journalled { n: 1 }, finished(Status::Failed, Some("no"))]).await.expect("appended");
    let (run, history) = pair.one.run(&id).await.expect("found").expect("there");
    assert_eq!((run.status, run.error.as_deref(), run.pipeline.as_str()), (Status::Failed, Some("no"), "p"));
    assert_eq!(run.summary.map(|summary| (summary.rejects, summary.seconds)), Some((2, 1.5)));
    assert!(run.finished_at.is_some_and(|at| at >= run.started_at));
    let expected = [
        RunEvent::Waiting { reason: "a lease".into() },
        started("p"),
        note,
        RunEvent::Journalled { n: 1 },
        finished(Status::Failed, Some("no")),
    ];
    assert_eq!(history.iter().map(|line| line.sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(history.into_iter().map(|line| line.event).collect::<Vec<_>>(), expected);
}

/// Also not within one call.
pub async fn nothing_happens_in_a_finished_run(pair: Pair) {
    let id = pair.one.begin_run("p").await.expect("a run");
    let late = [started("p"), finished(Status::Succeeded, None), RunEvent::Journalled { n: 1 }];
    refused_with(pair.one.append_events(&id, &late).await, "bug");
    assert!(pair.one.run(&id).await.expect("found").expect("there").1.is_empty(), "all or nothing");
    pair.one.append_events(&id, &late[..2]).await.expect("appended");
    let again = pair.two.append_events(&id, &late[2..]).await.expect_err("finished");
    assert_eq!(again.kind(), Kind::Bug);
    refused_with(pair.one.append_events("never", &[]).await, "usage");
}

/// Ids sort by time; a list is newest first.
pub async fn a_run_is_found_by_an_unambiguous_beginning(pair: Pair) {
    let mut ids = Vec::new();
    for pipeline in ["p", "q", "p"] {
        ids.push(pair.one.begin_run(pipeline).await.expect("a run"));
    }
    assert!(ids.is_sorted());
    let listed = async |pipeline: Option<&str>, limit: usize| {
        pair.two.runs(pipeline, limit).await.expect("runs").into_iter().map(|run| run.id).collect::<Vec<_>>()
    };
    assert_eq!(listed(None, 10).await, [ids[2].clone(), ids[1].clone(), ids[0].clone()]);
    assert_eq!(listed(Some("p"), 10).await, [ids[2].clone(), ids[0].clone()]);
    assert_eq!(listed(None, 1).await, [ids[2].clone()]);

    assert_eq!(pair.two.run(&ids[1]).await.expect("found").expect("there").0.id, ids[1]);
    let all_but_one = &ids[1][..ids[1].len() - 1];
    assert_eq!(pair.two.run(all_but_one).await.expect("found").expect("there").0.id, ids[1]);
    let ambiguous = pair.two.run(&ids[0][..4]).await.expect_err("three begin so");
    assert_eq!(ambiguous.kind(), Kind::Usage);
    assert!(ids.iter().all(|id| ambiguous.hint_text().is_some_and(|hint| hint.contains(id))));
    for nothing in ["", "x", "%", "_"] {
        assert!(pair.two.run(nothing).await.expect("an answer").is_none());
    }
}

/// Asked for in one process, seen in another.
pub async fn cancelling_is_seen_by_others(pair: Pair) {
    let id = pair.one.begin_run("p").await.expect("a run");
    assert!(!pair.one.cancel_requested(&id).await.expect("an answer"));
    pair.two.request_cancel(&id).await.expect("asked");
    pair.two.request_cancel(&id).await.expect("asked again");
    assert!(pair.one.cancel_requested(&id).await.expect("an answer"));
    refused_with(pair.two.request_cancel("never").await, "usage");
}

/// The first moment is kept, whoever asks later, and whether the pipeline was there before or not.
pub async fn a_pipeline_is_first_served_once(pair: Pair) {
    let moment = |seconds| chrono::DateTime::from_timestamp(seconds, 0).expect("a time");
    pair.one.pipeline("there").await.expect("made");
    for name in ["new", "there"] {
        assert_eq!(pair.one.first_served(name, moment(1000)).await.expect("kept"), moment(1000));
        for later in [moment(500), moment(2000)] {
            assert_eq!(pair.two.first_served(name, later).await.expect("an answer"), moment(1000));
        }
    }
    assert_eq!(pair.two.pipelines().await.expect("names"), ["new", "there"]);
    assert_eq!(pair.two.first_served("newer", moment(3000)).await.expect("kept"), moment(3000));
}

/// With the numbers that they have in the whole, and the status of the whole.
pub async fn the_newest_of_a_long_history_come_in_order(pair: Pair) {
    let id = pair.one.begin_run("p").await.expect("a run");
    let notes: Vec<RunEvent> = (1..=9).map(|n| RunEvent::Journalled { n }).collect();
    pair.one.append_events(&id, &notes).await.expect("appended");
    pair.one.append_events(&id, &[finished(Status::Succeeded, None)]).await.expect("appended");
    let whole = pair.two.run(&id).await.expect("found").expect("there");
    for (lines, kept) in [(0, 0), (1, 1), (4, 4), (10, 10), (11, 10), (usize::MAX, 10)] {
        let (run, history) = pair.two.run_newest(&id[..id.len() - 1], lines).await.expect("found").expect("there");
        assert_eq!((&run, history.as_slice()), (&whole.0, &whole.1[10 - kept..]), "{lines} lines");
    }
    assert!(pair.two.run_newest("x", 1).await.expect("an answer").is_none());
}
