//! Statements that change rows.
//!
//! A statement reads the table as it stands, works out what becomes of which row, and writes that if no row changed
//! meanwhile; otherwise it begins again. Rows that it does not change are never read and written anew.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field as ArrowField, Int64Type, Schema};
use longshore_core::schema::Field;

use super::cell::Row;
use super::http::ApiError;
use super::jobs::{Affected, QueryResult};
use super::merge::Value;
use super::sql::{Engine, OWN, Place, computed, renamed};
use super::state::{Stored, Table};
use super::tokens::Path;

/// The column that numbers the rows of the table that is changed.
pub(crate) const ROW: &str = "__row";

/// How BigQuery calls UPDATE, DELETE and MERGE alike.
pub(crate) const CHANGING: &str = "UPDATE or DELETE";

/// What a statement makes of a table.
#[derive(Default)]
pub(crate) struct Changes {
    /// By the row's number: its cells, or nothing if it goes.
    pub(crate) rows: BTreeMap<usize, Option<Row>>,
    pub(crate) inserted: Vec<Row>,
}

/// `DELETE FROM table WHERE condition`.
pub(crate) async fn delete(engine: &Engine<'_>, table: &Path, alias: &str, condition: &str) -> Result<QueryResult, ApiError> {
    let place = engine.place(table)?;
    loop {
        let before = snapshot(engine, &place)?;
        let query = format!("SELECT `{alias}`.`{ROW}` FROM `{OWN}`.`{OWN}`.`target` AS `{alias}` WHERE {condition}");
        let found = engine.select(&query, &[("target", numbered(&before.batch(), ROW)?)]).await?.batch()?;
        let rows = numbers(&found, 0).map(|row| (row, None)).collect();
        if let Some(affected) = write(engine, &place, &before, Changes { rows, inserted: Vec::new() }, CHANGING)? {
            return Ok(QueryResult { affected: Some(affected), statement: "DELETE", ..Default::default() });
        }
    }
}

/// `UPDATE table SET column = expression WHERE condition`.
pub(crate) async fn update(
    engine: &Engine<'_>,
    table: &Path,
    alias: &str,
    values: &[Value],
    condition: &str,
) -> Result<QueryResult, ApiError> {
    let place = engine.place(table)?;
    loop {
        let before = snapshot(engine, &place)?;
        let fields = named(&before.schema.fields, values.iter().map(|value| value.column.as_str()))?;
        let mut columns = format!("`{alias}`.`{ROW}`");
        for (value, i) in values.iter().zip(0..) {
            columns += &format!(", ({}) AS `__value_{i}`", value.expression);
        }
        let query = format!("SELECT {columns} FROM `{OWN}`.`{OWN}`.`target` AS `{alias}` WHERE {condition}");
        let found = engine.select(&query, &[("target", numbered(&before.batch(), ROW)?)]).await?.batch()?;
        let columns = part(&found, 1, &fields)?;
        let cells = computed(&fields, &columns)?;
        let mut changes = Changes::default();
        for (row, cells) in numbers(&found, 0).zip(cells) {
            let stored = &before.rows[row].cells;
            changes.rows.insert(row, Some(with(stored, &before.schema.fields, &fields, cells)));
        }
        if let Some(affected) = write(engine, &place, &before, changes, CHANGING)? {
            return Ok(QueryResult { affected: Some(affected), statement: "UPDATE", ..Default::default() });
        }
    }
}

/// `INSERT INTO table (columns) SELECT ...`, or `VALUES`.
pub(crate) async fn insert(engine: &Engine<'_>, table: &Path, columns: Vec<String>, text: &str) -> Result<QueryResult, ApiError> {
    let place = engine.place(table)?;
    let before = engine.target(&place)?;
    let fields = &before.schema.fields;
    let columns = if columns.is_empty() { fields.iter().map(|f| f.name.clone()).collect() } else { columns };
    let selected = engine.select(text, &[]).await?;
    let rows = computed(fields, &renamed(&selected.batch()?, &columns)?)?;
    let affected = Affected { inserted: rows.len(), ..Affected::default() };
    if engine.is_dry() {
        return Ok(QueryResult { statement: "INSERT", ..Default::default() });
    }
    let mut state = engine.shared.lock();
    state.table_mut(&place.project, &place.dataset, &place.table)?.append(rows, None);
    Ok(QueryResult { affected: Some(affected), statement: "INSERT", ..Default::default() })
}

