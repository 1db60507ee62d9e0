//! The columns that a JSON Schema tells.
//!
//! Source: <https://json-schema.org/draft/2020-12>, and draft 7, which most registries hold.

use std::collections::HashMap;

use longshore_core::schema::{MAX_DEPTH, Mode, TableSchema, Type};
use serde_json::Value;

use super::columns::{Fields, any_of, array};

/// The columns of a schema's objects. What it leaves open is JSON, or no column.
pub(crate) struct Schema {
    columns: TableSchema,
    /// What it describes, if that is no object.
    value: Option<(Type, Mode)>,
}

impl Schema {
    /// Reads a schema with those that it refers to. The error says what is wrong with it.
    pub fn parse(text: &str, references: &[(String, String)]) -> Result<Self, String> {
        let read = |text: &str| serde_json::from_str::<Value>(text).map_err(|e| format!("it is no JSON: {e}"));
        let root = read(text)?;
        let mut others = HashMap::new();
        for (name, text) in references {
            let other = read(text).map_err(|why| format!("of {name}, which it refers to, {why}"))?;
            if let Some(id) = other["$id"].as_str() {
                others.insert(id.trim_end_matches('#').to_owned(), other.clone());
            }
            others.insert(name.clone(), other);
        }
        let mut walk = Walk { others: &others, within: Vec::new() };
        let members = walk.members(Node { schema: &root, root: &root }, 0);
        let mut fields = Fields::default();
        for (name, member) in members {
            if let Some(column) = walk.column(member, 1) {
                fields.add(name, column, member.doc());
            }
        }
        let columns = TableSchema::new(fields.done());
        let value = if columns.fields.is_empty() { walk.column(Node { schema: &root, root: &root }, 1) } else { None };
        Ok(Self { columns, value })
    }

    pub fn columns(&self) -> TableSchema {
        self.columns.clone()
    }

    /// The type of a value, for a key that is no object.
    pub fn type_of(&self) -> Option<(Type, Mode)> {
        self.value.clone()
    }
}

/// A part of a document.
#[derive(Clone, Copy)]
struct Node<'a> {
    schema: &'a Value,
    root: &'a Value,
}

struct Walk<'a> {
    /// Other documents by name and id.
    others: &'a HashMap<String, Value>,
    /// What is being described at present, to find what is within itself.
    within: Vec<*const Value>,
}

/// Nesting of `allOf` and references without a field between.
const MOST_NESTED: usize = 50;

impl<'a> Node<'a> {
    fn part(self, key: &str) -> Option<Node<'a>> {
        self.schema.get(key).map(|schema| Node { schema, root: self.root })
    }

    fn parts(self, key: &str) -> Vec<Node<'a>> {
        let list = self.schema.get(key).and_then(Value::as_array);
        list.into_iter().flatten().map(|schema| Node { schema, root: self.root }).collect()
    }

    fn doc(self) -> Option<&'a str> {
        self.schema.get("description").and_then(Value::as_str)
    }

    /// The types that it allows, null apart.
    fn types(self) -> Vec<&'a str> {
        let types: Vec<&str> = match self.schema.get("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ => {
                let values = self.schema.get("enum").and_then(Value::as_array).map(|values| values.iter().collect::<Vec<_>>());
                let values = values.or_else(|| self.schema.get("const").map(|value| vec![value]));
                values.into_iter().flatten().map(type_of_value).collect()
            }
        };
        let mut found: Vec<&str> = Vec::new();
        for type_ in types {
            if type_ != "null" && !found.contains(&type_) {
                found.push(type_);
            }
        }
        found
    }
}

