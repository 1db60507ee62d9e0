//! What one commit of a stream takes in: rows to their tables' stagers as they come, until it is full.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use chrono::{DateTime, Utc};
use longshore_core::Result;
use longshore_core::batch::{Batch, Reject, Rows};
use longshore_core::commit::{AttemptId, Committable, Counts, DEAD_LETTERS, Draft, Origins, WriteDisposition};
use longshore_core::destination::Refusal;
use longshore_core::error::{Error, Kind, code};
use longshore_core::event::RunEvent;
use longshore_core::position::{Covers, Delta};
use longshore_core::retry::Policy;
use longshore_core::schema::TableSchema;
use longshore_core::store::Writer;
use longshore_core::stream::{Decoded, Delivery};

use super::copies::Copies;
use super::tables::TableBook;
use crate::commit::replayed;
use crate::dead_letters::{self, Letters};
use crate::session::Session;
use crate::stage::{LETTERS, TOLD};
use crate::stager::{Stager, start};

/// Bytes of rows that may wait for more of their tables.
const GATHERED: usize = 32 << 20;

/// A commit that is being staged.
pub(crate) struct Window<'a> {
    session: &'a Session,
    writer: Writer,
    began: Instant,
    pub(crate) attempt: AttemptId,
    /// The stagers of the tables in their present columns, each with these.
    stagers: BTreeMap<String, (TableSchema, Stager)>,
    /// Those of columns that were: their tables have changed since.
    earlier: Vec<(String, Stager)>,
    schemas: BTreeMap<String, TableSchema>,
    letters: Letters,
    copies: Copies,
    at_most: (u64, u64),
    held: BTreeMap<String, String>,
    broken: Broken,
    counts: Counts,
    covers: Vec<Covers>,
    messages: u64,
    oldest: Option<DateTime<Utc>>,
    /// Dead letters of this run before this commit.
    rejected_before: u64,
}

/// What staging came to that failed.
#[derive(Default)]
pub(crate) struct Broken {
    /// The tables whose staging failed, and why.
    pub(crate) tables: Vec<(String, String)>,
    /// Whether that of others was fine.
    pub(crate) others_are_fine: bool,
}

/// What journalling takes, and what is told of it.
pub(crate) struct Full {
    pub(crate) draft: Draft,
    pub(crate) messages: u64,
    pub(crate) oldest: Option<DateTime<Utc>>,
}

impl<'a> Window<'a> {
    /// Begins a commit: its attempt is registered before its first byte.
    pub(crate) async fn begin(
        session: &'a Session,
        writer: Writer,
        copies: Copies,
        at_most: (u64, u64),
        rejected_before: u64,
    ) -> Result<Self> {
        let begin = || session.store.begin_attempt(&session.pipeline.name, writer);
        let attempt = Policy::default().run(&session.patience, begin).await?;
        let token = uuid::Uuid::new_v4().simple().to_string();
        let letters = Letters::new(&attempt, &token, &session.pipeline.name, &session.cx.run, 0);
        Ok(Self {
            session,
            writer,
            began: Instant::now(),
            attempt,
            stagers: BTreeMap::new(),
            earlier: Vec::new(),
            schemas: BTreeMap::new(),
            letters,
            copies,
            at_most,
            held: BTreeMap::new(),
            broken: Broken::default(),
            counts: Counts::default(),
            covers: Vec::new(),
            messages: 0,
            oldest: None,
            rejected_before,
        })
    }

    /// When it has to end.
    pub(crate) fn deadline(&self) -> Instant {
        self.began + self.session.pipeline.stream.commit_every
    }

    /// Whether it has to end now.
    pub(crate) fn is_full(&self) -> bool {
        let limits = &self.session.pipeline.stream;
        let (messages, bytes) = self.at_most;
        self.messages >= limits.commit_messages.min(messages)
            || self.counts.bytes >= limits.commit_bytes.min(bytes)
            || Instant::now() >= self.deadline()
    }

    /// Takes a decoded delivery in. Its covers join those before, else the source is at fault.
    pub(crate) async fn take(&mut self, delivery: Delivery, decoded: Decoded, book: &TableBook) -> Result<()> {
        for batch in decoded.batches {
            self.batch(batch, book).await?;
        }
        if !decoded.rejects.is_empty() {
            self.reject(decoded.rejects).await?;
        }
        for covers in delivery.covers {
            join(&mut self.covers, without(covers, &decoded.left))?;
        }
        self.messages += delivery.messages;
        self.counts.bytes += delivery.bytes;
        self.oldest = [self.oldest, delivery.oldest].into_iter().flatten().min();
        // The delivery's share of the memory is given back here: its rows are with the encoders.
        drop(delivery.permit);
        Ok(())
    }

