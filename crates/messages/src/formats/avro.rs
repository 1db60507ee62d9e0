//! Avro. It is read by the schema that it was written by, message by message, straight onto a tape: a damaged message then spoils no other, and
//! each tells where it is damaged.

mod columns;
mod read;
mod schema;

use std::path::Path;

use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm};
use longshore_core::Result;
use longshore_core::error::{Error, Kind, code};
use longshore_files::error::NOT_AN_OBJECT;
use longshore_files::tape::Token;

pub(crate) use columns::{columns, type_of};
pub(crate) use read::read;
pub(crate) use schema::Schema;

use super::{Columns, Reader, Unread};
use crate::fault::Fault;
use crate::sheet::Sheet;
use crate::times::Finer;

/// How Avro's single-object encoding begins; the fingerprint of the schema follows.
const SINGLE_OBJECT: [u8; 2] = [0xC3, 0x01];

/// Avro by the one schema of a file.
pub(crate) struct AvroFile {
    schema: Schema,
    finer: Finer,
    /// What stands before a message in single-object encoding.
    mark: Option<[u8; 10]>,
}

impl AvroFile {
    /// Errors: `config` if the file cannot be read or is no schema.
    pub fn new(path: &Path, finer: Finer) -> Result<Self> {
        let refused = |what: String| Error::new(Kind::Config, code::CONFIG, what);
        let text = std::fs::read_to_string(path)
            .map_err(|e| refused(format!("`avro.schema`: {} cannot be read", path.display())).caused_by(e))?;
        let schema = Schema::parse(&text, &[])
            .map_err(|why| refused(format!("`avro.schema`: {} is no Avro schema: {why}", path.display())))?;
        if columns(&schema).fields.is_empty() {
            return Err(refused(format!("`avro.schema`: {} describes no record with columns", path.display())));
        }
        let mark = match AvroSchema::new(text).fingerprint(FingerprintAlgorithm::Rabin) {
            Ok(Fingerprint::Rabin(fingerprint)) => {
                let mut mark = [0; 10];
                mark[..2].copy_from_slice(&SINGLE_OBJECT);
                mark[2..].copy_from_slice(&fingerprint.to_le_bytes());
                Some(mark)
            }
            _ => None,
        };
        Ok(Self { schema, finer, mark })
    }
}

impl Reader for AvroFile {
    fn read(&self, content: &[u8], sheet: &mut Sheet) -> Result<u32, Unread> {
        let plain = self.mark.and_then(|mark| content.strip_prefix(&mark)).unwrap_or(content);
        Ok(record(&self.schema, plain, self.finer, sheet)?)
    }

    fn columns(&self, _contents: &mut dyn Iterator<Item = &[u8]>) -> Result<Columns> {
        Ok(Columns::All(columns(&self.schema)))
    }
}

/// Writes a record.
pub(crate) fn record(schema: &Schema, content: &[u8], finer: Finer, sheet: &mut Sheet) -> Result<u32, Fault> {
    let token = read(schema, content, finer, sheet)?;
    match sheet.tape.token(token) {
        Token::Object { .. } => Ok(token),
        _ => Err(Fault::new(NOT_AN_OBJECT, "the message's schema is not that of a record, so it has no columns")),
    }
}
