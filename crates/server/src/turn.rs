//! Who runs a pipeline for a scheduled time, where several servers share a store: each time is run once.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use longshore_core::Result;
use longshore_core::error::code;
use longshore_core::event::{RunEvent, Status};
use longshore_core::store::{Lease, LeaseAnswer, Run, Store};
use tokio::task::JoinHandle;

/// How long the right to a turn is valid unless renewed; it is renewed six times as often.
const VALID: Duration = Duration::from_secs(30);
/// How many of the newest runs are looked at: others may have failed, or been run by hand for other times.
const NEWEST: usize = 100;
/// No two machines' clocks differ by more.
const SKEW: TimeDelta = TimeDelta::hours(1);

/// The answer to a wish for a turn.
pub(crate) enum Turn {
    /// Nobody else runs the pipeline for this time, or another one, until it is freed.
    Ours(Held),
    /// It was run for this time, and is done with it.
    Served(Run),
    /// Somebody else has the turn at the moment.
    Elsewhere,
}

/// A turn that is being renewed.
pub(crate) struct Held {
    store: Arc<dyn Store>,
    lease: Lease,
    renewal: JoinHandle<()>,
}

/// The name that the turns of a pipeline have among the leases. No pipeline's own name has a colon.
pub(crate) fn name(pipeline: &str) -> String {
    format!("serve:{pipeline}")
}

/// Whether the store can be written: a standby answers whoever only reads. Changes nothing. Errors: those of the store.
pub(crate) async fn check_writable(store: &Arc<dyn Store>) -> Result<()> {
    // Nobody ever has this one.
    let nobodys = Lease { pipeline: name(""), epoch: 0, holder: String::new() };
    store.free_lease(&nobodys).await
}

/// Asks for the turn of `at`. The right to it is held while the history is looked at, so that two servers never both find that a time was
/// not served, and then for as long as the run goes on. Errors: those of the store.
pub(crate) async fn take(store: &Arc<dyn Store>, pipeline: &str, at: DateTime<Utc>) -> Result<Turn> {
    let holder = format!("process {} (serve)", std::process::id());
    let lease = match store.take_lease(&name(pipeline), &holder, VALID).await? {
        LeaseAnswer::Held { .. } => return Ok(Turn::Elsewhere),
        LeaseAnswer::Granted(lease) => lease,
    };
    let renewal = tokio::spawn(renew(store.clone(), lease.clone()));
    let held = Held { store: store.clone(), lease, renewal };
    match served(store, pipeline, at).await {
        Ok(None) => Ok(Turn::Ours(held)),
        Ok(Some(run)) => {
            held.free().await?;
            Ok(Turn::Served(run))
        }
        Err(error) => {
            // The error of the store is the one to tell.
            let _ = held.free().await;
            Err(error)
        }
    }
}

impl Held {
    /// Gives it up.
    pub(crate) async fn free(self) -> Result<()> {
        self.renewal.abort();
        self.store.free_lease(&self.lease).await
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// The run that has served this time, if one has: one for it or for a later time, or one that somebody began after it. Asked by the holder
/// of the turn only: nobody else is at it.
///
/// Only what ended well serves, or what a person cancelled, who meant it to stop. A run that failed, whose process died, or that was stopped
/// with its server has left something to be landed, and does not hide an older one that left nothing.
async fn served(store: &Arc<dyn Store>, pipeline: &str, at: DateTime<Utc>) -> Result<Option<Run>> {
    for run in store.runs(Some(pipeline), NEWEST).await? {
        if run.started_at < at - SKEW {
            break;
        }
        let serves = match run.status {
            Status::Succeeded => true,
            Status::Cancelled => store.cancel_requested(&run.id).await?,
            Status::Failed | Status::Pending | Status::Running => false,
        };
        // By its own word and not by when it began: the clocks of two machines differ.
        if serves && logical_time(store, &run).await? >= at {
            return Ok(Some(run));
        }
    }
    Ok(None)
}

/// The time that a run is for; of one that nobody scheduled, when it began.
async fn logical_time(store: &Arc<dyn Store>, run: &Run) -> Result<DateTime<Utc>> {
    let events = store.run(&run.id).await?.map(|(_, events)| events).unwrap_or_default();
    let told = events.iter().find_map(|line| match &line.event {
        RunEvent::Started { run_time, .. } => *run_time,
        _ => None,
    });
    Ok(told.unwrap_or(run.started_at))
}

async fn renew(store: Arc<dyn Store>, lease: Lease) {
    loop {
        tokio::time::sleep(VALID / 6).await;
        match store.renew_lease(&lease, VALID).await {
            Ok(()) => {}
            // Somebody took us for dead. The run itself is fenced by its own lease.
            Err(error) if error.code() == code::LEASE_LOST.name => return,
            Err(error) => tracing::warn!(%error, "the turn of a scheduled run could not be renewed"),
        }
    }
}
