//! The statements that DataFusion does not read: what they say, and what ALTER TABLE does.

use longshore_core::schema::{Field, Mode, Type};
use serde_json::Value;

use super::http::ApiError;
use super::state::Table;
use super::tokens::{Path, Token, Tokens, syntax};

/// A statement.
pub(crate) enum Parsed {
    Select(String),
    Delete {
        table: Path,
        shown: String,
        condition: String,
    },
    Insert {
        table: Path,
        columns: Vec<String>,
        text: String,
    },
    Truncate {
        table: Path,
    },
    /// `MERGE ... ON FALSE`: all rows go if the statement says so, and those of the source come.
    Replace {
        table: Path,
        source: Path,
        delete: bool,
        columns: Vec<(String, String)>,
    },
    Alter {
        table: Path,
        changes: Vec<Change>,
    },
}

/// One change of ALTER TABLE.
pub(crate) enum Change {
    Add { field: Field, if_not_exists: bool },
    SetType { name: String, field: Field },
    DropNotNull { name: String },
    Nothing,
}

/// Reads a statement; what it cannot be is an error.
pub(crate) fn parse(text: &str) -> Result<Parsed, ApiError> {
    let mut tokens = Tokens::new(text)?;
    let table = |tokens: &mut Tokens<'_>| tokens.path();
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
            let start = tokens.tokens.get(tokens.at).map_or(0, |(_, start, _)| *start);
            let path = table(&mut tokens)?;
            if !matches!(tokens.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case("WHERE")) {
                tokens.word("AS");
                tokens.name().map_err(|_| syntax("DELETE must have a WHERE clause"))?;
            }
            let end = tokens.tokens.get(tokens.at).map_or(text.len(), |(_, start, _)| *start);
            if !tokens.word("WHERE") {
                return Err(syntax("DELETE must have a WHERE clause"));
            }
            Ok(Parsed::Delete { table: path, shown: text[start..end].to_owned(), condition: tokens.rest() })
        }
        "INSERT" => {
            tokens.word("INTO");
            let path = table(&mut tokens)?;
            let columns = tokens.group().unwrap_or_default();
            let columns = columns.split(',').map(|name| name.trim().trim_matches('`').to_owned());
            Ok(Parsed::Insert { table: path, columns: columns.filter(|name| !name.is_empty()).collect(), text: tokens.rest() })
        }
        "MERGE" => merge(&mut tokens),
        "TRUNCATE" if tokens.word("TABLE") => {
            let path = table(&mut tokens)?;
            tokens.end()?;
            Ok(Parsed::Truncate { table: path })
        }
        "ALTER" if tokens.word("TABLE") => {
            tokens.words("IF EXISTS");
            let path = table(&mut tokens)?;
            let mut changes = vec![change(&mut tokens)?];
            while tokens.symbol(',') {
                changes.push(change(&mut tokens)?);
            }
            tokens.end()?;
            Ok(Parsed::Alter { table: path, changes })
        }
        other => Err(ApiError::invalid_query(format!("the fake does not run statements of the kind {other}"))),
    }
}

/// Names in parentheses; of a name with dots the last part.
fn names(tokens: &mut Tokens<'_>) -> Result<Vec<String>, ApiError> {
    let inside = tokens.group().ok_or_else(|| syntax("expected a list of columns"))?;
    let last = |name: &str| name.trim().rsplit('.').next().unwrap_or_default().trim_matches('`').to_owned();
    Ok(inside.split(',').map(last).collect())
}

