//! A YAML document as a tree in which everything knows its place. Scalars keep their text: what type they have is for
//! the settings' schema to say.

use longshore_core::error::{Error, Kind, Place, Result, code};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};

/// Deeper documents are refused: settings are not nested that deep, and recursion has an end.
const MAX_DEPTH: usize = 32;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub place: Place,
    /// What it is.
    pub content: Content,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A text; `plain` if it stands without quotes, so that it may mean a number, a truth or nothing.
    Scalar {
        /// The text.
        text: String,
        /// Without quotes.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// Keys and values in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// A key and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// The key.
    pub name: String,
    /// Where it begins.
    pub place: Place,
}

impl Node {
    /// The value of a key, `None` if this is no map or has no such key.
    pub fn get(&self, name: &str) -> Option<&Node> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|(key, _)| key.name == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// What it is, in words.
    pub fn what(&self) -> &'static str {
        match &self.content {
            Content::Scalar { .. } if self.is_null() => "nothing",
            Content::Scalar { .. } => "a text",
            Content::List(_) => "a list",
            Content::Map(_) => "a map",
        }
    }

    /// Whether it is YAML's null.
    pub fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }
}

/// Reads one document. Errors: `config`, with file, line and column; also for what settings have no use for (aliases,
/// tags, keys that are not texts, a second document).
pub fn parse(file: &str, text: &str) -> Result<Node> {
    let mut reader = Reader { file, events: Parser::new_from_str(text) };
    let mut root = None;
    while let Some((event, place)) = reader.next()? {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd | Event::Comment(..) => {}
            event if root.is_none() => root = Some(reader.node(event, place, 0)?),
            _ => return Err(invalid(place, "a pipeline file holds one document, this is a second one")),
        }
    }
    let start = Place { file: file.to_owned(), line: Some(1), column: Some(1) };
    root.ok_or_else(|| invalid(start, "the file is empty"))
}

/// An error of the file.
pub fn invalid(place: Place, message: impl Into<String>) -> Error {
    Error::new(Kind::Config, code::CONFIG, message).at(place)
}

struct Reader<'a, I> {
    file: &'a str,
    events: I,
}

impl<'a, I: Iterator<Item = Result<(Event<'a>, Span), ScanError>>> Reader<'a, I> {
    fn place(&self, line: usize, column: usize) -> Place {
        Place { file: self.file.to_owned(), line: Some(line as u64), column: Some(column as u64 + 1) }
    }

    fn next(&mut self) -> Result<Option<(Event<'a>, Place)>> {
        match self.events.next() {
            None => Ok(None),
            Some(Ok((event, span))) => Ok(Some((event, self.place(span.start.line(), span.start.col())))),
            Some(Err(e)) => {
                let place = self.place(e.marker().line(), e.marker().col());
                Err(invalid(place, format!("this is not YAML: {}", e.info().lines().next().unwrap_or_default())))
            }
        }
    }

    /// The next event that is no comment.
    fn inner(&mut self) -> Result<(Event<'a>, Place)> {
        loop {
            match self.next()? {
                Some((Event::Comment(..), _)) => {}
                Some(event) => return Ok(event),
                // The parser itself reports a document that ends too early.
                None => return Err(invalid(self.place(1, 0), "the file ends too early")),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, place: Place, depth: usize) -> Result<Node> {
        if depth > MAX_DEPTH {
            return Err(invalid(place, format!("nested more than {MAX_DEPTH} deep")));
        }
        let content = match event {
            Event::Scalar(text, style, _, None) => {
                Content::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }
            }
            Event::SequenceStart(_, _, None) => Content::List(self.list(depth)?),
            Event::MappingStart(_, _, None) => Content::Map(self.map(depth)?),
            Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) => {
                return Err(invalid(place, "tags (`!name`) have no meaning in a pipeline file"));
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                return Err(invalid(place, "aliases (`*name`) are not taken in a pipeline file").hint("write the value again"));
            }
            _ => return Err(invalid(place, "a value is missing here")),
        };
        Ok(Node { place, content })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>> {
        let mut items = Vec::new();
        loop {
            match self.inner()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, place) => items.push(self.node(event, place, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Key, Node)>> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, place) = self.inner()?;
            let name = match event {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(text, _, _, None) => text.into_owned(),
                _ => return Err(invalid(place, "a key must be a plain text")),
            };
            if let Some((first, _)) = entries.iter().find(|(key, _)| key.name == name) {
                let line = first.place.line.unwrap_or_default();
                return Err(invalid(place, format!("`{name}` is given twice, first in line {line}")));
            }
            let (event, value_place) = self.inner()?;
            let value = self.node(event, value_place, depth + 1)?;
            entries.push((Key { name, place }, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse("p.yaml", text).expect_err("refused").to_string()
    }

    #[test]
    fn everything_knows_its_place_and_scalars_keep_their_text() {
        let root = parse("p.yaml", "# a comment\na: 007\nb:\n  - x # why\n  - \"1\"\n").expect("YAML");
        let a = root.get("a").expect("a");
        assert_eq!((a.place.line, a.place.column), (Some(2), Some(4)));
        assert_eq!(a.content, Content::Scalar { text: "007".into(), plain: true });
        let Content::List(items) = &root.get("b").expect("b").content else { panic!("a list") };
        assert_eq!(items[1].content, Content::Scalar { text: "1".into(), plain: false });
        assert_eq!((items[1].place.line, items[1].place.column), (Some(5), Some(5)));
    }

    #[test]
    fn what_settings_have_no_use_for_is_refused_with_its_place() {
        assert_eq!(error("a: 1\nb: 2\na: 3\n"), "p.yaml:3:1: `a` is given twice, first in line 1");
        assert_eq!(error("a: &x 1\nb: *x\n"), "p.yaml:2:4: aliases (`*name`) are not taken in a pipeline file");
        assert_eq!(error("a: !!str 1\n"), "p.yaml:1:10: tags (`!name`) have no meaning in a pipeline file");
        assert_eq!(error("? [a]\n: 1\n"), "p.yaml:1:3: a key must be a plain text");
        assert_eq!(error("a: 1\n---\nb: 1\n"), "p.yaml:3:1: a pipeline file holds one document, this is a second one");
        assert_eq!(error("# nothing\n"), "p.yaml:1:1: the file is empty");
        assert!(error("a: [1\nb: 2\n").starts_with("p.yaml:2:"));
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert_eq!(error(&deep), "p.yaml:1:34: nested more than 32 deep");
        assert!(error(&"[".repeat(100_000)).starts_with("p.yaml:1:"));
    }
}
