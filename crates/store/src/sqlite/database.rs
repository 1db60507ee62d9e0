//! The file: one connection that writes, a few that read, and what their errors mean.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use longshore_core::error::{Error, Kind, Result, Retry, code};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Sqlite, SqliteConnection, SqlitePool, Transaction};
use tokio::sync::{Mutex, MutexGuard};

use crate::rows::Failure;

/// How long a statement waits for other processes that write.
pub(super) const BUSY: Duration = Duration::from_secs(10);

/// How many connections read.
const READERS: u32 = 4;

/// An open database file.
pub(super) struct Database {
    path: PathBuf,
    options: SqliteConnectOptions,
    writer: Mutex<Option<SqliteConnection>>,
    readers: SqlitePool,
}

impl Database {
    /// A database at this absolute path. No file is touched yet.
    pub(super) fn new(path: PathBuf, create: bool) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(create)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            .disable_statement_logging();
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .test_before_acquire(false)
            .acquire_timeout(BUSY * 3)
            .max_lifetime(None)
            .connect_lazy_with(options.clone().create_if_missing(false).pragma("query_only", "ON"));
        Self { path, options, writer: Mutex::new(None), readers }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Begins a transaction that writes. Only one is under way at a time, in this process and any other.
    pub(super) async fn begin(&self) -> Result<Write<'_>> {
        let mut place = self.writer.lock().await;
        let begun: Result<_, Failure> = async {
            let mut connection = match place.take() {
                Some(connection) => connection,
                None => self.options.connect().await?,
            };
            sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await?;
            Ok(connection)
        }
        .await;
        let connection = begun.map_err(|failure| self.error("writing", failure))?;
        Ok(Write { database: self, place, connection })
    }

    /// Begins a transaction that reads: everything read in it is of one moment.
    pub(super) async fn read(&self) -> Result<Transaction<'static, Sqlite>> {
        self.readers.begin().await.map_err(|error| self.error("reading", error.into()))
    }

    /// The connections that read, for single queries.
    pub(super) fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// A connection of its own, in no transaction.
    pub(super) async fn connect(&self) -> Result<SqliteConnection> {
        self.options.connect().await.map_err(|error| self.error("opening", error.into()))
    }

    /// Keeps a connection for the next write.
    pub(super) async fn keep(&self, connection: SqliteConnection) {
        *self.writer.lock().await = Some(connection);
    }

    /// Closes all connections. What comes later fails.
    pub(super) async fn close(&self) {
        self.readers.close().await;
        if let Some(connection) = self.writer.lock().await.take() {
            // The file is whole whether SQLite closes it tidily or not.
            let _ = connection.close().await;
        }
    }

    /// What a failure of `doing` means to people.
    pub(super) fn error(&self, doing: &str, failure: Failure) -> Error {
        let path = self.path.display();
        let unavailable = |why: &str| Error::new(Kind::Store, code::STORE_UNAVAILABLE, format!("{doing} the store {path} {why}"));
        let error = match failure {
            Failure::Refused(error) => return error,
            Failure::Damaged(error) => return unavailable("found a row that is damaged").hint(DAMAGED).caused_by(error),
            Failure::Sql(error) => error,
        };
        // The low byte is the kind, the rest details of it: https://www.sqlite.org/rescode.html
        let number = match &error {
            sqlx::Error::Database(database) => database.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or(0) & 0xFF,
            _ => 0,
        };
        match number {
            5 | 6 => unavailable("waited too long for another process")
                .with_retry(Retry::Backoff)
                .hint("another process keeps it locked; end that process, or try again"),
            3 | 8 | 14 => unavailable("failed, since it cannot be opened or written").hint(UNWRITABLE),
            13 => unavailable("failed, since the disk is full").hint("make room on that disk, then run again: nothing is lost"),
            11 | 26 => unavailable("failed, since the file is damaged").hint(DAMAGED),
            _ => unavailable("failed").hint(UNWRITABLE),
        }
        .caused_by(error)
    }
}

pub(super) const UNWRITABLE: &str =
    "the folder must be writable and on a local disk with room left; choose another with `--store PATH` or LONGSHORE_HOME";

const DAMAGED: &str = "put back a copy of the folder, or move it away; then `longshore repair` compares a store with its tables";

/// A transaction that writes. If it is dropped, also because its caller's future is, the connection is closed, which rolls
/// back: nothing of a call that did not end is ever left behind.
pub(super) struct Write<'a> {
    database: &'a Database,
    place: MutexGuard<'a, Option<SqliteConnection>>,
    connection: SqliteConnection,
}

impl Write<'_> {
    /// Commits if `result` is fine, else rolls back; then gives the result.
    pub(super) async fn finish<T>(mut self, doing: &str, result: Result<T, Failure>) -> Result<T> {
        match result {
            Ok(value) => {
                // A connection whose commit failed is not kept: what state it is in would have to be guessed.
                sqlx::query("COMMIT")
                    .execute(&mut self.connection)
                    .await
                    .map_err(|error| self.database.error(doing, error.into()))?;
                *self.place = Some(self.connection);
                Ok(value)
            }
            Err(failure) => {
                // SQLite has rolled back by itself after some errors; then this fails, and the connection is not kept.
                if sqlx::query("ROLLBACK").execute(&mut self.connection).await.is_ok() {
                    *self.place = Some(self.connection);
                }
                Err(self.database.error(doing, failure))
            }
        }
    }
}

impl std::ops::Deref for Write<'_> {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl std::ops::DerefMut for Write<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

/// A time as it is kept: nanoseconds since 1970.
pub(super) fn to_nanos(at: DateTime<Utc>) -> i64 {
    at.timestamp_nanos_opt().unwrap_or(i64::MAX)
}

/// A time that was kept.
pub(super) fn from_nanos(nanos: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_nanos(nanos)
}

pub(super) fn now_nanos() -> i64 {
    to_nanos(Utc::now())
}

/// A list as one parameter: a JSON array, which `json_each` turns into rows.
pub(super) fn list<T: serde::Serialize>(items: T) -> Result<String, Failure> {
    Ok(serde_json::to_string(&items)?)
}
