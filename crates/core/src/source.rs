//! The contract of a source.
//!
//! A source is read in five moves: `splits` says what there is to read, `describe` looks at it and says which tables
//! with which columns it yields, `read` hands it over chunk by chunk, `acknowledge` tells the source that it has landed,
//! `close` lets go of it.
//!
//! - A [`Split`] MUST be serialisable and readable on any machine that reaches the source, because staging may happen
//!   elsewhere. It says which version of the input it means (size and time, generation, etag).
//! - `read` MUST check that version again after the last byte and fail with a retryable error if it changed, because
//!   rows of two versions would otherwise land mixed. The engine then drops the attempt.
//! - `read` MUST hand out chunks in the source's order, and cover each record by exactly one chunk: what a chunk
//!   covers is journalled with it and never asked for again.
//! - A record that cannot be decoded MUST become a [`crate::batch::Reject`] in its chunk, never an error of `read`, because an error
//!   stops the run. `read` fails only if the input as a whole cannot be read.
//! - `acknowledge` MUST be harmless when repeated, because a crash may come after it and before the store knows. It acts
//!   only on the version that was loaded.
//! - Everything that a source buffers MUST be taken from the run's [`Budget`], because memory must not grow with the
//!   data.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::Result;
use crate::batch::{Item, Reject};
use crate::budget::Budget;
use crate::commit::Landing;
use crate::event::Events;
use crate::schema::TableSchema;
use crate::store::FileLedger;

/// Something that can be read on its own, on any machine: a file, a range of a table, a partition.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Split {
    /// Names it for people: a path.
    pub name: String,
    /// Bytes, where they are known.
    pub bytes: u64,
    /// The source's own record of it, version included.
    pub payload: serde_json::Value,
}

/// What a source found to read.
#[derive(Debug, Clone, Default)]
pub struct Splits {
    /// To be read, in order.
    pub splits: Vec<Split>,
    /// Known already, so not to be read: names and why.
    pub skipped: Vec<(String, String)>,
}

/// What a look at some splits says. Depends on their content alone, never on lanes or chunk sizes.
#[derive(Debug, Default)]
pub struct Description {
    /// The columns that each table would need, in the order in which they were first seen.
    pub tables: BTreeMap<String, TableSchema>,
    /// The tables that come as changes by key, each with the columns of its key.
    pub keys: BTreeMap<String, Vec<String>>,
    /// The splits as they are to be read: completed with what the look found out (digest, record paths, delimiter).
    pub splits: Vec<Split>,
    /// The splits that cannot be read at all, each with its reject. They are not among `splits`.
    pub refused: Vec<(Split, Reject)>,
    /// What completing a commit with these splits writes to the file ledger, apart from the counts.
    pub landings: Vec<Landing>,
}

/// What a source works with during a run.
#[derive(Clone)]
pub struct Context {
    /// The pipeline.
    pub pipeline: String,
    /// The run.
    pub run: String,
    /// The memory that may be held.
    pub budget: Budget,
    /// How many decoders run at once.
    pub lanes: usize,
    /// Where to tell what happens.
    pub events: Events,
    /// Set when the run is to stop: hand out no further chunk.
    pub stop: crate::stop::Stop,
}

/// The columns that a table has for one `read`: decode into exactly these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The table's columns.
    pub schema: TableSchema,
    /// What to do with a record's unknown columns. (Under `Evolve` the table has been given all that `describe` found.)
    pub contract: crate::commit::Contract,
}

/// Reads one system. Object-safe; see the module for what MUST hold.
#[async_trait]
pub trait Source: Send + Sync {
    /// What there is to read now. The ledger tells which files landed before; a source without files ignores it.
    async fn splits(&self, cx: &Context, ledger: &dyn FileLedger) -> Result<Splits>;

    /// Looks at splits that will land in one commit.
    async fn describe(&self, cx: &Context, splits: Vec<Split>, ledger: &dyn FileLedger) -> Result<Description>;

    /// Reads one split into these tables' columns. The last chunk covers the split's end.
    async fn read(
        &self,
        cx: &Context,
        split: &Split,
        targets: &BTreeMap<String, Target>,
    ) -> Result<BoxStream<'static, Result<Item>>>;

    /// Does at the source what is due once a commit is complete (move, delete, acknowledge). `what` is the value that the
    /// commit's draft carried. May be repeated.
    async fn acknowledge(&self, cx: &Context, what: &serde_json::Value) -> Result<()>;

    /// What step 5 will have to do for these splits, to be kept in the journal; `None` for nothing.
    fn acknowledgement(&self, _splits: &[Split]) -> Option<serde_json::Value> {
        None
    }

    /// What reading this split covers.
    fn covers(&self, split: &Split) -> crate::position::Covers;

    /// Lets go of it.
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
