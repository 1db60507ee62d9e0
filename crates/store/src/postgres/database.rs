//! The server: a few connections, and a transaction on one of them for whatever is done.
//!
//! Nothing is kept in a session between transactions, and no statement is prepared under a name, so that a pooler may give
//! every transaction another connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use longshore_core::Result;
use longshore_core::error::Error;
use sqlx::postgres::{PgArguments, PgConnectOptions};
use sqlx::query::{Query, QueryAs, QueryScalar};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, FromRow, PgConnection, Postgres};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::address::Address;
use super::failure;
use crate::rows::Failure;

/// How many connections a store has at most.
pub(super) const CONNECTIONS: usize = 16;

/// How many of them only renew: a lease must not lapse because all that it protects is at work.
pub(super) const RENEWALS: usize = 2;

/// How long anything waits for an answer. Longer than the server waits for a lock, so that it is the server who says so.
const ANSWER: Duration = Duration::from_secs(60);

/// How long a connection that waited is asked whether it still is one.
const ALIVE: Duration = Duration::from_secs(5);

/// A connection that waited longer than this is not used again: something in between may have forgotten it.
const IDLE: Duration = Duration::from_secs(240);

/// A place on a server.
pub(super) struct Database {
    options: PgConnectOptions,
    pub(super) schema: String,
    place: String,
    write: Arc<str>,
    read: Arc<str>,
    permits: Semaphore,
    renewals: Semaphore,
    idle: Mutex<Vec<(PgConnection, Instant)>>,
}

impl Database {
    /// A database at this address. Nothing is asked of it yet.
    pub(super) fn new(address: Address) -> Self {
        let Address { options, schema, place } = address;
        // The schema's name is a plain one. What others may have left in a pooler's session comes after it. A client that is
        // stuck must not keep its locks for ever. `remote_apply` promises more than `on`, so that it stays where somebody
        // asked for it.
        let begin = |mode: &str| {
            format!(
                "BEGIN ISOLATION LEVEL {mode};
                SET LOCAL search_path = \"{schema}\", pg_temp;
                SET LOCAL lock_timeout = '20s';
                SET LOCAL idle_in_transaction_session_timeout = '30s';
                SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') <> 'remote_apply'"
            )
            .into()
        };
        let (write, read) = (begin("READ COMMITTED READ WRITE"), begin("REPEATABLE READ READ ONLY"));
        let (permits, renewals) = (Semaphore::new(CONNECTIONS - RENEWALS), Semaphore::new(RENEWALS));
        Self { options, schema, place, write, read, permits, renewals, idle: Mutex::default() }
    }

