//! What a run is asked to do, and what it says at its end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use longshore_core::commit::{Contract, WriteDisposition};
use longshore_core::event::Summary;
use longshore_core::table_options::TableOptions;

/// A pipeline's settings.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Its name: its identity in the store.
    pub name: String,
    /// What it reads, as the user wrote it.
    pub inputs: Vec<String>,
    /// Where it lands, as the user wrote it.
    pub destination: String,
    /// What may happen to a table's columns.
    pub contract: Contract,
    /// The same for single tables.
    pub contracts: BTreeMap<String, Contract>,
    /// What becomes of the rows that a table has.
    pub disposition: WriteDisposition,
    /// Table -> what a new one is to be like; `*` for every table that is not named.
    pub options: BTreeMap<String, TableOptions>,
    /// Table -> what is kept of its changes by key; `*` for every table that is not named.
    pub changes: BTreeMap<String, Keep>,
    /// With more dead letters than this the outcome is [`Outcome::over_max`].
    pub max_dead_letters: Option<u64>,
    /// Whether to stop unpublished then.
    pub stop_on_max: bool,
    /// Bytes that buffers may hold.
    pub memory: u64,
    /// Decoders at once.
    pub lanes: usize,
    /// How long to wait for another process that runs this pipeline.
    pub wait: Duration,
    /// Whether to write to tables that another store's pipelines write to.
    pub join: bool,
    /// The logical time that the run is for, if it has one. It stands in the history.
    pub run_time: Option<DateTime<Utc>>,
    /// Input bytes that end a commit; a file is never split.
    pub commit_bytes: u64,
    /// Splits that end a commit.
    pub commit_splits: usize,
    /// How an endless source is landed.
    pub stream: StreamSettings,
}

/// How an endless source is landed.
#[derive(Debug, Clone)]
pub struct StreamSettings {
    /// The time after its first message that ends a commit.
    pub commit_every: Duration,
    /// Messages that end a commit.
    pub commit_messages: u64,
    /// Bytes of messages that end a commit.
    pub commit_bytes: u64,
    /// A folder of BigQuery schemas, `TABLE.json` or `TABLE.schema.json`: these tables are made, and get new columns when their files change.
    pub schemas: Option<PathBuf>,
    /// Whether a table that is not there is made in the shape of the first messages for it.
    pub create_tables: bool,
    /// A folder that copies of dead letters go to.
    pub dead_letter_folder: Option<PathBuf>,
    /// How long a table may take to show a commit before the others go on without it.
    pub park_after: Duration,
    /// Bytes that may wait for tables that cannot be published, before the run ends.
    pub max_parked_bytes: u64,
    /// How long the last commits may take when a run is told to stop.
    pub grace: Duration,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            commit_every: Duration::from_secs(10),
            commit_messages: 1_000_000,
            commit_bytes: 256 << 20,
            schemas: None,
            create_tables: false,
            dead_letter_folder: None,
            park_after: Duration::from_secs(30),
            max_parked_bytes: 10 << 30,
            grace: Duration::from_secs(30),
        }
    }
}

/// What is kept of changes by key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Keep {
    /// The rows as they are now.
    #[default]
    Current,
    /// Every change as a row.
    History,
    /// The rows as they are now, and in a second table, `NAME_history`, every change.
    Both,
}

impl Default for Pipeline {
    fn default() -> Self {
        Self {
            name: String::new(),
            inputs: Vec::new(),
            destination: String::new(),
            contract: Contract::Evolve,
            contracts: BTreeMap::new(),
            disposition: WriteDisposition::Append,
            options: BTreeMap::new(),
            changes: BTreeMap::new(),
            max_dead_letters: None,
            stop_on_max: false,
            memory: 256 << 20,
            lanes: std::thread::available_parallelism().map_or(2, usize::from),
            wait: Duration::from_secs(60),
            join: false,
            run_time: None,
            commit_bytes: 4 << 30,
            commit_splits: 10_000,
            stream: StreamSettings::default(),
        }
    }
}

impl Pipeline {
    /// What may happen to this table's columns.
    pub fn contract(&self, table: &str) -> Contract {
        self.contracts.get(table).copied().unwrap_or(self.contract)
    }

    /// What is kept of this table's changes.
    pub fn changes(&self, table: &str) -> Keep {
        self.changes.get(table).or_else(|| self.changes.get("*")).copied().unwrap_or_default()
    }

    /// What this table is to be like if it is new.
    pub fn options(&self, table: &str) -> TableOptions {
        self.options.get(table).or_else(|| self.options.get("*")).cloned().unwrap_or_default()
    }
}

/// How a run ended that did not fail.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The run.
    pub run: String,
    /// What it did.
    pub summary: Summary,
    /// Whether more records are dead letters than allowed: more than the allowed number, or all of them.
    pub over_max: bool,
}
