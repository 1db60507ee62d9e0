//! A chunk's rows onto a tape.

use longshore_core::batch::{Payload, Reject, Unit};
use longshore_core::error::{Code, Place};

use super::CsvFormat;
use super::record::{Outcome, Value};
use crate::config::Jagged;
use crate::cut::{RawChunk, Walk};
use crate::error;
use crate::tape::{Records, Row, Span, Tape, Token};

/// The reason of an unclosed quote. The cutter gives it too, for a row that is too large to be parsed.
pub(super) fn unclosed(at: Walk) -> String {
    format!("{}; the next line was decoded as usual", unclosed_value(at))
}

fn unclosed_value(at: Walk) -> String {
    format!("the quoted value that begins at line {}, column {} has no closing quote", at.line, at.column)
}

/// The reason of a quote in the wrong place; likewise.
pub(super) fn misplaced(at: Walk) -> String {
    format!(
        "line {}, column {}: text follows the closing quote of a value; a quote inside a value is written twice",
        at.line, at.column
    )
}

/// Appends the rows and rejects of a chunk.
pub fn parse(format: &CsvFormat, chunk: &RawChunk, out: &mut Records) {
    out.tape.reserve(chunk.bytes.len());
    let keys: Vec<Span> = format.names.iter().map(|name| out.tape.span(name)).collect();
    let mut parser = Parser { format, bytes: &chunk.bytes, keys, whole_text: None, values: Vec::new() };
    // Text in UTF-8, as nearly all is, goes onto the tape at once; else record by record, to find which are not.
    parser.whole_text = std::str::from_utf8(&chunk.bytes).ok().map(|text| out.tape.span(text).start as usize);
    out.rows.reserve(chunk.bytes.len() / 64);
    let mut line = chunk.line;
    let mut start = 0;
    while start < chunk.bytes.len() {
        let mut values = std::mem::take(&mut parser.values);
        values.clear();
        let outcome = format.dialect.record(&chunk.bytes, start, true, |value| values.push(value));
        parser.values = values;
        let next = match outcome {
            Outcome::Record { end, next } => {
                if end > start {
                    parser.row(start, end, line, out);
                }
                next
            }
            Outcome::Unclosed { opened, end, next } => {
                let at = place(line, &chunk.bytes[start..opened], format.dialect.terminator);
                out.rejects.push(parser.reject((start, end), line, error::UNCLOSED_QUOTE.name, unclosed(at)));
                next
            }
            Outcome::Misplaced { at, end, next } => {
                let at = place(line, &chunk.bytes[start..at], format.dialect.terminator);
                out.rejects.push(parser.reject((start, end), line, error::QUOTE_MISPLACED.name, misplaced(at)));
                next
            }
            Outcome::Open => unreachable!("nothing is open where the input has ended"),
        };
        line += match parser.values.iter().any(|value| value.quoted) || !matches!(outcome, Outcome::Record { .. }) {
            true => memchr::memchr_iter(format.dialect.terminator, &chunk.bytes[start..next]).count() as u64,
            false => 1,
        };
        start = next;
    }
    out.rejects.extend(chunk.rejects.iter().map(|(_, reject)| reject.clone()));
    out.rejects.sort_by_key(|reject| reject.index);
}

/// Why a text is not a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// The stable reason code.
    pub code: &'static str,
    /// In words.
    pub reason: String,
    /// What somebody who loads files can do, in words.
    pub advice: Option<&'static str>,
}

/// Writes the row that a text begins with; see [`CsvFormat::row`].
pub fn row(format: &CsvFormat, bytes: &[u8], keys: &[Span], tape: &mut Tape) -> Result<(u32, usize), BadRow> {
    let bad = |code: Code, reason: String| Err(BadRow { code: code.name, reason, advice: None });
    let mut values = Vec::with_capacity(keys.len());
    let terminator = format.dialect.terminator;
    let (end, next) = match format.dialect.record(bytes, 0, true, |value| values.push(value)) {
        Outcome::Record { end, next } => (end, next),
        Outcome::Unclosed { opened, .. } => {
            return bad(error::UNCLOSED_QUOTE, unclosed_value(place(1, &bytes[..opened], terminator)));
        }
        Outcome::Misplaced { at, .. } => return bad(error::QUOTE_MISPLACED, misplaced(place(1, &bytes[..at], terminator))),
        Outcome::Open => unreachable!("nothing is open where the input has ended"),
    };
    if let Some(bad) = width(format, values.len(), keys.len()) {
        return Err(bad);
    }
    let text = match std::str::from_utf8(&bytes[..end]) {
        Ok(text) => text,
        Err(broken) => {
            let at = place(1, &bytes[..broken.valid_up_to()], terminator);
            return bad(error::ENCODING_INVALID, format!("the bytes at line {}, column {} are not UTF-8", at.line, at.column));
        }
    };
    let base = tape.span(text).start as usize;
    let parser = Parser { format, bytes, keys: Vec::new(), whole_text: None, values: Vec::new() };
    let token = tape.open(Token::Object { end: 0 });
    for (&key, value) in keys.iter().zip(&values) {
        tape.push(Token::Key(key));
        let span = Span { start: (base + value.start) as u32, len: (value.end - value.start) as u32 };
        let value = parser.value(*value, span, tape);
        tape.push(value);
    }
    tape.close(token);
    Ok((token, next))
}

