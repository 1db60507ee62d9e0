//! The contract of a source that never ends: the topics or subscriptions of a broker.
//!
//! Any number of workers, in one process or many, share one source; its broker says who reads what. Each worker has a [`Subscription`],
//! which hands out messages as they come, undecoded, in [`Delivery`]s. What a delivery covers is journalled with its rows, so the journal
//! alone decides what has been read:
//!
//! - A subscription MUST begin each partition at the position that [`Progress`] tells, not at one that the broker remembers, because the
//!   broker is told later. A partition's first delta begins at `None`, wherever it starts to read; a start that is not the partition's own
//!   beginning is handed out at once as a delivery without messages, so that it is journalled before anything can happen to it.
//! - A source without positions MUST ask [`Progress::known`] about every message before it hands it out, because a broker delivers again
//!   what it was not told about in time. Known and complete: acknowledge it. Known and pending: hold it until it is complete.
//! - What is handed out MUST stay with the worker (leases extended, for any time) until it is acknowledged, given back by `rewind`, or
//!   taken away by the broker. If the broker takes it away nothing has to be done but to say so ([`Arrival::Rebalance`]): the journal
//!   refuses whoever comes second.
//! - A message that cannot be decoded, or has no table, MUST become a [`crate::batch::Reject`], never an error.
//! - Everything that a subscription buffers MUST be bounded in bytes and taken from the run's budget when it is handed out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::Result;
use crate::batch::{Batch, Reject};
use crate::budget::Permit;
use crate::letters::Letter;
use crate::position::{Covers, Partition, Position};
use crate::schema::TableSchema;
use crate::source::{Context, Target};

/// A source that never ends. Object-safe; see the module for what MUST hold.
#[async_trait]
pub trait StreamSource: Send + Sync {
    /// Begins to read as one of the workers that share the source. Errors: `Source` if the broker refuses, or none of the topics is there.
    async fn subscribe(&self, cx: &Context, progress: Arc<dyn Progress>) -> Result<Box<dyn Subscription>>;

    /// Where copies of its dead letters go, by its settings: a topic of the same broker.
    fn letterbox(&self) -> Option<Arc<dyn Letterbox>> {
        None
    }

    /// What decodes the message of a dead letter again, from its bytes (corrected or not) and its `decoding`. The inner error says why it cannot be.
    fn again(&self, letter: &Letter) -> Result<std::result::Result<Arc<dyn Decode>, String>> {
        Ok(Err(format!("dead letter {} is of a source that cannot decode it again", letter.id)))
    }

    /// Whether it can be reached, and what is there to read: one line each, for `check`. Changes nothing at the broker.
    async fn inspect(&self, cx: &Context) -> Result<Vec<String>>;
}

/// What the journal knows of a source.
#[async_trait]
pub trait Progress: Send + Sync {
    /// The position of a partition: how far it is journalled; `None` if never.
    async fn position(&self, partition: &Partition) -> Result<Option<Position>>;

    /// Those of these ids that are journalled, each with whether its commit is complete.
    async fn known(&self, scope: &str, ids: &[String]) -> Result<BTreeMap<String, bool>>;
}

/// A worker's share of a source. Used by one task at a time.
#[async_trait]
pub trait Subscription: Send {
    /// Waits for what comes next. May be dropped while it waits; nothing is lost then.
    async fn next(&mut self) -> Result<Arrival>;

    /// A commit that covers these is journalled: they are not handed out again, whatever happens.
    fn journalled(&mut self, covers: &[Covers]);

    /// A commit that covers these is complete: tell the broker. An answer that is lost does no harm. Repeating it changes nothing.
    async fn acknowledge(&mut self, covers: &[Covers]) -> Result<()>;

    /// What was handed out and is not journalled will not be: hand it out again, from where the journal says.
    async fn rewind(&mut self) -> Result<()>;

    /// How far behind it is, for people and for metrics; only what is known without asking.
    fn lag(&self) -> Vec<Lag>;

    /// The scope of its ids, and how long after its commit an id is to be known; `None` for a source with positions.
    fn remembers(&self) -> Option<(String, std::time::Duration)> {
        None
    }

    /// How many messages, and how many bytes of them, the broker sends before any of them is acknowledged: a commit had better hold fewer.
    fn outstanding(&self) -> Option<(u64, u64)> {
        None
    }

    /// Whether what other workers have of the source is journalled to its end: a run that ends when it has caught up asks, because a share may
    /// belong to a worker that is dead.
    async fn rest_is_read(&mut self) -> Result<bool> {
        Ok(true)
    }

