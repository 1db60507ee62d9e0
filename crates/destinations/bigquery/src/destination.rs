//! The destination: one dataset.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use longshore_core::Result;
use longshore_core::batch::Payload;
use longshore_core::commit::{Application, AttemptId, Committable, Published, Refused, WriteDisposition};
use longshore_core::destination::{
    Batches, Destination, Mode, PastCommit, Plan, Publication, SchemaChange, Staged as Staging, TableMark,
};
use longshore_core::inspection::Finding;
use longshore_core::retry::{Patience, Policy};
use longshore_core::schema::TableSchema;

use crate::bucket::Bucket;
use crate::check::Inspection;
use crate::config::{BigQueryConfig, Changes, Method};
use crate::credentials::Identity;
use crate::error::{bug, codes, destination};
use crate::marks::{self, Mark, Newest, State};
use crate::prepare::{Known, Prepare};
use crate::publish::{self, Outcome, Publish};
use crate::rest::Rest;
use crate::spool::Spool;
use crate::stage::{self, Idle, Shared, Stage, Staged};
use crate::tables::{self, OURS, Remote, Tables};
use crate::write::StorageWrite;
use crate::{payload, restage};

/// Writes the tables of one dataset. Safe to share between tasks; several of them, in several processes, may write the same tables
/// at once.
pub struct BigQueryDestination {
    shared: Shared,
    settings: BigQueryConfig,
    identity: Identity,
    state: PathBuf,
    /// The newest mark of each application and table that this worker has seen or written: asking costs a query.
    known: Mutex<HashMap<Place, Option<Newest>>>,
}

/// An application's mark, a table, and when that was made.
type Place = (String, String, String);

impl BigQueryDestination {
    /// Reads the settings; asks nobody yet. `state` is the store's folder, for payloads that no cell holds.
    ///
    /// Errors: `bigquery_credentials` and others of configuration.
    pub fn open_dataset(config: &BigQueryConfig, state: &Path) -> Result<Self> {
        let identity = Identity::new(config)?;
        let rest = Rest::new(config.rest(), identity.clone())?;
        let bucket = config.staging.as_deref().map(|staging| Bucket::new(config, staging, &identity)).transpose()?;
        if config.method == Method::LoadJob && bucket.is_none() {
            return Err(crate::error::config(codes::STAGING, "`method: load_job` needs a bucket")
                .hint("name a folder of one at the dataset's own place: `staging: gs://BUCKET/FOLDER`"));
        }
        let tables = Tables::new(rest, &config.project, &config.dataset);
        let shared = Shared {
            write: StorageWrite::new(&config.grpc(), identity.clone(), tables.quota.clone())?,
            tables,
            idle: Idle::default(),
            method: config.method(),
            changes: config.changes,
            spool: Spool::new(state, bucket.clone()),
            max_bad_records: config.max_bad_records,
            known: Known::default(),
            bucket: bucket.map(|bucket| (bucket, config.format)),
        };
        Ok(Self { shared, settings: config.clone(), identity, state: state.to_owned(), known: Mutex::default() })
    }

    /// The newest mark of an application in a table, asked for once.
    async fn newest(&self, application: &Application, table: &str, born: &str) -> Result<Option<Newest>> {
        let key = (application.mark(), table.to_owned(), born.to_owned());
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(*known);
        }
        let newest = self.ask_newest(application, table, born).await?;
        self.remember(key, newest);
        Ok(newest)
    }

    async fn ask_newest(&self, application: &Application, table: &str, born: &str) -> Result<Option<Newest>> {
        let found = marks::newest(&self.shared.tables, &[(table.to_owned(), born.to_owned())].into()).await?;
        Ok(found.get(table).and_then(|marks| marks.iter().find(|(other, _)| other == application)).map(|(_, mark)| *mark))
    }

    /// The table as it is now, `bigquery_missing` if there is none.
    async fn table(&self, table: &str) -> Result<Remote> {
        let remote = Policy::default().run(&self.shared.tables.quota.patience(), || self.shared.tables.get(table)).await?;
        remote.ok_or_else(|| destination(codes::MISSING, format!("table {table} is gone")))
    }

    fn remember(&self, key: Place, mark: Option<Newest>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = known.entry(key).or_default();
        *newest = mark.max(*newest);
    }
}

#[async_trait]
impl Destination for BigQueryDestination {
    fn attend(&self, patience: &Patience) {
        self.shared.tables.quota.attend(patience);
    }

    async fn open(&self, application: &Application, tables: &[String]) -> Result<BTreeMap<String, TableMark>> {
        let mut born = BTreeMap::new();
        for table in tables {
            if let Some(remote) = self.shared.tables.get(table).await? {
                born.insert(table.clone(), remote.born());
            }
        }
        let found = marks::newest(&self.shared.tables, &born).await?;
        let mut answer = BTreeMap::new();
        for table in tables {
            let marks = found.get(table).map_or(&[][..], Vec::as_slice);
            let ours = marks.iter().find(|(other, _)| other == application).map(|(_, mark)| *mark);
            if let Some(born) = born.get(table) {
                self.remember((application.mark(), table.clone(), born.clone()), ours);
            }
            let foreign = |other: &&Application| other.store != application.store || other.pipeline == application.pipeline;
            let others = marks.iter().map(|(other, _)| other).filter(|other| *other != application).filter(foreign);
            let mark =
                TableMark { exists: born.contains_key(table), last: ours.map(|(n, _)| n), others: others.cloned().collect() };
            answer.insert(table.clone(), mark);
        }
        Ok(answer)
    }

