//! Columns as BigQuery's REST has them.

use longshore_core::Result;
use longshore_core::error::Retry;
use longshore_core::schema::{Field, Mode, TableSchema, Type};
use serde_json::{Map, Value, json};

use crate::error::{codes, config, destination};

/// Beginnings of column names that BigQuery keeps for itself.
const RESERVED: [&str; 8] =
    ["_TABLE_", "_FILE_", "_PARTITION", "_ROW_TIMESTAMP", "__ROOT__", "_COLIDENTIFIER", "_CHANGE_TYPE", "_CHANGE_SEQUENCE"];

/// Columns for a new table. Errors: `bigquery_name`.
pub(crate) fn to_rest(fields: &[Field]) -> Result<Vec<Value>> {
    fields.iter().map(field_to_rest).collect()
}

fn field_to_rest(field: &Field) -> Result<Value> {
    check_name(&field.name)?;
    let mut object: Map<String, Value> = field.options.clone();
    object.insert("name".into(), json!(field.name));
    object.insert("type".into(), json!(legacy_name(&field.type_)));
    let mode = match field.mode {
        Mode::Nullable => "NULLABLE",
        Mode::Required => "REQUIRED",
        Mode::Repeated => "REPEATED",
    };
    object.insert("mode".into(), json!(mode));
    if let Type::Struct(children) = &field.type_ {
        object.insert("fields".into(), Value::Array(to_rest(children)?));
    }
    // BigQuery has no other place for the name that a column had at its source.
    let original = || field.original_name.as_ref().map(|name| format!("{name} at its source"));
    if let Some(description) = field.description.clone().or_else(original) {
        object.insert("description".into(), json!(description));
    }
    Ok(Value::Object(object))
}

/// The names that every server knows; the newer ones are aliases of them.
pub(crate) fn legacy_name(type_: &Type) -> &'static str {
    match type_ {
        Type::Int64 => "INTEGER",
        Type::Float64 => "FLOAT",
        Type::Bool => "BOOLEAN",
        Type::Struct(_) => "RECORD",
        other => other.name(),
    }
}

fn check_name(name: &str) -> Result<()> {
    let refused =
        |why: &str| Err(config(codes::NAME, format!("a column of BigQuery cannot be named `{}`: {why}", name.escape_debug())));
    if name.is_empty() || name.chars().count() > 300 {
        return refused("a name has 1 to 300 characters");
    }
    let upper = name.to_ascii_uppercase();
    match RESERVED.iter().find(|beginning| upper.starts_with(*beginning)) {
        Some(beginning) => refused(&format!("{beginning} is reserved")),
        None => Ok(()),
    }
}

/// The columns of a table that rows can fill. Columns of a type that Longshore does not know (RANGE, what comes next year) stay
/// empty; if one of them is REQUIRED nothing can be appended.
///
/// Errors: `bigquery_table_unsupported`, `schema_invalid`.
pub(crate) fn from_rest(table: &str, fields: &[Value]) -> Result<TableSchema> {
    let mut known = Vec::with_capacity(fields.len());
    for field in fields {
        let type_name = field["type"].as_str().unwrap_or_default();
        if type_name.parse::<Type>().is_ok() {
            known.push(without_defaults(field));
        } else if field["mode"] == "REQUIRED" {
            let why =
                format!("table {table} requires a column {} of the type {type_name}, which cannot be written", field["name"]);
            return Err(destination(codes::UNSUPPORTED, why).with_retry(Retry::AfterFix));
        }
    }
    TableSchema::from_json(&Value::Array(known))
}

/// Answers repeat what is so by default; a schema that was sent without it is the same schema.
fn without_defaults(field: &Value) -> Value {
    let mut field = field.clone();
    if let Some(object) = field.as_object_mut() {
        object.retain(|_, value| !value.is_null());
        if let Some(children) = object.get_mut("fields").and_then(Value::as_array_mut) {
            children.iter_mut().for_each(|child| *child = without_defaults(child));
        }
        if object.get("fields").is_some_and(|fields| fields.as_array().is_some_and(Vec::is_empty)) {
            object.remove("fields");
        }
    }
    field
}

/// Adds the columns that are wanted and not there, NULLABLE or REPEATED; says each in words.
pub(crate) fn add_missing(fields: &mut Vec<Value>, wanted: &[Field], path: &str, changes: &mut Vec<String>) -> Result<()> {
    for field in wanted {
        let is_it = |f: &Value| f["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(&field.name));
        let Some(existing) = fields.iter_mut().find(|f| is_it(f)) else {
            let mut added = field.clone();
            if added.mode == Mode::Required {
                added.mode = Mode::Nullable;
            }
            changes.push(format!("add column {path}{} {added}", field.name));
            fields.push(field_to_rest(&added)?);
            continue;
        };
        let is_struct = existing["type"].as_str().is_some_and(|name| matches!(name, "RECORD" | "STRUCT"));
        if let (true, Some(children)) = (is_struct, existing.get_mut("fields").and_then(Value::as_array_mut)) {
            add_missing(children, field.children(), &format!("{path}{}.", field.name), changes)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> TableSchema {
        TableSchema::from_json(&json!([
            {"name": "id", "type": "INT64", "mode": "REQUIRED"},
            {"name": "at", "type": "RECORD", "mode": "REPEATED", "fields": [{"name": "x", "type": "FLOAT64"}]},
            {"name": "n", "type": "NUMERIC", "precision": "10", "description": "amount"},
        ]))
        .expect("valid")
    }

    #[test]
    fn columns_come_back_as_they_went() {
        let rest = to_rest(&wanted().fields).expect("names fit");
        assert_eq!(from_rest("t", &rest).expect("known"), wanted());
        assert_eq!(rest[0], json!({"name": "id", "type": "INTEGER", "mode": "REQUIRED"}));
    }

    #[test]
    fn what_is_missing_is_added_at_its_place_and_all_else_stays() {
        let mut fields = vec![
            json!({"name": "ID", "type": "STRING", "policyTags": {"names": ["a"]}}),
            json!({"name": "at", "type": "RECORD", "mode": "REPEATED", "fields": []}),
            json!({"name": "span", "type": "RANGE", "rangeElementType": {"type": "DATE"}}),
        ];
        let mut changes = Vec::new();
        add_missing(&mut fields, &wanted().fields, "", &mut changes).expect("names fit");
        assert_eq!(changes, ["add column at.x FLOAT64", "add column n NUMERIC"]);
        assert_eq!(fields[0], json!({"name": "ID", "type": "STRING", "policyTags": {"names": ["a"]}}));
        assert_eq!(fields[1]["fields"][0], json!({"name": "x", "type": "FLOAT", "mode": "NULLABLE"}));
        assert_eq!(from_rest("t", &fields).expect("known").fields.len(), 3, "a RANGE stays empty");
    }

    #[test]
    fn a_name_that_bigquery_keeps_for_itself_is_refused_with_the_reason() {
        let error = to_rest(&[Field::new("_partitiontime", Type::String)]).expect_err("reserved");
        assert!(error.to_string().contains("_PARTITION is reserved"), "{error}");
    }
}
