//! Where a field stands within a record.

use std::fmt;
use std::str::FromStr;

use longshore_files::tape::{Tape, Token};

/// A field by its name, or by a JSON pointer (RFC 6901).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    text: String,
    keys: Vec<String>,
}

impl Pointer {
    /// The value that it points at in the object at `record`; `None` if it is not there.
    pub(crate) fn find(&self, tape: &Tape, record: u32) -> Option<u32> {
        self.keys.iter().try_fold(record, |value, key| match tape.token(value) {
            Token::Object { .. } => tape.members(value).find(|(name, _)| name == key).map(|(_, inner)| inner),
            Token::Array { .. } => tape.elements(value).nth(index(key)?),
            _ => None,
        })
    }
}

/// The number of an array's element, in the only form that RFC 6901 has for it.
fn index(key: &str) -> Option<usize> {
    let plain = key == "0" || (!key.starts_with('0') && key.bytes().all(|b| b.is_ascii_digit()));
    if plain { key.parse().ok() } else { None }
}

impl FromStr for Pointer {
    type Err = String;

    /// Reads `NAME` or `/JSON/POINTER`.
    fn from_str(text: &str) -> Result<Self, String> {
        let keys = match text.strip_prefix('/') {
            None if text.is_empty() => return Err("the name of a field is empty".to_owned()),
            None => vec![text.to_owned()],
            Some(rest) => rest.split('/').map(|key| key.replace("~1", "/").replace("~0", "~")).collect(),
        };
        Ok(Self { text: text.to_owned(), keys })
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_files::json::{Keys, parse};

    #[test]
    fn a_pointer_finds_what_json_pointers_find() {
        let mut tape = Tape::default();
        let text = r#"{"a/b":{"c~d":[10,{"e":"x"}]},"/x":1,"":{"":2},"n":null}"#;
        parse(text, &mut tape, &mut Keys::default()).expect("JSON");
        let find = |text: &str| {
            let pointer: Pointer = text.parse().expect("a pointer");
            let mut out = String::new();
            pointer.find(&tape, 0).map(|value| {
                longshore_files::json::write(&tape, value, &mut out);
                out
            })
        };
        for (text, found) in [
            ("a/b", Some(r#"{"c~d":[10,{"e":"x"}]}"#)),
            ("/a~1b/c~0d/0", Some("10")),
            ("/a~1b/c~0d/1/e", Some("\"x\"")),
            ("//", Some("2")),
            ("n", Some("null")),
            ("/a~1b/c~0d/00", None),
            ("/a~1b/c~0d/+1", None),
            ("/a~1b/c~0d/2", None),
            ("b", None),
            ("/n/x", None),
        ] {
            assert_eq!(find(text).as_deref(), found, "{text}");
        }
        assert!("".parse::<Pointer>().is_err());
    }
}
