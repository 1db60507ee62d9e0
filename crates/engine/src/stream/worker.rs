//! This process as one of the workers of a pipeline.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::Result;
use longshore_core::error::code;
use longshore_core::store::{Store, Worker, Writer};
use tokio::task::JoinHandle;

use crate::lease::{host, valid};

/// A registration that is being renewed.
pub(crate) struct HeldWorker {
    store: Arc<dyn Store>,
    worker: Worker,
    renewal: JoinHandle<()>,
}

impl HeldWorker {
    /// Joins the workers of a pipeline.
    pub(crate) async fn join(store: &Arc<dyn Store>, pipeline: &str, run: &str) -> Result<Self> {
        let holder = format!("process {} on {} (run {run})", std::process::id(), host());
        let worker = store.join(pipeline, &holder, valid()).await?;
        let renewal = tokio::spawn(renew(store.clone(), worker.clone()));
        Ok(Self { store: store.clone(), worker, renewal })
    }

    /// By what right it stages.
    pub(crate) fn writer(&self) -> Writer {
        Writer::Worker { worker: self.worker.id }
    }

    /// Leaves. What it staged and did not journal is swept by whoever publishes.
    pub(crate) async fn leave(self) -> Result<()> {
        self.renewal.abort();
        self.store.leave(&self.worker).await
    }
}

impl Drop for HeldWorker {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// Renews until it is lost. Whoever stages then is refused, and joins anew.
async fn renew(store: Arc<dyn Store>, worker: Worker) {
    loop {
        tokio::time::sleep(pause()).await;
        match store.renew_worker(&worker, valid()).await {
            Ok(()) => {}
            Err(error) if error.code() == code::LEASE_LOST.name => return,
            Err(error) => tracing::warn!(%error, "the registration of a worker could not be renewed"),
        }
    }
}

fn pause() -> Duration {
    valid() / 6
}
