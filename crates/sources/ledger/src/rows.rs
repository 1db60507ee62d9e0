//! What the store says of runs, as rows. A row's fields are named as its table's columns are.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::json::ReaderBuilder;
use chrono::{DateTime, Utc};
use longshore_core::Result;
use longshore_core::batch::{Batch, Rows};
use longshore_core::commit::{CommitNumber, DEAD_LETTERS, DeadLetterState, Receipt};
use longshore_core::error::{Error, Kind, code};
use longshore_core::event::{RunEvent, Status, Summary};
use longshore_core::store::{HistoryLine, IndexedDeadLetter, Run};
use serde::Serialize;

use crate::tables::{DEAD_LETTER_INDEX, RECEIPTS, RUN_EVENTS, RUNS};

/// Rows of one batch at most.
const BATCH: usize = 8192;
/// What a row takes besides its long texts, roughly, in bytes.
const ROW: u64 = 256;

/// The rows of some runs.
#[derive(Default)]
pub(crate) struct Pages {
    runs: Vec<RunRow>,
    events: Vec<EventRow>,
    receipts: Vec<ReceiptRow>,
    letters: Vec<LetterRow>,
    bytes: u64,
}

/// Each table's columns, as rows are to be encoded.
pub(crate) type Columns = Arc<BTreeMap<String, SchemaRef>>;

#[derive(Serialize)]
struct RunRow {
    run: String,
    pipeline: String,
    status: Status,
    started_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
    seconds: Option<f64>,
    rows: Option<u64>,
    rejects: Option<u64>,
    bytes: Option<u64>,
    commits: Option<u64>,
    landed: Option<u64>,
    skipped: Option<u64>,
    error: Option<String>,
    code: Option<String>,
    inputs: Vec<String>,
    destination: Option<String>,
    process: Option<u32>,
}

#[derive(Serialize)]
struct EventRow {
    run: String,
    sequence: i64,
    at: DateTime<Utc>,
    event: String,
    details: String,
}

#[derive(Serialize)]
struct ReceiptRow {
    run: String,
    n: CommitNumber,
    pipeline: String,
    table_name: String,
    commit: Option<String>,
    parked: Option<String>,
    rows: u64,
    bytes: u64,
    digests: Vec<String>,
    covers: String,
    at: DateTime<Utc>,
}

#[derive(Serialize)]
struct LetterRow {
    id: String,
    code: String,
    table: Option<String>,
    file: String,
    line: Option<u64>,
    column: Option<u64>,
    state: DeadLetterState,
    pipeline: String,
    n: CommitNumber,
    run: String,
    at: DateTime<Utc>,
}

impl Pages {
    /// The memory that they take, roughly.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a run and what its history says.
    pub(crate) fn run(&mut self, run: Run, history: Vec<HistoryLine>) -> Result<()> {
        for line in &history {
            let event = event_row(&run.id, line)?;
            self.bytes += ROW + event.details.len() as u64;
            self.events.push(event);
        }
        let row = run_row(run, &history);
        self.bytes += ROW + row.inputs.iter().map(|input| input.len() as u64).sum::<u64>();
        self.runs.push(row);
        Ok(())
    }

    /// Adds what commits left.
    pub(crate) fn receipts(&mut self, receipts: Vec<Receipt>) -> Result<()> {
        for receipt in receipts {
            let row = receipt_row(receipt)?;
            self.bytes += ROW + row.covers.len() as u64 + row.digests.iter().map(|digest| digest.len() as u64).sum::<u64>();
            self.receipts.push(row);
        }
        Ok(())
    }

    /// Adds lines of the index of dead letters.
    pub(crate) fn letters(&mut self, letters: Vec<IndexedDeadLetter>) {
        for letter in letters {
            let row = letter_row(letter);
            self.bytes += ROW + row.file.len() as u64;
            self.letters.push(row);
        }
    }

    /// All rows, in the columns of their tables.
    pub(crate) fn batches(self, columns: &Columns) -> Result<Vec<Batch>> {
        let mut batches = encode(RUNS, &self.runs, columns)?;
        batches.extend(encode(RUN_EVENTS, &self.events, columns)?);
        batches.extend(encode(RECEIPTS, &self.receipts, columns)?);
        batches.extend(encode(DEAD_LETTER_INDEX, &self.letters, columns)?);
        Ok(batches)
    }
}

