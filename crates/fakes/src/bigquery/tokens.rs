//! Statements as words, for those that DataFusion does not read.

use longshore_core::schema::{Field, Mode, Type};
use serde_json::json;

use super::http::ApiError;

/// A table's name as written.
pub(crate) struct Path {
    pub(crate) project: Option<String>,
    pub(crate) dataset: Option<String>,
    pub(crate) table: String,
}

impl Path {
    /// As it is written in a statement, each part quoted.
    pub(crate) fn quoted(&self) -> String {
        let parts = [self.project.as_deref(), self.dataset.as_deref(), Some(self.table.as_str())];
        parts.into_iter().flatten().map(|part| format!("`{part}`")).collect::<Vec<_>>().join(".")
    }
}

/// A word of a statement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    Word(String),
    Name(String),
    Text(String),
    Symbol(char),
}

/// Words with their places in the text, read one by one.
pub(crate) struct Tokens<'a> {
    pub(crate) text: &'a str,
    pub(crate) tokens: Vec<(Token, usize, usize)>,
    pub(crate) at: usize,
}

/// A statement that cannot be read.
pub(crate) fn syntax(what: &str) -> ApiError {
    ApiError::invalid_query(format!("Syntax error: {what}"))
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(text: &'a str) -> Result<Self, ApiError> {
        let bytes = text.as_bytes();
        let (mut tokens, mut i) = (Vec::new(), 0);
        while i < bytes.len() {
            let start = i;
            let rest = &text[i..];
            let token = match bytes[i] {
                b if b.is_ascii_whitespace() => {
                    i += 1;
                    continue;
                }
                _ if rest.starts_with("--") || rest.starts_with('#') => {
                    i += rest.find('\n').unwrap_or(rest.len());
                    continue;
                }
                _ if rest.starts_with("/*") => {
                    i += rest.find("*/").map_or(rest.len(), |at| at + 2);
                    continue;
                }
                quote @ (b'`' | b'\'' | b'"') => {
                    i += 1;
                    while i < bytes.len() && bytes[i] != quote {
                        i += if bytes[i] == b'\\' { 2 } else { 1 };
                    }
                    let inner = text.get(start + 1..i).ok_or_else(|| syntax("unclosed quote"))?.to_owned();
                    i += 1;
                    if quote == b'`' { Token::Name(inner) } else { Token::Text(inner) }
                }
                b if b.is_ascii_alphanumeric() || b == b'_' => {
                    let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
                    i += rest.find(|c| !inside(c)).unwrap_or(rest.len());
                    Token::Word(text[start..i].to_owned())
                }
                _ => {
                    let symbol = rest.chars().next().unwrap_or(' ');
                    i += symbol.len_utf8();
                    Token::Symbol(symbol)
                }
            };
            tokens.push((token, start, i.min(text.len())));
        }
        Ok(Self { text, tokens, at: 0 })
    }

    pub(crate) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _, _)| token)
    }

    /// Passes over a word, if it is next.
    pub(crate) fn word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(found)) if found.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    pub(crate) fn words(&mut self, words: &str) -> bool {
        let start = self.at;
        let all = words.split(' ').all(|word| self.word(word));
        if !all {
            self.at = start;
        }
        all
    }

    pub(crate) fn symbol(&mut self, symbol: char) -> bool {
        let found = self.peek() == Some(&Token::Symbol(symbol));
        self.at += usize::from(found);
        found
    }

    pub(crate) fn name(&mut self) -> Result<String, ApiError> {
        let name = match self.peek() {
            Some(Token::Word(name) | Token::Name(name)) => name.clone(),
            other => return Err(syntax(&format!("expected a name, found {other:?}"))),
        };
        self.at += 1;
        Ok(name)
    }

    /// The text from here on, without a semicolon at its end.
    pub(crate) fn rest(&self) -> String {
        let from = self.tokens.get(self.at).map_or(self.text.len(), |(_, start, _)| *start);
        self.text[from..].trim_end().trim_end_matches(';').to_owned()
    }

    /// The text up to a token outside of all brackets and of CASE, or up to the end of the statement. That token is next.
    pub(crate) fn until(&mut self, ends: impl Fn(&Token) -> bool) -> String {
        let start = self.tokens.get(self.at).map_or(self.text.len(), |(_, start, _)| *start);
        let (mut depth, mut last) = (0_u32, start);
        while let Some((token, _, end)) = self.tokens.get(self.at) {
            if depth == 0 && (ends(token) || *token == Token::Symbol(';')) {
                break;
            }
            match token {
                Token::Symbol('(' | '[') => depth += 1,
                Token::Symbol(')' | ']') => depth = depth.saturating_sub(1),
                Token::Word(word) if word.eq_ignore_ascii_case("CASE") => depth += 1,
                Token::Word(word) if word.eq_ignore_ascii_case("END") => depth = depth.saturating_sub(1),
                _ => {}
            }
            last = *end;
            self.at += 1;
        }
        self.text[start..last].to_owned()
    }

    /// The items of a list with commas between them.
    pub(crate) fn list(inside: &str) -> Result<Vec<String>, ApiError> {
        let mut tokens = Tokens::new(inside)?;
        let mut items = vec![tokens.until(|token| *token == Token::Symbol(','))];
        while tokens.symbol(',') {
            items.push(tokens.until(|token| *token == Token::Symbol(',')));
        }
        Ok(items)
    }

    pub(crate) fn path(&mut self) -> Result<Path, ApiError> {
        let mut parts: Vec<String> = self.name()?.split('.').map(str::to_owned).collect();
        while self.symbol('.') {
            parts.extend(self.name()?.split('.').map(str::to_owned));
        }
        let table = parts.pop().unwrap_or_default();
        let dataset = parts.pop();
        Ok(Path { project: parts.pop(), dataset, table })
    }

    pub(crate) fn end(&mut self) -> Result<(), ApiError> {
        self.symbol(';');
        match self.peek() {
            None => Ok(()),
            Some(other) => Err(syntax(&format!("unexpected {other:?}"))),
        }
    }

    /// Passes over `( ... )`, if it is next, and gives its inside.
    pub(crate) fn group(&mut self) -> Option<String> {
        let start = self.tokens.get(self.at).map(|(_, _, end)| *end)?;
        if !self.symbol('(') {
            return None;
        }
        let mut depth = 1;
        while depth > 0 {
            let (token, end, _) = self.tokens.get(self.at)?;
            match token {
                Token::Symbol('(') => depth += 1,
                Token::Symbol(')') => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(self.text[start..*end].to_owned());
            }
        }
        None
    }

    /// A column's type with its mode: `ARRAY<STRUCT<a INT64>>`, `STRING(10)`, `NUMERIC(10, 2) NOT NULL`.
    pub(crate) fn column_type(&mut self, name: &str) -> Result<Field, ApiError> {
        if self.word("ARRAY") {
            if !self.symbol('<') {
                return Err(syntax("ARRAY without <"));
            }
            let element = self.column_type(name)?;
            if !self.symbol('>') {
                return Err(syntax("ARRAY without >"));
            }
            return Ok(element.with_mode(Mode::Repeated));
        }
        let word = self.name()?;
        let mut type_: Type = word.parse().map_err(|_| ApiError::invalid_query(format!("Type not found: {word}")))?;
        if let Type::Struct(fields) = &mut type_ {
            if !self.symbol('<') {
                return Err(syntax("STRUCT without <"));
            }
            loop {
                let name = self.name()?;
                fields.push(self.column_type(&name)?);
                if !self.symbol(',') {
                    break;
                }
            }
            if !self.symbol('>') {
                return Err(syntax("STRUCT without >"));
            }
        }
        let mut field = Field::new(name, type_);
        if let Some(inside) = self.group() {
            let mut numbers = inside.split(',').map(|number| number.trim().to_owned());
            let first = numbers.next().unwrap_or_default();
            if matches!(field.type_, Type::String | Type::Bytes) {
                field.options.insert("maxLength".into(), json!(first));
            } else {
                field.options.insert("precision".into(), json!(first));
                field.options.extend(numbers.next().map(|scale| ("scale".to_owned(), json!(scale))));
            }
        }
        if self.words("NOT NULL") {
            field.mode = Mode::Required;
        }
        if self.word("OPTIONS") {
            let inside = self.group().ok_or_else(|| syntax("OPTIONS without ("))?;
            let description = inside.split_once("description").and_then(|(_, rest)| rest.split(['\'', '"']).nth(1));
            field.description = description.map(str::to_owned);
        }
        Ok(field)
    }
}