    async fn prepare(&self, change: &SchemaChange, mode: Mode) -> Result<Plan> {
        let shared = &self.shared;
        let mut change = change.clone();
        let (table, partition) = tables::split_name(&change.table);
        if partition.is_some() && shared.method != Method::LoadJob {
            return Err(crate::error::config(
                codes::STAGING,
                format!("{} is one partition, which only load jobs write", change.table),
            )
            .hint("use `method: load_job` with a bucket as `staging`"));
        }
        change.table = table.to_owned();
        if shared.changes == Changes::Merge && !change.options.key.is_empty() && !change.wanted.fields.is_empty() {
            change.wanted.fields.push(publish::kept_column());
        }
        // Load jobs know a table's columns at once.
        let write = (shared.method != Method::LoadJob).then_some(&shared.write);
        let prepare = Prepare { tables: &shared.tables, write, patience: &shared.tables.quota.patience(), known: &shared.known };
        let mut plan = prepare.run(&change, mode).await?;
        plan.schema.fields.retain(|field| !field.name.starts_with(OURS));
        Ok(plan)
    }

    async fn stage(
        &self,
        attempt: &AttemptId,
        table: &str,
        schema: &TableSchema,
        disposition: WriteDisposition,
        batches: Batches,
    ) -> Result<Staging> {
        // Nothing has been taken from the stream of rows yet: this can still be tried again.
        let remote = self.table(table).await?;
        let (shared, method) = (&self.shared, self.shared.method);
        Stage { shared, method, table, remote: &remote, schema, attempt, disposition, leftovers: Vec::new() }.run(batches).await
    }

    async fn publish(&self, publication: Publication<'_>) -> Result<Published> {
        let table = publication.table;
        let Some(remote) = self.shared.tables.get(table).await? else {
            return Ok(Published::Parked(format!("table {table} is gone")));
        };
        let born = remote.born();
        let staged = publication.committables.iter().map(Staged::read).collect::<Result<_>>()?;
        let publish = Publish {
            shared: &self.shared,
            table,
            remote: &remote,
            token: publication.token,
            rows: publication.committables.iter().map(|committable| committable.rows).collect(),
            disposition: publication.committables.first().map(|committable| committable.disposition).unwrap_or_default(),
            staged,
        };
        if publish.is_for_another_table() {
            return Ok(Published::Parked(format!("table {table} was made anew after the rows were staged")));
        }
        match self.newest(publication.application, table, &born).await? {
            Some((n, _)) if n > publication.n => return Ok(Published::Already(None)),
            Some((n, State::Done)) if n == publication.n => return Ok(Published::Already(Some(publish.name()))),
            _ => {}
        }
        publication.fence.check().await?;
        let mark = Mark {
            application: publication.application,
            table,
            born: &born,
            n: publication.n,
            token: publication.token,
            amendment: publication.amendment,
            note: &publication.note,
        };
        let key = || (publication.application.mark(), table.to_owned(), born.clone());
        marks::write(&self.shared.tables, &self.shared.write, &mark, State::Intent).await?;
        self.remember(key(), Some((publication.n, State::Intent)));
        longshore_core::failpoint::hit("publish.before_log_entry");
        let before = match publish.run().await? {
            Outcome::Parked(reason) => return Ok(Published::Parked(reason)),
            Outcome::Refused(refused) => return Ok(Published::Refused(refused)),
            // Perhaps another worker has sent what was in them, and removed them.
            Outcome::Gone(reason) => {
                let done = self.ask_newest(publication.application, table, &born).await? >= Some((publication.n, State::Done));
                return Ok(if done { Published::Already(Some(publish.name())) } else { Published::Parked(reason) });
            }
            Outcome::Before => true,
            Outcome::Now => false,
        };
        longshore_core::failpoint::hit("publish.log_entry_unsynced");
        marks::write(&self.shared.tables, &self.shared.write, &mark, State::Done).await?;
        self.remember(key(), Some((publication.n, State::Done)));
        publish.tidy().await;
        Ok(if before { Published::Already(Some(publish.name())) } else { Published::Done(publish.name()) })
    }

    async fn restage(
        &self,
        attempt: &AttemptId,
        table: &str,
        schema: &TableSchema,
        committables: &[Committable],
        refused: &Refused,
    ) -> Result<Staging> {
        let remote = self.table(table).await?;
        restage::restage(&self.shared, attempt, table, &remote, schema, committables, refused).await
    }

    async fn tables(&self) -> Result<BTreeSet<String>> {
        Ok(self.shared.tables.list().await?.into_iter().collect())
    }

    fn takes_changes(&self) -> bool {
        true
    }

    fn marks_before(&self) -> bool {
        true
    }

    async fn sweep(&self, attempts: &[AttemptId]) -> Result<u64> {
        let mut removed = stage::sweep(&self.shared, attempts).await?;
        for attempt in attempts {
            let (state, attempt) = (self.state.clone(), attempt.clone());
            removed += blocking(move || payload::sweep(&state, &attempt)).await?;
        }
        Ok(removed)
    }

    async fn keep_payload(&self, attempt: &AttemptId, id: &str, payload: &Payload) -> Result<(String, String)> {
        let (state, attempt, id, payload) = (self.state.clone(), attempt.clone(), id.to_owned(), payload.clone());
        blocking(move || payload::keep(&state, &attempt, &id, &payload)).await
    }

    async fn history(&self, application: &Application, table: &str) -> Result<Vec<PastCommit>> {
        match self.shared.tables.get(table).await? {
            Some(remote) => marks::history(&self.shared.tables, application, table, &remote.born()).await,
            None => Ok(Vec::new()),
        }
    }

    async fn inspect(&self, wanted: &[(SchemaChange, Plan)], bytes: u64) -> Result<Vec<Finding>> {
        let (shared, settings, identity) = (&self.shared, &self.settings, &self.identity);
        Inspection { shared, settings, identity, wanted, bytes }.run().await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| bug("a blocking call ended early").caused_by(e))?
}
