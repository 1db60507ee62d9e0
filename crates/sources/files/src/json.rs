//! JSON: lines, one array of objects, one object, objects one after the other, and records inside a document.
//!
//! - *Lines*: each line is one record. A bad line is a dead letter, the next line is decoded as usual.
//! - *Document*: anything else. The cutter walks down to the records (the elements of the array at a pointer, or the object
//!   there) and cuts each out by its brackets. If the document's own frame is broken (it ends early, a comma is missing), no
//!   record can be trusted and the file as a whole is unreadable. A record whose brackets match but whose content is not JSON is a
//!   single dead letter.

mod document;
mod lines;
mod parser;
mod scan;
mod write;

use std::sync::Arc;

use longshore_core::batch::{Payload, Reject, Unit};
use longshore_core::error::{Error, Kind, Place, Result, code};

use crate::cut::{Cutter, Format, Input, Limits, Piece, RawChunk, Walk};
use crate::error;
use crate::tape::{Records, Row, Token};

pub use parser::{Broken, Keys, parse};
pub use write::{canonical, write, write_text};

/// How a JSON file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// One record a line.
    Lines,
    /// Records within one document, or several one after the other.
    Document,
}

/// A JSON file: its layout and where its records are.
#[derive(Debug, Clone)]
pub struct JsonFormat {
    file: Arc<str>,
    layout: Layout,
    pointers: Arc<[Pointer]>,
}

/// A JSON pointer: the keys to go down by. An empty one is the document itself.
pub type Pointer = Vec<String>;

impl JsonFormat {
    /// Finds the layout from the beginning of the file (at most 1 MiB of it is looked at). `pointers` has one JSON pointer for
    /// each table; none, or an empty one, takes the document's own records. Fails with `config` for pointers that are none, or of
    /// which one leads into another's records.
    pub fn detect(file: Arc<str>, head: &[u8], pointers: &[String]) -> Result<Self> {
        let pointers = read_pointers(pointers)?;
        let whole = pointers.len() == 1 && pointers[0].is_empty();
        let layout = if whole { layout_of(head) } else { Layout::Document };
        Ok(Self { file, layout, pointers: pointers.into() })
    }

    /// The format of a dead letter's payload: one record by itself.
    pub fn for_replay(file: Arc<str>) -> Self {
        Self { file, layout: Layout::Document, pointers: vec![Pointer::new()].into() }
    }

    /// The layout.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The layout in words.
    pub fn note(&self) -> &'static str {
        match self.layout {
            Layout::Lines => "JSON lines",
            Layout::Document => "JSON document",
        }
    }

    fn reject(&self, record: &Piece, bytes: &[u8], code: &'static str, reason: String) -> Reject {
        Reject {
            unit: Unit::Record,
            table: None,
            payload: Payload::Inline(bytes.to_vec()),
            code,
            reason,
            place: Place { file: self.file.to_string(), line: Some(record.line), column: Some(record.column) },
            field: None,
            decoding: None,
            index: record.index,
        }
    }

    /// Parses one record onto its table's tape.
    fn record(&self, record: Piece, chunk: &[u8], keys: &mut Keys, out: &mut Records) {
        let bytes = &chunk[record.start..record.start + record.len];
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(broken) => {
                let at = place_within(&record, &bytes[..broken.valid_up_to()]);
                let reason = format!("the bytes at line {}, column {} are not UTF-8", at.line, at.column);
                out.rejects.push(self.reject(&record, bytes, error::ENCODING_INVALID.name, reason));
                return;
            }
        };
        let mark = out.tape.mark();
        let token = out.tape.len();
        match parser::parse(text, &mut out.tape, keys) {
            Ok(()) if matches!(out.tape.token(token), Token::Object { .. }) => out.rows.push(Row {
                token,
                start: record.start,
                len: record.len,
                line: record.line,
                column: record.column,
                index: record.index,
            }),
            Ok(()) => {
                let what = match out.tape.token(token) {
                    Token::Array { .. } => "an array",
                    Token::String(_) => "a string",
                    Token::Number(_) => "a number",
                    Token::Bool(_) => "a boolean",
                    _ => "null",
                };
                keys.forget_from(&out.tape, mark);
                out.tape.truncate(mark);
                let reason = format!("the record is {what}, not an object, so it has no columns");
                out.rejects.push(self.reject(&record, bytes, error::NOT_AN_OBJECT.name, reason));
            }
            Err(broken) => {
                keys.forget_from(&out.tape, mark);
                out.tape.truncate(mark);
                let at = place_within(&record, &bytes[..broken.at.min(bytes.len())]);
                let reason = format!("line {}, column {}: {}", at.line, at.column, broken.what);
                let code = if broken.duplicate { error::DUPLICATE_KEY.name } else { error::JSON_INVALID.name };
                out.rejects.push(self.reject(&record, bytes, code, reason));
            }
        }
    }
}

