//! Statements that define tables: CREATE, DROP and ALTER.
//!
//! Source: <https://cloud.google.com/bigquery/docs/reference/standard-sql/data-definition-language>

use longshore_core::schema::{Field, Mode, TableSchema, Type};
use serde_json::{Map, Value, json};

use super::cell;
use super::http::ApiError;
use super::jobs::QueryResult;
use super::options::{self, Given};
use super::sql::Place;
use super::state::{State, Table};
use super::tokens::{Path, Tokens, syntax};

/// `CREATE TABLE name (columns) ...`.
pub(crate) struct Create {
    pub(crate) table: Path,
    if_not_exists: bool,
    fields: Vec<Field>,
    key: Vec<String>,
    partitioning: Option<Value>,
    clustering: Vec<String>,
    options: Vec<Given>,
}

/// `DROP TABLE name`.
pub(crate) struct Drop {
    pub(crate) table: Path,
    if_exists: bool,
}

/// `ALTER TABLE name change, ...`.
pub(crate) struct Alter {
    pub(crate) table: Path,
    if_exists: bool,
    changes: Vec<Change>,
}

enum Change {
    Add { field: Field, if_not_exists: bool },
    Column { name: String, if_exists: bool, change: ColumnChange },
    SetOptions(Vec<Given>),
}

enum ColumnChange {
    SetType(Field),
    DropNotNull,
    SetOptions(Vec<Given>),
}

impl Create {
    /// Reads what stands after CREATE TABLE.
    pub(crate) fn parse(tokens: &mut Tokens<'_>) -> Result<Self, ApiError> {
        let if_not_exists = tokens.words("IF NOT EXISTS");
        let table = tokens.path()?;
        let inside = tokens.group().ok_or_else(|| syntax("the fake makes tables of named columns only"))?;
        let (mut fields, mut key) = (Vec::new(), Vec::new());
        let mut items = Tokens::new(&inside)?;
        loop {
            if items.words("PRIMARY KEY") {
                key = Tokens::list(&items.group().unwrap_or_default())?.iter().map(|name| unquoted(name)).collect();
                if !items.words("NOT ENFORCED") {
                    return Err(ApiError::invalid_query("PRIMARY KEY is only supported as NOT ENFORCED"));
                }
            } else {
                let name = items.name()?;
                fields.push(items.column_type(&name)?);
            }
            if !items.symbol(',') {
                break;
            }
        }
        items.end()?;
        let partitioning = if tokens.words("PARTITION BY") { Some(partitioning(tokens, &fields)?) } else { None };
        let clustering = if tokens.words("CLUSTER BY") { names(tokens)? } else { Vec::new() };
        let options = if tokens.word("OPTIONS") { options::read(tokens)? } else { Vec::new() };
        tokens.end()?;
        Ok(Self { table, if_not_exists, fields, key, partitioning, clustering, options })
    }

    /// Makes the table.
    pub(crate) fn run(&self, state: &mut State, place: &Place) -> Result<QueryResult, ApiError> {
        let done = QueryResult { statement: "CREATE_TABLE", ..Default::default() };
        if self.if_not_exists && state.table(&place.project, &place.dataset, &place.table).is_ok() {
            return Ok(done);
        }
        let mut resource = Map::new();
        resource.insert("tableReference".into(), json!({"tableId": place.table}));
        resource.insert("schema".into(), json!({"fields": TableSchema::new(self.fields.clone()).to_json()}));
        if let Some(partitioning) = &self.partitioning {
            resource.insert("timePartitioning".into(), partitioning.clone());
        }
        if !self.clustering.is_empty() {
            resource.insert("clustering".into(), json!({"fields": self.clustering}));
        }
        if !self.key.is_empty() {
            resource.insert("tableConstraints".into(), json!({"primaryKey": {"columns": self.key}}));
        }
        options::set(&mut resource, &self.options)?;
        state.create_table(&place.project, &place.dataset, resource)?;
        Ok(done)
    }
}

fn unquoted(name: &str) -> String {
    name.trim_matches('`').to_owned()
}

fn names(tokens: &mut Tokens<'_>) -> Result<Vec<String>, ApiError> {
    let mut names = vec![tokens.name()?];
    while tokens.symbol(',') {
        names.push(tokens.name()?);
    }
    Ok(names)
}

