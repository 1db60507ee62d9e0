//! From the messages of a broker to rows of tables: which table a message goes to, how its content is written, and what becomes of one that
//! cannot be read. Knows no broker.
//!
//! A source fills [`Messages`] and lets a [`Decoder`] decode them. All formats are written to one *tape* (see
//! `longshore_files::tape`), what comes with a message beside its content as well; tapes become columns as those of files do.

mod changes;
pub mod config;
mod decimal;
mod decode;
mod decoder;
pub mod error;
mod fault;
mod formats;
mod message;
pub mod metadata;
mod original;
mod plan;
mod pointer;
mod registry;
mod reject;
mod replay;
pub mod route;
mod sheet;
mod template;
#[cfg(test)]
mod tests;
mod times;
mod told;
mod wanted;

pub use config::MessagesConfig;
pub use decoder::Decoder;
pub use message::{From, Message, Messages};
pub use original::{Bytes, FORMAT, Origin, Original};
pub use route::Route;
