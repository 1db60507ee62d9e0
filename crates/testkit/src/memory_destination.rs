//! A destination in memory: what an engine's tests stage into and publish to, step by step.
//!
//! Every step passes named points. A test can hold a point ([`MemoryDestination::gate`]) or make it fail
//! ([`MemoryDestination::fail`]): a failing `...before` point is a step that was not done, a failing `...after` point one
//! that was done and whose answer was lost.

mod points;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::StreamExt;
use longshore_core::batch::{Payload, Rows};
use longshore_core::commit::{Application, AttemptId, Committable, Published, Refused, WriteDisposition};
use longshore_core::destination::{Batches, Destination, Mode, PastCommit, Plan, Publication, SchemaChange, TableMark};
use longshore_core::error::Retry;
use longshore_core::schema::TableSchema;
use longshore_core::{Result, destination};
use serde_json::{Value, json};

use self::points::Point;
pub use self::points::{Gate, POINTS};
use self::tables::{Data, Staged, Table, batch_to_json, read_payload, refused};

/// A destination in memory. Cloning gives another worker over the same tables.
#[derive(Clone, Default)]
pub struct MemoryDestination(Arc<World>);

#[derive(Default)]
struct World {
    data: Mutex<Data>,
    points: Mutex<BTreeMap<&'static str, Point>>,
}

impl MemoryDestination {
    /// A name that no table can have.
    pub const NO_NAME: &str = "no/name";

    /// From here on nothing is published that holds a row of which this is true, given as JSON.
    pub fn refuse(&self, row: fn(&Value) -> bool) {
        self.data().refuses = Some(row);
    }

    /// The visible rows of a table as JSON objects, nulls left out, in the order in which they were published.
    pub fn rows(&self, table: &str) -> Vec<Value> {
        self.data().tables.get(table).map(|table| table.rows.iter().flat_map(batch_to_json).collect()).unwrap_or_default()
    }

    /// Names of the tables.
    pub fn tables(&self) -> Vec<String> {
        self.data().tables.keys().cloned().collect()
    }

    /// The columns of a table.
    pub fn schema(&self, table: &str) -> Option<TableSchema> {
        self.data().tables.get(table).map(|table| table.schema.clone())
    }

    /// How many staged sets of rows are kept, published ones included.
    pub fn kept(&self) -> usize {
        self.data().staged.len()
    }

    /// The payloads kept: attempt and id -> bytes.
    pub fn payloads(&self) -> BTreeMap<(AttemptId, String), Vec<u8>> {
        self.data().payloads.clone()
    }

    /// From here on publishing to this table takes for ever.
    pub fn block(&self, table: &str) {
        self.data().blocked.insert(table.to_owned());
    }

    /// It goes on.
    pub fn unblock(&self, table: &str) {
        self.data().blocked.remove(table);
    }

    /// From here on nothing can be staged for this table.
    pub fn break_table(&self, table: &str, retry: Retry) {
        self.data().broken.insert(table.to_owned(), retry);
    }

    /// It can be again.
    pub fn mend_table(&self, table: &str) {
        self.data().broken.remove(table);
    }

