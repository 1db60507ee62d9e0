//! Step 1: read, decode on lanes, route by table, stage.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use longshore_core::Result;
use longshore_core::batch::{Batch, Chunk, Item, Reject, Rows};
use longshore_core::budget::Permit;
use longshore_core::commit::{AttemptId, Committable, Counts, DEAD_LETTERS, Origins, WriteDisposition};
use longshore_core::destination::Refusal;
use longshore_core::error::{Error, Kind, code};
use longshore_core::event::{Phase, RunEvent};
use longshore_core::lanes::in_lanes;
use longshore_core::position::Covers;
use longshore_core::source::{Source, Split, Target};

use crate::dead_letters::{self, Letters};
use crate::lease::interrupted;
use crate::prepare::Prepared;
use crate::run::Load;
use crate::stager::{Stager, start};

/// Rejects that are told one by one; later ones are only counted.
pub(crate) const TOLD: u64 = 5;
/// Lines for the index of dead letters that the store is given together.
pub(crate) const LETTERS: usize = 4096;
/// Splits that are opened ahead of the one being decoded, so that many small files keep every lane busy.
const AHEAD: usize = 4;

/// What staging yields.
pub(crate) struct Staged {
    pub(crate) committables: Vec<Committable>,
    pub(crate) covers: Vec<Covers>,
    pub(crate) counts: Counts,
    /// Rows by split and table.
    pub(crate) rows: BTreeMap<(String, String), u64>,
    /// Rejects by split.
    pub(crate) rejects: BTreeMap<String, u64>,
    /// Where each table's staged rows came from.
    pub(crate) origins: BTreeMap<String, Origins>,
}

/// A chunk after its lane.
struct Decoded {
    split: usize,
    batches: Vec<Batch>,
    covers: Option<Covers>,
    bytes: u64,
    permit: Option<Permit>,
}

/// Stages everything of these splits, and the rejects of those that could not be read at all.
pub(crate) async fn stage(
    load: &Load,
    attempt: &AttemptId,
    token: &str,
    prepared: &Prepared,
    splits: &[Split],
    refused: Vec<(Split, Reject)>,
) -> Result<Staged> {
    let mut staging = Staging::new(load, attempt, token, prepared);
    let result = staging.feed(splits, refused).await;
    // A table whose staging failed says why; the channel that it left only says that it left.
    let staged = staging.finish(result.is_ok()).await;
    match (result, staged) {
        (Ok(covers), Ok(mut staged)) => {
            staged.covers = covers;
            Ok(staged)
        }
        (Err(error), Ok(_)) => Err(error),
        (_, Err(error)) => Err(error),
    }
}

struct Staging<'a> {
    load: &'a Load,
    prepared: &'a Prepared,
    stagers: BTreeMap<String, Stager>,
    letters: Letters,
    counts: Counts,
    rows: BTreeMap<(String, String), u64>,
    rejects: BTreeMap<String, u64>,
}

impl<'a> Staging<'a> {
    fn new(load: &'a Load, attempt: &AttemptId, token: &str, prepared: &'a Prepared) -> Self {
        let mut stagers = BTreeMap::new();
        for (table, schema) in &prepared.schemas {
            let disposition = load.session().pipeline.disposition;
            stagers.insert(table.clone(), start(&load.session().destination, attempt, table, schema, disposition));
        }
        let session = load.session();
        let letters = Letters::new(attempt, token, &session.pipeline.name, &session.cx.run, 0);
        let mut counts = Counts::default();
        counts.rows.extend(prepared.targets.keys().map(|table| (table.clone(), 0)));
        Self { load, prepared, stagers, letters, counts, rows: BTreeMap::new(), rejects: BTreeMap::new() }
    }

    async fn feed(&mut self, splits: &[Split], refused: Vec<(Split, Reject)>) -> Result<Vec<Covers>> {
        let mut covers = Vec::new();
        for (split, reject) in refused {
            covers.push(self.load.source.covers(&split));
            self.reject(&split.name, vec![reject]).await?;
        }
        let mut decoded = decode(self.load, splits, self.prepared.targets.clone());
        while let Some(part) = decoded.next().await {
            if self.load.session().cx.stop.is_requested() {
                return Err(interrupted());
            }
            let part = part?;
            for batch in part.batches {
                self.batch(&splits[part.split].name, batch).await?;
            }
            self.counts.bytes += part.bytes;
            covers.extend(part.covers);
            drop(part.permit);
            self.load.progress(&self.counts, Phase::Load);
        }
        self.keep_letters().await?;
        Ok(covers)
    }

    async fn batch(&mut self, split: &str, batch: Batch) -> Result<()> {
        let rows = batch.rows.len() as u64;
        if rows > 0 {
            *self.rows.entry((split.to_owned(), batch.table.clone())).or_default() += rows;
            *self.counts.rows.entry(batch.table.clone()).or_default() += rows;
            self.rows(split, &batch.table, batch.rows).await?;
        }
        if batch.rejects.is_empty() { Ok(()) } else { self.reject(split, batch.rejects).await }
    }

    /// Hands rows to the stager of their table; changes to that which keeps them all as rows, too.
    async fn rows(&mut self, split: &str, table: &str, rows: Rows) -> Result<()> {
        if let (Rows::Changes(changes), Some(history)) = (&rows, self.prepared.histories.get(table)) {
            let columns = self.prepared.schemas.get(history).cloned().unwrap_or_default();
            self.hand_over(split, history, Rows::Plain(changes.to_rows(&columns)?)).await?;
            if history == table {
                return Ok(());
            }
        }
        self.hand_over(split, table, rows).await
    }

