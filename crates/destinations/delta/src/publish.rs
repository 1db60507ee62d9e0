//! `publish`: what was staged for one table of one commit becomes visible, together with the commit's number.
//!
//! The log is the only judge. It is read up to v; if it holds the number already, nothing is done; else v+1 is written
//! only if it is absent. If somebody has taken v+1, the log is read again: whatever it was (rows of another program, new
//! columns, this very commit by another worker), it is judged anew.

use std::sync::Arc;

use longshore_core::Result;
use longshore_core::commit::{Published, WriteDisposition};
use longshore_core::destination::{Fence, Publication};
use longshore_core::failpoint;
use serde_json::{Map, Value, json};

use crate::commit::{LogEntry, now_millis, sync_log};
use crate::error::bug;
use crate::log::{Action, Add, Remove, Txn};
use crate::partition::log_path;
use crate::schema::covers;
use crate::stage::Staged;
use crate::state::TableState;
use crate::storage::Storage;
use crate::table::{Table, blocking};

/// What is to be published, free of borrows.
pub(crate) struct Request {
    table: String,
    mark: String,
    n: i64,
    staged: Vec<Staged>,
    replacing: bool,
    info: Value,
}

/// What the log says about it.
enum Verdict {
    Settled(Published),
    Write(LogEntry),
}

impl Request {
    /// Reads the committables. Errors: `delta_committable_unreadable`.
    pub(crate) fn new(publication: &Publication<'_>) -> Result<Self> {
        let staged = publication.committables.iter().map(Staged::read).collect::<Result<Vec<_>>>()?;
        let replacing = publication.committables.iter().any(|c| c.disposition == WriteDisposition::Truncate);
        let (files, rows) = staged.iter().flat_map(|s| &s.files).fold((0u64, 0u64), |(f, r), file| (f + 1, r + file.rows));
        let info = json!({
            "operationParameters": {"mode": if replacing { "Overwrite" } else { "Append" }},
            "isBlindAppend": !replacing,
            "operationMetrics": {"numFiles": files.to_string(), "numOutputRows": rows.to_string()},
            "longshore": {
                "application": publication.application.mark(),
                "n": publication.n,
                "token": publication.token,
                "note": publication.note,
            },
        });
        Ok(Self {
            table: publication.table.to_owned(),
            mark: publication.application.mark(),
            n: publication.n,
            staged,
            replacing,
            info,
        })
    }
}

/// Publishes. Repeating it, at any time and by anybody, changes nothing.
pub(crate) async fn publish(storage: &Storage, table: &Arc<Table>, request: Request, fence: &dyn Fence) -> Result<Published> {
    let request = Arc::new(request);
    loop {
        let verdict = blocking({
            let (storage, table, request) = (storage.clone(), table.clone(), request.clone());
            move || judge(&storage, &table, &request)
        });
        let entry = match verdict.await? {
            Verdict::Settled(published) => return Ok(published),
            Verdict::Write(entry) => entry,
        };
        // Right before the write: a worker that lost its lease may have slept until here.
        fence.check().await?;
        failpoint::hit("publish.before_log_entry");
        let version = entry.version;
        let written = blocking({
            let (storage, table) = (storage.clone(), table.clone());
            move || entry.write(&storage, &table.folder, || failpoint::hit("publish.log_entry_unsynced"))
        });
        if written.await? {
            return Ok(Published::Done(version.to_string()));
        }
    }
}

fn judge(storage: &Storage, table: &Table, request: &Request) -> Result<Verdict> {
    let parked = |why: String| Ok(Verdict::Settled(Published::Parked(why)));
    let name = &request.table;
    let Some(state) = table.refresh(storage)? else {
        return parked(format!("table {name} is gone: its folder or its log was removed"));
    };
    if let Some(mark) = state.marks.get(&request.mark).filter(|mark| mark.n >= request.n) {
        // The one who wrote it may have died before syncing it.
        sync_log(storage, &table.folder)?;
        let version = mark.at.filter(|_| mark.n == request.n).map(|version| version.to_string());
        return Ok(Verdict::Settled(Published::Already(version)));
    }
    if let Err(error) = state.check_writable(name, request.replacing) {
        return parked(error.message().to_owned());
    }
    if let Some(why) = request.staged.iter().find_map(|staged| misfit(name, &state, staged)) {
        return parked(why);
    }
    let missing = missing_files(storage, &table.folder, &request.staged)?;
    if let Some(first) = missing.first() {
        return parked(format!("{} staged files of table {name} are missing or damaged, first {first}", missing.len()));
    }
    let version = state.version.checked_add(1).ok_or_else(|| bug("a table is at the last version"))?;
    let actions = actions(storage, table, &state, request)?;
    Ok(Verdict::Write(LogEntry::new(version, "WRITE", request.info.clone(), actions)?))
}

/// Why staged files do not fit the table as it is now; `None` if they do.
fn misfit(table: &str, state: &TableState, staged: &Staged) -> Option<String> {
    if staged.table_id != state.metadata.id {
        return Some(format!("table {table} was made anew since its rows were staged"));
    }
    if staged.partition_columns != state.columns.partition_columns {
        return Some(format!("table {table} is partitioned in another way since its rows were staged"));
    }
    let changed = staged.columns.iter().find(|(name, data_type)| {
        let now = state.columns.columns.iter().find(|column| column.name == **name);
        now.is_none_or(|column| column.partition || !covers(&column.data_type, data_type))
    });
    if let Some((name, _)) = changed {
        return Some(format!("column {name} of table {table} is another one since its rows were staged"));
    }
    let required = |c: &&crate::schema::Column| !c.nullable && !c.partition && !staged.columns.contains_key(&c.name);
    state
        .columns
        .columns
        .iter()
        .find(required)
        .map(|c| format!("column {} of table {table} is required since its rows were staged", c.name))
}

fn missing_files(storage: &Storage, folder: &str, staged: &[Staged]) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for file in staged.iter().flat_map(|staged| &staged.files) {
        let path = format!("{folder}/{}", file.path);
        if storage.stat(&path)?.is_none_or(|stat| stat.size != file.size) {
            missing.push(storage.address(&path).display().to_string());
        }
    }
    Ok(missing)
}

fn actions(storage: &Storage, table: &Table, state: &TableState, request: &Request) -> Result<Vec<Action>> {
    let now = now_millis();
    let txn = Txn { app_id: request.mark.clone(), version: request.n, last_updated: Some(now) };
    let mut actions = vec![Action::Txn(txn)];
    if request.replacing {
        // The rows that are there now, against this very version: if it moves on, this is computed anew.
        actions.extend(state.active_files(storage, &table.folder)?.into_iter().map(|add| Action::Remove(removed(add, now))));
    }
    for file in request.staged.iter().flat_map(|staged| &staged.files) {
        let values: Map<String, Value> = file.partition_values.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        actions.push(Action::Add(Add {
            path: log_path(&file.path),
            partition_values: values,
            size: file.size,
            modification_time: now,
            data_change: true,
            stats: Some(file.stats.clone()),
            tags: None,
            deletion_vector: None,
        }));
    }
    Ok(actions)
}

fn removed(add: Add, now: i64) -> Remove {
    Remove {
        path: add.path,
        deletion_timestamp: Some(now),
        data_change: true,
        extended_file_metadata: Some(true),
        partition_values: Some(add.partition_values),
        size: Some(add.size),
        tags: add.tags,
        deletion_vector: add.deletion_vector,
    }
}
