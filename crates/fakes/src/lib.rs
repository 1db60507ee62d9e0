//! Servers of our own that speak the protocols of others and fail on command. Only tests use them.

pub mod bigquery;
pub mod pubsub;
