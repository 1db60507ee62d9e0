//! The history of runs in memory.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use longshore_core::Result;
use longshore_core::event::RunEvent;
use longshore_core::store::{HistoryLine, Run, Runs};

use super::{MemoryStore, RunRecord, State};
use crate::error;
use crate::history::{CANDIDATES, goes_on_after_finish, is_kept, is_work, new_run_id, summarise};

#[async_trait]
impl Runs for MemoryStore {
    async fn begin_run(&self, pipeline: &str) -> Result<String> {
        let mut state = self.state();
        let id = new_run_id();
        let started_at = Utc::now();
        let pipeline = pipeline.to_owned();
        state.runs.push(RunRecord { id: id.clone(), pipeline, started_at, cancel: false, events: Vec::new() });
        Ok(id)
    }

    async fn append_events(&self, run: &str, events: &[RunEvent]) -> Result<()> {
        let mut state = self.state();
        let record = state.find(run).ok_or_else(|| error::no_run(run))?;
        let events: Vec<&RunEvent> = events.iter().filter(|event| is_kept(event)).collect();
        if events.is_empty() {
            return Ok(());
        }
        if goes_on_after_finish(record.events.last().map(|(_, event)| event).into_iter().chain(events.iter().copied())) {
            return Err(error::run_finished(run));
        }
        let at = Utc::now();
        record.events.extend(events.into_iter().map(|event| (at, event.clone())));
        Ok(())
    }

    async fn runs(&self, pipeline: Option<&str>, limit: usize) -> Result<Vec<Run>> {
        let state = self.state();
        let wanted = |record: &&RunRecord| pipeline.is_none_or(|pipeline| record.pipeline == pipeline);
        self.answer("runs", state.runs.iter().rev().filter(wanted).take(limit).map(to_run).collect())
    }

    async fn run_newest(&self, id: &str, lines: usize) -> Result<Option<(Run, Vec<HistoryLine>)>> {
        let beginning = id.to_ascii_lowercase();
        if beginning.is_empty() {
            return Ok(None);
        }
        let state = self.state();
        let mut found: Vec<&RunRecord> = state.runs.iter().filter(|record| record.id.starts_with(&beginning)).collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        let record = match found.as_slice() {
            [] => return Ok(None),
            [record] => *record,
            [record, ..] if record.id == beginning => *record,
            records => {
                let ids: Vec<String> = records.iter().take(CANDIDATES).map(|record| record.id.clone()).collect();
                return Err(error::run_ambiguous(&beginning, &ids));
            }
        };
        let line = |(sequence, (at, event)): (i64, &(_, RunEvent))| HistoryLine { sequence, at: *at, event: event.clone() };
        let older = record.events.len().saturating_sub(lines);
        Ok(Some((to_run(record), (1..).zip(&record.events).skip(older).map(line).collect())))
    }

    async fn first_served(&self, pipeline: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
        Ok(*self.state().ensure(pipeline).first_served.get_or_insert(now))
    }

    async fn request_cancel(&self, run: &str) -> Result<()> {
        self.state().find(run).ok_or_else(|| error::no_run(run))?.cancel = true;
        Ok(())
    }

    async fn cancel_requested(&self, run: &str) -> Result<bool> {
        Ok(self.state().find(run).is_some_and(|record| record.cancel))
    }
}

impl State {
    fn find(&mut self, run: &str) -> Option<&mut RunRecord> {
        self.runs.iter_mut().find(|record| record.id == run)
    }
}

fn to_run(record: &RunRecord) -> Run {
    let works = record.events.iter().any(|(_, event)| is_work(event));
    summarise(record.id.clone(), record.pipeline.clone(), record.started_at, works, record.events.last().cloned())
}
