//! The destination against servers that others wrote, and against a fault server of our own.
#![allow(clippy::unwrap_used, missing_docs)]

mod bench;
mod cases;
mod conformance;
mod official_client;
mod own_server;
