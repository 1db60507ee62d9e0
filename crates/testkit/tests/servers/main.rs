//! The tools for tests are tested too: the proxy against a small server, the emulators by asking them.
#![expect(clippy::unwrap_used, reason = "a test says what it means by failing")]

mod append;
mod proxy;
mod services;
mod upstream;
