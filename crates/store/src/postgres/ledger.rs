//! The file ledger: which file landed where.

use async_trait::async_trait;
use longshore_core::Result;
use longshore_core::commit::Landing;
use longshore_core::store::FileLedger;
use serde::de::DeserializeOwned;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::QueryScalar;

use super::PostgresStore;
use super::database::{in_time, query_scalar};
use crate::rows::decode_all;

#[async_trait]
impl FileLedger for PostgresStore {
    async fn landings(&self, pipeline: &str, address: &str) -> Result<Vec<Landing>> {
        const SQL: &str = "SELECT landing FROM landings
            WHERE pipeline = (SELECT id FROM pipelines WHERE name = $1) AND address = $2 ORDER BY table_name";
        self.decoded(query_scalar(SQL).bind(pipeline).bind(address)).await
    }

    async fn same_bytes(&self, pipeline: &str, digest: &str, address: &str) -> Result<Option<Landing>> {
        const SQL: &str = "SELECT landing FROM landings
            WHERE pipeline = (SELECT id FROM pipelines WHERE name = $1) AND digest = $2 AND address <> $3
            ORDER BY n DESC, address, table_name LIMIT 1";
        Ok(self.decoded(query_scalar(SQL).bind(pipeline).bind(digest).bind(address)).await?.pop())
    }

    async fn record_paths(&self, pipeline: &str) -> Result<Vec<serde_json::Value>> {
        const SQL: &str = "SELECT paths FROM
            (SELECT paths, n, place, row_number() OVER (PARTITION BY paths ORDER BY n DESC, place DESC) AS age
             FROM record_paths WHERE pipeline = (SELECT id FROM pipelines WHERE name = $1)) AS used
            WHERE age = 1 ORDER BY n DESC, place DESC, paths";
        self.decoded(query_scalar(SQL).bind(pipeline)).await
    }
}

impl PostgresStore {
    /// Values out of a column of JSON.
    async fn decoded<T: DeserializeOwned>(&self, query: QueryScalar<'_, Postgres, String, PgArguments>) -> Result<Vec<T>> {
        let mut read = self.database.read().await?;
        let values = in_time(async { decode_all(&query.fetch_all(&mut *read).await?) }).await;
        read.finish("reading", values).await
    }
}
