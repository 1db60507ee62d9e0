//! From facts to columns.

use std::collections::BTreeMap;

use longshore_core::error::{Error, Kind, Result, code};
use longshore_core::names::{Unique, column_name};
use longshore_core::schema::{Field, MAX_DEPTH, Mode, TableSchema, Type};

use super::{Node, Shape};
use crate::config::{FilesConfig, Infer};
use crate::values::kind;

/// The most columns that a table may have, nested ones included: BigQuery's limit.
pub const MAX_COLUMNS: usize = 10_000;
/// The field of a STRUCT that holds the text beside an element's attributes or children.
pub const TEXT_FIELD: &str = "_text";

/// What is settled about a table's columns before anything is looked at.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Its columns, as far as a schema gives them. They come first, as they are.
    pub given: TableSchema,
    /// Types of single columns by path, a dot before each nested field.
    pub types: BTreeMap<String, (Type, Mode)>,
    /// Whether other types are found from the content; if not, every scalar is STRING.
    pub infer: Infer,
}

impl Overrides {
    /// What the settings say about one table. A key of `types` may begin with the table's name. Fails with
    /// `schema_invalid` for a type that is none.
    pub fn for_table(config: &FilesConfig, table: &str) -> Result<Self> {
        let mut types = BTreeMap::new();
        for (key, name) in &config.types {
            let type_ = parse_type(name).map_err(|e| e.with("column", key))?;
            types.insert(key.to_lowercase(), type_.clone());
            let of_table = key.split_once('.').filter(|(first, _)| first.eq_ignore_ascii_case(table));
            if let Some((_, path)) = of_table {
                types.insert(path.to_lowercase(), type_);
            }
        }
        let given = config.schema.get(table).or_else(|| config.schema.get("*")).cloned().unwrap_or_default();
        Ok(Self { given, types, infer: config.infer })
    }
}

/// `INT64`, `ARRAY<INT64>`, `STRING NOT NULL`.
fn parse_type(text: &str) -> Result<(Type, Mode)> {
    let upper = text.trim().to_ascii_uppercase();
    let (name, mode) = if let Some(inner) = upper.strip_prefix("ARRAY<").and_then(|rest| rest.strip_suffix('>')) {
        (inner, Mode::Repeated)
    } else if let Some(inner) = upper.strip_suffix("NOT NULL") {
        (inner, Mode::Required)
    } else {
        (upper.as_str(), Mode::Nullable)
    };
    match name.parse()? {
        Type::Struct(_) => {
            Err(Error::new(Kind::Config, code::SCHEMA_INVALID, format!("a column's type cannot be set to {text}"))
                .hint("set the types of its fields, as in --type COLUMN.FIELD=INT64, or give a whole schema with --schema"))
        }
        type_ => Ok((type_, mode)),
    }
}

impl Shape {
    /// The columns that hold every value seen: those of the given schema as they are, then the others in the order in which
    /// they were first seen. Fails with `too_many_columns`.
    pub fn resolve(&self, overrides: &Overrides) -> Result<TableSchema> {
        let mut resolver = Resolver { overrides, columns: 0 };
        let fields = resolver.fields(&self.record, &overrides.given.fields, "", 1);
        if self.overflow || self.record.dictionary || resolver.columns > MAX_COLUMNS {
            let what = format!("the records have more than {MAX_COLUMNS} different columns");
            return Err(Error::new(Kind::Source, crate::error::TOO_MANY_COLUMNS, what)
                .hint("if keys are data, load the object that holds them as one column with --type COLUMN=JSON"));
        }
        Ok(TableSchema::new(fields))
    }
}

struct Resolver<'a> {
    overrides: &'a Overrides,
    columns: usize,
}

