//! Which tables there are for a stream's messages, and with which columns: found at the destination, in schema files, or made as messages need
//! them, all while the stream runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use longshore_core::Result;
use longshore_core::batch::{OPERATION, ORDER};
use longshore_core::commit::{Contract, DEAD_LETTERS};
use longshore_core::destination::SchemaChange;
use longshore_core::error::{Error, Kind, Retry, code};
use longshore_core::schema::TableSchema;
use longshore_core::source::{Description, Target};
use longshore_core::stream::{Tables, Wanted};

use super::schemas::Schemas;
use crate::prepare::wanted;
use crate::session::Session;

/// How old an answer of the destination may be before it is asked again: a new table or column is there this soon.
const FRESH: Duration = Duration::from_secs(2);
/// How old the look at the schema files may be when a name is not among them.
const AT_ONCE: Duration = Duration::from_millis(100);
/// Names that are remembered to be unknown. Messages can make up any number of them.
const UNKNOWN: usize = 10_000;

/// The tables as a decoder sees them, with a number that tells one state from another.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) version: u64,
    pub(crate) tables: Tables,
}

/// Where the present snapshot is found, by any thread.
pub(crate) type Shared = Arc<RwLock<Arc<Snapshot>>>;

/// What the engine knows of a table.
struct Known {
    /// The columns of every table that rows of it are staged for: itself, its history, or both.
    schemas: BTreeMap<String, TableSchema>,
    /// Where each change goes as a row.
    history: Option<String>,
    /// When the destination was asked.
    at: Instant,
}

/// The tables of a run.
pub(crate) struct TableBook {
    session: Arc<Session>,
    shared: Shared,
    known: BTreeMap<String, Known>,
    keys: BTreeMap<String, Vec<String>>,
    schemas: Schemas,
    /// Since when messages for a table are dead letters because it cannot be written.
    closed: BTreeMap<String, Instant>,
    /// Tables that are not what the journal says, since when, and what is wrong: their rows are staged, and parked.
    held: BTreeMap<String, (Instant, String)>,
    /// The tables of the destination, when they were listed.
    listed: Option<(Instant, BTreeSet<String>)>,
    /// When names were first found to be unknown, the oldest of those remembered.
    unknown_since: Option<Instant>,
    looked: Option<Instant>,
}

