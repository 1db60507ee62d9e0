//! The stores: the traits of [`longshore_core::store`], implemented twice.
//!
//! [`SqliteStore`] is the embedded one. It is a folder:
//!
//! | file | what it holds |
//! |---|---|
//! | `store.db` | everything that must last, in SQLite (WAL, `synchronous=FULL`) |
//! | `store.db-wal`, `store.db-shm` | SQLite's log and its index; part of the store, never to be deleted by hand |
//! | `locks/NAME-PIPELINE-EPOCH.lock` | an empty file which the holder of that lease keeps locked; its death frees the lock |
//! | `locks/setup.lock` | keeps two processes from creating or migrating one store at once |
//!
//! The tables of `store.db` are described where they are made (`sqlite/migrations.rs`). In short: `pipelines` holds the last
//! number given, `entries` the journal (a draft as JSON), `positions` and `ids` what the journal covers, `attempts` what is
//! staged, `receipts`, `published`, `landings` and `dead_letters` what completed commits left, `leases` who may publish,
//! `runs` and `run_events` the history.
//!
//! # Recovery
//!
//! Every write is one transaction that is on disk before the call returns, so a kill at any byte leaves the state before or
//! after a call, never between. SQLite replays its log at the next open; nothing has to be repaired. What the engine has to
//! do is in the rows: entries that are not acknowledged are rolled forward, attempts that are not journalled and began under
//! an older lease are marked dead and swept. A lease whose holder died is free at once, because its file lock is.
//!
//! A call whose future is dropped half-way leaves nothing half-done: its connection is closed, which rolls back.
//!
//! [`MemoryStore`] behaves the same and forgets everything. Tests use it; clones of it are further handles on one state.

pub mod error;
mod filesystem;
mod history;
pub mod memory;
pub mod postgres;
mod rows;
pub mod sqlite;

pub use memory::MemoryStore;
pub use postgres::PostgresStore;
pub use sqlite::SqliteStore;
