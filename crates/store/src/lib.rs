//! The stores: the traits of [`longshore_core::store`], implemented three times.
//!
//! # A folder
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
//! # A server
//!
//! [`PostgresStore`] is a schema of a PostgreSQL database, for processes that do not share a disk. Whoever writes for a
//! pipeline keeps its row locked, so that numbers have no gaps and checks hold until they are committed; leases and workers
//! are judged by the server's clock. How to set it up: `docs/reference/stores.md`.
//!
//! # Tables
//!
//! They are the same in both, and described where they are made (`sqlite/migrations.rs`, `postgres/migrations.rs`). In short:
//! `pipelines` holds the last number given, `entries` the journal (a draft as JSON), `positions` and `message_ids` what the
//! journal covers, `attempts` what is staged, `receipts`, `published`, `parked`, `landings` and `dead_letters` what completed
//! commits left, `leases` who may publish, `workers` who stages beside others, `runs` and `run_events` the history.
//!
//! # Recovery
//!
//! Every write is one transaction that is on disk before the call returns, so a kill at any byte leaves the state before or
//! after a call, never between. The databases replay their logs by themselves; nothing has to be repaired. What the engine has to
//! do is in the rows: entries that are not acknowledged are rolled forward, attempts that are not journalled and began under
//! an older lease, or by a worker that is gone, are marked dead and swept. In a folder a lease whose holder died is free at once,
//! because its file lock is; on a server it has to expire, and so has a worker in either.
//!
//! A call whose future is dropped half-way leaves nothing half-done: its connection is closed, which rolls back. If a
//! server's answer to a commit is lost, nobody knows; the error says `Backoff`, and asking again finds what the first call
//! wrote.
//!
//! # Memory
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
