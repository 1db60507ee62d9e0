//! One commit, in five steps. Each step is durable before the next begins.

use longshore_core::Result;
use longshore_core::batch::Reject;
use longshore_core::commit::{AttemptId, DEAD_LETTERS, Draft, Entry, EntryState, Landing};
use longshore_core::event::RunEvent;
use longshore_core::failpoint;
use longshore_core::position::Covers;
use longshore_core::retry::Policy;
use longshore_core::source::{Description, Split};
use longshore_core::store::Writer;

use crate::lease::interrupted;
use crate::prepare::Prepared;
use crate::run::Load;
use crate::stage::{Staged, stage};

impl Load {
    /// Lands these splits in one commit. Returns the entry, `None` if there was nothing left to land.
    ///
    /// May be repeated after any failure: what was journalled is found by recovery, what was not is staged anew.
    pub(crate) async fn commit(&self, splits: Vec<Split>) -> Result<Option<Entry>> {
        // Look: which tables, which columns. Nothing has been written; a crash here means nothing.
        let found = tokio::select! {
            found = self.source.describe(&self.session().cx, splits, self.session().store.as_ref()) => found?,
            () = self.session().cx.stop.requested() => return Err(interrupted()),
        };
        if found.splits.is_empty() && found.refused.is_empty() {
            return Ok(None);
        }

        // Prepare: tables and columns. A crash here leaves an empty table or column, which the next run uses.
        let prepared = self.session().prepare(&found).await?;
        failpoint::hit("prepare.after");

        // 1. Stage. The attempt is registered first, so that whatever a crash leaves behind can be named and swept.
        //    A crash here means invisible files, and a source that still has everything.
        let attempt = self
            .session()
            .store
            .begin_attempt(&self.session().pipeline.name, Writer::Lease(self.publisher.lease.epoch()))
            .await?;
        failpoint::hit("attempt.after");
        let token = uuid::Uuid::new_v4().simple().to_string();
        let draft = match self.stage(&attempt, &token, &prepared, found).await {
            // Nothing of what was read is to be journalled: dead letters that still do not fit.
            Ok(draft) if draft.covers.is_empty() => {
                self.publisher.give_up(&attempt).await;
                return Ok(None);
            }
            Ok(draft) => draft,
            Err(error) => {
                self.publisher.give_up(&attempt).await;
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
            // 3. and 4.
            entry = self.publisher.show(entry).await?;
        }

        // 5. Acknowledge. A crash here means that the source is told again, which it bears.
        failpoint::hit("acknowledge.before");
        if let Some(what) = &entry.draft.acknowledge {
            self.source.acknowledge(&self.session().cx, what).await?;
        }
        failpoint::hit("acknowledge.after");
        self.session().store.acknowledged(&self.session().pipeline.name, entry.n).await?;
        failpoint::hit("acknowledged.after");
        self.session().cx.events.send(RunEvent::Completed { n: entry.n });
        Ok(entry)
    }

    async fn stage(&self, attempt: &AttemptId, token: &str, prepared: &Prepared, found: Description) -> Result<Draft> {
        let Description { splits, refused, landings, .. } = found;
        let all: Vec<Split> = splits.iter().cloned().chain(refused.iter().map(|(split, _)| split.clone())).collect();
        let was_refused: Vec<String> = refused.iter().map(|(split, _): &(Split, Reject)| split.name.clone()).collect();
        let staged = stage(self, attempt, token, prepared, &splits, refused).await?;
        Ok(Draft {
            pipeline: self.session().pipeline.name.clone(),
            token: token.to_owned(),
            writer: Writer::Lease(self.publisher.lease.epoch()),
            run: self.session().cx.run.clone(),
            attempts: vec![attempt.clone()],
            landings: landings.into_iter().map(|landing| self.counted(landing, &staged, &was_refused)).collect(),
            held: Default::default(),
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
            run: self.session().cx.run.clone(),
            ..landing
        }
    }

    /// Step 2. The answer may be lost: the token makes the repeated call find what the first one wrote.
    async fn journal(&self, draft: Draft) -> Result<Entry> {
        let attempts = draft.attempts.clone();
        match Policy::default().run(&self.session().patience, || self.session().store.journal(draft.clone())).await {
            Ok(entry) => {
                self.session().cx.events.send(RunEvent::Journalled { n: entry.n });
                Ok(entry)
            }
            Err(error) => {
                // A definite refusal frees the files. After anything else they stay until a later run knows.
                if matches!(error.code(), "delta_refused" | "attempt_dead") {
                    for attempt in &attempts {
                        self.publisher.give_up(attempt).await;
                    }
                }
                Err(error)
            }
        }
    }
}

/// The dead letters among what a commit covers: a replay's source covers them by their ids.
pub(crate) fn replayed(covers: &[Covers]) -> Vec<String> {
    let ids = covers.iter().filter_map(|covers| match covers {
        Covers::Ids { scope, ids } if scope == DEAD_LETTERS => Some(ids.clone()),
        Covers::Ids { .. } | Covers::Deltas(_) => None,
    });
    ids.flatten().collect()
}
