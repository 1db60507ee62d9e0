//! Copy jobs, and what jobs do to the table they write.

use serde_json::{Map, Value, json};

use super::cell::Row;
use super::http::ApiError;
use super::jobs::{Ended, QueryResult};
use super::permissions::On;
use super::rest::without_decorator;
use super::state::{State, Stored, Table, evolves, rearranged};
use longshore_core::schema::TableSchema;

/// The table that a job writes.
pub(crate) struct Destination {
    pub(crate) project: String,
    pub(crate) dataset: String,
    pub(crate) table: String,
    pub(crate) partition: Option<String>,
}

impl Destination {
    pub(crate) fn of(project: &str, reference: &Value) -> Result<Self, ApiError> {
        let text = |key: &str| reference[key].as_str().unwrap_or_default().to_owned();
        let (dataset, table) = (text("datasetId"), text("tableId"));
        if dataset.is_empty() || table.is_empty() {
            return Err(ApiError::invalid("Required parameter is missing: destinationTable"));
        }
        let project = reference["projectId"].as_str().unwrap_or(project).to_owned();
        let partition = table.split_once('$').map(|(_, partition)| partition.to_owned());
        Ok(Self { project, dataset, table: without_decorator(&table).to_owned(), partition })
    }

    pub(crate) fn key(&self) -> String {
        format!("{}.{}", self.dataset, self.table)
    }

    pub(crate) fn shown(&self) -> String {
        format!("{}:{}.{}", self.project, self.dataset, self.table)
    }
}

/// How a job writes: `WRITE_APPEND` is what loads and queries do if they are not told; a copy does `WRITE_EMPTY`.
pub(crate) fn disposition(configuration: &Value, default: &str) -> String {
    configuration["writeDisposition"].as_str().unwrap_or(default).to_owned()
}

/// Puts rows, which have the columns of the table's schema, where a job's disposition says. Nothing is done if that fails.
pub(crate) fn write(table: &mut Table, to: &Destination, disposition: &str, rows: Vec<Row>) -> Result<(), ApiError> {
    let partition = to.partition.as_deref();
    if let Some(partition) = partition {
        table.check_partition(partition).map_err(ApiError::invalid)?;
    }
    let filled = match partition {
        None => !table.rows.is_empty(),
        Some(partition) => table.rows.iter().any(|row| table.partition_of(row).is_ok_and(|place| place == partition)),
    };
    if disposition == "WRITE_EMPTY" && filled {
        return Err(ApiError::new(409, "duplicate", format!("Already Exists: Table {}", to.shown())));
    }
    let fixed = if table.by_ingestion() { partition.map(str::to_owned) } else { None };
    if let Some(partition) = partition {
        for row in &rows {
            let stored = Stored { partition: fixed.clone(), ..Stored::from(row.clone()) };
            let found = table.partition_of(&stored).map_err(ApiError::invalid)?;
            if found != partition {
                let why = format!(
                    "Some rows belong to different partitions rather than destination partition {}${partition}",
                    to.shown()
                );
                return Err(ApiError::invalid(why));
            }
        }
    }
    if disposition.starts_with("WRITE_TRUNCATE") {
        match partition {
            None => {
                table.rows.clear();
                // As documented: constraints go with the rows, unless only the data is to be replaced.
                if disposition == "WRITE_TRUNCATE" {
                    table.resource.shift_remove("tableConstraints");
                }
            }
            Some(partition) => {
                let places: Result<Vec<String>, String> = table.rows.iter().map(|row| table.partition_of(row)).collect();
                let mut places = places.map_err(ApiError::invalid)?.into_iter();
                table.rows.retain(|_| places.next().is_none_or(|place| place != partition));
            }
        }
        table.changes.clear();
    }
    table.append(rows, fixed.as_deref());
    Ok(())
}

/// Runs a copy job.
pub(crate) fn run(state: &mut State, project: &str, configuration: &Value) -> Ended {
    match copy(state, project, configuration) {
        Ok(rows) => {
            let statistics = json!({"copy": {"copiedRows": rows.to_string()}});
            Ended { statistics, ..Ended::default() }
        }
        Err(error) => Ended::failed(error),
    }
}