/// What stands after PARTITION BY: a DATE column, or one cut to a unit of time.
fn partitioning(tokens: &mut Tokens<'_>, fields: &[Field]) -> Result<Value, ApiError> {
    let first = tokens.name()?;
    let Some(inside) = tokens.group() else {
        return match first.as_str() {
            "_PARTITIONDATE" => Ok(json!({"type": "DAY"})),
            column if fields.iter().any(|f| f.type_ == Type::Date && f.name.eq_ignore_ascii_case(column)) => {
                Ok(json!({"type": "DAY", "field": column}))
            }
            _ => Err(ApiError::invalid_query("PARTITION BY expression must be DATE(<timestamp_column>) or a DATE column")),
        };
    };
    let arguments = Tokens::list(&inside)?;
    let column = unquoted(arguments.first().map_or("", String::as_str));
    let unit = arguments.get(1).map_or_else(|| "DAY".to_owned(), |unit| unit.to_uppercase());
    let known = matches!(first.to_uppercase().as_str(), "DATE" | "TIMESTAMP_TRUNC" | "DATETIME_TRUNC" | "DATE_TRUNC");
    if !known || !["HOUR", "DAY", "MONTH", "YEAR"].contains(&unit.as_str()) {
        return Err(ApiError::invalid_query(format!("the fake does not partition by {first}({inside})")));
    }
    Ok(if column == "_PARTITIONTIME" { json!({"type": unit}) } else { json!({"type": unit, "field": column}) })
}

impl Drop {
    /// Reads what stands after DROP TABLE.
    pub(crate) fn parse(tokens: &mut Tokens<'_>) -> Result<Self, ApiError> {
        let if_exists = tokens.words("IF EXISTS");
        let table = tokens.path()?;
        tokens.end()?;
        Ok(Self { table, if_exists })
    }

    /// Takes the table away.
    pub(crate) fn run(&self, state: &mut State, place: &Place) -> Result<QueryResult, ApiError> {
        match state.table(&place.project, &place.dataset, &place.table) {
            Err(error) if !self.if_exists => return Err(error),
            _ => state.tables.remove(&format!("{}.{}", place.dataset, place.table)),
        };
        Ok(QueryResult { statement: "DROP_TABLE", ..Default::default() })
    }
}

impl Alter {
    /// Reads what stands after ALTER TABLE.
    pub(crate) fn parse(tokens: &mut Tokens<'_>) -> Result<Self, ApiError> {
        let if_exists = tokens.words("IF EXISTS");
        let table = tokens.path()?;
        let mut changes = vec![change(tokens)?];
        while tokens.symbol(',') {
            changes.push(change(tokens)?);
        }
        tokens.end()?;
        Ok(Self { table, if_exists, changes })
    }

    /// Makes all changes, or none.
    pub(crate) fn run(&self, state: &mut State, place: &Place) -> Result<QueryResult, ApiError> {
        let done = QueryResult { statement: "ALTER_TABLE", ..Default::default() };
        let table = match state.table_mut(&place.project, &place.dataset, &place.table) {
            Err(error) if error.status == 404 && self.if_exists => return Ok(done),
            found => found?,
        };
        // On a copy, so that a statement that fails changes nothing.
        let mut altered = table.clone();
        for change in &self.changes {
            alter(&mut altered, change)?;
        }
        *table = altered;
        Ok(done)
    }
}

fn change(tokens: &mut Tokens<'_>) -> Result<Change, ApiError> {
    if tokens.words("ADD COLUMN") {
        let if_not_exists = tokens.words("IF NOT EXISTS");
        let name = tokens.name()?;
        return Ok(Change::Add { field: tokens.column_type(&name)?, if_not_exists });
    }
    if tokens.words("SET OPTIONS") {
        return Ok(Change::SetOptions(options::read(tokens)?));
    }
    if !tokens.words("ALTER COLUMN") {
        return Err(syntax(&format!("the fake does not know this change: {}", tokens.rest())));
    }
    let if_exists = tokens.words("IF EXISTS");
    let name = tokens.name()?;
    let change = if tokens.words("SET DATA TYPE") {
        ColumnChange::SetType(tokens.column_type(&name)?)
    } else if tokens.words("DROP NOT NULL") {
        ColumnChange::DropNotNull
    } else if tokens.words("SET OPTIONS") {
        ColumnChange::SetOptions(options::read(tokens)?)
    } else {
        return Err(syntax(&format!("the fake does not know this change: {}", tokens.rest())));
    };
    Ok(Change::Column { name, if_exists, change })
}

