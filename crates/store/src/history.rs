//! Runs: their status follows from their events alone.

use chrono::{DateTime, Utc};
use longshore_core::event::{RunEvent, Status};
use longshore_core::store::Run;

/// How many ids an ambiguous beginning lists.
pub(crate) const CANDIDATES: usize = 5;

/// Whether an event belongs into the history. Progress is sent often and says nothing later.
pub(crate) fn is_kept(event: &RunEvent) -> bool {
    !matches!(event, RunEvent::Progress { .. })
}

/// Whether an event shows that a run is at work. While it only waits (for a lease, say) it is still pending.
pub(crate) fn is_work(event: &RunEvent) -> bool {
    !matches!(event, RunEvent::Waiting { .. })
}

/// Whether any event of `events` but the last is `Finished`.
pub(crate) fn goes_on_after_finish<'a>(events: impl IntoIterator<Item = &'a RunEvent>) -> bool {
    let mut finished = false;
    for event in events {
        if finished {
            return true;
        }
        finished = matches!(event, RunEvent::Finished { .. });
    }
    false
}

/// A run out of what its events say: whether it `works`, and its last event.
pub(crate) fn summarise(
    id: String,
    pipeline: String,
    started_at: DateTime<Utc>,
    works: bool,
    last: Option<(DateTime<Utc>, RunEvent)>,
) -> Run {
    let status = if works { Status::Running } else { Status::Pending };
    let mut run = Run { id, pipeline, status, started_at, finished_at: None, summary: None, error: None };
    if let Some((at, RunEvent::Finished { status, error, summary, .. })) = last {
        run.status = status;
        run.finished_at = Some(at);
        run.summary = Some(summary);
        run.error = error;
    }
    run
}

/// The form in which ids are kept.
pub(crate) fn new_run_id() -> String {
    uuid::Uuid::now_v7().to_string()
}
