//! Load jobs: files of Cloud Storage into a table.

use longshore_core::schema::{Field, Mode, TableSchema, Type};
use serde_json::{Map, Value, json};

use super::cell::Row;
use super::copy::{Destination, disposition, write};
use super::http::ApiError;
use super::jobs::Ended;
use super::load_files::{self, File, Read, bad_file};
use super::partitions::specification;
use super::state::{State, Table};

/// Runs a load job. `refused` are rows, counted over all files, that are to be taken for bad ones.
pub(crate) fn run(state: &mut State, project: &str, configuration: &Value, refused: &[u64]) -> Ended {
    load(state, project, configuration, refused).unwrap_or_else(Ended::failed)
}

fn load(state: &mut State, project: &str, configuration: &Value, refused: &[u64]) -> Result<Ended, ApiError> {
    let to = Destination::of(project, &configuration["destinationTable"])?;
    let home = state.dataset(&to.project, &to.dataset)?.location.clone();
    let files = load_files::files(state, configuration, &home)?;
    let format = configuration["sourceFormat"].as_str().unwrap_or("CSV");
    let given = match configuration.get("schema").filter(|schema| schema.get("fields").is_some()) {
        Some(schema) => Some(TableSchema::from_json(schema).map_err(|e| ApiError::invalid(e.to_string()))?),
        None => None,
    };
    let existing = state.tables.get(&to.key()).cloned();
    let how = disposition(configuration, "WRITE_APPEND");
    if existing.is_none() && configuration["createDisposition"] == "CREATE_NEVER" {
        return Err(ApiError::not_found(format!("Not found: Table {}", to.shown())));
    }
    if let Some(table) = &existing {
        same_partitioning(table, configuration)?;
    }
    let own = if format == "PARQUET" { load_files::parquet_schema(&files, configuration)? } else { None };
    let schema = target_schema(configuration, existing.as_ref(), given.as_ref(), own.as_ref(), &how, &to)?;
    let read = load_files::rows(&files, format, &schema, configuration)?;
    let bytes: usize = files.iter().map(|file| file.bytes.len()).sum();
    let mut statistics = json!({"inputFiles": files.len().to_string(), "inputFileBytes": bytes.to_string()});
    let total = read.len();
    let (rows, errors) = sorted(read, &files, format, refused)?;
    statistics["badRecords"] = json!(errors.len().to_string());
    let allowed = &configuration["maxBadRecords"];
    let allowed = allowed.as_u64().or_else(|| allowed.as_str()?.parse().ok()).unwrap_or(0);
    if errors.len() as u64 > allowed {
        let errors = too_many(format, total, errors);
        return Ok(Ended { statistics: json!({"load": statistics}), errors, ..Ended::default() });
    }
    statistics["outputRows"] = json!(rows.len().to_string());
    statistics["outputBytes"] = json!((rows.len() * 8).to_string());
    store(state, &to, configuration, existing, schema, &how, rows)?;
    Ok(Ended { statistics: json!({"load": statistics}), warnings: errors, ..Ended::default() })
}

/// The good rows, and what is wrong with the others. A Parquet file has no bad rows: it is bad itself.
fn sorted(read: Vec<Read>, files: &[File], format: &str, refused: &[u64]) -> Result<(Vec<Row>, Vec<ApiError>), ApiError> {
    let (mut rows, mut errors) = (Vec::new(), Vec::new());
    for (number, Read { file, row }) in (0u64..).zip(read) {
        let file = &files[file];
        match row {
            _ if refused.contains(&number) => errors.push(bad_file(file, &format!("Refused by the test. Row: {number};"))),
            Ok(row) => rows.push(row),
            Err(why) if format == "PARQUET" => return Err(bad_file(file, &why)),
            Err(why) => errors.push(bad_file(file, &why)),
        }
    }
    Ok((rows, errors))
}

/// The errors of a job with more bad rows than it may have: what that comes to, then each of them.
fn too_many(format: &str, rows: usize, errors: Vec<ApiError>) -> Vec<ApiError> {
    let name = if format == "NEWLINE_DELIMITED_JSON" { "JSON" } else { format };
    let why = format!(
        "Error while reading data, error message: {name} table encountered too many errors, giving up. Rows: {rows}; errors: {}. \
         Please look into the errors[] collection for more details.",
        errors.len()
    );
    let location = errors.first().and_then(|first| first.location.clone()).unwrap_or_default();
    let mut all = vec![ApiError::invalid(why).at(location)];
    all.extend(errors);
    all
}

/// A job may say how the table is partitioned, but not otherwise than it is.
fn same_partitioning(table: &Table, configuration: &Value) -> Result<(), ApiError> {
    let Some(wanted) = configuration.get("timePartitioning").filter(|wanted| wanted.is_object()) else { return Ok(()) };
    let (found, wanted) = (specification(table.resource.get("timePartitioning")), specification(Some(wanted)));
    if found == wanted {
        return Ok(());
    }
    let why = format!(
        "Incompatible table partitioning specification. Expects partitioning specification {found}, but input partitioning \
         specification is {wanted}"
    );
    Err(ApiError::invalid(why))
}

