//! The embedded store: a folder with a SQLite file and lock files.

mod attempts;
mod complete;
mod database;
mod dead_letters;
mod ids;
mod journal;
mod leases;
mod ledger;
mod migrations;
mod repair;
mod runs;
#[cfg(test)]
mod tests;
mod workers;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use longshore_core::Result;
use longshore_core::error::{Error, Kind, Retry, code};
use longshore_core::store::Store;
use sqlx::SqliteConnection;

use crate::filesystem::network_file_system;
use database::{BUSY, Database, UNWRITABLE};
use leases::HeldLock;

/// The store in a folder. Safe to use from many tasks at once; other processes may open the same folder.
///
/// Dropping it frees the leases it holds, like the death of its process does.
pub struct SqliteStore {
    id: String,
    database: Database,
    locks: PathBuf,
    held: Mutex<BTreeMap<String, HeldLock>>,
}

impl SqliteStore {
    /// The store's file in its folder.
    pub const FILE: &'static str = "store.db";

    /// Opens the store in `folder`; creates folder and store if they are not there. Two processes may do so at once.
    ///
    /// Errors: `store_unavailable` if the folder cannot be written or the file is damaged, `store_network_fs` on a network
    /// file system, `store_version` if a newer Longshore wrote it.
    pub async fn open(folder: &Path) -> Result<Self> {
        let folder = absolute(folder)?;
        std::fs::create_dir_all(&folder).map_err(|error| folder_error(&folder, error))?;
        Self::open_in(folder, true).await
    }

    /// Opens the store in `folder` if there is one, for commands that only look; creates neither folder nor store. (A store
    /// of an older version is brought up to date, and writing works.)
    ///
    /// Errors: as [`SqliteStore::open`].
    pub async fn open_existing_read(folder: &Path) -> Result<Option<Self>> {
        let folder = absolute(folder)?;
        match folder.join(Self::FILE).try_exists() {
            Ok(true) => Self::open_in(folder, false).await.map(Some),
            Ok(false) => Ok(None),
            // Something on the way is a file, so there is no folder and no store in it.
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Ok(None),
            Err(error) => Err(folder_error(&folder, error)),
        }
    }

    /// Closes the file tidily and frees what leases it holds. Dropping does the same, but later.
    pub async fn close(self) {
        self.database.close().await;
    }

    async fn open_in(folder: PathBuf, create: bool) -> Result<Self> {
        if let Some(system) = network_file_system(&folder).map_err(|error| folder_error(&folder, error))? {
            let text = format!("the store's folder {} is on a network file system ({system})", folder.display());
            return Err(Error::new(Kind::Store, code::STORE_NETWORK_FS, text)
                .hint("choose a local folder with `--store PATH` or LONGSHORE_HOME"));
        }
        let locks = folder.join("locks");
        let database = Database::new(folder.join(Self::FILE), create);
        let mut connection = database.connect().await?;
        if is_ready(&database, &mut connection).await? {
            database.keep(connection).await;
        } else {
            set_up(&database, connection, &folder, &locks).await?;
        }
        let id: String = sqlx::query_scalar("SELECT id FROM store")
            .fetch_one(database.readers())
            .await
            .map_err(|error| database.error("opening", error.into()))?;
        Ok(Self { id, database, locks, held: Mutex::default() })
    }
}

impl Store for SqliteStore {
    fn id(&self) -> &str {
        &self.id
    }
}

/// Whether the file is in WAL mode and of the newest version.
async fn is_ready(database: &Database, connection: &mut SqliteConnection) -> Result<bool> {
    let failed = |error: sqlx::Error| database.error("opening", error.into());
    let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *connection).await.map_err(failed)?;
    migrations::check_version(database, version)?;
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(connection).await.map_err(failed)?;
    Ok(version == migrations::newest() && mode == "wal")
}

/// Makes a new or older file ready. One process at a time: the change to WAL mode cannot wait for others by itself.
async fn set_up(database: &Database, mut connection: SqliteConnection, folder: &Path, locks: &Path) -> Result<()> {
    std::fs::create_dir_all(locks).map_err(|error| folder_error(locks, error))?;
    let path = locks.join("setup.lock");
    let lock =
        OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(|error| folder_error(&path, error))?;
    wait_for(&lock, &path).await?;
    if is_ready(database, &mut connection).await? {
        database.keep(connection).await;
        return Ok(());
    }
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode = WAL")
        .fetch_one(&mut connection)
        .await
        .map_err(|error| database.error("setting up", error.into()))?;
    if mode != "wal" {
        let text = format!("the store {} cannot keep a write-ahead log on this file system", database.path().display());
        return Err(Error::new(Kind::Store, code::STORE_UNAVAILABLE, text).hint(UNWRITABLE));
    }
    database.keep(connection).await;
    migrations::migrate(database).await?;
    // The file's name must last as long as its bytes.
    sync_folder(folder)?;
    folder.parent().map_or(Ok(()), sync_folder)
}

/// Waits for a file lock as long as for SQLite's own. Polls, because a blocked thread could not be given up.
async fn wait_for(lock: &File, path: &Path) -> Result<()> {
    let step = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(folder_error(path, error)),
            Err(TryLockError::WouldBlock) if waited >= BUSY => {
                let text = format!("another process has been setting up the store for too long, by its lock {}", path.display());
                return Err(Error::new(Kind::Store, code::STORE_UNAVAILABLE, text).with_retry(Retry::Backoff));
            }
            Err(TryLockError::WouldBlock) => tokio::time::sleep(step).await,
        }
        waited += step;
    }
}

fn sync_folder(folder: &Path) -> Result<()> {
    match File::open(folder).and_then(|file| file.sync_all()) {
        // A parent that we may not read is nothing we created.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        other => other.map_err(|error| folder_error(folder, error)),
    }
}

/// SQLite takes a relative name that begins with `file:` for a URL; an absolute one is always a path.
fn absolute(folder: &Path) -> Result<PathBuf> {
    let folder = std::path::absolute(folder).map_err(|error| folder_error(folder, error))?;
    if folder.to_str().is_none() {
        let text = format!("the store's folder {} has a name that is not UTF-8", folder.display());
        return Err(Error::new(Kind::Store, code::STORE_UNAVAILABLE, text).hint(UNWRITABLE));
    }
    Ok(folder)
}

fn folder_error(path: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Store, code::STORE_UNAVAILABLE, format!("the store's {} cannot be used", path.display()))
        .hint(UNWRITABLE)
        .caused_by(error)
}
