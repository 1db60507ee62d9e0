//! The contract of the store: the truth about runs and commits.
//!
//! - `journal` MUST check everything and write everything in one transaction: attempts alive, epoch current, positions equal
//!   to each delta's `from`, ids free. If any check fails nothing changes. Otherwise two workers could land one record twice.
//! - `journal` with a token that it has seen MUST answer with the entry it wrote then, because the answer of the first
//!   call may have been lost.
//! - Positions MUST move in `journal` only, and never back: `complete` is late or repeated at times.
//! - A number MUST never be given twice in a pipeline.
//! - `doom_attempts` MUST make the attempts dead before anybody deletes their files, so that a stager which wakes up later is
//!   refused by `journal` instead of naming files that are gone.
//! - `complete` MUST keep the part of a table whose receipt says that it is parked, in the same transaction, because nothing else names its
//!   files from then on.
//! - Every write MUST be durable before its call returns.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

use crate::Result;
use crate::commit::{
    Adoption, Application, AttemptId, CommitNumber, Completion, DeadLetterKey, DeadLetterState, Draft, Entry, EntryState,
    Landing, Parked, Receipt,
};
use crate::event::{RunEvent, Status};
use crate::position::{Partition, Position};

/// What the store knows of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineState {
    /// Its identity in destinations.
    pub application: Application,
    /// The last number given.
    pub last: CommitNumber,
    /// Entries that are not acknowledged yet, in order of N.
    pub open: Vec<Entry>,
    /// The last commit published to each table, by its receipts.
    pub published: BTreeMap<String, CommitNumber>,
    /// Parts of commits that wait for their tables, in order of N.
    pub parked: Vec<Parked>,
}

/// The journal of commits.
#[async_trait]
pub trait Journal: Send + Sync {
    /// The state of a pipeline, which is created if it is new.
    async fn pipeline(&self, name: &str) -> Result<PipelineState>;

    /// The names of all pipelines.
    async fn pipelines(&self) -> Result<Vec<String>>;

    /// Step 2. Errors that change nothing: `lease_lost`, `attempt_dead`, `delta_refused`.
    async fn journal(&self, draft: Draft) -> Result<Entry>;

    /// Replaces what an entry that is not complete says of its rows, if its amendment number is still `amendment`; returns the entry as it
    /// then is. What it covers stays. The draft's epoch must be current, and attempts that are new in it alive. A repeated call with the
    /// same attempts finds what the first one wrote. Errors that change nothing: `lease_lost`, `attempt_dead`, and `delta_refused` if
    /// somebody else amended it first.
    async fn amend(&self, n: CommitNumber, amendment: i64, draft: Draft) -> Result<Entry>;

    /// Step 4: receipts, file ledger, dead-letter index, parked parts, in one transaction. Late or repeated it changes nothing.
    async fn complete(&self, completion: Completion) -> Result<()>;

    /// A part that was parked is published now: its receipt takes the place of the one that says parked. Repeating it changes nothing.
    /// Errors that change nothing: `lease_lost`.
    async fn unpark(&self, receipt: Receipt, epoch: i64) -> Result<()>;

    /// How far these commits of a pipeline are.
    async fn states(&self, pipeline: &str, numbers: &[CommitNumber]) -> Result<BTreeMap<CommitNumber, EntryState>>;

    /// Those of these ids that are journalled and not forgotten, each with the state of its commit.
    async fn known_ids(&self, pipeline: &str, scope: &str, ids: &[String]) -> Result<BTreeMap<String, EntryState>>;

    /// Forgets the ids of a scope whose commits were acknowledged, and journalled before this time. Returns how many those were.
    async fn forget_ids(&self, pipeline: &str, scope: &str, before: chrono::DateTime<chrono::Utc>) -> Result<u64>;

    /// Step 5 is done.
    async fn acknowledged(&self, pipeline: &str, n: CommitNumber) -> Result<()>;

    /// The position of a partition, `None` at its start.
    async fn position(&self, pipeline: &str, partition: &Partition) -> Result<Option<Position>>;

    /// Receipts, newest first; of one run if given.
    async fn receipts(&self, run: Option<&str>, limit: usize) -> Result<Vec<Receipt>>;

    /// Repair: takes over what a destination's log says, in one transaction. A mark becomes what its table is known to hold, and
    /// the last number given is at least that; numbers and positions never go back. May be repeated.
    async fn adopt(&self, pipeline: &str, adoption: &Adoption) -> Result<()>;

