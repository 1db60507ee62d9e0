//! Leases: an epoch in the file, and a lock file that its holder keeps locked while it lives.
//!
//! Each epoch has a lock file of its own. If all epochs shared one, a holder that is stuck would keep it locked after its
//! lease was taken over, and nobody could tell any more whether the new holder lives.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use longshore_core::Result;
use longshore_core::store::{Lease, LeaseAnswer, Leases};
use sqlx::SqliteConnection;

use super::database::now_nanos;
use super::journal::ensure_pipeline;
use super::{SqliteStore, folder_error};
use crate::error;
use crate::rows::Failure;

/// The lock of a lease that this store object holds.
pub(super) struct HeldLock {
    epoch: i64,
    path: PathBuf,
    /// Locked until it is dropped.
    _file: File,
}

/// A lease as the file knows it.
struct Row {
    epoch: i64,
    holder: String,
    held: bool,
    expires_at: i64,
}

#[async_trait]
impl Leases for SqliteStore {
    async fn take_lease(&self, pipeline: &str, holder: &str, valid: Duration) -> Result<LeaseAnswer> {
        let mut write = self.database.begin().await?;
        let result = take(&mut write, &self.locks, pipeline, holder, valid).await;
        let (answer, lock, replaced) = write.finish("taking a lease in", result).await?;
        if let Some(lock) = lock {
            self.held().insert(pipeline.to_owned(), lock);
        }
        if let Some(path) = replaced {
            // A lock file left over does no harm.
            let _ = std::fs::remove_file(path);
        }
        Ok(answer)
    }

    async fn renew_lease(&self, lease: &Lease, valid: Duration) -> Result<()> {
        const SQL: &str = "UPDATE leases SET expires_at = ? WHERE pipeline = ?";
        let mut write = self.database.begin().await?;
        let result = async {
            let id = check_epoch(&mut write, &lease.pipeline, lease.epoch).await?;
            sqlx::query(SQL).bind(expiry(valid)).bind(id).execute(&mut *write).await?;
            Ok(())
        }
        .await;
        let renewed = write.finish("renewing a lease in", result).await;
        self.release_if_lost(lease, renewed)
    }

    async fn check_lease(&self, lease: &Lease) -> Result<()> {
        let mut read = self.database.read().await?;
        let checked = check_epoch(&mut read, &lease.pipeline, lease.epoch).await;
        self.release_if_lost(lease, checked.map(drop).map_err(|failure| self.database.error("reading", failure)))
    }

    async fn free_lease(&self, lease: &Lease) -> Result<()> {
        const SQL: &str = "UPDATE leases SET held = 0 WHERE pipeline = (SELECT id FROM pipelines WHERE name = ?) AND epoch = ?";
        let mut write = self.database.begin().await?;
        let result = async {
            sqlx::query(SQL).bind(&lease.pipeline).bind(lease.epoch).execute(&mut *write).await?;
            Ok(())
        }
        .await;
        write.finish("freeing a lease in", result).await?;
        self.release(lease);
        Ok(())
    }
}

impl SqliteStore {
    fn held(&self) -> MutexGuard<'_, std::collections::BTreeMap<String, HeldLock>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the lock file of this lease, if it is ours.
    fn release(&self, lease: &Lease) {
        let mut held = self.held();
        if held.get(&lease.pipeline).is_some_and(|lock| lock.epoch == lease.epoch)
            && let Some(lock) = held.remove(&lease.pipeline)
        {
            // A lock file left over does no harm.
            let _ = std::fs::remove_file(&lock.path);
        }
    }

    fn release_if_lost(&self, lease: &Lease, result: Result<()>) -> Result<()> {
        if result.as_ref().is_err_and(|error| error.code() == longshore_core::error::code::LEASE_LOST.name) {
            self.release(lease);
        }
        result
    }
}

