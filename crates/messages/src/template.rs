//! Names of tables put together of several parts of a message.

use std::fmt;
use std::str::FromStr;

use longshore_files::tape::Tape;

use crate::fault::Fault;
use crate::message::Messages;
use crate::pointer::Pointer;
use crate::route;

/// Literal text with parts of a message in braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Part(Part, Vec<Filter>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Topic,
    Key,
    Header(String),
    Field(Pointer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    Lower,
    Upper,
    Name,
}

impl Template {
    pub(crate) fn needs_topic(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Part(Part::Topic, _)))
    }

    pub(crate) fn needs_content(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Part(Part::Field(_), _)))
    }

    /// Writes the text for a message behind `out`.
    pub(crate) fn write(
        &self,
        messages: &Messages,
        index: u32,
        content: Option<(&Tape, u32)>,
        out: &mut String,
    ) -> Result<(), Fault> {
        for piece in &self.pieces {
            let (part, filters) = match piece {
                Piece::Literal(text) => {
                    out.push_str(text);
                    continue;
                }
                Piece::Part(part, filters) => (part, filters),
            };
            let before = out.len();
            match part {
                Part::Topic => out.push_str(route::topic(messages, index)?),
                Part::Key => route::key(messages, index, out)?,
                Part::Header(name) => route::header(messages, index, name, out)?,
                Part::Field(pointer) => route::field(content, pointer, out)?,
            }
            for filter in filters {
                let filtered = match filter {
                    Filter::Lower => out[before..].to_lowercase(),
                    Filter::Upper => out[before..].to_uppercase(),
                    Filter::Name => out[before..].chars().map(route::plain).collect(),
                };
                out.truncate(before);
                out.push_str(&filtered);
            }
        }
        Ok(())
    }
}

impl FromStr for Template {
    type Err = String;

    /// Reads an expression. The error says at which character it is wrong.
    fn from_str(text: &str) -> Result<Self, String> {
        let place = |at: usize| text[..at].chars().count() + 1;
        let wrong = |at: usize, why: String| Err(format!("the expression is wrong at character {}: {why}", place(at)));
        if text.is_empty() {
            return wrong(0, "it is empty".to_owned());
        }
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            match rest.find(['{', '}']) {
                Some(0) if rest.starts_with('{') => {
                    let Some(end) = rest.find('}') else { return wrong(at, "`{` without `}`".to_owned()) };
                    match piece(&rest[1..end]) {
                        Ok(piece) => pieces.push(piece),
                        Err((offset, why)) => return wrong(at + 1 + offset, why),
                    }
                    at += end + 1;
                }
                Some(0) => return wrong(at, "`}` without `{`".to_owned()),
                found => {
                    let end = found.unwrap_or(rest.len());
                    pieces.push(Piece::Literal(rest[..end].to_owned()));
                    at += end;
                }
            }
        }
        Ok(Self { text: text.to_owned(), pieces })
    }
}

/// What stands between braces, or where in it something is wrong.
fn piece(inner: &str) -> Result<Piece, (usize, String)> {
    let mut words = inner.split('|');
    let part = part(words.next().unwrap_or_default()).map_err(|why| (0, why))?;
    let mut filters = Vec::new();
    for word in words {
        // Both are slices of one text.
        let at = word.as_ptr() as usize - inner.as_ptr() as usize;
        filters.push(match word.trim() {
            "lower" => Filter::Lower,
            "upper" => Filter::Upper,
            "name" => Filter::Name,
            other => return Err((at, format!("`{other}` is not known; behind `|` stands lower, upper or name"))),
        });
    }
    Ok(Piece::Part(part, filters))
}

fn part(word: &str) -> Result<Part, String> {
    let word = word.trim();
    let of = |prefix: &str| word.strip_prefix(prefix).filter(|name| !name.is_empty());
    if let Some(name) = of("header.").or_else(|| of("attribute.")) {
        return Ok(Part::Header(name.to_owned()));
    }
    if let Some(pointer) = of("field.") {
        return pointer.parse().map(Part::Field);
    }
    match word {
        "topic" => Ok(Part::Topic),
        "key" => Ok(Part::Key),
        _ => Err(format!(
            "`{{{word}}}` is not known; known: {{topic}}, {{key}}, {{header.NAME}}, {{attribute.NAME}}, {{field.NAME}}"
        )),
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