    /// Repair: forgets that anything was published to `table` (it was deleted on purpose), so that its files can land there
    /// again: its file-ledger lines, those of the same commits for whole files, and these files' positions. Lines of other
    /// tables stay, and so do parked parts: their rows are nowhere else.
    async fn forget_table(&self, pipeline: &str, table: &str) -> Result<()>;

    /// Repair: gives up the parked parts of a table, whose rows are then lost. May be repeated.
    async fn give_up_parked(&self, pipeline: &str, table: &str) -> Result<()>;
}

/// Attempts at staging.
#[async_trait]
pub trait Attempts: Send + Sync {
    /// Registers a new attempt of this pipeline, alive. Fails with `lease_lost` if the writer is none any more.
    async fn begin_attempt(&self, pipeline: &str, writer: Writer) -> Result<AttemptId>;

    /// Keeps lines for the index of dead letters with a living attempt, in this order: they become open when the commit that takes the
    /// attempt is complete, and are forgotten when it is swept. A line whose id the attempt has already is not kept twice, so that the
    /// call may be repeated. They do not go through the journal's entry, because there may be as many as there are records.
    async fn keep_letters(&self, attempt: &AttemptId, letters: &[DeadLetterKey]) -> Result<()>;

    /// Marks every attempt of this pipeline dead that is not journalled and began under an older epoch than `epoch` or by a worker that is
    /// gone, and these `given_up` ones; returns all dead ones that were not swept yet. A worker that was not renewed in time is gone from
    /// then on.
    async fn doom_attempts(&self, pipeline: &str, epoch: i64, given_up: &[AttemptId]) -> Result<Vec<AttemptId>>;

    /// Their files are gone.
    async fn swept(&self, attempts: &[AttemptId]) -> Result<()>;
}

/// What the file ledger knows.
#[async_trait]
pub trait FileLedger: Send + Sync {
    /// The latest landing of this file in each table of this pipeline, [`Landing::WHOLE`] included.
    async fn landings(&self, pipeline: &str, address: &str) -> Result<Vec<Landing>>;

    /// A landing of these bytes at another address, for a warning.
    async fn same_bytes(&self, pipeline: &str, digest: &str, address: &str) -> Result<Option<Landing>>;

    /// The record paths used last in this pipeline, newest first.
    async fn record_paths(&self, pipeline: &str) -> Result<Vec<serde_json::Value>>;
}

/// A dead letter as the index knows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct IndexedDeadLetter {
    /// Id, code, table, place.
    #[serde(flatten)]
    pub key: DeadLetterKey,
    /// Open, replayed or dropped.
    pub state: DeadLetterState,
    /// The pipeline.
    pub pipeline: String,
    /// The commit that brought it.
    pub n: CommitNumber,
    /// The run that brought it.
    pub run: String,
    /// When.
    pub at: chrono::DateTime<chrono::Utc>,
}

/// Which dead letters.
#[derive(Debug, Clone, Default)]
pub struct DeadLetterFilter {
    /// These ids, or any.
    pub ids: Vec<String>,
    /// Of this pipeline, or any.
    pub pipeline: Option<String>,
    /// Of this run, or any.
    pub run: Option<String>,
    /// With this code, or any.
    pub code: Option<String>,
    /// In this state, or any.
    pub state: Option<DeadLetterState>,
    /// At most so many; 0 for all.
    pub limit: usize,
}

/// The index of dead letters.
#[async_trait]
pub trait DeadLetterIndex: Send + Sync {
    /// Those that match, oldest first.
    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<IndexedDeadLetter>>;

    /// Marks open ones as dropped; returns how many were open.
    async fn drop_dead_letters(&self, ids: &[String]) -> Result<u64>;
}

/// The right to publish for a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The pipeline.
    pub pipeline: String,
    /// Grows with each holder.
    pub epoch: i64,
    /// Process, host and run of the holder.
    pub holder: String,
}

/// The answer to a wish for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// It is ours.
    Granted(Lease),
    /// It is somebody's until then.
    Held {
        /// Process, host and run.
        holder: String,
        /// How long it still is valid unless renewed.
        remaining: Duration,
    },
}

