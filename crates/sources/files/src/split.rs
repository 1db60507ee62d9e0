//! What a split says about its file, so that it can be read on any machine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use longshore_core::batch::{Payload, Reject, Unit};
use longshore_core::commit::CommitNumber;
use longshore_core::error::{Error, Kind, Place, Result, code};
use longshore_core::position::{Covers, Delta, Partition, Position};
use longshore_core::source::Split;

use crate::config::{FilesConfig, FormatName};
use crate::csv::CsvFormat;
use crate::cut::Format;
use crate::error::{COMPRESSION_BROKEN, ENCODING_UNKNOWN, FILE_UNREADABLE, XML_INVALID};
use crate::input::{Version, head};
use crate::json::JsonFormat;
use crate::listing::Found;
use crate::xml::cut::{Clashes, XmlFormat, XmlPath};
use crate::xml::entities::Entities;

/// How much of a file its format is found from.
const HEAD: usize = 1 << 20;

/// A file to read.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct FileSplit {
    /// Its name in the ledger.
    pub address: String,
    pub path: PathBuf,
    pub version: Version,
    /// The table that its records go to if nothing else says so.
    pub table: String,
    pub spooled: bool,
    /// What the look found out.
    pub look: Option<Looked>,
}

/// What is known of a file once it has been looked at.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Looked {
    /// BLAKE3 of the raw bytes, hex.
    pub digest: String,
    /// The lines of the file ledger that it will have, each with the commit of the file's last landing there, or 0.
    pub keys: BTreeMap<String, CommitNumber>,
    pub written: Written,
    /// Its tables by number, and whether their records are to be read (or landed before).
    pub tables: Vec<(String, bool)>,
    /// Why it cannot be read.
    pub refused: Option<Refusal>,
}

/// How a file is written.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Written {
    /// There is nothing in it.
    Blank,
    Json,
    Csv,
    Xml {
        paths: Vec<XmlPath>,
        entities: Entities,
        clashes: Clashes,
    },
}

/// Why a file as a whole cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Refusal {
    pub code: String,
    pub reason: String,
    pub place: Place,
}

/// The codes of files that are unreadable by their content: these become dead letters, other errors end the run.
const UNREADABLE: [&str; 4] = [FILE_UNREADABLE.name, XML_INVALID.name, COMPRESSION_BROKEN.name, ENCODING_UNKNOWN.name];

impl FileSplit {
    pub fn new(found: Found) -> Self {
        let Found { address, path, version, table, spooled } = found;
        Self { address, path, version, table, spooled, look: None }
    }

    pub fn read(split: &Split) -> Result<Self> {
        serde_json::from_value(split.payload.clone())
            .map_err(|e| Error::new(Kind::Bug, code::BUG, format!("the split {} cannot be read", split.name)).caused_by(e))
    }

    pub fn write(&self) -> Result<Split> {
        let payload = serde_json::to_value(self).map_err(|e| {
            Error::new(Kind::Bug, code::BUG, format!("the split {} cannot be written", self.address)).caused_by(e)
        })?;
        Ok(Split { name: self.address.clone(), bytes: self.version.size, payload })
    }

    pub fn looked(&self) -> Result<&Looked> {
        let why = || Error::new(Kind::Bug, code::BUG, format!("{} is read before it was looked at", self.address));
        self.look.as_ref().ok_or_else(why)
    }

    /// The format of its records, `None` if there are none.
    pub fn format(&self, config: &FilesConfig) -> Result<Option<Arc<dyn Format>>> {
        let look = self.looked()?;
        let file: Arc<str> = self.address.as_str().into();
        Ok(match &look.written {
            Written::Blank => None,
            Written::Xml { paths, entities, clashes } => {
                Some(Arc::new(XmlFormat::new(&file, look.tables.len(), paths.clone(), entities.clone(), clashes)))
            }
            Written::Json => Some(Arc::new(self.json(config)?)),
            Written::Csv => Some(Arc::new(self.csv(config)?)),
        })
    }

    pub fn json(&self, config: &FilesConfig) -> Result<JsonFormat> {
        let pointers: Vec<String> = config.records.values().cloned().collect();
        JsonFormat::detect(self.address.as_str().into(), &head(&self.path, &self.version, HEAD)?, &pointers)
    }

    pub fn csv(&self, config: &FilesConfig) -> Result<CsvFormat> {
        let head = head(&self.path, &self.version, HEAD)?;
        CsvFormat::detect(self.address.as_str().into(), &head, head.len() < HEAD, &config.csv)
    }

    /// What reading it covers.
    pub fn covers(&self) -> Covers {
        let Some(look) = &self.look else { return Covers::Deltas(Vec::new()) };
        let delta = |(table, before): (&String, &CommitNumber)| Delta {
            partition: Partition(format!("file:{table}:{}#{}@{before}", self.address, look.digest)),
            from: None,
            to: Position::from_count(self.version.size),
        };
        Covers::Deltas(look.keys.iter().map(delta).collect())
    }

    /// The dead letter that stands for the whole file. The payload is the file itself.
    pub fn reject(&self, code: &'static str, refusal: &Refusal) -> Reject {
        Reject {
            unit: Unit::File,
            table: None,
            payload: Payload::File { path: self.path.clone(), offset: 0, length: self.version.size, temporary: false },
            code,
            reason: refusal.reason.clone(),
            place: refusal.place.clone(),
            field: None,
            decoding: None,
            index: 0,
        }
    }
}

impl Refusal {
    /// A refusal, if the error is one of the file's content; else the error again.
    pub fn from_error(error: Error, address: &str) -> Result<(&'static str, Self)> {
        let Some(code) = UNREADABLE.into_iter().find(|code| *code == error.code()) else { return Err(error) };
        let mut reason = error.message().to_owned();
        for cause in error.chain() {
            reason = format!("{reason}: {cause}");
        }
        let place = error.place().cloned().unwrap_or_default();
        // Under the ledger's name, whatever path the error knew.
        let place = Place { file: address.to_owned(), ..place };
        Ok((code, Self { code: code.to_owned(), reason, place }))
    }
}

/// The format that a file's first bytes are in; its name decides only what they leave open. `None` for nothing but white space.
pub(crate) fn sniff(content: &[u8], name: &str, wanted: FormatName) -> Option<FormatName> {
    let content = content.trim_ascii_start();
    let first = *content.first()?;
    if wanted != FormatName::Auto {
        return Some(wanted);
    }
    let name = name.to_ascii_lowercase();
    let name = [".gz", ".zst", ".zstd", ".gzip"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    let named = |endings: &[&str]| endings.iter().any(|end| name.ends_with(end));
    let is_csv = named(&[".csv", ".tsv", ".psv"]);
    let is_markup = content.get(1).is_some_and(|&b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'?' | b'!') || b >= 0x80);
    Some(match first {
        b'<' if is_markup && !is_csv => FormatName::Xml,
        b'{' | b'[' if !is_csv => FormatName::Json,
        _ if named(&[".json", ".jsonl", ".ndjson"]) => FormatName::Json,
        _ if named(&[".xml"]) => FormatName::Xml,
        _ => FormatName::Csv,
    })
}
