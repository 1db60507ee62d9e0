//! One writer per pipeline: a lease that is renewed in the background for as long as it is held.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use longshore_core::Result;
use longshore_core::destination::Fence;
use longshore_core::error::{Error, Kind, code};
use longshore_core::event::{Events, RunEvent};
use longshore_core::stop::Stop;
use longshore_core::store::{Lease, LeaseAnswer, Store};
use tokio::task::JoinHandle;

/// How long a lease is valid unless renewed; it is renewed six times as often.
const VALID: Duration = Duration::from_secs(30);
/// How often a waiting process asks again.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// A lease that is being renewed.
pub(crate) struct HeldLease {
    store: Arc<dyn Store>,
    lease: Lease,
    renewal: JoinHandle<()>,
}

impl HeldLease {
    /// Takes the lease, waiting up to `wait` for another holder. A run that loses it later is asked to stop, as is one
    /// whose cancellation was requested.
    pub(crate) async fn take(
        store: &Arc<dyn Store>,
        pipeline: &str,
        run: &str,
        wait: Duration,
        events: &Events,
        stop: &Stop,
    ) -> Result<Self> {
        let holder = format!("process {} on {} (run {run})", std::process::id(), host());
        let deadline = tokio::time::Instant::now() + wait;
        let mut told = false;
        loop {
            match store.take_lease(pipeline, &holder, valid()).await? {
                LeaseAnswer::Granted(lease) => {
                    let renewal = tokio::spawn(keep(store.clone(), lease.clone(), run.to_owned(), stop.clone(), events.clone()));
                    return Ok(Self { store: store.clone(), lease, renewal });
                }
                LeaseAnswer::Held { holder, .. } if tokio::time::Instant::now() >= deadline => {
                    return Err(Error::new(Kind::Store, code::LEASE_HELD, format!("{holder} is running {pipeline}"))
                        .with("waited", format!("{} s", wait.as_secs()))
                        .hint("wait for it, raise `--wait`, or stop it with `longshore runs cancel`"));
                }
                LeaseAnswer::Held { holder, .. } => {
                    if !told {
                        events.send(RunEvent::Waiting { reason: format!("{holder} is running {pipeline}") });
                        told = true;
                    }
                    tokio::select! {
                        () = tokio::time::sleep(ASK_AGAIN) => {}
                        () = stop.requested() => return Err(interrupted()),
                    }
                }
            }
        }
    }

    /// The epoch to journal and complete under.
    pub(crate) fn epoch(&self) -> i64 {
        self.lease.epoch
    }

    /// Frees it.
    pub(crate) async fn free(self) -> Result<()> {
        self.store.free_lease(&self.lease).await
    }
}

impl Drop for HeldLease {
    /// Of a run that ended without freeing it, by a panic say: it lapses.
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

#[async_trait]
impl Fence for HeldLease {
    async fn check(&self) -> Result<()> {
        self.store.check_lease(&self.lease).await
    }
}

/// The error of a run that was told to stop.
pub(crate) fn interrupted() -> Error {
    Error::new(Kind::Interrupted, code::INTERRUPTED, "the run was told to stop")
        .hint("run the same command again: it goes on where this one stopped")
}

async fn keep(store: Arc<dyn Store>, lease: Lease, run: String, stop: Stop, events: Events) {
    loop {
        tokio::time::sleep(valid() / 6).await;
        match store.renew_lease(&lease, valid()).await {
            Ok(()) => {}
            Err(error) if error.code() == code::LEASE_LOST.name => {
                // Nothing that this run still does can become visible, so it had better stop reading.
                events.warn(error.to_string());
                stop.request();
                return;
            }
            // A store that is busy for a moment does not end a run; the fence decides when it matters.
            Err(error) => tracing::warn!(%error, "the lease could not be renewed"),
        }
        if store.cancel_requested(&run).await.unwrap_or(false) {
            stop.request();
        }
    }
}

/// [`VALID`], which a fault test may shorten: it has to outlive a lease.
pub(crate) fn valid() -> Duration {
    let shorter = std::env::var("LONGSHORE_TEST_LEASE_MS").ok().filter(|_| cfg!(debug_assertions));
    shorter.and_then(|ms| ms.parse().ok()).map_or(VALID, Duration::from_millis)
}

pub(crate) fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"))
        .map_or_else(|_| "this host".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use longshore_store::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn a_lease_that_is_dropped_is_renewed_no_more() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (events, stop) = (Events::silent(), Stop::default());
        let lease = HeldLease::take(&store, "p", "r", Duration::ZERO, &events, &stop).await.expect("taken");
        let renewal = lease.renewal.abort_handle();
        drop(lease);
        tokio::time::timeout(Duration::from_secs(5), async {
            while !renewal.is_finished() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("it ends");
    }
}
