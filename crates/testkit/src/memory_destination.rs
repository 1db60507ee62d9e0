//! A destination in memory: what an engine's tests stage into and publish to, step by step.
//!
//! Every step passes named points. A test can hold a point ([`MemoryDestination::gate`]) or make it fail
//! ([`MemoryDestination::fail`]): a failing `...before` point is a step that was not done, a failing `...after` point one
//! that was done and whose answer was lost.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::StreamExt;
use longshore_core::batch::{Changes, Operation, Payload, Rows};
use longshore_core::commit::{Application, AttemptId, CommitNumber, Committable, Contract, Published, Refused, WriteDisposition};
use longshore_core::destination::{Batches, Destination, Mode, PastCommit, Plan, Publication, SchemaChange, TableMark};
use longshore_core::error::{Code, Error, Kind, Retry};
use longshore_core::schema::{Mode as ColumnMode, TableSchema};
use longshore_core::{Result, destination};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

/// The points in the order in which a commit passes them. Every method has a `before` and an `after`; `publish.fenced` is
/// passed after the fence was asked and before anything becomes visible.
pub const POINTS: &[&str] = &[
    "open.before",
    "open.after",
    "prepare.before",
    "prepare.after",
    "stage.before",
    "stage.after",
    "publish.before",
    "publish.fenced",
    "publish.after",
    "sweep.before",
    "sweep.after",
    "payload.before",
    "payload.after",
    "restage.before",
    "restage.after",
];

const FAULT: Code = Code { name: "memory_fault", explanation: "A test asked for this failure." };
/// What the twin says of rows that it does not take.
const REFUSAL: &str = "a test does not want this row";
const REFUSED: Code = Code { name: "memory_refused", explanation: "The destination in memory does not take this." };

/// A destination in memory. Cloning gives another worker over the same tables.
#[derive(Clone, Default)]
pub struct MemoryDestination(Arc<World>);

#[derive(Default)]
struct World {
    data: Mutex<Data>,
    points: Mutex<BTreeMap<&'static str, Point>>,
}

#[derive(Default)]
struct Data {
    tables: BTreeMap<String, Table>,
    staged: BTreeMap<String, Staged>,
    payloads: BTreeMap<(AttemptId, String), Vec<u8>>,
    born: u64,
    refuses: Option<fn(&Value) -> bool>,
}

#[derive(Clone)]
struct Table {
    id: u64,
    schema: TableSchema,
    /// The columns of its key, if it takes changes.
    key: Vec<String>,
    /// The order of each key's last change.
    orders: BTreeMap<String, String>,
    rows: Vec<RecordBatch>,
    marks: BTreeMap<String, CommitNumber>,
    commits: u64,
    /// Mark and commit, in the order in which they were published.
    history: Vec<(String, PastCommit)>,
}

struct Staged {
    attempt: AttemptId,
    rows: Vec<RecordBatch>,
    changes: Vec<Changes>,
    published: bool,
}

#[derive(Default)]
struct Point {
    gate: Option<Gate>,
    /// What becomes of the next visits, the next one last.
    faults: Vec<Option<Retry>>,
}

/// A point that is held: whoever comes by waits until it is opened.
#[derive(Clone)]
pub struct Gate {
    reached: Arc<watch::Sender<usize>>,
    open: Arc<Semaphore>,
}

impl Gate {
    /// Waits until `count` passers-by in all have come to the point.
    pub async fn reached(&self, count: usize) {
        let mut watch = self.reached.subscribe();
        // The sender lives as long as self.
        let _ = watch.wait_for(|seen| *seen >= count).await;
    }

    /// Lets everybody through, now and later.
    pub fn open(&self) {
        self.open.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Lets one through.
    pub fn let_one_pass(&self) {
        self.open.add_permits(1);
    }
}

impl MemoryDestination {
    /// Holds a point, one of [`POINTS`].
    ///
    /// # Panics
    /// If there is no such point.
    pub fn gate(&self, point: &'static str) -> Gate {
        let gate = Gate { reached: Arc::new(watch::Sender::new(0)), open: Arc::new(Semaphore::new(0)) };
        self.at(point, |at| at.gate = Some(gate.clone()));
        gate
    }

    /// Makes the next `times` visits to a point fail with this retry class.
    ///
    /// # Panics
    /// If there is no such point.
    pub fn fail(&self, point: &'static str, times: usize, retry: Retry) {
        self.at(point, |at| at.faults.extend(std::iter::repeat_n(Some(retry), times)));
    }

    /// Lets so many visits to a point pass and makes the next one fail.
    ///
    /// # Panics
    /// If there is no such point.
    pub fn fail_after(&self, passes: usize, point: &'static str, retry: Retry) {
        self.at(point, |at| {
            at.faults.push(Some(retry));
            at.faults.extend(std::iter::repeat_n(None, passes));
        });
    }

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

