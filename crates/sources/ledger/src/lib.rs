//! The ledger as a source: the store's runs, their events, the receipts of their commits and the index of their dead letters, as
//! rows of tables.
//!
//! The ledger stays the truth, and the tables are a copy of it that is made anew each time. See the README for what the copy
//! holds when runs go on while it is made.

mod read;
mod rows;
mod source;
mod tables;

pub use source::LedgerSource;
pub use tables::{DEAD_LETTER_INDEX, RECEIPTS, RUN_EVENTS, RUNS, schemas};
