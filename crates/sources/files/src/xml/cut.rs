//! XML as a format: whole records are cut out by their paths, and parsed on any lane.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use longshore_core::batch::{Payload, Reject, Unit};
use longshore_core::error::{Place, Result};
use serde_json::{Value, json};

use super::entities::Entities;
use super::markup::local;
use super::parse::{Parser, Wrong};
use super::scan::{Events, Scanner};
use super::structure::invalid;
use super::tree::steps;
use crate::cut::{Cutter, Feed, Format, Input, Limits, Piece, RawChunk, Spill, Walk};
use crate::error::ENCODING_INVALID;
use crate::tape::{Records, Row};

/// Chunks of documents with entities are smaller, since they grow in parsing.
const CHUNK_WITH_ENTITIES: usize = 64 << 10;

/// A dead letter carries the entities of its document along if they are no more bytes than this.
const DECODING_ENTITIES: usize = 16 << 10;

/// A record path and the number of its table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct XmlPath {
    /// The path of local names from the root.
    pub path: String,
    /// The number of the table that its records go to.
    pub table: usize,
}

/// Attributes that share their name with an element, as paths within the records of a table.
pub type Clashes = BTreeSet<(usize, String)>;

/// All that is needed to read one XML document.
pub struct XmlFormat {
    file: Arc<str>,
    tables: usize,
    paths: Vec<XmlPath>,
    entities: Arc<Entities>,
    clashes: Vec<BTreeSet<String>>,
    found: Mutex<Clashes>,
}

impl XmlFormat {
    /// Reads `file` (its name, for errors) with records at these paths, none of which lies within another.
    pub fn new(file: &str, tables: usize, paths: Vec<XmlPath>, entities: Entities, clashes: &Clashes) -> Self {
        let mut by_table = vec![BTreeSet::new(); tables];
        for (table, path) in clashes {
            if let Some(paths) = by_table.get_mut(*table) {
                paths.insert(path.clone());
            }
        }
        let found = Mutex::new(Clashes::new());
        Self { file: file.into(), tables, paths, entities: Arc::new(entities), clashes: by_table, found }
    }

    /// Reads the payload of a dead letter, as [`Format::decoding`] described it, into one table.
    pub fn replay(file: &str, decoding: &Value) -> Option<Self> {
        let path = XmlPath { path: decoding.get("record")?.as_str()?.to_owned(), table: 0 };
        let entities = decoding.get("entities").and_then(|e| serde_json::from_value(e.clone()).ok()).unwrap_or_default();
        let clashes = decoding.get("attributes").and_then(Value::as_array).into_iter().flatten();
        let clashes = clashes.filter_map(|path| Some((0, path.as_str()?.to_owned()))).collect();
        Some(Self::new(file, 1, vec![path], entities, &clashes))
    }

    /// The attributes that share their name with an element in what has been parsed so far. If some are not among those that the
    /// format was made with, it has to be parsed again by a format that knows them: their columns' names depend on it.
    pub fn found_clashes(&self) -> Clashes {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn parse_piece(&self, chunk: &RawChunk, text: &str, piece: &Piece, parser: &mut Parser<'_>, records: &mut Records) {
        match parser.record(text, &mut records.tape) {
            Ok(token) => records.rows.push(Row {
                token,
                start: piece.start,
                len: piece.len,
                line: piece.line,
                column: piece.column,
                index: piece.index,
            }),
            Err(wrong) => records.rejects.push(self.reject(chunk, piece, wrong)),
        }
    }

    fn reject(&self, chunk: &RawChunk, piece: &Piece, wrong: Wrong) -> Reject {
        let bytes = &chunk.bytes[piece.start..piece.start + piece.len];
        let mut walk = Walk { line: piece.line, column: piece.column };
        walk.over(&bytes[..wrong.at.min(bytes.len())]);
        Reject {
            unit: Unit::Record,
            table: None,
            payload: Payload::Inline(bytes.to_vec()),
            code: wrong.code,
            reason: format!("line {}, column {}: {}", walk.line, walk.column, wrong.reason),
            place: Place { file: self.file.to_string(), line: Some(piece.line), column: Some(piece.column) },
            field: None,
            decoding: None,
            index: piece.index,
        }
    }
}

impl Format for XmlFormat {
    fn tables(&self) -> usize {
        self.tables
    }

