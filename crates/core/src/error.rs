//! The one error type: what failed, on what, whether trying again helps, and what a person can do.

use std::fmt;
use std::time::Duration;

/// Which part of the system an error belongs to. Decides the exit code of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A broken assumption of ours.
    Bug,
    /// A command line that cannot be understood.
    Usage,
    /// A pipeline file or a setting that cannot be used.
    Config,
    /// The source could not be read.
    Source,
    /// The destination could not be written or read.
    Destination,
    /// The store, a lease, or a mismatch between store and destination that needs `repair`.
    Store,
    /// The run was told to stop.
    Interrupted,
}

/// Whether trying again helps. Chosen where the error is made, acted on in one place ([`crate::retry`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// The same call fails again for ever.
    Never,
    /// The same call may succeed later.
    Backoff,
    /// A person has to change something first.
    AfterFix,
}

/// Where in an input something stands. Lines and columns count from 1; columns count characters.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    /// Path or address of the input.
    pub file: String,
    /// Line, from 1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub line: Option<u64>,
    /// Column, from 1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub column: Option<u64>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
            if let Some(column) = self.column {
                write!(f, ":{column}")?;
            }
        }
        Ok(())
    }
}

/// A stable error code and what `longshore explain CODE` says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// The code, lower snake case.
    pub name: &'static str,
    /// What it means, why it happens and what to do; whole sentences.
    pub explanation: &'static str,
}

/// Declares error codes: one constant each, and `ALL` for `longshore explain`.
#[macro_export]
macro_rules! codes {
    ($($constant:ident = $name:literal: $explanation:literal;)*) => {
        $(
            #[doc = $explanation]
            pub const $constant: $crate::error::Code = $crate::error::Code { name: $name, explanation: $explanation };
        )*
        /// Every code declared here.
        pub const ALL: &[$crate::error::Code] = &[$($constant),*];
    };
}

/// What went wrong. The message says what failed and on what, in lower case, without a final period and without the
/// text of its source: the printer adds the chain and the hint.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    retry: Retry,
    code: &'static str,
    message: String,
    place: Option<Place>,
    context: Vec<(&'static str, String)>,
    hint: Option<String>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this kind. Not retried unless [`Error::retry`] says so.
    pub fn new(kind: Kind, code: Code, message: impl Into<String>) -> Self {
        let retry = match kind {
            Kind::Usage | Kind::Config => Retry::AfterFix,
            Kind::Bug | Kind::Source | Kind::Destination | Kind::Store | Kind::Interrupted => Retry::Never,
        };
        Self(Box::new(Inner {
            kind,
            retry,
            code: code.name,
            message: message.into(),
            place: None,
            context: Vec::new(),
            hint: None,
            retry_after: None,
            source: None,
        }))
    }

    /// Sets whether trying again helps.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Sets the wait that the other side asked for.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// Says where in an input it happened.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.0.place = Some(place);
        self
    }

    /// Adds a fact. Never a cell value, never a secret.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Says what a person can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Keeps the error underneath.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Which part it belongs to.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether trying again helps.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// The wait that the other side asked for.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The message alone.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Where in an input.
    pub fn place(&self) -> Option<&Place> {
        self.0.place.as_ref()
    }

    /// The facts added.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.0.context
    }

    /// What a person can do.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The messages underneath, outermost first, one line each (some libraries print a backtrace into theirs).
    pub fn chain(&self) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default().to_owned();
            // A wrapper that repeats its source says nothing new.
            if !line.is_empty() && texts.last().is_none_or(|last| !last.ends_with(&line)) {
                texts.push(line);
            }
            next = error.source();
        }
        texts
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.0.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} ({:?}): {self}", self.0.kind, self.0.code, self.0.retry)?;
        for (key, value) in &self.0.context {
            write!(f, "; {key}={value}")?;
        }
        for text in self.chain() {
            write!(f, "; caused by: {text}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| source.as_ref() as &(dyn std::error::Error + 'static))
    }
}

/// The codes that belong to no connector.
pub mod code {
    codes! {
        BUG = "bug": "Something that Longshore takes for impossible happened. Nothing half-done becomes visible: what was journalled is published by the next run, what was not is swept. Please report it with the run's log.";
        USAGE = "usage": "The command line does not say what to do in words that Longshore knows. `longshore help COMMAND` lists them.";
        CONFIG = "config": "A pipeline file or a setting cannot be used. The message names the key and its line.";
        INTERRUPTED = "interrupted": "The run was told to stop. What was committed stays, the rest is read again by the next run.";
        SCHEMA_INVALID = "schema_invalid": "A table schema is not valid BigQuery schema JSON: a list of fields, each with `name`, `type` and optionally `mode`, `fields` and `description`.";
        DELTA_REFUSED = "delta_refused": "The records between two positions of a source have already been journalled by somebody else. Nothing was changed. The run starts again from the journal's position.";
        ATTEMPT_DEAD = "attempt_dead": "The attempt that staged these rows was given up by another process, which may already have removed its files. Nothing was changed. The run stages the rows again.";
        LEASE_LOST = "lease_lost": "Another process has taken over this pipeline, since this one did not renew its lease in time. Nothing that this process still does can become visible; the other process goes on.";
        LEASE_HELD = "lease_held": "Another process is running this pipeline, and went on for longer than `--wait`. Wait for it, or stop it: its lease frees itself.";
        STORE_FOREIGN_MARK = "store_foreign_mark": "The table was written by a pipeline whose ledger is in another store. Two ledgers that do not know each other would load things twice. Use that store with `--store PATH`, or admit this one as a second writer with `--join`.";
        STORE_BEHIND_TABLE = "store_behind_table": "The table holds commits that the store does not know: the store was restored from an older copy, or lost. Going on would load those records twice. `longshore repair DEST` shows what is missing and mends it with `--apply`.";
        TABLE_BEHIND_STORE = "table_behind_store": "The store says that commits were published which the table does not hold: the table was recreated, restored to an earlier version, or its bookkeeping expired. `longshore repair DEST` shows what is missing.";
        STORE_UNAVAILABLE = "store_unavailable": "The store (the SQLite file under `.longshore/`, or the schema of a PostgreSQL database) could not be opened, read or written. A folder must be writable and on a local disk, with room left; a server must be reachable, and its user own the schema. What may pass, like a server that restarts, is tried again.";
        STORE_NETWORK_FS = "store_network_fs": "The store's folder is on a network file system, where SQLite's locks cannot be trusted. Choose a local folder with `--store PATH` or LONGSHORE_HOME.";
        STORE_VERSION = "store_version": "The store was written by a newer Longshore. Use that version or newer; an older one could damage it.";
        RECORD_TOO_LARGE = "record_too_large": "One record is larger than a quarter of `--memory`. It went to the dead letters, its bytes in a file beside them. Raise `--memory` and replay it.";
        TYPE_MISMATCH = "type_mismatch": "A value does not fit its column's type. The column's type comes from the table, from `--schema` or `--type`, or from the first files. Give another type with `--type COLUMN=TYPE`, or correct the record and replay it.";
        NULL_IN_ARRAY = "null_in_array": "An array holds a null element, which BigQuery's ARRAY cannot. Remove the null and replay the record.";
        REQUIRED_MISSING = "required_missing": "A REQUIRED column has no value in this record.";
        UNKNOWN_COLUMN = "unknown_column": "The record has a column that the table lacks, and the table's schema is frozen.";
    }
}
