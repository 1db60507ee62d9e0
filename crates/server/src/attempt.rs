//! One run, which may fail or panic without taking anything else with it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use longshore_core::error::{Error, Kind, code};
use longshore_core::stop::Stop;
use longshore_engine::Outcome;

use crate::error::PIPELINE_PANICKED;
use crate::event::{Failure, ServerEvent};
use crate::jobs::{Job, Kind as Frequency};
use crate::shared::Shared;
use crate::state::{LastError, State};
use crate::watch::Watch;

/// How a run ended.
pub(crate) enum Ended {
    /// Well.
    Well(Outcome),
    /// Because we asked it to.
    Stopped,
    /// With an error; also if somebody else asked it to stop.
    Failed(Error),
}

/// Runs a pipeline once.
pub(crate) async fn attempt(shared: &Arc<Shared>, job: &Job, at: Option<DateTime<Utc>>, stop: &Stop) -> Ended {
    let endless = matches!(job.kind, Frequency::Endless);
    shared.board.change(&job.name, |known| {
        known.between_runs();
        known.next = None;
        // An endless one has started when it is first heard of.
        known.enter(if endless { State::Starting } else { State::Running }, shared.now());
    });
    // A stop of its own: whoever cancels this run does not mean the next one.
    let own = Stop::default();
    let watch = Arc::new(Watch::new(shared.clone(), &job.name, endless));
    let (runner, run_stop) = (job.runner.clone(), own.clone());
    let mut run = tokio::spawn(async move { runner.run(at, watch, run_stop).await });
    let ended = tokio::select! {
        ended = &mut run => ended,
        () = stop.requested() => {
            shared.board.change(&job.name, |known| known.enter(State::Stopping, shared.now()));
            own.request();
            run.await
        }
    };
    shared.board.change(&job.name, |known| known.between_runs());
    let result = ended.unwrap_or_else(|panic| {
        let why = if panic.is_panic() { "panicked" } else { "was dropped" };
        Err(Error::new(Kind::Bug, PIPELINE_PANICKED, format!("the run of {} {why}", job.name)).caused_by(panic))
    });
    match result {
        Ok(_) if endless && stop.is_requested() => Ended::Stopped,
        Ok(outcome) => Ended::Well(outcome),
        Err(error) if error.kind() != Kind::Interrupted => Ended::Failed(error),
        Err(_) if stop.is_requested() => Ended::Stopped,
        Err(_) => Ended::Failed(cancelled()),
    }
}

/// A run failed, and is tried again at that time, or the pipeline waits for its next one.
pub(crate) fn failed(shared: &Shared, job: &Job, error: &Error, state: State, again: Option<DateTime<Utc>>) {
    let cancelled = error.kind() == Kind::Interrupted;
    shared.board.change(&job.name, |known| {
        known.failing = !cancelled || matches!(job.kind, Frequency::Endless);
        known.totals.failures += u64::from(!cancelled);
    });
    hindered(shared, job, error, state, again);
}

/// Something that is not a run's own failed: the store cannot be asked, say.
pub(crate) fn hindered(shared: &Shared, job: &Job, error: &Error, state: State, again: Option<DateTime<Utc>>) {
    let (failure, now) = (Failure::from(error), shared.now());
    shared.board.change(&job.name, |known| {
        known.last_error = Some(LastError { at: now, failure: failure.clone() });
        known.next = again;
        known.enter(state, now);
    });
    shared.tell(&ServerEvent::Failed { pipeline: job.name.clone(), failure, again });
}

fn cancelled() -> Error {
    Error::new(Kind::Interrupted, code::INTERRUPTED, "the run was cancelled")
        .hint("what is whole was committed; to keep the pipeline from being run, take its file out of the folder")
}
