//! The columns of an Avro schema.

use longshore_core::schema::{MAX_DEPTH, Mode, TableSchema, Type};

use super::schema::{Node, Schema};
use crate::formats::columns::{Fields, any_of, array, decimal, map};

/// The columns of a record; none if the schema is of something else. A type within itself, and what is nested deeper than tables are, is JSON.
pub(crate) fn columns(schema: &Schema) -> TableSchema {
    let mut walk = Walk { schema, within: Vec::new() };
    match &schema.nodes[schema.root] {
        Node::Record(_) => TableSchema::new(walk.fields(schema.root, 1).done()),
        _ => TableSchema::default(),
    }
}

/// The type of a value, for a key that is no record.
pub(crate) fn type_of(schema: &Schema) -> Option<(Type, Mode)> {
    Walk { schema, within: Vec::new() }.column(schema.root, 1)
}

struct Walk<'a> {
    schema: &'a Schema,
    /// The records around the present one.
    within: Vec<usize>,
}

impl Walk<'_> {
    fn fields(&mut self, record: usize, depth: usize) -> Fields {
        let schema = self.schema;
        let mut fields = Fields::default();
        let Node::Record(members) = &schema.nodes[record] else { return fields };
        self.within.push(record);
        for member in members {
            if let Some(column) = self.column(member.node, depth) {
                fields.add(schema.name(member.name), column, member.doc.as_deref());
            }
        }
        self.within.pop();
        fields
    }

    fn column(&mut self, node: usize, depth: usize) -> Option<(Type, Mode)> {
        let schema = self.schema;
        let type_ = match &schema.nodes[node] {
            Node::Null | Node::Declared => return None,
            Node::Boolean => Type::Bool,
            Node::Int | Node::Long => Type::Int64,
            Node::Float | Node::Double => Type::Float64,
            Node::Bytes | Node::Fixed(_) => Type::Bytes,
            Node::String | Node::Uuid | Node::Enum(_) => Type::String,
            Node::Date => Type::Date,
            Node::Time { .. } => Type::Time,
            Node::Moment { utc: true, .. } => Type::Timestamp,
            Node::Moment { utc: false, .. } => Type::DateTime,
            Node::Decimal { precision, scale, .. } => decimal(*precision, *scale),
            Node::Duration => Type::Interval,
            Node::Array(items) => return array(self.column(*items, depth)),
            Node::Map(_) | Node::Record(_) if depth >= MAX_DEPTH => Type::Json,
            Node::Map(values) => {
                let values = self.column(*values, depth + 1);
                return map(Type::String, values);
            }
            Node::Record(_) if self.within.contains(&node) => Type::Json,
            Node::Record(_) => return self.fields(node, depth + 1).into_struct(),
            Node::Union(branches) => {
                let branches = branches.iter().filter_map(|branch| self.column(*branch, depth)).collect();
                return any_of(branches);
            }
        };
        Some((type_, Mode::Nullable))
    }
}