/// The schema that the files' rows are read by, and that the table has afterwards.
fn target_schema(
    configuration: &Value,
    existing: Option<&Table>,
    given: Option<&TableSchema>,
    own: Option<&TableSchema>,
    how: &str,
    to: &Destination,
) -> Result<TableSchema, ApiError> {
    let whole = how == "WRITE_TRUNCATE" && to.partition.is_none();
    let fresh = || {
        let schema = given.or(own).cloned();
        schema.ok_or_else(|| ApiError::invalid(format!("No schema specified on job or table: {}", to.shown())))
    };
    let Some(table) = existing.filter(|table| !table.schema.fields.is_empty()) else { return fresh() };
    if whole && (given.is_some() || own.is_some()) {
        return fresh();
    }
    let option = |name: &str| {
        let options = configuration["schemaUpdateOptions"].as_array();
        options.is_some_and(|options| options.iter().any(|option| option == name))
    };
    let update = Update { add: option("ALLOW_FIELD_ADDITION"), relax: option("ALLOW_FIELD_RELAXATION"), types: given.is_some() };
    let Some(other) = given.or(own) else { return Ok(table.schema.clone()) };
    let ignore = given.is_none() && configuration["ignoreUnknownValues"].as_bool() == Some(true);
    let known = other.fields.iter().filter(|field| !ignore || table.schema.field(&field.name).is_some());
    let fields = update.fields(&table.schema.fields, &known.cloned().collect::<Vec<_>>(), "").map_err(|why| {
        let message = format!("Provided Schema does not match Table {}. {why}", to.shown());
        ApiError::invalid(message)
    })?;
    Ok(TableSchema::new(fields))
}

/// How a load may change a table's columns.
struct Update {
    add: bool,
    relax: bool,
    /// Whether types must be equal; a file's own are looked at when its values are read.
    types: bool,
}

impl Update {
    /// The table's columns after a load of these.
    fn fields(&self, table: &[Field], load: &[Field], path: &str) -> Result<Vec<Field>, String> {
        let mut fields = table.to_vec();
        for field in load {
            let here = format!("{path}{}", field.name);
            let Some(old) = fields.iter_mut().find(|old| old.name.eq_ignore_ascii_case(&field.name)) else {
                if !self.add {
                    return Err(format!("Cannot add fields (field: {here})"));
                }
                let mode = if field.mode == Mode::Required { Mode::Nullable } else { field.mode };
                fields.push(field.clone().with_mode(mode));
                continue;
            };
            if let (Type::Struct(inner), Type::Struct(new)) = (&old.type_, &field.type_) {
                old.type_ = Type::Struct(self.fields(inner, new, &format!("{here}."))?);
            } else if self.types && old.type_ != field.type_ {
                let (old, new) = (old.type_.name(), field.type_.name());
                return Err(format!("Field {here} has changed type from {old} to {new}"));
            }
            match (old.mode, field.mode) {
                (Mode::Required, Mode::Nullable) if self.relax => old.mode = Mode::Nullable,
                (Mode::Required, Mode::Nullable) => {
                    return Err(format!("Field {here} has changed mode from REQUIRED to NULLABLE"));
                }
                (Mode::Repeated, Mode::Repeated) | (Mode::Required | Mode::Nullable, Mode::Required | Mode::Nullable) => {}
                _ => return Err(format!("Field {here} has changed mode from or to REPEATED")),
            }
        }
        Ok(fields)
    }
}

fn store(
    state: &mut State,
    to: &Destination,
    configuration: &Value,
    existing: Option<Table>,
    schema: TableSchema,
    how: &str,
    rows: Vec<Row>,
) -> Result<(), ApiError> {
    if existing.is_none() {
        let mut resource = Map::new();
        for key in ["timePartitioning", "rangePartitioning", "clustering"] {
            if let Some(value) = configuration.get(key) {
                resource.insert(key.into(), value.clone());
            }
        }
        for (key, value) in configuration["destinationTableProperties"].as_object().into_iter().flatten() {
            resource.insert(key.clone(), value.clone());
        }
        resource.insert("tableReference".into(), json!({"tableId": to.table}));
        resource.insert("schema".into(), json!({"fields": schema.to_json()}));
        state.create_table(&to.project, &to.dataset, resource)?;
    }
    // On a copy of the table, so that a job that fails changes nothing.
    let created = existing.is_none();
    let mut table = match existing {
        Some(table) => table,
        None => state.table(&to.project, &to.dataset, &to.table)?.clone(),
    };
    if how.starts_with("WRITE_TRUNCATE") && to.partition.is_none() {
        table.rows.clear();
    }
    table.set_schema(schema);
    if let Err(error) = write(&mut table, to, how, rows) {
        if created {
            state.tables.remove(&to.key());
        }
        return Err(error);
    }
    state.tables.insert(to.key(), table);
    Ok(())
}
