//! What the fake holds: datasets, tables and their rows.

use std::collections::{BTreeMap, HashMap, HashSet};

use arrow::array::RecordBatch;
use chrono::Utc;
use longshore_core::schema::{Field, Mode, TableSchema, Type};
use serde_json::{Map, Value, json};

use super::cell::{self, Cell, Row};
use super::changes::Sequence;
use super::fault::Faults;
use super::http::ApiError;
use super::jobs::Job;
use super::storage::Storage;
use super::streams::Stream;
use super::to_arrow;

/// Everything, behind one lock that is never held across an await.
#[derive(Default)]
pub(crate) struct State {
    /// Where the server listens.
    pub(crate) address: String,
    pub(crate) datasets: BTreeMap<String, Dataset>,
    /// By `dataset.table`.
    pub(crate) tables: BTreeMap<String, Table>,
    pub(crate) streams: BTreeMap<String, Stream>,
    /// By job id.
    pub(crate) jobs: BTreeMap<String, Job>,
    /// Queries by `requestId`: the job id.
    pub(crate) query_requests: HashMap<String, String>,
    pub(crate) storage: Storage,
    pub(crate) faults: Faults,
    pub(crate) denied: HashSet<String>,
    /// Beyond so many bytes an append is refused.
    pub(crate) append_limit: usize,
    pub(crate) last_number: u64,
    /// When the last table was made, in milliseconds.
    pub(crate) last_birth: i64,
}

/// A dataset.
pub(crate) struct Dataset {
    pub(crate) project: String,
    pub(crate) location: String,
    pub(crate) resource: Map<String, Value>,
}

/// A table.
#[derive(Clone)]
pub(crate) struct Table {
    /// What the client gave, but for the schema.
    pub(crate) resource: Map<String, Value>,
    pub(crate) schema: TableSchema,
    /// The schema before its last change.
    pub(crate) previous_schema: Option<TableSchema>,
    pub(crate) rows: Vec<Stored>,
    /// Tells a table from one of the same name before it.
    pub(crate) incarnation: u64,
    /// Rises with every change of the resource.
    pub(crate) version: u64,
    /// Rises with every change of the rows.
    pub(crate) rows_version: u64,
    pub(crate) schema_version: u64,
    pub(crate) insert_ids: HashSet<String>,
    /// The last change of each key that changes came for, deleted ones included.
    pub(crate) changes: HashMap<String, Sequence>,
}

/// A row and, in a table partitioned by the time of ingestion, its partition.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) cells: Row,
    pub(crate) partition: Option<String>,
    /// When it came in by `tabledata.insertAll`, in microseconds since 1970.
    pub(crate) streamed: Option<i64>,
}

impl From<Row> for Stored {
    fn from(cells: Row) -> Self {
        Self { cells, partition: None, streamed: None }
    }
}

impl State {
    /// A number that was not given before.
    pub(crate) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// The time at which a table is made. No two tables are made at the same time.
    pub(crate) fn birth(&mut self) -> i64 {
        self.last_birth = Utc::now().timestamp_millis().max(self.last_birth + 1);
        self.last_birth
    }

    pub(crate) fn dataset(&self, project: &str, dataset: &str) -> Result<&Dataset, ApiError> {
        let found = self.datasets.get(dataset).filter(|found| found.project == project);
        found.ok_or_else(|| ApiError::not_found(format!("Not found: Dataset {project}:{dataset}")))
    }

    pub(crate) fn table(&self, project: &str, dataset: &str, table: &str) -> Result<&Table, ApiError> {
        self.dataset(project, dataset)?;
        let found = self.tables.get(&format!("{dataset}.{table}"));
        found.ok_or_else(|| ApiError::not_found(format!("Not found: Table {project}:{dataset}.{table}")))
    }

