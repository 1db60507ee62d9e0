//! Attempts in memory, and who may make them.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chrono::Utc;
use longshore_core::Result;
use longshore_core::commit::{AttemptId, DeadLetterKey};
use longshore_core::store::{Attempts, Writer};

use super::{Attempt, MemoryStore, Pipeline};
use crate::error;

#[async_trait]
impl Attempts for MemoryStore {
    async fn begin_attempt(&self, pipeline: &str, writer: Writer) -> Result<AttemptId> {
        let mut state = self.state();
        let known = state.pipelines.get_mut(pipeline).ok_or_else(|| error::writer_gone(pipeline, writer, None))?;
        known.check_writer(pipeline, writer)?;
        let id = AttemptId(uuid::Uuid::now_v7().simple().to_string());
        known.attempts.insert(id.clone(), Attempt { writer, dead: false, n: None, letters: Vec::new() });
        self.answer("begin_attempt", id)
    }

    async fn keep_letters(&self, attempt: &AttemptId, letters: &[DeadLetterKey]) -> Result<()> {
        for pipeline in self.state().pipelines.values_mut() {
            let Some(attempt) = pipeline.attempts.get_mut(attempt).filter(|attempt| !attempt.dead) else { continue };
            for letter in letters {
                if !attempt.letters.iter().any(|kept| kept.id == letter.id) {
                    attempt.letters.push(letter.clone());
                }
            }
        }
        self.answer("keep_letters", ())
    }

    async fn doom_attempts(&self, pipeline: &str, epoch: i64, given_up: &[AttemptId]) -> Result<Vec<AttemptId>> {
        let mut state = self.state();
        let Some(known) = state.pipelines.get_mut(pipeline) else { return Ok(Vec::new()) };
        let now = Utc::now();
        known.workers.retain(|_, over| *over > now);
        let workers: BTreeSet<i64> = known.workers.keys().copied().collect();
        known.doom(|id, attempt| {
            let is_gone = match attempt.writer {
                Writer::Lease(began) => began < epoch,
                Writer::Worker { worker } => !workers.contains(&worker),
            };
            is_gone || given_up.contains(id)
        });
        let waiting = known.attempts.iter().filter(|(_, attempt)| attempt.n.is_none() && attempt.dead);
        Ok(waiting.map(|(id, _)| id.clone()).collect())
    }

    async fn swept(&self, attempts: &[AttemptId]) -> Result<()> {
        for pipeline in self.state().pipelines.values_mut() {
            pipeline.attempts.retain(|id, attempt| attempt.n.is_some() || !attempts.contains(id));
        }
        self.answer("swept", ())
    }
}

impl Pipeline {
    /// Fails with `lease_lost` unless this writer is one still.
    pub(super) fn check_writer(&self, name: &str, writer: Writer) -> Result<()> {
        match writer {
            Writer::Lease(epoch) => self.check_epoch(name, epoch),
            Writer::Worker { worker } if self.workers.contains_key(&worker) => Ok(()),
            Writer::Worker { worker } => Err(error::worker_gone(name, worker)),
        }
    }

    /// Only the holder of the lease amends.
    pub(super) fn check_amender(&self, name: &str, writer: Writer) -> Result<()> {
        match writer {
            Writer::Lease(epoch) => self.check_epoch(name, epoch),
            Writer::Worker { worker } => Err(error::amended_by_worker(name, worker)),
        }
    }

    /// Fails with `lease_lost` unless the lease has this epoch and is held.
    pub(super) fn check_epoch(&self, name: &str, epoch: i64) -> Result<()> {
        match &self.lease {
            Some(lease) if lease.epoch == epoch && lease.held => Ok(()),
            lease => Err(error::lease_lost(name, epoch, lease.as_ref().map(|lease| lease.epoch))),
        }
    }

    /// Marks those dead that are not journalled.
    pub(super) fn doom(&mut self, is_doomed: impl Fn(&AttemptId, &Attempt) -> bool) {
        for (id, attempt) in self.attempts.iter_mut().filter(|(_, attempt)| attempt.n.is_none()) {
            attempt.dead |= is_doomed(id, attempt);
        }
    }
}
