//! Workers: who stages beside others, judged by the server's clock.

use std::time::Duration;

use async_trait::async_trait;
use longshore_core::Result;
use longshore_core::store::{Worker, Workers, Writer};
use sqlx::PgConnection;

use super::PostgresStore;
use super::database::{in_time, query, query_scalar};
use super::journal::{ensure_pipeline, lock_pipeline};
use super::leases::{check_epoch, seconds};
use crate::error;
use crate::rows::Failure;

#[async_trait]
impl Workers for PostgresStore {
    async fn join(&self, pipeline: &str, holder: &str, valid: Duration) -> Result<Worker> {
        const SQL: &str = "INSERT INTO workers (pipeline, holder, expires_at)
            VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3)) RETURNING id";
        let mut write = self.database.begin().await?;
        let result = in_time(async {
            let row = ensure_pipeline(&mut write, pipeline).await?.id;
            let id = query_scalar(SQL).bind(row).bind(holder).bind(seconds(valid)).fetch_one(&mut *write).await?;
            Ok(Worker { pipeline: pipeline.to_owned(), id })
        })
        .await;
        write.finish("registering a worker in", result).await
    }

    async fn renew_worker(&self, worker: &Worker, valid: Duration) -> Result<()> {
        // It does not wait for those who write for the pipeline: a worker must not be taken for dead because others are busy.
        const SQL: &str = "UPDATE workers SET expires_at = clock_timestamp() + make_interval(secs => $1)
            WHERE id = $2 AND pipeline = (SELECT id FROM pipelines WHERE name = $3)";
        let mut write = self.database.begin_renewal().await?;
        let result = in_time(async {
            let renewal = query(SQL).bind(seconds(valid)).bind(worker.id).bind(&worker.pipeline);
            match renewal.execute(&mut *write).await?.rows_affected() {
                0 => Err(error::worker_gone(&worker.pipeline, worker.id).into()),
                _ => Ok(()),
            }
        })
        .await;
        write.finish("renewing a worker in", result).await
    }

    async fn leave(&self, worker: &Worker) -> Result<()> {
        const SQL: &str = "DELETE FROM workers WHERE id = $1 AND pipeline = $2";
        let mut write = self.database.begin().await?;
        let result = in_time(async {
            let Some(locked) = lock_pipeline(&mut write, &worker.pipeline).await? else { return Ok(()) };
            query(SQL).bind(worker.id).bind(locked.id).execute(&mut *write).await?;
            doom_of_gone(&mut write, locked.id).await
        })
        .await;
        write.finish("taking a worker out of", result).await
    }

    async fn workers(&self, pipeline: &str) -> Result<Vec<i64>> {
        const SQL: &str = "SELECT id FROM workers WHERE pipeline = (SELECT id FROM pipelines WHERE name = $1) ORDER BY id";
        let mut read = self.database.read().await?;
        let ids = in_time(async { Ok(query_scalar(SQL).bind(pipeline).fetch_all(&mut *read).await?) }).await;
        read.finish("reading", ids).await
    }
}

/// Fails with `lease_lost` unless this writer is one still. The pipeline is locked.
pub(super) async fn check_writer(
    connection: &mut PgConnection,
    pipeline: i64,
    name: &str,
    writer: Writer,
) -> Result<(), Failure> {
    const SQL: &str = "SELECT id FROM workers WHERE pipeline = $1 AND id = $2";
    match writer {
        Writer::Lease(epoch) => check_epoch(connection, pipeline, name, epoch).await,
        Writer::Worker { worker } => {
            let row: Option<i64> = query_scalar(SQL).bind(pipeline).bind(worker).fetch_optional(connection).await?;
            row.map(drop).ok_or_else(|| error::worker_gone(name, worker).into())
        }
    }
}

/// Forgets the workers of a pipeline whose time is over.
pub(super) async fn forget_expired(connection: &mut PgConnection, pipeline: i64) -> Result<(), Failure> {
    const SQL: &str = "DELETE FROM workers WHERE pipeline = $1 AND expires_at <= clock_timestamp()";
    query(SQL).bind(pipeline).execute(connection).await?;
    Ok(())
}

/// Marks what workers that are gone began and did not journal dead.
pub(super) async fn doom_of_gone(connection: &mut PgConnection, pipeline: i64) -> Result<(), Failure> {
    const SQL: &str = "UPDATE attempts SET dead = true WHERE pipeline = $1 AND n IS NULL AND NOT dead AND worker IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.id = worker)";
    query(SQL).bind(pipeline).execute(connection).await?;
    Ok(())
}
