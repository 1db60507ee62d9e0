//! Records as a flat list of tokens: what the parsers write, and what inference and the column builders read.
//!
//! One tape holds the records of one chunk. A value is one token, but for containers: `Object { end }` and `Array { end }` are
//! followed by their content and name the index just behind it, so that a value is skipped in one step. Inside an object
//! each value stands behind its `Key`. Texts are slices of the tape's own buffer.
//!
//! Text formats leave types open: CSV and XML write [`Token::Text`], whose type the content decides; JSON writes
//! [`Token::Number`], [`Token::String`] and the literals. Formats whose values have types of their own (Avro, Protocol Buffers) write
//! [`Token::Typed`] and [`Token::Bytes`].

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
    /// A value that its format has as such, not as text: made by [`Token::typed`], read by [`Token::value`].
    Typed(Kind, Bits),
    /// Bytes: a slice of the tape's buffer of bytes, see [`Tape::blob`].
    Bytes(Span),
    /// The name of the value that follows.
    Key(Span),
    /// An array; its end is the index behind its last token.
    Array {
        /// Index behind it.
        end: u32,
    },
}

// Tapes are long, so a token is to be small.
const _: () = assert!(size_of::<Token>() == 12);

/// Which type a [`Token::Typed`] has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An integer.
    Int,
    /// A double.
    Double,
    /// A calendar day.
    Date,
    /// A time of day.
    Time,
    /// Day and time without a zone.
    DateTime,
    /// A point in time.
    Timestamp,
}

/// The value of a [`Token::Typed`], packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bits(u32, u32);

/// A value with a type of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// An integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// Days since 1970, years 1 to 9999.
    Date(i32),
    /// Microseconds since midnight, below those of a day.
    Time(i64),
    /// Microseconds since 1970 on a clock without a zone, years 1 to 9999.
    DateTime(i64),
    /// Microseconds since 1970 UTC, years 1 to 9999.
    Timestamp(i64),
}

impl Token {
    /// The token of a typed value.
    #[inline]
    pub fn typed(value: Value) -> Self {
        let (kind, bits) = match value {
            Value::Int(value) => (Kind::Int, value as u64),
            Value::Double(value) => (Kind::Double, value.to_bits()),
            Value::Date(value) => (Kind::Date, i64::from(value) as u64),
            Value::Time(value) => (Kind::Time, value as u64),
            Value::DateTime(value) => (Kind::DateTime, value as u64),
            Value::Timestamp(value) => (Kind::Timestamp, value as u64),
        };
        Token::Typed(kind, Bits(bits as u32, (bits >> 32) as u32))
    }

    /// The typed value that it is, if it is one.
    #[inline]
    pub fn value(self) -> Option<Value> {
        let Token::Typed(kind, Bits(low, high)) = self else { return None };
        let bits = u64::from(high) << 32 | u64::from(low);
        let int = bits as i64;
        Some(match kind {
            Kind::Int => Value::Int(int),
            Kind::Double => Value::Double(f64::from_bits(bits)),
            Kind::Date => Value::Date(int as i32),
            Kind::Time => Value::Time(int),
            Kind::DateTime => Value::DateTime(int),
            Kind::Timestamp => Value::Timestamp(int),
        })
    }
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
    bytes: Vec<u8>,
}

/// The memory of tapes that are done with.
static SPARE: Spare<(Vec<Token>, String, Vec<u8>)> = Spare::new();

impl Drop for Tape {
    fn drop(&mut self) {
        let (tokens, text, bytes) =
            (std::mem::take(&mut self.tokens), std::mem::take(&mut self.text), std::mem::take(&mut self.bytes));
        let size = tokens.capacity() * size_of::<Token>() + text.capacity() + bytes.capacity();
        SPARE.give((tokens, text, bytes), size);
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
        self.bytes.clear();
    }