    /// Removes a table, as a person would behind our back.
    pub fn drop_table(&self, table: &str) {
        self.data().tables.remove(table);
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        self.0.data.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Destination for MemoryDestination {
    async fn open(&self, application: &Application, tables: &[String]) -> Result<BTreeMap<String, TableMark>> {
        self.pass("open.before").await?;
        let marks = {
            let data = self.data();
            let mark = |name: &String| match data.tables.get(name) {
                None => TableMark::default(),
                Some(table) => TableMark {
                    exists: true,
                    last: table.marks.get(&application.mark()).copied(),
                    others: table
                        .marks
                        .keys()
                        .filter_map(|mark| Application::parse_mark(mark))
                        .filter(|other| other.store != application.store || other.ledger != application.ledger)
                        .collect(),
                },
            };
            tables.iter().map(|name| (name.clone(), mark(name))).collect()
        };
        self.pass("open.after").await?;
        Ok(marks)
    }

    async fn prepare(&self, change: &SchemaChange, mode: Mode) -> Result<Plan> {
        self.pass("prepare.before").await?;
        if change.table == Self::NO_NAME {
            return Err(refused(format!("a table cannot be named `{}`", change.table)));
        }
        let plan = {
            let mut data = self.data();
            let plan = data.plan(change)?;
            if mode == Mode::Apply && !plan.schema.fields.is_empty() {
                data.born += 1;
                let (id, schema) = (data.born, plan.schema.clone());
                let new = Table {
                    id,
                    schema: TableSchema::default(),
                    key: change.options.key.clone(),
                    orders: BTreeMap::new(),
                    rows: Vec::new(),
                    marks: BTreeMap::new(),
                    commits: 0,
                    history: Vec::new(),
                };
                data.tables.entry(change.table.clone()).or_insert(new).schema = schema;
            }
            plan
        };
        self.pass("prepare.after").await?;
        Ok(plan)
    }

    async fn stage(
        &self,
        attempt: &AttemptId,
        table: &str,
        schema: &TableSchema,
        disposition: WriteDisposition,
        mut batches: Batches,
    ) -> Result<destination::Staged> {
        self.pass("stage.before").await?;
        let broken = self.data().broken.get(table).copied();
        if let Some(retry) = broken {
            return Err(refused(format!("table {table} is broken")).with_retry(retry));
        }
        let found = self.data().tables.get(table).map(|table| (table.id, table.key.is_empty()));
        let (born, keyless) = found.ok_or_else(|| refused(format!("table {table} is gone")).with_retry(Retry::Backoff))?;
        let (mut rows, mut changes) = (Vec::new(), Vec::new());
        while let Some(batch) = batches.next().await {
            match batch? {
                Rows::Plain(batch) if batch.num_columns() == schema.fields.len() => rows.push(batch),
                Rows::Plain(_) => return Err(refused(format!("a batch for {table} has other columns than the plan"))),
                Rows::Changes(_) if keyless => return Err(refused(format!("table {table} has no key, so it takes no changes"))),
                Rows::Changes(more) => changes.push(more),
            }
        }
        let id = uuid::Uuid::new_v4().to_string();
        let all = || rows.iter().chain(changes.iter().map(|changes| &changes.rows));
        let count = all().map(|batch| batch.num_rows() as u64).sum();
        let lines: Vec<Value> = all().flat_map(batch_to_json).collect();
        let text = Value::Array(lines).to_string();
        self.data().staged.insert(id.clone(), Staged { attempt: attempt.clone(), rows, changes, published: false });
        self.pass("stage.after").await?;
        Ok(destination::Staged::from(Committable {
            table: table.to_owned(),
            disposition,
            payload: json!({"staged": id, "table": born}),
            rows: count,
            bytes: text.len() as u64,
            digest: blake3::hash(text.as_bytes()).to_hex().to_string(),
        }))
    }

    async fn publish(&self, publication: Publication<'_>) -> Result<Published> {
        self.pass("publish.before").await?;
        while self.data().blocked.contains(publication.table) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        if let Some(settled) = self.data().settled(&publication)? {
            return Ok(settled);
        }
        publication.fence.check().await?;
        self.pass("publish.fenced").await?;
        let published = self.data().apply(&publication)?;
        self.pass("publish.after").await?;
        Ok(published)
    }

    async fn restage(
        &self,
        attempt: &AttemptId,
        table: &str,
        _schema: &TableSchema,
        committables: &[Committable],
        told: &Refused,
    ) -> Result<destination::Staged> {
        self.pass("restage.before").await?;
        let out: Vec<u64> = told.rows.iter().map(|(row, _)| *row).collect();
        let (mut kept, mut gone, mut number) = (Vec::new(), Vec::new(), 0);
        let mut payload = Value::Null;
        for committable in committables {
            let (id, born) = read_payload(committable)?;
            let rows = self.data().staged.get(&id).map(|staged| staged.rows.clone()).unwrap_or_default();
            payload = json!({"staged": uuid::Uuid::new_v4().to_string(), "table": born});
            for (batch, row) in rows.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row))) {
                let row = batch.slice(row, 1);
                if out.contains(&number) {
                    let values = batch_to_json(&row).pop().unwrap_or_default();
                    gone.push(destination::Refusal { row: number, values, reason: told.reason.clone() });
                } else {
                    kept.push(row);
                }
                number += 1;
            }
        }
        let (rows, id) = (kept.len() as u64, payload["staged"].as_str().unwrap_or_default().to_owned());
        self.data().staged.insert(id, Staged { attempt: attempt.clone(), rows: kept, changes: Vec::new(), published: false });
        let disposition = committables.first().map(|committable| committable.disposition).unwrap_or_default();
        let committable = Committable { table: table.to_owned(), disposition, payload, rows, bytes: 0, digest: String::new() };
        self.pass("restage.after").await?;
        Ok(destination::Staged { committable, refused: gone })
    }

    async fn tables(&self) -> Result<BTreeSet<String>> {
        Ok(self.data().tables.keys().cloned().collect())
    }

    fn takes_changes(&self) -> bool {
        true
    }

    async fn history(&self, application: &Application, table: &str) -> Result<Vec<PastCommit>> {
        let mark = application.mark();
        let data = self.data();
        let history = data.tables.get(table).map(|table| table.history.as_slice()).unwrap_or_default();
        Ok(history.iter().filter(|(by, _)| *by == mark).map(|(_, past)| past.clone()).collect())
    }

    async fn sweep(&self, attempts: &[AttemptId]) -> Result<u64> {
        self.pass("sweep.before").await?;
        let freed = {
            let mut data = self.data();
            let before = data.staged.len() + data.payloads.len();
            data.staged.retain(|_, staged| staged.published || !attempts.contains(&staged.attempt));
            data.payloads.retain(|(attempt, _), _| !attempts.contains(attempt));
            before - data.staged.len() - data.payloads.len()
        };
        self.pass("sweep.after").await?;
        Ok(freed as u64)
    }

    async fn keep_payload(&self, attempt: &AttemptId, id: &str, payload: &Payload) -> Result<(String, String)> {
        self.pass("payload.before").await?;
        let bytes = match payload {
            Payload::Inline(bytes) => bytes.clone(),
            Payload::File { path, offset, length, temporary } => {
                let bytes =
                    read_part(path, *offset, *length).map_err(|e| refused("a payload cannot be read".into()).caused_by(e))?;
                if *temporary {
                    let _ = std::fs::remove_file(path);
                }
                bytes
            }
        };
        let digest = blake3::hash(&bytes).to_hex().to_string();
        self.data().payloads.insert((attempt.clone(), id.to_owned()), bytes);
        self.pass("payload.after").await?;
        Ok((format!("memory:{}/{id}", attempt.0), digest))
    }
}