    /// What people are shown.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Begins a transaction that writes. Each of its statements sees what others have committed before it.
    pub(super) async fn begin(&self) -> Result<Transaction<'_>> {
        self.begin_with(&self.write, &self.permits).await.map_err(|failure| self.error("writing", failure))
    }

    /// As [`Self::begin`], for what renews a lease or a worker: it does not wait for whatever else is done.
    pub(super) async fn begin_renewal(&self) -> Result<Transaction<'_>> {
        self.begin_with(&self.write, &self.renewals).await.map_err(|failure| self.error("writing", failure))
    }

    /// Begins a transaction that reads: everything read in it is of one moment.
    pub(super) async fn read(&self) -> Result<Transaction<'_>> {
        self.begin_with(&self.read, &self.permits).await.map_err(|failure| self.error("reading", failure))
    }

    /// What a failure of `doing` means to people.
    pub(super) fn error(&self, doing: &str, failure: Failure) -> Error {
        failure::error(&self.place, doing, failure)
    }

    /// Closes all connections that are not in use. What comes later fails.
    pub(super) async fn close(&self) {
        self.permits.close();
        self.renewals.close();
        let idle = std::mem::take(&mut *self.idle());
        for (connection, _) in idle {
            // The server notices by itself if it is not told.
            let _ = tokio::time::timeout(ALIVE, connection.close()).await;
        }
    }

    async fn begin_with<'a>(&'a self, begin: &Arc<str>, permits: &'a Semaphore) -> Result<Transaction<'a>, Failure> {
        let permit = match in_time(async { Ok(permits.acquire().await) }).await? {
            Ok(permit) => permit,
            Err(_) => return Err(sqlx::Error::PoolClosed.into()),
        };
        if let Some(mut connection) = self.waiting() {
            // It may have died since. Nothing was asked of it yet, so another serves as well.
            let begun = tokio::time::timeout(ALIVE, start(&mut connection, begin)).await;
            if matches!(begun, Ok(Ok(()))) {
                return Ok(Transaction { database: self, connection, _permit: permit });
            }
            self.idle().clear();
        }
        let mut connection =
            in_time(async { Ok(self.options.connect().await.map_err(|error| self.file_missing(error))?) }).await?;
        in_time(start(&mut connection, begin)).await?;
        Ok(Transaction { database: self, connection, _permit: permit })
    }

    /// What is not found without a socket is a certificate or a key.
    fn file_missing(&self, error: sqlx::Error) -> sqlx::Error {
        let by_socket = self.options.get_socket().is_some() || self.options.get_host().starts_with('/');
        match error {
            sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::NotFound && !by_socket => {
                sqlx::Error::Configuration(error.into())
            }
            error => error,
        }
    }

    fn waiting(&self) -> Option<PgConnection> {
        let mut idle = self.idle();
        idle.retain(|(_, since)| since.elapsed() < IDLE);
        idle.pop().map(|(connection, _)| connection)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(PgConnection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn start(connection: &mut PgConnection, begin: &Arc<str>) -> Result<(), Failure> {
    sqlx::raw_sql(AssertSqlSafe(begin.clone())).execute(connection).await?;
    Ok(())
}

/// Gives up on a server that does not answer. Whether it has done what it was asked is not known then.
pub(super) async fn in_time<T>(steps: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER, steps).await {
        Ok(result) => result,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into()),
    }
}

/// A transaction. If it is dropped, also because its caller's future is, the connection is closed, which rolls back: nothing of a
/// call that did not end is left behind, unless its commit was under way already.
pub(super) struct Transaction<'a> {
    database: &'a Database,
    connection: PgConnection,
    _permit: SemaphorePermit<'a>,
}

impl Transaction<'_> {
    /// Commits if `result` is fine, else rolls back; then gives the result. If the connection is lost meanwhile nobody knows
    /// whether it was committed, and the error says `Backoff`: whoever asks again finds out.
    pub(super) async fn finish<T>(mut self, doing: &str, result: Result<T, Failure>) -> Result<T> {
        let (end, result) = match result {
            Ok(value) => ("COMMIT", Ok(value)),
            Err(failure) => ("ROLLBACK", Err(failure)),
        };
        // After such a failure there is nobody to talk to.
        if let Err(Failure::Sql(sqlx::Error::Io(_) | sqlx::Error::Protocol(_))) = &result {
            return result.map_err(|failure| self.database.error(doing, failure));
        }
        let ended = in_time(async { Ok(sqlx::raw_sql(end).execute(&mut self.connection).await?) }).await;
        match (result, ended) {
            (Ok(_), Err(failure)) => Err(self.database.error(doing, failure)),
            (result, ended) => {
                if ended.is_ok() {
                    self.database.idle().push((self.connection, Instant::now()));
                }
                result.map_err(|failure| self.database.error(doing, failure))
            }
        }
    }
}

impl std::ops::Deref for Transaction<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl std::ops::DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

/// A statement. It is prepared without a name.
pub(super) fn query<'q>(sql: &'static str) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(sql).persistent(false)
}

/// A statement that gives rows.
pub(super) fn query_as<'q, O>(sql: &'static str) -> QueryAs<'q, Postgres, O, PgArguments>
where
    O: for<'r> FromRow<'r, sqlx::postgres::PgRow>,
{
    sqlx::query_as(sql).persistent(false)
}

/// A statement that gives single values.
pub(super) fn query_scalar<'q, O>(sql: &'static str) -> QueryScalar<'q, Postgres, O, PgArguments>
where
    (O,): for<'r> FromRow<'r, sqlx::postgres::PgRow>,
{
    sqlx::query_scalar(sql).persistent(false)
}

/// A text that may have any characters: the server's own texts cannot have a nul.
pub(super) fn text(bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|error| sqlx::Error::Decode(error.into()).into())
}
