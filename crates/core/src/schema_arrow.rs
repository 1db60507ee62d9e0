//! [`TableSchema`] to and from Arrow, without loss.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field as ArrowField, Fields, Schema as ArrowSchema, SchemaRef, TimeUnit};

use crate::error::{Error, Kind, Result, code};
use crate::schema::{DESCRIPTION_KEY, Field, Mode, NAME_KEY, OPTIONS_KEY, TYPE_KEY, TableSchema, Type};

/// The precision of NUMERIC.
pub const NUMERIC_PRECISION: u8 = 38;
/// The scale of NUMERIC.
pub const NUMERIC_SCALE: i8 = 9;

impl TableSchema {
    /// The Arrow form (see [`crate::schema`] for the table of types).
    pub fn to_arrow(&self) -> SchemaRef {
        Arc::new(ArrowSchema::new(self.fields.iter().map(field_to_arrow).collect::<Vec<_>>()))
    }

    /// Reads an Arrow schema. Integer and float types narrower than BigQuery's become BigQuery's; an Arrow type that no
    /// BigQuery type holds exactly is `schema_invalid`.
    pub fn from_arrow(schema: &ArrowSchema) -> Result<Self> {
        let fields = schema.fields().iter().map(|field| field_from_arrow(field)).collect::<Result<Vec<_>>>()?;
        Ok(Self { fields })
    }
}

/// The Arrow form of one value of a type (of an element, for an ARRAY).
pub fn type_to_arrow(type_: &Type) -> DataType {
    match type_ {
        Type::Bytes => DataType::Binary,
        Type::Int64 => DataType::Int64,
        Type::Float64 => DataType::Float64,
        Type::Numeric => DataType::Decimal128(NUMERIC_PRECISION, NUMERIC_SCALE),
        Type::Bool => DataType::Boolean,
        Type::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Type::DateTime => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::Date => DataType::Date32,
        Type::String | Type::BigNumeric | Type::Time | Type::Json | Type::Geography | Type::Interval => DataType::Utf8,
        Type::Struct(fields) => DataType::Struct(fields.iter().map(field_to_arrow).collect::<Fields>()),
    }
}

/// The Arrow form of a column.
pub fn field_to_arrow(field: &Field) -> ArrowField {
    let data_type = type_to_arrow(&field.type_);
    let data_type = match field.mode {
        Mode::Repeated => DataType::List(Arc::new(ArrowField::new("element", data_type, false))),
        Mode::Nullable | Mode::Required => data_type,
    };
    let mut metadata = HashMap::new();
    if field.type_.is_text_carried() {
        metadata.insert(TYPE_KEY.to_owned(), field.type_.name().to_owned());
    }
    if let Some(original) = &field.original_name {
        metadata.insert(NAME_KEY.to_owned(), original.clone());
    }
    if let Some(description) = &field.description {
        metadata.insert(DESCRIPTION_KEY.to_owned(), description.clone());
    }
    if !field.options.is_empty() {
        metadata.insert(OPTIONS_KEY.to_owned(), serde_json::Value::Object(field.options.clone()).to_string());
    }
    ArrowField::new(&field.name, data_type, field.mode != Mode::Required).with_metadata(metadata)
}

fn field_from_arrow(field: &ArrowField) -> Result<Field> {
    let metadata = field.metadata();
    let invalid = |why: &str| {
        Error::new(Kind::Config, code::SCHEMA_INVALID, format!("column {} {why}", field.name()))
            .with("arrow_type", field.data_type())
    };
    let (mode, value_type) = match field.data_type() {
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            (Mode::Repeated, element.data_type())
        }
        other if field.is_nullable() => (Mode::Nullable, other),
        other => (Mode::Required, other),
    };
    let type_ = match metadata.get(TYPE_KEY) {
        Some(name) => name.parse()?,
        None => type_from_arrow(value_type).map_err(|why| invalid(&why))?,
    };
    let options = match metadata.get(OPTIONS_KEY) {
        None => serde_json::Map::new(),
        Some(text) => match serde_json::from_str(text) {
            Ok(serde_json::Value::Object(options)) => options,
            _ => return Err(invalid("has unreadable options in its metadata")),
        },
    };
    Ok(Field {
        name: field.name().clone(),
        type_,
        mode,
        description: metadata.get(DESCRIPTION_KEY).cloned(),
        original_name: metadata.get(NAME_KEY).cloned(),
        options,
    })
}

