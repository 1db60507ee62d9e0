//! A warehouse in a temporary folder, and what tests do to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use async_trait::async_trait;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use longshore_core::Result;
use longshore_core::batch::Rows;
use longshore_core::commit::{Application, AttemptId, CommitNumber, Committable, Contract, Published, WriteDisposition};
use longshore_core::destination::{Destination, Fence, Mode, Plan, Publication, SchemaChange};
use longshore_core::schema::{Field, TableSchema, Type};
use longshore_delta::{DeltaConfig, DeltaDestination, Faults};
use serde_json::{Value, json};

pub const DATASET: &str = "shop";
pub const TABLE: &str = "orders";

pub struct Warehouse {
    folder: tempfile::TempDir,
}

pub struct Free;

#[async_trait]
impl Fence for Free {
    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

pub fn application() -> Application {
    Application { pipeline: "load:shop".into(), ledger: "l1".into(), store: "s1".into() }
}

pub fn columns() -> TableSchema {
    TableSchema::new(vec![Field::new("id", Type::Int64), Field::new("name", Type::String)])
}

pub fn batch(ids: &[i64]) -> RecordBatch {
    let names: Vec<String> = ids.iter().map(|id| format!("n{id}")).collect();
    let columns: Vec<(&str, ArrayRef, bool)> =
        vec![("id", Arc::new(Int64Array::from(ids.to_vec())), true), ("name", Arc::new(StringArray::from(names)), true)];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

pub fn change(wanted: TableSchema) -> SchemaChange {
    SchemaChange {
        table: TABLE.into(),
        wanted,
        contract: Contract::Evolve,
        disposition: WriteDisposition::Append,
        options: Default::default(),
    }
}

impl Warehouse {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn config(&self) -> DeltaConfig {
        config(self.folder.path())
    }

    pub fn open(&self) -> DeltaDestination {
        DeltaDestination::open_dataset(&self.config()).unwrap()
    }

    pub fn open_with(&self, faults: Arc<dyn Faults>) -> DeltaDestination {
        DeltaDestination::open_dataset_with_faults(&self.config(), faults).unwrap()
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn table(&self) -> PathBuf {
        table_path(self.folder.path())
    }

    pub fn log_entry(&self, version: u64) -> PathBuf {
        self.table().join(format!("_delta_log/{version:020}.json"))
    }

    /// The actions of an entry, of one kind.
    pub fn actions(&self, version: u64, kind: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.log_entry(version)).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter_map(|line| line.get(kind).cloned()).collect()
    }

    /// Writes an entry as another program would.
    pub fn write_entry(&self, version: u64, lines: &[Value]) {
        let path = self.log_entry(version);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        assert!(!path.exists());
        std::fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }

    /// Data files below the dataset, named by a log or not.
    pub fn data_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut open = vec![self.folder.path().join(DATASET)];
        while let Some(dir) = open.pop() {
            let Ok(entries) = std::fs::read_dir(dir) else { continue };
            for path in entries.map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    open.extend(Some(path).filter(|path| !path.ends_with("_delta_log")));
                } else if path.extension().is_some_and(|e| e == "parquet") {
                    files.push(path);
                }
            }
        }
        files.sort();
        files
    }

    /// All rows as JSON objects, nulls left out, as the library reads them.
    pub async fn rows(&self) -> Vec<Value> {
        read(&self.table(), "select * from t").await
    }

    pub async fn ids(&self) -> Vec<i64> {
        let mut ids: Vec<i64> = self.rows().await.iter().map(|row| row["id"].as_i64().unwrap()).collect();
        ids.sort_unstable();
        ids
    }
}

pub fn config(path: &Path) -> DeltaConfig {
    DeltaConfig { path: path.to_owned(), dataset: DATASET.into() }
}

pub fn table_path(warehouse: &Path) -> PathBuf {
    warehouse.join(DATASET).join(TABLE)
}

pub async fn load(table: &Path) -> deltalake::DeltaTable {
    let url = url::Url::from_directory_path(table).unwrap();
    deltalake::DeltaTableBuilder::from_url(url).unwrap().load().await.unwrap()
}

/// What a query on the table `t` gives, by deltalake and DataFusion.
pub async fn query(table: &Path, sql: &str) -> Vec<RecordBatch> {
    let mut options = SessionConfig::new();
    options = options.set_bool("datafusion.execution.parquet.schema_force_view_types", false);
    let context = SessionContext::new_with_config(options);
    let provider = load(table).await.table_provider().await.unwrap();
    context.register_table("t", provider).unwrap();
    context.sql(sql).await.unwrap().collect().await.unwrap()
}

pub async fn read(table: &Path, sql: &str) -> Vec<Value> {
    query(table, sql).await.iter().flat_map(to_json).collect()
}

pub fn to_json(batch: &RecordBatch) -> Vec<Value> {
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    let text = String::from_utf8(writer.into_inner()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub async fn prepare(destination: &DeltaDestination, change: &SchemaChange) -> Plan {
    destination.prepare(change, Mode::Apply).await.unwrap()
}

pub async fn stage_rows(
    destination: &DeltaDestination,
    attempt: &str,
    schema: &TableSchema,
    batches: Vec<RecordBatch>,
) -> Result<Committable> {
    let rows = futures::stream::iter(batches.into_iter().map(|batch| Ok(Rows::Plain(batch)))).boxed();
    destination
        .stage(&AttemptId(attempt.into()), TABLE, schema, WriteDisposition::Append, rows)
        .await
        .map(|staged| staged.committable)
}

pub async fn stage(destination: &DeltaDestination, attempt: &str, ids: &[i64]) -> Result<Committable> {
    stage_rows(destination, attempt, &columns(), vec![batch(ids)]).await
}

pub async fn publish_through(
    destination: &DeltaDestination,
    n: CommitNumber,
    committables: &[Committable],
    fence: &dyn Fence,
) -> Result<Published> {
    let application = application();
    let publication = Publication {
        application: &application,
        n,
        token: "token",
        amendment: 0,
        table: TABLE,
        committables,
        note: json!({"covers": "a file"}),
        fence,
    };
    destination.publish(publication).await
}

pub async fn publish(destination: &DeltaDestination, n: CommitNumber, committables: &[Committable]) -> Published {
    publish_through(destination, n, committables, &Free).await.unwrap()
}

pub async fn mark(destination: &DeltaDestination) -> Option<CommitNumber> {
    let marks: BTreeMap<_, _> = destination.open(&application(), &[TABLE.to_owned()]).await.unwrap();
    marks[TABLE].last
}
