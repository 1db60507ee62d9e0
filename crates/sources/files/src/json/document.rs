//! Records inside a JSON document: the cutter walks down to where they are and cuts each out by its brackets.

use std::sync::Arc;

use longshore_core::error::{Error, Kind, Result};

use super::Pointer;
use super::scan::ValueScan;
use crate::cut::{Cutter, Feed, Input, Limits, Piece, RawChunk, Spill, Walk};
use crate::error::FILE_UNREADABLE;

/// Cuts records out of one document, or several one after the other.
pub struct DocumentCutter {
    feed: Feed,
    file: Arc<str>,
    limits: Limits,
    pointers: Arc<[Pointer]>,
    /// The containers that the cutter is inside of.
    frames: Vec<Frame>,
    /// The next byte in the feed's buffer.
    at: usize,
    /// The place of the byte at `walked`.
    walk: Walk,
    walked: usize,
    offset: u64,
    index: u64,
    chunk: RawChunk,
    started: bool,
}

/// A container on the way to records.
struct Frame {
    kind: FrameKind,
    /// The pointers that lead through here; all of them have matched as deep as the frames are.
    live: Vec<usize>,
    /// Number of the next element or member.
    next: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FrameKind {
    /// An array whose elements are the records of a table.
    Records(usize),
    /// An array, by number.
    Array,
    /// An object, by key.
    Object,
}

impl DocumentCutter {
    pub fn new(input: Input, file: Arc<str>, limits: Limits, pointers: Arc<[Pointer]>) -> Self {
        Self {
            feed: Feed::new(input, file.clone()),
            file,
            limits,
            pointers,
            frames: Vec::new(),
            at: 0,
            walk: Walk::default(),
            walked: 0,
            offset: 0,
            index: 0,
            chunk: RawChunk::default(),
            started: false,
        }
    }

    /// Drops what has been walked over and reads more; false if there is no more.
    fn more(&mut self) -> Result<bool> {
        self.place();
        self.feed.buffer.drain(..self.at);
        self.offset += self.at as u64;
        self.walked -= self.at;
        self.at = 0;
        let before = self.feed.buffer.len();
        self.feed.fill(before + self.limits.chunk)?;
        Ok(self.feed.buffer.len() > before)
    }

    /// The place of the next byte.
    fn place(&mut self) -> Walk {
        self.walk.over(&self.feed.buffer[self.walked..self.at]);
        self.walked = self.at;
        self.walk
    }

    fn unreadable(&mut self, what: &str) -> Error {
        let place = self.place().place(&self.file);
        Error::new(Kind::Source, FILE_UNREADABLE, format!("the JSON document is broken: {what}")).at(place)
    }

    /// The next byte that is not white.
    fn peek(&mut self) -> Result<Option<u8>> {
        loop {
            while let Some(&byte) = self.feed.buffer.get(self.at) {
                if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                    return Ok(Some(byte));
                }
                self.at += 1;
            }
            if !self.more()? {
                return Ok(None);
            }
        }
    }

    /// Goes on by one value, bracket or comma; false at the end of the input.
    fn step(&mut self) -> Result<bool> {
        let Some(byte) = self.peek()? else {
            return match self.frames.last().map(|frame| frame.kind) {
                None => Ok(false),
                Some(FrameKind::Object) => Err(self.unreadable("it ends within an object")),
                Some(_) => Err(self.unreadable("it ends within an array")),
            };
        };
        let Some(frame) = self.frames.last() else {
            let all: Vec<usize> = (0..self.pointers.len()).collect();
            self.value(byte, all, 0)?;
            return Ok(true);
        };
        let (kind, next, depth) = (frame.kind, frame.next, self.frames.len());
        let close = if kind == FrameKind::Object { b'}' } else { b']' };
        if byte == close {
            self.at += 1;
            self.frames.pop();
            return Ok(true);
        }
        if next > 0 {
            if byte != b',' {
                return Err(self.unreadable(&format!("expected `,` or `{}`", char::from(close))));
            }
            self.at += 1;
        }
        let byte = match self.peek()? {
            Some(byte) if byte != b',' && byte != close => byte,
            Some(_) => return Err(self.unreadable("a value is missing")),
            None => return Err(self.unreadable("it ends within an array or object")),
        };
        let key = match kind {
            FrameKind::Records(table) => {
                self.enter();
                self.record(table)?;
                return Ok(true);
            }
            FrameKind::Array => next.to_string(),
            FrameKind::Object => self.key(byte)?,
        };
        let byte = self.peek()?.ok_or_else(|| self.unreadable("a value is missing"))?;
        let live = self.enter();
        let live = live.into_iter().filter(|&p| self.pointers[p][depth - 1] == key).collect();
        self.value(byte, live, depth)?;
        Ok(true)
    }

    /// Counts a member of the innermost frame; returns the pointers that lead through it.
    fn enter(&mut self) -> Vec<usize> {
        let frame = self.frames.last_mut().expect("a member has a frame");
        frame.next += 1;
        frame.live.clone()
    }