/// The row of a pipeline whose lease has this epoch and is held; else `lease_lost`.
pub(super) async fn check_epoch(connection: &mut SqliteConnection, pipeline: &str, epoch: i64) -> Result<i64, Failure> {
    const SQL: &str = "SELECT p.id, l.epoch, l.held FROM pipelines p JOIN leases l ON l.pipeline = p.id WHERE p.name = ?";
    let row: Option<(i64, i64, i64)> = sqlx::query_as(SQL).bind(pipeline).fetch_optional(connection).await?;
    match row {
        Some((id, current, held)) if current == epoch && held != 0 => Ok(id),
        row => Err(error::lease_lost(pipeline, epoch, row.map(|(_, current, _)| current)).into()),
    }
}

type Taken = (LeaseAnswer, Option<HeldLock>, Option<PathBuf>);

/// Takes the lease within a transaction: the lock file of the new epoch is locked before the epoch can be seen.
async fn take(
    connection: &mut SqliteConnection,
    locks: &Path,
    pipeline: &str,
    holder: &str,
    valid: Duration,
) -> Result<Taken, Failure> {
    const WRITE: &str = "INSERT INTO leases (pipeline, epoch, holder, held, expires_at) VALUES (?, ?, ?, 1, ?)
        ON CONFLICT (pipeline) DO UPDATE
        SET epoch = excluded.epoch, holder = excluded.holder, held = 1, expires_at = excluded.expires_at";
    let id = ensure_pipeline(connection, pipeline).await?;
    let row = read(connection, id).await?;
    if let Some(row) = row.as_ref().filter(|row| row.held) {
        let remaining = row.expires_at.saturating_sub(now_millis());
        if remaining > 0 && !is_dead(&lock_path(locks, pipeline, id, row.epoch)) {
            let remaining = Duration::from_millis(remaining.unsigned_abs());
            return Ok((LeaseAnswer::Held { holder: row.holder.clone(), remaining }, None, None));
        }
    }
    let replaced = row.as_ref().map(|row| lock_path(locks, pipeline, id, row.epoch));
    let epoch = row.map_or(0, |row| row.epoch) + 1;
    let lock = lock(locks, lock_path(locks, pipeline, id, epoch), epoch)?;
    let write = sqlx::query(WRITE).bind(id).bind(epoch).bind(holder).bind(expiry(valid));
    write.execute(connection).await?;
    let lease = Lease { pipeline: pipeline.to_owned(), epoch, holder: holder.to_owned() };
    Ok((LeaseAnswer::Granted(lease), Some(lock), replaced))
}

async fn read(connection: &mut SqliteConnection, pipeline: i64) -> Result<Option<Row>, Failure> {
    let row: Option<(i64, String, i64, i64)> =
        sqlx::query_as("SELECT epoch, holder, held, expires_at FROM leases WHERE pipeline = ?")
            .bind(pipeline)
            .fetch_optional(connection)
            .await?;
    Ok(row.map(|(epoch, holder, held, expires_at)| Row { epoch, holder, held: held != 0, expires_at }))
}

/// Readable for people, unique by the numbers.
fn lock_path(locks: &Path, pipeline: &str, id: i64, epoch: i64) -> PathBuf {
    let readable = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = pipeline.chars().take(60).map(readable).collect();
    locks.join(format!("{name}-{id}-{epoch}.lock"))
}

/// Whether the holder of a lease is known to be dead: its lock file is there and free. If the file is not there nothing is
/// known, and the lease has to expire.
fn is_dead(path: &Path) -> bool {
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => file.try_lock().is_ok(),
        Err(_) => false,
    }
}

fn lock(locks: &Path, path: PathBuf, epoch: i64) -> Result<HeldLock> {
    let failed = |error| folder_error(&path, error);
    std::fs::create_dir_all(locks).map_err(failed)?;
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    file.try_lock().map_err(|error| match error {
        TryLockError::Error(error) => failed(error),
        TryLockError::WouldBlock => failed(std::io::ErrorKind::WouldBlock.into()),
    })?;
    Ok(HeldLock { epoch, path, _file: file })
}

pub(super) fn now_millis() -> i64 {
    now_nanos() / 1_000_000
}

/// When a lease that is valid for so long from now on expires.
pub(super) fn expiry(valid: Duration) -> i64 {
    Utc::now().timestamp_millis().saturating_add(i64::try_from(valid.as_millis()).unwrap_or(i64::MAX))
}