    /// Number of tokens so far: the index of the next one.
    #[inline]
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
        self.bytes.truncate(mark.bytes);
    }

    /// The present end, for [`Tape::truncate`].
    pub fn mark(&self) -> Mark {
        Mark { tokens: self.len(), text: self.text.len(), bytes: self.bytes.len() }
    }

    /// The token at an index.
    #[inline]
    pub fn token(&self, index: u32) -> Token {
        self.tokens[index as usize]
    }

    /// The index behind the value at an index.
    #[inline]
    pub fn after(&self, index: u32) -> u32 {
        match self.token(index) {
            Token::Object { end } | Token::Array { end } => end,
            _ => index + 1,
        }
    }

    /// A text.
    #[inline]
    pub fn text(&self, span: Span) -> &str {
        &self.text[span.start as usize..(span.start + span.len) as usize]
    }

    /// The bytes of a text, for comparing.
    #[inline]
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.text.as_bytes()[span.start as usize..(span.start + span.len) as usize]
    }

    /// Makes room for the records of so many bytes of input.
    pub fn reserve(&mut self, input: usize) {
        if self.tokens.capacity() == 0
            && self.text.capacity() == 0
            && let Some((tokens, text, bytes)) = SPARE.take()
        {
            (self.tokens, self.text, self.bytes) = (tokens, text, bytes);
            self.clear();
        }
        self.tokens.reserve(input / 10);
        self.text.reserve(input + input / 8);
    }

    /// Writes a token that has no text.
    #[inline]
    pub fn push(&mut self, token: Token) {
        self.tokens.push(token);
    }

    /// Copies a text; the caller pushes the token that names it.
    #[inline]
    pub fn span(&mut self, text: &str) -> Span {
        let start = self.text.len() as u32;
        self.text.push_str(text);
        Span { start, len: text.len() as u32 }
    }

    /// Copies bytes; returns the token that names them.
    pub fn blob(&mut self, bytes: &[u8]) -> Token {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        Token::Bytes(Span { start, len: bytes.len() as u32 })
    }

    /// The bytes of a [`Token::Bytes`].
    pub fn blob_at(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..(span.start + span.len) as usize]
    }

    /// Writes the value at `index` once more at the end; texts are shared.
    pub fn copy(&mut self, index: u32) {
        let (end, shift) = (self.after(index), self.len() - index);
        for from in index..end {
            self.tokens.push(match self.tokens[from as usize] {
                Token::Object { end } => Token::Object { end: end + shift },
                Token::Array { end } => Token::Array { end: end + shift },
                token => token,
            });
        }
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
    #[inline]
    pub fn open(&mut self, token: Token) -> u32 {
        let index = self.len();
        self.tokens.push(token);
        index
    }

    /// Ends the container at `index`.
    #[inline]
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
    bytes: usize,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_values_come_back_as_they_were() {
        let values = [
            Value::Int(i64::MIN),
            Value::Int(-1),
            Value::Int(i64::MAX),
            Value::Double(-0.1),
            Value::Date(-719_162),
            Value::Time(86_399_999_999),
            Value::DateTime(-62_135_596_800_000_000),
            Value::Timestamp(253_402_300_799_999_999),
        ];
        for value in values {
            assert_eq!(Token::typed(value).value(), Some(value));
        }
        assert_eq!(Token::Null.value(), None);
    }

    #[test]
    fn a_copied_value_is_the_same_value() {
        let mut tape = Tape::default();
        let text = r#"[0,{"a":[1,{"b":[]}],"c":"x"}]"#;
        crate::json::parse(text, &mut tape, &mut crate::json::Keys::default()).expect("JSON");
        let inner = tape.elements(0).nth(1).expect("two elements");
        let copy = tape.len();
        tape.copy(inner);
        let written = |index| {
            let mut out = String::new();
            crate::json::write(&tape, index, &mut out);
            out
        };
        assert_eq!(written(copy), written(inner));
        assert_eq!(tape.after(copy), tape.len());
    }
}
