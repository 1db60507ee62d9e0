//! Statements that change rows.
//!
//! A statement reads the table as it stands, works out what becomes of which row, and writes that if no row changed
//! meanwhile; otherwise it begins again. Rows that it does not change are never read and written anew.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field as ArrowField, Int64Type, Schema};
use longshore_core::schema::{Field, Mode, Type};

use super::cell::Row;
use super::ddl::widens;
use super::from_arrow::{self, Mismatch, Source};
use super::http::ApiError;
use super::jobs::{Affected, QueryResult};
use super::merge::{Action, Merge, Side, Value, When};
use super::sql::{Engine, OWN, Place, computed, renamed};
use super::state::{Stored, Table};
use super::tokens::{Path, Tokens};

/// The column that numbers the rows of the table that is changed, and the one of those of MERGE's source.
const ROW: &str = "__row";
const SOURCE_ROW: &str = "__source_row";

/// How BigQuery calls UPDATE, DELETE and MERGE alike.
const CHANGING: &str = "UPDATE or DELETE";

/// What a statement makes of a table.
#[derive(Default)]
struct Changes {
    /// By the row's number: its cells, or nothing if it goes.
    rows: BTreeMap<usize, Option<Row>>,
    inserted: Vec<Row>,
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

/// `MERGE`: of the clauses of a row's kind, the first whose condition holds decides. A row of the table that more than one
/// row of the source would change is an error:
/// <https://cloud.google.com/bigquery/docs/reference/standard-sql/dml-syntax#merge_statement>.
pub(crate) async fn merge(engine: &Engine<'_>, merge: &Merge) -> Result<QueryResult, ApiError> {
    let place = engine.place(&merge.table)?;
    loop {
        let before = snapshot(engine, &place)?;
        let source = engine.select(&format!("SELECT * FROM {} AS `{}`", merge.source, merge.source_alias), &[]).await?;
        fits(merge, &before.schema.fields, &source.fields())?;
        let sides = Sides {
            engine,
            merge,
            fields: &before.schema.fields,
            target: numbered(&before.batch(), ROW)?,
            source: numbered(&source.batch()?, SOURCE_ROW)?,
        };
        let changes = sides.changes(&before).await?;
        if let Some(affected) = write(engine, &place, &before, changes, CHANGING)? {
            return Ok(QueryResult { affected: Some(affected), statement: "MERGE", ..Default::default() });
        }
    }
}

/// What a MERGE reads.
struct Sides<'a> {
    engine: &'a Engine<'a>,
    merge: &'a Merge,
    fields: &'a [Field],
    target: RecordBatch,
    source: RecordBatch,
}

/// What the clauses of one kind make of one row.
enum Decided {
    Delete,
    /// Some columns' new cells.
    Update(Vec<Field>, Row),
    Insert(Row),
}