    async fn batch(&mut self, batch: Batch, book: &TableBook) -> Result<()> {
        let Batch { table, rows, rejects } = batch;
        if !rows.is_empty() {
            *self.counts.rows.entry(table.clone()).or_default() += rows.len() as u64;
            if let (Rows::Changes(changes), Some(history)) = (&rows, book.history(&table)) {
                let columns = book.schema(&table, history).cloned().unwrap_or_default();
                let kept = Rows::Plain(changes.to_rows(&columns)?);
                self.hold(history, book);
                self.hand_over(history, &columns, kept).await?;
            }
            if let Some(columns) = book.schema(&table, &table).filter(|_| book.history(&table) != Some(&table)) {
                self.hold(&table, book);
                self.hand_over(&table, columns, rows).await?;
            }
        }
        if rejects.is_empty() { Ok(()) } else { self.reject(rejects).await }
    }

    fn hold(&mut self, table: &str, book: &TableBook) {
        if let Some(why) = book.held(table) {
            self.held.insert(table.to_owned(), why.to_owned());
        }
    }

    async fn hand_over(&mut self, table: &str, columns: &TableSchema, rows: Rows) -> Result<()> {
        let other_columns = self.stagers.get(table).is_some_and(|(of, _)| of != columns);
        if other_columns && let Some((_, old)) = self.stagers.remove(table) {
            // What follows is staged in the new columns, as another part of the same commit.
            self.earlier.push((table.to_owned(), old));
        }
        if !self.stagers.contains_key(table) {
            let stager = start(&self.session.destination, &self.attempt, table, columns, WriteDisposition::Append);
            self.stagers.insert(table.to_owned(), (columns.clone(), stager));
            self.schemas.insert(table.to_owned(), columns.clone());
        }
        let Some((_, stager)) = self.stagers.get_mut(table) else { return Ok(()) };
        stager.gather(rows).await?;
        if self.stagers.values().map(|(_, stager)| stager.bytes).sum::<usize>() > GATHERED {
            for (_, stager) in self.stagers.values_mut() {
                stager.hand_over().await?;
            }
        }
        Ok(())
    }

    async fn reject(&mut self, rejects: Vec<Reject>) -> Result<()> {
        let before = self.rejected_before + self.counts.rejects;
        for (_, reject) in (before..TOLD).zip(&rejects) {
            self.session.cx.events.send(RunEvent::Rejected {
                place: reject.place.clone(),
                code: reject.code.to_owned(),
                reason: reject.reason.clone(),
            });
        }
        self.copies.send(&self.session.cx, &rejects);
        self.counts.rejects += rejects.len() as u64;
        self.session.check_max(self.rejected_before + self.counts.rejects)?;
        let rows = self.letters.rows(self.session.destination.as_ref(), rejects).await?;
        if self.letters.keys.len() >= LETTERS {
            self.letters.keep(&self.session.store, &self.session.patience).await?;
        }
        if !self.stagers.contains_key(DEAD_LETTERS) {
            self.session.prepare_dead_letters().await?;
        }
        self.hand_over(DEAD_LETTERS, &dead_letters::SCHEMA, Rows::Plain(rows)).await
    }

