//! Cuts CSV behind records. Where a chunk holds no quote, that is the last line end; else records are read one by one.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::sync::Arc;

use longshore_core::batch::Payload;
use longshore_core::error::{Place, Result};

use super::record::Outcome;
use super::{Dialect, parser};
use crate::cut::{Cutter, Feed, Input, Limits, RawChunk, Spill, Walk};
use crate::error::{QUOTE_MISPLACED, UNCLOSED_QUOTE};

/// Cuts behind records.
pub struct CsvCutter {
    feed: Feed,
    file: Arc<str>,
    limits: Limits,
    dialect: Dialect,
    /// Whether the header is still to be taken off.
    header: bool,
    started: bool,
    offset: u64,
    line: u64,
}

impl CsvCutter {
    pub fn new(input: Input, file: Arc<str>, limits: Limits, dialect: Dialect, header: bool) -> Self {
        let feed = Feed::new(input, file.clone());
        Self { feed, file, limits, dialect, header, started: false, offset: 0, line: 1 }
    }

    /// Takes `bytes` off the feed and moves on over them.
    fn take(&mut self, bytes: usize) -> Vec<u8> {
        let taken = self.feed.take(bytes);
        self.offset += taken.len() as u64;
        self.line += self.lines(&taken);
        taken
    }

    fn lines(&self, bytes: &[u8]) -> u64 {
        memchr::memchr_iter(self.dialect.terminator, bytes).count() as u64
    }

    /// Takes off everything up to and including the first row that is not blank.
    fn take_header(&mut self) -> Result<()> {
        let mut wanted = self.limits.chunk;
        loop {
            let ended = self.feed.fill(wanted)?;
            if self.feed.buffer.is_empty() {
                return Ok(());
            }
            match self.dialect.record(&self.feed.buffer, 0, ended, |_| {}) {
                Outcome::Record { end: 0, next } => {
                    self.take(next);
                }
                Outcome::Record { next, .. } => {
                    self.take(next);
                    return Ok(());
                }
                // Detection would not have taken such a row for a header.
                Outcome::Unclosed { .. } | Outcome::Misplaced { .. } => return Ok(()),
                Outcome::Open if self.feed.buffer.len() > Limits::CHUNK.max(self.limits.max_record) => return Ok(()),
                Outcome::Open => wanted = self.feed.buffer.len() * 2,
            }
        }
    }

    /// The end of the last record of the buffer that is whole, 0 if there is none.
    fn whole(&self, ended: bool) -> usize {
        let bytes = &self.feed.buffer;
        let quoted = self.dialect.quote.is_some_and(|quote| memchr::memchr(quote, bytes).is_some());
        if !quoted {
            return if ended { bytes.len() } else { memchr::memrchr(self.dialect.terminator, bytes).map_or(0, |at| at + 1) };
        }
        let mut whole = 0;
        while whole < bytes.len() {
            // Up to the next quote, line ends are all there is to see.
            let quote = self.dialect.quote.and_then(|quote| memchr::memchr(quote, &bytes[whole..]));
            let plain = quote.map_or(bytes.len(), |at| whole + at);
            match memchr::memrchr(self.dialect.terminator, &bytes[whole..plain]) {
                Some(at) => whole += at + 1,
                None => match self.dialect.record(bytes, whole, ended, |_| {}) {
                    Outcome::Open => break,
                    Outcome::Record { next, .. } | Outcome::Unclosed { next, .. } | Outcome::Misplaced { next, .. } => {
                        whole = next
                    }
                },
            }
        }
        whole
    }

    /// Where the record behind the first one begins; `None` if the first one is too large.
    fn first(&self, ended: bool) -> Option<usize> {
        match self.dialect.record(&self.feed.buffer, 0, ended, |_| {}) {
            Outcome::Record { end, next } | Outcome::Unclosed { end, next, .. } | Outcome::Misplaced { end, next, .. } => {
                (end <= self.limits.max_record).then_some(next)
            }
            Outcome::Open => None,
        }
    }

    fn begin(&self) -> RawChunk {
        RawChunk::at(self.offset, self.line, 1)
    }

