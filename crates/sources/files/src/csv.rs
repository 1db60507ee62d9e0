//! CSV: delimited text, with its dialect found from the first MiB.
//!
//! A record ends at a line end outside of quotes. A quote opens a value only as its first character; inside, a quote is written
//! twice; behind the closing one comes a delimiter or the record's end. Where that does not hold, or the input ends first, the line on
//! which the value opened is a dead letter and decoding goes on at the next line.
//!
//! Unquoted empty values are NULL, and so is the unquoted null text; a quoted empty value is the empty string. The type of any other value
//! is a matter of its content, quoted or not.

mod cutter;
mod detect;
mod parser;
mod record;

use std::sync::Arc;

use longshore_core::error::{Error, Kind, Result, code};

use crate::config::{CsvConfig, CsvHeader, Jagged};
use crate::cut::{Cutter, Format, Input, Limits, RawChunk};
use crate::tape::{Records, Span, Tape};

pub use parser::BadRow;

/// The bytes that give a CSV file its structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Dialect {
    /// Between values.
    pub delimiter: u8,
    /// Around values; `None` where no character quotes.
    pub quote: Option<u8>,
    /// At the end of a line: a line feed (with or without a carriage return before it), or a carriage return in files that have
    /// no line feed.
    pub terminator: u8,
}

/// A CSV file: dialect, columns and how odd rows are treated.
#[derive(Debug, Clone)]
pub struct CsvFormat {
    file: Arc<str>,
    dialect: Dialect,
    /// Whether the first record names the columns.
    header: bool,
    /// The columns' names, all different.
    names: Arc<[String]>,
    /// An unquoted text that means NULL.
    null: Option<String>,
    jagged: Jagged,
    /// What was found rather than set, for the note.
    note: String,
}

/// What [`CsvFormat::decoding`] keeps.
#[derive(serde::Serialize, serde::Deserialize)]
struct Decoding {
    format: String,
    #[serde(flatten)]
    dialect: Dialect,
    columns: Vec<String>,
    null: Option<String>,
    jagged: Jagged,
}

impl CsvFormat {
    /// Finds the dialect from the beginning of the file (at most 1 MiB of it is looked at; `whole` says that it is all of the file).
    /// What the settings give is taken. Fails with `config` for settings that are not single bytes, and with `file_unreadable` if a
    /// header was asked for and cannot be read.
    pub fn detect(file: Arc<str>, head: &[u8], whole: bool, config: &CsvConfig) -> Result<Self> {
        detect::detect(file, head, whole, config)
    }

    /// The format of a dead letter's payload, from what [`Format::decoding`] gave: rows without a header. Fails with `config` if
    /// it is something else.
    pub fn for_replay(file: Arc<str>, decoding: &serde_json::Value) -> Result<Self> {
        let Decoding { dialect, columns, null, jagged, .. } = serde::Deserialize::deserialize(decoding).map_err(|e| {
            Error::new(Kind::Config, code::CONFIG, "a dead letter does not say how its CSV is written").caused_by(e)
        })?;
        Ok(Self { file, dialect, header: false, names: columns.into(), null, jagged, note: String::new() })
    }

    /// A format whose columns are known: rows without a header, one by one ([`CsvFormat::row`]). A delimiter that is not given is `,`.
    /// Fails with `config` for settings that are not single bytes.
    pub fn of_rows(columns: &[String], config: &CsvConfig) -> Result<Self> {
        let delimiter = config.delimiter.clone().unwrap_or_else(|| ",".to_owned());
        let config = CsvConfig { delimiter: Some(delimiter), header: CsvHeader::No, ..config.clone() };
        Ok(Self { names: columns.into(), ..detect::detect("".into(), b"", true, &config)? })
    }

    /// Writes the row that a text begins with at the end of a tape, as an object. `keys` are the spans of the columns' names there.
    /// Returns its token, and where in the text the next row would begin.
    pub fn row(&self, text: &[u8], keys: &[Span], tape: &mut Tape) -> Result<(u32, usize), BadRow> {
        parser::row(self, text, keys, tape)
    }

    /// The dialect.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Whether the first record names the columns.
    pub fn has_header(&self) -> bool {
        self.header
    }

    /// The columns' names at the source: those of the header, or `c1`, `c2` ...; a name that is there twice has got a number.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The choice for people: `delimiter ';', header yes`.
    pub fn note(&self) -> &str {
        &self.note
    }
}

impl Format for CsvFormat {
    fn tables(&self) -> usize {
        1
    }

    fn cutter(&self, input: Input, limits: &Limits) -> Box<dyn Cutter> {
        Box::new(cutter::CsvCutter::new(input, self.file.clone(), limits.clone(), self.dialect, self.header))
    }

    fn parse(&self, chunk: &RawChunk, out: &mut [Records]) -> Result<()> {
        parser::parse(self, chunk, &mut out[0]);
        Ok(())
    }

    fn decoding(&self, _table: usize) -> serde_json::Value {
        let decoding = Decoding {
            format: "csv".to_owned(),
            dialect: self.dialect,
            columns: self.names.to_vec(),
            null: self.null.clone(),
            jagged: self.jagged,
        };
        serde_json::to_value(decoding).expect("plain data becomes JSON")
    }
}

#[cfg(test)]
mod tests;
