//! Any bytes: one column.

use longshore_core::Result;
use longshore_core::schema::{Field, TableSchema, Type};
use longshore_files::tape::Token;

use super::{Columns, Reader, Unread, json};
use crate::config::RawConfig;
use crate::sheet::Sheet;

/// The column of contents that are taken as they are.
pub(crate) struct Raw {
    column: [String; 1],
    text: bool,
}

impl Raw {
    pub fn new(config: &RawConfig) -> Self {
        Self { column: [config.column.clone().unwrap_or_else(|| "value".to_owned())], text: config.text }
    }

    /// Writes the object but for its value; returns its token.
    fn open(&self, sheet: &mut Sheet) -> u32 {
        let name = sheet.names(&self.column)[0];
        let object = sheet.tape.open(Token::Object { end: 0 });
        sheet.tape.push(Token::Key(name));
        object
    }
}

impl Reader for Raw {
    fn read(&self, content: &[u8], sheet: &mut Sheet) -> Result<u32, Unread> {
        let text = if self.text { Some(json::text(content)?) } else { None };
        let object = self.open(sheet);
        match text {
            Some(text) => sheet.string(text),
            None => sheet.blob(content),
        }
        sheet.tape.close(object);
        Ok(object)
    }

    fn nothing(&self, sheet: &mut Sheet) -> Option<u32> {
        let object = self.open(sheet);
        sheet.tape.push(Token::Null);
        sheet.tape.close(object);
        Some(object)
    }

    fn columns(&self, _contents: &mut dyn Iterator<Item = &[u8]>) -> Result<Columns> {
        let type_ = if self.text { Type::String } else { Type::Bytes };
        Ok(Columns::All(TableSchema::new(vec![Field::new(&self.column[0], type_)])))
    }
}
