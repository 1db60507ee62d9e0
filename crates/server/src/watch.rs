//! Listens to a run, and keeps on the board what it tells.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use longshore_core::commit::DEAD_LETTERS;
use longshore_core::event::{Flow, Observer, RunEvent};
use tokio::time::Instant;

use crate::shared::Shared;
use crate::state::{Known, State};

/// The observer of one run.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    pipeline: String,
    endless: bool,
    /// What of an endless run is counted already: a run tells all that it did since it began.
    counted: Mutex<Flow>,
}

impl Watch {
    pub(crate) fn new(shared: Arc<Shared>, pipeline: &str, endless: bool) -> Self {
        Self { shared, pipeline: pipeline.to_owned(), endless, counted: Mutex::default() }
    }
}

impl Observer for Watch {
    fn event(&self, event: &RunEvent) {
        let now = self.shared.now();
        self.shared.board.change(&self.pipeline, |known| match event {
            RunEvent::Waiting { reason } => known.pulse.waits = Some(reason.clone()),
            RunEvent::Flow(flow) if self.endless => {
                let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
                flows(known, &counted, flow, now);
                *counted = flow.clone();
            }
            event if !self.endless => goes_on(known, event, now),
            _ => {}
        });
        self.shared.listener.run(&self.pipeline, event);
    }
}

/// What an endless run tells each second.
fn flows(known: &mut Known, before: &Flow, flow: &Flow, now: DateTime<Utc>) {
    let totals = &mut known.totals;
    totals.messages += flow.messages.saturating_sub(before.messages);
    totals.bytes += flow.bytes.saturating_sub(before.bytes);
    totals.dead_letters += flow.rejects.saturating_sub(before.rejects);
    let commits = flow.commits.saturating_sub(before.commits);
    totals.commits += commits;
    for (name, table) in flow.tables.iter().filter(|(name, _)| *name != DEAD_LETTERS) {
        let rows = table.rows.saturating_sub(before.tables.get(name).map_or(0, |table| table.rows));
        let seen = known.tables.entry(name.clone()).or_default();
        seen.rows += rows;
        (seen.parked, seen.reason) = (table.parked, table.reason.clone());
        if table.shown_at.is_some() {
            (seen.shown_at, seen.delay_seconds) = (table.shown_at, table.delay);
        }
    }
    known.lag.clone_from(&flow.lag);
    known.pulse.open = flow.open;
    known.pulse.heard = Instant::now();
    if commits > 0 {
        known.last_success = Some(now);
    }
    // Nothing to do is as good as something done.
    if commits > 0 || (flow.open == 0 && known.behind().unwrap_or(0) == 0) {
        known.pulse.moved = Instant::now();
        known.pulse.waits = None;
    }
    if known.state == State::Starting {
        known.enter(State::Running, now);
        known.failing = false;
    }
}

/// What a run with an end tells as it goes.
fn goes_on(known: &mut Known, event: &RunEvent, now: DateTime<Utc>) {
    match event {
        RunEvent::Published { n, table, rows, .. } => {
            if table == DEAD_LETTERS {
                let letters = known.tables.entry(table.clone()).or_default();
                let fresh = *n > letters.counted;
                letters.counted = letters.counted.max(*n);
                known.totals.dead_letters += if fresh { *rows } else { 0 };
                return;
            }
            let seen = known.tables.entry(table.clone()).or_default();
            if *n > seen.counted {
                seen.counted = *n;
                seen.rows += rows;
                seen.shown_at = Some(now);
            }
            (seen.parked, seen.reason) = (0, None);
        }
        RunEvent::Parked { table, reason, .. } => {
            let seen = known.tables.entry(table.clone()).or_default();
            (seen.parked, seen.reason) = (1, Some(reason.clone()));
        }
        RunEvent::Completed { n } if *n > known.pulse.counted => {
            known.pulse.counted = *n;
            known.totals.commits += 1;
        }
        RunEvent::Finished { summary, .. } => known.totals.bytes += summary.bytes,
        _ => {}
    }
}
