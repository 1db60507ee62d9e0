//! A pipeline that is run at its times.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use longshore_core::Result;
use longshore_core::error::Kind;
use longshore_core::event::{Status, Summary};
use longshore_core::stop::Stop;
use longshore_core::store::Run;
use longshore_engine::Outcome;
use tokio::time::Instant;

use crate::attempt::{Ended, attempt, failed, hindered};
use crate::event::{Failure, ServerEvent};
use crate::jobs::Job;
use crate::pauses::Pauses;
use crate::schedule::Schedule;
use crate::shared::{Shared, rest};
use crate::state::{LastError, State};
use crate::turn::{self, Turn};

/// A time that was missed by more than this is not made up for.
const MISSED: TimeDelta = TimeDelta::hours(24);
/// How many runs are searched for one that ended well.
const NEWEST: usize = 100;
/// How often a turn that somebody else has is asked for.
const ASK: Duration = Duration::from_secs(1);

/// From when on times count.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Since {
    /// The server has just begun: what it missed while it was down counts.
    Down,
    /// Its file was found, or got this schedule, then.
    Time(DateTime<Utc>),
}

/// Runs it at its times until it is asked to stop.
pub(crate) async fn keep(shared: &Arc<Shared>, job: &Job, schedule: &Schedule, since: Since, stop: &Stop) {
    // Times up to this one are done with.
    let Some(mut done) = begin(shared, job, since, stop).await else { return };
    let mut asked = Pauses::default();
    while !stop.is_requested() {
        let now = shared.now();
        let Some(at) = schedule.latest(done.max(now - MISSED), now) else {
            let next = schedule.next(now);
            wait_for(shared, job, next);
            match next {
                Some(next) if shared.sleep_until(next, stop).await => continue,
                Some(_) => return,
                None => return stop.requested().await,
            }
        };
        let turn = turn::take(&shared.store, &job.name, at).await;
        if turn.is_ok() {
            asked = Pauses::default();
        }
        match turn {
            Ok(Turn::Ours(held)) => {
                done = at;
                serve(shared, job, schedule, at, stop).await;
                if let Err(error) = held.free().await {
                    tracing::warn!(%error, pipeline = job.name, "the turn of a scheduled run could not be given up; it expires");
                }
            }
            Ok(Turn::Served(run)) => {
                done = at;
                went_well_elsewhere(shared, job, &run);
                let (pipeline, run) = (job.name.clone(), run.id);
                shared.tell(&ServerEvent::RunElsewhere { pipeline, at, run });
            }
            // Whoever has it may die, or the next time may come.
            Ok(Turn::Elsewhere) => {
                wait_for(shared, job, Some(at));
                rest(ASK, stop).await;
            }
            Err(error) => {
                let again = shared.again(&mut asked, &error, Duration::ZERO);
                hindered(shared, job, &error, State::Retrying, Some(again));
                shared.sleep_until(again, stop).await;
            }
        }
    }
}

/// The time up to which nothing is to be run any more; `None` if it was asked to stop.
async fn begin(shared: &Arc<Shared>, job: &Job, since: Since, stop: &Stop) -> Option<DateTime<Utc>> {
    let mut pauses = Pauses::default();
    loop {
        let first = match last_success(shared, job).await {
            Ok(()) => shared.store.first_served(&job.name, shared.now()).await,
            Err(error) => Err(error),
        };
        let error = match (first, since) {
            (Ok(_), Since::Time(time)) => return Some(time),
            // Before any server knew it, it has missed nothing.
            (Ok(first), Since::Down) => return Some(first.max(shared.now() - MISSED)),
            (Err(error), _) => error,
        };
        let again = shared.again(&mut pauses, &error, Duration::ZERO);
        hindered(shared, job, &error, State::Retrying, Some(again));
        if !shared.sleep_until(again, stop).await {
            return None;
        }
    }
}

/// Looks up when it last went well, which may have been before this server began.
async fn last_success(shared: &Shared, job: &Job) -> Result<()> {
    let runs = shared.store.runs(Some(&job.name), NEWEST).await?;
    let good = runs.into_iter().find(|run| run.status == Status::Succeeded).and_then(|run| run.finished_at);
    shared.board.change(&job.name, |known| known.last_success = known.last_success.max(good));
    Ok(())
}

fn wait_for(shared: &Shared, job: &Job, next: Option<DateTime<Utc>>) {
    let now = shared.now();
    shared.board.change(&job.name, |known| {
        known.next = next;
        known.enter(State::Waiting, now);
    });
}

/// Runs it for one time. A run that fails is tried again until the next time comes.
async fn serve(shared: &Arc<Shared>, job: &Job, schedule: &Schedule, at: DateTime<Utc>, stop: &Stop) {
    let mut pauses = Pauses::default();
    while !stop.is_requested() {
        shared.tell(&ServerEvent::Due { pipeline: job.name.clone(), at });
        let began = Instant::now();
        let error = match attempt(shared, job, Some(at), stop).await {
            Ended::Stopped => return,
            Ended::Well(outcome) => return landed(shared, job, outcome),
            Ended::Failed(error) => error,
        };
        let again = shared.again(&mut pauses, &error, began.elapsed());
        let next = schedule.next(at).filter(|next| *next <= again);
        // What a person cancelled was meant to stop.
        if error.kind() == Kind::Interrupted {
            return failed(shared, job, &error, State::Waiting, schedule.next(shared.now()));
        }
        if let Some(next) = next {
            failed(shared, job, &error, State::Waiting, Some(next.max(shared.now())));
            // The turn is kept until then, lest every other server tries this time once more.
            shared.sleep_until(next, stop).await;
            return;
        }
        failed(shared, job, &error, State::Retrying, Some(again));
        if !shared.sleep_until(again, stop).await {
            return;
        }
    }
}

fn landed(shared: &Shared, job: &Job, outcome: Outcome) {
    let now = shared.now();
    let over = outcome.over_max.then(|| over_max(&outcome.summary));
    shared.board.change(&job.name, |known| {
        known.failing = false;
        known.last_success = Some(now);
        if let Some(failure) = over {
            known.last_error = Some(LastError { at: now, failure });
        }
    });
    let Outcome { run, summary, over_max } = outcome;
    shared.tell(&ServerEvent::Landed { pipeline: job.name.clone(), run, summary, over_max });
}

/// What this server knows is behind what the run of another has done.
fn went_well_elsewhere(shared: &Shared, job: &Job, run: &Run) {
    if run.status != Status::Succeeded {
        return;
    }
    shared.board.change(&job.name, |known| {
        known.failing = false;
        known.last_success = known.last_success.max(run.finished_at);
        for table in known.tables.values_mut() {
            (table.parked, table.reason) = (0, None);
        }
    });
}

fn over_max(summary: &Summary) -> Failure {
    Failure {
        error: format!("{} records do not fit, more than may", summary.rejects),
        code: "too_many_dead_letters".to_owned(),
        place: None,
        hint: Some("`longshore dead-letters list` shows them".to_owned()),
    }
}
