//! A journalled commit that its destination does not take as it is.

use futures::StreamExt;
use longshore_core::Result;
use longshore_core::batch::Rows;
use longshore_core::commit::{AttemptId, DEAD_LETTERS, Draft, Entry, Landing, Refused, WriteDisposition};
use longshore_core::destination::Refusal;
use longshore_core::error::{Error, Kind};
use longshore_core::event::RunEvent;
use longshore_core::failpoint;
use longshore_core::retry::Policy;
use longshore_core::store::Writer;

use crate::dead_letters::{self, Letters};
use crate::error::ROWS_REFUSED;
use crate::publisher::Publisher;
use crate::stage::TOLD;

/// How often one commit may be amended before a person has to look.
const MOST_AMENDMENTS: i64 = 10;

impl Publisher {
    /// Takes out of an entry the rows of a table that the destination says a final no to; they become dead letters of the same commit. The
    /// rest is staged anew. Returns the entry as it then is.
    ///
    /// A crash before the store has it means that the old entry is published again, refused again, and amended then.
    pub(crate) async fn amend(&self, entry: &Entry, table: &str, refused: &Refused) -> Result<Entry> {
        if entry.amendment >= MOST_AMENDMENTS || table == DEAD_LETTERS {
            return Err(Error::new(Kind::Destination, ROWS_REFUSED, format!("table {table} refuses commit {}", entry.n))
                .with("reason", &refused.reason));
        }
        let attempt = self.session.store.begin_attempt(&self.session.pipeline.name, Writer::Lease(self.lease.epoch())).await?;
        let draft = match self.amended(entry, &attempt, table, refused).await {
            Ok(draft) => draft,
            Err(error) => {
                self.give_up(&attempt).await;
                return Err(error);
            }
        };
        failpoint::hit("amend.before");
        let call = || self.session.store.amend(entry.n, entry.amendment, draft.clone());
        let amended = Policy::default().run(&self.session.patience, call).await?;
        failpoint::hit("amend.after");
        Ok(amended)
    }

    /// The entry's draft without what is refused.
    async fn amended(&self, entry: &Entry, attempt: &AttemptId, table: &str, refused: &Refused) -> Result<Draft> {
        let mut draft = Draft { writer: Writer::Lease(self.lease.epoch()), ..entry.draft.clone() };
        draft.attempts.push(attempt.clone());
        let schema = draft.schemas.get(table).cloned().unwrap_or_default();
        let committables: Vec<_> = entry.committables(table).cloned().collect();
        let staged = self.session.destination.restage(attempt, table, &schema, &committables, refused).await?;
        draft.committables.retain(|committable| committable.table != table);
        draft.committables.push(staged.committable);
        self.take_out(&mut draft, attempt, table, staged.refused).await?;
        Ok(draft)
    }

    /// Makes dead letters of rows that were staged.
    async fn take_out(&self, draft: &mut Draft, attempt: &AttemptId, table: &str, refused: Vec<Refusal>) -> Result<()> {
        if refused.is_empty() {
            return Ok(());
        }
        let origins = draft.origins.remove(table).unwrap_or_default();
        let rows: Vec<u64> = refused.iter().map(|refused| refused.row).collect();
        draft.origins.insert(table.to_owned(), origins.without(&rows));
        let mut letters = Letters::new(attempt, &draft.token, &draft.pipeline, &draft.run, draft.counts.rejects);
        let mut rejects = Vec::with_capacity(refused.len());
        for refused in refused {
            let split = origins.split(refused.row).unwrap_or_default();
            count_out(draft, table, split);
            let reject = dead_letters::of_refused(table, split, refused);
            if draft.counts.rejects <= TOLD {
                let (place, code, reason) = (reject.place.clone(), reject.code.to_owned(), reject.reason.clone());
                self.session.cx.events.send(RunEvent::Rejected { place, code, reason });
            }
            rejects.push(reject);
        }
        self.session.prepare_dead_letters().await?;
        let rows = letters.rows(self.session.destination.as_ref(), rejects).await?;
        let rows = futures::stream::iter([Ok(Rows::Plain(rows))]).boxed();
        let schema = &dead_letters::SCHEMA;
        let staged = self.session.destination.stage(attempt, DEAD_LETTERS, schema, WriteDisposition::Append, rows).await?;
        if let Some(refused) = staged.refused.first() {
            return Err(dead_letters::refused(&refused.reason));
        }
        draft.committables.push(staged.committable);
        draft.dead_letters.append(&mut letters.keys);
        Ok(())
    }
}

/// One row of a split is a dead letter after all.
fn count_out(draft: &mut Draft, table: &str, split: &str) {
    draft.counts.rejects += 1;
    if let Some(rows) = draft.counts.rows.get_mut(table) {
        *rows -= 1;
    }
    for landing in draft.landings.iter_mut().filter(|landing| landing.address == split) {
        landing.rejects += 1;
        if landing.table == table || landing.table == Landing::WHOLE {
            landing.rows -= 1;
        }
    }
}
