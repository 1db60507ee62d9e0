//! Messages as changes by key: where the columns of a key come from, and what key and content are together.

use std::sync::Arc;

use longshore_core::Result;
use longshore_core::schema::TableSchema;
use longshore_files::tape::{Span, Tape, Token};

use crate::config::MessagesConfig;
use crate::error::{KEY_INVALID, NO_KEY};
use crate::fault::Fault;
use crate::formats::columns::Fields;
use crate::formats::schema::Schema;
use crate::formats::{Unread, avro, json, protobuf, registered};
use crate::registry::{SchemaRegistry, split};
use crate::sheet::Sheet;
use crate::times::Finer;

/// The column of a key without fields, where settings do not name it.
const KEY: &str = "key";

/// Reads keys: by the schema registry, or as a JSON object, both of which have fields; anything else is one value for one column.
pub(crate) struct Keys {
    /// The column of a key without fields.
    pub column: String,
    registry: Option<Arc<SchemaRegistry>>,
    finer: Finer,
}

impl Keys {
    pub fn new(config: &MessagesConfig, registry: Option<&Arc<SchemaRegistry>>) -> Self {
        Self {
            column: config.key_column.clone().unwrap_or_else(|| KEY.to_owned()),
            registry: registry.cloned(),
            finer: if config.truncate_nanoseconds { Finer::Truncate } else { Finer::Refuse },
        }
    }

    /// Writes the key as an object at the end of the sheet. `name` is the span of the column's name.
    pub fn read(&self, key: Option<&[u8]>, name: Span, sheet: &mut Sheet) -> Result<u32, Unread> {
        let Some(key) = key else {
            return Err(Fault::new(NO_KEY, "the message has no key, so it cannot be told which row it changes").into());
        };
        let of_key = |fault: Fault| Fault { code: KEY_INVALID.name, reason: format!("of the key: {}", fault.reason), ..fault };
        if let (Some(registry), Ok((id, plain))) = (&self.registry, split(key)) {
            let schema = sheet.schema(id, registry).map_err(|unread| match unread {
                Unread::Fault(fault) => Fault { reason: format!("of the key: {}", fault.reason), ..fault }.into(),
                error => error,
            })?;
            return self.by_schema(&schema, plain, name, sheet).map_err(|fault| of_key(fault).into());
        }
        let in_json = json::without_frame(key);
        if in_json.first() == Some(&b'{') {
            return json::read(in_json, sheet).map_err(|fault| of_key(fault).into());
        }
        let object = sheet.tape.open(Token::Object { end: 0 });
        sheet.tape.push(Token::Key(name));
        self.value(key, sheet);
        sheet.tape.close(object);
        Ok(object)
    }

    fn by_schema(&self, schema: &Schema, plain: &[u8], name: Span, sheet: &mut Sheet) -> Result<u32, Fault> {
        let value = match schema {
            Schema::Avro(schema) => avro::read(schema, plain, self.finer, sheet)?,
            Schema::Protobuf(schema) => {
                let (message, plain) = schema.message(plain)?;
                protobuf::read(&message, plain, self.finer, sheet)?
            }
            Schema::Json(_) => json::value(plain, sheet)?,
        };
        if matches!(sheet.tape.token(value), Token::Object { .. }) {
            return Ok(value);
        }
        let object = sheet.tape.open(Token::Object { end: 0 });
        sheet.tape.push(Token::Key(name));
        sheet.tape.copy(value);
        sheet.tape.close(object);
        Ok(object)
    }

    /// The columns that the schemas of keys tell; none where keys have no schemas.
    pub fn columns(&self, keys: &mut dyn Iterator<Item = &[u8]>) -> Result<TableSchema> {
        let Some(registry) = &self.registry else { return Ok(TableSchema::default()) };
        registered::columns(registry, keys, |schema, type_| {
            let columns = schema.columns(type_).filter(|columns| !columns.fields.is_empty());
            columns.or_else(|| {
                let mut fields = Fields::default();
                fields.add(&self.column, schema.type_of()?, None);
                Some(TableSchema::new(fields.done()))
            })
        })
    }

    /// Writes a key without fields.
    fn value(&self, key: &[u8], sheet: &mut Sheet) {
        let token = sheet.tape.len();
        if key.first() == Some(&b'"')
            && let Ok(text) = json::text(key)
            && longshore_files::json::parse(text, &mut sheet.tape, &mut sheet.keys).is_ok()
        {
            return;
        }
        sheet.tape.forget_tokens(token);
        match std::str::from_utf8(key) {
            Ok(text) => {
                let span = sheet.tape.span(text);
                sheet.tape.push(Token::Text(span));
            }
            Err(_) => sheet.blob(key),
        }
    }
}

