//! One JSON value onto a tape, strictly by RFC 8259, in one pass.
//!
//! The value's text is copied to the tape as a whole; strings without escapes are slices of it, others are unescaped behind it.
//! Equal keys share one span (the first one's), which is how the column builders recognise them fast.

use hashbrown::HashMap;

use crate::tape::{Mark, Span, Tape, Token};

/// The deepest nesting of arrays and objects that is read.
pub const MAX_NESTING: usize = 512;

/// Why a text is not a value.
#[derive(Debug)]
pub struct Broken {
    /// Offset of the first byte that does not belong there.
    pub at: usize,
    /// In words.
    pub what: String,
    /// Whether the reason is a key that occurs twice.
    pub duplicate: bool,
}

/// The keys seen on one tape.
#[derive(Debug, Default)]
pub struct Keys {
    entries: Vec<KeyEntry>,
    index: HashMap<Box<str>, u32>,
    /// The key before, which foretells the next one.
    last: u32,
    /// Number of the object that is being closed, to find keys that occur twice.
    serial: u64,
    /// The keys of the open objects.
    open: Vec<u32>,
}

#[derive(Debug)]
struct KeyEntry {
    span: Span,
    /// The key that followed the last time.
    next: u32,
    seen_in: u64,
}

impl Keys {
    /// Forgets the keys that lie behind a mark to which the tape is about to go back.
    pub fn forget_from(&mut self, tape: &Tape, mark: Mark) {
        self.open.clear();
        let kept = self.entries.iter().position(|e| e.span.start as usize >= mark.text()).unwrap_or(self.entries.len());
        for entry in &self.entries[kept..] {
            self.index.remove(tape.text(entry.span));
        }
        self.entries.truncate(kept);
    }

    fn intern(&mut self, tape: &Tape, span: Span) -> u32 {
        if let Some(guess) = self.entries.get(self.last as usize).map(|last| last.next)
            && let Some(entry) = self.entries.get(guess as usize)
            && tape.bytes(entry.span) == tape.bytes(span)
        {
            self.last = guess;
            return guess;
        }
        let text = tape.text(span);
        let found = match self.index.get(text) {
            Some(&found) => found,
            None => {
                let new = self.entries.len() as u32;
                self.entries.push(KeyEntry { span, next: 0, seen_in: 0 });
                self.index.insert(text.into(), new);
                new
            }
        };
        if let Some(last) = self.entries.get_mut(self.last as usize) {
            last.next = found;
        }
        self.last = found;
        found
    }
}

