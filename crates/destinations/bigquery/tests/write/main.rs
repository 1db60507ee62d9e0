//! The destination against servers that others wrote, and against a fault server of our own.
#![expect(clippy::unwrap_used, reason = "a test says what it means by failing")]

mod bench;
mod cases;
mod changes;
mod cloud;
mod conformance;
mod limits;
mod official_client;
mod own_server;
mod refused;
mod samples;
mod tables;