fn place_within(record: &Piece, before: &[u8]) -> Walk {
    let mut walk = Walk { line: record.line, column: record.column };
    walk.over(before);
    walk
}

impl Format for JsonFormat {
    fn tables(&self) -> usize {
        self.pointers.len()
    }

    fn cutter(&self, input: Input, limits: &Limits) -> Box<dyn Cutter> {
        match self.layout {
            Layout::Lines => Box::new(lines::LineCutter::new(input, self.file.clone(), limits.clone())),
            Layout::Document => {
                Box::new(document::DocumentCutter::new(input, self.file.clone(), limits.clone(), self.pointers.clone()))
            }
        }
    }

    fn parse(&self, chunk: &RawChunk, out: &mut [Records]) -> Result<()> {
        let mut keys: Vec<Keys> = out.iter().map(|_| Keys::default()).collect();
        if let [only] = &mut *out {
            only.tape.reserve(chunk.bytes.len());
        }
        match self.layout {
            Layout::Lines => lines::each_line(chunk, |piece| self.record(piece, &chunk.bytes, &mut keys[0], &mut out[0])),
            Layout::Document => {
                for &piece in &chunk.pieces {
                    let table = piece.table as usize;
                    self.record(piece, &chunk.bytes, &mut keys[table], &mut out[table]);
                }
            }
        }
        for (table, reject) in &chunk.rejects {
            out[*table].rejects.push(reject.clone());
        }
        for records in out {
            records.rejects.sort_by_key(|reject| reject.index);
        }
        Ok(())
    }

    fn decoding(&self, table: usize) -> serde_json::Value {
        let pointer: String =
            self.pointers[table].iter().map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1"))).collect();
        serde_json::json!({"format": "json", "records": pointer})
    }
}

fn read_pointers(texts: &[String]) -> Result<Vec<Pointer>> {
    if texts.is_empty() {
        return Ok(vec![Pointer::new()]);
    }
    let invalid = |what: String| {
        Error::new(Kind::Config, code::CONFIG, what)
            .hint("records of JSON are named by a pointer, as in --records orders=/data/orders")
    };
    let mut pointers: Vec<Pointer> = Vec::with_capacity(texts.len());
    for text in texts {
        let pointer: Pointer = match text.strip_prefix('/') {
            // A lone slash is what people write for the document itself; no real key is empty.
            _ if text.is_empty() || text == "/" => Pointer::new(),
            Some(rest) => rest.split('/').map(|key| key.replace("~1", "/").replace("~0", "~")).collect(),
            None => return Err(invalid(format!("{text} is not a JSON pointer: it does not begin with /"))),
        };
        if let Some(other) = pointers.iter().position(|p| p.starts_with(&pointer) || pointer.starts_with(p)) {
            return Err(invalid(format!("the records at {text} and at {} are within one another", texts[other])));
        }
        pointers.push(pointer);
    }
    Ok(pointers)
}

/// Lines, if the first line that is not blank is a whole value and (for an array) not the last one; or else if most lines are
/// whole objects, so that a first line that is damaged does not turn the file into a broken document.
fn layout_of(head: &[u8]) -> Layout {
    let head = &head[..head.len().min(Limits::CHUNK)];
    let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head);
    let (mut whole, mut others) = (0usize, 0usize);
    let mut first = None;
    let mut rest = head;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest);
        let line = rest[..end.unwrap_or(rest.len())].trim_ascii();
        rest = &rest[end.map_or(rest.len(), |end| end + 1)..];
        if line.is_empty() {
            continue;
        }
        let is_whole = scan::is_one_value(line);
        // The last line of the head may be cut off.
        if end.is_none() && !is_whole && first.is_some() {
            break;
        }
        first.get_or_insert((is_whole, line[0]));
        let counts = is_whole && line[0] == b'{';
        whole += usize::from(counts);
        others += usize::from(!counts);
    }
    match first {
        None => Layout::Lines,
        Some((true, b'[')) if whole + others == 1 => Layout::Document,
        Some((true, _)) => Layout::Lines,
        Some((false, _)) if whole > others => Layout::Lines,
        Some((false, _)) => Layout::Document,
    }
}

/// The text of a JSON string, quotes included in `bytes`.
fn parser_string(bytes: &[u8]) -> Option<String> {
    let mut tape = crate::tape::Tape::default();
    parser::parse(std::str::from_utf8(bytes).ok()?, &mut tape, &mut Keys::default()).ok()?;
    match tape.token(0) {
        Token::String(span) => Some(tape.text(span).to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
