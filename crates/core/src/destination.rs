//! The contract of a destination.
//!
//! A destination keeps tables and a mark in each: the number of the last commit that is visible in it.
//!
//! - `stage` MUST leave nothing visible, because what was never journalled must never show. It MUST be durable when it
//!   returns (files and their folders synced), because the journal will name it. It may be repeated, run in parallel and on
//!   another machine; each call writes under its attempt, so that `sweep` finds it.
//! - A committable MUST be enough to publish without the process that staged it.
//! - `publish` MUST make all committables of one table visible in one step together with the mark N, and MUST change
//!   nothing if the mark is N or more already: it is repeated after crashes, by two workers at once, after newer commits
//!   and after compaction. An unknown outcome MUST be settled by reading the destination, never by assuming.
//! - `publish` MUST call the fence right before each write that makes something visible, because a worker that lost its
//!   lease may wake up at any time.
//! - A publish that is refused for good ([`Published::Refused`]) is followed by `restage`, the amendment of the journal's entry, and another
//!   `publish`. `restage` MUST leave the first committables as they are, because the amendment may come to nothing.
//! - `sweep` MUST remove only what the named attempts staged, and nothing that a table names.
//! - `prepare` with [`Mode::DryRun`] MUST change nothing. It never touches anything else of an existing table.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::Result;
use crate::batch::{Payload, Rows};
use crate::commit::{Application, AttemptId, CommitNumber, Committable, Contract, Published, Refused, WriteDisposition};
use crate::error::{Error, Kind, code};
use crate::inspection::Finding;
use crate::retry::Patience;
use crate::schema::TableSchema;
use crate::table_options::TableOptions;

/// The mark of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableMark {
    /// Whether the table exists.
    pub exists: bool,
    /// The last commit of this application in it.
    pub last: Option<CommitNumber>,
    /// Marks of other ledgers of Longshore in it.
    pub others: Vec<Application>,
}

/// What a pipeline wants a table to be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaChange {
    /// The table.
    pub table: String,
    /// The columns that the records have.
    pub wanted: TableSchema,
    /// What may happen to an existing table.
    pub contract: Contract,
    /// Whether the rows that are there stay.
    pub disposition: WriteDisposition,
    /// What a new table is to be like besides its columns.
    pub options: TableOptions,
}

/// Whether `prepare` only says what it would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Says it.
    DryRun,
    /// Does it.
    Apply,
}

/// What `prepare` did, or would do. Without columns it is the answer for a table that is not there and was not made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The table's columns afterwards: what rows are to be decoded into. A column that exists keeps its type, whatever the
    /// records have.
    pub schema: TableSchema,
    /// Whether the table existed before.
    pub existed: bool,
    /// The changes in words: `create table orders (7 columns)`, `add column Fax STRING`.
    pub changes: Vec<String>,
}

/// What `publish` needs to know.
pub struct Publication<'a> {
    /// Who writes.
    pub application: &'a Application,
    /// The commit.
    pub n: CommitNumber,
    /// The commit's random token.
    pub token: &'a str,
    /// How often the commit was amended: with another number it is another publication.
    pub amendment: i64,
    /// The table.
    pub table: &'a str,
    /// Everything staged for the table, in order.
    pub committables: &'a [Committable],
    /// What the commit covers, for people who read the destination's log.
    pub note: serde_json::Value,
    /// Asked right before each write that makes something visible.
    pub fence: &'a dyn Fence,
}

/// Says whether this worker may still publish.
#[async_trait]
pub trait Fence: Send + Sync {
    /// Fails with `lease_lost` if another worker has taken over.
    async fn check(&self) -> Result<()>;
}

/// A commit as a destination's log tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastCommit {
    /// Its number.
    pub n: CommitNumber,
    /// The note that [`Publication::note`] carried.
    pub note: serde_json::Value,
    /// Whether it is known to be visible. One that is not may be.
    pub done: bool,
}

/// What is staged: rows in the table's columns as `prepare` settled them.
pub type Batches = BoxStream<'static, Result<Rows>>;

/// What `stage` yields.
#[derive(Debug, Clone)]
pub struct Staged {
    /// The rows that were taken.
    pub committable: Committable,
    /// The rows that the destination says a final no to. They are not in the committable.
    pub refused: Vec<Refusal>,
}