fn copy(state: &mut State, project: &str, configuration: &Value) -> Result<usize, ApiError> {
    let to = Destination::of(project, &configuration["destinationTable"])?;
    let one = configuration.get("sourceTable").filter(|source| source.is_object());
    let sources = match (one, configuration["sourceTables"].as_array()) {
        (Some(one), _) => vec![one.clone()],
        (None, Some(many)) => many.clone(),
        (None, None) => return Err(ApiError::invalid("Required parameter is missing: sourceTable")),
    };
    let mut from = Vec::new();
    for source in &sources {
        let source = Destination::of(project, source)?;
        state.permit("bigquery.tables.getData", &On::Table(&source.project, &source.dataset, &source.table))?;
        let mut table = state.table(&source.project, &source.dataset, &source.table)?.clone();
        if let Some(partition) = &source.partition {
            let places: Result<Vec<String>, String> = table.rows.iter().map(|row| table.partition_of(row)).collect();
            let mut places = places.map_err(ApiError::invalid)?.into_iter();
            table.rows.retain(|_| places.next().is_some_and(|place| place == *partition));
        }
        from.push(table);
    }
    let first = from.first().ok_or_else(|| ApiError::invalid("no source table"))?.clone();
    let how = disposition(configuration, "WRITE_EMPTY");
    let exists = state.tables.contains_key(&to.key());
    if !exists {
        if configuration["createDisposition"] == "CREATE_NEVER" {
            return Err(ApiError::not_found(format!("Not found: Table {}", to.shown())));
        }
        let mut resource = first.resource.clone();
        resource.insert("tableReference".into(), json!({"tableId": to.table}));
        resource.insert("schema".into(), json!({"fields": first.schema.to_json()}));
        state.create_table(&to.project, &to.dataset, resource)?;
    }
    // On a copy of the table, so that a job that fails changes nothing.
    let mut table = state.table(&to.project, &to.dataset, &to.table)?.clone();
    let whole = how == "WRITE_TRUNCATE" && to.partition.is_none();
    if whole {
        table.rows.clear();
        table.set_schema(first.schema.clone());
    }
    let mut rows = Vec::new();
    for source in &from {
        evolves(&source.schema.fields, &table.schema.fields, "").map_err(ApiError::invalid)?;
        let cells = source.rows.iter().map(|row| row.cells.clone());
        rows.extend(cells.map(|cells| rearranged(&source.schema.fields, &table.schema.fields, cells)));
    }
    let count = rows.len();
    write(&mut table, &to, &how, rows)?;
    state.tables.insert(to.key(), table);
    Ok(count)
}

/// Writes a query's result to the destination table, if it names one.
pub(crate) fn write_result(
    state: &mut State,
    project: &str,
    configuration: &Value,
    result: &QueryResult,
) -> Result<(), ApiError> {
    let reference = &configuration["destinationTable"];
    if !reference.is_object() || result.statement != "SELECT" {
        return Ok(());
    }
    state.permit_destination(project, configuration)?;
    let to = Destination::of(project, reference)?;
    let how = disposition(configuration, "WRITE_EMPTY");
    let schema = TableSchema::new(result.fields.clone());
    if !state.tables.contains_key(&to.key()) {
        let mut resource = Map::new();
        resource.insert("tableReference".into(), json!({"tableId": to.table}));
        resource.insert("schema".into(), json!({"fields": schema.to_json()}));
        state.create_table(&to.project, &to.dataset, resource)?;
    }
    let mut table = state.table(&to.project, &to.dataset, &to.table)?.clone();
    if how == "WRITE_TRUNCATE" && to.partition.is_none() {
        table.rows.clear();
        table.set_schema(schema.clone());
    }
    evolves(&schema.fields, &table.schema.fields, "").map_err(ApiError::invalid)?;
    let rows = result.rows.iter().map(|row| rearranged(&schema.fields, &table.schema.fields, row.clone())).collect();
    write(&mut table, &to, &how, rows)?;
    state.tables.insert(to.key(), table);
    Ok(())
}
