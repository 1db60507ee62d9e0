//! Columns from schemas: what all formats with schemas share.

use longshore_core::names::{Unique, column_name};
use longshore_core::schema::{Field, Mode, TableSchema, Type};

/// Fields that are put together one by one, under names that tables take.
#[derive(Default)]
pub(crate) struct Fields {
    unique: Unique,
    fields: Vec<Field>,
}

impl Fields {
    /// Adds a field by its name at the source.
    pub fn add(&mut self, name: &str, (type_, mode): (Type, Mode), doc: Option<&str>) {
        let mut field = Field::new(self.unique.take(&column_name(name)), type_).with_mode(mode);
        field.original_name = (field.name != name).then(|| name.to_owned());
        // The longest description that BigQuery takes.
        field.description = doc.map(|doc| doc.chars().take(1024).collect());
        self.fields.push(field);
    }

    pub fn done(self) -> Vec<Field> {
        self.fields
    }

    /// A STRUCT of these fields; nothing if there are none.
    pub fn into_struct(self) -> Option<(Type, Mode)> {
        if self.fields.is_empty() { None } else { Some((Type::Struct(self.fields), Mode::Nullable)) }
    }
}

/// An ARRAY of what is in it. ARRAYs of ARRAYs are JSON.
pub(crate) fn array(items: Option<(Type, Mode)>) -> Option<(Type, Mode)> {
    Some(match items? {
        (_, Mode::Repeated) => (Type::Json, Mode::Nullable),
        (type_, _) => (type_, Mode::Repeated),
    })
}

/// A map: `ARRAY<STRUCT<key, value>>`.
pub(crate) fn map(key: Type, value: Option<(Type, Mode)>) -> Option<(Type, Mode)> {
    let mut fields = Fields::default();
    fields.add("key", (key, Mode::Nullable), None);
    if let Some(value) = value {
        fields.add("value", value, None);
    }
    Some((Type::Struct(fields.done()), Mode::Repeated))
}

/// What holds a value of any of these: the one type if they are alike, STRING for scalars, else JSON.
pub(crate) fn any_of(mut branches: Vec<(Type, Mode)>) -> Option<(Type, Mode)> {
    branches.dedup();
    let first = branches.pop()?;
    if branches.is_empty() {
        return Some(first);
    }
    branches.push(first);
    let within = |types: &[Type]| branches.iter().all(|(type_, mode)| *mode != Mode::Repeated && types.contains(type_));
    let as_text =
        |(type_, mode): &(Type, Mode)| *mode != Mode::Repeated && !matches!(type_, Type::Struct(_) | Type::Json | Type::Bytes);
    Some(if within(&[Type::Int64, Type::Numeric]) {
        (Type::Numeric, Mode::Nullable)
    } else if within(&[Type::Int64, Type::Numeric, Type::BigNumeric]) {
        (Type::BigNumeric, Mode::Nullable)
    } else if branches.iter().all(as_text) {
        (Type::String, Mode::Nullable)
    } else {
        (Type::Json, Mode::Nullable)
    })
}

/// A decimal of so many digits.
pub(crate) fn decimal(precision: u64, scale: u64) -> Type {
    match (precision.saturating_sub(scale), scale) {
        (..=29, ..=9) => Type::Numeric,
        (..=38, ..=38) => Type::BigNumeric,
        _ => Type::String,
    }
}

/// The columns of several schemas: those of the first, then what the others have beside them.
pub(crate) fn merged(schemas: impl IntoIterator<Item = TableSchema>) -> TableSchema {
    let mut all = TableSchema::default();
    for schema in schemas {
        let new: Vec<Field> = schema.fields.into_iter().filter(|field| all.field(&field.name).is_none()).collect();
        all.fields.extend(new);
    }
    all
}