impl Sides<'_> {
    async fn changes(&self, before: &Table) -> Result<Changes, ApiError> {
        let (old, new) = (&self.merge.alias, &self.merge.source_alias);
        let (target, source) = (format!("`{OWN}`.`{OWN}`.`target` AS `{old}`"), format!("`{OWN}`.`{OWN}`.`source` AS `{new}`"));
        let pairs = format!("`{old}`.`{ROW}`, `{new}`.`{SOURCE_ROW}`");
        let both = format!("{target} INNER JOIN {source} ON {}", self.merge.on);
        let mut changes = Changes::default();
        let (mut targets, mut sources) = (HashSet::new(), HashSet::new());
        let found = self.decide(Side::Matched, &pairs, &both).await?;
        for (row, number, decided) in found {
            targets.insert(row);
            sources.insert(number.unwrap_or_default());
            if let Some(decided) = decided
                && changes.rows.insert(row, self.changed(before, row, decided)).is_some()
            {
                let why = "UPDATE/MERGE must match at most one source row for each target row";
                return Err(ApiError::invalid_query(why));
            }
        }
        for (row, _, decided) in self.decide(Side::NotMatchedBySource, &format!("`{old}`.`{ROW}`"), &target).await? {
            if let Some(decided) = decided.filter(|_| !targets.contains(&row)) {
                changes.rows.insert(row, self.changed(before, row, decided));
            }
        }
        for (row, _, decided) in self.decide(Side::NotMatched, &format!("`{new}`.`{SOURCE_ROW}`"), &source).await? {
            if let Some(Decided::Insert(cells)) = decided.filter(|_| !sources.contains(&row)) {
                changes.inserted.push(cells);
            }
        }
        Ok(changes)
    }

    fn changed(&self, before: &Table, row: usize, decided: Decided) -> Option<Row> {
        match decided {
            Decided::Update(fields, cells) => Some(with(&before.rows[row].cells, self.fields, &fields, cells)),
            Decided::Delete | Decided::Insert(_) => None,
        }
    }

    /// For each row that the query gives its number, a second one if there are two, and what the clauses of a side say.
    async fn decide(
        &self,
        side: Side,
        numbers_: &str,
        from: &str,
    ) -> Result<Vec<(usize, Option<usize>, Option<Decided>)>, ApiError> {
        let clauses: Vec<&When> = self.merge.clauses.iter().filter(|clause| clause.side == side).collect();
        let mut columns = numbers_.to_owned();
        for (clause, i) in clauses.iter().zip(0..) {
            columns += &format!(", ({}) AS `__holds_{i}`", clause.condition.as_deref().unwrap_or("TRUE"));
            for (value, j) in expressions(&clause.action).iter().zip(0..) {
                columns += &format!(", ({value}) AS `__value_{i}_{j}`");
            }
        }
        let own = [("target", self.target.clone()), ("source", self.source.clone())];
        let found = self.engine.select(&format!("SELECT {columns} FROM {from}"), &own).await?.batch()?;
        let pairs = if side == Side::Matched { 2 } else { 1 };
        let mut decided: Vec<Option<Decided>> = (0..found.num_rows()).map(|_| None).collect();
        let mut settled = vec![false; found.num_rows()];
        let mut at = pairs;
        for clause in clauses {
            let holds = found.column(at).as_boolean_opt().cloned();
            let holds = holds.ok_or_else(|| ApiError::invalid_query("WHEN ... AND should have a condition of type BOOL"))?;
            let fields = self.written(&clause.action)?;
            let rows = cells(self.fields, &fields, &part(&found, at + 1, &fields)?, &clause.action)?;
            for (row, cells) in rows.into_iter().enumerate() {
                if settled[row] || !holds.is_valid(row) || !holds.value(row) {
                    continue;
                }
                settled[row] = true;
                decided[row] = Some(match &clause.action {
                    Action::Delete => Decided::Delete,
                    Action::Update(_) => Decided::Update(fields.clone(), cells.map_err(ApiError::invalid_query)?),
                    Action::Insert { .. } => Decided::Insert(cells.map_err(ApiError::invalid_query)?),
                });
            }
            at += 1 + fields.len();
        }
        let second: Vec<Option<usize>> =
            if pairs == 2 { numbers(&found, 1).map(Some).collect() } else { vec![None; found.num_rows()] };
        Ok(numbers(&found, 0).zip(second).zip(decided).map(|((row, second), decided)| (row, second, decided)).collect())
    }

    /// The columns that a clause writes, in the order of its values.
    fn written(&self, action: &Action) -> Result<Vec<Field>, ApiError> {
        written(self.fields, action)
    }
}

fn written(fields: &[Field], action: &Action) -> Result<Vec<Field>, ApiError> {
    match action {
        Action::Delete => Ok(Vec::new()),
        Action::Update(values) => named(fields, values.iter().map(|value| value.column.as_str())),
        Action::Insert { columns, values } if columns.is_empty() => {
            if values.len() == fields.len() {
                return Ok(fields.to_vec());
            }
            let why = format!("Inserted row has wrong column count; Has {}, expected {}", values.len(), fields.len());
            Err(ApiError::invalid_query(why))
        }
        Action::Insert { columns, .. } => named(fields, columns.iter().map(String::as_str)),
    }
}

fn expressions(action: &Action) -> Vec<&str> {
    match action {
        Action::Delete => Vec::new(),
        Action::Update(values) => values.iter().map(|value| value.expression.as_str()).collect(),
        Action::Insert { values, .. } => values.iter().map(String::as_str).collect(),
    }
}

