//! From bytes to records in two steps: a *cutter* runs alone through the input and cuts it into chunks of whole records,
//! a *format* parses chunks into tapes on any lane.
//!
//! - A cutter MUST yield the same records, places and indexes whatever the chunk size, because inference and dead letters
//!   depend on content alone.
//! - A cutter MUST hold no record larger than [`Limits::max_record`]: it streams it to a file ([`Spill`]) and puts a
//!   `record_too_large` reject into the chunk, because memory must not grow with the data.
//! - What makes the input as a whole unreadable is an error of the cutter (or of `parse`), with its place. A single bad record is a
//!   reject among the [`Records`].

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use longshore_core::batch::{Payload, Reject, Unit};
use longshore_core::error::{Error, Kind, Place, Result, code};

use crate::spare::Spare;
use crate::tape::Records;

/// Decompressed bytes of one file, UTF-8 if the file is well formed.
pub type Input = Box<dyn Read + Send>;

/// How large chunks and records may be.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The size that chunks aim at, bytes. A chunk is larger only if its one record is.
    pub chunk: usize,
    /// The size above which a record is not held, bytes.
    pub max_record: usize,
    /// The folder for the bytes of records that are too large, made when it is needed. What is written there is the payload of a
    /// reject and marked temporary.
    pub spill: PathBuf,
    /// Whether payloads are wanted. A mere look sets it to false: rejects then carry an empty payload.
    pub keep_payloads: bool,
}

impl Limits {
    /// The default chunk size: 1 MiB.
    pub const CHUNK: usize = 1 << 20;

    /// Limits for a run with this much memory: chunks of 1 MiB or less, records up to a quarter (at most 1 GiB, since a tape
    /// counts in 32 bits).
    pub fn for_memory(memory: u64, spill: impl Into<PathBuf>) -> Self {
        let max_record = usize::try_from(memory / 4).unwrap_or(usize::MAX).clamp(1024, 1 << 30);
        Self { chunk: Self::CHUNK.min(max_record), max_record, spill: spill.into(), keep_payloads: true }
    }
}

/// Whole records, cut out but not parsed.
#[derive(Debug, Default)]
pub struct RawChunk {
    /// The bytes. For formats without pieces a run of the input; else the pieces' bytes.
    pub bytes: Vec<u8>,
    /// Offset of the first byte in the input.
    pub offset: u64,
    /// Bytes of input that this chunk accounts for, for progress; what was skipped counts.
    pub input_bytes: u64,
    /// Line of the first byte, from 1.
    pub line: u64,
    /// Column of the first byte, from 1, in characters.
    pub column: u64,
    /// The records, for formats whose cutter finds each of them; empty for line formats, whose parser does.
    pub pieces: Vec<Piece>,
    /// Records of this range that were not held, with the number of the table they were meant for.
    pub rejects: Vec<(usize, Reject)>,
}

/// The bytes of chunks that are done with.
static SPARE: Spare<Vec<u8>> = Spare::new();

impl RawChunk {
    /// A chunk that begins at this place, with nothing in it yet.
    pub fn at(offset: u64, line: u64, column: u64) -> Self {
        let mut chunk = Self::default();
        (chunk.offset, chunk.line, chunk.column) = (offset, line, column);
        chunk
    }
}

impl Drop for RawChunk {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let size = bytes.capacity();
        SPARE.give(bytes, size);
    }
}

/// One record within a [`RawChunk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Number of its table among the format's.
    pub table: u32,
    /// Its first byte in the chunk's bytes.
    pub start: usize,
    /// Number of bytes.
    pub len: usize,
    /// Its line in the file, from 1.
    pub line: u64,
    /// Its column, from 1, in characters.
    pub column: u64,
    /// Which record of its file it is, from 0, over all tables.
    pub index: u64,
}

/// Cuts one input into chunks, in order. Sequential and cheap; runs in one place.
pub trait Cutter: Send {
    /// The next chunk; `None` behind the last. Fails if the input cannot be read or is broken as a whole; the file is then
    /// unreadable and the cutter must not be called again.
    fn next(&mut self) -> Result<Option<RawChunk>>;
}

/// One way in which a file is written, with all settings found: made once for a file, used by every lane.
pub trait Format: Send + Sync {
    /// How many tables its records go to. Tables are known by number here; the maker knows their names.
    fn tables(&self) -> usize;

    /// A cutter for this file from its first byte.
    fn cutter(&self, input: Input, limits: &Limits) -> Box<dyn Cutter>;

    /// Parses a chunk: appends to `out`, one per table, its rows and rejects (the chunk's own rejects included), in order. Rejects
    /// lack `table` and `decoding`, which [`crate::columns::Decoder`] fills in. Depends on nothing but the chunk.
    fn parse(&self, chunk: &RawChunk, out: &mut [Records]) -> Result<()>;

    /// What a replay needs to parse the payload of one record of a table again.
    fn decoding(&self, table: usize) -> serde_json::Value;
}

/// Empty [`Records`] for a format's tables.
pub fn empty_records(format: &dyn Format) -> Vec<Records> {
    (0..format.tables()).map(|_| Records::default()).collect()
}

/// A moving place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1, in characters.
    pub column: u64,
}

impl Default for Walk {
    fn default() -> Self {
        Self { line: 1, column: 1 }
    }
}

impl Walk {
    /// Moves over some bytes. A line ends at each line feed.
    pub fn over(&mut self, bytes: &[u8]) {
        self.over_lines(bytes, b'\n');
    }

