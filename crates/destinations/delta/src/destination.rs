//! The destination: one dataset of a warehouse.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use async_trait::async_trait;
use futures::StreamExt;
use longshore_core::Result;
use longshore_core::batch::{Payload, Rows};
use longshore_core::commit::{Application, AttemptId, Published, WriteDisposition};
use longshore_core::destination::{Batches, Destination, Mode, PastCommit, Plan, Publication, SchemaChange, Staged, TableMark};
use longshore_core::error::Retry;
use longshore_core::schema::TableSchema;
use tokio::task::JoinSet;

use crate::config::DeltaConfig;
use crate::encode::Held;
use crate::error::{codes, config, destination};
use crate::publish::Request;
use crate::stage::Job;
use crate::storage::{Faults, Storage};
use crate::table::{Table, blocking};
use crate::threads::Threads;
use crate::{checkpoint, history, payload, prepare, publish, sweep};

/// Writes Delta tables in a folder. Safe to share between tasks; several of them, in several processes, may write the same
/// tables at once.
pub struct DeltaDestination {
    storage: Storage,
    dataset: String,
    tables: Mutex<HashMap<String, Arc<Table>>>,
    held: Held,
    /// Started by the first rows: who only asks needs none.
    encoders: LazyLock<Threads>,
    checkpoints: Mutex<JoinSet<()>>,
}

impl DeltaDestination {
    /// Opens a dataset, which need not exist yet: `prepare` makes its folders. Changes nothing on disk.
    ///
    /// Errors: `delta_scheme`, `delta_name` (configuration); `delta_no_put_if_absent`, `delta_not_writable`, `disk_full`.
    pub fn open_dataset(config: &DeltaConfig) -> Result<Self> {
        Self::over(Storage::open(&config.path)?, &config.dataset)
    }

    /// As [`DeltaDestination::open_dataset`], with steps that fail when `faults` says so. For tests.
    pub fn open_dataset_with_faults(config: &DeltaConfig, faults: Arc<dyn Faults>) -> Result<Self> {
        Self::over(Storage::open(&config.path)?.with_faults(faults), &config.dataset)
    }

    fn over(storage: Storage, dataset: &str) -> Result<Self> {
        check_name("dataset", dataset)?;
        Ok(Self {
            storage,
            dataset: dataset.to_owned(),
            tables: Mutex::default(),
            held: Arc::new(AtomicUsize::new(0)),
            encoders: LazyLock::new(Threads::start),
            checkpoints: Mutex::default(),
        })
    }

    fn table(&self, name: &str) -> Result<Arc<Table>> {
        check_name("table", name)?;
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Table::new(format!("{}/{name}", self.dataset)));
        Ok(tables.entry(name.to_owned()).or_insert_with(new).clone())
    }

    /// Writes a checkpoint in the background if one is due. A failure is told to the log only: the table is whole without.
    fn checkpoint_if_due(&self, table: &Arc<Table>, version: u64) {
        if !table.begin_checkpoint(version, checkpoint::INTERVAL) {
            return;
        }
        let (storage, table) = (self.storage.clone(), table.clone());
        let mut running = self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.spawn(async move {
            if let Err(error) = checkpoint::write(storage, table.folder.clone(), version).await {
                tracing::warn!(table = table.folder, version, error = ?error, "a checkpoint failed");
            }
            table.checkpoint_ended();
        });
    }
}

/// A dataset or table is one folder, visible, below its parent.
fn check_name(what: &str, name: &str) -> Result<()> {
    let bad = |c: char| c.is_control() || "/\\:*?\"<>|".contains(c);
    if name.is_empty() || name.len() > 255 || name.starts_with('.') || name.contains(bad) {
        return Err(config(codes::NAME, format!("a {what} cannot be named `{}`", name.escape_debug()))
            .hint("a name of letters, digits and underscores always works"));
    }
    Ok(())
}

#[async_trait]
impl Destination for DeltaDestination {
    async fn open(&self, application: &Application, tables: &[String]) -> Result<BTreeMap<String, TableMark>> {
        let mut marks = BTreeMap::new();
        for name in tables {
            let (storage, table) = (self.storage.clone(), self.table(name)?);
            let state = blocking(move || table.refresh(&storage)).await?;
            let mark = state.map_or_else(TableMark::default, |state| TableMark {
                exists: true,
                last: state.marks.get(&application.mark()).map(|mark| mark.n),
                others: state
                    .marks
                    .keys()
                    .filter_map(|mark| Application::parse_mark(mark))
                    .filter(|other| other.store != application.store || other.ledger != application.ledger)
                    .collect(),
            });
            marks.insert(name.clone(), mark);
        }
        Ok(marks)
    }

