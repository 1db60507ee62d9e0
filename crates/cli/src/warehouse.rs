//! What commands other than `query` look up in a warehouse.

use std::path::Path;

use futures::StreamExt as _;
use longshore_core::commit::DEAD_LETTERS;
use longshore_core::error::Result;
use longshore_core::show::value_to_json;
use longshore_delta::query::Warehouse;
use serde_json::{Map, Value};

use crate::destination::Dataset;

/// The tables of a dataset; none if there is no such folder.
pub async fn tables_of(dataset: &Dataset) -> Result<Vec<String>> {
    if !dataset.folder.is_dir() {
        return Ok(Vec::new());
    }
    let tables = Warehouse::open(&dataset.folder)?.tables()?;
    Ok(tables.into_iter().filter(|info| info.dataset == dataset.name).map(|info| info.table).collect())
}

/// The rows of these dead letters, from every dataset of the warehouse.
pub async fn dead_letters(folder: &Path, ids: &[&str]) -> Result<Vec<Map<String, Value>>> {
    let warehouse = Warehouse::open(folder)?;
    let mut rows = Vec::new();
    for info in warehouse.tables()?.into_iter().filter(|info| info.table == DEAD_LETTERS) {
        rows.extend(select_letters(&warehouse, &info.dataset, "*", ids).await?);
    }
    Ok(rows)
}

/// These columns of some dead letters of a dataset.
pub async fn select_letters(
    warehouse: &Warehouse,
    dataset: &str,
    columns: &str,
    ids: &[&str],
) -> Result<Vec<Map<String, Value>>> {
    let list: Vec<String> = ids.iter().map(|id| format!("'{}'", id.replace('\'', "''"))).collect();
    let sql = format!("select {columns} from \"{dataset}\".\"{DEAD_LETTERS}\" where \"id\" in ({})", list.join(", "));
    let mut result = warehouse.query(&sql).await?;
    let mut rows = Vec::new();
    while let Some(batch) = result.stream.next().await {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            let cells = result.schema.fields().iter().zip(batch.columns());
            rows.push(cells.map(|(field, column)| (field.name().clone(), value_to_json(field, column, row))).collect());
        }
    }
    Ok(rows)
}
