//! MERGE: which rows belong together, and what the clauses make of them.

use std::collections::HashSet;

use arrow::array::{Array as _, AsArray, BooleanArray, RecordBatch};
use longshore_core::schema::{Field, Mode};

use super::cell::Row;
use super::ddl::widens;
use super::dml::{CHANGING, Changes, ROW, named, numbered, numbers, part, snapshot, with, write};
use super::from_arrow::{self, Mismatch, Source};
use super::http::ApiError;
use super::jobs::QueryResult;
use super::merge::{Action, Merge, Side, When};
use super::sql::{Engine, OWN};
use super::state::Table;
use super::tokens::Tokens;

/// The column that numbers the rows of the source.
const SOURCE_ROW: &str = "__source_row";

/// `MERGE`: of the clauses of a row's kind, the first whose condition holds decides. A row of the table that more than one
/// row of the source would change is an error:
/// <https://cloud.google.com/bigquery/docs/reference/standard-sql/dml-syntax#merge_statement>.
pub(crate) async fn run(engine: &Engine<'_>, merge: &Merge) -> Result<QueryResult, ApiError> {
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

/// What a clause makes of a row.
enum Decided {
    Delete,
    /// Some columns' new cells.
    Update(Vec<Field>, Row),
    Insert(Row),
}

/// A row, or a pair of rows, and what the clauses of its kind say.
struct Found {
    row: usize,
    /// The row of the source that belongs to one of the table.
    source: Option<usize>,
    decided: Option<Decided>,
}

impl Sides<'_> {
    async fn changes(&self, before: &Table) -> Result<Changes, ApiError> {
        let (old, new) = (&self.merge.alias, &self.merge.source_alias);
        let (target, source) = (format!("`{OWN}`.`{OWN}`.`target` AS `{old}`"), format!("`{OWN}`.`{OWN}`.`source` AS `{new}`"));
        let (row, source_row) = (format!("`{old}`.`{ROW}`"), format!("`{new}`.`{SOURCE_ROW}`"));
        let mut changes = Changes::default();
        let (mut targets, mut sources) = (HashSet::new(), HashSet::new());
        let pairs = format!("{target} INNER JOIN {source} ON {}", self.merge.on);
        for found in self.decide(Side::Matched, &[&row, &source_row], &pairs, &HashSet::new()).await? {
            targets.insert(found.row);
            sources.extend(found.source);
            if let Some(decided) = found.decided
                && changes.rows.insert(found.row, self.changed(before, found.row, decided)).is_some()
            {
                return Err(ApiError::invalid_query("UPDATE/MERGE must match at most one source row for each target row"));
            }
        }
        for found in self.decide(Side::NotMatchedBySource, &[&row], &target, &targets).await? {
            if let Some(decided) = found.decided {
                changes.rows.insert(found.row, self.changed(before, found.row, decided));
            }
        }
        for found in self.decide(Side::NotMatched, &[&source_row], &source, &sources).await? {
            if let Some(Decided::Insert(cells)) = found.decided {
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

    /// What the clauses of a side make of the rows that the columns `rows` number. Those that have a match are left out.
    async fn decide(&self, side: Side, rows: &[&str], from: &str, matched: &HashSet<usize>) -> Result<Vec<Found>, ApiError> {
        let clauses: Vec<&When> = self.merge.clauses.iter().filter(|clause| clause.side == side).collect();
        let mut columns = rows.join(", ");
        for (clause, i) in clauses.iter().zip(0..) {
            columns += &format!(", ({}) AS `__holds_{i}`", clause.condition.as_deref().unwrap_or("TRUE"));
            for (value, j) in expressions(&clause.action).iter().zip(0..) {
                columns += &format!(", ({value}) AS `__value_{i}_{j}`");
            }
        }
        let own = [("target", self.target.clone()), ("source", self.source.clone())];
        let batch = self.engine.select(&format!("SELECT {columns} FROM {from}"), &own).await?.batch()?;
        let mut all: Vec<Found> = numbers(&batch, 0).map(|row| Found { row, source: None, decided: None }).collect();
        if rows.len() > 1 {
            all.iter_mut().zip(numbers(&batch, 1)).for_each(|(found, source)| found.source = Some(source));
        }
        let mut at = rows.len();
        for clause in clauses {
            let holds = holds(&batch, at)?;
            let fields = written(self.fields, &clause.action)?;
            let cells = cells(self.fields, &fields, &part(&batch, at + 1, &fields)?, &clause.action)?;
            for (i, (found, cells)) in all.iter_mut().zip(cells).enumerate() {
                let holds = holds.is_valid(i) && holds.value(i);
                if !holds || found.decided.is_some() || matched.contains(&found.row) {
                    continue;
                }
                let cells = cells.map_err(ApiError::invalid_query)?;
                found.decided = Some(match &clause.action {
                    Action::Delete => Decided::Delete,
                    Action::Update(_) => Decided::Update(fields.clone(), cells),
                    Action::Insert { .. } => Decided::Insert(cells),
                });
            }
            at += 1 + fields.len();
        }
        Ok(all)
    }
}

fn holds(batch: &RecordBatch, column: usize) -> Result<BooleanArray, ApiError> {
    let holds = batch.column(column).as_boolean_opt().cloned();
    holds.ok_or_else(|| ApiError::invalid_query("WHEN ... AND should have a condition of type BOOL"))
}

/// The columns that a clause writes, in the order of its values.
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
            let same_type = column.type_.name() == field.type_.name();
            let same_mode = (column.mode == Mode::Repeated) == (field.mode == Mode::Repeated);
            if !same_mode || (!same_type && !widens(&column.type_, &field.type_)) {
                let (from, to) = (column.type_.name(), field.type_.name());
                let why = format!("Value of type {from} cannot be assigned to {}, which has type {to}", field.name);
                return Err(ApiError::invalid_query(why));
            }
        }
    }
    Ok(())
}