impl Resolver<'_> {
    fn fields(&mut self, node: &Node, given: &[Field], path: &str, depth: usize) -> Vec<Field> {
        let mut unique = Unique::default();
        for field in given {
            unique.take(&field.name);
        }
        let given_nodes = match_given(node, given);
        let mut fields: Vec<Field> = given
            .iter()
            .zip(&given_nodes)
            .map(|(field, &at)| self.with_extras(field, at.map(|at| &node.fields[at].1), path, depth))
            .collect();
        for (at, (key, field)) in node.fields.iter().enumerate() {
            if given_nodes.contains(&Some(at)) {
                continue;
            }
            let mut name = column_name(key);
            let found = match self.override_of(&join(path, key)) {
                Some(set) => Some(set),
                None => self.column(field, &join(path, &name), depth),
            };
            // A name is taken only by a column that exists.
            if let Some((type_, mode)) = found {
                name = unique.take(&name);
                fields.push(self.named(name, key, type_, mode));
            }
        }
        let text = self.text_beside_objects(node).filter(|_| given.iter().all(|field| field.name != TEXT_FIELD));
        if let Some((type_, mode)) = text {
            let name = unique.take(TEXT_FIELD);
            fields.push(self.named(name, TEXT_FIELD, type_, mode));
        }
        fields
    }

    fn named(&mut self, name: String, key: &str, type_: Type, mode: Mode) -> Field {
        self.columns += 1;
        let mut field = Field::new(name, type_).with_mode(mode);
        field.original_name = (field.name != key).then(|| key.to_owned());
        field
    }

    /// A column of the given schema, with the fields that its STRUCT lacks.
    fn with_extras(&mut self, field: &Field, node: Option<&Node>, path: &str, depth: usize) -> Field {
        self.columns += 1;
        let mut field = field.clone();
        if let (Type::Struct(children), Some(node)) = (&mut field.type_, node) {
            let objects = objects_of(node);
            let path = join(path, &field.name);
            *children = match &objects {
                Some(objects) => self.fields(objects, children, &path, depth + 1),
                None => std::mem::take(children),
            };
        }
        field
    }

    /// Open text where other records have objects, unless their field for it exists already.
    fn text_beside_objects(&self, node: &Node) -> Option<(Type, Mode)> {
        if node.kinds & kind::SCALAR == 0 || node.kinds & kind::TYPED != 0 || node.fields.iter().any(|(k, _)| &**k == TEXT_FIELD)
        {
            return None;
        }
        Some((self.scalar(node.kinds)?, Mode::Nullable))
    }

    /// The type of a path; `None` if nothing tells it yet.
    fn column(&mut self, node: &Node, path: &str, depth: usize) -> Option<(Type, Mode)> {
        if let Some(set) = self.override_of(path) {
            return Some(set);
        }
        if node.kinds & (kind::ARRAY | kind::OBJECT) == 0 {
            return Some((self.scalar(node.kinds)?, Mode::Nullable));
        }
        let json = Some((Type::Json, Mode::Nullable));
        let mut joined = None;
        let values = match &node.element {
            None => node,
            Some(element) if element.kinds & kind::ARRAY != 0 => return json,
            Some(element) => joined.insert(join_with_elements(node, element)),
        };
        let mode = if node.kinds & kind::ARRAY != 0 { Mode::Repeated } else { Mode::Nullable };
        if values.kinds & kind::OBJECT == 0 {
            // Empty texts beside an array say nothing about what it holds, unless it holds such texts itself.
            let only_outside = node.element.as_ref().is_some_and(|e| e.kinds & (kind::SCALAR | kind::EMPTY) == 0);
            if only_outside && values.kinds & kind::SCALAR == 0 {
                return None;
            }
            return Some((self.scalar(values.kinds)?, mode));
        }
        let typed_scalars = values.kinds & kind::SCALAR != 0 && values.kinds & kind::TYPED != 0;
        if typed_scalars || values.dictionary || depth >= MAX_DEPTH {
            return json;
        }
        let fields = match self.text_into_field(values) {
            Some(with_text) => self.fields(&with_text, &[], path, depth + 1),
            None => self.fields(values, &[], path, depth + 1),
        };
        if fields.is_empty() { None } else { Some((Type::Struct(fields), mode)) }
    }

    /// Moves open text beside objects into their field for text, where they have one.
    fn text_into_field(&self, node: &Node) -> Option<Node> {
        let texts = node.kinds & kind::SCALAR;
        let at = node.fields.iter().position(|(key, _)| &**key == TEXT_FIELD)?;
        if texts == 0 {
            return None;
        }
        let mut node = node.clone();
        node.fields[at].1.kinds |= texts;
        Some(node)
    }

    fn override_of(&self, path: &str) -> Option<(Type, Mode)> {
        if self.overrides.types.is_empty() {
            return None;
        }
        self.overrides.types.get(&path.to_lowercase()).cloned()
    }

    fn scalar(&self, kinds: u32) -> Option<Type> {
        match (scalar_type(kinds)?, self.overrides.infer) {
            (type_, Infer::On) => Some(type_),
            (_, Infer::Off) => Some(Type::String),
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Which field of the node each given column describes.
fn match_given(node: &Node, given: &[Field]) -> Vec<Option<usize>> {
    if given.is_empty() {
        return Vec::new();
    }
    let lookup = crate::columns::Lookup::new(given);
    let mut found = vec![None; given.len()];
    for (at, (key, _)) in node.fields.iter().enumerate() {
        if let Some(column) = lookup.find(key) {
            found[column].get_or_insert(at);
        }
    }
    found
}

/// What is known of the objects at a path, be they alone or in arrays.
fn objects_of(node: &Node) -> Option<Node> {
    match &node.element {
        _ if node.dictionary => None,
        None => (node.kinds & kind::OBJECT != 0).then(|| node.clone()),
        Some(element) => Some(join_with_elements(node, element)).filter(|n| n.kinds & kind::OBJECT != 0 && !n.dictionary),
    }
}

/// A value that stands alone in one record and in an array in another is the same thing.
fn join_with_elements(node: &Node, element: &Node) -> Node {
    let mut joined = Node {
        kinds: node.kinds & !kind::ARRAY,
        fields: node.fields.clone(),
        index: node.index.clone(),
        element: None,
        dictionary: node.dictionary,
    };
    joined.merge(element.clone(), &mut 0);
    joined
}

/// The type that holds every scalar of these kinds without changing one; `None` if there is none to be held.
pub(super) fn scalar_type(kinds: u32) -> Option<Type> {
    let scalars = kinds & kind::SCALAR;
    let within = |allowed: u32| scalars & !allowed == 0;
    if scalars == 0 {
        return (kinds & kind::EMPTY != 0).then_some(Type::String);
    }
    let integers = kind::INT_SMALL | kind::INT;
    Some(if within(kind::BOOL) {
        Type::Bool
    } else if within(integers) {
        Type::Int64
    } else if within(integers | kind::NUMERIC) {
        Type::Numeric
    } else if within(integers | kind::NUMERIC | kind::BIGNUMERIC) {
        Type::BigNumeric
    } else if within(kind::INT_SMALL | kind::FLOAT) {
        Type::Float64
    } else if within(kind::DATE) {
        Type::Date
    } else if within(kind::DATE | kind::DATETIME) {
        Type::DateTime
    } else if within(kind::TIME) {
        Type::Time
    } else if within(kind::TIMESTAMP) {
        Type::Timestamp
    } else if within(kind::BYTES) {
        Type::Bytes
    } else {
        Type::String
    })
}
