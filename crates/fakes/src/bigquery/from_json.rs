//! Rows that come in as JSON: `tabledata.insertAll` and newline-delimited files.

use longshore_core::schema::{Field, Mode, Type};
use serde_json::{Map, Value};

use super::cell::{self, Cell, Row};

/// How rows are read.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    /// Whether keys that no column has are passed over.
    pub(crate) ignore_unknown: bool,
    /// Whether the text of a JSON column is a document (streaming inserts), rather than a JSON string (files).
    pub(crate) json_is_text: bool,
}

/// Reads one row. The error says which field, and why.
pub(crate) fn row(fields: &[Field], value: &Value, reading: Reading) -> Result<Row, (String, String)> {
    let Value::Object(object) = value else { return Err((String::new(), "a row must be a JSON object".into())) };
    object_cells(fields, object, reading, "")
}

fn object_cells(fields: &[Field], object: &Map<String, Value>, reading: Reading, path: &str) -> Result<Row, (String, String)> {
    if !reading.ignore_unknown
        && let Some(key) = object.keys().find(|key| !fields.iter().any(|field| field.name.eq_ignore_ascii_case(key)))
    {
        return Err((format!("{path}{key}"), format!("no such field: {path}{key}.")));
    }
    fields.iter().map(|field| column(field, object, reading, path)).collect()
}

fn column(field: &Field, object: &Map<String, Value>, reading: Reading, path: &str) -> Result<Cell, (String, String)> {
    let here = format!("{path}{}", field.name);
    let place = |why: String| (here.clone(), why);
    let value = object.iter().find(|(key, _)| key.eq_ignore_ascii_case(&field.name)).map(|(_, value)| value);
    let cell = match (value, field.mode) {
        (None | Some(Value::Null), _) => return cell::missing(field).map_err(place),
        (Some(Value::Array(values)), Mode::Repeated) => {
            let cells = values.iter().map(|value| one(field, value, reading, &here));
            Cell::List(cells.collect::<Result<_, _>>()?)
        }
        (Some(_), Mode::Repeated) => return Err(place("Repeated field must be imported as a JSON array.".into())),
        (Some(value), _) => one(field, value, reading, &here)?,
    };
    cell::check(field, &cell).map_err(place)?;
    Ok(cell)
}

fn one(field: &Field, value: &Value, reading: Reading, here: &str) -> Result<Cell, (String, String)> {
    if let (Type::Struct(fields), Value::Object(object)) = (&field.type_, value) {
        return object_cells(fields, object, reading, &format!("{here}.")).map(Cell::Struct);
    }
    scalar(&field.type_, value, reading).map_err(|why| (here.to_owned(), why))
}

fn scalar(type_: &Type, value: &Value, reading: Reading) -> Result<Cell, String> {
    match (type_, value) {
        (Type::Json, Value::String(text)) if reading.json_is_text => cell::json_text(text),
        (Type::Json, Value::Object(_) | Value::Array(_)) if reading.json_is_text => Err("This field is not a record.".into()),
        (Type::Json, value) => Ok(Cell::Text(value.to_string())),
        (_, Value::Object(_)) => Err("This field is not a record.".into()),
        (_, Value::Array(_)) => Err("Array specified for non-repeated field.".into()),
        (_, Value::Null) => Err("Only optional fields can be set to NULL.".into()),
        (Type::Struct(_), _) => Err("This field is a record.".into()),
        (type_, Value::String(text)) => cell::from_text(type_, text),
        (Type::Bool, Value::Bool(value)) => Ok(Cell::Bool(*value)),
        (Type::String, Value::Bool(value)) => Ok(Cell::Text(value.to_string())),
        (type_, Value::Bool(_)) => Err(format!("Could not convert value to {}.", type_.name())),
        (type_, Value::Number(number)) => from_number(type_, number),
    }
}

fn from_number(type_: &Type, number: &serde_json::Number) -> Result<Cell, String> {
    let refused = || format!("Could not convert value to {}: {number}.", type_.name());
    match type_ {
        Type::String => Ok(Cell::Text(number.to_string())),
        Type::Float64 => number.as_f64().map(Cell::Float).ok_or_else(refused),
        Type::Int64 => match (number.as_i64(), number.as_f64()) {
            (Some(value), _) => Ok(Cell::Int(value)),
            // 1.0 is an integer; the bound keeps the conversion exact.
            (None, Some(value)) if value.fract() == 0.0 && value.abs() < 9.0e15 => Ok(Cell::Int(value as i64)),
            _ => Err(refused()),
        },
        Type::Numeric => cell::numeric(&number.to_string()),
        Type::BigNumeric => cell::big_numeric(&number.to_string()),
        // A number is seconds since 1970.
        Type::Timestamp => match (number.as_i64(), number.as_f64()) {
            (Some(seconds), _) => seconds.checked_mul(1_000_000).map(Cell::Micros).ok_or_else(refused),
            (None, Some(seconds)) => Ok(Cell::Micros((seconds * 1e6).round() as i64)),
            _ => Err(refused()),
        },
        _ => Err(refused()),
    }
}
