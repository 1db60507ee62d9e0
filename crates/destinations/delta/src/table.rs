//! One table as this process knows it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use longshore_core::Result;

use crate::error::bug;
use crate::log::Listing;
use crate::state::TableState;
use crate::storage::Storage;

/// A table's folder and the last state that was read of it.
#[derive(Debug)]
pub(crate) struct Table {
    /// Relative to the warehouse.
    pub folder: String,
    state: Mutex<Option<TableState>>,
    synced: AtomicBool,
    /// The version of the last checkpoint that was written or begun.
    checkpoint: AtomicU64,
    checkpointing: AtomicBool,
}

impl Table {
    pub(crate) fn new(folder: String) -> Self {
        Self {
            folder,
            state: Mutex::new(None),
            synced: AtomicBool::new(false),
            checkpoint: AtomicU64::new(0),
            checkpointing: AtomicBool::new(false),
        }
    }

    /// The table as it is now; `None` if there is none. Blocks.
    pub(crate) fn refresh(&self, storage: &Storage) -> Result<Option<TableState>> {
        // A poisoned state is only a cache: it is read anew.
        let mut state = self.state.lock().unwrap_or_else(|poisoned| {
            let mut state = poisoned.into_inner();
            *state = None;
            state
        });
        // Taken out, so that an error leaves nothing half-read behind.
        let cached = state.take();
        let now = TableState::refresh(storage, &self.folder, cached)?;
        if let Some(version) = now.as_ref().and_then(|now| now.checkpoint) {
            self.checkpoint.fetch_max(version, Ordering::Relaxed);
        }
        state.clone_from(&now);
        Ok(now)
    }

    /// Makes the folders above the table's files durable, once in this process: whoever made them may have crashed before
    /// syncing them. Blocks.
    pub(crate) fn sync_folders(&self, storage: &Storage) -> Result<()> {
        if !self.synced.load(Ordering::Relaxed) {
            storage.sync_up(&self.folder)?;
            self.synced.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether a checkpoint is due at `version` and nobody writes one; then the caller has to, and to call
    /// [`Table::checkpoint_ended`].
    pub(crate) fn begin_checkpoint(&self, version: u64, interval: u64) -> bool {
        if version < self.checkpoint.load(Ordering::Relaxed) + interval || self.checkpointing.swap(true, Ordering::AcqRel) {
            return false;
        }
        // Another try comes after another interval, whatever becomes of this one.
        self.checkpoint.fetch_max(version, Ordering::Relaxed);
        true
    }

    /// See [`Table::begin_checkpoint`].
    pub(crate) fn checkpoint_ended(&self) {
        self.checkpointing.store(false, Ordering::Release);
    }

    /// Paths, as the log writes them, of all files that any entry still to be read names. Blocks.
    pub(crate) fn named_files(&self, storage: &Storage) -> Result<std::collections::BTreeSet<String>> {
        let listing = Listing::read(storage, &self.folder)?;
        let Some(latest) = listing.latest() else { return Ok(std::collections::BTreeSet::new()) };
        let (named, _) = crate::log::replay(
            storage,
            &self.folder,
            &listing,
            latest,
            &["add", "remove"],
            |named: &mut std::collections::BTreeSet<String>, _, line: crate::log::FileLine| {
                named.extend(line.add.map(|add| add.path).into_iter().chain(line.remove.map(|remove| remove.path)));
            },
        )?;
        Ok(named)
    }
}

/// Runs what blocks where blocking is fine. A panic there is a `bug`.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(bug("a thread of the warehouse panicked").caused_by(e)),
    }
}