    /// Reads a key and its colon.
    fn key(&mut self, byte: u8) -> Result<String> {
        if byte != b'"' {
            return Err(self.unreadable("expected a key in quotes"));
        }
        let length = self.whole_value(self.limits.max_record)?.ok_or_else(|| self.unreadable("a key is too long"))?;
        let text = super::parser_string(&self.feed.buffer[self.at..self.at + length]);
        let Some(key) = text else { return Err(self.unreadable("a key is not a valid string")) };
        self.at += length;
        if self.peek()? != Some(b':') {
            return Err(self.unreadable("expected `:`"));
        }
        self.at += 1;
        Ok(key)
    }

    /// A value that `live` pointers lead to, having matched `depth` keys.
    fn value(&mut self, byte: u8, live: Vec<usize>, depth: usize) -> Result<()> {
        if matches!(byte, b',' | b':' | b'}' | b']') {
            return Err(self.unreadable(&format!("unexpected `{}`", char::from(byte))));
        }
        if let Some(&table) = live.iter().find(|&&p| self.pointers[p].len() == depth) {
            if byte == b'[' {
                self.at += 1;
                self.frames.push(Frame { kind: FrameKind::Records(table), live: Vec::new(), next: 0 });
                return Ok(());
            }
            return self.record(table);
        }
        let kind = match byte {
            _ if live.is_empty() => return self.skip(),
            b'{' => FrameKind::Object,
            b'[' => FrameKind::Array,
            _ => return self.skip(),
        };
        self.at += 1;
        self.frames.push(Frame { kind, live, next: 0 });
        Ok(())
    }

    /// The length of the value that begins here, once all of it is in the buffer; `None` if it is longer than `most`.
    fn whole_value(&mut self, most: usize) -> Result<Option<usize>> {
        let mut scan = ValueScan::default();
        let mut seen = 0;
        loop {
            if let Some(end) = scan.run(&self.feed.buffer[self.at + seen..]) {
                return Ok(Some(seen + end).filter(|length| *length <= most));
            }
            seen = self.feed.buffer.len() - self.at;
            if seen > most {
                return Ok(None);
            }
            if !self.more()? {
                return if scan.may_end() { Ok(Some(seen)) } else { Err(self.unreadable("it ends within a value")) };
            }
        }
    }

    /// Cuts out the record that begins here.
    fn record(&mut self, table: usize) -> Result<()> {
        let Walk { line, column } = self.place();
        let index = self.index;
        let Some(len) = self.whole_value(self.limits.max_record)? else { return self.oversize(table) };
        let bytes = &self.feed.buffer[self.at..self.at + len];
        self.at += len;
        // A pointer to null points at nothing; but a null among records is one.
        if bytes == b"null" && self.frames.last().is_some_and(|f| !matches!(f.kind, FrameKind::Records(_))) {
            return Ok(());
        }
        self.index += 1;
        let start = self.chunk.bytes.len();
        self.chunk.bytes.extend_from_slice(bytes);
        self.chunk.pieces.push(Piece { table: table as u32, start, len, line, column, index });
        Ok(())
    }

    /// A record too large to be held: its bytes go to a file.
    fn oversize(&mut self, table: usize) -> Result<()> {
        let mut spill = Spill::begin(&self.limits)?;
        let place = self.place().place(&self.file);
        self.walk_over_value(|bytes| spill.write(bytes))?;
        self.chunk.rejects.push((table, spill.into_reject(place, self.index, self.limits.max_record)));
        self.index += 1;
        Ok(())
    }

    fn skip(&mut self) -> Result<()> {
        self.walk_over_value(|_| Ok(()))
    }

    /// Walks over the value that begins here without holding it.
    fn walk_over_value(&mut self, mut seen: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut scan = ValueScan::default();
        loop {
            let rest = &self.feed.buffer[self.at..];
            let end = scan.run(rest);
            let length = end.unwrap_or(rest.len());
            seen(&rest[..length])?;
            self.at += length;
            if end.is_some() {
                return Ok(());
            }
            if !self.more()? {
                return if scan.may_end() { Ok(()) } else { Err(self.unreadable("it ends within a value")) };
            }
        }
    }
}

impl Cutter for DocumentCutter {
    fn next(&mut self) -> Result<Option<RawChunk>> {
        if !self.started {
            self.started = true;
            self.offset = self.feed.skip_mark()?;
        }
        let begun = self.offset + self.at as u64;
        let Walk { line, column } = self.place();
        self.chunk = RawChunk::at(begun, line, column);
        let mut ended = false;
        while !ended && self.chunk.bytes.len() < self.limits.chunk && self.chunk.rejects.is_empty() {
            ended = !self.step()?;
        }
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.input_bytes = self.offset + self.at as u64 - begun;
        if ended && chunk.pieces.is_empty() && chunk.rejects.is_empty() { Ok(None) } else { Ok(Some(chunk)) }
    }
}
