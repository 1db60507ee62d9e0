//! Files of messages: one JSON object a line.

use std::path::Path;

use serde_json::{Map, Value};

use crate::Outcome;

/// What separates the parts of a line that Kafka's own tool reads, and what stands for nothing.
pub const HEADERS_END: char = '\u{1}';
/// Between two headers.
pub const HEADERS: char = '\u{2}';
/// Between a header's name and its value.
pub const HEADER: char = '\u{3}';
/// Behind the key.
pub const KEY_END: char = '\u{4}';
/// A key, a value or a header's value that is not there.
pub const NOTHING: char = '\u{5}';

/// What a line may have. `expect` is for people and tests.
const KNOWN: [&str; 4] = ["value", "key", "headers", "expect"];

/// The messages of a file as Kafka's own tool reads them, a line each. Errors: what is wrong in which line.
pub fn read(file: &Path) -> Outcome<Vec<String>> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        lines.push(message(line).map_err(|why| format!("{}:{number}: {why}", file.display()))?);
    }
    if lines.is_empty() {
        return Err(format!("{} has no messages", file.display()));
    }
    Ok(lines)
}

fn message(line: &str) -> Outcome<String> {
    let object: Map<String, Value> = serde_json::from_str(line).map_err(|e| format!("not a JSON object: {e}"))?;
    if let Some(unknown) = object.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return Err(format!("`{unknown}` is not known; a message has {}", KNOWN.join(", ")));
    }
    let value = object.get("value").ok_or("`value` is missing")?;
    let mut out = String::new();
    match object.get("headers") {
        None | Some(Value::Null) => out.push(NOTHING),
        Some(Value::Object(headers)) if headers.is_empty() => out.push(NOTHING),
        Some(Value::Object(headers)) => {
            for (i, (name, value)) in headers.iter().enumerate() {
                if i > 0 {
                    out.push(HEADERS);
                }
                out.push_str(plain(name, "a header's name")?);
                out.push(HEADER);
                push(&mut out, value, &format!("the header `{name}`"))?;
            }
        }
        Some(_) => return Err("`headers` is an object of texts".to_owned()),
    }
    out.push(HEADERS_END);
    push(&mut out, object.get("key").unwrap_or(&Value::Null), "`key`")?;
    out.push(KEY_END);
    push(&mut out, value, "`value`")?;
    Ok(out)
}

fn push(out: &mut String, value: &Value, what: &str) -> Outcome {
    match value {
        Value::Null => out.push(NOTHING),
        Value::String(text) => out.push_str(plain(text, what)?),
        _ => return Err(format!("{what} is a text or null; JSON in it is written with `\\\"`, as it is sent as it is")),
    }
    Ok(())
}

/// The tool reads lines, so that not every text can be sent with it.
fn plain<'a>(text: &'a str, what: &str) -> Outcome<&'a str> {
    let taken = |c: char| matches!(c, '\n' | '\r' | HEADERS_END | HEADERS | HEADER | KEY_END | NOTHING);
    match text.chars().find(|c| taken(*c)) {
        Some(c) => Err(format!("{what} has {c:?} in it, which cannot be sent in this way")),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_its_headers_its_key_and_its_value_unchanged() {
        let line = |text| message(text).map(|line| line.replace(|c: char| c < '\u{6}', "|"));
        assert_eq!(line(r#"{"value": "{\"a\": 1}"}"#).as_deref(), Ok(r#"||||{"a": 1}"#));
        assert_eq!(line(r#"{"value": "æ", "key": "k", "headers": {"a": "1", "b": null}}"#).as_deref(), Ok("a|1|b|||k|æ"));
        assert_eq!(line(r#"{"value": null, "key": "k", "expect": "x"}"#).as_deref(), Ok("||k||"));
    }

    #[test]
    fn what_cannot_be_sent_is_named() {
        for (line, part) in [
            ("{", "not a JSON object"),
            ("[]", "not a JSON object"),
            ("{}", "`value` is missing"),
            (r#"{"value": {"a": 1}}"#, "as it is sent as it is"),
            (r#"{"value": "a\nb"}"#, r"'\n'"),
            (r#"{"value": "a", "key": "\u0004"}"#, r"`key` has '\u{4}'"),
            (r#"{"value": "a", "headers": ["b"]}"#, "an object of texts"),
            (r#"{"value": "a", "headers": {"b": 1}}"#, "the header `b`"),
            (r#"{"data": "a"}"#, "`data` is not known"),
        ] {
            assert!(message(line).is_err_and(|why| why.contains(part)), "{line}: {:?}", message(line));
        }
    }
}
