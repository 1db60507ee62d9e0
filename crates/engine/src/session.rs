//! What the steps of one run share, whoever takes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use longshore_core::Result;
use longshore_core::commit::{
    Application, AttemptId, CommitNumber, Contract, DEAD_LETTERS, EntryState, WriteDisposition, check_mark,
};
use longshore_core::destination::{Destination, Mode, Plan, SchemaChange};
use longshore_core::error::{Error, Kind, Retry, code};
use longshore_core::event::RunEvent;
use longshore_core::retry::{Patience, Policy};
use longshore_core::source::Context;
use longshore_core::store::Store;
use longshore_core::table_options::TableOptions;

use crate::dead_letters;
use crate::error::TOO_MANY_DEAD_LETTERS;
use crate::pipeline::Pipeline;

/// How often marks and journal are compared before they are said to differ.
const LOOKS: u32 = 3;
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(50);

/// Everything that the steps of one run share.
pub(crate) struct Session {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) destination: Arc<dyn Destination>,
    pub(crate) pipeline: Pipeline,
    pub(crate) application: Application,
    pub(crate) cx: Context,
    /// What retries wait with: the context's own stop and events.
    pub(crate) patience: Patience,
    letters_prepared: AtomicBool,
}

impl Session {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        destination: Arc<dyn Destination>,
        pipeline: &Pipeline,
        application: Application,
        cx: Context,
    ) -> Self {
        let patience = Patience { stop: cx.stop.clone(), events: cx.events.clone() };
        let pipeline = pipeline.clone();
        Self { store, destination, pipeline, application, cx, patience, letters_prepared: AtomicBool::new(false) }
    }

    /// Fails if there are more dead letters than allowed and the run is to stop then.
    pub(crate) fn check_max(&self, rejects: u64) -> Result<()> {
        match self.pipeline.max_dead_letters {
            Some(max) if self.pipeline.stop_on_max && rejects > max => {
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

    /// Removes what somebody who does not hold the lease staged and does not journal; it is dead before its files go. What fails here is done by
    /// whoever publishes, once the worker is gone.
    pub(crate) async fn give_up(&self, attempt: &AttemptId) {
        let sweep = async {
            let dead = self.store.doom_attempts(&self.pipeline.name, 0, std::slice::from_ref(attempt)).await?;
            self.destination.sweep(&dead).await?;
            self.store.swept(&dead).await
        };
        if let Err(error) = sweep.await {
            tracing::warn!(%error, "files of an attempt that was given up stay until they are swept");
        }
    }

    /// Compares the marks of these tables with the journal. Called before anything is written to a table, because a store
    /// that was restored or lost would land things twice.
    pub(crate) async fn check_marks(&self, tables: &[String]) -> Result<()> {
        if tables.is_empty() {
            return Ok(());
        }
        // Somebody else may publish between the two questions, and the answers then do not go together. They do if asked again.
        for _ in 0..LOOKS - 1 {
            if self.compare_marks(tables).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        self.compare_marks(tables).await
    }

    async fn compare_marks(&self, tables: &[String]) -> Result<()> {
        let marks = Policy::default().run(&self.patience, || self.destination.open(&self.application, tables)).await?;
        let state = self.store.pipeline(&self.pipeline.name).await?;
        let journalled = state.open.iter().filter(|entry| entry.state == EntryState::Journalled).map(|entry| entry.n);
        for (table, mark) in &marks {
            let foreign =
                mark.others.iter().find(|other| other.store != self.application.store || other.pipeline == self.pipeline.name);
            if let (None, Some(other), false) = (mark.last, foreign, self.pipeline.join) {
                return Err(Error::new(
                    Kind::Store,
                    code::STORE_FOREIGN_MARK,
                    format!("table {table} is written by the pipeline {} of another store", other.pipeline),
                )
                .with("this_store", &self.application.store)
                .with("other_store", &other.store)
                .hint("use that store with `--store PATH`, or admit this one as a second writer with `--join`"));
            }
            let parked = state.parked.iter().filter(|part| part.table == *table).map(|part| part.n);
            let pending: Vec<CommitNumber> = journalled.clone().chain(parked).collect();
            check_mark(table, mark.last, state.published.get(table).copied(), &pending)?;
        }
        Ok(())
    }
}
