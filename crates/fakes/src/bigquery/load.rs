//! Load jobs: files of Cloud Storage into a table.

use arrow::datatypes::{DataType, Schema};
use bytes::Bytes;
use longshore_core::schema::{Field, Mode, TableSchema, Type};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use serde_json::{Map, Value, json};

use super::cell::Row;
use super::copy::{Destination, disposition, write};
use super::from_arrow::{self, Mismatch, Source};
use super::from_json::{self, Reading};
use super::http::ApiError;
use super::jobs::Ended;
use super::state::{State, Table};

/// A source file.
struct File {
    uri: String,
    bytes: Bytes,
}

/// Runs a load job. `refused` are rows, counted over all files, that are to be taken for bad ones.
pub(crate) fn run(state: &mut State, project: &str, configuration: &Value, refused: &[u64]) -> Ended {
    match load(state, project, configuration, refused) {
        Ok(ended) => ended,
        Err(errors) => Ended { statistics: json!({}), result: None, errors },
    }
}

type Errors = Vec<ApiError>;

fn load(state: &mut State, project: &str, configuration: &Value, refused: &[u64]) -> Result<Ended, Errors> {
    let one = |error: ApiError| vec![error];
    let to = Destination::of(project, &configuration["destinationTable"]).map_err(one)?;
    let home = state.dataset(&to.project, &to.dataset).map_err(one)?.location.clone();
    let files = files(state, configuration, &home).map_err(one)?;
    let format = configuration["sourceFormat"].as_str().unwrap_or("CSV");
    let given = match configuration.get("schema").filter(|schema| schema.get("fields").is_some()) {
        Some(schema) => Some(TableSchema::from_json(schema).map_err(|e| one(ApiError::invalid(e.to_string())))?),
        None => None,
    };
    let existing = state.tables.get(&to.key()).cloned();
    let how = disposition(configuration, "WRITE_APPEND");
    if existing.is_none() && configuration["createDisposition"] == "CREATE_NEVER" {
        return Err(one(ApiError::not_found(format!("Not found: Table {}", to.shown()))));
    }
    let own = if format == "PARQUET" { parquet_schema(&files, configuration).map_err(one)? } else { None };
    let schema = target_schema(configuration, existing.as_ref(), given.as_ref(), own.as_ref(), &how, &to).map_err(one)?;
    let read = read_files(&files, format, &schema, configuration)?;
    let mut rows: Vec<Row> = Vec::new();
    let mut errors: Errors = Vec::new();
    for (number, (file, row)) in (0u64..).zip(read) {
        let row = if refused.contains(&number) { Err("Refused by the test.".to_owned()) } else { row };
        match row {
            Ok(row) => rows.push(row),
            Err(why) => {
                let message = format!("Error while reading data, error message: {why} Row: {number}; File: {}", files[file].uri);
                errors.push(ApiError::invalid(message).at(&files[file].uri));
            }
        }
    }
    let allowed = configuration["maxBadRecords"].as_u64().unwrap_or(0);
    if errors.len() as u64 > allowed || (format == "PARQUET" && refused.is_empty() && !errors.is_empty()) {
        let why =
            format!("{format} table encountered too many errors, giving up. Rows: {}; errors: {}.", rows.len(), errors.len());
        let first =
            format!("Error while reading data, error message: {why} Please look into the errors[] collection for more details.");
        let location = errors[0].location.clone().unwrap_or_default();
        errors.insert(0, ApiError::invalid(first).at(location));
        return Err(errors);
    }
    let bad = errors.len();
    let count = rows.len();
    store(state, &to, configuration, existing, schema, &how, rows).map_err(one)?;
    let bytes: usize = files.iter().map(|file| file.bytes.len()).sum();
    let statistics = json!({"load": {
        "inputFiles": files.len().to_string(), "inputFileBytes": bytes.to_string(), "outputRows": count.to_string(),
        "outputBytes": (count * 8).to_string(), "badRecords": bad.to_string(),
    }});
    Ok(Ended { statistics, result: None, errors: Vec::new() })
}

