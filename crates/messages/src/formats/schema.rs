//! A schema of the schema registry, ready to be read by.

use longshore_core::schema::{Mode, TableSchema, Type};

use super::{avro, json_schema, protobuf};
use crate::registry::{Kind, Written};

/// A schema by what it is written in.
pub(crate) enum Schema {
    Avro(avro::Schema),
    Json(json_schema::Schema),
    Protobuf(protobuf::Schema),
}

impl Schema {
    /// Reads a schema. The error says what is wrong with it.
    pub fn read(written: &Written) -> Result<Self, String> {
        let Written { kind, text, references } = written;
        Ok(match kind {
            Kind::Avro => Schema::Avro(avro::Schema::parse(text, references)?),
            Kind::Json => Schema::Json(json_schema::Schema::parse(text, references)?),
            Kind::Protobuf => Schema::Protobuf(protobuf::Schema::parse(text, references)?),
        })
    }

    pub fn kind(&self) -> Kind {
        match self {
            Schema::Avro(_) => Kind::Avro,
            Schema::Json(_) => Kind::Json,
            Schema::Protobuf(_) => Kind::Protobuf,
        }
    }

    /// The columns of what `content` (behind the schema's number) is.
    pub fn columns(&self, content: &[u8]) -> Option<TableSchema> {
        match self {
            Schema::Avro(schema) => Some(avro::columns(schema)),
            Schema::Json(schema) => Some(schema.columns()),
            Schema::Protobuf(schema) => {
                let (message, _) = schema.message(content).ok()?;
                Some(protobuf::columns(&message))
            }
        }
    }
}

impl Schema {
    /// The type of a value that is no record, for keys.
    pub fn type_of(&self) -> Option<(Type, Mode)> {
        match self {
            Schema::Avro(schema) => avro::type_of(schema),
            Schema::Json(schema) => schema.type_of(),
            Schema::Protobuf(_) => None,
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Avro => "Avro",
            Kind::Json => "JSON Schema",
            Kind::Protobuf => "Protocol Buffers",
        })
    }
}
