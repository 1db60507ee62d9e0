//! JSON lines: cut at line feeds, nothing else to know.

use std::sync::Arc;

use longshore_core::error::{Place, Result};

use crate::cut::{Cutter, Feed, Input, Limits, Piece, RawChunk, Spill};

/// Cuts at line feeds.
pub struct LineCutter {
    feed: Feed,
    file: Arc<str>,
    limits: Limits,
    offset: u64,
    line: u64,
}

impl LineCutter {
    pub fn new(input: Input, file: Arc<str>, limits: Limits) -> Self {
        Self { feed: Feed::new(input, file.clone()), file, limits, offset: 0, line: 1 }
    }

    /// A line that is too large to be held: its bytes go to a file, up to its line feed.
    fn oversize(&mut self) -> Result<RawChunk> {
        let mut spill = Spill::begin(&self.limits)?;
        let mut chunk = self.begin();
        loop {
            let line_feed = memchr::memchr(b'\n', &self.feed.buffer);
            let piece = self.feed.take(line_feed.unwrap_or(self.feed.buffer.len()));
            spill.write(&piece)?;
            if line_feed.is_some() {
                self.feed.take(1);
                break;
            }
            if self.feed.fill(self.limits.chunk)? && self.feed.buffer.is_empty() {
                break;
            }
        }
        chunk.input_bytes = spill.length() + 1;
        let place = Place { file: self.file.to_string(), line: Some(self.line), column: Some(1) };
        chunk.rejects.push((0, spill.into_reject(place, self.line - 1, self.limits.max_record)));
        self.offset += chunk.input_bytes;
        self.line += 1;
        Ok(chunk)
    }

    fn begin(&self) -> RawChunk {
        RawChunk::at(self.offset, self.line, 1)
    }
}

impl Cutter for LineCutter {
    fn next(&mut self) -> Result<Option<RawChunk>> {
        if self.offset == 0 {
            self.offset = self.feed.skip_mark()?;
        }
        let mut wanted = self.limits.chunk;
        let end = loop {
            let ended = self.feed.fill(wanted)?;
            let buffer = &self.feed.buffer;
            if buffer.is_empty() && ended {
                return Ok(None);
            }
            match memchr::memrchr(b'\n', buffer) {
                // What stands behind the last line feed is a line too once nothing follows.
                Some(_) if ended => break buffer.len(),
                Some(at) => break at + 1,
                None if buffer.len() > self.limits.max_record => return self.oversize().map(Some),
                None if ended => break buffer.len(),
                None => wanted = (buffer.len() * 2).min(self.limits.max_record + 1),
            }
        };
        let mut chunk = self.begin();
        chunk.bytes = self.feed.take(end);
        chunk.input_bytes = end as u64;
        self.offset += end as u64;
        self.line += memchr::memchr_iter(b'\n', &chunk.bytes).count() as u64;
        Ok(Some(chunk))
    }
}

/// The lines of a chunk that are not blank.
pub fn each_line(chunk: &RawChunk, mut found: impl FnMut(Piece)) {
    let mut line = chunk.line;
    let mut start = 0;
    while start < chunk.bytes.len() {
        let rest = &chunk.bytes[start..];
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let bytes = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        if !bytes.trim_ascii_start().is_empty() {
            found(Piece { table: 0, start, len: bytes.len(), line, column: 1, index: line - 1 });
        }
        line += 1;
        start += end + 1;
    }
}