    fn cutter(&self, input: Input, limits: &Limits) -> Box<dyn Cutter> {
        let mut limits = limits.clone();
        if !self.entities.is_empty() {
            limits.chunk = limits.chunk.min(CHUNK_WITH_ENTITIES);
        }
        Box::new(XmlCutter {
            feed: Feed::new(input, self.file.clone()),
            file: self.file.clone(),
            scanner: Scanner::default(),
            marks: Marks::new(&self.paths),
            limits,
            scanned: 0,
            walk: Walk::default(),
            offset: 0,
            index: 0,
            skipped: 0,
            spilling: None,
            done: false,
        })
    }

    fn parse(&self, chunk: &RawChunk, out: &mut [Records]) -> Result<()> {
        for (table, reject) in &chunk.rejects {
            out[*table].rejects.push(reject.clone());
        }
        let mut parsers: Vec<Option<Parser<'_>>> = (0..self.tables).map(|_| None).collect();
        // One check for all records, which are nearly always well encoded.
        let whole = std::str::from_utf8(&chunk.bytes).ok();
        for piece in &chunk.pieces {
            let table = piece.table as usize;
            let parser = parsers[table].get_or_insert_with(|| {
                let mine = chunk.pieces.iter().filter(|other| other.table == piece.table).map(|other| other.len);
                out[table].tape.reserve(mine.sum());
                Parser::new(&self.entities, &self.clashes[table])
            });
            let bytes = &chunk.bytes[piece.start..piece.start + piece.len];
            let text = whole.map_or_else(|| std::str::from_utf8(bytes), |all| Ok(&all[piece.start..piece.start + piece.len]));
            match text {
                Ok(text) => self.parse_piece(chunk, text, piece, parser, &mut out[table]),
                Err(error) => {
                    let reason = "these bytes are not text in UTF-8, or in the encoding that the file declares".into();
                    let wrong = Wrong { at: error.valid_up_to(), code: ENCODING_INVALID.name, reason };
                    out[table].rejects.push(self.reject(chunk, piece, wrong));
                }
            }
        }
        for records in out.iter_mut() {
            records.rejects.sort_by_key(|reject| reject.index);
        }
        let clashes: Clashes = parsers
            .iter()
            .enumerate()
            .flat_map(|(table, parser)| parser.iter().flat_map(move |p| p.found_clashes().map(move |path| (table, path))))
            .collect();
        if !clashes.is_empty() {
            self.found.lock().unwrap_or_else(PoisonError::into_inner).extend(clashes);
        }
        Ok(())
    }

