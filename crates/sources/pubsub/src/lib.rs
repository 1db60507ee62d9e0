//! Google Pub/Sub as a source, exactly once, and a publisher for topics of dead letters.
//!
//! A stream brings messages; each is *lent* to us (`leases`) from its arrival until its commit is complete. Two tasks (`keeper`) extend the
//! leases and acknowledge what is done; the subscription hands out what the journal does not know.

mod client;
pub mod config;
mod credentials;
mod desk;
mod draft;
pub mod error;
mod keeper;
mod leases;
mod letters;
mod outage;
mod protocol;
mod publish;
mod pull;
mod received;
mod source;
mod subscription;
mod wire;

pub use publish::{Outgoing, Publisher};
pub use source::PubSubSource;
