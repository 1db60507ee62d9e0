//! Workers: who stages beside others, judged by this machine's clock.

use std::time::Duration;

use async_trait::async_trait;
use longshore_core::Result;
use longshore_core::store::{Worker, Workers, Writer};
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::journal::{ensure_pipeline, pipeline_id};
use super::leases::{check_epoch, expiry, now_millis};
use crate::error;
use crate::rows::Failure;

#[async_trait]
impl Workers for SqliteStore {
    async fn join(&self, pipeline: &str, holder: &str, valid: Duration) -> Result<Worker> {
        const SQL: &str = "INSERT INTO workers (pipeline, holder, expires_at) VALUES (?, ?, ?) RETURNING id";
        let mut write = self.database.begin().await?;
        let result = async {
            let row = ensure_pipeline(&mut write, pipeline).await?;
            let id = sqlx::query_scalar(SQL).bind(row).bind(holder).bind(expiry(valid)).fetch_one(&mut *write).await?;
            Ok(Worker { pipeline: pipeline.to_owned(), id })
        }
        .await;
        write.finish("registering a worker in", result).await
    }

    async fn renew_worker(&self, worker: &Worker, valid: Duration) -> Result<()> {
        const SQL: &str = "UPDATE workers SET expires_at = ? WHERE id = ?";
        let mut write = self.database.begin().await?;
        let result = async {
            check_worker(&mut write, &worker.pipeline, worker.id).await?;
            sqlx::query(SQL).bind(expiry(valid)).bind(worker.id).execute(&mut *write).await?;
            Ok(())
        }
        .await;
        write.finish("renewing a worker in", result).await
    }

    async fn leave(&self, worker: &Worker) -> Result<()> {
        const SQL: &str = "DELETE FROM workers WHERE id = ? AND pipeline = ?";
        let mut write = self.database.begin().await?;
        let result = async {
            let Some(id) = pipeline_id(&mut write, &worker.pipeline).await? else { return Ok(()) };
            sqlx::query(SQL).bind(worker.id).bind(id).execute(&mut *write).await?;
            doom_of_gone(&mut write, id).await
        }
        .await;
        write.finish("taking a worker out of", result).await
    }

    async fn workers(&self, pipeline: &str) -> Result<Vec<i64>> {
        const SQL: &str = "SELECT id FROM workers WHERE pipeline = (SELECT id FROM pipelines WHERE name = ?) ORDER BY id";
        let ids = sqlx::query_scalar(SQL).bind(pipeline).fetch_all(self.database.readers()).await;
        ids.map_err(|error| self.database.error("reading", error.into()))
    }
}

/// The row of a pipeline of which this writer is one still; else `lease_lost`.
pub(super) async fn check_writer(connection: &mut SqliteConnection, pipeline: &str, writer: Writer) -> Result<i64, Failure> {
    match writer {
        Writer::Lease(epoch) => check_epoch(connection, pipeline, epoch).await,
        Writer::Worker { worker } => check_worker(connection, pipeline, worker).await,
    }
}

async fn check_worker(connection: &mut SqliteConnection, pipeline: &str, worker: i64) -> Result<i64, Failure> {
    const SQL: &str = "SELECT p.id FROM pipelines p JOIN workers w ON w.pipeline = p.id WHERE p.name = ? AND w.id = ?";
    let row = sqlx::query_scalar(SQL).bind(pipeline).bind(worker).fetch_optional(connection).await?;
    row.ok_or_else(|| error::worker_gone(pipeline, worker).into())
}

/// Forgets the workers of a pipeline whose time is over.
pub(super) async fn forget_expired(connection: &mut SqliteConnection, pipeline: i64) -> Result<(), Failure> {
    sqlx::query("DELETE FROM workers WHERE pipeline = ? AND expires_at <= ?")
        .bind(pipeline)
        .bind(now_millis())
        .execute(connection)
        .await?;
    Ok(())
}

/// Marks what workers that are gone began and did not journal dead.
pub(super) async fn doom_of_gone(connection: &mut SqliteConnection, pipeline: i64) -> Result<(), Failure> {
    const SQL: &str = "UPDATE attempts SET dead = 1 WHERE pipeline = ?1 AND n IS NULL AND dead = 0
        AND worker IS NOT NULL AND worker NOT IN (SELECT id FROM workers WHERE pipeline = ?1)";
    sqlx::query(SQL).bind(pipeline).execute(connection).await?;
    Ok(())
}
