//! What a run does before it reads anything: marks compared, journalled commits published, dead attempts swept.

use longshore_core::Result;
use longshore_core::commit::{CommitNumber, Entry, EntryState, check_mark};
use longshore_core::error::{Error, Kind, code};
use longshore_core::event::RunEvent;
use longshore_core::retry::Policy;

use crate::run::Session;

impl Session {
    /// Rolls every open entry forward, in order of N, then removes what attempts left that were never journalled.
    pub(crate) async fn recover(&self, open: Vec<Entry>) -> Result<()> {
        let mut tables: Vec<String> = open.iter().flat_map(Entry::tables).collect();
        tables.sort();
        tables.dedup();
        self.check_marks(&tables).await?;
        for entry in open {
            let n = entry.n;
            self.roll_forward(entry).await?;
            self.cx.events.send(RunEvent::Recovered { n });
        }
        self.sweep(&[]).await
    }

    /// Compares the marks of these tables with the journal. Called before anything is written to a table, because a store
    /// that was restored or lost would land things twice.
    pub(crate) async fn check_marks(&self, tables: &[String]) -> Result<()> {
        if tables.is_empty() {
            return Ok(());
        }
        let state = self.store.pipeline(&self.pipeline.name).await?;
        let pending: Vec<CommitNumber> =
            state.open.iter().filter(|entry| entry.state == EntryState::Journalled).map(|entry| entry.n).collect();
        let marks = Policy::default().run(&self.patience, || self.destination.open(&self.application, tables)).await?;
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
            check_mark(table, mark.last, state.published.get(table).copied(), &pending)?;
        }
        Ok(())
    }
}