    /// Removes a table, as a person would behind our back.
    pub fn drop_table(&self, table: &str) {
        self.data().tables.remove(table);
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        self.0.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at<T>(&self, point: &'static str, act: impl FnOnce(&mut Point) -> T) -> T {
        assert!(POINTS.contains(&point), "there is no point {point}");
        act(self.0.points.lock().unwrap_or_else(PoisonError::into_inner).entry(point).or_default())
    }

    async fn pass(&self, name: &'static str) -> Result<()> {
        let gate = self.at(name, |at| at.gate.clone());
        if let Some(gate) = gate {
            gate.reached.send_modify(|seen| *seen += 1);
            // Never closed.
            if let Ok(permit) = gate.open.acquire().await {
                permit.forget();
            }
        }
        let fault = self.at(name, |at| at.faults.pop().flatten());
        match fault {
            None => Ok(()),
            Some(retry) => {
                Err(Error::new(Kind::Destination, FAULT, format!("the destination in memory failed at {name}")).with_retry(retry))
            }
        }
    }
}

fn refused(message: String) -> Error {
    Error::new(Kind::Destination, REFUSED, message)
}

fn batch_to_json(batch: &RecordBatch) -> Vec<Value> {
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    writer.write(batch).and_then(|()| writer.finish()).expect("rows of a table turn into JSON");
    let text = writer.into_inner();
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("the writer writes JSON"))
        .collect()
}

impl Table {
    /// Applies changes in their own order, unless the table has a newer one of the key.
    fn change(&mut self, changes: &Changes) {
        let key_of = |table: &Table, row: &RecordBatch| {
            let row = batch_to_json(row).pop().unwrap_or_default();
            table.key.iter().map(|column| row[column].to_string()).collect::<Vec<_>>().join("/")
        };
        for (place, (operation, order)) in changes.operations.iter().zip(&changes.order).enumerate() {
            let row = changes.rows.slice(place, 1);
            let key = key_of(self, &row);
            if self.orders.get(&key).is_some_and(|known| known > order) {
                continue;
            }
            self.orders.insert(key.clone(), order.clone());
            let all = std::mem::take(&mut self.rows);
            let rows = all.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| batch.slice(row, 1)));
            self.rows = rows.filter(|row| key_of(self, row) != key).collect();
            if *operation == Operation::Upsert {
                self.rows.push(row);
            }
        }
    }
}

impl Data {
    /// What a table would be like after a change.
    fn plan(&self, change: &SchemaChange) -> Result<Plan> {
        let name = &change.table;
        let Some(table) = self.tables.get(name) else {
            if change.wanted.fields.is_empty() {
                return Ok(Plan::default());
            }
            let changes = vec![format!("create table {name} ({} columns)", change.wanted.fields.len())];
            return Ok(Plan { schema: change.wanted.clone(), existed: false, changes });
        };
        if change.disposition == WriteDisposition::Empty && table.rows.iter().any(|batch| batch.num_rows() > 0) {
            return Err(refused(format!("table {name} holds rows")).with_retry(Retry::AfterFix));
        }
        let mut plan = Plan { schema: table.schema.clone(), existed: true, changes: Vec::new() };
        if change.contract == Contract::Evolve {
            for field in change.wanted.fields.iter().filter(|field| table.schema.field(&field.name).is_none()) {
                let mut added = field.clone();
                if added.mode == ColumnMode::Required {
                    added.mode = ColumnMode::Nullable;
                }
                plan.changes.push(format!("add column {} {added}", added.name));
                plan.schema.fields.push(added);
            }
        }
        Ok(plan)
    }

    /// What publishing would come to, if it is settled already.
    fn settled(&self, publication: &Publication<'_>) -> Result<Option<Published>> {
        let name = publication.table;
        let Some(table) = self.tables.get(name) else { return Ok(Some(Published::Parked(format!("table {name} is gone")))) };
        if table.marks.get(&publication.application.mark()).is_some_and(|mark| *mark >= publication.n) {
            return Ok(Some(Published::Already(None)));
        }
        for committable in publication.committables {
            let (id, born) = read_payload(committable)?;
            if born != table.id {
                return Ok(Some(Published::Parked(format!("table {name} was made anew since its rows were staged"))));
            }
            if !self.staged.contains_key(&id) {
                return Ok(Some(Published::Parked(format!("what was staged for table {name} is missing"))));
            }
        }
        Ok(None)
    }

    /// The numbers of the rows that a test wants refused.
    fn refused(&self, committables: &[Committable]) -> Result<Vec<u64>> {
        let Some(refuses) = self.refuses else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for committable in committables {
            let staged = self.staged.get(&read_payload(committable)?.0);
            all.extend(staged.into_iter().flat_map(|staged| staged.rows.iter().flat_map(batch_to_json)));
        }
        Ok((0..).zip(&all).filter(|(_, row)| refuses(row)).map(|(number, _)| number).collect())
    }

    fn apply(&mut self, publication: &Publication<'_>) -> Result<Published> {
        if let Some(settled) = self.settled(publication)? {
            return Ok(settled);
        }
        let out = self.refused(publication.committables)?;
        if !out.is_empty() {
            let rows = out.into_iter().map(|row| (row, REFUSAL.to_owned())).collect();
            return Ok(Published::Refused(Refused { reason: REFUSAL.into(), rows, others_shown: false }));
        }
        let Some(table) = self.tables.get_mut(publication.table) else { return Err(refused("the table is gone".into())) };
        if publication.committables.iter().any(|c| c.disposition == WriteDisposition::Truncate) {
            table.rows.clear();
        }
        for committable in publication.committables {
            let (id, _) = read_payload(committable)?;
            if let Some(staged) = self.staged.get_mut(&id) {
                staged.published = true;
                table.rows.extend(staged.rows.iter().cloned());
                staged.changes.iter().for_each(|changes| table.change(changes));
            }
        }
        table.marks.insert(publication.application.mark(), publication.n);
        table.commits += 1;
        let past = PastCommit { n: publication.n, note: publication.note.clone(), done: true };
        table.history.push((publication.application.mark(), past));
        Ok(Published::Done(table.commits.to_string()))
    }
}

fn read_payload(committable: &Committable) -> Result<(String, u64)> {
    let id = committable.payload.get("staged").and_then(Value::as_str);
    let born = committable.payload.get("table").and_then(Value::as_u64);
    id.map(str::to_owned).zip(born).ok_or_else(|| refused("a committable cannot be read".into()))
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
