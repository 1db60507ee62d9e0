//! The store compared with the destination, and mended.
//!
//! Each commit leaves a note in the destination's own log: what it covered and what the file ledger says of it. A store that was
//! restored from an older copy, or lost, is mended from these notes, so that nothing lands twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_core::Result;
use longshore_core::commit::{Adoption, Application, CommitNumber, Entry, EntryState, Landing, check_mark};
use longshore_core::destination::{Destination, TableMark};
use longshore_core::error::{Error, Kind, code};
use longshore_core::position::Covers;
use longshore_core::store::{PipelineState, Store};

/// What a commit writes into the destination's log.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Note {
    /// The run.
    pub(crate) run: String,
    /// What the commit covers.
    pub(crate) covers: Vec<Covers>,
    /// Its lines of the file ledger.
    pub(crate) landings: Vec<Landing>,
}

impl Note {
    pub(crate) fn of(entry: &Entry) -> Self {
        let landings = entry.draft.landings.iter().map(|landing| Landing { n: entry.n, ..landing.clone() }).collect();
        Self { run: entry.draft.run.clone(), covers: entry.draft.covers.clone(), landings }
    }

    pub(crate) fn to_json(&self) -> Result<serde_json::Value> {
        serde_json::to_value(self).map_err(|e| Error::new(Kind::Bug, code::BUG, "a note cannot be written").caused_by(e))
    }
}

/// One mismatch between store and destination.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Finding {
    /// The table.
    pub table: String,
    /// What is wrong.
    pub what: String,
    /// What mends it.
    pub fix: String,
    /// Whether that was done.
    pub applied: bool,
}

/// Compares the marks of these tables, and of those that the store knows, with the journal of `pipeline`. With `apply`
/// the store is made to agree with the destination; the destination's tables are never changed. May be repeated.
pub async fn repair(
    store: Arc<dyn Store>,
    destination: Arc<dyn Destination>,
    pipeline: &str,
    tables: &[String],
    apply: bool,
) -> Result<Vec<Finding>> {
    let state = store.pipeline(pipeline).await?;
    let mut all: Vec<String> = state.published.keys().chain(tables).cloned().collect();
    all.extend(state.open.iter().flat_map(Entry::tables));
    all.sort();
    all.dedup();
    let marks = destination.open(&state.application, &all).await?;
    let repair = Repair { store, destination, pipeline, state, apply };
    match repair.lost_ledger(&marks) {
        Some(lost) => repair.take_over(lost, &marks).await,
        None => repair.compare(&marks).await,
    }
}

struct Repair<'a> {
    store: Arc<dyn Store>,
    destination: Arc<dyn Destination>,
    pipeline: &'a str,
    state: PipelineState,
    apply: bool,
}

impl Repair<'_> {
    /// The identity under which the tables know this pipeline, if this store has never written to them.
    fn lost_ledger(&self, marks: &BTreeMap<String, TableMark>) -> Option<Application> {
        if self.state.last > 0 || marks.values().any(|mark| mark.last.is_some()) {
            return None;
        }
        let mut others = marks.values().flat_map(|mark| &mark.others).filter(|other| other.pipeline == self.pipeline);
        others.next().cloned()
    }

    /// Makes this store the one that `lost` was in.
    async fn take_over(&self, lost: Application, marks: &BTreeMap<String, TableMark>) -> Result<Vec<Finding>> {
        let written: Vec<String> =
            marks.iter().filter(|(_, mark)| mark.others.contains(&lost)).map(|(table, _)| table.clone()).collect();
        let seen = self.destination.open(&lost, &written).await?;
        let mut adoption = Adoption { application: Some(lost.clone()), ..Adoption::default() };
        let mut findings = Vec::new();
        for (table, mark) in seen {
            let Some(n) = mark.last else { continue };
            let commits = self.read_notes(&lost, &table, 0, n, &mut adoption).await?;
            findings.push(Finding {
                what: format!("table {table} holds commit {n} of a ledger that is not in this store"),
                fix: format!("take over its ledger, with what the table's log tells of {commits} commits; do this only if the store {} is lost", lost.store),
                table,
                applied: self.apply,
            });
        }
        if self.apply {
            self.store.adopt(self.pipeline, &adoption).await?;
        }
        Ok(findings)
    }

    async fn compare(&self, marks: &BTreeMap<String, TableMark>) -> Result<Vec<Finding>> {
        let pending: Vec<CommitNumber> =
            self.state.open.iter().filter(|entry| entry.state == EntryState::Journalled).map(|entry| entry.n).collect();
        let mut findings = Vec::new();
        for (table, mark) in marks {
            let published = self.state.published.get(table).copied();
            let Err(error) = check_mark(table, mark.last, published, &pending) else { continue };
            let fix = match mark.last {
                Some(n) if mark.last > published => self.catch_up(table, published.unwrap_or(0), n).await?,
                _ => self.forget(table).await?,
            };
            let what = format!("{error} (the table holds {}, the store says {})", number(mark.last), number(published));
            findings.push(Finding { table: table.clone(), what, fix, applied: self.apply });
        }
        Ok(findings)
    }

    async fn catch_up(&self, table: &str, published: CommitNumber, n: CommitNumber) -> Result<String> {
        let mut adoption = Adoption::default();
        let found = self.read_notes(&self.state.application, table, published, n, &mut adoption).await?;
        if self.apply {
            self.store.adopt(self.pipeline, &adoption).await?;
        }
        Ok(format!("take over what the table's log tells of {found} commits up to {n}, so that their files are not loaded again"))
    }

    async fn forget(&self, table: &str) -> Result<String> {
        if self.apply {
            self.store.forget_table(self.pipeline, table).await?;
        }
        Ok("forget what was landed in this table, so that its files are loaded again".to_owned())
    }

    /// Adds a table's mark and the notes of its commits after `after`; returns how many notes there were.
    async fn read_notes(
        &self,
        application: &Application,
        table: &str,
        after: CommitNumber,
        n: CommitNumber,
        adoption: &mut Adoption,
    ) -> Result<usize> {
        adoption.marks.insert(table.to_owned(), n);
        let mut found = 0;
        for past in self.destination.history(application, table).await? {
            if past.n <= after {
                continue;
            }
            // A log entry of another shape is not ours; the mark alone is still right.
            let Ok(note) = serde_json::from_value::<Note>(past.note) else { continue };
            found += 1;
            adoption.covers.extend(note.covers);
            adoption.landings.extend(note.landings);
        }
        Ok(found)
    }
}

fn number(n: Option<CommitNumber>) -> String {
    n.map_or_else(|| "no commit".to_owned(), |n| format!("commit {n}"))
}