/// `TRUNCATE TABLE table`.
pub(crate) fn truncate(engine: &Engine<'_>, table: &Path) -> Result<QueryResult, ApiError> {
    let place = engine.place(table)?;
    let before = engine.target(&place)?;
    let rows = (0..before.rows.len()).map(|row| (row, None)).collect();
    let affected = write(engine, &place, &before, Changes { rows, inserted: Vec::new() }, "TRUNCATE DML")?;
    Ok(QueryResult { affected, statement: "TRUNCATE_TABLE", ..Default::default() })
}

/// The table as it stands, to be read and written.
pub(crate) fn snapshot(engine: &Engine<'_>, place: &Place) -> Result<Table, ApiError> {
    engine.permit_writing(place)?;
    let mut table = engine.table(place)?;
    if engine.is_dry() {
        table.rows.clear();
    }
    Ok(table)
}

/// Writes changes, if the table is still as it was. A dry run has none. Rows in the streaming buffer are not changed:
/// <https://cloud.google.com/bigquery/docs/data-manipulation-language#limitations>.
pub(crate) fn write(
    engine: &Engine<'_>,
    place: &Place,
    before: &Table,
    changes: Changes,
    statement: &str,
) -> Result<Option<Affected>, ApiError> {
    if engine.is_dry() {
        return Ok(Some(Affected::default()));
    }
    let mut state = engine.shared.lock();
    let table = state.table_mut(&place.project, &place.dataset, &place.table)?;
    let version = |table: &Table| (table.incarnation, table.rows_version, table.schema_version);
    if version(table) != version(before) {
        return Ok(None);
    }
    if changes.rows.keys().any(|row| before.rows[*row].is_buffered()) {
        let Place { project, dataset, table } = place;
        let why = format!(
            "{statement} statement over table {project}.{dataset}.{table} would affect rows in the streaming buffer, which is not \
             supported"
        );
        return Err(ApiError::invalid_query(why));
    }
    let deleted = changes.rows.values().filter(|cells| cells.is_none()).count();
    let affected = Affected { inserted: changes.inserted.len(), updated: changes.rows.len() - deleted, deleted };
    let mut changed: HashMap<usize, Option<Row>> = changes.rows.into_iter().collect();
    let rows = std::mem::take(&mut table.rows).into_iter().enumerate();
    let rows = rows.filter_map(|(number, stored)| match changed.remove(&number) {
        None => Some(stored),
        Some(cells) => cells.map(|cells| Stored { cells, ..stored }),
    });
    table.rows = rows.collect();
    table.append(changes.inserted, None);
    Ok(Some(affected))
}

/// A batch with a column of its rows' numbers.
pub(crate) fn numbered(batch: &RecordBatch, name: &str) -> Result<RecordBatch, ApiError> {
    let schema = batch.schema();
    let mut fields: Vec<Arc<ArrowField>> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(ArrowField::new(name, DataType::Int64, false)));
    let count = i64::try_from(batch.num_rows()).unwrap_or(i64::MAX);
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(Int64Array::from_iter_values(0..count)) as ArrayRef);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| ApiError::invalid_query(e.to_string()))
}

/// The numbers in a column.
pub(crate) fn numbers(batch: &RecordBatch, column: usize) -> impl Iterator<Item = usize> {
    let numbers = batch.column(column).as_primitive::<Int64Type>().clone();
    (0..batch.num_rows()).map(move |row| usize::try_from(numbers.value(row)).unwrap_or_default())
}

/// Columns of a batch from one on, under these columns' names.
pub(crate) fn part(batch: &RecordBatch, from: usize, fields: &[Field]) -> Result<RecordBatch, ApiError> {
    let columns: Vec<usize> = (from..from + fields.len()).collect();
    let part = batch.project(&columns).map_err(|e| ApiError::invalid_query(e.to_string()))?;
    renamed(&part, &fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>())
}

/// The columns of these names; one that the table has not is an error.
pub(crate) fn named<'a>(fields: &[Field], names: impl Iterator<Item = &'a str>) -> Result<Vec<Field>, ApiError> {
    let find = |name: &str| fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).cloned();
    names
        .map(|name| find(name).ok_or_else(|| ApiError::invalid_query(format!("Column {name} is not present in the table"))))
        .collect()
}

/// A row with some of its cells replaced.
pub(crate) fn with(row: &Row, all: &[Field], fields: &[Field], cells: Row) -> Row {
    let mut row = row.clone();
    for (field, cell) in fields.iter().zip(cells) {
        if let Some(at) = all.iter().position(|known| known.name == field.name) {
            row[at] = cell;
        }
    }
    row
}
