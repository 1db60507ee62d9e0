//! Avro schemas: their JSON, resolved into nodes that name one another by number.
//!
//! Source: <https://avro.apache.org/docs/1.12.0/specification/>

use std::collections::HashMap;

use serde_json::{Map, Value};

/// Nesting of a schema's own text.
const MOST_NESTED: usize = 100;

/// A schema. Its records are written by it and read by it: nothing is resolved, so that nothing changes.
#[derive(Debug)]
pub(crate) struct Schema {
    pub nodes: Vec<Node>,
    pub root: usize,
    /// The names of fields and symbols, and `key` and `value`, as they go onto a tape.
    pub names: Vec<String>,
}

/// A type. Numbers are those of other nodes, or of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    /// A day.
    Date,
    /// A time of day; units in a second.
    Time {
        long: bool,
        units: i64,
    },
    /// A moment; units in a second, and whether it is a point in time or a clock's.
    Moment {
        units: i64,
        utc: bool,
    },
    /// A decimal in so many bytes, or in bytes of any number.
    Decimal {
        size: Option<usize>,
        precision: u64,
        scale: u64,
    },
    /// A UUID in 16 bytes.
    Uuid,
    /// Months, days and milliseconds.
    Duration,
    Enum(Vec<usize>),
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Record(Vec<Field>),
    /// A name that is declared and not yet defined.
    Declared,
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub name: usize,
    pub node: usize,
    pub doc: Option<String>,
}

/// Number of the name `key`.
pub(crate) const KEY: usize = 0;
/// Number of the name `value`.
pub(crate) const VALUE: usize = 1;

impl Schema {
    /// Reads a schema, behind those that it refers to. The error says what is wrong with it.
    pub fn parse(text: &str, references: &[(String, String)]) -> Result<Self, String> {
        let mut parser = Parser { nodes: Vec::new(), names: vec!["key".to_owned(), "value".to_owned()], types: HashMap::new() };
        for (name, text) in references {
            parser.text(text).map_err(|why| format!("in {name}, which it refers to, {why}"))?;
        }
        let root = parser.text(text)?;
        Ok(Self { nodes: parser.nodes, root, names: parser.names })
    }

    /// A name.
    pub fn name(&self, number: usize) -> &str {
        &self.names[number]
    }
}

struct Parser {
    nodes: Vec<Node>,
    names: Vec<String>,
    /// Types by their full names.
    types: HashMap<String, usize>,
}

impl Parser {
    fn text(&mut self, text: &str) -> Result<usize, String> {
        let value: Value = serde_json::from_str(text).map_err(|e| format!("it is no JSON: {e}"))?;
        self.node(&value, "", 0)
    }

    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn name(&mut self, name: &str) -> usize {
        self.names.push(name.to_owned());
        self.names.len() - 1
    }

