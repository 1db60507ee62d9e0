//! Why a record does not fit its table.

use longshore_core::error::code;
use longshore_core::schema::Field;

use crate::error;
use crate::tape::{Kind, Tape, Token};

/// The first thing about a record that does not fit.
#[derive(Debug)]
pub struct Misfit {
    /// The reason code.
    pub code: &'static str,
    /// Path of the column.
    pub field: String,
    /// In words.
    pub what: String,
    /// What somebody who loads files can do, in words.
    pub advice: Option<String>,
}

/// The most characters of a value that a reason quotes.
const QUOTED: usize = 40;

impl Misfit {
    /// A value that the column's type does not hold.
    pub fn type_mismatch(path: &str, field: &Field, tape: &Tape, token: u32) -> Self {
        let found = describe(tape, token);
        let hint = match tape.token(token) {
            Token::Object { .. } | Token::Array { .. } => "JSON",
            _ => "STRING",
        };
        let what = format!("column {path}: found {found}, expected {}", expected(field));
        let advice = format!("give the column another type with --type {path}={hint}, or correct the record and replay it");
        Self { code: code::TYPE_MISMATCH.name, field: path.to_owned(), what, advice: Some(advice) }
    }

    /// A null in an array.
    pub fn null_in_array(path: &str) -> Self {
        let what = format!("column {path}: the array holds a null, which an ARRAY cannot");
        let advice = format!("remove it, or load the column with --type {path}=JSON");
        Self { code: code::NULL_IN_ARRAY.name, field: path.to_owned(), what, advice: Some(advice) }
    }

    /// No value for a REQUIRED column.
    pub fn required_missing(path: &str) -> Self {
        let what = format!("column {path} is REQUIRED and the record has no value for it");
        Self { code: code::REQUIRED_MISSING.name, field: path.to_owned(), what, advice: None }
    }

    /// A value for a column that the table lacks.
    pub fn unknown_column(path: &str) -> Self {
        let shown = shorten(path, 200);
        let what = format!("the table has no column {shown}");
        let advice = "add it to the table, or let the schema evolve, and replay the record".to_owned();
        Self { code: code::UNKNOWN_COLUMN.name, field: path.to_owned(), what, advice: Some(advice) }
    }

    /// Two keys of one object that belong to the same column.
    pub fn duplicate_key(path: &str) -> Self {
        let what = format!("two keys of the record belong to column {path}, so it cannot be told which value counts");
        Self { code: error::DUPLICATE_KEY.name, field: path.to_owned(), what, advice: None }
    }

    /// The whole reason, for files.
    pub(super) fn reason(&self) -> String {
        match &self.advice {
            Some(advice) => format!("{}; {advice}", self.what),
            None => self.what.clone(),
        }
    }
}

fn expected(field: &Field) -> String {
    match &field.type_ {
        longshore_core::schema::Type::Struct(_) => "a STRUCT".to_owned(),
        _ => field.type_.name().to_owned(),
    }
}

/// A value for people, cut to 40 characters.
fn describe(tape: &Tape, token: u32) -> String {
    match tape.token(token) {
        Token::Null => "null".to_owned(),
        Token::Bool(value) => value.to_string(),
        Token::Number(span) => format!("the number {}", shorten(tape.text(span), QUOTED)),
        Token::String(span) | Token::Text(span) => format!("{:?}", shorten(tape.text(span), QUOTED)),
        Token::Bytes(span) => format!("{} bytes", span.len),
        Token::Typed(kind, _) => {
            let mut text = String::new();
            crate::json::write_text(tape, token, &mut text);
            match kind {
                Kind::Int | Kind::Double => format!("the number {text}"),
                Kind::Date => format!("the day {text}"),
                Kind::Time => format!("the time {text}"),
                Kind::DateTime | Kind::Timestamp => format!("the moment {text}"),
            }
        }
        Token::Object { .. } => "an object".to_owned(),
        Token::Array { .. } => "an array".to_owned(),
        Token::Key(span) => format!("the key {:?}", shorten(tape.text(span), QUOTED)),
    }
}

/// At most so many characters, with `...` where some were cut off.
pub fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}...", &text[..at]),
    }
}
