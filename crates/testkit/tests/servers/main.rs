//! The tools for tests are tested too: the proxy against a small server, the servers by asking them.
#![expect(clippy::unwrap_used, reason = "a test says what it means by failing")]

mod append;
mod kafka;
mod postgres;
mod proxy;
mod pubsub;
mod registry;
mod services;
mod upstream;