    pub(crate) fn table_mut(&mut self, project: &str, dataset: &str, table: &str) -> Result<&mut Table, ApiError> {
        self.table(project, dataset, table)?;
        let found = self.tables.get_mut(&format!("{dataset}.{table}"));
        found.ok_or_else(|| ApiError::not_found(format!("Not found: Table {project}:{dataset}.{table}")))
    }

    /// Makes a table from a REST resource.
    pub(crate) fn create_table(
        &mut self,
        project: &str,
        dataset: &str,
        mut resource: Map<String, Value>,
    ) -> Result<(), ApiError> {
        self.dataset(project, dataset)?;
        let name = resource.get("tableReference").and_then(|r| r.get("tableId")).and_then(Value::as_str).unwrap_or_default();
        let (name, key) = (name.to_owned(), format!("{dataset}.{name}"));
        if name.is_empty() {
            return Err(ApiError::invalid("Required parameter is missing: tableId"));
        }
        if self.tables.contains_key(&key) {
            return Err(ApiError::new(409, "duplicate", format!("Already Exists: Table {project}:{dataset}.{name}")));
        }
        let schema = match resource.shift_remove("schema") {
            None | Some(Value::Null) => TableSchema::default(),
            Some(schema) if schema.get("fields").is_none() => TableSchema::default(),
            Some(schema) => TableSchema::from_json(&schema).map_err(|e| ApiError::invalid(e.to_string()))?,
        };
        resource.insert("tableReference".into(), json!({"projectId": project, "datasetId": dataset, "tableId": name}));
        resource.entry("type").or_insert_with(|| json!("TABLE"));
        resource.insert("creationTime".into(), json!(self.birth().to_string()));
        let table = Table {
            resource,
            schema,
            previous_schema: None,
            rows: Vec::new(),
            incarnation: self.number(),
            version: 1,
            rows_version: 0,
            schema_version: 1,
            insert_ids: HashSet::new(),
            changes: HashMap::new(),
        };
        self.tables.insert(key, table);
        Ok(())
    }
}

impl Table {
    /// The resource as `tables.get` shows it.
    pub(crate) fn shown(&self, location: &str) -> Value {
        let mut shown = self.resource.clone();
        let text = |key: &str| self.resource["tableReference"][key].as_str().unwrap_or_default().to_owned();
        let (project, dataset, table) = (text("projectId"), text("datasetId"), text("tableId"));
        shown.insert("kind".into(), json!("bigquery#table"));
        shown.insert("etag".into(), json!(self.etag()));
        shown.insert("id".into(), json!(format!("{project}:{dataset}.{table}")));
        shown.insert("location".into(), json!(location));
        if !self.schema.fields.is_empty() {
            shown.insert("schema".into(), json!({"fields": legacy_names(self.schema.to_json())}));
        }
        shown.insert("numRows".into(), json!(self.rows.len().to_string()));
        shown.insert("numBytes".into(), json!((self.rows.len() * self.schema.fields.len() * 8).to_string()));
        shown.insert("lastModifiedTime".into(), json!((1_700_000_000_000 + self.version + self.rows_version).to_string()));
        shown.extend(self.shown_buffer().map(|buffer| ("streamingBuffer".to_owned(), buffer)));
        Value::Object(shown)
    }

    pub(crate) fn etag(&self) -> String {
        format!("t{}v{}", self.incarnation, self.version)
    }

    pub(crate) fn batch(&self) -> RecordBatch {
        to_arrow::batch(&self.schema, self.rows.iter().map(|row| &row.cells))
    }

    /// Adds rows at the end.
    pub(crate) fn append(&mut self, rows: impl IntoIterator<Item = Row>, partition: Option<&str>) {
        let partition =
            partition.map(str::to_owned).or_else(|| self.by_ingestion().then(|| self.instant_partition(now_micros())));
        self.rows.extend(rows.into_iter().map(|cells| Stored { partition: partition.clone(), ..Stored::from(cells) }));
        self.rows_version += 1;
    }