fn type_from_arrow(data_type: &DataType) -> Result<Type, String> {
    Ok(match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Type::String,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => Type::Bytes,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Type::Int64,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => Type::Int64,
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Type::Float64,
        DataType::UInt64 => Type::Numeric,
        DataType::Decimal128(precision, scale) if fits(*precision, *scale, 29, 9) => Type::Numeric,
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) if fits(*precision, *scale, 38, 38) => {
            Type::BigNumeric
        }
        DataType::Boolean => Type::Bool,
        DataType::Date32 | DataType::Date64 => Type::Date,
        DataType::Time32(_) | DataType::Time64(TimeUnit::Microsecond) => Type::Time,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => return Err("has nanoseconds, which no type holds".into()),
        DataType::Timestamp(_, None) => Type::DateTime,
        DataType::Timestamp(_, Some(_)) => Type::Timestamp,
        DataType::Struct(fields) => {
            Type::Struct(fields.iter().map(|f| field_from_arrow(f)).collect::<Result<_>>().map_err(|e| e.to_string())?)
        }
        other => return Err(format!("has the type {other}, which has no counterpart")),
    })
}

fn fits(precision: u8, scale: i8, integer_digits: i16, fraction_digits: i8) -> bool {
    scale >= 0 && scale <= fraction_digits && i16::from(precision) - i16::from(scale) <= integer_digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn every_type() -> TableSchema {
        TableSchema::from_json(&json!([
            {"name": "s", "type": "STRING", "maxLength": "12", "policyTags": {"names": ["a/b"]}},
            {"name": "y", "type": "BYTES"},
            {"name": "i", "type": "INTEGER", "mode": "REQUIRED", "description": "a number"},
            {"name": "f", "type": "FLOAT"},
            {"name": "n", "type": "NUMERIC", "precision": "10", "scale": "2"},
            {"name": "bn", "type": "BIGNUMERIC"},
            {"name": "b", "type": "BOOLEAN"},
            {"name": "ts", "type": "TIMESTAMP"},
            {"name": "d", "type": "DATE"},
            {"name": "t", "type": "TIME"},
            {"name": "dt", "type": "DATETIME", "originalName": "d-t"},
            {"name": "j", "type": "JSON"},
            {"name": "g", "type": "GEOGRAPHY"},
            {"name": "iv", "type": "INTERVAL"},
            {"name": "st", "type": "RECORD", "fields": [
                {"name": "t", "type": "TIME", "mode": "REPEATED"},
                {"name": "x", "type": "RECORD", "mode": "REPEATED", "fields": [{"name": "a", "type": "INT64"}]},
            ]},
            {"name": "l", "type": "JSON", "mode": "REPEATED"},
        ]))
        .expect("valid")
    }

    #[test]
    fn every_type_survives_json_and_arrow() {
        let schema = every_type();
        assert_eq!(TableSchema::from_json(&schema.to_json()).expect("json"), schema);
        assert_eq!(TableSchema::from_arrow(&schema.to_arrow()).expect("arrow"), schema);
    }

    #[test]
    fn a_schema_that_is_not_one_says_which_field() {
        for (schema, words) in [
            (json!(3), "a list of fields"),
            (json!([{"type": "STRING"}]), "field 1 of the schema has no `name`"),
            (json!([{"name": "a"}]), "column a has no `type`"),
            (json!([{"name": "a", "type": "TEXT"}]), "unknown type TEXT"),
            (json!([{"name": "a", "type": "RECORD"}]), "STRUCT without `fields`"),
            (json!([{"name": "a", "type": "INT64"}, {"name": "A", "type": "INT64"}]), "named A"),
            (json!([{"name": "a", "type": "INT64", "mode": "MANY"}]), "unknown mode MANY"),
        ] {
            let error = TableSchema::from_json(&schema).expect_err("refused");
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn types_are_shown_as_people_write_them() {
        let schema = every_type();
        assert_eq!(schema.fields[2].to_string(), "INT64 NOT NULL");
        assert_eq!(schema.fields[14].to_string(), "STRUCT<t ARRAY<TIME>, x ARRAY<STRUCT<a INT64>>>");
    }
}
