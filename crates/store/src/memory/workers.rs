//! Workers in memory.

use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use longshore_core::Result;
use longshore_core::store::{Worker, Workers, Writer};

use super::MemoryStore;
use super::leases::expiry;
use crate::error;

impl MemoryStore {
    /// Lets the time of a worker be over now, as if it had not renewed itself: the next that dooms attempts takes it for
    /// dead. Changes nothing if there is none.
    pub fn expire_worker(&self, worker: &Worker) {
        let mut state = self.state();
        if let Some(over) = state.pipelines.get_mut(&worker.pipeline).and_then(|known| known.workers.get_mut(&worker.id)) {
            *over = Utc::now();
        }
    }
}

#[async_trait]
impl Workers for MemoryStore {
    async fn join(&self, pipeline: &str, _holder: &str, valid: Duration) -> Result<Worker> {
        let mut state = self.state();
        let known = state.ensure(pipeline);
        known.last_worker += 1;
        let worker = Worker { pipeline: pipeline.to_owned(), id: known.last_worker };
        known.workers.insert(worker.id, expiry(valid));
        self.answer("join", worker)
    }

    async fn renew_worker(&self, worker: &Worker, valid: Duration) -> Result<()> {
        let mut state = self.state();
        let over = state.pipelines.get_mut(&worker.pipeline).and_then(|known| known.workers.get_mut(&worker.id));
        *over.ok_or_else(|| error::worker_gone(&worker.pipeline, worker.id))? = expiry(valid);
        self.answer("renew_worker", ())
    }

    async fn leave(&self, worker: &Worker) -> Result<()> {
        if let Some(known) = self.state().pipelines.get_mut(&worker.pipeline) {
            known.workers.remove(&worker.id);
            known.doom(|_, attempt| attempt.writer == Writer::Worker { worker: worker.id });
        }
        self.answer("leave", ())
    }

    async fn workers(&self, pipeline: &str) -> Result<Vec<i64>> {
        Ok(self.state().pipelines.get(pipeline).map(|known| known.workers.keys().copied().collect()).unwrap_or_default())
    }
}
