//! Statements: which kind one is, and what it says, as far as DataFusion does not read it.

use serde_json::Value;

use super::ddl::{Alter, Create, Drop};
use super::http::ApiError;
use super::merge::{Merge, Value as Assigned, assignments};
use super::tokens::{Path, Token, Tokens, syntax};

/// A statement.
pub(crate) enum Parsed {
    Select(String),
    Delete { table: Path, alias: String, condition: String },
    Update { table: Path, alias: String, values: Vec<Assigned>, condition: String },
    Insert { table: Path, columns: Vec<String>, text: String },
    Merge(Merge),
    Truncate { table: Path },
    Alter(Alter),
    Create(Create),
    Drop(Drop),
}

/// Reads a statement; what it cannot be is an error.
pub(crate) fn parse(text: &str) -> Result<Parsed, ApiError> {
    let mut tokens = Tokens::new(text)?;
    if matches!(tokens.peek(), Some(Token::Symbol('('))) {
        return Ok(Parsed::Select(tokens.rest()));
    }
    let first = tokens.name().map_err(|_| syntax("Unexpected end of statement"))?.to_uppercase();
    match first.as_str() {
        "SELECT" | "WITH" => {
            tokens.at = 0;
            Ok(Parsed::Select(tokens.rest()))
        }
        "DELETE" => {
            tokens.word("FROM");
            let (table, alias) = aliased(&mut tokens, &["WHERE"])?;
            Ok(Parsed::Delete { table, alias, condition: condition(&mut tokens, "DELETE")? })
        }
        "UPDATE" => {
            let (table, alias) = aliased(&mut tokens, &["SET"])?;
            if !tokens.word("SET") {
                return Err(syntax("expected SET"));
            }
            let values = assignments(&mut tokens, &["WHERE", "FROM"])?;
            Ok(Parsed::Update { table, alias, values, condition: condition(&mut tokens, "UPDATE")? })
        }
        "INSERT" => {
            tokens.word("INTO");
            let table = tokens.path()?;
            let columns = tokens.group().unwrap_or_default();
            let columns = columns.split(',').map(|name| name.trim().trim_matches('`').to_owned());
            Ok(Parsed::Insert { table, columns: columns.filter(|name| !name.is_empty()).collect(), text: tokens.rest() })
        }
        "MERGE" => Ok(Parsed::Merge(Merge::parse(&mut tokens)?)),
        "TRUNCATE" if tokens.word("TABLE") => {
            let table = tokens.path()?;
            tokens.end()?;
            Ok(Parsed::Truncate { table })
        }
        "ALTER" if tokens.word("TABLE") => Ok(Parsed::Alter(Alter::parse(&mut tokens)?)),
        "CREATE" if tokens.word("TABLE") => Ok(Parsed::Create(Create::parse(&mut tokens)?)),
        "DROP" if tokens.word("TABLE") => Ok(Parsed::Drop(Drop::parse(&mut tokens)?)),
        other => Err(ApiError::invalid_query(format!("the fake does not run statements of the kind {other}"))),
    }
}

/// A table with its alias, which is its own name if it is given none; one of these words follows.
pub(crate) fn aliased(tokens: &mut Tokens<'_>, next: &[&str]) -> Result<(Path, String), ApiError> {
    let path = tokens.path()?;
    let follows = matches!(tokens.peek(), Some(Token::Word(word)) if next.iter().any(|next| word.eq_ignore_ascii_case(next)));
    if follows || tokens.peek().is_none() {
        let alias = path.table.clone();
        return Ok((path, alias));
    }
    tokens.word("AS");
    Ok((path, tokens.name()?))
}

fn condition(tokens: &mut Tokens<'_>, statement: &str) -> Result<String, ApiError> {
    if !tokens.word("WHERE") {
        return Err(syntax(&format!("{statement} must have a WHERE clause")));
    }
    Ok(tokens.rest())
}

/// The statement with its parameters written into it: `@name`, or `?` for those without a name.
pub(crate) fn with_parameters(text: &str, parameters: Option<&Vec<Value>>) -> Result<String, ApiError> {
    let Some(parameters) = parameters.filter(|parameters| !parameters.is_empty()) else { return Ok(text.to_owned()) };
    let tokens = Tokens::new(text)?;
    let mut unnamed = parameters.iter().filter(|parameter| parameter["name"].as_str().is_none_or(str::is_empty));
    let (mut out, mut from, mut i) = (String::new(), 0, 0);
    while let Some((token, start, end)) = tokens.tokens.get(i) {
        let next = tokens.tokens.get(i + 1);
        let (found, end) = match (token, next) {
            (Token::Symbol('@'), Some((Token::Word(name), _, end))) => {
                (parameters.iter().find(|p| p["name"].as_str().is_some_and(|known| known.eq_ignore_ascii_case(name))), *end)
            }
            (Token::Symbol('?'), _) => (unnamed.next(), *end),
            _ => {
                i += 1;
                continue;
            }
        };
        let parameter = found.ok_or_else(|| ApiError::invalid_query("Query parameter not found"))?;
        out += &text[from..*start];
        out += &literal(&parameter["parameterType"], &parameter["parameterValue"])?;
        from = end;
        i += if matches!(token, Token::Symbol('@')) { 2 } else { 1 };
    }
    Ok(out + &text[from..])
}

fn literal(type_: &Value, value: &Value) -> Result<String, ApiError> {
    let name = type_["type"].as_str().unwrap_or("STRING");
    if name == "ARRAY" {
        let values = value["arrayValues"].as_array().cloned().unwrap_or_default();
        let values: Result<Vec<String>, ApiError> = values.iter().map(|value| literal(&type_["arrayType"], value)).collect();
        return Ok(format!("[{}]", values?.join(", ")));
    }
    let Some(text) = value["value"].as_str() else { return Ok("NULL".into()) };
    let quoted = format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    Ok(match name {
        "STRING" => quoted,
        "INT64" | "INTEGER" | "FLOAT64" | "FLOAT" | "BOOL" | "BOOLEAN" => text.to_owned(),
        "NUMERIC" => format!("CAST({quoted} AS NUMERIC(38, 9))"),
        "TIMESTAMP" | "DATETIME" => format!("TIMESTAMP {quoted}"),
        "DATE" => format!("DATE {quoted}"),
        "TIME" => quoted,
        other => return Err(ApiError::invalid_query(format!("the fake takes no parameters of type {other}"))),
    })
}
