//! A run over a finite source, from its first event to its last.

use std::sync::Arc;

use longshore_core::Result;
use longshore_core::commit::{Counts, Entry, WriteDisposition};
use longshore_core::destination::Destination;
use longshore_core::event::{Observer, Phase, RunEvent, Summary};
use longshore_core::retry::{Patience, Policy};
use longshore_core::source::{Context, Source, Split};
use longshore_core::stop::Stop;
use longshore_core::store::Store;

use crate::history::Frame;
use crate::lease::{HeldLease, interrupted};
use crate::pipeline::{Outcome, Pipeline};
use crate::publisher::Publisher;
use crate::session::Session;

/// A run over what a source has now.
pub(crate) struct Load {
    pub(crate) publisher: Publisher,
    pub(crate) source: Arc<dyn Source>,
    /// What earlier commits of this run counted.
    done: std::sync::Mutex<Counts>,
}

/// Runs a pipeline once: publishes what earlier runs journalled, then lands what its source has now.
///
/// Returns what it did. Errors by kind: `Source`, `Destination`, `Store`, `Interrupted`; whatever was committed before
/// stays. Safe to repeat and to call from several processes: a lease lets one at a time work.
pub async fn run(
    store: Arc<dyn Store>,
    source: Arc<dyn Source>,
    destination: Arc<dyn Destination>,
    pipeline: &Pipeline,
    observer: Arc<dyn Observer>,
    stop: Stop,
) -> Result<Outcome> {
    let frame = Frame::open(&store, pipeline, observer, stop, |event| !matches!(event, RunEvent::Progress { .. })).await?;
    let mut summary = Summary::default();
    let result = leased(store, source, destination, pipeline, frame.cx.clone(), &mut summary).await;
    let (run, summary) = frame.close(result, summary).await?;
    let rows: u64 = summary.tables.values().sum();
    let over_max = match pipeline.max_dead_letters {
        Some(max) => summary.rejects > max,
        None => summary.rejects > 0 && rows == 0,
    };
    Ok(Outcome { run, summary, over_max })
}

async fn leased(
    store: Arc<dyn Store>,
    source: Arc<dyn Source>,
    destination: Arc<dyn Destination>,
    pipeline: &Pipeline,
    cx: Context,
    summary: &mut Summary,
) -> Result<()> {
    destination.attend(&Patience { stop: cx.stop.clone(), events: cx.events.clone() });
    let lease = HeldLease::take(&store, &pipeline.name, &cx.run, pipeline.wait, &cx.events, &cx.stop).await?;
    let state = store.pipeline(&pipeline.name).await?;
    let session = Arc::new(Session::new(store, destination, pipeline, state.application, cx));
    let load = Load { publisher: Publisher { session, lease }, source, done: std::sync::Mutex::default() };
    let result = load.work(state.open, summary).await;
    // Both are let go of whatever happened; the first error is the one to tell.
    let closed = load.session().destination.close().await.and(load.source.close().await);
    let freed = load.publisher.lease.free().await;
    result.and(closed).and(freed)
}

impl Load {
    pub(crate) fn session(&self) -> &Session {
        &self.publisher.session
    }

    async fn work(&self, open: Vec<Entry>, summary: &mut Summary) -> Result<()> {
        self.recover(open).await?;
        // Standard input may never end by itself.
        let found = tokio::select! {
            found = self.source.splits(&self.session().cx, self.session().store.as_ref()) => found?,
            () = self.session().cx.stop.requested() => return Err(interrupted()),
        };
        summary.skipped = found.skipped.len() as u64;
        self.session().cx.events.send(RunEvent::Found {
            splits: found.splits.len() as u64,
            bytes: found.splits.iter().map(|split| split.bytes).sum(),
            skipped: summary.skipped,
        });
        for group in self.groups(found.splits) {
            if self.session().cx.stop.is_requested() {
                return Err(interrupted());
            }
            // A file that changed while it was read, say, is read again as it is now.
            let entry = Policy::default().run(&self.session().patience, || self.commit(group.clone())).await?;
            if let Some(entry) = entry {
                self.count(&entry, summary);
            }
        }
        Ok(())
    }

    /// Splits as they are committed together. What replaces a table comes in one commit.
    fn groups(&self, splits: Vec<Split>) -> Vec<Vec<Split>> {
        let whole = self.session().pipeline.disposition == WriteDisposition::Truncate;
        let mut groups: Vec<Vec<Split>> = Vec::new();
        let mut bytes = 0;
        for split in splits {
            let full = groups.last().is_none_or(|group| {
                !whole
                    && (group.len() >= self.session().pipeline.commit_splits
                        || bytes + split.bytes > self.session().pipeline.commit_bytes)
            });
            if full {
                groups.push(Vec::new());
                bytes = 0;
            }
            bytes += split.bytes;
            if let Some(group) = groups.last_mut() {
                group.push(split);
            }
        }
        groups
    }

    fn count(&self, entry: &Entry, summary: &mut Summary) {
        let counts = &entry.draft.counts;
        for (table, rows) in &counts.rows {
            *summary.tables.entry(table.clone()).or_default() += rows;
        }
        summary.rejects += counts.rejects;
        summary.bytes += counts.bytes;
        summary.commits += 1;
        let mut files: Vec<&str> = entry.draft.landings.iter().map(|landing| landing.address.as_str()).collect();
        files.sort_unstable();
        files.dedup();
        summary.landed += files.len() as u64;
        let mut done = self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        done.rejects += counts.rejects;
        done.bytes += counts.bytes;
        for (table, rows) in &counts.rows {
            *done.rows.entry(table.clone()).or_default() += rows;
        }
    }

    /// Tells how far reading is: what is done and what the present commit has counted.
    pub(crate) fn progress(&self, counts: &Counts, phase: Phase) {
        let done = self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.session().cx.events.send(RunEvent::Progress {
            bytes: done.bytes + counts.bytes,
            rows: done.rows.values().sum::<u64>() + counts.rows.values().sum::<u64>(),
            rejects: done.rejects + counts.rejects,
            phase,
        });
    }

    /// Fails if there are more dead letters than allowed and the run is to stop then.
    pub(crate) fn check_max(&self, rejects: u64) -> Result<()> {
        let earlier = self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).rejects;
        self.session().check_max(earlier + rejects)
    }
}