    fn decoding(&self, table: usize) -> Value {
        // A record alone is a document whose root it is.
        let name = self.paths.iter().find(|path| path.table == table).and_then(|path| steps(&path.path).last());
        let mut decoding = json!({"format": "xml", "record": format!("/{}", name.unwrap_or_default())});
        // Every dead letter of the file repeats them.
        if !self.entities.is_empty() && self.entities.size() <= DECODING_ENTITIES {
            decoding["entities"] = serde_json::to_value(&*self.entities).unwrap_or(Value::Null);
        }
        if let Some(clashes) = self.clashes.get(table).filter(|clashes| !clashes.is_empty()) {
            decoding["attributes"] = json!(clashes);
        }
        decoding
    }
}

/// The names on the way to the records.
struct Step {
    name: Box<[u8]>,
    children: Vec<usize>,
    table: Option<u32>,
}

/// Finds the records' first and last bytes.
struct Marks {
    steps: Vec<Step>,
    /// The steps of the open elements.
    path: Vec<usize>,
    /// Open elements that lead nowhere, or are inside of a record.
    aside: usize,
    in_record: Option<u32>,
    /// Where the slice that is scanned begins in the buffer.
    base: usize,
    begun: Option<usize>,
    /// Records since they were taken last: table, begin, end.
    ready: Vec<(u32, usize, usize)>,
}

impl Marks {
    fn new(paths: &[XmlPath]) -> Self {
        let root = Step { name: Box::default(), children: Vec::new(), table: None };
        let mut tree = vec![root];
        for path in paths {
            let mut at = 0;
            for name in steps(&path.path) {
                let known = tree[at].children.iter().copied().find(|&child| *tree[child].name == *name.as_bytes());
                at = known.unwrap_or_else(|| {
                    let id = tree.len();
                    tree.push(Step { name: name.as_bytes().into(), children: Vec::new(), table: None });
                    tree[at].children.push(id);
                    id
                });
            }
            tree[at].table = Some(path.table as u32);
        }
        Self { steps: tree, path: vec![0], aside: 0, in_record: None, base: 0, begun: None, ready: Vec::new() }
    }
}

impl Events for Marks {
    fn start(&mut self, name: &[u8], at: usize) {
        if self.aside > 0 {
            self.aside += 1;
            return;
        }
        let here = &self.steps[self.path[self.path.len() - 1]];
        let name = local(name);
        match here.children.iter().copied().find(|&child| *self.steps[child].name == *name) {
            None => self.aside = 1,
            Some(child) => match self.steps[child].table {
                None => self.path.push(child),
                Some(table) => {
                    self.aside = 1;
                    self.in_record = Some(table);
                    self.begun = Some(self.base + at);
                }
            },
        }
    }

    /// What is inside of a record is its parser's business.
    fn passes(&self) -> bool {
        self.aside == 1 && self.in_record.is_some()
    }

    fn end(&mut self, after: usize) {
        if self.aside == 0 {
            self.path.pop();
            return;
        }
        self.aside -= 1;
        if self.aside == 0
            && let Some(table) = self.in_record.take()
            && let Some(begun) = self.begun.take()
        {
            self.ready.push((table, begun, self.base + after));
        }
    }
}

/// A record on its way to a file.
struct Spilling {
    spill: Spill,
    walk: Walk,
    index: u64,
}

struct XmlCutter {
    feed: Feed,
    file: Arc<str>,
    scanner: Scanner,
    marks: Marks,
    limits: Limits,
    /// How much of the buffer is scanned.
    scanned: usize,
    /// The place of the buffer's first byte.
    walk: Walk,
    offset: u64,
    index: u64,
    /// Bytes let go of since the last chunk.
    skipped: u64,
    spilling: Option<Spilling>,
    done: bool,
}

impl Cutter for XmlCutter {
    fn next(&mut self) -> Result<Option<RawChunk>> {
        let mut chunk = RawChunk::default();
        let mut wanted = self.limits.chunk;
        while !self.done {
            let ended = self.feed.fill(wanted)?;
            let before = self.scanned;
            self.scan(ended)?;
            self.done = ended;
            self.spill_on(&mut chunk)?;
            if !self.marks.ready.is_empty() || !chunk.rejects.is_empty() {
                self.cut(&mut chunk)?;
                return Ok(Some(chunk));
            }
            let held = self.marks.begun.map_or(0, |begun| self.scanned - begun);
            if held > self.limits.max_record {
                self.begin_spill()?;
                wanted = self.limits.chunk;
            } else {
                self.let_go(self.marks.begun.unwrap_or(self.scanned));
                // A record, or a tag, that is larger than the chunk.
                let more = if self.scanned == before || held > 0 { self.feed.buffer.len() } else { 0 };
                wanted = (more * 2).max(self.limits.chunk).min(self.limits.max_record + self.limits.chunk).max(more + 4096);
            }
        }
        chunk.input_bytes = std::mem::take(&mut self.skipped) + self.feed.buffer.len() as u64;
        self.feed.buffer.clear();
        Ok((chunk.input_bytes > 0).then_some(chunk))
    }
}

impl XmlCutter {
    fn scan(&mut self, ended: bool) -> Result<()> {
        self.marks.base = self.scanned;
        match self.scanner.scan(&self.feed.buffer[self.scanned..], ended, &mut self.marks) {
            Ok(taken) => {
                self.scanned += taken;
                Ok(())
            }
            Err(fault) => {
                let mut walk = self.walk;
                walk.over(&self.feed.buffer[..self.scanned + fault.at]);
                Err(invalid(&self.file, walk, fault.reason))
            }
        }
    }

