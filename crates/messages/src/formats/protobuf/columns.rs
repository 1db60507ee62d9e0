//! The columns of a message's descriptor.

use longshore_core::schema::{MAX_DEPTH, Mode, TableSchema, Type};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::WellKnown;
use crate::formats::columns::{Fields, map};

/// The columns of a message. A type within itself, and what is nested deeper than tables are, is JSON.
pub(crate) fn columns(message: &MessageDescriptor) -> TableSchema {
    TableSchema::new(Walk { within: Vec::new() }.fields(message, 1).done())
}

struct Walk {
    /// The full names of the messages around the present one.
    within: Vec<String>,
}

impl Walk {
    fn fields(&mut self, message: &MessageDescriptor, depth: usize) -> Fields {
        let mut fields = Fields::default();
        self.within.push(message.full_name().to_owned());
        for field in message.fields() {
            if let Some(column) = self.column(&field, depth) {
                fields.add(field.name(), column, None);
            }
        }
        self.within.pop();
        fields
    }

    fn column(&mut self, field: &FieldDescriptor, depth: usize) -> Option<(Type, Mode)> {
        if let Kind::Message(entry) = field.kind()
            && field.is_map()
        {
            if depth >= MAX_DEPTH {
                return Some((Type::Json, Mode::Nullable));
            }
            let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
            let (key, value) = (self.one(&key, depth + 1), self.one(&value, depth + 1));
            return map(key?, value.map(|type_| (type_, Mode::Nullable)));
        }
        let mode = if field.is_list() { Mode::Repeated } else { Mode::Nullable };
        self.one(field, depth).map(|type_| (type_, mode))
    }

    /// The type of one value of a field.
    fn one(&mut self, field: &FieldDescriptor, depth: usize) -> Option<Type> {
        Some(match field.kind() {
            Kind::Double | Kind::Float => Type::Float64,
            Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Sint32 | Kind::Sint64 => Type::Int64,
            Kind::Fixed32 | Kind::Sfixed32 | Kind::Sfixed64 => Type::Int64,
            // Half of them are beyond INT64.
            Kind::Uint64 | Kind::Fixed64 => Type::Numeric,
            Kind::Bool => Type::Bool,
            Kind::String | Kind::Enum(_) => Type::String,
            Kind::Bytes => Type::Bytes,
            Kind::Message(message) => match WellKnown::of(&message) {
                Some(WellKnown::Timestamp) => Type::Timestamp,
                Some(WellKnown::Duration | WellKnown::FieldMask) => Type::String,
                Some(WellKnown::Json) => Type::Json,
                Some(WellKnown::Decimal) => Type::BigNumeric,
                Some(WellKnown::Wrapper) => return self.one(&message.get_field_by_name("value")?, depth),
                None if depth >= MAX_DEPTH || self.within.iter().any(|name| name == message.full_name()) => Type::Json,
                None => return self.fields(&message, depth + 1).into_struct().map(|(type_, _)| type_),
            },
        })
    }
}
