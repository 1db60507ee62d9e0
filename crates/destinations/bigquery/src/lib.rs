//! BigQuery as a destination, exactly once.
//!
//! One folder for every way to write ([`config::Method`]): each says what `stage` leaves behind (a *committable*) and how
//! `publish` makes it visible so that repeating it changes nothing. What they share: who we are (`credentials`), REST
//! (`rest`), the Storage Write connection (`write`), the tables (`tables`) and the marks (`marks`).

mod bucket;
mod cells;
mod check;
mod columns;
pub mod config;
mod credentials;
mod destination;
pub mod error;
mod files;
mod fit;
mod insert_all;
mod jobs;
mod marks;
mod message;
mod payload;
mod prepare;
mod proto;
mod publish;
pub mod query;
mod quota;
mod rest;
mod restage;
mod rows;
mod send;
mod spool;
mod stage;
mod tables;
mod write;

pub use destination::BigQueryDestination;
