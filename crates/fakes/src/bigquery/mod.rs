//! A fault server for BigQuery: REST, the Storage Write API and as much of Cloud Storage as loads need, in memory.
//!
//! It keeps to what Google documents where other emulators do not: offsets and states of write streams, jobs under ids that
//! the client chose, rows that are refused, schemas that change. And it fails on command: a [`Rule`] says which call goes
//! wrong, and a [`Fault`] how. Nothing in it waits for time to pass.
//!
//! What it does not do: CSV and Avro files, files in gzip, views, routines, row-level security, sessions, transactions of
//! several statements, UPDATE with FROM, CREATE TABLE AS, INSERT ROW in a MERGE, most of BigQuery's functions (a SELECT is
//! DataFusion's), INFORMATION_SCHEMA, pseudo-columns of partitions, expiry, and quotas of its own: a [`Fault`] says when one
//! is used up. Permissions are denied everywhere at once, not for one resource. A load or a copy does not mind the streaming
//! buffer, and a query job's bytes are told by dry runs alone.

mod append;
mod buffer;
mod cell;
mod changes;
mod copy;
mod ddl;
mod dml;
mod fault;
mod from_arrow;
mod from_json;
mod from_proto;
mod grpc;
mod http;
mod jobs;
mod load;
mod load_files;
mod merge;
mod merge_rows;
mod options;
mod partitions;
mod permissions;
mod rest;
mod sql;
mod state;
mod statements;
mod storage;
mod storage_json;
mod streams;
mod tabledata;
mod to_arrow;
mod tokens;
mod uploads;

use std::sync::Arc;

use arrow::array::RecordBatch;
use longshore_core::schema::TableSchema;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::http::Shared;
use self::state::{Dataset, State};

pub use self::fault::{Fault, Gate, Rule};

/// The largest append that is taken unless a test says otherwise: 10 MB and what wraps it.
const APPEND_LIMIT: usize = 10_000_000 + 100_000;

/// The server. Clones are the same one; it stops when the last of them is dropped.
#[derive(Clone)]
pub struct FakeBigQuery {
    running: Arc<Running>,
}

struct Running {
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl std::fmt::Debug for FakeBigQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FakeBigQuery").field(&self.rest()).finish()
    }
}

/// A write stream as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// Its full name.
    pub name: String,
    /// `dataset.table`.
    pub table: String,
    /// `COMMITTED`, `PENDING` or `BUFFERED`.
    pub kind: &'static str,
    /// How many rows were appended.
    pub rows: i64,
    /// How many of them can be seen.
    pub visible: i64,
    /// Whether it takes no more rows.
    pub finalized: bool,
    /// Whether it was committed.
    pub committed: bool,
    /// Whether calls still find it: it has not expired, and its table is the one that it was made for.
    pub valid: bool,
}

