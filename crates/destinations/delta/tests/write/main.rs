//! The write path of Delta tables, seen through the library that others read them with.
#![expect(clippy::unwrap_used, reason = "a test says what it means by failing")]

mod bench;
mod conformance;
mod crashes;
mod faults;
mod foreign;
mod values;
