//! Statements that define tables: what they say, and what they do.

use longshore_core::schema::{Field, Mode, Type};

use super::http::ApiError;
use super::state::Table;
use super::tokens::{Tokens, syntax};

/// One change of ALTER TABLE.
pub(crate) enum Change {
    Add { field: Field, if_not_exists: bool },
    SetType { name: String, field: Field },
    DropNotNull { name: String },
    Nothing,
}

/// Reads one change of ALTER TABLE.
pub(crate) fn change(tokens: &mut Tokens<'_>) -> Result<Change, ApiError> {
    if tokens.words("ADD COLUMN") {
        let if_not_exists = tokens.words("IF NOT EXISTS");
        let name = tokens.name()?;
        return Ok(Change::Add { field: tokens.column_type(&name)?, if_not_exists });
    }
    if tokens.words("ALTER COLUMN") {
        tokens.words("IF EXISTS");
        let name = tokens.name()?;
        if tokens.words("SET DATA TYPE") {
            return Ok(Change::SetType { field: tokens.column_type(&name)?, name });
        }
        if tokens.words("DROP NOT NULL") {
            return Ok(Change::DropNotNull { name });
        }
        if tokens.words("SET OPTIONS") && tokens.group().is_some() {
            return Ok(Change::Nothing);
        }
    }
    if tokens.words("SET OPTIONS") && tokens.group().is_some() {
        return Ok(Change::Nothing);
    }
    Err(syntax(&format!("the fake does not know this change: {}", tokens.rest())))
}

/// Does one change of ALTER TABLE.
pub(crate) fn alter(table: &mut Table, change: &Change) -> Result<(), ApiError> {
    let mut schema = table.schema.clone();
    let place = |name: &str| {
        let found = schema.fields.iter().position(|field| field.name.eq_ignore_ascii_case(name));
        found.ok_or_else(|| ApiError::invalid_query(format!("Column not found: {name}")))
    };
    match change {
        Change::Nothing => return Ok(()),
        Change::Add { field, if_not_exists } => {
            if schema.field(&field.name).is_some() {
                let why = format!("Column already exists: {}", field.name);
                return if *if_not_exists { Ok(()) } else { Err(ApiError::invalid_query(why)) };
            }
            if field.mode == Mode::Required {
                let why = format!("Cannot add required fields to an existing schema. (field: {})", field.name);
                return Err(ApiError::invalid_query(why));
            }
            schema.fields.push(field.clone());
        }
        Change::DropNotNull { name } => {
            let at = place(name)?;
            if schema.fields[at].mode == Mode::Required {
                schema.fields[at].mode = Mode::Nullable;
            }
        }
        Change::SetType { name, field } => {
            let at = place(name)?;
            let old = schema.fields[at].clone();
            if !widens(&old.type_, &field.type_) {
                let (old, new) = (old.type_.name(), field.type_.name());
                let why = format!(
                    "ALTER TABLE ALTER COLUMN SET DATA TYPE requires that the existing column type ({old}) is assignable to the new type ({new})"
                );
                return Err(ApiError::invalid_query(why));
            }
            let new = &mut schema.fields[at];
            new.type_ = field.type_.clone();
            new.options.retain(|key, _| !["maxLength", "precision", "scale"].contains(&key.as_str()));
            new.options.extend(field.options.clone());
        }
    }
    table.set_schema(schema);
    Ok(())
}

/// Whether values of one type are taken by a column of the other:
/// <https://cloud.google.com/bigquery/docs/reference/standard-sql/conversion_rules>.
pub(crate) fn widens(old: &Type, new: &Type) -> bool {
    matches!(
        (old, new),
        (Type::Int64, Type::Numeric | Type::BigNumeric | Type::Float64) | (Type::Numeric, Type::BigNumeric | Type::Float64)
    ) || old == new
}
