//! The cheap pass over a whole document: is it well formed, and which of its elements are records?
//!
//! A record is an element that repeats under one parent; where a branch of the document has none, it is an element that is its
//! wrapper's only child name and has children or attributes; where the whole document has none, it is the root. The outermost
//! wins. Paths are those of local names: prefixes and namespaces do not matter.
//!
//! A document whose outline is well formed and whose records can all be parsed is well formed. Where one cannot, or the outline is
//! broken, a strict look tells whether the document is, and the first place where it is not.

use std::io::Read;

use longshore_core::error::{Error, Kind, Place, Result};

use super::entities::Entities;
use super::scan::Scanner;
use super::tree::Tree;
use crate::cut::{Feed, Walk};
use crate::error::XML_INVALID;

/// How much is scanned at once: fits the processor's cache.
const WINDOW: usize = 256 << 10;

/// Where the records of a table are.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RecordPath {
    /// The table.
    pub table: String,
    /// The path of local names from the root: `/Root/Orders/Order`.
    pub path: String,
}

/// What a document is like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Structure {
    /// Where its records are, in the order in which they were first seen. A path may have no record.
    pub records: Vec<RecordPath>,
    /// Those of the wanted paths that the document does not have.
    pub missing: Vec<RecordPath>,
    /// Paths of elements outside of all records that hold text or attributes, at most 20.
    pub outside: Vec<String>,
    /// The entities that its internal subset declares.
    pub entities: Entities,
    /// Whether it has no text and no attribute at all.
    pub blank: bool,
}

/// Where the records are, if that is known before.
#[derive(Debug, Clone, Copy)]
pub enum Known<'a> {
    /// The user named these paths, and nothing else is a record.
    Named(&'a [RecordPath]),
    /// Earlier loads found these, newest first; what the document has of them goes first.
    Earlier(&'a [RecordPath]),
}

/// How closely the insides of records are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rigour {
    /// They are passed over. What is wrong inside of a record its parser finds.
    Outline,
    /// Every tag must be in its place.
    Strict,
}

/// Looks at a document. `file` names it in errors; `seen` is told the number of bytes after each window and may end the pass
/// with an error.
///
/// Errors: `xml_invalid` with line and column if it is not well formed; those of reading.
pub fn look(
    input: Box<dyn Read + Send>,
    file: &str,
    known: Known<'_>,
    rigour: Rigour,
    mut seen: impl FnMut(u64) -> Result<()>,
) -> Result<Structure> {
    let mut feed = Feed::new(input, file.into());
    let mut scanner = Scanner::default();
    let mut tree = Tree::new(known, rigour == Rigour::Strict);
    let mut walk = Walk::default();
    let mut window = WINDOW;
    loop {
        let ended = feed.fill(window)?;
        match scanner.scan(&feed.buffer, ended, &mut tree) {
            Ok(taken) => {
                walk.over(&feed.buffer[..taken]);
                feed.buffer.drain(..taken);
                seen(taken as u64)?;
                // A name, tag or DOCTYPE that does not fit; the scanner bounds them all.
                window = if taken == 0 { window * 2 } else { WINDOW };
            }
            Err(fault) => {
                walk.over(&feed.buffer[..fault.at]);
                return Err(invalid(file, walk, fault.reason));
            }
        }
        if tree.is_excessive() {
            return Err(invalid(file, walk, "the document has more than 200,000 different element paths".into()));
        }
        if ended {
            return Ok(tree.finish(known));
        }
    }
}

/// A document that is not well formed.
pub fn invalid(file: &str, walk: Walk, reason: String) -> Error {
    let place: Place = walk.place(file);
    Error::new(Kind::Source, XML_INVALID, format!("the XML is not well formed: {reason}")).at(place)
}

#[cfg(test)]
mod tests;