    /// A record that is too large to be held, if it is one: its bytes go to a file while its end is looked for. If a quote turns
    /// out to be unclosed instead, its line is the reject, and what follows that line is read again from the file.
    fn oversize(&mut self) -> Result<RawChunk> {
        let mut chunk = self.begin();
        let mut spill = Spill::begin(&Limits { keep_payloads: true, ..self.limits.clone() })?;
        let mut walk = RecordWalk::new(self.dialect);
        let found = loop {
            let length = walk.run(&self.feed.buffer);
            spill.write(&self.feed.buffer[..length])?;
            let rest = self.feed.buffer.split_off(length);
            self.feed.buffer = rest;
            if walk.found.is_some() {
                break walk.found;
            }
            if self.feed.fill(self.limits.chunk)? && self.feed.buffer.is_empty() {
                break walk.at_end();
            }
        };
        let place = Place { file: self.file.to_string(), line: Some(self.line), column: Some(1) };
        let mut reject = spill.into_reject(place, self.line - 1, self.limits.max_record);
        let Payload::File { path, length: spilled, .. } = &reject.payload else {
            unreachable!("a spill with payloads is a file")
        };
        let (path, spilled) = (path.clone(), *spilled);
        let unreadable = |e: std::io::Error| crate::cut::cannot_spill(&path, e);
        match found {
            None | Some(Found::Record { .. }) => {
                let end = match found {
                    Some(Found::Record { end }) => end,
                    _ => spilled,
                };
                set_length(&mut reject.payload, end);
                chunk.input_bytes = spilled;
                self.line += walk.lines;
            }
            Some(Found::Bad { line_end, line_next, lines, misplaced }) => {
                let mut file = File::open(&path).map_err(unreadable)?;
                file.seek(SeekFrom::Start(line_next)).map_err(unreadable)?;
                let rest = Cursor::new(std::mem::take(&mut self.feed.buffer));
                let after = self.feed.take_input();
                self.feed.go_on_with(Box::new(file.chain(rest).chain(after)));
                let at = Walk { line: self.line + walk.bad.line, column: walk.bad.column };
                let (code, reason) = match misplaced {
                    true => (QUOTE_MISPLACED, parser::misplaced(at)),
                    false => (UNCLOSED_QUOTE, parser::unclosed(at)),
                };
                (reject.code, reject.reason) = (code.name, reason);
                set_length(&mut reject.payload, line_end);
                chunk.input_bytes = line_next;
                self.line += lines;
                if line_end <= self.limits.max_record as u64 {
                    let bytes =
                        if self.limits.keep_payloads { read_start(&path, line_end).map_err(unreadable)? } else { Vec::new() };
                    reject.payload = Payload::Inline(bytes);
                }
            }
        }
        self.offset += chunk.input_bytes;
        if !self.limits.keep_payloads {
            reject.payload = Payload::Inline(Vec::new());
        }
        if matches!(reject.payload, Payload::Inline(_)) {
            // A file that is still read stays readable under Unix; elsewhere it stays until the folder is emptied.
            std::fs::remove_file(&path).or_else(|e| if cfg!(unix) { Err(e) } else { Ok(()) }).map_err(unreadable)?;
        }
        chunk.rejects.push((0, reject));
        Ok(chunk)
    }
}

fn set_length(payload: &mut Payload, bytes: u64) {
    if let Payload::File { length, .. } = payload {
        *length = bytes;
    }
}

fn read_start(path: &std::path::Path, bytes: u64) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    File::open(path)?.take(bytes).read_to_end(&mut out)?;
    Ok(out)
}

impl Cutter for CsvCutter {
    fn next(&mut self) -> Result<Option<RawChunk>> {
        if !self.started {
            self.started = true;
            self.offset = self.feed.skip_mark()?;
            if self.header {
                self.take_header()?;
            }
        }
        let mut wanted = self.limits.chunk;
        let end = loop {
            let ended = self.feed.fill(wanted)?;
            if self.feed.buffer.is_empty() && ended {
                return Ok(None);
            }
            // Behind a record of the largest size stand its line end and what tells that it is one.
            let most = self.limits.max_record + 3;
            let whole = self.whole(ended);
            if whole == 0 && self.feed.buffer.len() >= most {
                return self.oversize().map(Some);
            }
            match whole {
                // What a long header or a bad quote left in the buffer may hold a record that is too large.
                whole if whole > self.limits.max_record => match self.first(ended) {
                    Some(end) => break end,
                    None => return self.oversize().map(Some),
                },
                0 if ended => break self.feed.buffer.len(),
                0 => wanted = (self.feed.buffer.len() * 2).min(most),
                whole => break whole,
            }
        };
        let mut chunk = self.begin();
        chunk.bytes = self.take(end);
        chunk.input_bytes = end as u64;
        Ok(Some(chunk))
    }
}

