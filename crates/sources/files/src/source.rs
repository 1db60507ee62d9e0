//! Files as a source: what to read, what is in it, and the rows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::BoxStream;
use longshore_core::batch::Item;
use longshore_core::error::{Error, Kind, Result, code};
use longshore_core::position::Covers;
use longshore_core::source::{Context, Description, Source, Split, Splits, Target};
use longshore_core::store::FileLedger;

use crate::after_load;
use crate::config::{AfterLoad, FilesConfig};
use crate::error::RECORD_PATHS_NEST;
use crate::landing;
use crate::listing;
use crate::split::{FileSplit, Refusal};
use crate::xml::steps;

/// Reads files.
pub struct FilesSource {
    pub(crate) config: FilesConfig,
    pub(crate) spool: PathBuf,
    pub(crate) ignore_ledger: bool,
    /// Copies of standard input, removed on close.
    spooled: Mutex<Vec<PathBuf>>,
    /// Files that reading turned away as a whole, by address.
    pub(crate) rejected: Mutex<BTreeMap<String, Refusal>>,
    /// Choices that were told already.
    told: Mutex<BTreeSet<String>>,
}

impl FilesSource {
    /// Files by these settings. `spool` is a folder for temporary files: standard input, and records too large for memory.
    ///
    /// Errors: `config` for settings that contradict one another, `record_paths_nest`.
    pub fn new(config: FilesConfig, spool: PathBuf) -> Result<Self> {
        let invalid = |why: &str| Err(Error::new(Kind::Config, code::CONFIG, why));
        if config.path.is_empty() {
            return invalid("the files source needs a `path`");
        }
        if config.table.is_some() && !config.records.is_empty() {
            return invalid("`table` and `records` both say where records go; give one of them");
        }
        if config.after_load == AfterLoad::Move && config.move_to.is_none() {
            return invalid("`after_load: move` needs `move_to`, the folder to move to");
        }
        check_paths(&config.records)?;
        Ok(Self {
            config,
            spool,
            ignore_ledger: false,
            spooled: Mutex::default(),
            rejected: Mutex::default(),
            told: Mutex::default(),
        })
    }

    /// Reads everything, whatever landed before: for `--write truncate`.
    #[must_use]
    pub fn ignoring_ledger(mut self) -> Self {
        self.ignore_ledger = true;
        self
    }

    /// Tells a choice, once.
    pub(crate) fn note_once(&self, cx: &Context, text: String) {
        if self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(text.clone()) {
            cx.events.note(text);
        }
    }

    /// Warns of something, once.
    pub(crate) fn warn_once(&self, cx: &Context, text: String) {
        if self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(text.clone()) {
            cx.events.warn(text);
        }
    }

    /// Whether a file is standard input that nobody gave a name: it is never taken for known.
    pub(crate) fn is_anonymous(&self, file: &FileSplit) -> bool {
        file.spooled && self.config.name.is_none()
    }
}

/// Record paths must not lie within one another.
fn check_paths(records: &BTreeMap<String, String>) -> Result<()> {
    let paths: Vec<(&String, Vec<&str>)> = records.iter().map(|(table, path)| (table, steps(path).collect())).collect();
    for (i, (table, path)) in paths.iter().enumerate() {
        for (other, inner) in paths.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, pair)| pair) {
            if inner.starts_with(path) {
                let what = format!("the records of {other} lie within those of {table}");
                return Err(Error::new(Kind::Config, RECORD_PATHS_NEST, what)
                    .hint("name the outer ones; what repeats inside of them becomes an ARRAY"));
            }
        }
    }
    Ok(())
}

#[async_trait]
impl Source for FilesSource {
    async fn splits(&self, cx: &Context, ledger: &dyn FileLedger) -> Result<Splits> {
        let (config, spool, events) = (self.config.clone(), self.spool.clone(), cx.events.clone());
        let files = blocking(move || listing::list(&config.path, &spool, config.name.as_deref(), &events)).await?;
        let spooled = files.iter().filter(|file| file.spooled).map(|file| file.path.clone());
        self.spooled.lock().unwrap_or_else(PoisonError::into_inner).extend(spooled);
        let required = landing::required(&self.config);
        let mut splits = Splits::default();
        for file in files {
            if !self.ignore_ledger && !file.spooled {
                let landings = ledger.landings(&cx.pipeline, &file.address).await?;
                if let Some(n) = landing::known_unread(&landings, &required, &file.version) {
                    if landings.iter().any(|landing| landing.n == n && landing.refused) {
                        let why = "could not be read then and has not changed: it is a dead letter";
                        cx.events.warn(format!("{}, already seen by commit {n}, {why}", file.address));
                    }
                    splits.skipped.push((file.address, format!("already landed as commit {n}")));
                    continue;
                }
            }
            splits.splits.push(FileSplit::new(file).write()?);
        }
        Ok(splits)
    }

    async fn describe(&self, cx: &Context, splits: Vec<Split>, ledger: &dyn FileLedger) -> Result<Description> {
        self.look(cx, splits, ledger).await
    }

    async fn read(
        &self,
        cx: &Context,
        split: &Split,
        targets: &BTreeMap<String, Target>,
    ) -> Result<BoxStream<'static, Result<Item>>> {
        self.read_file(cx, FileSplit::read(split)?, targets).await
    }

    async fn acknowledge(&self, cx: &Context, what: &serde_json::Value) -> Result<()> {
        let (what, run, events) = (what.clone(), cx.run.clone(), cx.events.clone());
        blocking(move || after_load::act(&what, &run, &events)).await
    }

    fn acknowledgement(&self, splits: &[Split]) -> Option<serde_json::Value> {
        let rejected = self.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        let files = splits.iter().filter_map(|split| FileSplit::read(split).ok());
        after_load::plan(&self.config, files, &rejected)
    }

    fn covers(&self, split: &Split) -> Covers {
        FileSplit::read(split).map_or(Covers::Deltas(Vec::new()), |file| file.covers())
    }

    async fn close(&self) -> Result<()> {
        let spooled = std::mem::take(&mut *self.spooled.lock().unwrap_or_else(PoisonError::into_inner));
        for path in spooled {
            // A copy that is gone already is as good.
            let _ = tokio::fs::remove_file(path).await;
        }
        Ok(())
    }
}

/// Runs file work on a thread where it may block.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::new(Kind::Bug, code::BUG, "reading a file panicked").caused_by(e))?
}

#[cfg(test)]
mod tests;
