//! Leases: an epoch, and a time by the server's clock.

use std::time::Duration;

use async_trait::async_trait;
use longshore_core::Result;
use longshore_core::store::{Lease, LeaseAnswer, Leases};
use sqlx::PgConnection;

use super::PostgresStore;
use super::database::{in_time, query, query_as};
use super::journal::ensure_pipeline;
use crate::error;
use crate::rows::Failure;

#[async_trait]
impl Leases for PostgresStore {
    async fn take_lease(&self, pipeline: &str, holder: &str, valid: Duration) -> Result<LeaseAnswer> {
        let mut write = self.database.begin().await?;
        let result = in_time(take(&mut write, pipeline, holder, valid)).await;
        write.finish("taking a lease in", result).await
    }

    async fn renew_lease(&self, lease: &Lease, valid: Duration) -> Result<()> {
        // It does not wait for those who write for the pipeline: a lease must not lapse because its holder is busy.
        const SQL: &str = "UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => $1)
            WHERE pipeline = (SELECT id FROM pipelines WHERE name = $2) AND epoch = $3 AND held";
        let mut write = self.database.begin_renewal().await?;
        let result = in_time(async {
            let renewal = query(SQL).bind(seconds(valid)).bind(&lease.pipeline).bind(lease.epoch);
            match renewal.execute(&mut *write).await?.rows_affected() {
                0 => check(&mut write, lease).await,
                _ => Ok(()),
            }
        })
        .await;
        write.finish("renewing a lease in", result).await
    }

    async fn check_lease(&self, lease: &Lease) -> Result<()> {
        let mut read = self.database.read().await?;
        let checked = in_time(check(&mut read, lease)).await;
        read.finish("reading", checked).await
    }

    async fn free_lease(&self, lease: &Lease) -> Result<()> {
        const SQL: &str =
            "UPDATE leases SET held = false WHERE pipeline = (SELECT id FROM pipelines WHERE name = $1) AND epoch = $2";
        let mut write = self.database.begin().await?;
        let result = in_time(async {
            query(SQL).bind(&lease.pipeline).bind(lease.epoch).execute(&mut *write).await?;
            Ok(())
        })
        .await;
        write.finish("freeing a lease in", result).await
    }
}

/// Fails with `lease_lost` unless the lease has this epoch and is held. The pipeline is locked.
pub(super) async fn check_epoch(connection: &mut PgConnection, pipeline: i64, name: &str, epoch: i64) -> Result<(), Failure> {
    const SQL: &str = "SELECT epoch, held FROM leases WHERE pipeline = $1";
    judge(name, epoch, query_as(SQL).bind(pipeline).fetch_optional(connection).await?)
}

async fn check(connection: &mut PgConnection, lease: &Lease) -> Result<(), Failure> {
    const SQL: &str = "SELECT epoch, held FROM leases WHERE pipeline = (SELECT id FROM pipelines WHERE name = $1)";
    judge(&lease.pipeline, lease.epoch, query_as(SQL).bind(&lease.pipeline).fetch_optional(connection).await?)
}

fn judge(name: &str, epoch: i64, row: Option<(i64, bool)>) -> Result<(), Failure> {
    match row {
        Some((current, true)) if current == epoch => Ok(()),
        row => Err(error::lease_lost(name, epoch, row.map(|(current, _)| current)).into()),
    }
}

/// The pipeline is locked meanwhile, so that nobody journals under an epoch that is being replaced.
async fn take(connection: &mut PgConnection, pipeline: &str, holder: &str, valid: Duration) -> Result<LeaseAnswer, Failure> {
    const READ: &str = "SELECT epoch, holder, held, extract(epoch FROM expires_at - clock_timestamp())::float8
        FROM leases WHERE pipeline = $1 FOR UPDATE";
    const WRITE: &str = "INSERT INTO leases (pipeline, epoch, holder, held, expires_at)
        VALUES ($1, $2, $3, true, clock_timestamp() + make_interval(secs => $4))
        ON CONFLICT (pipeline) DO UPDATE
        SET epoch = excluded.epoch, holder = excluded.holder, held = true, expires_at = excluded.expires_at";
    let id = ensure_pipeline(connection, pipeline).await?.id;
    let row: Option<(i64, String, bool, f64)> = query_as(READ).bind(id).fetch_optional(&mut *connection).await?;
    let epoch = match row {
        Some((_, holder, true, remaining)) if remaining > 0.0 => {
            return Ok(LeaseAnswer::Held { holder, remaining: Duration::try_from_secs_f64(remaining).unwrap_or(Duration::MAX) });
        }
        Some((epoch, ..)) => epoch + 1,
        None => 1,
    };
    query(WRITE).bind(id).bind(epoch).bind(holder).bind(seconds(valid)).execute(connection).await?;
    Ok(LeaseAnswer::Granted(Lease { pipeline: pipeline.to_owned(), epoch, holder: holder.to_owned() }))
}

/// A time to be valid for, as the server takes it: at most a century.
pub(super) fn seconds(valid: Duration) -> f64 {
    valid.as_secs_f64().min(3.2e9)
}