fn type_of_value(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

impl<'a> Walk<'a> {
    /// What a reference names; `None` if it is not at hand.
    fn resolve(&self, node: Node<'a>) -> Option<Node<'a>> {
        let reference = node.schema.get("$ref")?.as_str()?;
        let (document, pointer) = reference.split_once('#').unwrap_or((reference, ""));
        let root = if document.is_empty() { node.root } else { self.others.get(document)? };
        let pointer = pointer.replace("%25", "%").replace("%24", "$");
        root.pointer(&pointer).map(|schema| Node { schema, root })
    }

    /// The fields of the objects that it describes, also of those that it is put together of.
    fn members(&self, node: Node<'a>, nested: usize) -> Vec<(&'a str, Node<'a>)> {
        if nested > MOST_NESTED {
            return Vec::new();
        }
        let mut all: Vec<(&str, Node<'_>)> = Vec::new();
        let own = node.schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let own: Vec<_> = own.map(|(name, schema)| (name.as_str(), Node { schema, root: node.root })).collect();
        let referred = self.resolve(node).map(|node| self.members(node, nested + 1)).unwrap_or_default();
        let joined = node.parts("allOf").into_iter().flat_map(|part| self.members(part, nested + 1));
        for (name, member) in own.into_iter().chain(referred).chain(joined) {
            if !all.iter().any(|(known, _)| *known == name) {
                all.push((name, member));
            }
        }
        all
    }

    fn column(&mut self, node: Node<'a>, depth: usize) -> Option<(Type, Mode)> {
        let json = Some((Type::Json, Mode::Nullable));
        let at = std::ptr::from_ref(node.schema);
        if self.within.contains(&at) || self.within.len() > 2 * MOST_NESTED {
            return json;
        }
        self.within.push(at);
        let column = self.described(node, depth);
        self.within.pop();
        column
    }

    fn described(&mut self, node: Node<'a>, depth: usize) -> Option<(Type, Mode)> {
        let json = Some((Type::Json, Mode::Nullable));
        let members = self.members(node, 0);
        if !members.is_empty() {
            if depth >= MAX_DEPTH {
                return json;
            }
            let mut fields = Fields::default();
            for (name, member) in members {
                if let Some(column) = self.column(member, depth + 1) {
                    fields.add(name, column, member.doc());
                }
            }
            return fields.into_struct();
        }
        if node.schema.get("$ref").is_some() {
            return match self.resolve(node) {
                Some(node) => self.column(node, depth),
                None => json,
            };
        }
        for key in ["oneOf", "anyOf", "allOf"] {
            let choices = node.parts(key);
            if !choices.is_empty() {
                let choices = choices.into_iter().filter(|choice| choice.schema["type"] != "null");
                return any_of(choices.filter_map(|choice| self.column(choice, depth)).collect());
            }
        }
        let only_null = node.schema.get("type").is_some_and(|type_| type_ == "null");
        let types = node.types();
        match types.len() {
            0 if only_null => None,
            0 => json,
            _ => any_of(types.iter().filter_map(|type_| self.of_type(node, type_, depth)).collect()),
        }
    }

    fn of_type(&mut self, node: Node<'a>, type_: &str, depth: usize) -> Option<(Type, Mode)> {
        let text = |key: &str| node.schema.get(key).and_then(Value::as_str);
        let type_ = match type_ {
            "string" => match (text("format"), text("contentEncoding")) {
                (Some("date-time"), _) => Type::Timestamp,
                (Some("date"), _) => Type::Date,
                (_, Some("base64")) => Type::Bytes,
                _ => Type::String,
            },
            "integer" => Type::Int64,
            "number" => Type::Float64,
            "boolean" => Type::Bool,
            "array" => match node.part("items").filter(|items| items.schema.is_object()) {
                Some(items) => return array(self.column(items, depth)),
                None => Type::Json,
            },
            // An object without known fields is a dictionary.
            _ => Type::Json,
        };
        Some((type_, Mode::Nullable))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn columns(schema: Value, references: &[(&str, Value)]) -> Vec<String> {
        let references: Vec<_> = references.iter().map(|(name, schema)| ((*name).to_owned(), schema.to_string())).collect();
        let schema = Schema::parse(&schema.to_string(), &references).expect("a schema");
        schema.columns().fields.iter().map(|field| format!("{} {field}", field.name)).collect()
    }

    #[test]
    fn every_kind_of_schema_tells_its_column() {
        let schema = json!({"type": "object", "properties": {
            "s": {"type": "string"}, "i": {"type": "integer"}, "n": {"type": "number"}, "b": {"type": ["boolean", "null"]},
            "at": {"type": "string", "format": "date-time"}, "day": {"type": "string", "format": "date"},
            "raw": {"type": "string", "contentEncoding": "base64"},
            "maybe": {"oneOf": [{"type": "null"}, {"type": "integer"}]},
            "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            "mixed": {"oneOf": [{"type": "string"}, {"type": "object", "properties": {"x": {"type": "string"}}}]},
            "color": {"enum": ["red", "green", null]}, "kind": {"const": 7},
            "list": {"type": "array", "items": {"type": "integer"}},
            "matrix": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
            "tuple": {"type": "array", "items": [{"type": "integer"}]},
            "inner": {"type": "object", "properties": {"a-b": {"type": "string"}}},
            "dictionary": {"type": "object", "additionalProperties": {"type": "string"}},
            "anything": {}, "all": true, "nothing": {"type": "null"}, "empty": {"type": "object", "properties": {}},
        }});
        let expected = [
            "s STRING",
            "i INT64",
            "n FLOAT64",
            "b BOOL",
            "at TIMESTAMP",
            "day DATE",
            "raw BYTES",
            "maybe INT64",
            "either STRING",
            "mixed JSON",
            "color STRING",
            "kind INT64",
            "list ARRAY<INT64>",
            "matrix JSON",
            "tuple JSON",
            "inner STRUCT<a_b STRING>",
            "dictionary JSON",
            "anything JSON",
            "all JSON",
            "empty JSON",
        ];
        assert_eq!(columns(schema, &[]), expected);
    }

    #[test]
    fn references_are_followed_within_and_to_other_documents_and_never_for_ever() {
        let schema = json!({
            "allOf": [{"$ref": "base.json"}, {"properties": {"tree": {"$ref": "#/definitions/node"}}}],
            "properties": {"id": {"type": "integer"}, "lost": {"$ref": "nowhere.json"}, "self": {"$ref": "#"}},
            "definitions": {"node": {"type": "object", "properties": {
                "label": {"type": "string"}, "next": {"$ref": "#/definitions/node"},
                "many": {"type": "array", "items": {"$ref": "#/definitions/node"}},
            }}},
        });
        let base = json!({"$id": "http://x/base.json", "properties": {"id": {"type": "string"}, "when": {"$ref": "#/$defs/time"}},
            "$defs": {"time": {"type": "string", "format": "date-time"}}});
        let found = columns(schema, &[("base.json", base)]);
        assert_eq!(found[..2], ["id INT64", "lost JSON"]);
        assert!(found.contains(&"when TIMESTAMP".to_owned()), "{found:?}");
        assert!(found.iter().any(|column| column.starts_with("tree STRUCT<label STRING, next ")), "{found:?}");
        assert_eq!(columns(json!({"allOf": [{"$ref": "#"}]}), &[]), [""; 0]);
    }
}
