//! A table's columns, as BigQuery describes them.
//!
//! [`TableSchema`] reads and writes BigQuery's schema JSON and converts to and from an Arrow schema without loss. In
//! Arrow every type has one form:
//!
//! | type | Arrow | |
//! |---|---|---|
//! | STRING | Utf8 | |
//! | BYTES | Binary | |
//! | INT64 | Int64 | |
//! | FLOAT64 | Float64 | |
//! | NUMERIC | Decimal128(38, 9) | |
//! | BOOL | Boolean | |
//! | TIMESTAMP | Timestamp(us, "UTC") | |
//! | DATETIME | Timestamp(us) | |
//! | DATE | Date32 | |
//! | BIGNUMERIC, TIME, JSON, GEOGRAPHY, INTERVAL | Utf8, the exact value as canonical text | *text-carried* |
//! | STRUCT | Struct | |
//! | REPEATED | List of the element, which is never null; the list itself is written empty rather than null | |
//!
//! Text-carried types are those that neither Delta nor most readers know. Their canonical text is BigQuery's own:
//! `12.5` (no exponent, no trailing zeros), `HH:MM:SS.ffffff` (always six digits, so that text order is time order),
//! compact JSON, WKT, `Y-M D H:M:S.F`. The BigQuery type stands in the Arrow field's metadata under [`TYPE_KEY`].
//!
//! Source: <https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#TableFieldSchema>

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value, json};

use crate::error::{Error, Kind, Result, code};

/// The Arrow metadata key that names a text-carried type.
pub const TYPE_KEY: &str = "longshore.type";
/// The Arrow metadata key of the name that a column had at its source, where it differs.
pub const NAME_KEY: &str = "longshore.name";
/// The Arrow metadata key of the attributes that Arrow has no place for (`maxLength`, `policyTags` ...), as JSON.
pub const OPTIONS_KEY: &str = "longshore.options";
/// The Arrow metadata key of a description: the one that Delta and Spark use.
pub const DESCRIPTION_KEY: &str = "comment";

/// The deepest nesting of STRUCTs that BigQuery takes.
pub const MAX_DEPTH: usize = 15;

/// A column type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// Text.
    String,
    /// Bytes; base64 in JSON, CSV and XML.
    Bytes,
    /// A 64-bit integer.
    Int64,
    /// A double.
    Float64,
    /// A decimal with 29 digits before and 9 after the point.
    Numeric,
    /// A decimal with 38 digits before (39 in part) and 38 after the point.
    BigNumeric,
    /// True or false.
    Bool,
    /// A point in time, microseconds, years 1 to 9999.
    Timestamp,
    /// A calendar day, years 1 to 9999.
    Date,
    /// A time of day, microseconds.
    Time,
    /// A calendar day and time of day, without a zone.
    DateTime,
    /// Any JSON value.
    Json,
    /// A geography, as WKT.
    Geography,
    /// A calendar interval.
    Interval,
    /// Named fields.
    Struct(Vec<Field>),
}

/// Whether a column takes nulls, or repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// May be null.
    #[default]
    Nullable,
    /// May not be null.
    Required,
    /// An ARRAY.
    Repeated,
}

/// One column, or one field of a STRUCT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The name in the table.
    pub name: String,
    /// The type; of the element, for an ARRAY.
    pub type_: Type,
    /// Whether it takes nulls, or repeats.
    pub mode: Mode,
    /// A text for people.
    pub description: Option<String>,
    /// The name at the source, where it differs from `name`.
    pub original_name: Option<String>,
    /// The attributes of BigQuery's field that have no meaning here (`maxLength`, `precision`, `policyTags` ...), kept.
    pub options: Map<String, Value>,
}

/// A table's columns in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableSchema {
    /// The columns.
    pub fields: Vec<Field>,
}

