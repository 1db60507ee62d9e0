//! Where one record and its values begin and end: the one reading of the dialect that cutter, parser and detection share.

use super::Dialect;

/// A value of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    /// First byte, inside the quotes.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
    /// Whether it was quoted.
    pub quoted: bool,
    /// Whether it holds quotes that are written twice.
    pub doubled: bool,
}

/// What a record turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It ends before `end` (its terminator not counted); the next begins at `next`.
    Record { end: usize, next: usize },
    /// A quoted value that opens at `opened` has no closing quote, or text behind one on a later line. What is
    /// left of it is the text up to `end`; the next record begins at `next`.
    Unclosed { opened: usize, end: usize, next: usize },
    /// Text follows the closing quote that ends at `at`, on the line on which the value opened.
    Misplaced { at: usize, end: usize, next: usize },
    /// The bytes end before it can be told.
    Open,
}

impl Dialect {
    /// Reads the record that begins at `start`, calling `value` with each of its values in order; they count only if the outcome
    /// is a record. `ended` says that nothing follows these bytes.
    pub fn record(&self, bytes: &[u8], start: usize, ended: bool, mut value: impl FnMut(Value)) -> Outcome {
        let mut at = start;
        loop {
            if self.quote.is_some() && bytes.get(at).copied() == self.quote {
                match self.quoted(bytes, at, ended) {
                    Quoted::Value { inner, after } => {
                        value(inner);
                        at = after;
                    }
                    Quoted::Outcome(outcome) => return outcome,
                }
                match bytes.get(at) {
                    Some(&byte) if byte == self.delimiter => at += 1,
                    // Behind a closing quote there is a delimiter, a line end or nothing.
                    Some(&byte) if byte == self.terminator => return Outcome::Record { end: at, next: at + 1 },
                    Some(_) => return Outcome::Record { end: at, next: (at + 2).min(bytes.len()) },
                    None => return Outcome::Record { end: at, next: at },
                }
                continue;
            }
            let from = at;
            match find_either(&bytes[at..], self.delimiter, self.terminator) {
                Some(found) if bytes[at + found] == self.delimiter => {
                    value(Value { start: from, end: at + found, quoted: false, doubled: false });
                    at += found + 1;
                }
                Some(found) => {
                    let end = self.without_return(bytes, from, at + found);
                    value(Value { start: from, end, quoted: false, doubled: false });
                    return Outcome::Record { end, next: at + found + 1 };
                }
                None if ended => {
                    let end = self.without_return(bytes, from, bytes.len());
                    value(Value { start: from, end, quoted: false, doubled: false });
                    return Outcome::Record { end, next: bytes.len() };
                }
                None => return Outcome::Open,
            }
        }
    }

    /// Reads a quoted value whose quote stands at `opened`.
    fn quoted(&self, bytes: &[u8], opened: usize, ended: bool) -> Quoted {
        let quote = bytes[opened];
        let mut at = opened + 1;
        let mut doubled = false;
        loop {
            let Some(found) = memchr::memchr(quote, &bytes[at..]) else {
                return Quoted::Outcome(if ended { self.unclosed(bytes, opened) } else { Outcome::Open });
            };
            let close = at + found;
            match bytes.get(close + 1) {
                Some(&next) if next == quote => {
                    doubled = true;
                    at = close + 2;
                    continue;
                }
                None if !ended => return Quoted::Outcome(Outcome::Open),
                None => {}
                Some(&next) if next == self.delimiter || next == self.terminator => {}
                // A carriage return counts only as part of a line end.
                Some(b'\r') if self.terminator == b'\n' => match bytes.get(close + 2) {
                    Some(b'\n') => {}
                    None if ended => {}
                    None => return Quoted::Outcome(Outcome::Open),
                    Some(_) => return Quoted::Outcome(self.misplaced(bytes, opened, close + 1, ended)),
                },
                Some(_) => return Quoted::Outcome(self.misplaced(bytes, opened, close + 1, ended)),
            }
            return Quoted::Value { inner: Value { start: opened + 1, end: close, quoted: true, doubled }, after: close + 1 };
        }
    }

    fn misplaced(&self, bytes: &[u8], opened: usize, at: usize, ended: bool) -> Outcome {
        if memchr::memchr(self.terminator, &bytes[opened..at]).is_some() {
            return self.unclosed(bytes, opened);
        }
        match self.line_end(bytes, at) {
            None if !ended => Outcome::Open,
            None => Outcome::Misplaced { at, end: self.without_return(bytes, at, bytes.len()), next: bytes.len() },
            Some(found) => Outcome::Misplaced { at, end: self.without_return(bytes, at, found), next: found + 1 },
        }
    }

    /// Gives up the line on which a value opened.
    fn unclosed(&self, bytes: &[u8], opened: usize) -> Outcome {
        let found = self.line_end(bytes, opened);
        let end = self.without_return(bytes, opened, found.unwrap_or(bytes.len()));
        Outcome::Unclosed { opened, end, next: found.map_or(bytes.len(), |found| found + 1) }
    }

    fn line_end(&self, bytes: &[u8], from: usize) -> Option<usize> {
        memchr::memchr(self.terminator, &bytes[from..]).map(|found| from + found)
    }

    /// Takes the carriage return before a line feed off a line that ends at `end`.
    fn without_return(&self, bytes: &[u8], start: usize, end: usize) -> usize {
        if self.terminator == b'\n' && end > start && bytes[end - 1] == b'\r' { end - 1 } else { end }
    }
}

enum Quoted {
    Value { inner: Value, after: usize },
    Outcome(Outcome),
}

/// As `memchr2`, but most values are so short that calling it costs more than looking at a few bytes first.
fn find_either(bytes: &[u8], one: u8, other: u8) -> Option<usize> {
    const NEAR: usize = 12;
    let near = &bytes[..bytes.len().min(NEAR)];
    for (at, &byte) in near.iter().enumerate() {
        if byte == one || byte == other {
            return Some(at);
        }
    }
    memchr::memchr2(one, other, &bytes[near.len()..]).map(|found| near.len() + found)
}
