//! File ledger and dead letters in memory.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use async_trait::async_trait;
use longshore_core::Result;
use longshore_core::commit::{CommitNumber, DeadLetterState, Landing};
use longshore_core::error::{Error, Kind, code};
use longshore_core::store::{DeadLetterFilter, DeadLetterIndex, FileLedger, IndexedDeadLetter};

use super::MemoryStore;

#[async_trait]
impl FileLedger for MemoryStore {
    async fn landings(&self, pipeline: &str, address: &str) -> Result<Vec<Landing>> {
        let state = self.state();
        let Some(pipeline) = state.pipelines.get(pipeline) else { return Ok(Vec::new()) };
        Ok(pipeline.landings.values().filter(|landing| landing.address == address).cloned().collect())
    }

    async fn same_bytes(&self, pipeline: &str, digest: &str, address: &str) -> Result<Option<Landing>> {
        let state = self.state();
        let Some(pipeline) = state.pipelines.get(pipeline) else { return Ok(None) };
        let same = pipeline.landings.values().filter(|landing| landing.digest == digest && landing.address != address);
        // Of the newest, the first by address and table: that is the order of the map.
        Ok(same.min_by_key(|landing| Reverse(landing.n)).cloned())
    }

    async fn record_paths(&self, pipeline: &str) -> Result<Vec<serde_json::Value>> {
        let state = self.state();
        let Some(pipeline) = state.pipelines.get(pipeline) else { return Ok(Vec::new()) };
        let mut newest: BTreeMap<&str, (CommitNumber, usize)> = BTreeMap::new();
        for ((_, paths), used) in &pipeline.record_paths {
            let last = newest.entry(paths).or_insert(*used);
            *last = (*last).max(*used);
        }
        let mut paths: Vec<_> = newest.into_iter().collect();
        paths.sort_by_key(|(_, used)| Reverse(*used));
        let decode = |(text, _): (&str, _)| {
            serde_json::from_str(text)
                .map_err(|error| Error::new(Kind::Bug, code::BUG, "record paths that were kept cannot be read").caused_by(error))
        };
        paths.into_iter().map(decode).collect()
    }
}

#[async_trait]
impl DeadLetterIndex for MemoryStore {
    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<IndexedDeadLetter>> {
        let limit = if filter.limit == 0 { usize::MAX } else { filter.limit };
        let wanted = |letter: &&IndexedDeadLetter| {
            (filter.ids.is_empty() || filter.ids.contains(&letter.key.id))
                && filter.pipeline.as_ref().is_none_or(|pipeline| *pipeline == letter.pipeline)
                && filter.run.as_ref().is_none_or(|run| *run == letter.run)
                && filter.code.as_ref().is_none_or(|code| *code == letter.key.code)
                && filter.state.is_none_or(|state| state == letter.state)
        };
        let state = self.state();
        Ok(state.dead_letters.iter().map(|letter| &letter.indexed).filter(wanted).take(limit).cloned().collect())
    }

    async fn drop_dead_letters(&self, ids: &[String]) -> Result<u64> {
        let mut dropped = 0;
        for letter in &mut self.state().dead_letters {
            // One that is being replayed lands in any case, so it cannot be given up any more.
            let is_open = letter.indexed.state == DeadLetterState::Open && letter.replaying.is_none();
            if is_open && ids.contains(&letter.indexed.key.id) {
                letter.indexed.state = DeadLetterState::Dropped;
                dropped += 1;
            }
        }
        Ok(dropped)
    }
}