/// Writes key and content as one object, left open at the end of the tape; returns its token. The key's fields come first and count where the
/// content has them too, unless the content has the very text of a key that is open text: the content then knows its type.
pub(crate) fn join(tape: &mut Tape, key: u32, content: Option<u32>) -> u32 {
    let of_key = members(tape, key);
    let of_content = content.map(|content| members(tape, content)).unwrap_or_default();
    let object = tape.open(Token::Object { end: 0 });
    for &(name, value) in &of_key {
        let own = find(tape, &of_content, name).filter(|own| is_same_text(tape, *own, value));
        tape.push(Token::Key(name));
        tape.copy(own.unwrap_or(value));
    }
    for (name, value) in of_content {
        if find(tape, &of_key, name).is_none() {
            tape.push(Token::Key(name));
            tape.copy(value);
        }
    }
    object
}

/// The names of an object's fields.
pub(crate) fn names(tape: &Tape, object: u32) -> Vec<String> {
    tape.members(object).map(|(name, _)| name.to_owned()).collect()
}

fn is_same_text(tape: &Tape, own: u32, key: u32) -> bool {
    match (tape.token(key), tape.token(own)) {
        (Token::Text(key), Token::Number(own) | Token::String(own)) => tape.bytes(key) == tape.bytes(own),
        (Token::Text(_), Token::Typed(..)) => {
            let text = |token| {
                let mut text = String::new();
                longshore_files::json::write_text(tape, token, &mut text);
                text
            };
            text(key) == text(own)
        }
        _ => false,
    }
}

fn members(tape: &Tape, object: u32) -> Vec<(Span, u32)> {
    let end = tape.after(object);
    let mut members = Vec::new();
    let mut at = object + 1;
    while at < end {
        if let Token::Key(name) = tape.token(at) {
            members.push((name, at + 1));
        }
        at = tape.after(at + 1);
    }
    members
}

fn find(tape: &Tape, members: &[(Span, u32)], name: Span) -> Option<u32> {
    members.iter().find(|(known, _)| tape.bytes(*known) == tape.bytes(name)).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(key: &[u8], content: Option<&str>) -> String {
        let mut sheet = Sheet::default();
        let keys = Keys { column: "id".to_owned(), registry: None, finer: Finer::Refuse };
        let name = sheet.tape.span("id");
        let key = keys.read(Some(key), name, &mut sheet).expect("a key");
        let content = content.map(|text| json::read(text.as_bytes(), &mut sheet).expect("an object"));
        let object = join(&mut sheet.tape, key, content);
        sheet.tape.close(object);
        let mut out = String::new();
        longshore_files::json::write(&sheet.tape, object, &mut out);
        out
    }

    #[test]
    fn the_fields_of_a_key_come_first_and_count() {
        assert_eq!(
            joined(br#"{"a":1,"b":[2]}"#, Some(r#"{"c":{"d":[3]},"a":9,"e":4}"#)),
            r#"{"a":1,"b":[2],"c":{"d":[3]},"e":4}"#
        );
        assert_eq!(joined(br#"{"a":1}"#, None), r#"{"a":1}"#);
        assert_eq!(joined(b"\0\0\0\0\x07{\"a\":1}", None), r#"{"a":1}"#);
    }

    #[test]
    fn a_key_without_fields_is_one_column_whose_type_the_content_knows_best() {
        assert_eq!(joined(b"42", Some(r#"{"id":42,"n":1}"#)), r#"{"id":42,"n":1}"#);
        assert_eq!(joined(b"43", Some(r#"{"id":42,"n":1}"#)), r#"{"id":"43","n":1}"#);
        assert_eq!(joined(b"42", None), r#"{"id":"42"}"#);
        assert_eq!(joined(br#""a\nb""#, None), r#"{"id":"a\nb"}"#);
        assert_eq!(joined(br#""a"#, None), r#"{"id":"\"a"}"#);
        assert_eq!(joined(b"\xFF\x00", None), r#"{"id":"/wA="}"#);
        assert_eq!(joined(b"", None), r#"{"id":""}"#);
    }

    #[test]
    fn a_key_that_begins_like_an_object_and_is_none_is_a_fault() {
        let mut sheet = Sheet::default();
        let keys = Keys { column: "id".to_owned(), registry: None, finer: Finer::Refuse };
        let name = sheet.tape.span("id");
        for (key, code) in [(Some(&b"{\"a\":"[..]), "key_invalid"), (None, "no_key")] {
            match keys.read(key, name, &mut sheet) {
                Err(Unread::Fault(fault)) => assert_eq!(fault.code, code),
                other => panic!("a fault, not {other:?}"),
            }
        }
    }
}
