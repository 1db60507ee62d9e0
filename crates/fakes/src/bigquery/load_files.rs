//! The files of load jobs: which they are, and their rows.

use arrow::datatypes::{DataType, Schema};
use bytes::Bytes;
use longshore_core::schema::TableSchema;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use serde_json::Value;

use super::cell::Row;
use super::from_arrow::{self, Mismatch, Source};
use super::from_json::{self, Reading};
use super::http::ApiError;
use super::state::State;

/// A source file.
pub(crate) struct File {
    pub(crate) uri: String,
    pub(crate) bytes: Bytes,
}

/// A row of a file, by the file's number; or why it is none, in words that end with a full stop.
pub(crate) struct Read {
    pub(crate) file: usize,
    pub(crate) row: Result<Row, String>,
}

/// The files that a job names.
pub(crate) fn files(state: &State, configuration: &Value, home: &str) -> Result<Vec<File>, ApiError> {
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

/// What is wrong with a file.
pub(crate) fn bad_file(file: &File, why: &impl std::fmt::Display) -> ApiError {
    ApiError::invalid(format!("Error while reading data, error message: {why} File: {}", file.uri)).at(&file.uri)
}

/// Only Parquet's own types count: what a writer noted of Arrow's in the file means nothing to BigQuery.
fn parquet_reader(file: &File) -> Result<ParquetRecordBatchReaderBuilder<Bytes>, ApiError> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    ParquetRecordBatchReaderBuilder::try_new_with_options(file.bytes.clone(), options).map_err(|e| bad_file(file, &e))
}

/// The schema of the first file.
pub(crate) fn parquet_schema(files: &[File], configuration: &Value) -> Result<Option<TableSchema>, ApiError> {
    let Some(file) = files.first() else { return Ok(None) };
    let reader = parquet_reader(file)?;
    let lists = configuration["parquetOptions"]["enableListInference"].as_bool() == Some(true);
    if !lists && has_lists(reader.schema()) {
        let why = "a LIST is read as a RECORD with the field `list` unless parquetOptions.enableListInference is set.";
        return Err(bad_file(file, &why));
    }
    TableSchema::from_arrow(reader.schema()).map(Some).map_err(|e| bad_file(file, &e))
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

/// The rows of all files, in their order.
pub(crate) fn rows(files: &[File], format: &str, schema: &TableSchema, configuration: &Value) -> Result<Vec<Read>, ApiError> {
    let ignore_unknown = configuration["ignoreUnknownValues"].as_bool() == Some(true);
    let mut rows = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let read = match format {
            "PARQUET" => read_parquet(file, schema, ignore_unknown)?,
            "NEWLINE_DELIMITED_JSON" => read_json(file, schema, ignore_unknown)?,
            other => return Err(ApiError::invalid(format!("the fake does not read files of the format {other}"))),
        };
        rows.extend(read.into_iter().map(|row| Read { file: number, row }));
    }
    Ok(rows)
}

fn read_parquet(file: &File, schema: &TableSchema, ignore: bool) -> Result<Vec<Result<Row, String>>, ApiError> {
    let builder = parquet_reader(file)?;
    let mut rows = Vec::new();
    for batch in builder.build().map_err(|e| bad_file(file, &e))? {
        let mut batch = batch.map_err(|e| bad_file(file, &e))?;
        if ignore {
            let names = batch.schema();
            let known = names.fields().iter().enumerate().filter(|(_, field)| schema.field(field.name()).is_some());
            let known: Vec<usize> = known.map(|(i, _)| i).collect();
            batch = batch.project(&known).map_err(|e| bad_file(file, &e))?;
        }
        let read = from_arrow::rows(&schema.fields, &batch, Source::Written).map_err(|mismatch| match mismatch {
            Mismatch::Unknown(names) => {
                let why = format!("Provided Schema does not match. Cannot add fields (field: {})", names.join(","));
                ApiError::invalid(why)
            }
            Mismatch::Invalid(why) => bad_file(file, &why),
        })?;
        rows.extend(read);
    }
    Ok(rows)
}

/// The rows of a file of JSON lines. What is wrong with one is told with the place in the file at which it begins, in bytes:
/// <https://cloud.google.com/bigquery/docs/batch-loading-data#troubleshooting_parsing_errors>.
fn read_json(file: &File, schema: &TableSchema, ignore: bool) -> Result<Vec<Result<Row, String>>, ApiError> {
    if file.bytes.starts_with(&[0x1f, 0x8b]) {
        return Err(bad_file(file, &"the fake does not read gzip."));
    }
    let reading = Reading { ignore_unknown: ignore, json_is_text: false };
    let (mut rows, mut next) = (Vec::new(), 0);
    for line in file.bytes.split(|byte| *byte == b'\n') {
        let position = next;
        next += line.len() + 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let value = serde_json::from_slice::<Value>(line).map_err(|e| format!("Parser error: {e}."));
        let row = value.and_then(|value| from_json::row(&schema.fields, &value, reading).map_err(in_words));
        rows.push(row.map_err(|why| format!("JSON parsing error in row starting at position {position}: {why}")));
    }
    Ok(rows)
}

fn in_words((field, why): (String, String)) -> String {
    match why.strip_prefix("no such field: ") {
        Some(name) => format!("No such field: {name}"),
        None if field.is_empty() => why,
        None => format!("{} Field: {field}.", if why.ends_with('.') { why } else { format!("{why}.") }),
    }
}
