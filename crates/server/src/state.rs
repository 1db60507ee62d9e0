//! What a server knows of a pipeline.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use longshore_core::commit::DEAD_LETTERS;
use longshore_core::stream::Lag;
use serde::Serialize;
use tokio::time::Instant;

use crate::event::Failure;
use crate::jobs::Job;

/// What a pipeline does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It has begun and shown no sign of life yet.
    Starting,
    /// A run is at work.
    Running,
    /// Its next time has not come.
    Waiting,
    /// It failed and is tried again later.
    Retrying,
    /// It ends, gracefully.
    Stopping,
    /// A server does not run it.
    ByHand,
}

/// What is known of a pipeline.
#[derive(Debug, Clone, Serialize)]
pub struct Known {
    /// Its file.
    pub file: String,
    /// `endless`, `scheduled` or `by_hand`.
    pub kind: &'static str,
    /// Its schedule.
    pub schedule: Option<String>,
    /// What it does.
    pub state: State,
    /// Since when.
    pub since: DateTime<Utc>,
    /// When it runs next: its scheduled time, or when it is tried again.
    pub next: Option<DateTime<Utc>>,
    /// How it failed last.
    pub last_error: Option<LastError>,
    /// When a run of it ended well, or, of an endless one, when it committed last.
    pub last_success: Option<DateTime<Utc>>,
    /// Why it gets nothing done, if it does not.
    pub stalled: Option<Stalled>,
    /// How far behind each part of its source is read.
    pub lag: Vec<Lag>,
    /// Its tables.
    pub tables: BTreeMap<String, Table>,
    /// What it did since the server began.
    pub totals: Totals,
    /// Whether its file is there. What is gone keeps its totals, which never go back.
    #[serde(skip)]
    pub(crate) present: bool,
    /// Whether its last run failed.
    #[serde(skip)]
    pub(crate) failing: bool,
    #[serde(skip)]
    pub(crate) pulse: Pulse,
}

/// An error and its time.
#[derive(Debug, Clone, Serialize)]
pub struct LastError {
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    #[serde(flatten)]
    pub failure: Failure,
}

/// A pipeline that gets nothing done.
#[derive(Debug, Clone, Serialize)]
pub struct Stalled {
    /// Since when.
    pub since: DateTime<Utc>,
    /// What it waits for, as far as that is known.
    pub reason: String,
}

/// A table of a pipeline.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Table {
    /// Rows since the server began.
    pub rows: u64,
    /// When it showed new rows last.
    pub shown_at: Option<DateTime<Utc>>,
    /// How old the oldest message of that commit was then, in seconds.
    pub delay_seconds: Option<f64>,
    /// Commits that wait for it.
    pub parked: u64,
    /// Why they do.
    pub reason: Option<String>,
    /// The last commit that was counted: publishing may be told twice.
    #[serde(skip)]
    pub(crate) counted: i64,
}

/// What a pipeline did since the server began. Nothing here ever goes back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Messages of an endless source that were journalled.
    pub messages: u64,
    /// Bytes read and committed.
    pub bytes: u64,
    /// Commits.
    pub commits: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Runs that failed.
    pub failures: u64,
}

/// Signs of life of a run.
#[derive(Debug, Clone)]
pub(crate) struct Pulse {
    /// When it last got something done, or had nothing to do.
    pub(crate) moved: Instant,
    /// When it was last heard of.
    pub(crate) heard: Instant,
    /// Commits that are journalled and not complete.
    pub(crate) open: u64,
    /// What it said it waits for, since it last moved.
    pub(crate) waits: Option<String>,
    /// The last commit that was counted.
    pub(crate) counted: i64,
}

impl Pulse {
    fn new() -> Self {
        let now = Instant::now();
        Self { moved: now, heard: now, open: 0, waits: None, counted: 0 }
    }
}

impl Known {
    /// A pipeline that has just been found. What counts all that was ever done goes on.
    pub(crate) fn new(job: &Job, before: Option<Known>, now: DateTime<Utc>) -> Self {
        let (totals, tables, last_success, pulse) = match before {
            Some(known) => (known.totals, known.tables, known.last_success, known.pulse),
            None => (Totals::default(), BTreeMap::new(), None, Pulse::new()),
        };
        Self {
            file: job.file.clone(),
            kind: job.kind.name(),
            schedule: job.kind.schedule(),
            state: State::Starting,
            since: now,
            next: None,
            last_error: None,
            last_success,
            stalled: None,
            lag: Vec::new(),
            tables,
            totals,
            present: true,
            failing: false,
            pulse,
        }
    }

    /// Messages that wait to be read, where any part of the source tells.
    pub fn behind(&self) -> Option<u64> {
        self.lag.iter().filter_map(|lag| lag.messages).reduce(u64::saturating_add)
    }

    /// Whether it does what it is there for.
    pub fn is_up(&self) -> bool {
        !self.failing && !matches!(self.state, State::Starting | State::Retrying | State::ByHand)
    }

    /// Whether its file is there.
    pub(crate) fn is_present(&self) -> bool {
        self.present
    }

    /// Its tables but for the one of dead letters, which have a count of their own.
    pub(crate) fn row_tables(&self) -> impl Iterator<Item = (&String, &Table)> {
        self.tables.iter().filter(|(name, _)| *name != DEAD_LETTERS)
    }

    /// Sets what it does; `since` says when that changed.
    pub(crate) fn enter(&mut self, state: State, now: DateTime<Utc>) {
        if self.state != state {
            (self.state, self.since) = (state, now);
        }
    }

    /// A run begins, or has ended: what was known of its source is so no more.
    pub(crate) fn between_runs(&mut self) {
        self.lag.clear();
        self.stalled = None;
        let counted = self.pulse.counted;
        self.pulse = Pulse { counted, ..Pulse::new() };
    }
}
