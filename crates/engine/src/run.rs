//! A run from its first event to its last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use longshore_core::Result;
use longshore_core::budget::Budget;
use longshore_core::commit::{Application, AttemptId, Contract, Counts, DEAD_LETTERS, Entry, WriteDisposition};
use longshore_core::destination::{Destination, Mode, Plan, SchemaChange};
use longshore_core::error::{Error, Kind, Retry};
use longshore_core::event::{Observer, Phase, RunEvent, Status, Summary};
use longshore_core::failpoint;
use longshore_core::retry::{Patience, Policy};
use longshore_core::source::{Context, Source, Split};
use longshore_core::stop::Stop;
use longshore_core::store::Store;
use longshore_core::table_options::TableOptions;

use crate::dead_letters;
use crate::error::TOO_MANY_DEAD_LETTERS;
use crate::history::History;
use crate::lease::{HeldLease, interrupted};
use crate::pipeline::{Outcome, Pipeline};

/// Everything that the steps of one run share.
pub(crate) struct Session {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) destination: Arc<dyn Destination>,
    pub(crate) pipeline: Pipeline,
    pub(crate) application: Application,
    pub(crate) lease: HeldLease,
    pub(crate) cx: Context,
    /// What earlier commits of this run counted.
    pub(crate) done: std::sync::Mutex<Counts>,
    /// What retries wait with: the context's own stop and events.
    pub(crate) patience: Patience,
    letters_prepared: AtomicBool,
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
    let run = store.begin_run(&pipeline.name).await?;
    let (history, events) = History::start(store.clone(), run.clone(), observer);
    events.send(RunEvent::Started {
        pipeline: pipeline.name.clone(),
        inputs: pipeline.inputs.clone(),
        destination: pipeline.destination.clone(),
        process: std::process::id(),
    });
    let cx = Context {
        pipeline: pipeline.name.clone(),
        run: run.clone(),
        budget: Budget::new(pipeline.memory),
        lanes: pipeline.lanes,
        events: events.clone(),
        stop,
    };
    let began = Instant::now();
    let mut summary = Summary::default();
    let result = leased(store, source, destination, pipeline, cx, &mut summary).await;
    summary.seconds = began.elapsed().as_secs_f64();
    let status = match &result {
        Ok(()) => Status::Succeeded,
        Err(error) if error.kind() == Kind::Interrupted => Status::Cancelled,
        Err(_) => Status::Failed,
    };
    let (error, code) = result.as_ref().err().map(|e| (e.to_string(), e.code().to_owned())).unzip();
    events.send(RunEvent::Finished { status, error, code, summary: summary.clone() });
    drop(events);
    let written = history.finish().await;
    result?;
    written?;
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
    let patience = Patience { stop: cx.stop.clone(), events: cx.events.clone() };
    destination.attend(&patience);
    let lease = HeldLease::take(&store, &pipeline.name, &cx.run, pipeline.wait, &cx.events, &cx.stop).await?;
    let state = store.pipeline(&pipeline.name).await?;
    let session = Session {
        store,
        source,
        destination,
        pipeline: pipeline.clone(),
        application: state.application.clone(),
        lease,
        cx,
        patience,
        done: std::sync::Mutex::default(),
        letters_prepared: AtomicBool::new(false),
    };
    let result = session.work(state.open, summary).await;
    // Both are let go of whatever happened; the first error is the one to tell.
    let closed = session.destination.close().await.and(session.source.close().await);
    let freed = session.lease.free().await;
    result.and(closed).and(freed)
}

impl Session {
    async fn work(&self, open: Vec<Entry>, summary: &mut Summary) -> Result<()> {
        self.recover(open).await?;
        // Standard input may never end by itself.
        let found = tokio::select! {
            found = self.source.splits(&self.cx, self.store.as_ref()) => found?,
            () = self.cx.stop.requested() => return Err(interrupted()),
        };
        summary.skipped = found.skipped.len() as u64;
        self.cx.events.send(RunEvent::Found {
            splits: found.splits.len() as u64,
            bytes: found.splits.iter().map(|split| split.bytes).sum(),
            skipped: summary.skipped,
        });
        for group in self.groups(found.splits) {
            if self.cx.stop.is_requested() {
                return Err(interrupted());
            }
            // A file that changed while it was read, say, is read again as it is now.
            let entry = Policy::default().run(&self.patience, || self.commit(group.clone())).await?;
            if let Some(entry) = entry {
                self.count(&entry, summary);
            }
        }
        Ok(())
    }

    /// Splits as they are committed together. What replaces a table comes in one commit.
    fn groups(&self, splits: Vec<Split>) -> Vec<Vec<Split>> {
        let whole = self.pipeline.disposition == WriteDisposition::Truncate;
        let mut groups: Vec<Vec<Split>> = Vec::new();
        let mut bytes = 0;
        for split in splits {
            let full = groups.last().is_none_or(|group| {
                !whole && (group.len() >= self.pipeline.commit_splits || bytes + split.bytes > self.pipeline.commit_bytes)
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
        self.cx.events.send(RunEvent::Progress {
            bytes: done.bytes + counts.bytes,
            rows: done.rows.values().sum::<u64>() + counts.rows.values().sum::<u64>(),
            rejects: done.rejects + counts.rejects,
            phase,
        });
    }

    /// Fails if there are more dead letters than allowed and the run is to stop then.
    pub(crate) fn check_max(&self, rejects: u64) -> Result<()> {
        let earlier = self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).rejects;
        match self.pipeline.max_dead_letters {
            Some(max) if self.pipeline.stop_on_max && earlier + rejects > max => {
                Err(Error::new(Kind::Source, TOO_MANY_DEAD_LETTERS, format!("more than {max} records do not fit"))
                    .with_retry(Retry::AfterFix)
                    .hint("the reasons are above; correct the records, or raise `--max-dead-letters`"))
            }
            _ => Ok(()),
        }
    }

    /// Makes one table ready and tells what that changed.
    pub(crate) async fn prepare_table(&self, change: SchemaChange) -> Result<Plan> {
        let plan = Policy::default().run(&self.patience, || self.destination.prepare(&change, Mode::Apply)).await?;
        if !plan.changes.is_empty() {
            self.cx.events.send(RunEvent::Schema { table: change.table, changes: plan.changes.clone() });
        }
        Ok(plan)
    }

    /// Makes `_dead_letters` ready, once a run, when its first row comes.
    pub(crate) async fn prepare_dead_letters(&self) -> Result<()> {
        if self.letters_prepared.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.check_marks(&[DEAD_LETTERS.to_owned()]).await?;
        let change = SchemaChange {
            table: DEAD_LETTERS.to_owned(),
            wanted: dead_letters::SCHEMA.clone(),
            contract: Contract::Evolve,
            disposition: WriteDisposition::Append,
            options: TableOptions::default(),
        };
        Policy::default().run(&self.patience, || self.destination.prepare(&change, Mode::Apply)).await?;
        self.letters_prepared.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Marks attempts dead, those of older runs included, and removes what they staged.
    pub(crate) async fn sweep(&self, given_up: &[AttemptId]) -> Result<()> {
        let dead = self.store.doom_attempts(&self.pipeline.name, self.lease.epoch(), given_up).await?;
        if dead.is_empty() {
            return Ok(());
        }
        failpoint::hit("sweep.before");
        self.destination.sweep(&dead).await?;
        self.store.swept(&dead).await?;
        failpoint::hit("sweep.after");
        Ok(())
    }
}