    async fn prepare(&self, change: &SchemaChange, mode: Mode) -> Result<Plan> {
        let (storage, table, change) = (self.storage.clone(), self.table(&change.table)?, change.clone());
        blocking(move || prepare::prepare(&storage, &table.folder, &change, mode, || table.refresh(&storage))).await
    }

    async fn stage(
        &self,
        attempt: &AttemptId,
        table: &str,
        schema: &TableSchema,
        disposition: WriteDisposition,
        mut batches: Batches,
    ) -> Result<Staged> {
        let (storage, known, name) = (self.storage.clone(), self.table(table)?, table.to_owned());
        let (attempt, schema, held) = (attempt.clone(), schema.clone(), self.held.clone());
        let begin = move || {
            let missing = || destination(codes::MISSING, format!("table {name} is gone")).with_retry(Retry::Backoff);
            let state = known.refresh(&storage)?.ok_or_else(missing)?;
            state.check_writable(&name, disposition == WriteDisposition::Truncate)?;
            known.sync_folders(&storage)?;
            let folder = known.folder.clone();
            Job { storage, folder, table: name, state, attempt, schema, disposition, held }.begin()
        };
        let thread = self.encoders.pick();
        let mut staging = thread.run(begin).await?;
        while let Some(rows) = batches.next().await {
            let batch = match rows? {
                Rows::Plain(batch) => batch,
                Rows::Changes(_) => {
                    return Err(destination(codes::CHANGES, format!("changes by key cannot be written to table {table}")));
                }
            };
            staging = thread.run(move || staging.write(&batch).map(|()| staging)).await?;
        }
        thread.run(move || staging.finish()).await.map(Staged::from)
    }

    async fn publish(&self, publication: Publication<'_>) -> Result<Published> {
        let table = self.table(publication.table)?;
        let request = Request::new(&publication)?;
        let published = publish::publish(&self.storage, &table, request, publication.fence).await?;
        if let Published::Done(version) = &published
            && let Ok(version) = version.parse()
        {
            self.checkpoint_if_due(&table, version);
        }
        Ok(published)
    }

    async fn sweep(&self, attempts: &[AttemptId]) -> Result<u64> {
        let (storage, dataset, attempts) = (self.storage.clone(), self.dataset.clone(), attempts.to_vec());
        blocking(move || sweep::sweep(&storage, &dataset, &attempts)).await
    }

    async fn keep_payload(&self, attempt: &AttemptId, id: &str, payload: &Payload) -> Result<(String, String)> {
        let (storage, payload) = (self.storage.clone(), payload.clone());
        let path = payload::path(&self.dataset, attempt, id);
        blocking(move || payload::keep(&storage, &path, &payload)).await
    }

    async fn history(&self, application: &Application, table: &str) -> Result<Vec<PastCommit>> {
        let (storage, table, application) = (self.storage.clone(), self.table(table)?, application.clone());
        blocking(move || history::history(&storage, &table.folder, &application)).await
    }

    async fn tables(&self) -> Result<BTreeSet<String>> {
        let (storage, dataset) = (self.storage.clone(), self.dataset.clone());
        blocking(move || {
            let folder = storage.address(&dataset);
            let failed = |e: std::io::Error| {
                destination(codes::IO, format!("the tables in {} cannot be listed", folder.display()))
                    .with_retry(Retry::Backoff)
                    .caused_by(e)
            };
            let entries = match std::fs::read_dir(&folder) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
                entries => entries.map_err(failed)?,
            };
            let mut tables = BTreeSet::new();
            for entry in entries {
                let entry = entry.map_err(failed)?;
                if let Ok(name) = entry.file_name().into_string()
                    && entry.path().join("_delta_log").is_dir()
                {
                    tables.insert(name);
                }
            }
            Ok(tables)
        })
        .await
    }

    async fn close(&self) -> Result<()> {
        let mut running = std::mem::take(&mut *self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner));
        while running.join_next().await.is_some() {}
        Ok(())
    }
}