    /// Ends the staging. With an error everything that was staged is to be given up.
    pub(crate) async fn finish(&mut self) -> Result<Full> {
        let mut committables = Vec::new();
        let letters = self.stagers.remove(DEAD_LETTERS);
        let mut failed = None;
        for (table, stager) in self.take_stagers() {
            // The others go on to their end: whether they are fine says whose fault it is.
            match stager.end(true).await {
                Ok(Some((staged, _))) => {
                    committables.push(staged.committable);
                    if let Err(error) = self.refuse(&table, staged.refused).await {
                        failed = failed.or(Some(error));
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    self.broken.tables.push((table, error.to_string()));
                    failed = failed.or(Some(error));
                }
            }
        }
        self.broken.others_are_fine = !committables.is_empty();
        // Rows that were refused may have begun another one.
        for (_, stager) in letters.into_iter().chain(self.stagers.remove(DEAD_LETTERS)) {
            match stager.end(failed.is_none()).await {
                Ok(Some((staged, _))) => match staged.refused.first() {
                    None => committables.push(staged.committable),
                    Some(refused) => failed = failed.or(Some(dead_letters::refused(&refused.reason))),
                },
                Ok(None) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        self.letters.keep(&self.session.store, &self.session.patience).await?;
        self.copies.arrived().await;
        Ok(Full { draft: self.draft(committables), messages: self.messages, oldest: self.oldest })
    }

    /// Ends the staging of what is not to be journalled; says why it failed if a destination knows.
    pub(crate) async fn drop_rows(&mut self) -> Option<Error> {
        let mut why = None;
        let (ended, going_on): (Vec<_>, Vec<_>) = self.take_stagers().into_iter().partition(|(_, stager)| stager.has_ended());
        for (table, stager) in ended.into_iter().chain(going_on) {
            // Whether those that go on come to their end says whose fault it is.
            match stager.end(!self.broken.tables.is_empty()).await {
                Ok(staged) => self.broken.others_are_fine |= staged.is_some(),
                Err(error) => {
                    self.broken.tables.push((table, error.to_string()));
                    why = why.or(Some(error));
                }
            }
        }
        why
    }

    /// What failed, so that it is no commit.
    pub(crate) fn broken(self) -> Broken {
        self.broken
    }

    /// In the order in which they were begun.
    fn take_stagers(&mut self) -> Vec<(String, Stager)> {
        let last = std::mem::take(&mut self.stagers).into_iter().map(|(table, (_, stager))| (table, stager));
        std::mem::take(&mut self.earlier).into_iter().chain(last).collect()
    }

    /// Rows that the destination does not take: no rows after all, but dead letters.
    async fn refuse(&mut self, table: &str, refused: Vec<Refusal>) -> Result<()> {
        if refused.is_empty() {
            return Ok(());
        }
        if let Some(rows) = self.counts.rows.get_mut(table) {
            *rows -= refused.len() as u64;
        }
        let from = self.session.pipeline.name.clone();
        self.reject(refused.into_iter().map(|refused| dead_letters::of_refused(table, &from, refused)).collect()).await
    }

    fn draft(&mut self, committables: Vec<Committable>) -> Draft {
        let mut origins: BTreeMap<String, Origins> = BTreeMap::new();
        for committable in &committables {
            origins.entry(committable.table.clone()).or_default().note(&self.session.pipeline.name, committable.rows);
        }
        Draft {
            pipeline: self.session.pipeline.name.clone(),
            token: self.letters.token.clone(),
            writer: self.writer,
            run: self.session.cx.run.clone(),
            attempts: vec![self.attempt.clone()],
            committables,
            schemas: std::mem::take(&mut self.schemas),
            counts: std::mem::take(&mut self.counts),
            replayed: replayed(&self.covers),
            covers: std::mem::take(&mut self.covers),
            landings: Vec::new(),
            dead_letters: Vec::new(),
            origins,
            held: std::mem::take(&mut self.held),
            acknowledge: None,
        }
    }
}

/// What is covered, but for these ids.
fn without(covers: Covers, left: &BTreeSet<String>) -> Covers {
    match covers {
        Covers::Ids { scope, ids } if !left.is_empty() => {
            Covers::Ids { scope, ids: ids.into_iter().filter(|id| !left.contains(id)).collect() }
        }
        other => other,
    }
}

/// Adds what a delivery covers to what a commit covers.
fn join(all: &mut Vec<Covers>, more: Covers) -> Result<()> {
    match more {
        Covers::Ids { scope, ids } => {
            for covers in all.iter_mut() {
                if let Covers::Ids { scope: known, ids: before } = covers
                    && *known == scope
                {
                    before.extend(ids);
                    return Ok(());
                }
            }
            all.push(Covers::Ids { scope, ids });
        }
        Covers::Deltas(deltas) => {
            let place = all.iter().position(|covers| matches!(covers, Covers::Deltas(_)));
            let place = place.unwrap_or_else(|| {
                all.push(Covers::Deltas(Vec::new()));
                all.len() - 1
            });
            let Some(Covers::Deltas(before)) = all.get_mut(place) else { return Ok(()) };
            for delta in deltas {
                join_delta(before, delta)?;
            }
        }
    }
    Ok(())
}

fn join_delta(before: &mut Vec<Delta>, delta: Delta) -> Result<()> {
    let Some(last) = before.iter_mut().find(|known| known.partition == delta.partition) else {
        before.push(delta);
        return Ok(());
    };
    if delta.from.as_ref() != Some(&last.to) {
        return Err(Error::new(Kind::Bug, code::BUG, format!("deliveries of {} do not join", delta.partition))
            .with("ended", &last.to)
            .with("goes on", delta.from.as_ref().map_or("start", |from| &from.0)));
    }
    last.to = delta.to;
    Ok(())
}

#[cfg(test)]
mod tests {
    use longshore_core::position::{Partition, Position};

    use super::*;

    fn delta(partition: &str, from: u64, to: u64) -> Covers {
        let from = (from > 0).then(|| Position::from_count(from));
        Covers::Deltas(vec![Delta { partition: Partition(partition.into()), from, to: Position::from_count(to) }])
    }

    #[test]
    fn deltas_that_follow_one_another_become_one_and_a_gap_is_refused() {
        let mut all = Vec::new();
        for covers in [delta("a", 0, 5), delta("b", 0, 2), delta("a", 5, 9)] {
            join(&mut all, covers).expect("they join");
        }
        let Covers::Deltas(deltas) = &all[0] else { panic!("deltas") };
        assert_eq!(deltas.iter().map(|d| d.to.clone()).collect::<Vec<_>>(), [Position::from_count(9), Position::from_count(2)]);
        assert_eq!(join(&mut all, delta("a", 10, 11)).expect_err("a gap").code(), "bug");
    }

    #[test]
    fn ids_of_one_scope_are_kept_together() {
        let ids = |scope: &str, id: &str| Covers::Ids { scope: scope.into(), ids: vec![id.into()] };
        let mut all = Vec::new();
        for covers in [ids("s", "1"), ids("t", "1"), ids("s", "2")] {
            join(&mut all, covers).expect("they join");
        }
        assert_eq!(all, [Covers::Ids { scope: "s".into(), ids: vec!["1".into(), "2".into()] }, ids("t", "1")]);
    }
}
