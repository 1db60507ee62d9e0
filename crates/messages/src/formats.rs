//! How contents are written: each format turns one content into an object on a tape.

pub(crate) mod avro;
pub(crate) mod columns;
mod csv;
pub(crate) mod json;
mod json_schema;
pub(crate) mod protobuf;
mod raw;
pub(crate) mod registered;
pub(crate) mod schema;

use std::sync::Arc;

use longshore_core::Result;
use longshore_core::error::{Error, Kind, code};
use longshore_core::schema::TableSchema;

use crate::config::{Format, MessagesConfig};
use crate::fault::Fault;
use crate::registry::{self, SchemaRegistry};
use crate::sheet::Sheet;
use crate::times::Finer;

pub(crate) use columns::merged;

/// Why a content was not read.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It cannot be.
    Fault(Fault),
    /// Something that it needs is not there for now.
    Error(Error),
}

impl From<Fault> for Unread {
    fn from(fault: Fault) -> Self {
        Unread::Fault(fault)
    }
}

impl From<Error> for Unread {
    fn from(error: Error) -> Self {
        Unread::Error(error)
    }
}

/// Reads contents of one format.
pub(crate) trait Reader: Send + Sync {
    /// Writes a content as an object at the end of the sheet; returns its token. If it fails, what it has written is to be given up.
    fn read(&self, content: &[u8], sheet: &mut Sheet) -> Result<u32, Unread>;

    /// Writes what a message without any content is, for a format that takes it for a row.
    fn nothing(&self, _sheet: &mut Sheet) -> Option<u32> {
        None
    }

    /// The columns that the schemas of these contents tell.
    fn columns(&self, contents: &mut dyn Iterator<Item = &[u8]>) -> Result<Columns>;
}

/// What schemas tell of columns.
pub(crate) enum Columns {
    /// These and no others.
    All(TableSchema),
    /// These; the contents may have others.
    Some(TableSchema),
}

/// The reader that the settings ask for. Errors: `config`.
pub(crate) fn reader(config: &MessagesConfig, registry: Option<&Arc<SchemaRegistry>>) -> Result<Box<dyn Reader>> {
    let finer = if config.truncate_nanoseconds { Finer::Truncate } else { Finer::Refuse };
    let registered = |kind: registry::Kind| -> Option<Box<dyn Reader>> {
        registry.map(|registry| Box::new(registered::Registered { registry: registry.clone(), kind, finer }) as Box<dyn Reader>)
    };
    let missing =
        |what: &str| Error::new(Kind::Config, code::CONFIG, what).hint("as in `registry: {url: https://registry.example.com}`");
    Ok(match config.format {
        Format::Json => Box::new(json::Json),
        Format::Csv => Box::new(csv::Csv::new(&config.csv)?),
        Format::Raw => Box::new(raw::Raw::new(&config.raw)),
        Format::JsonSchema => registered(registry::Kind::Json)
            .ok_or_else(|| missing("`registry` is missing: with `format: json_schema` it has the schemas"))?,
        Format::Avro => match &config.avro.schema {
            Some(path) => Box::new(avro::AvroFile::new(path, finer)?),
            None => registered(registry::Kind::Avro).ok_or_else(|| {
                missing("`registry` and `avro.schema` are missing: one of them has the schema of Avro messages")
            })?,
        },
        Format::Protobuf => match &config.protobuf.schema {
            Some(path) => Box::new(protobuf::ProtobufFile::new(path, &config.protobuf, finer)?),
            None => registered(registry::Kind::Protobuf)
                .ok_or_else(|| missing("`registry` and `protobuf.schema` are missing: one of them has the schema of messages"))?,
        },
    })
}
