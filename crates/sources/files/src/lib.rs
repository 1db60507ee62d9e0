//! Files as a source: XML, JSON and CSV, cut in one place and decoded on every lane, with types found from the content.

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
mod after_load;
mod chunks;
mod encoding;
pub mod input;
mod landing;
pub mod listing;
mod look;
mod read;
mod source;
mod split;

pub use source::FilesSource;