impl TableBook {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            shared: Shared::default(),
            known: BTreeMap::new(),
            keys: BTreeMap::new(),
            schemas: Schemas::default(),
            closed: BTreeMap::new(),
            held: BTreeMap::new(),
            listed: None,
            unknown_since: None,
            looked: None,
        }
    }

    pub(crate) fn shared(&self) -> Shared {
        self.shared.clone()
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// The columns that rows of a table are staged in.
    pub(crate) fn schema(&self, source: &str, table: &str) -> Option<&TableSchema> {
        self.known.get(source)?.schemas.get(table)
    }

    /// Where the changes of a table go as rows.
    pub(crate) fn history(&self, source: &str) -> Option<&str> {
        self.known.get(source)?.history.as_deref()
    }

    /// Why the rows of a table are only staged, and parked.
    pub(crate) fn held(&self, table: &str) -> Option<&str> {
        self.held.get(table).map(|(_, why)| why.as_str())
    }

    /// From now on messages for this table are dead letters: rows cannot be staged for it. It is tried again after a while.
    pub(crate) fn close(&mut self, table: &str, why: &str) {
        let has = |known: &Known| known.schemas.contains_key(table);
        let source = self.known.iter().find(|(_, known)| has(known)).map_or(table, |(source, _)| source).to_owned();
        self.session.cx.events.warn(format!("table {table} cannot be written, so its messages are dead letters: {why}"));
        self.known.remove(&source);
        self.closed.insert(source.clone(), Instant::now());
        self.change(|tables| {
            tables.known.remove(&source);
            tables.closed.insert(source, why.to_owned());
        });
    }

    fn change(&self, change: impl FnOnce(&mut Tables)) {
        let mut snapshot = (*self.snapshot()).clone();
        change(&mut snapshot.tables);
        snapshot.version += 1;
        *self.shared.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(snapshot);
    }

    /// Looks at the schema files again, and forgets which names are unknown, if that is some time ago. Returns whether anything changed.
    pub(crate) async fn refresh(&mut self) -> Result<bool> {
        if self.looked.is_some_and(|at| at.elapsed() < FRESH / 2) {
            return Ok(false);
        }
        self.looked = Some(Instant::now());
        let mut changed = false;
        if let Some(folder) = self.session.pipeline.stream.schemas.clone() {
            let (tables, wrong) = self.schemas.refresh(&folder)?;
            for error in wrong {
                self.session.cx.events.warn(error.to_string());
            }
            for table in tables {
                changed |= self.prepare(&table, Wanted::default()).await?;
            }
        }
        self.reopen();
        if self.unknown_since.is_some_and(|at| at.elapsed() >= FRESH) {
            self.unknown_since = None;
            self.change(|tables| tables.unknown.clear());
        }
        Ok(changed)
    }

    /// What was left alone for a while is looked at again: as if it were new when the next message comes.
    fn reopen(&mut self) {
        let left_alone = self.session.pipeline.stream.park_after;
        let (over, mut again) = (|at: &Instant| at.elapsed() >= left_alone, BTreeSet::new());
        self.closed.retain(|table, at| !over(at) || !again.insert(table.clone()));
        self.held.retain(|table, (at, _)| !over(at) || !again.insert(table.clone()));
        if again.is_empty() {
            return;
        }
        let of = |known: &Known| known.schemas.keys().any(|table| again.contains(table));
        again.extend(self.known.extract_if(.., |_, known| of(known)).map(|(table, _)| table).collect::<Vec<_>>());
        self.change(|tables| {
            tables.known.retain(|table, _| !again.contains(table));
            tables.closed.retain(|table, _| !again.contains(table));
        });
    }

    /// Everything is asked anew: what was staged did not fit its table any more.
    pub(crate) fn forget(&mut self) {
        self.known.clear();
        self.listed = None;
        self.change(|tables| *tables = Tables { closed: std::mem::take(&mut tables.closed), ..Tables::default() });
    }

    /// Does what can be done for what messages want. Returns whether decoding again gives something else.
    pub(crate) async fn settle(&mut self, all: BTreeMap<String, Wanted>) -> Result<bool> {
        let mut changed = false;
        let mut unknown = BTreeSet::new();
        for (table, wanted) in all {
            let Some(known) = self.known.get(&table) else {
                if !self.find(&table, wanted).await? {
                    unknown.insert(table);
                }
                changed = true;
                continue;
            };
            let evolves = self.session.pipeline.contract(&table) == Contract::Evolve && self.schemas.of(&table).is_none();
            if evolves || known.at.elapsed() >= FRESH {
                changed |= self.prepare(&table, if evolves { wanted } else { Wanted::default() }).await?;
            }
        }
        // All at once, and kept: messages that name more of them than are remembered shall be decoded again once, not for ever.
        if !unknown.is_empty() {
            self.unknown_since.get_or_insert_with(Instant::now);
            self.change(|tables| {
                if tables.unknown.len() + unknown.len() > UNKNOWN {
                    tables.unknown.clear();
                }
                tables.unknown.append(&mut unknown);
            });
        }
        Ok(changed)
    }

    /// Looks for a table whose name is neither known nor unknown. Returns whether it is known now.
    async fn find(&mut self, table: &str, wanted: Wanted) -> Result<bool> {
        // Its file may have come a moment ago.
        if self.schemas.of(table).is_none() && self.looked.is_some_and(|at| at.elapsed() >= AT_ONCE) {
            self.looked = None;
            self.refresh().await?;
        }
        let there = table != DEAD_LETTERS && (self.schemas.of(table).is_some() || self.is_listed(table).await?);
        let makes = self.session.pipeline.stream.create_tables && table != DEAD_LETTERS && !wanted.columns.fields.is_empty();
        if there || makes {
            let columns = if there { TableSchema::default() } else { wanted.columns };
            match self.prepare(table, Wanted { columns, key: wanted.key }).await {
                // A name that no table can have, say: its messages have no table, and the others go on.
                Err(error) if is_about_the_table(&error) => {
                    self.session.cx.events.warn(format!("there can be no table {table} here: {error}"));
                }
                result => return result,
            }
        }
        Ok(false)
    }

    async fn is_listed(&mut self, table: &str) -> Result<bool> {
        if self.listed.as_ref().is_none_or(|(at, _)| at.elapsed() >= FRESH) {
            let session = &self.session;
            let list = || session.destination.tables();
            let tables = longshore_core::retry::Policy::default().run(&session.patience, list).await?;
            self.listed = Some((Instant::now(), tables));
        }
        Ok(self.listed.as_ref().is_some_and(|(_, tables)| tables.contains(table)))
    }

    /// Makes a table ready: with the columns of its file, with these ones, or as it is. Returns whether it is known now, and in other columns
    /// than before.
    async fn prepare(&mut self, table: &str, wanted_by_messages: Wanted) -> Result<bool> {
        let Wanted { columns, key } = wanted_by_messages;
        if !key.is_empty() {
            self.keys.insert(table.to_owned(), key);
        }
        let columns = self.schemas.of(table).cloned().unwrap_or(columns);
        let mut found = Description { tables: [(table.to_owned(), columns)].into(), ..Description::default() };
        found.keys.extend(self.keys.get(table).map(|key| (table.to_owned(), key.clone())));
        let mut changes: Vec<SchemaChange> = Vec::new();
        for (_, mut change) in wanted(&self.session.pipeline, self.session.destination.takes_changes(), &found)? {
            // A history of what is not known yet would be made of its own columns alone.
            if found.tables[table].fields.is_empty() {
                change.wanted = TableSchema::default();
            } else if self.schemas.of(table).is_some() {
                change.contract = Contract::Evolve;
            }
            changes.push(change);
        }
        let names: Vec<String> = changes.iter().map(|change| change.table.clone()).collect();
        for name in &names {
            self.check_mark(name).await?;
        }
        let mut known = Known { schemas: BTreeMap::new(), history: None, at: Instant::now() };
        for change in changes {
            let name = change.table.clone();
            let plan = match self.session.prepare_table(change).await {
                Ok(plan) => plan,
                // A table that cannot take what one message wants is no reason to stop: the message does not fit.
                Err(error) if self.known.contains_key(table) && is_about_the_table(&error) => {
                    self.session.cx.events.warn(format!("table {name} stays as it is: {error}"));
                    return Ok(false);
                }
                Err(error) => return Err(error),
            };
            if plan.schema.fields.is_empty() {
                return Ok(false);
            }
            if plan.schema.field(OPERATION).is_some() && found.keys.contains_key(table) {
                known.history = Some(name.clone());
            }
            known.schemas.insert(name, plan.schema);
        }
        let contract = self.session.pipeline.contract(table);
        let target = Target { schema: decoded_into(&known, table), contract };
        let same = self.known.get(table).is_some_and(|before| before.schemas == known.schemas);
        self.known.insert(table.to_owned(), known);
        if !same {
            self.closed.remove(table);
            self.change(|tables| {
                tables.unknown.remove(table);
                tables.closed.remove(table);
                tables.known.insert(table.to_owned(), target);
            });
        }
        Ok(!same)
    }

    /// A table that lost what it had is no reason to stop: its rows are parked until somebody has looked.
    async fn check_mark(&mut self, table: &str) -> Result<()> {
        match self.session.check_marks(&[table.to_owned()]).await {
            Err(error) if error.code() == code::TABLE_BEHIND_STORE.name => {
                self.session.cx.events.warn(format!("rows of table {table} are parked: {error}; `longshore repair` settles it"));
                self.held.insert(table.to_owned(), (Instant::now(), error.to_string()));
                Ok(())
            }
            checked => {
                self.held.remove(table);
                checked
            }
        }
    }
}

/// Whether an error is a table's own, and not that of a destination that cannot be reached for now.
fn is_about_the_table(error: &Error) -> bool {
    let tried_for_long = error.context().iter().any(|(key, _)| *key == "tries");
    matches!(error.kind(), Kind::Destination | Kind::Config) && error.retry() != Retry::Backoff && !tried_for_long
}

/// The columns that messages are decoded into: those of the table itself, or of its history without what the history adds.
fn decoded_into(known: &Known, table: &str) -> TableSchema {
    let schema = known.schemas.get(table).or_else(|| known.schemas.values().next()).cloned().unwrap_or_default();
    let ours = |name: &str| known.history.is_some() && [OPERATION, ORDER].contains(&name);
    TableSchema::new(schema.fields.into_iter().filter(|field| !ours(&field.name)).collect())
}
