//! Files as a source: XML, JSON and CSV, cut in one place and decoded on every lane, with types found from the content.

mod after_load;
mod chunks;
pub mod columns;
pub mod config;
pub mod csv;
pub mod cut;
mod encoding;
pub mod error;
pub mod fuzz;
pub mod input;
pub mod json;
mod landing;
pub mod listing;
mod look;
mod read;
mod replay;
pub mod shape;
mod source;
mod spare;
mod split;
pub mod tape;
pub mod values;
pub mod xml;

pub use replay::{Letter, Letters, ReplaySource};
pub use source::FilesSource;