fn merge(tokens: &mut Tokens<'_>) -> Result<Parsed, ApiError> {
    tokens.word("INTO");
    let aliased = |tokens: &mut Tokens<'_>, next: &str| {
        let path = tokens.path()?;
        if !tokens.word(next) {
            tokens.word("AS");
            tokens.name()?;
            if !tokens.word(next) {
                return Err(syntax(&format!("expected {next}")));
            }
        }
        Ok(path)
    };
    let table = aliased(tokens, "USING")?;
    let source = aliased(tokens, "ON")?;
    if !tokens.word("FALSE") {
        return Err(ApiError::invalid_query("the fake runs MERGE only with ON FALSE"));
    }
    let (mut delete, mut columns) = (false, Vec::new());
    while tokens.words("WHEN NOT MATCHED") {
        if tokens.words("BY SOURCE THEN DELETE") {
            delete = true;
            continue;
        }
        tokens.words("BY TARGET");
        if !tokens.words("THEN INSERT") {
            return Err(syntax("expected THEN INSERT"));
        }
        let into = names(tokens)?;
        if !tokens.word("VALUES") {
            return Err(syntax("expected VALUES"));
        }
        let from = names(tokens)?;
        if from.len() != into.len() {
            return Err(ApiError::invalid_query("Inserted row has wrong column count"));
        }
        columns = into.into_iter().zip(from).collect();
    }
    tokens.end()?;
    Ok(Parsed::Replace { table, source, delete, columns })
}

fn change(tokens: &mut Tokens<'_>) -> Result<Change, ApiError> {
    if tokens.words("ADD COLUMN") {
        let if_not_exists = tokens.words("IF NOT EXISTS");
        let name = tokens.name()?;
        return Ok(Change::Add { field: tokens.column_type(&name)?, if_not_exists });
    }
    if tokens.words("ALTER COLUMN") {
        tokens.words("IF EXISTS");
        let name = tokens.name()?;
        if tokens.words("SET DATA TYPE") {
            return Ok(Change::SetType { field: tokens.column_type(&name)?, name });
        }
        if tokens.words("DROP NOT NULL") {
            return Ok(Change::DropNotNull { name });
        }
        if tokens.words("SET OPTIONS") && tokens.group().is_some() {
            return Ok(Change::Nothing);
        }
    }
    if tokens.words("SET OPTIONS") && tokens.group().is_some() {
        return Ok(Change::Nothing);
    }
    Err(syntax(&format!("the fake does not know this change: {}", tokens.rest())))
}

/// Does one change of ALTER TABLE.
pub(crate) fn alter(table: &mut Table, change: &Change) -> Result<(), ApiError> {
    let mut schema = table.schema.clone();
    let place = |name: &str| {
        let found = schema.fields.iter().position(|field| field.name.eq_ignore_ascii_case(name));
        found.ok_or_else(|| ApiError::invalid_query(format!("Column not found: {name}")))
    };
    match change {
        Change::Nothing => return Ok(()),
        Change::Add { field, if_not_exists } => {
            if schema.field(&field.name).is_some() {
                let why = format!("Column already exists: {}", field.name);
                return if *if_not_exists { Ok(()) } else { Err(ApiError::invalid_query(why)) };
            }
            if field.mode == Mode::Required {
                let why = format!("Cannot add required fields to an existing schema. (field: {})", field.name);
                return Err(ApiError::invalid_query(why));
            }
            schema.fields.push(field.clone());
        }
        Change::DropNotNull { name } => {
            let at = place(name)?;
            if schema.fields[at].mode == Mode::Required {
                schema.fields[at].mode = Mode::Nullable;
            }
        }
        Change::SetType { name, field } => {
            let at = place(name)?;
            let old = schema.fields[at].clone();
            if !widens(&old.type_, &field.type_) {
                let (old, new) = (old.type_.name(), field.type_.name());
                let why = format!(
                    "ALTER TABLE ALTER COLUMN SET DATA TYPE requires that the existing column type ({old}) is assignable to the new type ({new})"
                );
                return Err(ApiError::invalid_query(why));
            }
            let new = &mut schema.fields[at];
            new.type_ = field.type_.clone();
            new.options.retain(|key, _| !["maxLength", "precision", "scale"].contains(&key.as_str()));
            new.options.extend(field.options.clone());
        }
    }
    table.set_schema(schema);
    Ok(())
}

fn widens(old: &Type, new: &Type) -> bool {
    matches!(
        (old, new),
        (Type::Int64, Type::Numeric | Type::BigNumeric | Type::Float64) | (Type::Numeric, Type::BigNumeric | Type::Float64)
    ) || old == new
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
