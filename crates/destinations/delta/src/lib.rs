//! Delta Lake tables in a folder: the warehouse that Longshore carries inside itself.
//!
//! [`DeltaDestination`] implements [`longshore_core::destination::Destination`] with its own writer: Parquet files that no log
//! names (`stage`), then one log entry with the commit's number (`publish`), both synced. The library behind `deltalake` is
//! used for checkpoints and for reading. See the README beside this crate for semantics, layout and limits.

pub mod config;
pub mod destination;
pub mod error;
pub mod query;

mod checkpoint;
mod commit;
mod conform;
mod encode;
mod history;
mod log;
mod partition;
mod payload;
mod prepare;
mod publish;
mod schema;
mod stage;
mod state;
mod stats;
mod storage;
mod sweep;
mod table;
mod threads;

pub use config::DeltaConfig;
pub use destination::DeltaDestination;
pub use storage::{Faults, Step};
