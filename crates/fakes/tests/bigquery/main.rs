//! The fake BigQuery, called by plain clients.

#![expect(clippy::unwrap_used, reason = "a test says what it means by failing")]

mod changes;
mod client;
mod faults;
mod jobs;
mod loads;
mod merge;
mod permissions;
mod proto_rows;
mod queries;
mod storage;
mod streams;
mod tables;
mod values;
