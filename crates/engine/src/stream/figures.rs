//! How a worker's share of the stream flows, for people and metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use longshore_core::commit::{CommitNumber, Counts, DEAD_LETTERS};
use longshore_core::event::{Events, Flow, Observer, RunEvent, Summary, TableFlow};
use longshore_core::store::PipelineState;
use longshore_core::stream::Lag;

/// How often the flow is kept in the history.
const KEPT: Duration = Duration::from_secs(60);

/// What was done so far, and what is told of it.
pub(crate) struct Figures {
    observer: Arc<dyn Observer>,
    events: Events,
    flow: Flow,
    /// Commits that were completed since the state was looked at.
    completed: Vec<Completed>,
    kept: Option<Instant>,
}

struct Completed {
    n: CommitNumber,
    tables: BTreeSet<String>,
    oldest: Option<DateTime<Utc>>,
    at: DateTime<Utc>,
}

impl Figures {
    pub(crate) fn new(observer: Arc<dyn Observer>, events: Events) -> Self {
        Self { observer, events, flow: Flow::default(), completed: Vec::new(), kept: None }
    }

    /// Dead letters so far.
    pub(crate) fn rejects(&self) -> u64 {
        self.flow.rejects
    }

    /// A commit of so many messages is journalled.
    pub(crate) fn journalled(&mut self, messages: u64, counts: &Counts) {
        self.flow.messages += messages;
        self.flow.bytes += counts.bytes;
        self.flow.rejects += counts.rejects;
        for (table, rows) in &counts.rows {
            self.flow.tables.entry(table.clone()).or_default().rows += rows;
        }
    }

    /// A commit is complete: its tables show it, but for those that are parked, as the next state tells.
    pub(crate) fn completed(&mut self, n: CommitNumber, rows: BTreeMap<String, u64>, oldest: Option<DateTime<Utc>>) {
        self.flow.commits += 1;
        self.completed.push(Completed { n, tables: rows.into_keys().collect(), oldest, at: Utc::now() });
    }

    /// Looks at what waits for which table.
    pub(crate) fn look(&mut self, state: PipelineState) {
        let parked: BTreeSet<(CommitNumber, &str)> = state.parked.iter().map(|part| (part.n, part.table.as_str())).collect();
        for Completed { n, tables, oldest, at } in self.completed.drain(..) {
            for table in tables.into_iter().filter(|table| !parked.contains(&(n, table.as_str()))) {
                let flow = self.flow.tables.entry(table).or_default();
                (flow.shown_at, flow.delay) = (Some(at), oldest.map(|oldest| (at - oldest).as_seconds_f64()));
            }
        }
        for flow in self.flow.tables.values_mut() {
            (flow.parked, flow.reason) = (0, None);
        }
        for part in state.parked {
            let flow = self.flow.tables.entry(part.table).or_default();
            flow.parked += 1;
            flow.reason = flow.reason.take().or(part.receipt.parked);
        }
    }

    /// Tells all of it; once in a while, and the last time, into the history.
    pub(crate) fn tell(&mut self, open: usize, lag: Vec<Lag>, last: bool) {
        (self.flow.open, self.flow.lag) = (open as u64, lag);
        let event = RunEvent::Flow(self.flow.clone());
        if last || self.kept.is_none_or(|at| at.elapsed() >= KEPT) {
            self.kept = Some(Instant::now());
            self.events.send(event);
        } else {
            self.observer.event(&event);
        }
    }

    pub(crate) fn write(&self, summary: &mut Summary) {
        summary.commits = self.flow.commits;
        summary.bytes = self.flow.bytes;
        summary.rejects = self.flow.rejects;
        summary.landed = self.flow.messages;
        let rows = |(table, flow): (&String, &TableFlow)| (table.clone(), flow.rows);
        summary.tables = self.flow.tables.iter().map(rows).filter(|(table, _)| table != DEAD_LETTERS).collect();
    }
}