    /// Leaves, so that others take over at once. What is not acknowledged is given back.
    async fn close(&mut self) -> Result<()>;
}

/// Something that comes from a subscription.
pub enum Arrival {
    /// Messages.
    Delivery(Delivery),
    /// Everything that was there has been handed out; told again whenever that becomes true anew.
    CaughtUp,
    /// Others read what this worker has read so far: what was handed out had better be journalled at once.
    Rebalance,
}

/// How much of something waits to be read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Lag {
    /// A topic's partition, or a subscription.
    pub name: String,
    /// Messages behind, where that is known.
    pub messages: Option<u64>,
}

/// Messages of a source, read and not decoded, in the source's order.
pub struct Delivery {
    /// How many; none if it only moves positions.
    pub messages: u64,
    /// Their bytes: keys, values, headers.
    pub bytes: u64,
    /// When the oldest of them was written, as the broker says it.
    pub oldest: Option<DateTime<Utc>>,
    /// Decodes them.
    pub decode: Arc<dyn Decode>,
    /// What it covers. Of each partition the deltas of one delivery after the other join.
    pub covers: Vec<Covers>,
    /// The share of the run's memory it holds.
    pub permit: Option<Permit>,
}

/// Turns messages into rows. Costly; runs on any thread, and again whenever tables have changed.
pub trait Decode: Send + Sync {
    /// Decodes into these tables' columns. Every message is in the answer once: among the rows of a batch, among the rejects, or meant for a
    /// table of [`Decoded::wanted`] that is neither known nor unknown yet. Fails only by a fault of ours, or if something that it needs cannot be
    /// reached for a while (a schema registry: `Backoff`).
    fn decode(&self, tables: &Tables) -> Result<Decoded>;
}

/// The tables as they are now.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    /// Those that rows can go to.
    pub known: BTreeMap<String, Target>,
    /// Those that are known not to be there: a message for one of them is a reject (`unknown_table`).
    pub unknown: BTreeSet<String>,
    /// Those that no rows can be written for at present, and why: a message for one of them is a reject (`table_unwritable`).
    pub closed: BTreeMap<String, String>,
}

/// What decoding gives.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Rows by table, with the rejects among them.
    pub batches: Vec<Batch>,
    /// Messages that have no table.
    pub rejects: Vec<Reject>,
    /// Ids of the delivery that are neither among the rows nor among the rejects: they are not covered.
    pub left: BTreeSet<String>,
    /// Tables that are neither known nor unknown, and known ones that messages have other columns for. They have been rejected, or left out, as
    /// if nothing could be done about it; whoever can, does, and decodes again.
    pub wanted: BTreeMap<String, Wanted>,
}

/// What messages would need of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The columns that the messages have.
    pub columns: TableSchema,
    /// The columns of the key, if the messages are changes by key.
    pub key: Vec<String>,
}

/// Where copies of dead letters go, besides their table: a topic, a folder. The table holds each once; a copy may come twice, and then with the
/// same id, which is made from the message's own coordinates.
#[async_trait]
pub trait Letterbox: Send + Sync {
    /// What it is, for people.
    fn name(&self) -> String;

    /// Delivers copies: payload, key and headers unchanged, what is known about it beside them. They are safe there when this returns. May be
    /// repeated. Errors: `Source`, of any retry class.
    async fn deliver(&self, copies: &[LetterCopy]) -> Result<()>;
}

/// A copy of a dead letter.
#[derive(Debug, Clone)]
pub struct LetterCopy {
    /// Made from the coordinates of the message: the same for each copy of it.
    pub id: String,
    /// The dead letter. Key and headers are found in its `decoding`.
    pub reject: Reject,
    /// The pipeline.
    pub pipeline: String,
    /// The run.
    pub run: String,
    /// When.
    pub at: DateTime<Utc>,
}

impl LetterCopy {
    /// What goes with the payload, as names and values: `longshore-id`, `-code`, `-reason`, `-source`, `-table`, `-pipeline`, `-run`, `-time`.
    pub fn about(&self) -> Vec<(&'static str, String)> {
        let mut about = vec![
            ("longshore-id", self.id.clone()),
            ("longshore-code", self.reject.code.to_owned()),
            ("longshore-reason", self.reject.reason.clone()),
            ("longshore-source", self.reject.place.to_string()),
            ("longshore-pipeline", self.pipeline.clone()),
            ("longshore-run", self.run.clone()),
            ("longshore-time", self.at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)),
        ];
        about.extend(self.reject.table.clone().map(|table| ("longshore-table", table)));
        about
    }
}