    async fn hand_over(&mut self, split: &str, table: &str, rows: Rows) -> Result<()> {
        let stager = self.stagers.get_mut(table).ok_or_else(|| {
            Error::new(Kind::Bug, code::BUG, format!("rows came for the table {table}, which was not described"))
        })?;
        stager.origins.note(split, rows.len() as u64);
        stager.send(rows).await
    }

    async fn reject(&mut self, split: &str, rejects: Vec<Reject>) -> Result<()> {
        let number = rejects.len() as u64;
        for (_, reject) in (self.counts.rejects..TOLD).zip(&rejects) {
            self.load.session().cx.events.send(RunEvent::Rejected {
                place: reject.place.clone(),
                code: reject.code.to_owned(),
                reason: reject.reason.clone(),
            });
        }
        self.counts.rejects += number;
        *self.rejects.entry(split.to_owned()).or_default() += number;
        self.load.check_max(self.counts.rejects)?;
        let rows = self.letters.rows(self.load.session().destination.as_ref(), rejects).await?;
        if self.letters.keys.len() >= LETTERS {
            self.keep_letters().await?;
        }
        if !self.stagers.contains_key(DEAD_LETTERS) {
            self.load.session().prepare_dead_letters().await?;
            let (attempt, schema) = (&self.letters.attempt, &dead_letters::SCHEMA);
            let stager = start(&self.load.session().destination, attempt, DEAD_LETTERS, schema, WriteDisposition::Append);
            self.stagers.insert(DEAD_LETTERS.to_owned(), stager);
        }
        self.stagers[DEAD_LETTERS].send(Rows::Plain(rows)).await
    }

    /// Gives the store the index lines that wait.
    async fn keep_letters(&mut self) -> Result<()> {
        let session = self.load.session();
        self.letters.keep(&session.store, &session.patience).await
    }

    /// Waits for every stager. If `whole` is false they are told to give up. What a destination does not take becomes dead letters, whose
    /// own stager ends last.
    async fn finish(mut self, mut whole: bool) -> Result<Staged> {
        let (mut committables, mut all_origins) = (Vec::new(), BTreeMap::new());
        let mut failed = None;
        let mut waiting: Vec<(String, Stager)> = std::mem::take(&mut self.stagers).into_iter().collect();
        waiting.sort_by_key(|(table, _)| table == DEAD_LETTERS);
        let letters = waiting.pop_if(|(table, _)| table == DEAD_LETTERS);
        self.stagers.extend(letters);
        for (table, stager) in waiting {
            match stager.end(whole).await {
                Ok(Some((staged, origins))) => {
                    committables.push(staged.committable);
                    let out: Vec<u64> = staged.refused.iter().map(|refused| refused.row).collect();
                    all_origins.insert(table.clone(), origins.without(&out));
                    if let Err(error) = self.refuse(&table, staged.refused, &origins).await {
                        failed = failed.or(Some(error));
                        whole = false;
                    }
                }
                Ok(None) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(letters) = self.stagers.remove(DEAD_LETTERS) {
            match letters.end(whole).await {
                Ok(Some((staged, _))) if staged.refused.is_empty() => committables.push(staged.committable),
                Ok(Some((staged, _))) => {
                    let reason = staged.refused.first().map_or("", |refused| refused.reason.as_str());
                    failed = failed.or(Some(dead_letters::refused(reason)));
                }
                Ok(None) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(Staged {
                committables,
                covers: Vec::new(),
                counts: self.counts,
                rows: self.rows,
                rejects: self.rejects,
                origins: all_origins,
            }),
        }
    }

    /// Rows that the destination does not take: no rows after all, but dead letters.
    async fn refuse(&mut self, table: &str, refused: Vec<Refusal>, origins: &Origins) -> Result<()> {
        for refused in refused {
            let split = origins.split(refused.row).unwrap_or_default().to_owned();
            if let Some(rows) = self.rows.get_mut(&(split.clone(), table.to_owned())) {
                *rows -= 1;
            }
            if let Some(rows) = self.counts.rows.get_mut(table) {
                *rows -= 1;
            }
            self.reject(&split, vec![dead_letters::of_refused(table, &split, refused)]).await?;
        }
        self.keep_letters().await
    }
}

/// Chunks of all splits in order, decoded on lanes.
fn decode(load: &Load, splits: &[Split], targets: BTreeMap<String, Target>) -> BoxStream<'static, Result<Decoded>> {
    let targets = Arc::new(targets);
    let source: Arc<dyn Source> = load.source.clone();
    let cx = load.session().cx.clone();
    let splits = splits.to_vec();
    let chunks = stream::iter(splits.into_iter().enumerate())
        .map(move |(index, split)| {
            let (source, targets, cx) = (source.clone(), targets.clone(), cx.clone());
            async move {
                let items = source.read(&cx, &split, &targets).await?;
                Ok::<_, Error>(items.map(move |item| item.map(|item| (index, item))))
            }
        })
        .buffered(AHEAD)
        .try_flatten()
        .boxed();
    in_lanes(chunks, load.session().pipeline.lanes, move |(split, item)| match item {
        Item::Chunk(Chunk { bytes, decode, covers, permit }) => Ok(Decoded { split, batches: decode()?, covers, bytes, permit }),
        Item::SchemaChange { table, .. } | Item::Truncate { table } => {
            Err(Error::new(Kind::Bug, code::BUG, format!("a file's source sent a schema change or truncate of {table}")))
        }
    })
}
