//! A store that forgets everything when its last handle goes: the twin of [`crate::SqliteStore`] for tests.

mod attempts;
mod ids;
mod index;
mod journal;
mod leases;
mod runs;
mod workers;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use longshore_core::Result;
use longshore_core::commit::{AttemptId, CommitNumber, DeadLetterKey, Entry, Landing, Parked, Receipt};
use longshore_core::error::{Error, Kind, Retry, code};
use longshore_core::event::RunEvent;
use longshore_core::position::Checkpoint;
use longshore_core::store::{IndexedDeadLetter, Store, Writer};

/// A store in memory. A clone is another handle on the same state, which lets a test play several processes.
///
/// Nobody knows whether a handle's process lives, so a lease of a handle that was dropped lasts until it expires, is freed,
/// or [`MemoryStore::expire_lease`] is called.
#[derive(Clone)]
pub struct MemoryStore {
    id: Arc<str>,
    state: Arc<Mutex<State>>,
    /// Calls whose next answer is lost.
    lost: Arc<Mutex<Vec<&'static str>>>,
}

#[derive(Default)]
struct State {
    pipelines: BTreeMap<String, Pipeline>,
    /// In the order they were written.
    receipts: Vec<Receipt>,
    /// In the order they were written.
    dead_letters: Vec<Letter>,
    /// In the order they began.
    runs: Vec<RunRecord>,
}

struct Pipeline {
    ledger: String,
    /// The lost store that the pipeline was taken over from.
    origin: Option<String>,
    /// When a server first looked after it.
    first_served: Option<DateTime<Utc>>,
    last: CommitNumber,
    lease: Option<LeaseRecord>,
    /// By id: when their time is over.
    workers: BTreeMap<i64, DateTime<Utc>>,
    last_worker: i64,
    attempts: BTreeMap<AttemptId, Attempt>,
    entries: BTreeMap<CommitNumber, Entry>,
    positions: Checkpoint,
    /// By scope and id.
    ids: BTreeMap<(String, String), CommitNumber>,
    /// When commits with ids were acknowledged.
    acknowledged: BTreeMap<CommitNumber, DateTime<Utc>>,
    published: BTreeMap<String, CommitNumber>,
    /// By commit and table.
    parked: BTreeMap<(CommitNumber, String), Parked>,
    /// By address and table.
    landings: BTreeMap<(String, String), Landing>,
    /// By table and paths: the commit, and the place in it.
    record_paths: BTreeMap<(String, String), (CommitNumber, usize)>,
}

struct LeaseRecord {
    epoch: i64,
    holder: String,
    held: bool,
    expires_at: DateTime<Utc>,
}

struct Attempt {
    writer: Writer,
    dead: bool,
    n: Option<CommitNumber>,
    letters: Vec<DeadLetterKey>,
}

struct Letter {
    indexed: IndexedDeadLetter,
    /// The commit that is to replay it.
    replaying: Option<CommitNumber>,
}

struct RunRecord {
    id: String,
    pipeline: String,
    started_at: DateTime<Utc>,
    cancel: bool,
    events: Vec<(DateTime<Utc>, RunEvent)>,
}

impl MemoryStore {
    /// An empty store with an id of its own.
    pub fn new() -> Self {
        Self { id: uuid::Uuid::new_v4().to_string().into(), state: Arc::default(), lost: Arc::default() }
    }

    /// Loses the answer of the next call of this name (`journal`, `amend`, `complete`, `unpark`, `acknowledged`,
    /// `forget_ids`, `begin_attempt`, `keep_letters`, `swept`, `free_lease`, `join`, `renew_worker`, `leave`, `runs`) on any handle: it is carried
    /// out, and the caller is told that nobody knows.
    pub fn lose_answer(&self, call: &'static str) {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }

    /// An answer on its way to the caller.
    fn answer<T>(&self, call: &str, answer: T) -> Result<T> {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = lost.iter().position(|lost| *lost == call) else { return Ok(answer) };
        lost.remove(at);
        Err(Error::new(Kind::Store, code::STORE_UNAVAILABLE, format!("the answer of {call} was lost")).with_retry(Retry::Backoff))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for MemoryStore {
    fn id(&self) -> &str {
        &self.id
    }
}

impl State {
    /// The pipeline, which is made if it is new.
    fn ensure(&mut self, name: &str) -> &mut Pipeline {
        self.pipelines.entry(name.to_owned()).or_insert_with(|| Pipeline {
            ledger: uuid::Uuid::new_v4().to_string(),
            origin: None,
            first_served: None,
            last: 0,
            lease: None,
            workers: BTreeMap::new(),
            last_worker: 0,
            attempts: BTreeMap::new(),
            entries: BTreeMap::new(),
            positions: Checkpoint::default(),
            ids: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            published: BTreeMap::new(),
            parked: BTreeMap::new(),
            landings: BTreeMap::new(),
            record_paths: BTreeMap::new(),
        })
    }
}
