//! Kafka as a source that never ends.
//!
//! One thread per subscription hears the client library (librdkafka) and fills deliveries; the task that asks takes them from a short queue.
//! Positions are the journal's: a partition that the group gives is assigned with the journal's offset, and with nothing else. See
//! `README.md` for what holds.

mod assign;
mod begin;
mod client;
pub mod config;
mod contact;
pub mod error;
mod fill;
mod handover;
mod health;
mod letters;
mod native;
mod oauth;
mod place;
mod point;
mod reader;
mod slots;
mod source;
mod subscription;
mod survey;
mod trouble;

pub use config::KafkaConfig;
pub use source::KafkaSource;