/// A row that a destination does not take, told while it is staged.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// Which of all rows that were handed over, from 0.
    pub row: u64,
    /// The row, as one JSON object.
    pub values: serde_json::Value,
    /// The destination's own words.
    pub reason: String,
}

impl From<Committable> for Staged {
    fn from(committable: Committable) -> Self {
        Self { committable, refused: Vec::new() }
    }
}

/// Writes one dataset of one system. Object-safe; see the module for what MUST hold.
#[async_trait]
pub trait Destination: Send + Sync {
    /// Says where waits are to be told and when to stop waiting. Called once, before anything else; a destination that never waits by
    /// itself need not listen.
    fn attend(&self, _patience: &Patience) {}

    /// The marks of these tables. A table that does not exist comes back as [`TableMark::default`].
    async fn open(&self, application: &Application, tables: &[String]) -> Result<BTreeMap<String, TableMark>>;

    /// Makes the table ready for rows: creates it, adds columns. Repeating it changes nothing. If no columns are wanted, a table that is
    /// there stays as it is and one that is not is not made.
    async fn prepare(&self, change: &SchemaChange, mode: Mode) -> Result<Plan>;

    /// Keeps rows where they are durable and not visible. With `Truncate`, a committable comes back even without rows. A row that the
    /// destination does not take comes back, too, and the others are kept.
    async fn stage(
        &self,
        attempt: &AttemptId,
        table: &str,
        schema: &TableSchema,
        disposition: WriteDisposition,
        batches: Batches,
    ) -> Result<Staged>;

    /// Makes everything staged for one table of one commit visible.
    async fn publish(&self, publication: Publication<'_>) -> Result<Published>;

    /// Stages anew what `publish` refused, under a new attempt: all committables of one table, without the rows that the destination does
    /// not take. These come back with their numbers within all committables in order. Repeating it leaves more files to sweep and nothing
    /// else.
    async fn restage(
        &self,
        _attempt: &AttemptId,
        table: &str,
        _schema: &TableSchema,
        _committables: &[Committable],
        refused: &Refused,
    ) -> Result<Staged> {
        Err(Error::new(Kind::Bug, code::BUG, format!("table {table} refused rows that were staged: {}", refused.reason)))
    }

    /// Removes what attempts staged that are dead. Returns the bytes freed.
    async fn sweep(&self, attempts: &[AttemptId]) -> Result<u64>;

    /// Keeps a dead letter's payload that is too large for a table, beside the tables, under this attempt. Durable on
    /// return. Returns its address and BLAKE3 digest, hex. Repeating it with the same id replaces it.
    async fn keep_payload(&self, attempt: &AttemptId, id: &str, payload: &Payload) -> Result<(String, String)>;

    /// What the destination's own log still tells of the commits of this application in a table, oldest first: the notes that
    /// `publish` wrote. For a repair of the store; nothing if the destination keeps no such log.
    async fn history(&self, _application: &Application, _table: &str) -> Result<Vec<PastCommit>> {
        Ok(Vec::new())
    }

    /// Whether a run could do its work here, and what that would cost. `wanted` is every table that rows would go to, with the answer of
    /// `prepare`, or an empty one where that failed; `bytes` is what would be read. Changes nothing, and says as a finding whatever can be
    /// said as one; nothing if the destination has nothing to say.
    async fn inspect(&self, _wanted: &[(SchemaChange, Plan)], _bytes: u64) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    /// The names of the tables that are there now, views and what else cannot be written to left out. For streams whose messages name their
    /// tables.
    async fn tables(&self) -> Result<BTreeSet<String>> {
        Err(Error::new(Kind::Bug, code::BUG, "the destination cannot say which tables it has"))
    }

    /// Whether it can keep a table of rows as they are now ([`Rows::Changes`]). One that cannot is given every change as a row.
    fn takes_changes(&self) -> bool {
        false
    }

    /// Whether its marks, and its history, may be of commits that are not visible yet. The notes then have to hold all that publishing
    /// needs, so that a lost store can be mended.
    fn marks_before(&self) -> bool {
        false
    }

    /// Lets go of it, after finishing what runs in the background (checkpoints).
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
