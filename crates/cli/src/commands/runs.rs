//! `longshore runs`: the history.

mod export;

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use longshore_core::commit::{DEAD_LETTERS, Receipt};
use longshore_core::error::{Error, Kind, Result, code};
use longshore_core::event::{RunEvent, Status, Summary};
use longshore_core::position::Covers;
use longshore_core::store::{HistoryLine, Run, Store};
use serde_json::json;

use super::existing_store;
use crate::args::RunsAction;
use crate::console::Console;
use crate::reporter::changed;
use crate::{exit, listing, units};

/// The most receipts of one run that are read.
const RECEIPTS: usize = 100_000;

/// Lists, shows, cancels or exports.
pub async fn run(console: &Console, store: &Path, action: Option<RunsAction>) -> Result<u8> {
    match action.unwrap_or(RunsAction::List { pipeline: None, limit: 20 }) {
        RunsAction::List { pipeline, limit } => list(console, store, pipeline.as_deref(), limit).await?,
        RunsAction::Show { run } => show(console, &known(store, &run).await?, &run).await?,
        RunsAction::Logs { run } => logs(console, &known(store, &run).await?, &run).await?,
        RunsAction::Cancel { run } => cancel(console, &known(store, &run).await?, &run).await?,
        RunsAction::Export(args) => return export::run(console, store, &args).await,
    }
    Ok(exit::DONE)
}

/// The books that a run stands in.
async fn known(store: &Path, run: &str) -> Result<Arc<dyn Store>> {
    existing_store(store).await?.ok_or_else(|| unknown(run))
}

fn unknown(run: &str) -> Error {
    Error::new(Kind::Usage, code::USAGE, format!("there is no run `{run}`")).hint("`longshore runs list` shows the newest ones")
}