fn read_part(path: &std::path::Path, offset: u64, length: u64) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination_conformance::{Fault, Subject, check_all};

    struct InMemory(MemoryDestination);

    #[async_trait]
    impl Subject for InMemory {
        fn worker(&self) -> Arc<dyn Destination> {
            Arc::new(self.0.clone())
        }
        fn arm(&self, fault: Fault) {
            match fault {
                Fault::StageFails => self.0.fail("stage.before", 1, Retry::AfterFix),
                Fault::PublishRefused => self.0.fail("publish.fenced", 1, Retry::Backoff),
                Fault::PublishAnswerLost => self.0.fail("publish.after", 1, Retry::Backoff),
                Fault::PrepareAnswerLost => self.0.fail("prepare.after", 1, Retry::Backoff),
            }
        }
        async fn visible(&self, table: &str) -> Vec<Value> {
            self.0.rows(table)
        }
        async fn kept(&self) -> usize {
            self.0.kept()
        }
        async fn drop_table(&self, table: &str) {
            self.0.drop_table(table);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_destination_in_memory_does_what_every_destination_must() {
        check_all(async || InMemory(MemoryDestination::default())).await;
    }

    #[tokio::test]
    async fn a_gate_holds_a_step_until_it_is_opened() {
        let twin = MemoryDestination::default();
        let gate = twin.gate("open.before");
        let application = Application { pipeline: "p".into(), ledger: "l".into(), store: "s".into() };
        let held = tokio::spawn({
            let twin = twin.clone();
            async move { twin.open(&application, &[]).await }
        });
        gate.reached(1).await;
        assert!(!held.is_finished());
        gate.let_one_pass();
        held.await.expect("no panic").expect("opens");
    }
}
