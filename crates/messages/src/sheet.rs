//! The tape that the records of one decoding are written to, with the names that are on it already.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use longshore_files::json::Keys;
use longshore_files::tape::{Span, Tape, Token};

use crate::formats::Unread;
use crate::formats::schema::Schema;
use crate::registry::SchemaRegistry;

/// A tape, and what is remembered of it while records are written.
#[derive(Default)]
pub(crate) struct Sheet {
    pub tape: Tape,
    /// The keys of JSON.
    pub keys: Keys,
    /// Where the names of a schema are, by the address of the first.
    names: HashMap<usize, Rc<[Span]>>,
    /// Where single names are.
    single: HashMap<Box<str>, Span>,
    /// The schema of the message before, which mostly is that of the next.
    schema: Option<(u32, Arc<Schema>)>,
}

impl Sheet {
    /// A sheet for so many bytes of messages.
    pub fn new(bytes: usize) -> Self {
        let mut sheet = Self::default();
        sheet.tape.reserve(bytes);
        sheet
    }

    /// Puts names onto the tape, unless they are there; returns their spans. A schema hands in the same slice every time, by whose
    /// address it is known. Equal names share one span, by which the column builders know them again.
    pub fn names(&mut self, names: &[String]) -> Rc<[Span]> {
        let tape = &mut self.tape;
        self.names.entry(names.as_ptr() as usize).or_insert_with(|| names.iter().map(|name| tape.span(name)).collect()).clone()
    }

    /// Puts one name onto the tape, unless it is there; returns its span.
    pub fn name(&mut self, name: &str) -> Span {
        if let Some(span) = self.single.get(name) {
            return *span;
        }
        let span = self.tape.span(name);
        self.single.insert(name.into(), span);
        span
    }

    /// The schema of this number.
    pub fn schema(&mut self, id: u32, registry: &SchemaRegistry) -> Result<Arc<Schema>, Unread> {
        if let Some((_, schema)) = self.schema.as_ref().filter(|(known, _)| *known == id) {
            return Ok(schema.clone());
        }
        let schema = registry.schema(id)?;
        self.schema = Some((id, schema.clone()));
        Ok(schema)
    }

    /// Gives up the record that begins at `token`. Its texts stay, because names may be among them.
    pub fn give_up(&mut self, token: u32) {
        self.tape.forget_tokens(token);
    }

    /// Writes a text as a value.
    pub fn string(&mut self, text: &str) {
        let span = self.tape.span(text);
        self.tape.push(Token::String(span));
    }

    /// Writes bytes as a value.
    pub fn blob(&mut self, bytes: &[u8]) {
        let token = self.tape.blob(bytes);
        self.tape.push(token);
    }
}