async fn list(console: &Console, folder: &Path, pipeline: Option<&str>, limit: usize) -> Result<()> {
    let runs = match existing_store(folder).await? {
        Some(books) => books.runs(pipeline, limit).await?,
        None => Vec::new(),
    };
    if console.json {
        return runs.iter().try_for_each(|run| console.object(run));
    }
    if runs.is_empty() {
        console.note(format!("no runs in {} yet", crate::summary::shown(folder)));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = runs.iter().map(line).collect();
    console.data(listing::aligned(&["RUN", "PIPELINE", "STATUS", "STARTED", "SECONDS", "ROWS", "DEAD LETTERS"], &rows))
}

fn line(run: &Run) -> Vec<String> {
    let summary = run.summary.clone().unwrap_or_default();
    vec![
        run.id.clone(),
        run.pipeline.clone(),
        status(run.status).to_owned(),
        time(run.started_at),
        run.finished_at.map_or_else(String::new, |_| format!("{:.1}", summary.seconds)),
        units::show_count(rows(&summary)),
        units::show_count(summary.rejects),
    ]
}

async fn show(console: &Console, books: &Arc<dyn Store>, id: &str) -> Result<()> {
    let (run, history) = books.run(id).await?.ok_or_else(|| unknown(id))?;
    let mut receipts = books.receipts(Some(&run.id), RECEIPTS).await?;
    receipts.sort_by(|a, b| (a.n, &a.table).cmp(&(b.n, &b.table)));
    if console.json {
        return console.object(&json!({"run": run, "events": history, "receipts": receipts}));
    }
    let summary = run.summary.clone().unwrap_or_default();
    let ended = run.finished_at.map_or_else(|| "not yet, or its process died".to_owned(), time);
    let head = [
        ("run", run.id.clone()),
        ("pipeline", run.pipeline.clone()),
        ("status", status(run.status).to_owned()),
        ("started", time(run.started_at)),
        ("ended", ended),
    ];
    let mut rows: Vec<Vec<String>> = head.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    if let Some(error) = &run.error {
        rows.push(vec!["error".to_owned(), error.clone()]);
    }
    rows.push(vec!["records".to_owned(), accounted(&summary)]);
    console.data(listing::aligned(&["", ""], &rows))?;
    let last_flow = history.iter().rev().find_map(|line| match &line.event {
        RunEvent::Flow(flow) => Some((line.at, flow)),
        _ => None,
    });
    if let Some((at, flow)) = last_flow {
        console.data(format!("\nflow at {}: {}", time(at), crate::flow::line(flow)))?;
        if !flow.tables.is_empty() {
            console.data(crate::flow::tables(flow))?;
        }
    }
    console.data("\nevents")?;
    events(console, &history)?;
    if !receipts.is_empty() {
        console.data("\nreceipts")?;
        console.data(receipts_text(&receipts))?;
        let covered = covers(&receipts);
        console.data(format!("\ncovered\n  {}", covered.join("\n  ")))?;
    }
    Ok(())
}

/// Every record that was read, in a table or in the dead letters.
fn accounted(summary: &Summary) -> String {
    let rows = rows(summary);
    let rejects = units::count(summary.rejects, "dead letter", "dead letters");
    format!("{} read = {} + {rejects}", units::show_count(rows + summary.rejects), units::count(rows, "row", "rows"))
}

fn rows(summary: &Summary) -> u64 {
    summary.tables.iter().filter(|(table, _)| *table != DEAD_LETTERS).map(|(_, rows)| rows).sum()
}

fn receipts_text(receipts: &[Receipt]) -> String {
    let rows: Vec<Vec<String>> = receipts
        .iter()
        .map(|receipt| {
            let digest = receipt.digests.first().map_or_else(String::new, |digest| digest.chars().take(16).collect());
            let commit = match (&receipt.commit, &receipt.parked) {
                (_, Some(why)) => format!("parked: {why}"),
                (Some(commit), None) => commit.clone(),
                (None, None) => String::new(),
            };
            vec![
                format!("  {}", receipt.n),
                receipt.table.clone(),
                commit,
                units::show_count(receipt.rows),
                units::show_bytes(receipt.bytes),
                digest,
            ]
        })
        .collect();
    listing::aligned(&["  COMMIT", "TABLE", "DESTINATION'S NAME", "ROWS", "BYTES", "DIGEST"], &rows)
}

fn covers(receipts: &[Receipt]) -> Vec<String> {
    let mut lines = Vec::new();
    for receipt in receipts {
        for covers in &receipt.covers {
            match covers {
                Covers::Deltas(deltas) => lines.extend(deltas.iter().map(|delta| {
                    let from = delta.from.as_ref().map_or("start", |from| from.0.as_str());
                    format!("commit {}: {} ({from}, {}]", receipt.n, delta.partition, delta.to)
                })),
                Covers::Ids { scope, ids } => {
                    lines.push(format!("commit {}: {} of {scope}", receipt.n, units::count(ids.len() as u64, "id", "ids")));
                }
            }
        }
    }
    let mut once = std::collections::HashSet::new();
    lines.retain(|line| once.insert(line.clone()));
    lines
}

async fn logs(console: &Console, books: &Arc<dyn Store>, id: &str) -> Result<()> {
    let (_, history) = books.run(id).await?.ok_or_else(|| unknown(id))?;
    if console.json {
        return history.iter().try_for_each(|line| console.object(line));
    }
    events(console, &history)
}

fn events(console: &Console, history: &[HistoryLine]) -> Result<()> {
    for line in history {
        console.data(format!("  {}  {}", line.at.format("%H:%M:%S%.3f"), words(&line.event)))?;
    }
    Ok(())
}

/// An event in a line.
fn words(event: &RunEvent) -> String {
    match event {
        RunEvent::Started { inputs, destination, process, run_time, .. } => {
            let for_time = run_time.map_or_else(String::new, |at| format!(" for {}", time(at)));
            format!("started{for_time}: {} to {destination} (process {process})", inputs.join(" "))
        }
        RunEvent::Waiting { reason } => format!("waiting: {reason}"),
        RunEvent::Recovered { n } => format!("commit {n} of an earlier run published"),
        RunEvent::Found { splits, bytes, skipped } => {
            let inputs = units::count(*splits, "input", "inputs");
            format!("found {inputs}, {}; {} known already", units::show_bytes(*bytes), units::show_count(*skipped))
        }
        RunEvent::Note { text } => format!("note: {text}"),
        RunEvent::Warning { text } => format!("warning: {text}"),
        RunEvent::Schema { table, changes } => changed(table, changes),
        RunEvent::Progress { bytes, rows, .. } => format!("{} rows, {}", units::show_count(*rows), units::show_bytes(*bytes)),
        RunEvent::Rejected { place, code, reason } => format!("dead letter {place}: {code}: {reason}"),
        RunEvent::Journalled { n } => format!("commit {n} journalled"),
        RunEvent::Published { n, table, rows, commit } => {
            let name = commit.as_ref().map_or_else(String::new, |commit| format!(" as {commit}"));
            format!("commit {n} published in {table}{name}: {}", units::count(*rows, "row", "rows"))
        }
        RunEvent::Parked { n, table, reason } => format!("commit {n} parked for {table}: {reason}"),
        RunEvent::Unparked { table } => format!("{table} shows all that was parked for it"),
        RunEvent::Flow(flow) => crate::flow::line(flow),
        RunEvent::Completed { n } => format!("commit {n} complete"),
        RunEvent::Finished { status: end, error, .. } => {
            let why = error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
            format!("{}{why}", status(*end))
        }
    }
}

async fn cancel(console: &Console, books: &Arc<dyn Store>, id: &str) -> Result<()> {
    let (run, _) = books.run(id).await?.ok_or_else(|| unknown(id))?;
    if !matches!(run.status, Status::Pending | Status::Running) {
        let message = format!("run {} has ended already ({})", run.id, status(run.status));
        return Err(Error::new(Kind::Usage, code::USAGE, message));
    }
    books.request_cancel(&run.id).await?;
    if console.json {
        return console.object(&json!({"run": run.id, "cancel_requested": true}));
    }
    console.data(format!("run {} is asked to stop", run.id))
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Pending => "PENDING",
        Status::Running => "RUNNING",
        Status::Succeeded => "SUCCEEDED",
        Status::Failed => "FAILED",
        Status::Cancelled => "CANCELLED",
    }
}

fn time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}