    /// Gives the table another schema, its rows NULL in new columns.
    pub(crate) fn set_schema(&mut self, schema: TableSchema) {
        if schema == self.schema {
            return;
        }
        let (old, new) = (self.schema.fields.clone(), schema.fields.clone());
        for row in &mut self.rows {
            row.cells = rearranged(&old, &new, std::mem::take(&mut row.cells));
        }
        self.previous_schema = Some(std::mem::replace(&mut self.schema, schema));
        self.schema_version += 1;
        self.version += 1;
    }
}

/// The time, in microseconds since 1970.
pub(crate) fn now_micros() -> i64 {
    Utc::now().timestamp_micros()
}

/// A row's cells in the order of other columns; what is new is empty, and what has a wider type now is converted.
pub(crate) fn rearranged(old: &[Field], new: &[Field], cells: Row) -> Row {
    let mut cells: Vec<Option<Cell>> = cells.into_iter().map(Some).collect();
    let place = |field: &Field| {
        let at = old.iter().position(|old| old.name.eq_ignore_ascii_case(&field.name));
        match at.and_then(|at| Some((at, cells[at].take()?))) {
            Some((at, cell)) => nested(&old[at], field, cell),
            None if field.mode == Mode::Repeated => Cell::List(Vec::new()),
            None => Cell::Null,
        }
    };
    new.iter().map(place).collect()
}

fn nested(old: &Field, new: &Field, cell: Cell) -> Cell {
    match cell {
        Cell::Struct(cells) => Cell::Struct(rearranged(old.children(), new.children(), cells)),
        Cell::List(cells) => Cell::List(cells.into_iter().map(|cell| nested(old, new, cell)).collect()),
        cell if old.type_ != new.type_ => cell::wider(&new.type_, cell),
        cell => cell,
    }
}

/// A schema's JSON with the type names that REST answers use.
pub(crate) fn legacy_names(mut fields: Value) -> Value {
    for field in fields.as_array_mut().into_iter().flatten() {
        let legacy = match field["type"].as_str() {
            Some("INT64") => "INTEGER",
            Some("FLOAT64") => "FLOAT",
            Some("BOOL") => "BOOLEAN",
            Some("STRUCT") => "RECORD",
            _ => "",
        };
        if !legacy.is_empty() {
            field["type"] = json!(legacy);
        }
        if let Some(children) = field.get_mut("fields") {
            *children = legacy_names(children.take());
        }
    }
    fields
}

/// Whether a schema may take the place of another: columns may be added (not REQUIRED ones) and relaxed.
pub(crate) fn evolves(old: &[Field], new: &[Field], path: &str) -> Result<(), String> {
    for field in old {
        let here = format!("{path}{}", field.name);
        let found = new.iter().find(|new| new.name.eq_ignore_ascii_case(&field.name));
        let Some(found) = found else {
            return Err(format!("Provided Schema does not match: Field {here} is missing in new schema"));
        };
        let same_type = match (&field.type_, &found.type_) {
            (Type::Struct(old), Type::Struct(new)) => {
                evolves(old, new, &format!("{here}."))?;
                true
            }
            (old, new) => old == new,
        };
        if !same_type {
            let (old, new) = (field.type_.name(), found.type_.name());
            return Err(format!("Provided Schema does not match: Field {here} has changed type from {old} to {new}"));
        }
        let relaxed = field.mode == Mode::Required && found.mode == Mode::Nullable;
        if field.mode != found.mode && !relaxed {
            return Err(format!(
                "Provided Schema does not match: Field {here} has changed mode from {:?} to {:?}",
                field.mode, found.mode
            ));
        }
    }
    let added = new.iter().find(|new| new.mode == Mode::Required && !old.iter().any(|o| o.name.eq_ignore_ascii_case(&new.name)));
    match added {
        Some(field) => Err(format!(
            "Provided Schema does not match: Cannot add required fields to an existing schema (field: {path}{})",
            field.name
        )),
        None => Ok(()),
    }
}
