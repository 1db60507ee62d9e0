//! A table's columns: Delta's schema text to and from [`TableSchema`], and what may be added to it.
//!
//! A column that exists stays as it is, metadata of other programs included: changes are made in the schema's JSON itself.
//! Longshore's own metadata keys (see [`longshore_core::schema`]) stand in a field's metadata, so that a type which Delta
//! lacks is known again; Delta itself sees a string.
//!
//! Source: <https://github.com/delta-io/delta/blob/master/PROTOCOL.md#schema-serialization-format>

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field as ArrowField, Fields, Schema as ArrowSchema, TimeUnit};
use longshore_core::Result;
use longshore_core::names::Unique;
use longshore_core::schema::{Field, Mode, TYPE_KEY, TableSchema, Type};
use longshore_core::schema_arrow::field_to_arrow;
use serde_json::{Map, Value, json};

use crate::error::{bug, codes, config, destination};
use crate::log::Metadata;

/// The metadata key of a column that is made from another one: its name.
pub(crate) const DERIVED_KEY: &str = "longshore.derived";

/// Metadata under which a writer would have to do what we do not.
const UNSUPPORTED_METADATA: &[&str] = &["delta.generationExpression", "delta.identity.start", "delta.invariants"];

/// One column of a table.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub name: String,
    /// How it stands in Parquet; `None` for a type that no BigQuery type holds (a map, an array of arrays).
    pub physical: Option<ArrowField>,
    /// What rows are decoded into; `None` as above, and for derived columns.
    pub logical: Option<Field>,
    /// The column that it is made from.
    pub derived_from: Option<String>,
    pub nullable: bool,
    pub partition: bool,
    /// Delta's own type, without metadata.
    pub data_type: Value,
}

/// A table's columns in order.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    pub columns: Vec<Column>,
    pub partition_columns: Vec<String>,
    schema: Value,
}