/// Leases on pipelines.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Takes the lease if it is free, if it expired, or if its holder is known to be dead (its file lock is free).
    async fn take_lease(&self, pipeline: &str, holder: &str, valid: Duration) -> Result<LeaseAnswer>;

    /// Renews it. Fails with `lease_lost` if somebody took it over.
    async fn renew_lease(&self, lease: &Lease, valid: Duration) -> Result<()>;

    /// Fails with `lease_lost` if somebody took it over. Expiry alone does not lose a lease.
    async fn check_lease(&self, lease: &Lease) -> Result<()>;

    /// Frees it. Repeating it, or freeing a lost one, changes nothing; but it always fails if the store cannot be written now.
    async fn free_lease(&self, lease: &Lease) -> Result<()>;
}

/// One of the processes that stage commits of a pipeline side by side. Its attempts live as long as it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// The pipeline.
    pub pipeline: String,
    /// Never given twice in a pipeline.
    pub id: i64,
}

/// By what right somebody stages and journals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub enum Writer {
    /// As the only one, by the lease of this epoch.
    Lease(i64),
    /// Beside others, as this worker.
    Worker {
        /// [`Worker::id`].
        worker: i64,
    },
}

/// The workers of pipelines.
#[async_trait]
pub trait Workers: Send + Sync {
    /// Registers a worker of this pipeline, which is created if it is new.
    async fn join(&self, pipeline: &str, holder: &str, valid: Duration) -> Result<Worker>;

    /// Keeps it registered. Fails with `lease_lost` if it was taken for dead.
    async fn renew_worker(&self, worker: &Worker, valid: Duration) -> Result<()>;

    /// It is gone; its attempts that are not journalled are dead. Repeating it changes nothing.
    async fn leave(&self, worker: &Worker) -> Result<()>;

    /// The ids of those that are registered.
    async fn workers(&self, pipeline: &str) -> Result<Vec<i64>>;
}

/// A run as its events tell it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Run {
    /// Its id; ids sort by time.
    pub id: String,
    /// The pipeline.
    pub pipeline: String,
    /// Derived from the events.
    pub status: Status,
    /// When it began.
    pub started_at: chrono::DateTime<chrono::Utc>,
    /// When it ended.
    pub finished_at: Option<chrono::DateTime<chrono::Utc>>,
    /// The last event's summary.
    pub summary: Option<crate::event::Summary>,
    /// The error of a failed run.
    pub error: Option<String>,
}

/// A line of a run's history.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct HistoryLine {
    /// From 1 within the run.
    pub sequence: i64,
    /// When.
    pub at: chrono::DateTime<chrono::Utc>,
    /// What.
    #[serde(flatten)]
    pub event: RunEvent,
}

/// The history of runs.
#[async_trait]
pub trait Runs: Send + Sync {
    /// Registers a run; returns its id.
    async fn begin_run(&self, pipeline: &str) -> Result<String>;

    /// Appends events in order. An event after `Finished` is refused.
    async fn append_events(&self, run: &str, events: &[RunEvent]) -> Result<()>;

    /// Runs, newest first; of one pipeline if given.
    async fn runs(&self, pipeline: Option<&str>, limit: usize) -> Result<Vec<Run>>;

    /// A run and its history; an unambiguous beginning of the id suffices. `None` if there is none.
    async fn run(&self, id: &str) -> Result<Option<(Run, Vec<HistoryLine>)>> {
        self.run_newest(id, usize::MAX).await
    }

    /// As [`Runs::run`], with so many lines of its history at most: the newest, in order. Sequences have no gaps, so that the first of them tells
    /// whether there are older ones.
    async fn run_newest(&self, id: &str, lines: usize) -> Result<Option<(Run, Vec<HistoryLine>)>>;

    /// When a server first looked after this pipeline: `now` if none has until now, which is kept. The pipeline is created if it is new.
    async fn first_served(&self, pipeline: &str, now: chrono::DateTime<chrono::Utc>) -> Result<chrono::DateTime<chrono::Utc>>;

    /// Asks a run to stop.
    async fn request_cancel(&self, run: &str) -> Result<()>;

    /// Whether that was asked.
    async fn cancel_requested(&self, run: &str) -> Result<bool>;
}

/// Everything that a run needs.
pub trait Store: Journal + Attempts + FileLedger + DeadLetterIndex + Leases + Workers + Runs {
    /// The id born with the store.
    fn id(&self) -> &str;
}
