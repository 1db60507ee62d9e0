//! Steps 3 and 4: what is journalled becomes visible, by whoever holds the lease.

use std::sync::Arc;

use longshore_core::Result;
use longshore_core::commit::{AttemptId, CommitNumber, Committable, Completion, Entry, Published, Receipt, Refused};
use longshore_core::destination::Publication;
use longshore_core::error::{Error, Kind, Retry};
use longshore_core::event::RunEvent;
use longshore_core::failpoint;
use longshore_core::position::Covers;
use longshore_core::retry::Policy;

use crate::error::TABLE_PARKED;
use crate::lease::HeldLease;
use crate::repair::Note;
use crate::session::Session;

/// So many ids stand in a receipt, which is for people; the books hold all.
const SHOWN_IDS: usize = 20;

/// The one who publishes and completes a pipeline's commits.
pub(crate) struct Publisher {
    pub(crate) session: Arc<Session>,
    pub(crate) lease: HeldLease,
}

/// What came of step 3.
enum Visible {
    /// Every table shows the commit.
    All(Vec<Receipt>),
    /// A table never will as it is.
    Refused(String, Refused),
}

impl Publisher {
    /// Steps 3 and 4 of a journalled entry; returns it as it was published. May be repeated. A table that cannot be published does not keep
    /// the others from it, but is an error.
    pub(crate) async fn show(&self, mut entry: Entry) -> Result<Entry> {
        // 3. Publish, table by table. A crash here means that some tables show N and others do not yet; each holds
        //    the mark, so that repeating changes nothing where it was done.
        failpoint::hit("publish.before");
        let receipts = loop {
            match self.publish(&entry).await? {
                Visible::All(receipts) => break receipts,
                // Part of it never will be: that part becomes dead letters, and the rest is staged anew.
                Visible::Refused(table, refused) => {
                    let amend = || self.amend(&entry, &table, &refused);
                    entry = Policy::default().run(&self.session.patience, amend).await?;
                }
            }
        };
        failpoint::hit("publish.after");

        // 4. Complete: receipts, file ledger, dead-letter index. A crash here means publishing again, which changes
        //    nothing, and then this.
        failpoint::hit("complete.before");
        self.complete(entry.n, receipts).await?;
        failpoint::hit("complete.after");
        Ok(entry)
    }

    pub(crate) async fn complete(&self, n: CommitNumber, receipts: Vec<Receipt>) -> Result<()> {
        let session = &self.session;
        let completion = Completion { pipeline: session.pipeline.name.clone(), n, epoch: self.lease.epoch(), receipts };
        Policy::default().run(&session.patience, || session.store.complete(completion.clone())).await
    }

    /// Tables follow one another, `_dead_letters` last.
    async fn publish(&self, entry: &Entry) -> Result<Visible> {
        let mut receipts = Vec::new();
        let mut parked = None;
        for table in entry.tables() {
            let part = Part::of(entry, &table, self.note(entry)?);
            match Policy::default().run(&self.session.patience, || self.publish_part(&part)).await? {
                Published::Done(commit) => receipts.push(receipt(entry, &table, Some(commit), None)),
                Published::Already(commit) => receipts.push(receipt(entry, &table, commit, None)),
                Published::Parked(reason) => {
                    self.session.cx.events.send(RunEvent::Parked { n: entry.n, table: table.clone(), reason: reason.clone() });
                    parked = Some((table, reason));
                }
                Published::Refused(refused) => return Ok(Visible::Refused(table, refused)),
            }
        }
        match parked {
            None => Ok(Visible::All(receipts)),
            Some((table, reason)) => Err(Error::new(
                Kind::Destination,
                TABLE_PARKED,
                format!("table {table} cannot take commit {}: {reason}", entry.n),
            )
            .with_retry(Retry::AfterFix)
            .hint("`longshore repair` shows what is wrong; the commit is published as soon as the table can take it")),
        }
    }

    /// What the destination's log is to tell of a commit.
    pub(crate) fn note(&self, entry: &Entry) -> Result<serde_json::Value> {
        if self.session.destination.marks_before() { Note::whole(entry) } else { Note::of(entry) }.to_json()
    }

    /// Makes one table's part of a commit visible, once.
    pub(crate) async fn publish_part(&self, part: &Part) -> Result<Published> {
        let publication = Publication {
            application: &self.session.application,
            n: part.n,
            token: &part.token,
            amendment: part.amendment,
            table: &part.table,
            committables: &part.committables,
            note: part.note.clone(),
            fence: &self.lease,
        };
        let published = self.session.destination.publish(publication).await?;
        if let Published::Done(_) | Published::Already(_) = &published {
            failpoint::hit("publish.after_table");
            let commit = match &published {
                Published::Done(commit) => Some(commit.clone()),
                _ => None,
            };
            let rows = part.committables.iter().map(|c| c.rows).sum();
            self.session.cx.events.send(RunEvent::Published { n: part.n, table: part.table.clone(), rows, commit });
        }
        Ok(published)
    }

    /// Marks attempts dead, those of older runs and of workers that are gone included, and removes what they staged.
    pub(crate) async fn sweep(&self, given_up: &[AttemptId]) -> Result<()> {
        let session = &self.session;
        let dead = session.store.doom_attempts(&session.pipeline.name, self.lease.epoch(), given_up).await?;
        if dead.is_empty() {
            return Ok(());
        }
        failpoint::hit("sweep.before");
        session.destination.sweep(&dead).await?;
        session.store.swept(&dead).await?;
        failpoint::hit("sweep.after");
        Ok(())
    }

    /// Marks an attempt dead and removes its files. What fails here is done by the next run.
    pub(crate) async fn give_up(&self, attempt: &AttemptId) {
        if let Err(error) = self.sweep(std::slice::from_ref(attempt)).await {
            tracing::warn!(%error, "files of an attempt that was given up stay until the next run");
        }
    }
}

/// One table's part of a commit: all that publishing it needs.
pub(crate) struct Part {
    pub(crate) n: CommitNumber,
    pub(crate) table: String,
    pub(crate) token: String,
    pub(crate) amendment: i64,
    pub(crate) committables: Vec<Committable>,
    pub(crate) note: serde_json::Value,
}

impl Part {
    pub(crate) fn of(entry: &Entry, table: &str, note: serde_json::Value) -> Self {
        Self {
            n: entry.n,
            table: table.to_owned(),
            token: entry.draft.token.clone(),
            amendment: entry.amendment,
            committables: entry.committables(table).cloned().collect(),
            note,
        }
    }
}

/// What became of a table of an entry.
pub(crate) fn receipt(entry: &Entry, table: &str, commit: Option<String>, parked: Option<String>) -> Receipt {
    let shortened = |covers: &Covers| match covers {
        Covers::Ids { scope, ids } if ids.len() > SHOWN_IDS => {
            let rest = format!("and {} more", ids.len() - SHOWN_IDS);
            Covers::Ids { scope: scope.clone(), ids: ids.iter().take(SHOWN_IDS).cloned().chain([rest]).collect() }
        }
        other => other.clone(),
    };
    Receipt {
        pipeline: entry.draft.pipeline.clone(),
        n: entry.n,
        table: table.to_owned(),
        commit,
        parked,
        rows: entry.committables(table).map(|c| c.rows).sum(),
        bytes: entry.committables(table).map(|c| c.bytes).sum(),
        digests: entry.committables(table).map(|c| c.digest.clone()).collect(),
        run: entry.draft.run.clone(),
        covers: entry.draft.covers.iter().map(shortened).collect(),
        at: chrono::Utc::now(),
    }
}