/// The cells that a clause writes, row by row: of an INSERT those of all columns.
fn cells(all: &[Field], written: &[Field], batch: &RecordBatch, action: &Action) -> Result<from_arrow::Rows, ApiError> {
    let fields = if matches!(action, Action::Insert { .. }) { all } else { written };
    from_arrow::rows(fields, batch, Source::Computed).map_err(|mismatch| match mismatch {
        Mismatch::Unknown(names) => ApiError::invalid_query(format!("Unrecognized name: {}", names.join(", "))),
        Mismatch::Invalid(why) => ApiError::invalid_query(why),
    })
}

/// Whether the source's columns, where a clause takes one as it is, have types that the table's columns take.
fn fits(merge: &Merge, target: &[Field], source: &[Field]) -> Result<(), ApiError> {
    for clause in &merge.clauses {
        for (field, expression) in written(target, &clause.action)?.iter().zip(expressions(&clause.action)) {
            let path = Tokens::new(expression).and_then(|mut tokens| {
                let path = tokens.path()?;
                tokens.end().map(|()| path)
            });
            let Ok(path) = path else { continue };
            let ours = match &path.dataset {
                Some(alias) => alias.eq_ignore_ascii_case(&merge.source_alias),
                None => clause.side == Side::NotMatched,
            };
            let column = source.iter().find(|column| ours && column.name.eq_ignore_ascii_case(&path.table));
            let Some(column) = column else { continue };
            let same_mode = (column.mode == Mode::Repeated) == (field.mode == Mode::Repeated);
            if !same_mode || !assignable(&column.type_, &field.type_) {
                let (from, to) = (column.type_.name(), field.type_.name());
                let why = format!("Value of type {from} cannot be assigned to {}, which has type {to}", field.name);
                return Err(ApiError::invalid_query(why));
            }
        }
    }
    Ok(())
}

fn assignable(from: &Type, to: &Type) -> bool {
    from.name() == to.name() || widens(from, to)
}

/// The table as it stands, to be read and written.
fn snapshot(engine: &Engine<'_>, place: &Place) -> Result<Table, ApiError> {
    engine.target(place)?;
    let mut table = engine.table(place)?;
    if engine.is_dry() {
        table.rows.clear();
    }
    Ok(table)
}

/// Writes changes, if the table is still as it was. A dry run has none. Rows in the streaming buffer are not changed:
/// <https://cloud.google.com/bigquery/docs/data-manipulation-language#limitations>.
fn write(
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
fn numbered(batch: &RecordBatch, name: &str) -> Result<RecordBatch, ApiError> {
    let schema = batch.schema();
    let mut fields: Vec<Arc<ArrowField>> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(ArrowField::new(name, DataType::Int64, false)));
    let count = i64::try_from(batch.num_rows()).unwrap_or(i64::MAX);
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(Int64Array::from_iter_values(0..count)) as ArrayRef);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| ApiError::invalid_query(e.to_string()))
}

fn numbers(batch: &RecordBatch, column: usize) -> impl Iterator<Item = usize> {
    let numbers = batch.column(column).as_primitive::<Int64Type>().clone();
    (0..batch.num_rows()).map(move |row| usize::try_from(numbers.value(row)).unwrap_or_default())
}

/// Columns of a batch from one on, under these columns' names.
fn part(batch: &RecordBatch, from: usize, fields: &[Field]) -> Result<RecordBatch, ApiError> {
    let columns: Vec<usize> = (from..from + fields.len()).collect();
    let part = batch.project(&columns).map_err(|e| ApiError::invalid_query(e.to_string()))?;
    renamed(&part, &fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>())
}

fn named<'a>(fields: &[Field], names: impl Iterator<Item = &'a str>) -> Result<Vec<Field>, ApiError> {
    let find = |name: &str| fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).cloned();
    names
        .map(|name| find(name).ok_or_else(|| ApiError::invalid_query(format!("Column {name} is not present in the table"))))
        .collect()
}

/// A row with some of its cells replaced.
fn with(row: &Row, all: &[Field], fields: &[Field], cells: Row) -> Row {
    let mut row = row.clone();
    for (field, cell) in fields.iter().zip(cells) {
        if let Some(at) = all.iter().position(|known| known.name == field.name) {
            row[at] = cell;
        }
    }
    row
}
