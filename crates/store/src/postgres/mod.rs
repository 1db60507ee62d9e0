//! The store on a server: a schema of a PostgreSQL database, which many processes share.

mod address;
mod attempts;
mod complete;
mod database;
mod dead_letters;
mod failure;
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

use longshore_core::Result;
use longshore_core::error::{Error, Kind, Retry, code};
use longshore_core::store::Store;

use address::Address;
use database::Database;
use migrations::Found;

/// The store in a schema of a PostgreSQL database, version 13 or newer. Safe to use from many tasks at once; other processes
/// on any machine may open the same one.
///
/// Leases and workers are judged by the server's clock alone. Nothing tells that a holder is dead but its time, so that what
/// it held is free only then.
pub struct PostgresStore {
    id: String,
    database: Database,
}

impl PostgresStore {
    /// Whether this text names such a store, rather than a folder.
    pub fn is_url(text: &str) -> bool {
        address::is_url(text)
    }

    /// Opens the store at `postgres://USER:PASSWORD@HOST:PORT/DATABASE?schema=NAME&...`; creates the schema (`longshore` if
    /// none is named) and its tables if they are not there. Any number of processes may do so at once.
    ///
    /// Errors: `usage` if the URL is none, `store_unavailable` if the server does not answer (`Backoff`) or refuses (`AfterFix`),
    /// `store_version` if a newer Longshore wrote it. No error shows the URL's password.
    pub async fn open(url: &str) -> Result<Self> {
        let database = Database::new(Address::parse(url)?);
        if let Found::Ready(id) = migrations::id_if_ready(&database).await? {
            return Ok(Self { id, database });
        }
        migrations::migrate(&database).await?;
        match migrations::id_if_ready(&database).await? {
            Found::Ready(id) => Ok(Self { id, database }),
            Found::None | Found::Old(_) => {
                let text = format!("the store {} is gone as soon as it was set up", database.place());
                Err(Error::new(Kind::Store, code::STORE_UNAVAILABLE, text).with_retry(Retry::Backoff))
            }
        }
    }

    /// Opens the store if there is one, for commands that only look; creates nothing. (A store of an older version is brought
    /// up to date, and writing works.)
    ///
    /// Errors: as [`PostgresStore::open`].
    pub async fn open_existing_read(url: &str) -> Result<Option<Self>> {
        let database = Database::new(Address::parse(url)?);
        match migrations::id_if_ready(&database).await? {
            Found::None => Ok(None),
            Found::Ready(id) => Ok(Some(Self { id, database })),
            Found::Old(_) => Self::open(url).await.map(Some),
        }
    }

    /// Where it is, for people: without a password.
    pub fn place(&self) -> &str {
        self.database.place()
    }

    /// Closes its connections tidily; leases stay held until they are freed or expire. Dropping it does the same, less tidily.
    pub async fn close(self) {
        self.database.close().await;
    }
}

impl Store for PostgresStore {
    fn id(&self) -> &str {
        &self.id
    }
}
