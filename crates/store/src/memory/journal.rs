//! The journal in memory.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use longshore_core::Result;
use longshore_core::commit::{
    Adoption, Application, AttemptId, CommitNumber, Completion, DeadLetterState, Draft, Entry, EntryState, Landing, Receipt,
};
use longshore_core::position::{Covers, Delta, Partition, Position};
use longshore_core::store::{IndexedDeadLetter, Journal, PipelineState};

use super::{Letter, MemoryStore, Pipeline, State};
use crate::error;

#[async_trait]
impl Journal for MemoryStore {
    async fn pipeline(&self, name: &str) -> Result<PipelineState> {
        let mut state = self.state();
        let pipeline = state.ensure(name);
        Ok(PipelineState {
            application: Application {
                pipeline: name.to_owned(),
                ledger: pipeline.ledger.clone(),
                store: pipeline.origin.clone().unwrap_or_else(|| self.id.to_string()),
            },
            last: pipeline.last,
            open: pipeline.entries.values().filter(|entry| entry.state < EntryState::Acknowledged).cloned().collect(),
            published: pipeline.published.clone(),
            parked: pipeline.parked.values().cloned().collect(),
        })
    }

    async fn pipelines(&self) -> Result<Vec<String>> {
        Ok(self.state().pipelines.keys().cloned().collect())
    }

    async fn journal(&self, draft: Draft) -> Result<Entry> {
        let entry = self.state().journal(draft)?;
        self.answer("journal", entry)
    }

    async fn amend(&self, n: CommitNumber, amendment: i64, draft: Draft) -> Result<Entry> {
        let entry = self.state().amend(n, amendment, draft)?;
        self.answer("amend", entry)
    }

    async fn complete(&self, completion: Completion) -> Result<()> {
        self.state().complete(&completion)?;
        self.answer("complete", ())
    }

    async fn unpark(&self, receipt: Receipt, epoch: i64) -> Result<()> {
        self.state().unpark(receipt, epoch)?;
        self.answer("unpark", ())
    }

    async fn states(&self, pipeline: &str, numbers: &[CommitNumber]) -> Result<BTreeMap<CommitNumber, EntryState>> {
        let state = self.state();
        let Some(known) = state.pipelines.get(pipeline) else { return Ok(BTreeMap::new()) };
        Ok(numbers.iter().filter_map(|n| Some((*n, known.entries.get(n)?.state))).collect())
    }

    async fn known_ids(&self, pipeline: &str, scope: &str, ids: &[String]) -> Result<BTreeMap<String, EntryState>> {
        let state = self.state();
        Ok(state.pipelines.get(pipeline).map(|known| known.known_ids(scope, ids)).unwrap_or_default())
    }

    async fn forget_ids(&self, pipeline: &str, scope: &str, before: DateTime<Utc>) -> Result<u64> {
        let forgotten = self.state().pipelines.get_mut(pipeline).map_or(0, |known| known.forget_ids(scope, before));
        self.answer("forget_ids", forgotten)
    }

    async fn acknowledged(&self, pipeline: &str, n: CommitNumber) -> Result<()> {
        let mut state = self.state();
        let unknown = || error::not_journalled(pipeline, n);
        let known = state.pipelines.get_mut(pipeline).ok_or_else(unknown)?;
        let entry = known.entries.get_mut(&n).ok_or_else(unknown)?;
        match entry.state {
            EntryState::Journalled => return Err(error::not_complete(pipeline, n)),
            EntryState::Acknowledged => return Ok(()),
            EntryState::Complete => {}
        }
        entry.state = EntryState::Acknowledged;
        known.acknowledged.insert(n, Utc::now());
        entry.draft.committables.clear();
        entry.draft.schemas.clear();
        entry.draft.landings.clear();
        entry.draft.dead_letters.clear();
        entry.draft.replayed.clear();
        known.attempts.retain(|_, attempt| attempt.n != Some(n));
        self.answer("acknowledged", ())
    }

