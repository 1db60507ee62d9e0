//! The store compared with the destination, and mended.
//!
//! Each commit leaves a note in the destination's own log: what it covered and what the file ledger says of it. A store that was
//! restored from an older copy, or lost, is mended from these notes, so that nothing lands twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_core::Result;
use longshore_core::commit::{Adoption, Application, CommitNumber, Entry, EntryState, Landing, Parked, check_mark};
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
    /// All of it, for a destination whose log also tells of commits that are not visible yet. Then the other two are empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) entry: Option<Box<Entry>>,
}

impl Note {
    pub(crate) fn of(entry: &Entry) -> Self {
        let landings = entry.draft.landings.iter().map(|landing| Landing { n: entry.n, ..landing.clone() }).collect();
        Self { run: entry.draft.run.clone(), covers: entry.draft.covers.clone(), landings, entry: None }
    }

    pub(crate) fn whole(entry: &Entry) -> Self {
        let run = entry.draft.run.clone();
        Self { run, covers: Vec::new(), landings: Vec::new(), entry: Some(Box::new(entry.clone())) }
    }

    /// How many ids of messages it tells.
    fn ids(&self) -> usize {
        let covers = self.entry.as_ref().map_or(&self.covers, |entry| &entry.draft.covers);
        let ids = |covers: &Covers| if let Covers::Ids { ids, .. } = covers { ids.len() } else { 0 };
        covers.iter().map(ids).sum()
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
/// the store is made to agree with the destination, and rows that wait for the tables of `give_up` are given up; the destination's tables are
/// never changed. May be repeated.
pub async fn repair(
    store: Arc<dyn Store>,
    destination: Arc<dyn Destination>,
    pipeline: &str,
    tables: &[String],
    give_up: &[String],
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
        None => Ok([repair.compare(&marks).await?, repair.parked(give_up).await?].concat()),
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
        let ahead = seen.into_iter().filter_map(|(table, mark)| Some((table, (0, mark.last?)))).collect();
        let (mut adoption, found) = self.read_notes(&lost, &ahead).await?;
        adoption.application = Some(lost.clone());
        let findings = ahead.into_iter().map(|(table, (_, n))| Finding {
            what: format!("table {table} holds commit {n} of a ledger that is not in this store"),
            fix: format!(
                "take over its ledger, with {}; do this only if the store {} is lost",
                found.get(&table).cloned().unwrap_or_default(),
                lost.store
            ),
            table,
            applied: self.apply,
        });
        let findings = findings.collect();
        if self.apply {
            self.store.adopt(self.pipeline, &adoption).await?;
        }
        Ok(findings)
    }

    async fn compare(&self, marks: &BTreeMap<String, TableMark>) -> Result<Vec<Finding>> {
        let journalled = self.state.open.iter().filter(|entry| entry.state == EntryState::Journalled).map(|entry| entry.n);
        let parked = |table: &str| {
            let of = self.state.parked.iter().filter(|part| part.table == table);
            of.map(|part| part.n).collect::<Vec<CommitNumber>>()
        };
        let (mut findings, mut ahead) = (Vec::new(), BTreeMap::new());
        for (table, mark) in marks {
            let published = self.state.published.get(table).copied();
            let pending: Vec<CommitNumber> = journalled.clone().chain(parked(table)).collect();
            let Err(error) = check_mark(table, mark.last, published, &pending) else { continue };
            let fix = match mark.last {
                Some(n) if mark.last > published => {
                    ahead.insert(table.clone(), (published.unwrap_or(0), n));
                    String::new()
                }
                _ => self.forget(table).await?,
            };
            let what = format!("{error} (the table holds {}, the store says {})", number(mark.last), number(published));
            findings.push(Finding { table: table.clone(), what, fix, applied: self.apply });
        }
        if ahead.is_empty() {
            return Ok(findings);
        }
        let (adoption, mut found) = self.read_notes(&self.state.application, &ahead).await?;
        for finding in &mut findings {
            if let Some(words) = found.remove(&finding.table) {
                finding.fix = format!("take over {words}");
            }
        }
        if self.apply {
            self.store.adopt(self.pipeline, &adoption).await?;
        }
        Ok(findings)
    }

    /// What waits for tables, and has to be given up as far as `give_up` says.
    async fn parked(&self, give_up: &[String]) -> Result<Vec<Finding>> {
        let mut tables: BTreeMap<&str, Vec<&Parked>> = BTreeMap::new();
        for part in &self.state.parked {
            tables.entry(&part.table).or_default().push(part);
        }
        let mut findings = Vec::new();
        for (table, parts) in tables {
            let rows: u64 = parts.iter().map(|part| part.receipt.rows).sum();
            let reason = parts.iter().find_map(|part| part.receipt.parked.as_deref()).unwrap_or_default();
            let given_up = give_up.iter().any(|name| name == table);
            let applied = given_up && self.apply;
            if applied {
                self.store.give_up_parked(self.pipeline, table).await?;
            }
            let fix = if given_up {
                format!("give up these {rows} rows, which no table has")
            } else {
                format!("leave them: they are published when the table can take them; `--give-up {table}` gives them up")
            };
            let what = format!("{rows} rows of {} commits wait for table {table}: {reason}", parts.len());
            findings.push(Finding { table: table.to_owned(), what, fix, applied });
        }
        Ok(findings)
    }

    async fn forget(&self, table: &str) -> Result<String> {
        if self.apply {
            self.store.forget_table(self.pipeline, table).await?;
        }
        Ok("forget what was landed in this table, so that its files are loaded again".to_owned())
    }

    /// What the logs of these tables, each behind one commit and up to another, tell of commits that this store lacks; and the same in
    /// words, by table.
    async fn read_notes(
        &self,
        application: &Application,
        ahead: &BTreeMap<String, (CommitNumber, CommitNumber)>,
    ) -> Result<(Adoption, BTreeMap<String, String>)> {
        let (mut adoption, mut words) = (Adoption::default(), BTreeMap::new());
        let mut notes: BTreeMap<CommitNumber, Note> = BTreeMap::new();
        // What each table shows for certain.
        let mut shown: BTreeMap<String, CommitNumber> = self.state.published.clone();
        for (table, (after, n)) in ahead {
            let (mut found, mut unsure) = (0, false);
            for past in self.destination.history(application, table).await?.into_iter().filter(|past| past.n > *after) {
                // A log entry of another shape is not ours; the mark alone is still right.
                let Ok(note) = serde_json::from_value::<Note>(past.note) else { continue };
                found += 1;
                unsure = !past.done && note.entry.is_some();
                if past.done {
                    shown.insert(table.clone(), past.n);
                }
                // Of the tables of a commit one alone may tell the ids.
                if notes.get(&past.n).is_none_or(|known| known.ids() < note.ids()) {
                    notes.insert(past.n, note);
                }
            }
            if !unsure {
                shown.insert(table.clone(), *n);
            }
            words.insert(
                table.clone(),
                format!("what the table's log tells of {found} commits up to {n}, so that their files are not loaded again"),
            );
        }
        for (n, note) in notes {
            let note = match note.entry {
                // Some table may lack it: publishing it changes nothing where it is there.
                Some(entry) if n > self.state.last && entry.tables().iter().any(|table| shown.get(table) < Some(&n)) => {
                    adoption.entries.push(*entry);
                    continue;
                }
                Some(entry) => Note::of(&entry),
                None => note,
            };
            adoption.covers.extend(note.covers);
            adoption.landings.extend(note.landings);
        }
        adoption.marks = shown.into_iter().filter(|(table, _)| ahead.contains_key(table)).collect();
        Ok((adoption, words))
    }
}

fn number(n: Option<CommitNumber>) -> String {
    n.map_or_else(|| "no commit".to_owned(), |n| format!("commit {n}"))
}
