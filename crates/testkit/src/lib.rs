//! What tests need: conformance lists for sources, destinations and stores, in-memory twins of each, and fault decorators.

pub mod memory_source;
pub mod source_conformance;
