//! What happens in a run. The same events feed the progress bar, `--json`, the history and the logs.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::commit::CommitNumber;
use crate::error::Place;
use crate::stream::Lag;

/// A run's state, derived from its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Registered.
    Pending,
    /// At work, or its process died before it could say otherwise.
    Running,
    /// Every row can be queried.
    Succeeded,
    /// It ended with an error.
    Failed,
    /// A person stopped it.
    Cancelled,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RunEvent {
    /// The run began.
    Started {
        /// The pipeline.
        pipeline: String,
        /// What it reads, as the user wrote it.
        inputs: Vec<String>,
        /// Where it lands.
        destination: String,
        /// Its process.
        process: u32,
        /// The logical time that it is for, if it has one: its scheduled time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run_time: Option<chrono::DateTime<chrono::Utc>>,
    },
    /// It waits for something: a lease, a quota. Not a failure.
    Waiting {
        /// For what.
        reason: String,
    },
    /// A commit that an earlier run journalled was published.
    Recovered {
        /// Its number.
        n: CommitNumber,
    },
    /// Inputs were found.
    Found {
        /// To be read.
        splits: u64,
        /// Their bytes.
        bytes: u64,
        /// Known already, so not read.
        skipped: u64,
    },
    /// A choice that the user may want to know of (a delimiter, the record paths found).
    Note {
        /// The text.
        text: String,
    },
    /// Something that deserves a look.
    Warning {
        /// The text.
        text: String,
    },
    /// A table was created or changed.
    Schema {
        /// The table.
        table: String,
        /// In words, one change each.
        changes: Vec<String>,
    },
    /// How far reading is. Sent often, not kept in the history.
    Progress {
        /// Input bytes decoded.
        bytes: u64,
        /// Rows staged.
        rows: u64,
        /// Dead letters.
        rejects: u64,
        /// Which pass: `look` (structure and types) or `load`.
        phase: Phase,
    },
    /// The first of the records that did not fit; later ones are only counted.
    Rejected {
        /// Where.
        place: Place,
        /// The stable reason code.
        code: String,
        /// Why.
        reason: String,
    },
    /// Step 2 is done.
    Journalled {
        /// The commit.
        n: CommitNumber,
    },
    /// Step 3 is done for a table.
    Published {
        /// The commit.
        n: CommitNumber,
        /// The table.
        table: String,
        /// Its rows.
        rows: u64,
        /// The destination's name for the commit.
        commit: Option<String>,
    },
    /// A table could not be published for now.
    Parked {
        /// The commit.
        n: CommitNumber,
        /// The table.
        table: String,
        /// Why.
        reason: String,
    },
    /// A table shows all that was parked for it.
    Unparked {
        /// The table.
        table: String,
    },
    /// How an endless source flows. Sent each second; kept in the history each minute and at the end.
    Flow(Flow),
    /// Steps 4 and 5 are done.
    Completed {
        /// The commit.
        n: CommitNumber,
    },
    /// The run ended. The last event of a run.
    Finished {
        /// How.
        status: Status,
        /// The error, if it failed.
        error: Option<String>,
        /// The error's code.
        code: Option<String>,
        /// What it did.
        summary: Summary,
    },
}

/// How an endless source flows, since its run began.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Flow {
    /// Messages that are journalled.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Dead letters among them.
    pub rejects: u64,
    /// Commits that are complete.
    pub commits: u64,
    /// Commits that are journalled and not complete.
    pub open: u64,
    /// How far behind each part of the source is read.
    pub lag: Vec<Lag>,
    /// What became of each table.
    pub tables: BTreeMap<String, TableFlow>,
}

/// How a table of a stream fares.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TableFlow {
    /// Rows that this run has journalled for it.
    pub rows: u64,
    /// When it showed new rows last.
    pub shown_at: Option<chrono::DateTime<chrono::Utc>>,
    /// How old the oldest message of that commit was then, in seconds.
    pub delay: Option<f64>,
    /// Commits that wait for it.
    pub parked: u64,
    /// Why they do.
    pub reason: Option<String>,
}

/// A pass over the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Structure and types.
    Look,
    /// Decoding and staging.
    Load,
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    /// Rows landed, by table. `_dead_letters` is not among them.
    pub tables: BTreeMap<String, u64>,
    /// Dead letters.
    pub rejects: u64,
    /// Splits (files) landed.
    pub landed: u64,
    /// Splits known already.
    pub skipped: u64,
    /// Input bytes read.
    pub bytes: u64,
    /// Commits made.
    pub commits: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Who listens to a run. Called from many threads, must not block for long.
pub trait Observer: Send + Sync {
    /// Takes one event.
    fn event(&self, event: &RunEvent);
}

/// An observer that does nothing.
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: &RunEvent) {}
}

/// Where events go. Cloning shares the observer.
#[derive(Clone)]
pub struct Events(Arc<dyn Observer>);

impl Events {
    /// Events for this observer.
    pub fn new(observer: Arc<dyn Observer>) -> Self {
        Self(observer)
    }

    /// Events that nobody listens to.
    pub fn silent() -> Self {
        Self(Arc::new(Silent))
    }

    /// Sends one.
    pub fn send(&self, event: RunEvent) {
        self.0.event(&event);
    }

    /// Sends a note.
    pub fn note(&self, text: impl Into<String>) {
        self.send(RunEvent::Note { text: text.into() });
    }

    /// Sends a warning.
    pub fn warn(&self, text: impl Into<String>) {
        self.send(RunEvent::Warning { text: text.into() });
    }
}