impl Type {
    /// BigQuery's name of the type.
    pub fn name(&self) -> &'static str {
        match self {
            Type::String => "STRING",
            Type::Bytes => "BYTES",
            Type::Int64 => "INT64",
            Type::Float64 => "FLOAT64",
            Type::Numeric => "NUMERIC",
            Type::BigNumeric => "BIGNUMERIC",
            Type::Bool => "BOOL",
            Type::Timestamp => "TIMESTAMP",
            Type::Date => "DATE",
            Type::Time => "TIME",
            Type::DateTime => "DATETIME",
            Type::Json => "JSON",
            Type::Geography => "GEOGRAPHY",
            Type::Interval => "INTERVAL",
            Type::Struct(_) => "STRUCT",
        }
    }

    /// Whether Arrow carries it as canonical text (see the module's table).
    pub fn is_text_carried(&self) -> bool {
        matches!(self, Type::BigNumeric | Type::Time | Type::Json | Type::Geography | Type::Interval)
    }
}

impl FromStr for Type {
    type Err = Error;

    /// Reads a type name, BigQuery's legacy names and aliases included. A STRUCT comes back without fields.
    fn from_str(text: &str) -> Result<Self> {
        Ok(match text.trim().to_ascii_uppercase().as_str() {
            "STRING" => Type::String,
            "BYTES" => Type::Bytes,
            "INT64" | "INTEGER" | "INT" | "SMALLINT" | "BIGINT" | "TINYINT" | "BYTEINT" => Type::Int64,
            "FLOAT64" | "FLOAT" => Type::Float64,
            "NUMERIC" | "DECIMAL" => Type::Numeric,
            "BIGNUMERIC" | "BIGDECIMAL" => Type::BigNumeric,
            "BOOL" | "BOOLEAN" => Type::Bool,
            "TIMESTAMP" => Type::Timestamp,
            "DATE" => Type::Date,
            "TIME" => Type::Time,
            "DATETIME" => Type::DateTime,
            "JSON" => Type::Json,
            "GEOGRAPHY" => Type::Geography,
            "INTERVAL" => Type::Interval,
            "STRUCT" | "RECORD" => Type::Struct(Vec::new()),
            other => {
                return Err(Error::new(Kind::Config, code::SCHEMA_INVALID, format!("unknown type {other}")).hint(
                    "known types: STRING, BYTES, INT64, FLOAT64, NUMERIC, BIGNUMERIC, BOOL, TIMESTAMP, DATE, TIME, \
                     DATETIME, JSON, GEOGRAPHY, INTERVAL, STRUCT",
                ));
            }
        })
    }
}

impl fmt::Display for Field {
    /// The type as people write it: `ARRAY<STRUCT<a INT64, b STRING>>`, with `NOT NULL` for REQUIRED.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mode == Mode::Repeated {
            f.write_str("ARRAY<")?;
        }
        match &self.type_ {
            Type::Struct(fields) => {
                f.write_str("STRUCT<")?;
                for (i, field) in fields.iter().enumerate() {
                    write!(f, "{}{} {field}", if i == 0 { "" } else { ", " }, field.name)?;
                }
                f.write_str(">")?;
            }
            other => f.write_str(other.name())?,
        }
        match self.mode {
            Mode::Repeated => f.write_str(">"),
            Mode::Required => f.write_str(" NOT NULL"),
            Mode::Nullable => Ok(()),
        }
    }
}

impl Field {
    /// A nullable column.
    pub fn new(name: impl Into<String>, type_: Type) -> Self {
        Self { name: name.into(), type_, mode: Mode::Nullable, description: None, original_name: None, options: Map::new() }
    }

    /// The same column with another mode.
    #[must_use]
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// The fields of a STRUCT; none for other types.
    pub fn children(&self) -> &[Field] {
        match &self.type_ {
            Type::Struct(fields) => fields,
            _ => &[],
        }
    }

