//! The words and contracts that everything else speaks: rows, schemas, positions, commits, errors, events, and the
//! traits of sources, destinations and stores. No I/O and no client library is here.
//!
//! The three contracts are [`source`], [`destination`] and [`store`]; each module says what MUST hold and why.

pub mod batch;
pub mod budget;
pub mod commit;
pub mod destination;
pub mod error;
pub mod event;
pub mod failpoint;
pub mod inspection;
pub mod lanes;
pub mod letters;
pub mod names;
pub mod position;
pub mod retry;
pub mod schema;
pub mod schema_arrow;
pub mod show;
pub mod source;
pub mod stop;
pub mod store;
pub mod stream;
pub mod table_options;

pub use error::{Error, Result};