    /// Forgets the first bytes of the buffer.
    fn let_go(&mut self, bytes: usize) {
        self.walk.over(&self.feed.buffer[..bytes]);
        self.feed.buffer.drain(..bytes);
        self.scanned -= bytes;
        self.offset += bytes as u64;
        self.skipped += bytes as u64;
        self.marks.begun = self.marks.begun.map(|begun| begun - bytes);
        for (_, begin, end) in &mut self.marks.ready {
            *begin -= bytes;
            *end -= bytes;
        }
    }

    /// The open record is too large to be held: from here on it goes to a file.
    fn begin_spill(&mut self) -> Result<()> {
        let begun = self.marks.begun.unwrap_or(0);
        self.let_go(begun);
        let mut spill = Spill::begin(&self.limits)?;
        spill.write(&self.feed.buffer[..self.scanned])?;
        self.spilling = Some(Spilling { spill, walk: self.walk, index: self.index });
        self.index += 1;
        self.let_go_of_spilled(self.scanned);
        Ok(())
    }

    fn let_go_of_spilled(&mut self, bytes: usize) {
        // The record's beginning is gone; what is left of it begins with the buffer.
        self.marks.begun = self.marks.begun.map(|_| bytes);
        self.let_go(bytes);
    }

    /// Goes on with a record that is too large, up to its end if that is there.
    fn spill_on(&mut self, chunk: &mut RawChunk) -> Result<()> {
        let Some(mut spilling) = self.spilling.take() else { return Ok(()) };
        if self.marks.begun == Some(0) && self.marks.ready.is_empty() {
            spilling.spill.write(&self.feed.buffer[..self.scanned])?;
            self.spilling = Some(spilling);
            self.let_go_of_spilled(self.scanned);
            return Ok(());
        }
        // It was the open one, so it is the first to be ready.
        let (table, _, end) = self.marks.ready.remove(0);
        spilling.spill.write(&self.feed.buffer[..end])?;
        let reject = spilling.spill.into_reject(spilling.walk.place(&self.file), spilling.index, self.limits.max_record);
        chunk.rejects.push((table as usize, reject));
        self.let_go(end);
        Ok(())
    }

    /// Hands over the bytes up to the last whole record.
    fn cut(&mut self, chunk: &mut RawChunk) -> Result<()> {
        let first = self.marks.ready.first().map_or(0, |&(_, begin, _)| begin);
        self.let_go(first);
        let end = self.marks.ready.last().map_or(0, |&(_, _, end)| end);
        (chunk.offset, chunk.line, chunk.column) = (self.offset, self.walk.line, self.walk.column);
        let mut at = 0;
        for (table, begin, end) in std::mem::take(&mut self.marks.ready) {
            self.walk.over(&self.feed.buffer[at..begin]);
            at = begin;
            let index = self.index;
            self.index += 1;
            if end - begin > self.limits.max_record {
                let mut spill = Spill::begin(&self.limits)?;
                spill.write(&self.feed.buffer[begin..end])?;
                let reject = spill.into_reject(self.walk.place(&self.file), index, self.limits.max_record);
                chunk.rejects.push((table as usize, reject));
                continue;
            }
            let Walk { line, column } = self.walk;
            chunk.pieces.push(Piece { table, start: begin, len: end - begin, line, column, index });
        }
        self.walk.over(&self.feed.buffer[at..end]);
        chunk.bytes = self.feed.take(end);
        chunk.input_bytes = std::mem::take(&mut self.skipped) + end as u64;
        self.scanned -= end;
        self.offset += end as u64;
        self.marks.begun = self.marks.begun.map(|begun| begun - end);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