    fn node(&mut self, value: &Value, namespace: &str, depth: usize) -> Result<usize, String> {
        if depth > MOST_NESTED {
            return Err(format!("it is nested more than {MOST_NESTED} deep"));
        }
        match value {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.node(branch, namespace, depth + 1));
                let branches = branches.collect::<Result<Vec<_>, _>>()?;
                Ok(self.add(Node::Union(branches)))
            }
            Value::Object(object) => self.object(object, namespace, depth),
            other => Err(format!("{other} is no type")),
        }
    }

    /// A type that is named: one of Avro's own or one that was defined before.
    fn named(&mut self, name: &str, namespace: &str) -> Result<usize, String> {
        if let Some(node) = primitive(name) {
            return Ok(self.add(node));
        }
        let full = if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") };
        let found = self.types.get(&full).or_else(|| self.types.get(name)).copied();
        found.ok_or_else(|| format!("the type {full} is not defined"))
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str, depth: usize) -> Result<usize, String> {
        let type_ = match object.get("type") {
            Some(Value::String(type_)) => type_.as_str(),
            // A type around a type says nothing more.
            Some(inner @ (Value::Object(_) | Value::Array(_))) => return self.node(inner, namespace, depth + 1),
            _ => return Err("a type has no `type`".to_owned()),
        };
        let inner = |key: &str| object.get(key).ok_or_else(|| format!("the type {type_} has no `{key}`"));
        match type_ {
            "array" => {
                let items = self.node(inner("items")?, namespace, depth + 1)?;
                Ok(self.add(Node::Array(items)))
            }
            "map" => {
                let values = self.node(inner("values")?, namespace, depth + 1)?;
                Ok(self.add(Node::Map(values)))
            }
            "record" | "error" => {
                let (node, namespace) = self.define(object, namespace)?;
                let Value::Array(fields) = inner("fields")? else { return Err("`fields` is not a list".to_owned()) };
                let fields = fields.iter().map(|field| self.field(field, &namespace, depth)).collect::<Result<Vec<_>, _>>()?;
                self.nodes[node] = Node::Record(fields);
                Ok(node)
            }
            "enum" => {
                let (node, _) = self.define(object, namespace)?;
                let Value::Array(symbols) = inner("symbols")? else { return Err("`symbols` is not a list".to_owned()) };
                let symbols = symbols.iter().map(|symbol| Some(self.name(symbol.as_str()?))).collect::<Option<Vec<_>>>();
                self.nodes[node] = Node::Enum(symbols.ok_or("a symbol is not a text")?);
                Ok(node)
            }
            "fixed" => {
                let (node, _) = self.define(object, namespace)?;
                let size = inner("size")?.as_u64().and_then(|size| usize::try_from(size).ok()).ok_or("`size` is not a number")?;
                self.nodes[node] = logical(object, Node::Fixed(size));
                Ok(node)
            }
            name => match primitive(name) {
                Some(node) => Ok(self.add(logical(object, node))),
                None => self.named(name, namespace),
            },
        }
    }

    fn field(&mut self, field: &Value, namespace: &str, depth: usize) -> Result<Field, String> {
        let name = field["name"].as_str().ok_or("a field has no `name`")?;
        let type_ = field.get("type").ok_or_else(|| format!("the field {name} has no `type`"))?;
        let node = self.node(type_, namespace, depth + 1)?;
        let doc = field["doc"].as_str().filter(|doc| !doc.is_empty()).map(str::to_owned);
        Ok(Field { name: self.name(name), node, doc })
    }

    /// Makes room for a type with a name, so that it can name itself; returns the namespace inside of it.
    fn define(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<(usize, String), String> {
        let name = object.get("name").and_then(Value::as_str).ok_or("a type has no `name`")?;
        let full = match object.get("namespace").and_then(Value::as_str) {
            _ if name.contains('.') => name.to_owned(),
            Some("") => name.to_owned(),
            Some(own) => format!("{own}.{name}"),
            None if namespace.is_empty() => name.to_owned(),
            None => format!("{namespace}.{name}"),
        };
        let inside = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        let node = self.add(Node::Declared);
        self.types.insert(full, node);
        Ok((node, inside))
    }
}

fn primitive(name: &str) -> Option<Node> {
    Some(match name {
        "null" => Node::Null,
        "boolean" => Node::Boolean,
        "int" => Node::Int,
        "long" => Node::Long,
        "float" => Node::Float,
        "double" => Node::Double,
        "bytes" => Node::Bytes,
        "string" => Node::String,
        _ => return None,
    })
}

/// What a logical type makes of a type; one that is unknown or does not go with it counts for nothing, as Avro wants it.
fn logical(object: &Map<String, Value>, node: Node) -> Node {
    let number = |key: &str| object.get(key).and_then(Value::as_u64);
    let size = if let Node::Fixed(size) = node { Some(size) } else { None };
    match (object.get("logicalType").and_then(Value::as_str), &node) {
        (Some("date"), Node::Int) => Node::Date,
        (Some("time-millis"), Node::Int) => Node::Time { long: false, units: 1_000 },
        (Some("time-micros"), Node::Long) => Node::Time { long: true, units: 1_000_000 },
        (Some("timestamp-millis"), Node::Long) => Node::Moment { units: 1_000, utc: true },
        (Some("timestamp-micros"), Node::Long) => Node::Moment { units: 1_000_000, utc: true },
        (Some("timestamp-nanos"), Node::Long) => Node::Moment { units: 1_000_000_000, utc: true },
        (Some("local-timestamp-millis"), Node::Long) => Node::Moment { units: 1_000, utc: false },
        (Some("local-timestamp-micros"), Node::Long) => Node::Moment { units: 1_000_000, utc: false },
        (Some("local-timestamp-nanos"), Node::Long) => Node::Moment { units: 1_000_000_000, utc: false },
        (Some("decimal"), Node::Bytes | Node::Fixed(_)) => match (number("precision"), number("scale").unwrap_or(0)) {
            (Some(precision), scale) if precision > 0 && scale <= precision => Node::Decimal { size, precision, scale },
            _ => node,
        },
        (Some("uuid"), Node::Fixed(16)) => Node::Uuid,
        (Some("duration"), Node::Fixed(12)) => Node::Duration,
        // A UUID in a string is the string.
        _ => node,
    }
}
