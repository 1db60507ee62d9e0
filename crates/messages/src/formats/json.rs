//! One JSON object a message.

use longshore_core::Result;
use longshore_core::schema::TableSchema;
use longshore_files::cut::Walk;
use longshore_files::error::{DUPLICATE_KEY, ENCODING_INVALID, JSON_INVALID, NOT_AN_OBJECT};
use longshore_files::json::parse;
use longshore_files::tape::{Tape, Token};

use super::{Columns, Reader, Unread};
use crate::fault::Fault;
use crate::sheet::Sheet;

/// JSON whose columns the contents tell.
pub(crate) struct Json;

impl Reader for Json {
    fn read(&self, content: &[u8], sheet: &mut Sheet) -> Result<u32, Unread> {
        Ok(read(without_frame(content), sheet)?)
    }

    fn columns(&self, _contents: &mut dyn Iterator<Item = &[u8]>) -> Result<Columns> {
        Ok(Columns::Some(TableSchema::default()))
    }
}

/// The JSON behind a schema registry's five bytes, if they are there: no JSON begins with a zero byte.
pub(crate) fn without_frame(content: &[u8]) -> &[u8] {
    match content {
        [0, _, _, _, _, rest @ ..] => rest,
        _ => content,
    }
}

/// Writes a JSON object.
pub(crate) fn read(content: &[u8], sheet: &mut Sheet) -> Result<u32, Fault> {
    let token = value(content, sheet)?;
    if matches!(sheet.tape.token(token), Token::Object { .. }) {
        return Ok(token);
    }
    let what = format!("the message is {}, not an object, so it has no columns", kind_of(&sheet.tape, token));
    Err(Fault::new(NOT_AN_OBJECT, what))
}

/// Writes any JSON value.
pub(crate) fn value(content: &[u8], sheet: &mut Sheet) -> Result<u32, Fault> {
    let text = text(content)?;
    let token = sheet.tape.len();
    parse(text, &mut sheet.tape, &mut sheet.keys).map_err(|broken| {
        let code = if broken.duplicate { DUPLICATE_KEY } else { JSON_INVALID };
        let at = broken.at.min(content.len());
        Fault::new(code, format!("{}: {}", place(&content[..at]), broken.what))
    })?;
    Ok(token)
}

/// A content as text.
pub(crate) fn text(content: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(content).map_err(|broken| {
        let what = format!("the message is not UTF-8: {}", place(&content[..broken.valid_up_to()]));
        Fault::new(ENCODING_INVALID, what)
    })
}

fn place(before: &[u8]) -> String {
    let mut walk = Walk::default();
    walk.over(before);
    format!("line {}, column {}", walk.line, walk.column)
}

fn kind_of(tape: &Tape, token: u32) -> &'static str {
    match tape.token(token) {
        Token::Array { .. } => "an array",
        Token::String(_) => "a string",
        Token::Number(_) => "a number",
        Token::Bool(_) => "a boolean",
        _ => "null",
    }
}