    async fn position(&self, pipeline: &str, partition: &Partition) -> Result<Option<Position>> {
        let state = self.state();
        Ok(state.pipelines.get(pipeline).and_then(|pipeline| pipeline.positions.position(partition)).cloned())
    }

    async fn receipts(&self, run: Option<&str>, limit: usize) -> Result<Vec<Receipt>> {
        let state = self.state();
        let wanted = |receipt: &&Receipt| run.is_none_or(|run| receipt.run == run);
        Ok(state.receipts.iter().rev().filter(wanted).take(limit).cloned().collect())
    }

    async fn adopt(&self, pipeline: &str, adoption: &Adoption) -> Result<()> {
        error::check_marks(pipeline, adoption)?;
        let mut state = self.state();
        let known = state.ensure(pipeline);
        if let Some(application) = &adoption.application {
            known.ledger = application.ledger.clone();
            known.origin = Some(application.store.clone());
        }
        for (table, n) in &adoption.marks {
            known.last = known.last.max(*n);
            known.published.insert(table.clone(), *n);
        }
        for landing in &adoption.landings {
            known.add_landings(landing.n, std::slice::from_ref(landing));
        }
        for entry in &adoption.entries {
            known.last = known.last.max(entry.n);
            for covers in &entry.draft.covers {
                let Covers::Ids { scope, ids } = covers else { continue };
                for id in ids {
                    known.ids.entry((scope.clone(), id.clone())).or_insert(entry.n);
                }
            }
            let new = Entry { state: EntryState::Journalled, ..entry.clone() };
            known.entries.entry(entry.n).or_insert(new);
        }
        for covers in adoption.covers.iter().chain(adoption.entries.iter().flat_map(|entry| &entry.draft.covers)) {
            let Covers::Deltas(deltas) = covers else { continue };
            for Delta { partition, to, .. } in deltas {
                known.positions.advance(partition, to);
            }
        }
        Ok(())
    }

    async fn forget_table(&self, pipeline: &str, table: &str) -> Result<()> {
        let mut state = self.state();
        let here: Vec<Receipt> =
            state.receipts.iter().filter(|receipt| receipt.pipeline == pipeline && receipt.table == table).cloned().collect();
        let Some(known) = state.pipelines.get_mut(pipeline) else { return Ok(()) };
        known.published.remove(table);
        known.record_paths.retain(|(of, _), _| of != table);
        known.landings.retain(|(_, of), landing| {
            of != table && (of != Landing::WHOLE || here.iter().all(|receipt| receipt.n != landing.n))
        });
        for covers in here.iter().flat_map(|receipt| &receipt.covers) {
            let Covers::Deltas(deltas) = covers else { continue };
            for delta in deltas.iter().filter(|delta| delta.partition.0.starts_with(Partition::FILE)) {
                known.positions.forget(&delta.partition);
            }
        }
        Ok(())
    }

    async fn give_up_parked(&self, pipeline: &str, table: &str) -> Result<()> {
        if let Some(known) = self.state().pipelines.get_mut(pipeline) {
            known.parked.retain(|(_, of), _| of != table);
        }
        Ok(())
    }
}

