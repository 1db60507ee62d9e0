//! A tape's value as compact JSON text.

use std::fmt::Write;

use super::parser::{self, Keys};
use crate::tape::{Tape, Token};

/// Writes the value at `token`: no white space, keys in their order, numbers as they were written, strings with no more escapes than
/// JSON asks for. Open text (XML within an object) is a string.
pub fn write(tape: &Tape, token: u32, out: &mut String) {
    match tape.token(token) {
        Token::Null => out.push_str("null"),
        Token::Bool(value) => out.push_str(if value { "true" } else { "false" }),
        Token::Number(span) => out.push_str(tape.text(span)),
        Token::String(span) | Token::Text(span) | Token::Key(span) => write_string(tape.text(span), out),
        Token::Object { .. } => {
            out.push('{');
            for (i, (key, value)) in tape.members(token).enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write(tape, value, out);
            }
            out.push('}');
        }
        Token::Array { .. } => {
            out.push('[');
            for (i, value) in tape.elements(token).enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(tape, value, out);
            }
            out.push(']');
        }
    }
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0C => "\\f",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[plain..at]);
        plain = at + 1;
        if escape.is_empty() {
            write!(out, "\\u{byte:04x}").expect("a String takes all");
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

/// A text that is JSON, written compactly; `None` if it is not JSON, or names a key twice.
pub fn canonical(text: &str) -> Option<String> {
    let mut tape = Tape::default();
    parser::parse(text, &mut tape, &mut Keys::default()).ok()?;
    let mut out = String::with_capacity(text.len());
    write(&tape, 0, &mut out);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_is_compact_and_keeps_numbers_as_written() {
        assert_eq!(
            canonical(" { \"a\" : [ 1.50 , null ] ,\"b\":\"\\u00e9\\u0001\\/\" } ").as_deref(),
            Some("{\"a\":[1.50,null],\"b\":\"é\\u0001/\"}")
        );
        assert_eq!(canonical("12345678901234567890").as_deref(), Some("12345678901234567890"));
        assert_eq!(canonical("abc"), None);
        assert_eq!(canonical("{\"a\":1,\"a\":2}"), None);
        assert_eq!(canonical(""), None);
    }
}
