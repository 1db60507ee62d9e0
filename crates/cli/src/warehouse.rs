//! What commands other than `query` look up where tables are.

use futures::StreamExt as _;
use longshore_bigquery::query::{Reader, objects};
use longshore_core::commit::DEAD_LETTERS;
use longshore_core::error::Result;
use longshore_core::show::value_to_json;
use longshore_delta::query::Warehouse;
use serde_json::{Map, Value};

use crate::destination::Dataset;

/// Ids that are asked for in one query.
const ASKED: usize = 1000;

/// What of dead letters is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Every column.
    Everything,
    /// `id` and `bytes`, about the size of the payload.
    Sizes,
}

/// The tables of a dataset; none if there is no such folder.
pub async fn tables_of(dataset: &Dataset) -> Result<Vec<String>> {
    match dataset {
        Dataset::Folder { folder, name } if folder.is_dir() => {
            let tables = Warehouse::open(folder)?.tables()?;
            Ok(tables.into_iter().filter(|info| info.dataset == *name).map(|info| info.table).collect())
        }
        Dataset::Folder { .. } => Ok(Vec::new()),
        Dataset::BigQuery(config) => Reader::open(config)?.tables().await,
    }
}

/// The rows of these dead letters in a dataset.
pub async fn dead_letters(dataset: &Dataset, wanted: Wanted, ids: &[&str]) -> Result<Vec<Map<String, Value>>> {
    let mut rows = Vec::new();
    for ids in ids.chunks(ASKED) {
        let list: Vec<String> = ids.iter().map(|id| format!("'{}'", id.replace('\'', "''"))).collect();
        let list = list.join(", ");
        match dataset {
            Dataset::Folder { folder, name } => {
                let columns = match wanted {
                    Wanted::Everything => "*",
                    Wanted::Sizes => {
                        r#""id", coalesce(octet_length("payload"), octet_length(encode("payload_bytes", 'base64')), 0) as "bytes""#
                    }
                };
                let sql = format!("select {columns} from \"{name}\".\"{DEAD_LETTERS}\" where \"id\" in ({list})");
                rows.extend(select(&Warehouse::open(folder)?, &sql).await?);
            }
            Dataset::BigQuery(config) => {
                let columns = match wanted {
                    Wanted::Everything => "*",
                    Wanted::Sizes => "id, coalesce(octet_length(payload), 0) as bytes",
                };
                let reader = Reader::open(config)?;
                let sql = format!("select {columns} from {} where id in ({list})", reader.sql_name(DEAD_LETTERS));
                rows.extend(objects(reader.query(&sql).await?).await?);
            }
        }
    }
    Ok(rows)
}

/// The datasets of a warehouse folder that have dead letters.
pub fn with_dead_letters(folder: &std::path::Path) -> Result<Vec<Dataset>> {
    let tables = Warehouse::open(folder)?.tables()?;
    let found = tables.into_iter().filter(|info| info.table == DEAD_LETTERS);
    Ok(found.map(|info| Dataset::Folder { folder: folder.to_owned(), name: info.dataset }).collect())
}

async fn select(warehouse: &Warehouse, sql: &str) -> Result<Vec<Map<String, Value>>> {
    let mut result = warehouse.query(sql).await?;
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
