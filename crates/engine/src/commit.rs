//! One commit, in five steps. Each step is durable before the next begins.

use longshore_core::Result;
use longshore_core::batch::Reject;
use longshore_core::commit::{
    AttemptId, Completion, DEAD_LETTERS, Draft, Entry, EntryState, Landing, Published, Receipt, Refused,
};
use longshore_core::destination::Publication;
use longshore_core::error::{Error, Kind};
use longshore_core::event::RunEvent;
use longshore_core::failpoint;
use longshore_core::position::Covers;
use longshore_core::retry::Policy;
use longshore_core::source::{Description, Split};
use longshore_core::store::Writer;

use crate::error::TABLE_PARKED;
use crate::lease::interrupted;
use crate::prepare::Prepared;
use crate::repair::Note;
use crate::run::Session;
use crate::stage::{Staged, stage};

/// What came of step 3.
enum Visible {
    /// Every table shows the commit.
    All(Vec<Receipt>),
    /// A table never will as it is.
    Refused(String, Refused),
}

impl Session {
    /// Lands these splits in one commit. Returns the entry, `None` if there was nothing left to land.
    ///
    /// May be repeated after any failure: what was journalled is found by recovery, what was not is staged anew.
    pub(crate) async fn commit(&self, splits: Vec<Split>) -> Result<Option<Entry>> {
        // Look: which tables, which columns. Nothing has been written; a crash here means nothing.
        let found = tokio::select! {
            found = self.source.describe(&self.cx, splits, self.store.as_ref()) => found?,
            () = self.cx.stop.requested() => return Err(interrupted()),
        };
        if found.splits.is_empty() && found.refused.is_empty() {
            return Ok(None);
        }

        // Prepare: tables and columns. A crash here leaves an empty table or column, which the next run uses.
        let prepared = self.prepare(&found).await?;
        failpoint::hit("prepare.after");

        // 1. Stage. The attempt is registered first, so that whatever a crash leaves behind can be named and swept.
        //    A crash here means invisible files, and a source that still has everything.
        let attempt = self.store.begin_attempt(&self.pipeline.name, Writer::Lease(self.lease.epoch())).await?;
        failpoint::hit("attempt.after");
        let token = uuid::Uuid::new_v4().simple().to_string();
        let draft = match self.stage(&attempt, &token, &prepared, found).await {
            // Nothing of what was read is to be journalled: dead letters that still do not fit.
            Ok(draft) if draft.covers.is_empty() => {
                self.give_up(&attempt).await;
                return Ok(None);
            }
            Ok(draft) => draft,
            Err(error) => {
                self.give_up(&attempt).await;
                return Err(error);
            }
        };
        failpoint::hit("stage.after");

        // 2. Journal. From here on the commit will become visible, whoever publishes it.
        //    A crash here means that recovery publishes it from its committables; the source is not asked again.
        failpoint::hit("journal.before");
        let entry = self.journal(draft).await?;
        failpoint::hit("journal.after");

        // 3. to 5. The same for a fresh entry and for one that recovery found.
        Ok(Some(self.roll_forward(entry).await?))
    }

    /// Steps 3 to 5 of a journalled entry; returns it as it was published. May be repeated.
    pub(crate) async fn roll_forward(&self, mut entry: Entry) -> Result<Entry> {
        if entry.state == EntryState::Journalled {
            // 3. Publish, table by table. A crash here means that some tables show N and others do not yet; each holds
            //    the mark, so that repeating changes nothing where it was done.
            failpoint::hit("publish.before");
            let receipts = loop {
                match self.publish(&entry).await? {
                    Visible::All(receipts) => break receipts,
                    // Part of it never will be: that part becomes dead letters, and the rest is staged anew.
                    Visible::Refused(table, refused) => {
                        let amend = || self.amend(&entry, &table, &refused);
                        entry = Policy::default().run(&self.patience, amend).await?;
                    }
                }
            };
            failpoint::hit("publish.after");

            // 4. Complete: receipts, file ledger, dead-letter index. A crash here means publishing again, which changes
            //    nothing, and then this.
            failpoint::hit("complete.before");
            let completion = Completion { pipeline: self.pipeline.name.clone(), n: entry.n, epoch: self.lease.epoch(), receipts };
            Policy::default().run(&self.patience, || self.store.complete(completion.clone())).await?;
            failpoint::hit("complete.after");
        }

        // 5. Acknowledge. A crash here means that the source is told again, which it bears.
        failpoint::hit("acknowledge.before");
        if let Some(what) = &entry.draft.acknowledge {
            self.source.acknowledge(&self.cx, what).await?;
        }
        failpoint::hit("acknowledge.after");
        self.store.acknowledged(&self.pipeline.name, entry.n).await?;
        failpoint::hit("acknowledged.after");
        self.cx.events.send(RunEvent::Completed { n: entry.n });
        Ok(entry)
    }

