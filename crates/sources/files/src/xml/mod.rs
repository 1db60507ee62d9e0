//! XML: well-formedness and record paths in one cheap pass, then whole records, then tapes.

pub mod cut;
pub mod entities;
pub mod fuzz;

mod markup;
mod names;
pub mod parse;
pub mod scan;
pub mod structure;
mod tree;
mod words;

pub use tree::steps;
