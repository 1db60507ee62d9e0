//! The ledger run by run, gathered into chunks.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};
use longshore_core::Result;
use longshore_core::batch::{Chunk, Item};
use longshore_core::error::{Error, Kind, code};
use longshore_core::event::Status;
use longshore_core::position::Covers;
use longshore_core::source::Context;
use longshore_core::store::{DeadLetterFilter, Store};

use crate::rows::{Columns, Pages};

/// Bytes that end a chunk. A run is never split, so that a chunk holds this much and one run at most.
const CHUNK: u64 = 1 << 20;

/// Reads some runs.
pub(crate) struct Reader {
    store: Arc<dyn Store>,
    cx: Context,
    columns: Columns,
    runs: std::vec::IntoIter<String>,
    /// What all of them together cover; `None` once the last chunk has said so.
    covers: Option<Covers>,
}

impl Reader {
    pub(crate) fn new(store: Arc<dyn Store>, cx: Context, columns: Columns, runs: Vec<String>, covers: Covers) -> Self {
        Self { store, cx, columns, runs: runs.into_iter(), covers: Some(covers) }
    }

    /// Chunks in the order of the runs. The last one covers everything.
    pub(crate) fn items(self) -> BoxStream<'static, Result<Item>> {
        let next = |mut reader: Self| async move { Ok(reader.next().await?.map(|chunk| (Item::Chunk(chunk), reader))) };
        stream::try_unfold(self, next).boxed()
    }

    async fn next(&mut self) -> Result<Option<Chunk>> {
        if self.covers.is_none() {
            return Ok(None);
        }
        let mut pages = Pages::default();
        let mut covers = None;
        while pages.bytes() < CHUNK {
            if self.cx.stop.is_requested() {
                return Err(Error::new(
                    Kind::Interrupted,
                    code::INTERRUPTED,
                    "the run was told to stop while the ledger was read",
                ));
            }
            let Some(run) = self.runs.next() else {
                covers = self.covers.take();
                break;
            };
            self.turn(&mut pages, &run).await?;
        }
        let bytes = pages.bytes();
        let permit = self.cx.budget.take(bytes).await;
        let columns = self.columns.clone();
        Ok(Some(Chunk { bytes, decode: Box::new(move || pages.batches(&columns)), covers, permit: Some(permit) }))
    }

    /// Adds what the ledger says of one run. The run comes before its receipts: if it says that it has ended, they are all there.
    async fn turn(&self, pages: &mut Pages, id: &str) -> Result<()> {
        let Some((mut run, mut history)) = self.store.run(id).await? else { return Ok(()) };
        if run.id == self.cx.run {
            // How much of itself a run has written down by now is chance.
            run.status = Status::Running;
            history.clear();
        }
        pages.run(run, history)?;
        let mut receipts = self.store.receipts(Some(id), usize::MAX).await?;
        receipts.reverse();
        pages.receipts(receipts)?;
        let filter = DeadLetterFilter { run: Some(id.to_owned()), ..DeadLetterFilter::default() };
        pages.letters(self.store.dead_letters(&filter).await?);
        Ok(())
    }
}