/// Parses a text that holds one value and writes it to the tape. On an error the tape holds a part of it: go back to a mark.
pub fn parse(text: &str, tape: &mut Tape, keys: &mut Keys) -> Result<(), Box<Broken>> {
    let base = tape.span(text).start;
    keys.open.clear();
    let mut parser = Parser { bytes: text.as_bytes(), at: 0, base, tape, keys };
    parser.white();
    parser.value(0)?;
    parser.white();
    match parser.at == parser.bytes.len() {
        true => Ok(()),
        false => Err(parser.unexpected("the end of the record")),
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the text begins on the tape.
    base: u32,
    tape: &'a mut Tape,
    keys: &'a mut Keys,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn white(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn broken(&self, at: usize, what: impl Into<String>) -> Box<Broken> {
        // Boxed, so that the common case hands back one word.
        Box::new(Broken { at, what: what.into(), duplicate: false })
    }

    fn unexpected(&self, expected: &str) -> Box<Broken> {
        let found = match std::str::from_utf8(&self.bytes[self.at..]).ok().and_then(|rest| rest.chars().next()) {
            Some(c) => format!("{c:?}"),
            None => "the end of the record".to_owned(),
        };
        self.broken(self.at, format!("expected {expected}, found {found}"))
    }

    fn value(&mut self, depth: usize) -> Result<(), Box<Broken>> {
        match self.peek() {
            Some(b'"') => {
                let span = self.string()?;
                self.tape.push(Token::String(span));
                Ok(())
            }
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Token::Bool(true)),
            Some(b'f') => self.word("false", Token::Bool(false)),
            Some(b'n') => self.word("null", Token::Null),
            _ => Err(self.unexpected("a value")),
        }
    }

    fn word(&mut self, word: &str, token: Token) -> Result<(), Box<Broken>> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.unexpected("a value"));
        }
        self.at += word.len();
        self.tape.push(token);
        Ok(())
    }

    fn too_deep(&self, depth: usize) -> Result<(), Box<Broken>> {
        if depth < MAX_NESTING {
            return Ok(());
        }
        Err(self.broken(self.at, format!("the record is nested more than {MAX_NESTING} deep")))
    }

    fn object(&mut self, depth: usize) -> Result<(), Box<Broken>> {
        self.too_deep(depth)?;
        let start = self.at;
        let open = self.tape.open(Token::Object { end: 0 });
        let first_key = self.keys.open.len();
        self.at += 1;
        self.white();
        if self.peek() == Some(b'}') {
            self.at += 1;
            self.tape.close(open);
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("a key in quotes"));
            }
            let span = self.string()?;
            let key = self.keys.intern(self.tape, span);
            self.keys.open.push(key);
            self.tape.push(Token::Key(self.keys.entries[key as usize].span));
            self.white();
            if self.peek() != Some(b':') {
                return Err(self.unexpected("`:`"));
            }
            self.at += 1;
            self.white();
            self.value(depth + 1)?;
            self.white();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.white();
                }
                Some(b'}') => break,
                _ => return Err(self.unexpected("`,` or `}`")),
            }
        }
        self.at += 1;
        self.tape.close(open);
        self.check_twins(first_key, start)
    }

    /// Finds a key that the object just closed has twice.
    fn check_twins(&mut self, first_key: usize, start: usize) -> Result<(), Box<Broken>> {
        self.keys.serial += 1;
        let serial = self.keys.serial;
        let mut twin = None;
        for &key in &self.keys.open[first_key..] {
            let entry = &mut self.keys.entries[key as usize];
            if entry.seen_in == serial {
                twin.get_or_insert(entry.span);
            }
            entry.seen_in = serial;
        }
        self.keys.open.truncate(first_key);
        let Some(span) = twin else { return Ok(()) };
        let key = crate::columns::shorten(self.tape.text(span), 40);
        Err(Box::new(Broken { at: start, what: format!("the object has the key {key:?} twice"), duplicate: true }))
    }

    fn array(&mut self, depth: usize) -> Result<(), Box<Broken>> {
        self.too_deep(depth)?;
        let open = self.tape.open(Token::Array { end: 0 });
        self.at += 1;
        self.white();
        if self.peek() == Some(b']') {
            self.at += 1;
            self.tape.close(open);
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            self.white();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.white();
                }
                Some(b']') => break,
                _ => return Err(self.unexpected("`,` or `]`")),
            }
        }
        self.at += 1;
        self.tape.close(open);
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Box<Broken>> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.unexpected("a digit")) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<(), Box<Broken>> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let first = self.at;
        self.digits()?;
        if self.bytes[first] == b'0' && self.at > first + 1 {
            return Err(self.broken(first, "a number does not begin with a zero before other digits"));
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        self.tape.push(Token::Number(self.span(start, self.at)));
        Ok(())
    }

    fn span(&self, start: usize, end: usize) -> Span {
        Span { start: self.base + start as u32, len: (end - start) as u32 }
    }

    /// Reads the string that begins here, quotes included; returns its text.
    fn string(&mut self) -> Result<Span, Box<Broken>> {
        let start = self.at + 1;
        let end = plain_end(self.bytes, start);
        match self.bytes.get(end) {
            Some(b'"') => {
                self.at = end + 1;
                Ok(self.span(start, end))
            }
            Some(b'\\') => self.escaped_string(start, end),
            Some(_) => Err(self.broken(end, "a string holds a control character; it is written as an escape, such as \\n")),
            None => Err(self.broken(start - 1, "the string that begins here has no closing quote")),
        }
    }

    fn escaped_string(&mut self, start: usize, mut end: usize) -> Result<Span, Box<Broken>> {
        let first = self.tape.text_mut().len();
        let mut plain = start;
        loop {
            let piece = std::str::from_utf8(&self.bytes[plain..end]).expect("a text cut at ASCII characters");
            self.tape.text_mut().push_str(piece);
            match self.bytes.get(end) {
                Some(b'"') => {
                    self.at = end + 1;
                    return Ok(self.tape.span_from(first));
                }
                Some(b'\\') => plain = self.escape(end)?,
                Some(_) => {
                    return Err(self.broken(end, "a string holds a control character; it is written as an escape, such as \\n"));
                }
                None => return Err(self.broken(start - 1, "the string that begins here has no closing quote")),
            }
            end = plain_end(self.bytes, plain);
        }
    }

    /// Writes the character of the escape at `at`; returns the place behind it.
    fn escape(&mut self, at: usize) -> Result<usize, Box<Broken>> {
        let character = match self.bytes.get(at + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let (character, after) = self.unicode(at)?;
                self.tape.text_mut().push(character);
                return Ok(after);
            }
            _ => return Err(self.broken(at, "an unknown escape in a string")),
        };
        self.tape.text_mut().push(character);
        Ok(at + 2)
    }

    fn unicode(&self, at: usize) -> Result<(char, usize), Box<Broken>> {
        let unit = |at: usize| -> Option<u32> {
            let [b'\\', b'u', hex @ ..] = self.bytes.get(at..at + 6)? else { return None };
            hex.iter().try_fold(0, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
        };
        let first = unit(at).ok_or_else(|| self.broken(at, "\\u is not followed by four hexadecimal digits"))?;
        let half = || self.broken(at, "the escape is one half of a surrogate pair without the other");
        let (code, after) = match first {
            0xD800..=0xDBFF => match unit(at + 6) {
                Some(second @ 0xDC00..=0xDFFF) => (0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00), at + 12),
                _ => return Err(half()),
            },
            _ => (first, at + 6),
        };
        Ok((char::from_u32(code).ok_or_else(half)?, after))
    }
}

/// The first place from `at` on that is a quote, a backslash or a control character; the end if there is none.
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // Eight bytes at a time: a byte of `x` is zero where `x - ONES` borrows into its high bit.
    let zero = |x: u64| x.wrapping_sub(ONES) & !x;
    while let Some(eight) = bytes.get(at..at + 8) {
        let word = u64::from_le_bytes(eight.try_into().expect("eight bytes"));
        let quote = zero(word ^ (ONES * 0x22));
        let backslash = zero(word ^ (ONES * 0x5C));
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let found = (quote | backslash | control) & HIGH;
        if found != 0 {
            // Borrows go upwards only, so the lowest hit is a true one.
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < bytes.len() && bytes[at] != b'"' && bytes[at] != b'\\' && bytes[at] >= 0x20 {
        at += 1;
    }
    at
}
