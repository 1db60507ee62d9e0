//! Records as a flat list of tokens: what the parsers write, and what inference and the column builders read.
//!
//! One tape holds the records of one chunk. A value is one token, but for containers: `Object { end }` and `Array { end }` are
//! followed by their content and name the index just behind it, so that a value is skipped in one step. Inside an object
//! each value stands behind its `Key`. Texts are slices of the tape's own buffer.
//!
//! Text formats leave types open: CSV and XML write [`Token::Text`], whose type the content decides; JSON writes
//! [`Token::Number`], [`Token::String`] and the literals.

use longshore_core::batch::Reject;

use crate::spare::Spare;

/// A slice of a tape's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Number of bytes.
    pub len: u32,
}

/// One token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// A missing or null value.
    Null,
    /// JSON `true` or `false`.
    Bool(bool),
    /// A JSON number, as written.
    Number(Span),
    /// A JSON string, unescaped; a quoted CSV field.
    String(Span),
    /// Text whose type its content decides: an unquoted CSV field, an XML text or attribute. Empty text stands for NULL in
    /// every type but STRING and BYTES.
    Text(Span),
    /// An object; its end is the index behind its last token.
    Object {
        /// Index behind it.
        end: u32,
    },
    /// The name of the value that follows.
    Key(Span),
    /// An array; its end is the index behind its last token.
    Array {
        /// Index behind it.
        end: u32,
    },
}

/// Where a record begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Index of its token, always an `Object`.
    pub token: u32,
    /// Its first byte within the chunk's raw bytes.
    pub start: usize,
    /// Its length in raw bytes.
    pub len: usize,
    /// Its line in the file, from 1.
    pub line: u64,
    /// Its column, from 1, in characters.
    pub column: u64,
    /// Which record of its file it is, from 0, over all tables. Formats of lines count lines instead, blank ones and headers
    /// included: a record's index is that of its first line.
    pub index: u64,
}

/// Tokens and their texts.
#[derive(Debug, Default, Clone)]
pub struct Tape {
    tokens: Vec<Token>,
    text: String,
}

/// The memory of tapes that are done with.
static SPARE: Spare<(Vec<Token>, String)> = Spare::new();

impl Drop for Tape {
    fn drop(&mut self) {
        let (tokens, text) = (std::mem::take(&mut self.tokens), std::mem::take(&mut self.text));
        let bytes = tokens.capacity() * size_of::<Token>() + text.capacity();
        SPARE.give((tokens, text), bytes);
    }
}

/// The records of one table in one chunk, and what could not even be parsed.
#[derive(Debug, Default)]
pub struct Records {
    /// The tokens.
    pub tape: Tape,
    /// The records.
    pub rows: Vec<Row>,
    /// The records that are not well formed, with everything but their table filled in.
    pub rejects: Vec<Reject>,
}

impl Tape {
    /// Removes everything, keeping the memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.text.clear();
    }

    /// Number of tokens so far: the index of the next one.
    pub fn len(&self) -> u32 {
        // A chunk is cut below 4 GiB.
        self.tokens.len() as u32
    }

    /// Whether nothing is on it.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Forgets every token from `len` on, and their texts: how a parser gives up a record half-way.
    pub fn truncate(&mut self, mark: Mark) {
        self.tokens.truncate(mark.tokens as usize);
        self.text.truncate(mark.text);
    }

    /// The present end, for [`Tape::truncate`].
    pub fn mark(&self) -> Mark {
        Mark { tokens: self.len(), text: self.text.len() }
    }

    /// The token at an index.
    pub fn token(&self, index: u32) -> Token {
        self.tokens[index as usize]
    }

    /// The index behind the value at an index.
    pub fn after(&self, index: u32) -> u32 {
        match self.token(index) {
            Token::Object { end } | Token::Array { end } => end,
            _ => index + 1,
        }
    }

    /// A text.
    pub fn text(&self, span: Span) -> &str {
        &self.text[span.start as usize..(span.start + span.len) as usize]
    }

    /// The bytes of a text, for comparing.
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.text.as_bytes()[span.start as usize..(span.start + span.len) as usize]
    }

    /// Makes room for the records of so many bytes of input.
    pub fn reserve(&mut self, input: usize) {
        if self.tokens.capacity() == 0
            && self.text.capacity() == 0
            && let Some((tokens, text)) = SPARE.take()
        {
            (self.tokens, self.text) = (tokens, text);
            self.clear();
        }
        self.tokens.reserve(input / 10);
        self.text.reserve(input + input / 8);
    }

    /// Writes a token that has no text.
    pub fn push(&mut self, token: Token) {
        self.tokens.push(token);
    }

    /// Copies a text; the caller pushes the token that names it.
    pub fn span(&mut self, text: &str) -> Span {
        let start = self.text.len() as u32;
        self.text.push_str(text);
        Span { start, len: text.len() as u32 }
    }

    /// Where the next text begins, for parsers that append to [`Tape::text_mut`] piece by piece.
    pub fn text_mut(&mut self) -> &mut String {
        &mut self.text
    }

    /// The span from `start` to the end of the buffer.
    pub fn span_from(&self, start: usize) -> Span {
        Span { start: start as u32, len: (self.text.len() - start) as u32 }
    }

    /// Begins an object or array; returns the index that [`Tape::close`] needs.
    pub fn open(&mut self, token: Token) -> u32 {
        let index = self.len();
        self.tokens.push(token);
        index
    }

    /// Ends the container at `index`.
    pub fn close(&mut self, index: u32) {
        let end = self.len();
        self.tokens[index as usize] = match self.tokens[index as usize] {
            Token::Array { .. } => Token::Array { end },
            _ => Token::Object { end },
        };
    }

    /// Writes another token in the place of the one at `index`.
    pub fn replace(&mut self, index: u32, token: Token) {
        self.tokens[index as usize] = token;
    }

    /// The tokens from `index` on.
    pub fn tokens_from(&self, index: u32) -> &[Token] {
        &self.tokens[index as usize..]
    }

    /// Forgets the tokens from `index` on, but keeps their texts: for a parser that writes them again in another order.
    pub fn forget_tokens(&mut self, index: u32) {
        self.tokens.truncate(index as usize);
    }

    /// The keys and value indexes of the object at `index`; nothing for any other token.
    pub fn members(&self, index: u32) -> Members<'_> {
        let end = match self.token(index) {
            Token::Object { end } => end,
            _ => index + 1,
        };
        Members { tape: self, next: index + 1, end }
    }

    /// The value indexes of the array at `index`; nothing for any other token.
    pub fn elements(&self, index: u32) -> Elements<'_> {
        let end = match self.token(index) {
            Token::Array { end } => end,
            _ => index + 1,
        };
        Elements { tape: self, next: index + 1, end }
    }
}

/// A place on a tape to go back to.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    tokens: u32,
    text: usize,
}

impl Mark {
    /// Length of the text buffer at the mark.
    pub fn text(self) -> usize {
        self.text
    }
}

/// The members of an object.
pub struct Members<'a> {
    tape: &'a Tape,
    next: u32,
    end: u32,
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, u32);

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let Token::Key(span) = self.tape.token(self.next) else { unreachable!("a parser wrote a value without its key") };
        let value = self.next + 1;
        self.next = self.tape.after(value);
        Some((self.tape.text(span), value))
    }
}

/// The elements of an array.
pub struct Elements<'a> {
    tape: &'a Tape,
    next: u32,
    end: u32,
}

impl Iterator for Elements<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.next >= self.end {
            return None;
        }
        let value = self.next;
        self.next = self.tape.after(value);
        Some(value)
    }
}
