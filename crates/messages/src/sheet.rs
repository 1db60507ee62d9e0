//! The tape that the records of one decoding are written to, with the names that are on it already.

use std::collections::HashMap;

use longshore_files::json::Keys;
use longshore_files::tape::{Span, Tape, Token};

/// A tape, and what is remembered of it while records are written.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    pub tape: Tape,
    /// The keys of JSON.
    pub keys: Keys,
    /// Where the names of a schema are, by the address of the first.
    names: HashMap<usize, Vec<Span>>,
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
    pub fn names(&mut self, names: &[String]) -> &[Span] {
        let tape = &mut self.tape;
        self.names.entry(names.as_ptr() as usize).or_insert_with(|| names.iter().map(|name| tape.span(name)).collect())
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
