//! How contents are written: each format turns one content into an object on a tape.

mod csv;
pub(crate) mod json;
mod raw;

use longshore_core::Result;
use longshore_core::error::Error;
use longshore_core::schema::TableSchema;

use crate::config::{Format, MessagesConfig};
use crate::fault::Fault;
use crate::sheet::Sheet;

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

    /// The columns that the schemas of these contents tell. `None` if only the contents themselves tell.
    fn columns(&self, contents: &mut dyn Iterator<Item = &[u8]>) -> Result<Option<TableSchema>>;
}

/// The reader that the settings ask for.
pub(crate) fn reader(config: &MessagesConfig) -> Result<Box<dyn Reader>> {
    Ok(match config.format {
        Format::Json => Box::new(json::Json),
        Format::Csv => Box::new(csv::Csv::new(&config.csv)?),
        Format::Raw => Box::new(raw::Raw::new(&config.raw)),
        _ => {
            let error = Error::new(
                longshore_core::error::Kind::Config,
                longshore_core::error::code::CONFIG,
                "this format is not there yet",
            );
            return Err(error);
        }
    })
}