impl State {
    /// Checks everything, then changes everything: an error leaves the state as it was.
    fn journal(&mut self, draft: Draft) -> Result<Entry> {
        let Some(pipeline) = self.pipelines.get(&draft.pipeline) else {
            return Err(error::writer_gone(&draft.pipeline, draft.writer, None));
        };
        if let Some(known) = pipeline.entries.values().find(|entry| entry.draft.token == draft.token) {
            return Ok(known.clone());
        }
        pipeline.check_writer(&draft.pipeline, draft.writer)?;
        pipeline.check_attempts(&draft)?;
        let mut positions = pipeline.positions.clone();
        for covers in &draft.covers {
            if let Covers::Deltas(deltas) = covers {
                positions.apply(deltas)?;
            }
        }
        let new_ids = pipeline.new_ids(&draft)?;
        let replayed: BTreeSet<&String> = draft.replayed.iter().collect();
        let is_open = |letter: &&mut Letter| {
            letter.indexed.pipeline == draft.pipeline
                && letter.indexed.state == DeadLetterState::Open
                && letter.replaying.is_none()
                && replayed.contains(&letter.indexed.key.id)
        };
        let open: Vec<&mut Letter> = self.dead_letters.iter_mut().filter(is_open).collect();
        if open.len() != replayed.len() {
            return Err(error::dead_letters_not_open(&draft, open.len(), replayed.len()));
        }

        let pipeline = self.pipelines.get_mut(&draft.pipeline).expect("it was found above, under the same lock");
        let n = pipeline.last + 1;
        for letter in open {
            letter.replaying = Some(n);
        }
        for attempt in &draft.attempts {
            if let Some(attempt) = pipeline.attempts.get_mut(attempt) {
                attempt.n = Some(n);
            }
        }
        pipeline.last = n;
        pipeline.positions = positions;
        pipeline.ids.extend(new_ids.into_iter().map(|id| (id, n)));
        let entry = Entry { n, draft, amendment: 0, state: EntryState::Journalled, at: Utc::now() };
        pipeline.entries.insert(n, entry.clone());
        Ok(entry)
    }

    fn amend(&mut self, n: CommitNumber, amendment: i64, draft: Draft) -> Result<Entry> {
        let name = draft.pipeline.clone();
        let unknown = || error::not_journalled(&name, n);
        let known = self.pipelines.get_mut(&name).ok_or_else(unknown)?;
        let entry = known.entries.get(&n).ok_or_else(unknown)?.clone();
        if entry.amendment == amendment + 1 && entry.draft.attempts == draft.attempts {
            // The answer to the first call was lost.
            return Ok(entry);
        }
        known.check_amender(&name, draft.writer)?;
        if entry.state != EntryState::Journalled || entry.amendment != amendment {
            return Err(error::amended_elsewhere(&name, n, amendment));
        }
        let mut new = draft.clone();
        new.attempts.retain(|attempt| !entry.draft.attempts.contains(attempt));
        known.check_attempts(&new)?;
        for attempt in &new.attempts {
            if let Some(attempt) = known.attempts.get_mut(attempt) {
                attempt.n = Some(n);
            }
        }
        let draft = Draft { covers: entry.draft.covers, token: entry.draft.token, ..draft };
        let amended = Entry { amendment: amendment + 1, draft, ..entry };
        known.entries.insert(n, amended.clone());
        Ok(amended)
    }

    fn complete(&mut self, completion: &Completion) -> Result<()> {
        let (pipeline, n) = (completion.pipeline.as_str(), completion.n);
        let unknown = || error::not_journalled(pipeline, n);
        let known = self.pipelines.get_mut(pipeline).ok_or_else(unknown)?;
        let entry = known.entries.get(&n).ok_or_else(unknown)?;
        if entry.state != EntryState::Journalled {
            return Ok(());
        }
        known.check_epoch(pipeline, completion.epoch)?;
        for table in entry.tables() {
            if !completion.receipts.iter().any(|receipt| receipt.table == table) {
                return Err(error::receipt_missing(pipeline, n, &table));
            }
        }
        let mut draft = entry.draft.clone();
        let mut letters = Vec::new();
        for attempt in &draft.attempts {
            letters
                .extend(known.attempts.get_mut(attempt).map(|attempt| std::mem::take(&mut attempt.letters)).unwrap_or_default());
        }
        draft.dead_letters.splice(0..0, letters);
        let parked: Vec<_> = completion
            .receipts
            .iter()
            .filter(|receipt| receipt.parked.is_some())
            .map(|receipt| entry.park(receipt.clone()))
            .collect();
        for part in parked {
            known.parked.insert((n, part.table.clone()), part);
        }
        for receipt in completion.receipts.iter().filter(|receipt| receipt.parked.is_none()) {
            known.publish(&receipt.table, n);
        }
        known.add_landings(n, &draft.landings);
        if let Some(entry) = known.entries.get_mut(&n) {
            entry.state = EntryState::Complete;
        }
        self.add_receipts(pipeline, n, &completion.receipts);
        self.mark_and_add_dead_letters(pipeline, n, &draft, Utc::now());
        Ok(())
    }