impl FakeBigQuery {
    /// Starts a server on a free port of the loopback interface. It runs on the runtime of the caller.
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    /// Starts a server at an address.
    pub async fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.expect("the address is free");
        let address = listener.local_addr().expect("a listener has an address").to_string();
        let state = State { address: address.clone(), append_limit: APPEND_LIMIT, ..State::default() };
        let shared = Arc::new(Shared::new(address, state));
        let server = tokio::spawn(http::serve(listener, Arc::clone(&shared)));
        Self { running: Arc::new(Running { shared, server }) }
    }

    fn state<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.running.shared.lock())
    }

    /// Where the REST API and Cloud Storage are.
    pub fn rest(&self) -> String {
        format!("http://{}", self.running.shared.address)
    }

    /// Where the Storage Write API is: HTTP/2 without TLS.
    pub fn grpc(&self) -> String {
        self.rest()
    }

    /// Makes a dataset.
    pub fn create_dataset(&self, project: &str, dataset: &str, location: &str) {
        let dataset_ = Dataset { project: project.into(), location: location.into(), resource: Map::new() };
        self.state(|state| state.datasets.insert(dataset.into(), dataset_));
    }

    /// Makes a bucket.
    pub fn create_bucket(&self, name: &str, location: &str) {
        self.state(|state| state.storage.buckets.insert(name.into(), location.into()));
    }

    /// Makes a table; `extra` holds other properties of the REST resource. Panics if there is one, or no such dataset.
    pub fn create_table(&self, dataset: &str, table: &str, schema: &TableSchema, extra: Value) {
        let mut resource = extra.as_object().cloned().unwrap_or_default();
        resource.insert("tableReference".into(), json!({"tableId": table}));
        resource.insert("schema".into(), json!({"fields": schema.to_json()}));
        self.state(|state| {
            let project = state.datasets.get(dataset).expect("the dataset exists").project.clone();
            state.create_table(&project, dataset, resource).expect("the table can be made");
        });
    }

    /// Takes a table away, with its streams. False if there is none.
    pub fn drop_table(&self, dataset: &str, table: &str) -> bool {
        self.state(|state| state.tables.remove(&format!("{dataset}.{table}")).is_some())
    }

    /// Puts an empty table of the same resource in a table's place. False if there is none.
    pub fn recreate_table(&self, dataset: &str, table: &str) -> bool {
        self.state(|state| {
            let (number, born) = (state.number(), state.birth());
            let Some(table) = state.tables.get_mut(&format!("{dataset}.{table}")) else { return false };
            table.rows.clear();
            table.changes.clear();
            table.insert_ids.clear();
            table.previous_schema = None;
            (table.incarnation, table.version, table.schema_version) = (number, 1, 1);
            table.resource.insert("creationTime".into(), json!(born.to_string()));
            true
        })
    }

    /// The rows that a query sees, as objects without nulls; empty if there is no such table.
    pub fn rows(&self, dataset: &str, table: &str) -> Vec<Value> {
        self.batch(dataset, table).map(|batch| to_arrow::objects(&batch)).unwrap_or_default()
    }

    /// The rows that a query sees, in the Arrow form of the table's schema.
    pub fn batch(&self, dataset: &str, table: &str) -> Option<RecordBatch> {
        self.state(|state| state.tables.get(&format!("{dataset}.{table}")).map(state::Table::batch))
    }

    /// How many rows a query sees.
    pub fn row_count(&self, dataset: &str, table: &str) -> usize {
        self.state(|state| state.tables.get(&format!("{dataset}.{table}")).map_or(0, |table| table.rows.len()))
    }

    /// The table's schema, as BigQuery's JSON.
    pub fn schema(&self, dataset: &str, table: &str) -> Option<Value> {
        self.state(|state| state.tables.get(&format!("{dataset}.{table}")).map(|table| table.schema.to_json()))
    }

    /// The table's REST resource.
    pub fn table(&self, dataset: &str, table: &str) -> Option<Value> {
        self.state(|state| {
            let location = state.datasets.get(dataset)?.location.clone();
            state.tables.get(&format!("{dataset}.{table}")).map(|table| table.shown(&location))
        })
    }

    /// The names of a dataset's tables.
    pub fn tables(&self, dataset: &str) -> Vec<String> {
        let prefix = format!("{dataset}.");
        self.state(|state| state.tables.keys().filter_map(|key| key.strip_prefix(&prefix).map(str::to_owned)).collect())
    }

    /// All objects, as `bucket/key`.
    pub fn objects(&self) -> Vec<String> {
        self.state(|state| state.storage.objects.keys().map(|(bucket, key)| format!("{bucket}/{key}")).collect())
    }

    /// An object's bytes.
    pub fn object(&self, bucket: &str, key: &str) -> Option<bytes::Bytes> {
        let place = (bucket.to_owned(), key.to_owned());
        self.state(|state| state.storage.objects.get(&place).map(|object| object.bytes.clone()))
    }

    /// Puts an object. Panics if there is no such bucket.
    pub fn put_object(&self, bucket: &str, key: &str, bytes: impl Into<bytes::Bytes>) {
        let put = self.state(|state| state.put_object(bucket, key, bytes.into(), "application/octet-stream", None));
        put.map(|_| ()).expect("the bucket exists");
    }

    /// All streams that were made, but for the default ones, by name.
    pub fn streams(&self) -> Vec<StreamState> {
        self.state(|state| {
            let shown = state.streams.values().map(|stream| StreamState {
                name: stream.name.clone(),
                table: stream.table.clone(),
                kind: stream.type_.as_str_name(),
                rows: stream.length,
                visible: stream.visible,
                finalized: stream.finalized,
                committed: stream.committed.is_some(),
                valid: state.stream(&stream.name).is_ok(),
            });
            shown.collect()
        })
    }

    /// All jobs' resources, by id.
    pub fn jobs(&self) -> Vec<Value> {
        self.state(|state| state.jobs.values().map(|job| job.resource.clone()).collect())
    }

    /// What was served, in its order: each call's method and what it was about.
    pub fn requests(&self) -> Vec<String> {
        self.state(|state| state.faults.served.clone())
    }

    /// How many calls of a method were served, those that went wrong included.
    pub fn calls(&self, method: &str) -> usize {
        self.requests().iter().filter(|line| line.split(' ').next() == Some(method)).count()
    }

    /// Forgets what was served.
    pub fn forget_requests(&self) {
        self.state(|state| state.faults.served.clear());
    }

    /// Arms a rule. The first of several that has its turn decides.
    pub fn arm(&self, rule: Rule) {
        self.state(|state| state.faults.rules.push(rule));
    }

    /// Takes all rules away.
    pub fn clear_rules(&self) {
        self.state(|state| state.faults.rules.clear());
    }

    /// From now on only this token is accepted; `None`: any, or none at all.
    pub fn require_token(&self, token: Option<&str>) {
        self.state(|state| state.faults.token = token.map(str::to_owned));
    }

    /// Permissions that the caller does not have, on anything: `testIamPermissions` leaves them out, and calls that need one
    /// are refused.
    pub fn deny(&self, permissions: &[&str]) {
        self.state(|state| state.denied = permissions.iter().map(|permission| (*permission).to_owned()).collect());
    }

    /// The largest append that is taken, in bytes of the request.
    pub fn set_append_limit(&self, bytes: usize) {
        self.state(|state| state.append_limit = bytes);
    }

    /// Takes the rows of `tabledata.insertAll` out of the streaming buffers, so that statements can change them.
    pub fn empty_streaming_buffers(&self) {
        self.state(|state| state.tables.values_mut().for_each(state::Table::empty_buffer));
    }

    /// Streams that there are now are not found any more.
    pub fn expire_streams(&self) {
        self.state(|state| state.streams.values_mut().for_each(|stream| stream.expired = true));
    }

    /// Does the work of jobs that stayed running.
    pub async fn release_jobs(&self) {
        let waiting: Vec<String> = self.state(|state| {
            let waiting = state.jobs.iter().filter(|(_, job)| job.waits);
            waiting.map(|(id, _)| id.clone()).collect()
        });
        for id in waiting {
            if let Err(error) = jobs::run(&self.running.shared, &id, None).await {
                self.state(|state| jobs::fail(state, &id, error));
            }
        }
    }
}