    async fn stage(&self, attempt: &AttemptId, token: &str, prepared: &Prepared, found: Description) -> Result<Draft> {
        let Description { splits, refused, landings, .. } = found;
        let all: Vec<Split> = splits.iter().cloned().chain(refused.iter().map(|(split, _)| split.clone())).collect();
        let was_refused: Vec<String> = refused.iter().map(|(split, _): &(Split, Reject)| split.name.clone()).collect();
        let staged = stage(self, attempt, token, prepared, &splits, refused).await?;
        Ok(Draft {
            pipeline: self.pipeline.name.clone(),
            token: token.to_owned(),
            writer: Writer::Lease(self.lease.epoch()),
            run: self.cx.run.clone(),
            attempts: vec![attempt.clone()],
            landings: landings.into_iter().map(|landing| self.counted(landing, &staged, &was_refused)).collect(),
            acknowledge: self.source.acknowledgement(&all),
            replayed: replayed(&staged.covers),
            covers: staged.covers,
            committables: staged.committables,
            schemas: prepared.schemas.clone(),
            counts: staged.counts,
            origins: staged.origins,
            dead_letters: Vec::new(),
        })
    }

    /// A line of the file ledger with what staging counted.
    fn counted(&self, landing: Landing, staged: &Staged, refused: &[String]) -> Landing {
        let rows = if landing.table == Landing::WHOLE {
            staged.rows.iter().filter(|((split, _), _)| *split == landing.address).map(|(_, rows)| rows).sum()
        } else {
            staged.rows.get(&(landing.address.clone(), landing.table.clone())).copied().unwrap_or_default()
        };
        Landing {
            rows,
            rejects: staged.rejects.get(&landing.address).copied().unwrap_or_default(),
            refused: refused.contains(&landing.address),
            run: self.cx.run.clone(),
            ..landing
        }
    }

    /// Step 2. The answer may be lost: the token makes the repeated call find what the first one wrote.
    async fn journal(&self, draft: Draft) -> Result<Entry> {
        let attempts = draft.attempts.clone();
        match Policy::default().run(&self.patience, || self.store.journal(draft.clone())).await {
            Ok(entry) => {
                self.cx.events.send(RunEvent::Journalled { n: entry.n });
                Ok(entry)
            }
            Err(error) => {
                // A definite refusal frees the files. After anything else they stay until a later run knows.
                if matches!(error.code(), "delta_refused" | "attempt_dead") {
                    for attempt in &attempts {
                        self.give_up(attempt).await;
                    }
                }
                Err(error)
            }
        }
    }

    /// Step 3. Tables follow one another, `_dead_letters` last. A table that cannot be published does not keep the others
    /// from it, but ends the run: its entry stays open, and every run tries it again first.
    async fn publish(&self, entry: &Entry) -> Result<Visible> {
        let note = if self.destination.marks_before() { Note::whole(entry) } else { Note::of(entry) }.to_json()?;
        let mut receipts = Vec::new();
        let mut parked = None;
        for table in entry.tables() {
            let committables: Vec<_> = entry.committables(&table).cloned().collect();
            let call = || {
                self.destination.publish(Publication {
                    application: &self.application,
                    n: entry.n,
                    token: &entry.draft.token,
                    amendment: entry.amendment,
                    table: &table,
                    committables: &committables,
                    note: note.clone(),
                    fence: &self.lease,
                })
            };
            let commit = match Policy::default().run(&self.patience, call).await? {
                Published::Done(commit) => Some(commit),
                Published::Already(commit) => commit,
                Published::Parked(reason) => {
                    self.cx.events.send(RunEvent::Parked { n: entry.n, table: table.clone(), reason: reason.clone() });
                    parked = Some((table, reason));
                    continue;
                }
                Published::Refused(refused) => return Ok(Visible::Refused(table, refused)),
            };
            failpoint::hit("publish.after_table");
            let rows = committables.iter().map(|c| c.rows).sum();
            self.cx.events.send(RunEvent::Published { n: entry.n, table: table.clone(), rows, commit: commit.clone() });
            receipts.push(Receipt {
                pipeline: self.pipeline.name.clone(),
                n: entry.n,
                table,
                commit,
                parked: None,
                rows,
                bytes: committables.iter().map(|c| c.bytes).sum(),
                digests: committables.iter().map(|c| c.digest.clone()).collect(),
                run: entry.draft.run.clone(),
                covers: entry.draft.covers.clone(),
                at: chrono::Utc::now(),
            });
        }
        match parked {
            None => Ok(Visible::All(receipts)),
            Some((table, reason)) => Err(Error::new(
                Kind::Destination,
                TABLE_PARKED,
                format!("table {table} cannot take commit {}: {reason}", entry.n),
            )
            .with_retry(longshore_core::error::Retry::AfterFix)
            .hint("`longshore repair` shows what is wrong; the commit is published as soon as the table can take it")),
        }
    }

    /// Marks an attempt dead and removes its files. What fails here is done by the next run.
    pub(crate) async fn give_up(&self, attempt: &AttemptId) {
        if let Err(error) = self.sweep(std::slice::from_ref(attempt)).await {
            tracing::warn!(%error, "files of an attempt that was given up stay until the next run");
        }
    }
}

/// The dead letters among what a commit covers: a replay's source covers them by their ids.
fn replayed(covers: &[Covers]) -> Vec<String> {
    let ids = covers.iter().filter_map(|covers| match covers {
        Covers::Ids { scope, ids } if scope == DEAD_LETTERS => Some(ids.clone()),
        Covers::Ids { .. } | Covers::Deltas(_) => None,
    });
    ids.flatten().collect()
}
