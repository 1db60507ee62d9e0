//! The marks: the table `_longshore` of the dataset says which commit of which ledger is in which table.
//!
//! A row with the state `intent` is written before a commit is published to a table and one with `done` after it. Both may be
//! written more than once. An intent alone means that nobody knows: the commit's own record of what was staged settles it.
//! A mark counts only for the table that it was written for: one that was recreated under its name has none.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use longshore_core::Result;
use longshore_core::commit::{Application, CommitNumber};
use longshore_core::destination::PastCommit;
use longshore_core::error::{Error, Retry};
use longshore_core::retry::{Patience, Policy};
use longshore_core::schema::{Field, Mode, TableSchema, Type};
use serde_json::{Map, Value, json};

use crate::error::{Failure, bug, is_missing};
use crate::jobs;
use crate::rows::Encoder;
use crate::tables::{OURS, Tables};
use crate::write::StorageWrite;

/// How far a commit is in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Intent,
    Done,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Intent => "intent",
            State::Done => "done",
        }
    }
}

/// Bytes of a note that fit a row.
const MOST_NOTE: usize = 9_000_000;

/// The newest mark of an application in a table.
pub(crate) type Newest = (CommitNumber, State);

/// What a mark says besides who, where and which.
pub(crate) struct Mark<'a> {
    pub(crate) application: &'a Application,
    pub(crate) table: &'a str,
    pub(crate) born: &'a str,
    pub(crate) n: CommitNumber,
    pub(crate) token: &'a str,
    pub(crate) amendment: i64,
    pub(crate) note: &'a Value,
}

fn schema() -> TableSchema {
    let column = |name: &str, type_: Type, description: &str| Field {
        description: Some(description.to_owned()),
        ..Field::new(name, type_).with_mode(Mode::Required)
    };
    TableSchema::new(vec![
        column("at", Type::Timestamp, "When it was written"),
        column("pipeline", Type::String, "The pipeline"),
        column("ledger", Type::String, "The id born with the pipeline's ledger"),
        column("store", Type::String, "The id of the store that the ledger is in"),
        column("table_name", Type::String, "The table"),
        column("table_born", Type::String, "When that table was made: what tells it from another of the same name"),
        column("n", Type::Int64, "The number of the commit"),
        column("token", Type::String, "The token of the commit"),
        column("amendment", Type::Int64, "How often the commit was amended"),
        column("state", Type::String, "intent: about to be published; done: visible"),
        column("note", Type::String, "What the commit covers, as JSON; in the row of the intent"),
    ])
}

/// Makes `_longshore` if it is not there.
async fn make(tables: &Tables) -> Result<()> {
    let resource = json!({
        "tableReference": {"projectId": tables.project, "datasetId": tables.dataset, "tableId": OURS},
        "description": "Written by Longshore: which commits are in which tables. Do not change it; `longshore repair` reads it.",
        "schema": {"fields": crate::columns::to_rest(&schema().fields)?},
        "timePartitioning": {"type": "DAY", "field": "at"},
        "clustering": {"fields": ["table_name", "pipeline"]},
    });
    tables.insert(OURS, &resource).await.map(drop)
}

/// Writes a mark. Repeating it changes nothing that counts.
pub(crate) async fn write(tables: &Tables, write: &StorageWrite, mark: &Mark<'_>, state: State) -> Result<()> {
    let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    let mut note = if state == State::Intent { mark.note.to_string() } else { String::new() };
    if note.len() > MOST_NOTE {
        tracing::warn!(
            n = mark.n,
            bytes = note.len(),
            "a commit's note is too long for its mark: repair will know only its number"
        );
        note.clear();
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(vec![chrono::Utc::now().timestamp_micros()]).with_timezone("UTC")),
        text(&mark.application.pipeline),
        text(&mark.application.ledger),
        text(&mark.application.store),
        text(mark.table),
        text(mark.born),
        Arc::new(Int64Array::from(vec![mark.n])),
        text(mark.token),
        Arc::new(Int64Array::from(vec![mark.amendment])),
        text(state.name()),
        text(&note),
    ];
    let schema = schema();
    let batch =
        RecordBatch::try_new(schema.to_arrow(), columns).map_err(|e| bug("a mark does not fit its table").caused_by(e))?;
    let mut encoder = Encoder::new(&schema)?;
    let pieces = encoder.cut(&batch)?.pieces;
    let stream = format!("{}/streams/_default", tables.resource_name(OURS));
    let append = || async {
        let mut appender = write.appender(&stream, encoder.header.clone(), None);
        for piece in pieces.clone() {
            appender.append(piece, 0).await?;
        }
        appender.finish().await.map(drop)
    };
    match append().await {
        Err(error) if is_missing(&error) => make(tables).await?,
        answer => return answer,
    }
    // Where rows are written a new table is known a little later than where tables are made.
    let late = |error: Error| if is_missing(&error) { error.with_retry(Retry::Backoff) } else { error };
    Policy { tries: 10, ..Policy::default() }.run(&Patience::default(), || async { append().await.map_err(late) }).await
}