/// What is wrong with a row of so many values, if something is.
fn width(format: &CsvFormat, found: usize, wanted: usize) -> Option<BadRow> {
    if found == wanted || (found < wanted && format.jagged == Jagged::Fill) {
        return None;
    }
    let (code, advice) = if found > wanted {
        (error::ROW_TOO_LONG.name, "a value that holds the delimiter needs quotes")
    } else {
        (error::ROW_TOO_SHORT.name, "with --csv-jagged fill the missing ones are NULL")
    };
    let reason = format!("the row has {} for {}", many(found, "value"), many(wanted, "column"));
    Some(BadRow { code, reason, advice: Some(advice) })
}

fn place(line: u64, before: &[u8], terminator: u8) -> Walk {
    let mut walk = Walk { line, column: 1 };
    walk.over_lines(before, terminator);
    walk
}

struct Parser<'a> {
    format: &'a CsvFormat,
    bytes: &'a [u8],
    keys: Vec<Span>,
    /// Where the chunk's text begins on the tape, if it is there.
    whole_text: Option<usize>,
    /// The values of the present record.
    values: Vec<Value>,
}

impl Parser<'_> {
    fn row(&self, start: usize, end: usize, line: u64, out: &mut Records) {
        if let Some(BadRow { code, reason, advice }) = width(self.format, self.values.len(), self.keys.len()) {
            let reason = advice.map_or_else(|| reason.clone(), |advice| format!("{reason}; {advice}"));
            out.rejects.push(self.reject((start, end), line, code, reason));
            return;
        }
        let base = match self.whole_text {
            Some(base) => base + start,
            None => match std::str::from_utf8(&self.bytes[start..end]) {
                Ok(text) => out.tape.span(text).start as usize,
                Err(broken) => {
                    let before = &self.bytes[start..start + broken.valid_up_to()];
                    let at = place(line, before, self.format.dialect.terminator);
                    let reason = format!("the bytes at line {}, column {} are not UTF-8", at.line, at.column);
                    out.rejects.push(self.reject((start, end), line, error::ENCODING_INVALID.name, reason));
                    return;
                }
            },
        };
        let token = out.tape.open(Token::Object { end: 0 });
        for (&key, value) in self.keys.iter().zip(&self.values) {
            out.tape.push(Token::Key(key));
            let span = Span { start: (base + value.start - start) as u32, len: (value.end - value.start) as u32 };
            let token = self.value(*value, span, &mut out.tape);
            out.tape.push(token);
        }
        out.tape.close(token);
        out.rows.push(Row { token, start, len: end - start, line, column: 1, index: line - 1 });
    }

    fn value(&self, value: Value, span: Span, tape: &mut Tape) -> Token {
        if value.quoted {
            return match value.doubled {
                _ if span.len == 0 => Token::String(span),
                true => Token::Text(self.undoubled(span, tape)),
                false => Token::Text(span),
            };
        }
        let is_null = |null: &String| self.bytes[value.start..value.end] == *null.as_bytes();
        match span.len == 0 || self.format.null.as_ref().is_some_and(is_null) {
            true => Token::Null,
            false => Token::Text(span),
        }
    }

    fn undoubled(&self, span: Span, tape: &mut Tape) -> Span {
        let quote = char::from(self.format.dialect.quote.unwrap_or(b'"'));
        let text = tape.text(span).replace(&format!("{quote}{quote}"), &quote.to_string());
        tape.span(&text)
    }

    fn reject(&self, (start, end): (usize, usize), line: u64, code: &'static str, reason: String) -> Reject {
        Reject {
            unit: Unit::Record,
            table: None,
            payload: Payload::Inline(self.bytes[start..end].to_vec()),
            code,
            reason,
            place: Place { file: self.format.file.to_string(), line: Some(line), column: Some(1) },
            field: None,
            decoding: None,
            index: line - 1,
        }
    }
}

fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