fn run_row(run: Run, history: &[HistoryLine]) -> RunRow {
    let started = history.iter().find_map(|line| match &line.event {
        RunEvent::Started { inputs, destination, process, .. } => Some((inputs.clone(), destination.clone(), *process)),
        _ => None,
    });
    let code = history.iter().rev().find_map(|line| match &line.event {
        RunEvent::Finished { code, .. } => code.clone(),
        _ => None,
    });
    let (inputs, destination, process) = match started {
        Some((inputs, destination, process)) => (inputs, Some(destination), Some(process)),
        None => (Vec::new(), None, None),
    };
    let summary = run.summary.as_ref();
    RunRow {
        seconds: summary.map(|summary| summary.seconds),
        rows: summary.map(landed_rows),
        rejects: summary.map(|summary| summary.rejects),
        bytes: summary.map(|summary| summary.bytes),
        commits: summary.map(|summary| summary.commits),
        landed: summary.map(|summary| summary.landed),
        skipped: summary.map(|summary| summary.skipped),
        run: run.id,
        pipeline: run.pipeline,
        status: run.status,
        started_at: run.started_at,
        finished_at: run.finished_at,
        error: run.error,
        code,
        inputs,
        destination,
        process,
    }
}

fn landed_rows(summary: &Summary) -> u64 {
    summary.tables.iter().filter(|(table, _)| *table != DEAD_LETTERS).map(|(_, rows)| rows).sum()
}

fn event_row(run: &str, line: &HistoryLine) -> Result<EventRow> {
    let details = serde_json::to_value(&line.event).map_err(|e| unreadable("an event", e))?;
    let event = details.get("event").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    Ok(EventRow { run: run.to_owned(), sequence: line.sequence, at: line.at, event, details: details.to_string() })
}

fn receipt_row(receipt: Receipt) -> Result<ReceiptRow> {
    Ok(ReceiptRow {
        covers: serde_json::to_string(&receipt.covers).map_err(|e| unreadable("a receipt", e))?,
        run: receipt.run,
        n: receipt.n,
        pipeline: receipt.pipeline,
        table_name: receipt.table,
        commit: receipt.commit,
        parked: receipt.parked,
        rows: receipt.rows,
        bytes: receipt.bytes,
        digests: receipt.digests,
        at: receipt.at,
    })
}

fn letter_row(letter: IndexedDeadLetter) -> LetterRow {
    LetterRow {
        id: letter.key.id,
        code: letter.key.code,
        table: letter.key.table,
        file: letter.key.place.file,
        line: letter.key.place.line,
        column: letter.key.place.column,
        state: letter.state,
        pipeline: letter.pipeline,
        n: letter.n,
        run: letter.run,
        at: letter.at,
    }
}

fn unreadable(what: &str, error: serde_json::Error) -> Error {
    Error::new(Kind::Bug, code::BUG, format!("{what} of the ledger cannot be written as JSON")).caused_by(error)
}

fn encode<R: Serialize>(table: &str, rows: &[R], columns: &Columns) -> Result<Vec<Batch>> {
    let missing = || Error::new(Kind::Bug, code::BUG, format!("the table {table} was not prepared"));
    let columns = columns.get(table).ok_or_else(missing)?;
    rows.chunks(BATCH)
        .filter_map(|rows| to_arrow(rows, columns).transpose())
        .map(|rows| {
            let unfit = |e| Error::new(Kind::Bug, code::BUG, format!("rows of the ledger do not fit {table}")).caused_by(e);
            Ok(Batch { table: table.to_owned(), rows: Rows::Plain(rows.map_err(unfit)?), rejects: Vec::new() })
        })
        .collect()
}

/// Rows by the names of their fields. A column that no field has is null.
fn to_arrow<R: Serialize>(rows: &[R], columns: &SchemaRef) -> Result<Option<RecordBatch>, arrow::error::ArrowError> {
    let mut decoder = ReaderBuilder::new(columns.clone()).build_decoder()?;
    decoder.serialize(rows)?;
    decoder.flush()
}

#[cfg(test)]
mod tests;