impl Columns {
    /// Reads the schema of a table. Errors: `delta_log_damaged` if it is no schema.
    pub(crate) fn parse(metadata: &Metadata) -> Result<Self> {
        let damaged = || {
            destination(codes::LOG_DAMAGED, format!("the schema of table {} cannot be read", metadata.id))
                .with_retry(longshore_core::error::Retry::AfterFix)
        };
        let schema: Value = serde_json::from_str(&metadata.schema_string).map_err(|e| damaged().caused_by(e))?;
        let fields = schema.get("fields").and_then(Value::as_array).ok_or_else(damaged)?;
        let columns = fields
            .iter()
            .map(|field| {
                let name = field.get("name").and_then(Value::as_str).ok_or_else(damaged)?.to_owned();
                let derived_from = field.pointer("/metadata").and_then(|m| m.get(DERIVED_KEY)).and_then(Value::as_str);
                let physical = field_from_delta(field);
                let logical = physical.as_ref().filter(|_| derived_from.is_none()).and_then(logical);
                Ok(Column {
                    physical: physical.filter(|_| logical.is_some() || derived_from.is_some()),
                    logical,
                    derived_from: derived_from.map(str::to_owned),
                    nullable: field.get("nullable").and_then(Value::as_bool).unwrap_or(true),
                    partition: metadata.partition_columns.contains(&name),
                    data_type: bare_type(field.get("type").unwrap_or(&Value::Null)),
                    name,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { columns, partition_columns: metadata.partition_columns.clone(), schema })
    }

    /// The columns that rows are decoded into.
    pub(crate) fn table_schema(&self) -> TableSchema {
        TableSchema::new(self.columns.iter().filter_map(|column| column.logical.clone()).collect())
    }

    /// The column of this name, without regard to case.
    pub(crate) fn get(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// The first metadata key, anywhere in the schema, that a writer would have to obey and we do not.
    pub(crate) fn unsupported_metadata(&self) -> Option<&'static str> {
        fn find(value: &Value) -> Option<&'static str> {
            match value {
                Value::Object(object) => object
                    .iter()
                    .find_map(|(key, value)| UNSUPPORTED_METADATA.iter().find(|k| *k == key).copied().or_else(|| find(value))),
                Value::Array(list) => list.iter().find_map(find),
                _ => None,
            }
        }
        find(&self.schema)
    }

    /// Whether any column, nested ones included, is a timestamp without zone.
    pub(crate) fn has_timestamp_ntz(schema: &Value) -> bool {
        match schema {
            Value::String(text) => text == "timestamp_ntz",
            Value::Object(object) => ["type", "elementType", "valueType", "keyType", "fields"]
                .iter()
                .filter_map(|key| object.get(*key))
                .any(Self::has_timestamp_ntz),
            Value::Array(list) => list.iter().any(Self::has_timestamp_ntz),
            _ => false,
        }
    }

    /// The schema with the columns of `wanted` that it lacks, those within STRUCTs too, and what was added in words;
    /// `None` if nothing is missing. A new column takes nulls, since the rows that are there have none.
    pub(crate) fn with_added(&self, wanted: &TableSchema) -> Result<Option<(Value, Vec<String>)>> {
        let mut schema = self.schema.clone();
        let mut changes = Vec::new();
        let fields = schema.get_mut("fields").and_then(Value::as_array_mut).ok_or_else(|| bug("a schema lost its fields"))?;
        add_missing(fields, &wanted.fields, "", &mut changes)?;
        Ok((!changes.is_empty()).then_some((schema, changes)))
    }
}

fn add_missing(fields: &mut Vec<Value>, wanted: &[Field], path: &str, changes: &mut Vec<String>) -> Result<()> {
    for field in wanted {
        let name = |f: &Value| f.get("name").and_then(Value::as_str).is_some_and(|n| n.eq_ignore_ascii_case(&field.name));
        let Some(existing) = fields.iter_mut().find(|f| name(f)) else {
            let mut added = field.clone();
            if added.mode == Mode::Required {
                added.mode = Mode::Nullable;
            }
            changes.push(format!("add column {path}{} {added}", field.name));
            fields.push(field_to_delta(&added)?);
            continue;
        };
        let Type::Struct(children) = &field.type_ else { continue };
        let path = format!("{path}{}.", field.name);
        let Some(mut type_) = existing.get_mut("type") else { continue };
        if field.mode == Mode::Repeated {
            match type_.get_mut("elementType") {
                Some(element) => type_ = element,
                None => continue,
            }
        }
        if type_.get("type").and_then(Value::as_str) == Some("struct")
            && let Some(fields) = type_.get_mut("fields").and_then(Value::as_array_mut)
        {
            add_missing(fields, children, &path, changes)?;
        }
    }
    Ok(())
}

/// The schema and the partition columns of a new table.
///
/// Errors: `delta_name`, `delta_partition`.
pub(crate) fn new_schema(table: &str, wanted: &TableSchema, partition_by: Option<&str>) -> Result<(Value, Vec<String>)> {
    let mut fields = wanted.fields.iter().map(field_to_delta).collect::<Result<Vec<_>>>()?;
    let mut partition_columns = Vec::new();
    if let Some(name) = partition_by {
        let refused = |why: String| {
            let known: Vec<&str> = wanted.fields.iter().map(|f| f.name.as_str()).collect();
            config(codes::PARTITION, format!("table {table} cannot be partitioned by {name}: {why}"))
                .hint(format!("columns: {}", known.join(", ")))
        };
        let field = wanted.field(name).ok_or_else(|| refused("there is no such column".into()))?;
        match (&field.type_, field.mode) {
            (Type::Timestamp | Type::DateTime, Mode::Nullable | Mode::Required) => {
                let mut taken = Unique::default();
                wanted.fields.iter().for_each(|field| drop(taken.take(&field.name)));
                let day = taken.take(&format!("{}_day", field.name));
                let metadata = json!({DERIVED_KEY: field.name, "comment": format!("UTC day of {}", field.name)});
                fields.push(json!({"name": day, "type": "date", "nullable": true, "metadata": metadata}));
                partition_columns.push(day);
            }
            (Type::String | Type::Int64 | Type::Bool | Type::Date | Type::Numeric, Mode::Nullable | Mode::Required) => {
                if wanted.fields.len() == 1 {
                    return Err(refused("it is the only column".into()));
                }
                partition_columns.push(field.name.clone());
            }
            _ => return Err(refused(format!("it is {field}; take a TIMESTAMP, DATETIME, DATE, STRING, INT64, NUMERIC or BOOL"))),
        }
    }
    Ok((json!({"type": "struct", "fields": fields}), partition_columns))
}

/// Delta's field for a column.
fn field_to_delta(field: &Field) -> Result<Value> {
    check_name(&field.name)?;
    field.children().iter().try_for_each(|child| field_to_delta(child).map(drop))?;
    arrow_to_delta(&field_to_arrow(field))
}

/// Refuses the names that other readers of Delta tables refuse. Sources clean names up before: this is the last guard.
fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.contains(|c: char| " ,;{}()\n\t=\"".contains(c)) {
        let why = format!("a column cannot be named {}", name.escape_debug());
        return Err(config(codes::NAME, why).hint("give it a name of letters, digits and underscores"));
    }
    Ok(())
}

fn arrow_to_delta(field: &ArrowField) -> Result<Value> {
    let mut metadata: Vec<(&String, &String)> = field.metadata().iter().collect();
    metadata.sort();
    let metadata: Map<String, Value> = metadata.into_iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    Ok(json!({
        "name": field.name(),
        "type": type_to_delta(field.data_type())?,
        "nullable": field.is_nullable(),
        "metadata": metadata,
    }))
}

fn type_to_delta(data_type: &DataType) -> Result<Value> {
    Ok(match data_type {
        DataType::Utf8 => json!("string"),
        DataType::Binary => json!("binary"),
        DataType::Int64 => json!("long"),
        DataType::Float64 => json!("double"),
        DataType::Decimal128(precision, scale) => json!(format!("decimal({precision},{scale})")),
        DataType::Boolean => json!("boolean"),
        DataType::Date32 => json!("date"),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => json!("timestamp"),
        DataType::Timestamp(TimeUnit::Microsecond, None) => json!("timestamp_ntz"),
        DataType::List(element) => {
            json!({"type": "array", "elementType": type_to_delta(element.data_type())?, "containsNull": false})
        }
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| arrow_to_delta(field)).collect::<Result<Vec<_>>>()?;
            json!({"type": "struct", "fields": fields})
        }
        other => return Err(bug(format!("the Arrow type {other} is not one that columns have"))),
    })
}

