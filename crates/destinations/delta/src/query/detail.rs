//! What is known of a table.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use deltalake::DeltaTable;
use futures::StreamExt as _;
use longshore_core::Result;
use longshore_core::schema::TableSchema;

use super::catalog::TableInfo;
use super::error::unreadable;
use super::session::{find, open, plain_state, provider};
use super::{Warehouse, marks, output};

/// A writer's mark: the number of its last commit in the table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Mark {
    /// The application, as its `txn` actions name it.
    pub application: String,
    /// The number.
    pub n: i64,
}

/// What is known of a table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TableDetail {
    /// The dataset.
    pub dataset: String,
    /// The table.
    pub table: String,
    /// The columns, with their BigQuery types.
    pub schema: TableSchema,
    /// Rows that a query sees.
    pub rows: u64,
    /// Data files.
    pub files: u64,
    /// Bytes of the data files, deleted rows included.
    pub bytes: u64,
    /// The version of the table.
    pub version: u64,
    /// The columns that it is partitioned by.
    pub partition_by: Vec<String>,
    /// Its properties.
    pub properties: BTreeMap<String, String>,
    /// The marks of its writers, by application.
    pub marks: Vec<Mark>,
}

/// See [`Warehouse::describe`].
pub(super) async fn describe(warehouse: &Warehouse, name: &str) -> Result<TableDetail> {
    let info = find(warehouse, name)?;
    let failed = |e: deltalake::DeltaTableError| unreadable(&info.to_string(), e);
    let table = open(warehouse, &info).await?;
    let state = table.snapshot().map_err(failed)?;
    let version = state.version();
    let (mut files, mut bytes, mut rows) = (0u64, 0u64, Some(0u64));
    for file in state.log_data().iter() {
        files += 1;
        bytes += u64::try_from(file.size()).unwrap_or(0);
        let deleted = file.deletion_vector_descriptor().map_or(0, |vector| u64::try_from(vector.cardinality).unwrap_or(0));
        let held = file.num_records().and_then(|records| u64::try_from(records).ok());
        rows = rows.zip(held).map(|(rows, held)| rows + held.saturating_sub(deleted));
    }
    let metadata = state.metadata();
    let properties: BTreeMap<String, String> =
        metadata.configuration().iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let partition_by = metadata.partition_columns().to_vec();
    let log = info.path(&warehouse.folder).join("_delta_log");
    let marks = tokio::task::spawn_blocking(move || marks::read(&log, version)).await;
    let marks = marks.map_err(|e| unreadable(&info.to_string(), e))?.map_err(|e| unreadable(&info.to_string(), e))?;
    let marks = marks.into_iter().map(|(application, n)| Mark { application, n }).collect();
    let rows = match rows {
        Some(rows) => rows,
        // A file without statistics: its footer is asked.
        None => count(warehouse, &info).await?,
    };
    let schema = schema(warehouse, &table, &info).await?;
    let TableInfo { dataset, table } = info;
    Ok(TableDetail { dataset, table, schema, rows, files, bytes, version, partition_by, properties, marks })
}

/// A table's columns.
pub(super) async fn schema(warehouse: &Warehouse, table: &DeltaTable, name: &TableInfo) -> Result<TableSchema> {
    let provider = provider(table, name, &plain_state(warehouse)?).await?;
    Ok(TableSchema::new(provider.schema().fields().iter().map(|field| output::describe(field)).collect()))
}

async fn count(warehouse: &Warehouse, table: &TableInfo) -> Result<u64> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let sql = format!("SELECT count(*) FROM {}.{}", quoted(&table.dataset), quoted(&table.table));
    let mut result = warehouse.query(&sql).await?;
    let mut rows = 0;
    while let Some(batch) = result.stream.next().await {
        let batch = batch?;
        if let Some(counts) = batch.column(0).as_primitive_opt::<Int64Type>() {
            rows += counts.values().iter().map(|count| u64::try_from(*count).unwrap_or(0)).sum::<u64>();
        }
    }
    Ok(rows)
}
