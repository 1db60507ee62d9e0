//! Placeholder.
pub mod config;
pub mod columns;
pub mod csv;
pub mod cut;
pub mod error;
pub mod fuzz;
pub mod json;
pub mod shape;
pub mod tape;
pub mod xml;
pub mod values;
