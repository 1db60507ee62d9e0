//! What tests need: conformance lists for sources, destinations and stores, in-memory twins of each, and fault decorators.

pub mod destination_conformance;
pub mod memory_destination;
pub mod memory_source;
pub mod memory_stream;
pub mod proxy;
pub mod services;
pub mod source_conformance;
pub mod store_conformance;
