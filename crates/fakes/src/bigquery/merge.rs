//! MERGE: what a statement says.

use super::http::ApiError;
use super::statements::aliased;
use super::tokens::{Path, Token, Tokens, syntax};

/// `MERGE target USING source ON condition WHEN ...`.
pub(crate) struct Merge {
    pub(crate) table: Path,
    pub(crate) alias: String,
    /// A table's name, or a query in parentheses.
    pub(crate) source: String,
    pub(crate) source_alias: String,
    pub(crate) on: String,
    pub(crate) clauses: Vec<When>,
}

/// Which rows a clause is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Matched,
    /// Rows of the source without a row of the target.
    NotMatched,
    /// Rows of the target without a row of the source.
    NotMatchedBySource,
}

/// A clause.
pub(crate) struct When {
    pub(crate) side: Side,
    pub(crate) condition: Option<String>,
    pub(crate) action: Action,
}

/// What a clause does with a row.
pub(crate) enum Action {
    Delete,
    Update(Vec<Value>),
    /// Without columns: all of the table's, in their order.
    Insert {
        columns: Vec<String>,
        values: Vec<String>,
    },
}

/// `column = expression`.
pub(crate) struct Value {
    pub(crate) column: String,
    pub(crate) expression: String,
}

impl Merge {
    /// Reads what stands after MERGE.
    pub(crate) fn parse(tokens: &mut Tokens<'_>) -> Result<Self, ApiError> {
        tokens.word("INTO");
        let (table, alias) = aliased(tokens, &["USING"])?;
        expect(tokens, "USING")?;
        let (source, source_alias) = source(tokens)?;
        expect(tokens, "ON")?;
        let on = tokens.until(|token| is_word(token, "WHEN"));
        let mut clauses = Vec::new();
        while tokens.word("WHEN") {
            clauses.push(clause(tokens)?);
        }
        tokens.end()?;
        if clauses.is_empty() {
            return Err(syntax("expected WHEN"));
        }
        Ok(Self { table, alias, source, source_alias, on, clauses })
    }
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(found) if found.eq_ignore_ascii_case(word))
}

fn expect(tokens: &mut Tokens<'_>, words: &str) -> Result<(), ApiError> {
    if tokens.words(words) { Ok(()) } else { Err(syntax(&format!("expected {words}"))) }
}

fn source(tokens: &mut Tokens<'_>) -> Result<(String, String), ApiError> {
    if let Some(query) = tokens.group() {
        let alias = if tokens.peek().is_some_and(|token| is_word(token, "ON")) {
            "source".to_owned()
        } else {
            tokens.word("AS");
            tokens.name()?
        };
        return Ok((format!("({query})"), alias));
    }
    let (path, alias) = aliased(tokens, &["ON"])?;
    Ok((path.quoted(), alias))
}

fn clause(tokens: &mut Tokens<'_>) -> Result<When, ApiError> {
    let side = if tokens.word("MATCHED") {
        Side::Matched
    } else {
        expect(tokens, "NOT MATCHED")?;
        if tokens.words("BY SOURCE") {
            Side::NotMatchedBySource
        } else {
            tokens.words("BY TARGET");
            Side::NotMatched
        }
    };
    let condition = tokens.word("AND").then(|| tokens.until(|token| is_word(token, "THEN")));
    expect(tokens, "THEN")?;
    let action = match side {
        Side::NotMatched => insert(tokens)?,
        _ if tokens.word("DELETE") => Action::Delete,
        _ => {
            expect(tokens, "UPDATE SET")?;
            Action::Update(assignments(tokens, &["WHEN"])?)
        }
    };
    Ok(When { side, condition, action })
}

fn insert(tokens: &mut Tokens<'_>) -> Result<Action, ApiError> {
    expect(tokens, "INSERT")?;
    let columns = match tokens.group() {
        Some(inside) => Tokens::list(&inside)?.iter().map(|name| column(name)).collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    expect(tokens, "VALUES")?;
    let values = Tokens::list(&tokens.group().ok_or_else(|| syntax("expected a list of values"))?)?;
    if !columns.is_empty() && columns.len() != values.len() {
        let why = format!("Inserted row has wrong column count; Has {}, expected {}", values.len(), columns.len());
        return Err(ApiError::invalid_query(why));
    }
    Ok(Action::Insert { columns, values })
}

/// `column = expression, ...` up to one of these words.
pub(crate) fn assignments(tokens: &mut Tokens<'_>, next: &[&str]) -> Result<Vec<Value>, ApiError> {
    let mut values = Vec::new();
    loop {
        let name = tokens.until(|token| *token == Token::Symbol('='));
        if !tokens.symbol('=') {
            return Err(syntax("expected ="));
        }
        let ends = |token: &Token| *token == Token::Symbol(',') || next.iter().any(|next| is_word(token, next));
        let expression = tokens.until(ends);
        values.push(Value { column: column(&name)?, expression });
        if !tokens.symbol(',') {
            return Ok(values);
        }
    }
}

/// The column that a name says, with or without the table's alias before it.
fn column(name: &str) -> Result<String, ApiError> {
    Ok(Tokens::new(name)?.path()?.table)
}