    fn unpark(&mut self, receipt: Receipt, epoch: i64) -> Result<()> {
        error::check_published(&receipt)?;
        let key = (receipt.n, receipt.table.clone());
        let Some(known) = self.pipelines.get_mut(&receipt.pipeline) else { return Ok(()) };
        if !known.parked.contains_key(&key) {
            return Ok(());
        }
        known.check_epoch(&receipt.pipeline, epoch)?;
        known.parked.remove(&key);
        known.publish(&receipt.table, receipt.n);
        let same =
            |other: &&mut Receipt| other.pipeline == receipt.pipeline && other.n == receipt.n && other.table == receipt.table;
        if let Some(kept) = self.receipts.iter_mut().find(same) {
            *kept = receipt;
        }
        Ok(())
    }

    /// One receipt a table: what is there stays.
    fn add_receipts(&mut self, pipeline: &str, n: CommitNumber, receipts: &[Receipt]) {
        for receipt in receipts {
            let same = |other: &Receipt| other.pipeline == pipeline && other.n == n && other.table == receipt.table;
            if !self.receipts.iter().any(same) {
                self.receipts.push(receipt.clone());
            }
        }
    }

    fn mark_and_add_dead_letters(&mut self, pipeline: &str, n: CommitNumber, draft: &Draft, at: DateTime<Utc>) {
        for letter in self.dead_letters.iter_mut().filter(|letter| letter.indexed.pipeline == pipeline) {
            if draft.replayed.contains(&letter.indexed.key.id) {
                letter.indexed.state = DeadLetterState::Replayed;
            }
        }
        for key in &draft.dead_letters {
            let same = |other: &Letter| other.indexed.pipeline == pipeline && other.indexed.key.id == key.id;
            if !self.dead_letters.iter().any(same) {
                let (pipeline, run) = (pipeline.to_owned(), draft.run.clone());
                let indexed = IndexedDeadLetter { key: key.clone(), state: DeadLetterState::Open, pipeline, n, run, at };
                self.dead_letters.push(Letter { indexed, replaying: None });
            }
        }
    }
}

impl Pipeline {
    /// Marks move forward only.
    fn publish(&mut self, table: &str, n: CommitNumber) {
        let published = self.published.entry(table.to_owned()).or_insert(n);
        *published = n.max(*published);
    }

    fn check_attempts(&self, draft: &Draft) -> Result<()> {
        let wanted: BTreeSet<&AttemptId> = draft.attempts.iter().collect();
        let is_alive = |id: &&&AttemptId| self.attempts.get(**id).is_some_and(|attempt| !attempt.dead && attempt.n.is_none());
        let alive = wanted.iter().filter(is_alive).count();
        if alive == wanted.len() { Ok(()) } else { Err(error::attempt_dead(draft, wanted.len(), alive)) }
    }

    /// A late landing does not replace a newer one.
    fn add_landings(&mut self, n: CommitNumber, landings: &[Landing]) {
        for (place, landing) in landings.iter().enumerate() {
            let landing = Landing { n, ..landing.clone() };
            if let Some(records) = &landing.records {
                let last = self.record_paths.entry((landing.table.clone(), records.to_string())).or_insert((n, place));
                *last = (*last).max((n, place));
            }
            let key = (landing.address.clone(), landing.table.clone());
            if self.landings.get(&key).is_none_or(|known| known.n <= n) {
                self.landings.insert(key, landing);
            }
        }
    }
}
