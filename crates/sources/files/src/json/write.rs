//! A tape's value as compact JSON text.

use std::fmt::Write;

use super::parser::{self, Keys};
use crate::tape::{Tape, Token, Value};
use crate::values::{calendar, to_base64};

/// Writes the value at `token`: no white space, keys in their order, numbers as they were written, strings with no more escapes than
/// JSON asks for. Open text (XML within an object) is a string; so are days, times, bytes (in base64) and doubles that are no number.
pub fn write(tape: &Tape, token: u32, out: &mut String) {
    match tape.token(token) {
        Token::Null => out.push_str("null"),
        Token::Bool(value) => out.push_str(if value { "true" } else { "false" }),
        Token::Number(span) => out.push_str(tape.text(span)),
        Token::String(span) | Token::Text(span) | Token::Key(span) => write_string(tape.text(span), out),
        Token::Typed(..) => match tape.token(token).value() {
            Some(Value::Int(_)) => write_text(tape, token, out),
            Some(Value::Double(double)) if double.is_finite() => write_text(tape, token, out),
            _ => {
                out.push('"');
                write_text(tape, token, out);
                out.push('"');
            }
        },
        Token::Bytes(span) => write_string(&to_base64(tape.blob_at(span)), out),
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

/// Writes the text of the scalar at `token` as it stands in a STRING column; of an array or object, its JSON.
pub fn write_text(tape: &Tape, token: u32, out: &mut String) {
    let written = match tape.token(token) {
        Token::String(span) | Token::Text(span) | Token::Key(span) => {
            out.push_str(tape.text(span));
            return;
        }
        other => match other.value() {
            None => return write(tape, token, out),
            Some(Value::Int(int)) => write!(out, "{int}"),
            Some(Value::Double(double)) if double.is_nan() => out.write_str("NaN"),
            Some(Value::Double(double)) if double.is_infinite() => {
                out.write_str(if double > 0.0 { "Infinity" } else { "-Infinity" })
            }
            // The shortest text that is this double's own.
            Some(Value::Double(double)) => write!(out, "{double:?}"),
            Some(Value::Date(days)) => out.write_str(&calendar::date_text(days)),
            Some(Value::Time(micros)) => out.write_str(&calendar::time_text(micros)),
            Some(Value::DateTime(micros)) => out.write_str(&calendar::datetime_text(micros)),
            Some(Value::Timestamp(micros)) => write!(out, "{}Z", calendar::datetime_text(micros)),
        },
    };
    written.expect("a String takes all");
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