    fn from_json(value: &Value, path: &str, depth: usize) -> Result<Self> {
        let invalid = |why: String| {
            Error::new(Kind::Config, code::SCHEMA_INVALID, why)
                .hint("a schema is BigQuery's JSON: [{\"name\": \"id\", \"type\": \"INT64\", \"mode\": \"REQUIRED\"}, ...]")
        };
        let Value::Object(object) = value else {
            return Err(invalid(format!("{path} is not an object")));
        };
        let mut rest = object.clone();
        let mut text = |key: &str| match rest.shift_remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(invalid(format!("{path}: `{key}` is not a string"))),
        };
        let name = text("name")?.filter(|n| !n.is_empty()).ok_or_else(|| invalid(format!("{path} has no `name`")))?;
        let type_name = text("type")?.ok_or_else(|| invalid(format!("column {name} has no `type`")))?;
        let mode = match text("mode")?.map(|m| m.to_ascii_uppercase()).as_deref() {
            None | Some("NULLABLE" | "") => Mode::Nullable,
            Some("REQUIRED") => Mode::Required,
            Some("REPEATED") => Mode::Repeated,
            Some(other) => return Err(invalid(format!("column {name} has the unknown mode {other}"))),
        };
        let description = text("description")?;
        let original_name = text("originalName")?;
        let mut type_: Type = type_name.parse().map_err(|e: Error| e.with("column", &name))?;
        let children = rest.shift_remove("fields");
        if let Type::Struct(fields) = &mut type_ {
            if depth >= MAX_DEPTH {
                return Err(invalid(format!("column {name} is nested more than {MAX_DEPTH} deep")));
            }
            let Some(Value::Array(list)) = children else {
                return Err(invalid(format!("column {name} is a STRUCT without `fields`")));
            };
            *fields = read_fields(&list, &name, depth + 1)?;
        }
        Ok(Self { name, type_, mode, description, original_name, options: rest })
    }

    fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("name".into(), json!(self.name));
        object.insert("type".into(), json!(self.type_.name()));
        let mode = match self.mode {
            Mode::Nullable => "NULLABLE",
            Mode::Required => "REQUIRED",
            Mode::Repeated => "REPEATED",
        };
        object.insert("mode".into(), json!(mode));
        if let Type::Struct(fields) = &self.type_ {
            object.insert("fields".into(), Value::Array(fields.iter().map(Field::to_json).collect()));
        }
        if let Some(description) = &self.description {
            object.insert("description".into(), json!(description));
        }
        if let Some(original) = &self.original_name {
            object.insert("originalName".into(), json!(original));
        }
        object.extend(self.options.clone());
        Value::Object(object)
    }
}

fn read_fields(list: &[Value], path: &str, depth: usize) -> Result<Vec<Field>> {
    let mut fields: Vec<Field> = Vec::with_capacity(list.len());
    let mut seen = std::collections::HashSet::with_capacity(list.len());
    for (i, value) in list.iter().enumerate() {
        let field = Field::from_json(value, &format!("field {} of {path}", i + 1), depth)?;
        if !seen.insert(field.name.to_lowercase()) {
            let why = format!("two columns of {path} are named {} (names match without case)", field.name);
            return Err(Error::new(Kind::Config, code::SCHEMA_INVALID, why));
        }
        fields.push(field);
    }
    Ok(fields)
}

impl TableSchema {
    /// A schema of these columns.
    pub fn new(fields: Vec<Field>) -> Self {
        Self { fields }
    }

    /// The column of this name, without regard to case.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))
    }

    /// Reads BigQuery's schema JSON: a list of fields, or an object with `fields` (as `bq show --schema` and the API
    /// give it). Errors: `schema_invalid`, naming the field.
    pub fn from_json(value: &Value) -> Result<Self> {
        let list = match value {
            Value::Array(list) => list,
            Value::Object(object) => match object.get("fields") {
                Some(Value::Array(list)) => list,
                _ => return Err(not_a_schema()),
            },
            _ => return Err(not_a_schema()),
        };
        Ok(Self { fields: read_fields(list, "the schema", 1)? })
    }

    /// BigQuery's schema JSON: a list of fields. Reading it back gives an equal schema.
    pub fn to_json(&self) -> Value {
        Value::Array(self.fields.iter().map(Field::to_json).collect())
    }
}

fn not_a_schema() -> Error {
    Error::new(Kind::Config, code::SCHEMA_INVALID, "a schema must be a list of fields")
        .hint("for example [{\"name\": \"id\", \"type\": \"INT64\"}]")
}

impl serde::Serialize for TableSchema {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for TableSchema {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_json(&value).map_err(serde::de::Error::custom)
    }
}