/// The newest mark of every application in each of these tables, each for the table as it is now.
pub(crate) async fn newest(
    tables: &Tables,
    born: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Vec<(Application, Newest)>>> {
    let mut found: BTreeMap<String, Vec<(Application, Newest)>> = BTreeMap::new();
    if born.is_empty() {
        return Ok(found);
    }
    let list: Vec<String> = born.keys().map(|table| quoted(table)).collect();
    let sql = format!(
        "SELECT pipeline, ledger, store, table_name, table_born, n, MIN(state) AS state FROM {} \
         WHERE table_name IN ({}) GROUP BY pipeline, ledger, store, table_name, table_born, n",
        tables.sql_name(OURS),
        list.join(", ")
    );
    for row in rows(tables, "marks", &sql).await? {
        let table = text(&row, "table_name")?;
        if born.get(&table) != Some(&text(&row, "table_born")?) {
            continue;
        }
        let application =
            Application { pipeline: text(&row, "pipeline")?, ledger: text(&row, "ledger")?, store: text(&row, "store")? };
        // `done` comes before `intent` in the order of words.
        let state = if text(&row, "state")? == State::Done.name() { State::Done } else { State::Intent };
        let mark = (number(&row, "n")?, state);
        let marks = found.entry(table).or_default();
        match marks.iter_mut().find(|(known, _)| *known == application) {
            Some((_, newest)) => *newest = mark.max(*newest),
            None => marks.push((application, mark)),
        }
    }
    Ok(found)
}

/// The notes of the commits of an application in a table, in order; the newest, if a commit was amended.
pub(crate) async fn history(tables: &Tables, application: &Application, table: &str, born: &str) -> Result<Vec<PastCommit>> {
    let sql = format!(
        "SELECT n, amendment, MAX(note) AS note, MIN(state) AS state FROM {} WHERE pipeline = {} AND ledger = {} AND store = {} AND table_name = {} \
         AND table_born = {} GROUP BY n, amendment ORDER BY n, amendment",
        tables.sql_name(OURS),
        quoted(&application.pipeline),
        quoted(&application.ledger),
        quoted(&application.store),
        quoted(table),
        quoted(born)
    );
    let mut commits: Vec<PastCommit> = Vec::new();
    for row in rows(tables, "history", &sql).await? {
        let note = serde_json::from_str(&text(&row, "note")?).unwrap_or_default();
        let past = PastCommit { n: number(&row, "n")?, note, done: text(&row, "state")? == State::Done.name() };
        match commits.last_mut() {
            Some(last) if last.n == past.n => *last = past,
            _ => commits.push(past),
        }
    }
    Ok(commits)
}

/// Rows of `_longshore`; none if there is no such table yet.
async fn rows(tables: &Tables, doing: &str, sql: &str) -> Result<Vec<Map<String, Value>>> {
    match jobs::rows(tables, doing, sql).await {
        Ok(rows) => Ok(rows),
        Err(Failure::Refused(refusal)) if refusal.is_missing() => {
            // It is the table that is missing: a dataset that is missing is an error.
            tables.location().await?;
            Ok(Vec::new())
        }
        Err(failure) => Err(failure.into()),
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("'");
    for c in text.chars() {
        match c {
            '\'' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            c => quoted.push(c),
        }
    }
    quoted + "'"
}

fn text(row: &Map<String, Value>, column: &str) -> Result<String> {
    let value = row.get(column).and_then(Value::as_str).map(str::to_owned);
    value.ok_or_else(|| crate::error::destination(crate::error::codes::ANSWER, format!("a row of {OURS} has no {column}")))
}

fn number(row: &Map<String, Value>, column: &str) -> Result<CommitNumber> {
    let text = text(row, column)?;
    text.parse().map_err(|_| {
        crate::error::destination(crate::error::codes::ANSWER, format!("a row of {OURS} has a {column} that is no number"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_in_sql_stays_one_text() {
        assert_eq!(quoted("a'b\\c\nd"), r"'a\'b\\c\nd'");
    }
}
