//! Placeholder.
pub mod config;
pub mod cut;
pub mod error;
pub mod tape;
pub mod xml;