fn alter(table: &mut Table, change: &Change) -> Result<(), ApiError> {
    let mut schema = table.schema.clone();
    match change {
        Change::SetOptions(given) => {
            options::set(&mut table.resource, given)?;
            table.version += 1;
        }
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
        Change::Column { name, if_exists, change } => {
            match schema.fields.iter_mut().find(|field| field.name.eq_ignore_ascii_case(name)) {
                Some(field) => alter_column(field, change)?,
                None if *if_exists => {}
                None => return Err(ApiError::invalid_query(format!("Column not found: {name}"))),
            }
        }
    }
    table.set_schema(schema);
    Ok(())
}

/// Changes a column. A column that is nullable already is an error to DROP NOT NULL:
/// <https://cloud.google.com/bigquery/docs/reference/standard-sql/data-definition-language#alter_column_drop_not_null_statement>.
fn alter_column(column: &mut Field, change: &ColumnChange) -> Result<(), ApiError> {
    match change {
        ColumnChange::SetOptions(given) => column.description = options::description(given)?,
        ColumnChange::DropNotNull if column.mode == Mode::Required => column.mode = Mode::Nullable,
        ColumnChange::DropNotNull => {
            let why = format!("Column {} does not have a NOT NULL constraint", column.name);
            return Err(ApiError::invalid_query(why));
        }
        ColumnChange::SetType(wanted) => {
            let repeated = |field: &Field| field.mode == Mode::Repeated;
            if repeated(column) != repeated(wanted) || !widens(&column.type_, &wanted.type_) || !holds(wanted, column) {
                let why = format!(
                    "ALTER TABLE ALTER COLUMN SET DATA TYPE requires that the existing column type ({}) is assignable to the \
                     new type ({})",
                    type_text(column),
                    type_text(wanted)
                );
                return Err(ApiError::invalid_query(why));
            }
            column.type_ = wanted.type_.clone();
            column.options.retain(|key, _| !PARAMETERS.contains(&key.as_str()));
            column.options.extend(wanted.options.clone());
        }
    }
    Ok(())
}

const PARAMETERS: [&str; 3] = ["maxLength", "precision", "scale"];

fn type_text(field: &Field) -> String {
    let parameters: Vec<String> =
        PARAMETERS.iter().filter_map(|name| cell::option(field, name)).map(|number| number.to_string()).collect();
    let name = field.type_.name();
    let text = if parameters.is_empty() { name.to_owned() } else { format!("{name}({})", parameters.join(", ")) };
    if field.mode == Mode::Repeated { format!("ARRAY<{text}>") } else { text }
}

/// Whether values of one type are taken by a column of the other:
/// <https://cloud.google.com/bigquery/docs/reference/standard-sql/data-definition-language#alter_column_set_data_type_statement>.
pub(crate) fn widens(old: &Type, new: &Type) -> bool {
    matches!(
        (old, new),
        (Type::Int64, Type::Numeric | Type::BigNumeric | Type::Float64) | (Type::Numeric, Type::BigNumeric | Type::Float64)
    ) || old == new
}

/// Whether the parameters of a column's type leave room for all values of another.
fn holds(wanted: &Field, old: &Field) -> bool {
    let length = match (cell::option(wanted, "maxLength"), cell::option(old, "maxLength")) {
        (Some(new), Some(old)) => new >= old,
        (Some(_), None) => false,
        (None, _) => true,
    };
    // Digits before and after the point.
    let digits = |field: &Field| {
        let scale = cell::option(field, "scale").unwrap_or(0);
        cell::option(field, "precision").map(|precision| (precision - scale, scale))
    };
    let whole = if old.type_ == Type::Int64 { Some((19, 0)) } else { digits(old) };
    let precision = match (digits(wanted), whole) {
        (Some(new), Some(old)) => new.0 >= old.0 && new.1 >= old.1,
        (Some(_), None) => false,
        (None, _) => true,
    };
    length && precision
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_expression_says_column_and_unit() {
        let fields = [Field::new("d", Type::Date), Field::new("at", Type::Timestamp)];
        let read = |text: &str| partitioning(&mut Tokens::new(text).expect("words"), &fields).ok();
        assert_eq!(read("d"), Some(json!({"type": "DAY", "field": "d"})));
        assert_eq!(read("TIMESTAMP_TRUNC(`at`, hour)"), Some(json!({"type": "HOUR", "field": "at"})));
        assert_eq!(read("DATE(at)"), Some(json!({"type": "DAY", "field": "at"})));
        assert_eq!(read("_PARTITIONDATE"), Some(json!({"type": "DAY"})));
        assert_eq!(read("at"), None);
        assert_eq!(read("TIMESTAMP_TRUNC(at, WEEK)"), None);
    }
}
