//! Leases in memory: epochs alone, since nothing tells whether a handle lives.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use longshore_core::Result;
use longshore_core::store::{Lease, LeaseAnswer, Leases};

use super::{LeaseRecord, MemoryStore};
use crate::error;

impl MemoryStore {
    /// Lets the lease of a pipeline expire now, as if its holder had not renewed it. Changes nothing if there is none.
    pub fn expire_lease(&self, pipeline: &str) {
        let mut state = self.state();
        if let Some(lease) = state.pipelines.get_mut(pipeline).and_then(|pipeline| pipeline.lease.as_mut()) {
            lease.expires_at = Utc::now();
        }
    }
}

#[async_trait]
impl Leases for MemoryStore {
    async fn take_lease(&self, pipeline: &str, holder: &str, valid: Duration) -> Result<LeaseAnswer> {
        let mut state = self.state();
        let known = state.ensure(pipeline);
        if let Some(lease) = known.lease.as_ref().filter(|lease| lease.held)
            && let Ok(remaining) = (lease.expires_at - Utc::now()).to_std()
            && !remaining.is_zero()
        {
            return Ok(LeaseAnswer::Held { holder: lease.holder.clone(), remaining });
        }
        let epoch = known.lease.as_ref().map_or(0, |lease| lease.epoch) + 1;
        known.lease = Some(LeaseRecord { epoch, holder: holder.to_owned(), held: true, expires_at: expiry(valid) });
        Ok(LeaseAnswer::Granted(Lease { pipeline: pipeline.to_owned(), epoch, holder: holder.to_owned() }))
    }

    async fn renew_lease(&self, lease: &Lease, valid: Duration) -> Result<()> {
        let mut state = self.state();
        let Some(known) = state.pipelines.get_mut(&lease.pipeline) else {
            return Err(error::lease_lost(&lease.pipeline, lease.epoch, None));
        };
        known.check_epoch(&lease.pipeline, lease.epoch)?;
        if let Some(record) = &mut known.lease {
            record.expires_at = expiry(valid);
        }
        Ok(())
    }

    async fn check_lease(&self, lease: &Lease) -> Result<()> {
        match self.state().pipelines.get(&lease.pipeline) {
            Some(known) => known.check_epoch(&lease.pipeline, lease.epoch),
            None => Err(error::lease_lost(&lease.pipeline, lease.epoch, None)),
        }
    }

    async fn free_lease(&self, lease: &Lease) -> Result<()> {
        let mut state = self.state();
        let record = state.pipelines.get_mut(&lease.pipeline).and_then(|pipeline| pipeline.lease.as_mut());
        if let Some(record) = record.filter(|record| record.epoch == lease.epoch) {
            record.held = false;
        }
        self.answer("free_lease", ())
    }
}

/// When a lease that is valid for so long from now on expires.
pub(super) fn expiry(valid: Duration) -> DateTime<Utc> {
    let valid = TimeDelta::from_std(valid).unwrap_or(TimeDelta::MAX);
    Utc::now().checked_add_signed(valid).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
