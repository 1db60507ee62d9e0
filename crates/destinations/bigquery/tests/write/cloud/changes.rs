//! Upserts and deletes by key.

use longshore_bigquery::config::{Changes as Way, Method};
use longshore_core::commit::WriteDisposition;
use longshore_core::table_options::TableOptions;
use serde_json::{Value, json};

use super::Dataset;
use super::tables::{Land, apply, change};
use crate::samples::{Change, batch, schema};

async fn land(land: &Land, n: i64, changes: &[Change<'_>]) {
    let staged = land.stage_rows(&format!("a{n}"), batch(changes), WriteDisposition::Append).await.unwrap();
    land.publish(n, &staged.committable).await;
}

async fn names(dataset: &Dataset, table: &str) -> Result<Vec<String>, String> {
    let rows = dataset.query(&format!("SELECT id, name FROM {} ORDER BY id", dataset.sql_name(table))).await?;
    Ok(rows
        .iter()
        .map(|row| format!("{} {}", row["id"].as_str().unwrap_or_default(), row["name"].as_str().unwrap_or_default()))
        .collect())
}

fn of(names: &[&str]) -> Result<Vec<String>, String> {
    Ok(names.iter().map(|name| (*name).to_owned()).collect())
}

/// A table whose key the destination declared.
async fn keyed(dataset: &Dataset, table: &'static str, way: Way, max_staleness: Option<u32>) -> Land {
    let worker = dataset.open_with(Method::StorageWrite, way);
    let options = TableOptions { key: vec!["id".into()], max_staleness, ..TableOptions::default() };
    apply(&worker, change(table, schema(), options)).await.unwrap();
    Land { worker, table, schema: schema() }
}

async fn last_change_counts(dataset: &Dataset, way: Way) -> Land {
    let sheet = &dataset.sheet;
    let orders = keyed(dataset, "orders", way, None).await;
    land(&orders, 1, &[(1, Some("a"), "01"), (2, Some("b"), "02"), (1, Some("A"), "03"), (3, Some("c"), "04"), (2, None, "05")])
        .await;
    sheet.same("the last change of each key counts", names(dataset, "orders").await, of(&["1 A", "3 c"]));
    land(&orders, 2, &[(2, Some("B"), "06"), (3, None, "07"), (1, Some("AA"), "08")]).await;
    sheet.same("also across commits", names(dataset, "orders").await, of(&["1 AA", "2 B"]));
    land(&orders, 3, &[(1, Some("older"), "02"), (2, Some("BB"), "09")]).await;
    sheet.same("an older change undoes nothing", names(dataset, "orders").await, of(&["1 AA", "2 BB"]));
    orders
}

/// Change rows on the default stream, which BigQuery applies.
pub async fn cdc(dataset: &Dataset) {
    let sheet = &dataset.sheet;
    let orders = last_change_counts(dataset, Way::Cdc).await;
    land(&orders, 4, &[(3, Some("resurrected"), "05")]).await;
    sheet.same("a deleted key stays deleted", names(dataset, "orders").await, of(&["1 AA", "2 BB"]));
    let key = &dataset.table("orders").await["tableConstraints"]["primaryKey"]["columns"];
    sheet.same("the key stands in the table", key, &json!(["id"]));

    let stale = keyed(dataset, "stale", Way::Cdc, Some(900)).await;
    let staleness: Value = dataset.table("stale").await["maxStaleness"].clone();
    sheet.same("max_staleness reads back", staleness, json!("0-0 0 0:15:0"));
    land(&stale, 1, &[(1, Some("a"), "01")]).await;
    sheet.told("what a query sees at once, with max_staleness 15 minutes", &format!("{:?}", names(dataset, "stale").await));
}

/// Changes in a table of ours, and one MERGE.
pub async fn merge(dataset: &Dataset) {
    last_change_counts(dataset, Way::Merge).await;
}
