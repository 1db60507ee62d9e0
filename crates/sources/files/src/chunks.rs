//! A file's chunks as a stream: cut on a thread of their own, held within the run's memory.

use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt;
use futures::stream::{self, BoxStream, StreamExt};
use longshore_core::batch::{Batch, Chunk, Item};
use longshore_core::budget::{Budget, Permit};
use longshore_core::error::{Error, Kind, Result, code};
use longshore_core::position::Covers;
use longshore_core::stop::Stop;
use tokio::sync::mpsc;

use crate::cut::{Format, Limits, RawChunk};
use crate::input::{Raw, Version};

/// Chunks that wait for a lane.
const WAITING: usize = 2;
/// A chunk's share of the memory in its own sizes: its bytes, the tape, the columns.
const FOLD: u64 = 3;

/// A part of one pass over a file.
pub(crate) enum Part {
    /// Records.
    Chunk {
        chunk: RawChunk,
        /// Raw bytes of the file since the part before.
        raw_bytes: u64,
        permit: Permit,
    },
    /// The end: everything was read, and the file is still the version that was meant.
    End { digest: String, raw_bytes: u64 },
}

/// One pass over a file.
pub(crate) struct Pass {
    pub path: PathBuf,
    pub version: Version,
    pub format: Arc<dyn Format>,
    pub limits: Limits,
    pub budget: Budget,
    pub stop: Stop,
    /// Whether the end is to tell the digest.
    pub digest: bool,
}

impl Pass {
    /// The parts in order, [`Part::End`] last. Nothing is read before the stream is first asked, so that a file whose turn has
    /// not come holds no memory that the one before it waits for.
    pub fn parts(self) -> BoxStream<'static, Result<Part>> {
        let start = async move {
            let (sender, mut receiver) = mpsc::channel(WAITING);
            let cutting = tokio::task::spawn_blocking(move || {
                if let Err(error) = self.run(&sender) {
                    // If nobody listens any more, nobody wants to know.
                    let _ = sender.blocking_send(Err(error));
                }
            });
            let parts = stream::poll_fn(move |cx| receiver.poll_recv(cx));
            let panicked = stream::once(cutting).filter_map(async |joined| {
                joined.err().map(|e| Err(Error::new(Kind::Bug, code::BUG, "cutting a file panicked").caused_by(e)))
            });
            parts.chain(panicked)
        };
        start.flatten_stream().boxed()
    }

    fn run(&self, sender: &mpsc::Sender<Result<Part>>) -> Result<()> {
        let mut raw = Raw::open(&self.path, &self.version)?;
        if !self.digest {
            raw = raw.without_digest();
        }
        let mut cutter = self.format.cutter(raw.content()?, &self.limits);
        let mut told = 0;
        let mut since = || {
            let now = raw.bytes_read();
            let bytes = now - told;
            told = now;
            bytes
        };
        while let Some(chunk) = cutter.next()? {
            if self.stop.is_requested() {
                return Err(interrupted());
            }
            let permit = self.budget.take_blocking(chunk.bytes.len() as u64 * FOLD);
            if sender.blocking_send(Ok(Part::Chunk { chunk, raw_bytes: since(), permit })).is_err() {
                return Ok(());
            }
        }
        let digest = raw.finish()?;
        let _ = sender.blocking_send(Ok(Part::End { digest, raw_bytes: since() }));
        Ok(())
    }
}

/// A last chunk: nothing to decode, but everything covered.
pub(crate) fn last(bytes: u64, covers: Covers, batches: Vec<Batch>) -> Item {
    Item::Chunk(Chunk { bytes, decode: Box::new(move || Ok(batches)), covers: Some(covers), permit: None })
}

/// The run was told to stop.
pub(crate) fn interrupted() -> Error {
    Error::new(Kind::Interrupted, code::INTERRUPTED, "the run was told to stop while a file was read")
}
