//! The file ledger: which file landed where.

use async_trait::async_trait;
use longshore_core::Result;
use longshore_core::commit::Landing;
use longshore_core::store::FileLedger;

use super::SqliteStore;

use crate::rows::{Failure, decode_all};

#[async_trait]
impl FileLedger for SqliteStore {
    async fn landings(&self, pipeline: &str, address: &str) -> Result<Vec<Landing>> {
        const SQL: &str = "SELECT landing FROM landings
            WHERE pipeline = (SELECT id FROM pipelines WHERE name = ?) AND address = ? ORDER BY table_name";
        let texts = sqlx::query_scalar(SQL).bind(pipeline).bind(address).fetch_all(self.database.readers()).await;
        self.decoded(texts)
    }

    async fn same_bytes(&self, pipeline: &str, digest: &str, address: &str) -> Result<Option<Landing>> {
        const SQL: &str = "SELECT landing FROM landings
            WHERE pipeline = (SELECT id FROM pipelines WHERE name = ?) AND digest = ? AND address <> ?
            ORDER BY n DESC, address, table_name LIMIT 1";
        let query = sqlx::query_scalar(SQL).bind(pipeline).bind(digest).bind(address);
        Ok(self.decoded(query.fetch_all(self.database.readers()).await)?.pop())
    }

    async fn record_paths(&self, pipeline: &str) -> Result<Vec<serde_json::Value>> {
        const SQL: &str = "SELECT paths FROM
            (SELECT paths, n, place, row_number() OVER (PARTITION BY paths ORDER BY n DESC, place DESC) AS age
             FROM record_paths WHERE pipeline = (SELECT id FROM pipelines WHERE name = ?))
            WHERE age = 1 ORDER BY n DESC, place DESC, paths";
        self.decoded(sqlx::query_scalar(SQL).bind(pipeline).fetch_all(self.database.readers()).await)
    }
}

impl SqliteStore {
    /// Values out of a column of JSON.
    fn decoded<T: serde::de::DeserializeOwned>(&self, texts: Result<Vec<String>, sqlx::Error>) -> Result<Vec<T>> {
        let values = texts.map_err(Failure::from).and_then(|texts| decode_all(&texts));
        values.map_err(|failure| self.database.error("reading", failure))
    }
}