/// What a record that is walked over turns out to be.
#[derive(Debug, Clone, Copy)]
enum Found {
    /// A record; `end` is behind its last byte.
    Record { end: u64 },
    /// A bad quote. The line on which it opened ends before `line_end`, the next begins at `line_next`, and so many lines
    /// end up to there. It is misplaced if text follows a closing quote on that line, else unclosed.
    Bad { line_end: u64, line_next: u64, lines: u64, misplaced: bool },
}

/// A walk byte by byte over one record that comes in pieces. Slow and exact; only for records too large to be held.
struct RecordWalk {
    dialect: Dialect,
    state: State,
    at: u64,
    /// Lines ended so far.
    lines: u64,
    /// Whether the last byte was a carriage return.
    after_return: bool,
    /// The first line end since the open quote, if there was one: as in [`Found::Bad`].
    line: Option<(u64, u64, u64)>,
    /// As in [`Found::Bad`].
    misplaced: bool,
    /// Column of the next byte; its line is `lines` behind the first.
    column: u64,
    /// Where the open quote, or the text behind a closing one, stands; lines count from the first.
    bad: Walk,
    found: Option<Found>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    ValueStart,
    Plain,
    Quoted,
    QuoteInQuoted,
    ReturnAfterQuote,
    /// Behind a bad quote, on the way to the end of its line.
    Bad,
}

impl RecordWalk {
    fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            state: State::ValueStart,
            at: 0,
            lines: 0,
            after_return: false,
            line: None,
            misplaced: false,
            column: 1,
            bad: Walk { line: 0, column: 1 },
            found: None,
        }
    }

    /// Walks on until the outcome is known; returns how many bytes were walked over.
    fn run(&mut self, bytes: &[u8]) -> usize {
        for (i, &byte) in bytes.iter().enumerate() {
            self.step(byte);
            if self.found.is_some() {
                return i + 1;
            }
        }
        bytes.len()
    }

    fn step(&mut self, byte: u8) {
        let Dialect { delimiter, quote, terminator } = self.dialect;
        let before = self.at;
        self.at += 1;
        let line_end = if terminator == b'\n' && self.after_return { before - 1 } else { before };
        self.after_return = byte == b'\r';
        let here = Walk { line: self.lines, column: self.column };
        self.lines += u64::from(byte == terminator);
        // As `Walk` counts: every byte but the continuations of UTF-8 begins a character.
        self.column = if byte == terminator { 1 } else { self.column + u64::from(byte & 0xC0 != 0x80) };
        let record = Some(Found::Record { end: line_end });
        match self.state {
            State::ValueStart if Some(byte) == quote => {
                self.state = State::Quoted;
                self.line = None;
                self.bad = here;
            }
            State::ValueStart | State::Plain if byte == terminator => self.found = record,
            State::ValueStart | State::Plain => {
                self.state = if byte == delimiter { State::ValueStart } else { State::Plain };
            }
            State::Quoted if Some(byte) == quote => self.state = State::QuoteInQuoted,
            State::Quoted => self.note_line(byte, line_end),
            State::QuoteInQuoted if Some(byte) == quote => self.state = State::Quoted,
            State::QuoteInQuoted if byte == delimiter => self.state = State::ValueStart,
            State::QuoteInQuoted | State::ReturnAfterQuote if byte == terminator => self.found = record,
            State::QuoteInQuoted if byte == b'\r' && terminator == b'\n' => self.state = State::ReturnAfterQuote,
            State::QuoteInQuoted | State::ReturnAfterQuote | State::Bad => {
                if self.state != State::Bad && self.line.is_none() {
                    self.misplaced = true;
                    self.bad = here;
                }
                self.state = State::Bad;
                self.note_line(byte, line_end);
                self.settle();
            }
        }
    }

    fn note_line(&mut self, byte: u8, line_end: u64) {
        if byte == self.dialect.terminator && self.line.is_none() {
            self.line = Some((line_end, self.at, self.lines));
        }
    }

    fn settle(&mut self) {
        if let Some((line_end, line_next, lines)) = self.line {
            self.found = Some(Found::Bad { line_end, line_next, lines, misplaced: self.misplaced });
        }
    }

    /// The outcome where the input ends.
    fn at_end(&mut self) -> Option<Found> {
        match self.state {
            State::ValueStart | State::Plain | State::QuoteInQuoted | State::ReturnAfterQuote => None,
            State::Quoted | State::Bad => {
                self.line.get_or_insert((self.at, self.at, self.lines));
                self.settle();
                self.found
            }
        }
    }
}