    /// Moves over some bytes whose lines end with `terminator`.
    pub fn over_lines(&mut self, bytes: &[u8], terminator: u8) {
        let rest = match memchr::memrchr(terminator, bytes) {
            None => bytes,
            Some(last) => {
                self.line += memchr::memchr_iter(terminator, &bytes[..=last]).count() as u64;
                self.column = 1;
                &bytes[last + 1..]
            }
        };
        // Every byte but the continuations of UTF-8 begins a character.
        self.column += rest.iter().filter(|&&byte| byte & 0xC0 != 0x80).count() as u64;
    }

    /// The place in a file.
    pub fn place(self, file: &str) -> Place {
        Place { file: file.to_owned(), line: Some(self.line), column: Some(self.column) }
    }
}

/// Buffered input that keeps what has not been taken.
pub struct Feed {
    input: Input,
    /// What has been read and not yet taken.
    pub buffer: Vec<u8>,
    file: Arc<str>,
    ended: bool,
}

impl Feed {
    /// Reads `input`; `file` names it in errors.
    pub fn new(input: Input, file: Arc<str>) -> Self {
        Self { input, buffer: Vec::new(), file, ended: false }
    }

    /// Goes on with another input behind the buffer.
    pub fn go_on_with(&mut self, input: Input) {
        self.input = input;
        self.ended = false;
    }

    /// Takes the input behind the buffer away, leaving none.
    pub fn take_input(&mut self) -> Input {
        std::mem::replace(&mut self.input, Box::new(std::io::empty()))
    }

    /// Reads until the buffer holds `bytes` or the input ends; returns whether it has ended.
    pub fn fill(&mut self, bytes: usize) -> Result<bool> {
        while !self.ended && self.buffer.len() < bytes {
            let wanted = (bytes - self.buffer.len()) as u64;
            self.buffer.reserve(wanted as usize);
            match self.input.by_ref().take(wanted).read_to_end(&mut self.buffer) {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(error) => return Err(self.unreadable(error)),
            }
        }
        Ok(self.ended)
    }

    /// Drops a byte order mark at the beginning of the input; returns its length.
    pub fn skip_mark(&mut self) -> Result<u64> {
        const MARK: &[u8] = b"\xEF\xBB\xBF";
        self.fill(MARK.len())?;
        if !self.buffer.starts_with(MARK) {
            return Ok(0);
        }
        self.buffer.drain(..MARK.len());
        Ok(MARK.len() as u64)
    }

    /// Whether the input has ended; the buffer may still hold some of it.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Takes the first `bytes` of the buffer.
    pub fn take(&mut self, bytes: usize) -> Vec<u8> {
        let mut rest = SPARE.take().unwrap_or_default();
        rest.clear();
        rest.extend_from_slice(&self.buffer[bytes..]);
        self.buffer.truncate(bytes);
        std::mem::replace(&mut self.buffer, rest)
    }

    fn unreadable(&self, error: std::io::Error) -> Error {
        // An error of reading already says what it is about, and whether trying again helps.
        match error.downcast::<Error>() {
            Ok(error) => error,
            Err(error) => Error::new(Kind::Source, crate::error::FILE_UNREADABLE, "the file cannot be read")
                .at(Place { file: self.file.to_string(), line: None, column: None })
                .caused_by(error),
        }
    }
}

/// The bytes of a record that is too large, on their way to a file.
#[derive(Debug)]
pub struct Spill {
    file: Option<(PathBuf, File)>,
    length: u64,
}

impl Spill {
    /// Begins a new file in the limits' folder, or counts only if no payloads are wanted.
    pub fn begin(limits: &Limits) -> Result<Self> {
        if !limits.keep_payloads {
            return Ok(Self { file: None, length: 0 });
        }
        let (path, file) = new_file(&limits.spill).map_err(|e| cannot_spill(&limits.spill, e))?;
        Ok(Self { file: Some((path, file)), length: 0 })
    }

    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.length += bytes.len() as u64;
        match &mut self.file {
            Some((path, file)) => file.write_all(bytes).map_err(|e| cannot_spill(path, e)),
            None => Ok(()),
        }
    }

    /// Bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The reject that stands for the record.
    pub fn into_reject(self, place: Place, index: u64, max_record: usize) -> Reject {
        let payload = match self.file {
            Some((path, _)) => Payload::File { path, offset: 0, length: self.length, temporary: true },
            None => Payload::Inline(Vec::new()),
        };
        Reject {
            unit: Unit::Record,
            table: None,
            payload,
            code: code::RECORD_TOO_LARGE.name,
            reason: format!(
                "the record has {} bytes, more than the {max_record} that fit a quarter of the memory; raise --memory",
                self.length
            ),
            place,
            field: None,
            decoding: None,
            index,
        }
    }
}

/// Makes a file of a name that nobody else uses.
fn new_file(folder: &Path) -> std::io::Result<(PathBuf, File)> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    std::fs::create_dir_all(folder)?;
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("record-{}-{number}.bytes", std::process::id()));
        match File::options().read(true).write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => return other.map(|file| (path, file)),
        }
    }
}

/// The error of a file for a record that is too large.
pub(crate) fn cannot_spill(path: &Path, error: std::io::Error) -> Error {
    Error::new(
        Kind::Source,
        crate::error::SPILL_FAILED,
        format!("a record that is too large for memory cannot be written to {}", path.display()),
    )
    .hint("free some space, or raise --memory")
    .caused_by(error)
}