/// How a column of a table stands in Parquet; `None` for a type we do not write.
fn field_from_delta(field: &Value) -> Option<ArrowField> {
    let name = field.get("name")?.as_str()?;
    let data_type = type_from_delta(field.get("type")?)?;
    let nullable = field.get("nullable").and_then(Value::as_bool).unwrap_or(true);
    let mut metadata: HashMap<String, String> = HashMap::new();
    for (key, value) in field.get("metadata").and_then(Value::as_object).into_iter().flatten() {
        if let Value::String(text) = value {
            metadata.insert(key.clone(), text.clone());
        }
    }
    // The note of a type that text carries means nothing beside another type.
    let text = match &data_type {
        DataType::List(element) => element.data_type() == &DataType::Utf8,
        other => other == &DataType::Utf8,
    };
    if !text || metadata.get(TYPE_KEY).is_some_and(|name| !name.parse::<Type>().is_ok_and(|t| t.is_text_carried())) {
        metadata.remove(TYPE_KEY);
    }
    Some(ArrowField::new(name, data_type, nullable).with_metadata(metadata))
}

fn type_from_delta(value: &Value) -> Option<DataType> {
    if let Value::String(name) = value {
        return primitive(name);
    }
    match value.get("type")?.as_str()? {
        "struct" => {
            let fields = value.get("fields")?.as_array()?;
            Some(DataType::Struct(fields.iter().map(field_from_delta).collect::<Option<Fields>>()?))
        }
        "array" => {
            let element = type_from_delta(value.get("elementType")?)?;
            let nullable = value.get("containsNull").and_then(Value::as_bool).unwrap_or(true);
            Some(DataType::List(Arc::new(ArrowField::new("element", element, nullable))))
        }
        _ => None,
    }
}

fn primitive(name: &str) -> Option<DataType> {
    Some(match name {
        "string" => DataType::Utf8,
        "binary" => DataType::Binary,
        "long" => DataType::Int64,
        "integer" => DataType::Int32,
        "short" => DataType::Int16,
        "byte" => DataType::Int8,
        "double" => DataType::Float64,
        "float" => DataType::Float32,
        "boolean" => DataType::Boolean,
        "date" => DataType::Date32,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "timestamp_ntz" => DataType::Timestamp(TimeUnit::Microsecond, None),
        _ => {
            let (precision, scale) = name.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
            DataType::Decimal128(precision.trim().parse().ok()?, scale.trim().parse().ok()?)
        }
    })
}

/// What rows are decoded into for a column as it stands in Parquet.
fn logical(physical: &ArrowField) -> Option<Field> {
    let schema = ArrowSchema::new(vec![physical.clone()]);
    TableSchema::from_arrow(&schema).ok().and_then(|schema| schema.fields.into_iter().next())
}

/// A type without the metadata and nullability of its fields: what a Parquet file depends on.
fn bare_type(value: &Value) -> Value {
    match value.get("type").and_then(Value::as_str) {
        Some("struct") => {
            let fields = value.get("fields").and_then(Value::as_array).into_iter().flatten();
            let fields: Vec<Value> = fields
                .map(|f| json!({"name": f.get("name"), "type": bare_type(f.get("type").unwrap_or(&Value::Null))}))
                .collect();
            json!({"type": "struct", "fields": fields})
        }
        Some("array") => json!({"type": "array", "elementType": bare_type(value.get("elementType").unwrap_or(&Value::Null))}),
        _ => value.clone(),
    }
}

/// Whether files written with the type `staged` fit a column that now has the type `now`: equal, but for fields added since.
pub(crate) fn covers(now: &Value, staged: &Value) -> bool {
    match (now.get("fields").and_then(Value::as_array), staged.get("fields").and_then(Value::as_array)) {
        (Some(now), Some(staged)) => staged.iter().all(|s| {
            now.iter()
                .find(|n| n.get("name") == s.get("name"))
                .is_some_and(|n| covers(n.get("type").unwrap_or(&Value::Null), s.get("type").unwrap_or(&Value::Null)))
        }),
        (None, None) => match (now.get("elementType"), staged.get("elementType")) {
            (Some(now), Some(staged)) => covers(now, staged),
            _ => now == staged,
        },
        _ => false,
    }
}