fn files(state: &State, configuration: &Value, home: &str) -> Result<Vec<File>, ApiError> {
    let uris = configuration["sourceUris"].as_array().filter(|uris| !uris.is_empty());
    let uris = uris.ok_or_else(|| ApiError::invalid("Required parameter is missing: sourceUris"))?;
    let mut files = Vec::new();
    for uri in uris.iter().filter_map(Value::as_str) {
        state.permit_files(uri)?;
        let invalid = || ApiError::invalid(format!("Source URI must be a Google Cloud Storage location: {uri}"));
        let (bucket, key) = uri.strip_prefix("gs://").and_then(|rest| rest.split_once('/')).ok_or_else(invalid)?;
        let location = state.storage.buckets.get(bucket);
        let location = location.ok_or_else(|| ApiError::not_found(format!("Not found: Bucket {bucket}")))?;
        let near = home.eq_ignore_ascii_case("US")
            || location.eq_ignore_ascii_case(home)
            || home.eq_ignore_ascii_case("EU") && location.to_lowercase().starts_with("eu");
        if !near {
            let why = format!("Cannot read and write in different locations: source: {location}, destination: {home}");
            return Err(ApiError::invalid(why));
        }
        let (before, after) = key.split_once('*').unwrap_or((key, ""));
        let matches = |candidate: &str| {
            if !key.contains('*') {
                return candidate == key;
            }
            candidate.len() >= before.len() + after.len() && candidate.starts_with(before) && candidate.ends_with(after)
        };
        let found = state.storage.objects.iter().filter(|((b, k), _)| b == bucket && matches(k));
        let start = files.len();
        files.extend(found.map(|((_, key), object)| File { uri: format!("gs://{bucket}/{key}"), bytes: object.bytes.clone() }));
        if files.len() == start {
            return Err(ApiError::not_found(format!("Not found: URI {uri}")));
        }
    }
    Ok(files)
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

fn unreadable(file: &File, why: &impl std::fmt::Display) -> ApiError {
    ApiError::invalid(format!("Error while reading data, error message: {why} File: {}", file.uri)).at(&file.uri)
}

/// Only Parquet's own types count: what a writer noted of Arrow's in the file means nothing to BigQuery.
fn parquet_reader(file: &File) -> Result<ParquetRecordBatchReaderBuilder<Bytes>, ApiError> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    ParquetRecordBatchReaderBuilder::try_new_with_options(file.bytes.clone(), options).map_err(|e| unreadable(file, &e))
}

fn parquet_schema(files: &[File], configuration: &Value) -> Result<Option<TableSchema>, ApiError> {
    let Some(file) = files.first() else { return Ok(None) };
    let reader = parquet_reader(file)?;
    let lists = configuration["parquetOptions"]["enableListInference"].as_bool() == Some(true);
    if !lists && has_lists(reader.schema()) {
        let why = "a LIST is read as a RECORD with the field `list` unless parquetOptions.enableListInference is set.";
        return Err(unreadable(file, &why));
    }
    TableSchema::from_arrow(reader.schema()).map(Some).map_err(|e| unreadable(file, &e))
}

fn has_lists(schema: &Schema) -> bool {
    fn list(data_type: &DataType) -> bool {
        match data_type {
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _) => true,
            DataType::Struct(fields) => fields.iter().any(|field| list(field.data_type())),
            _ => false,
        }
    }
    schema.fields().iter().any(|field| list(field.data_type()))
}

type Read = Vec<(usize, Result<Row, String>)>;

/// The rows of all files, each with the number of its file.
fn read_files(files: &[File], format: &str, schema: &TableSchema, configuration: &Value) -> Result<Read, Errors> {
    let ignore_unknown = configuration["ignoreUnknownValues"].as_bool() == Some(true);
    let mut rows: Read = Vec::new();
    for (number, file) in files.iter().enumerate() {
        match format {
            "PARQUET" => read_parquet(number, file, schema, ignore_unknown, &mut rows).map_err(|error| vec![error])?,
            "NEWLINE_DELIMITED_JSON" => {
                read_json(number, file, schema, ignore_unknown, &mut rows).map_err(|error| vec![error])?;
            }
            other => return Err(vec![ApiError::invalid(format!("the fake does not read files of the format {other}"))]),
        }
    }
    Ok(rows)
}

fn read_parquet(number: usize, file: &File, schema: &TableSchema, ignore: bool, rows: &mut Read) -> Result<(), ApiError> {
    let builder = parquet_reader(file)?;
    for batch in builder.build().map_err(|e| unreadable(file, &e))? {
        let mut batch = batch.map_err(|e| unreadable(file, &e))?;
        if ignore {
            let names = batch.schema();
            let known = names.fields().iter().enumerate().filter(|(_, field)| schema.field(field.name()).is_some());
            let known: Vec<usize> = known.map(|(i, _)| i).collect();
            batch = batch.project(&known).map_err(|e| unreadable(file, &e))?;
        }
        let read = from_arrow::rows(&schema.fields, &batch, Source::Written).map_err(|mismatch| match mismatch {
            Mismatch::Unknown(names) => {
                let why = format!("Provided Schema does not match. Cannot add fields (field: {})", names.join(","));
                ApiError::invalid(why)
            }
            Mismatch::Invalid(why) => unreadable(file, &why),
        })?;
        rows.extend(read.into_iter().map(|row| (number, row)));
    }
    Ok(())
}

fn read_json(number: usize, file: &File, schema: &TableSchema, ignore: bool, rows: &mut Read) -> Result<(), ApiError> {
    if file.bytes.starts_with(&[0x1f, 0x8b]) {
        return Err(unreadable(file, &"the fake does not read gzip."));
    }
    let reading = Reading { ignore_unknown: ignore, json_is_text: false };
    for line in file.bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        let row = serde_json::from_slice::<Value>(line).map_err(|e| format!("JSON parsing error: {e}."));
        let row =
            row.and_then(|value| from_json::row(&schema.fields, &value, reading).map_err(|(at, why)| format!("{at}: {why}")));
        rows.push((number, row));
    }
    Ok(())
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
