//! Questions about a table's rows.

use longshore_core::Result;
use serde_json::Value;

use crate::jobs;
use crate::tables::{Remote, Tables};

/// Whether any row meets the condition. Rows that were streamed are not in the table's own count yet: asking is the only way to know.
pub(super) async fn any_row(tables: &Tables, table: &str, remote: &Remote, condition: &str) -> Result<bool> {
    let from = tables.sql_name(table);
    for partitions in partitions(remote) {
        let sql = format!("SELECT COUNT(*) AS n FROM (SELECT 1 FROM {from} WHERE {partitions} AND ({condition}) LIMIT 1)");
        let rows = jobs::rows(tables, "count", &sql).await?;
        if rows.first().is_some_and(|row| row.get("n").and_then(Value::as_str).is_some_and(|n| n != "0")) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Conditions that together meet every row. A table may refuse queries without a filter by its partitions, and BigQuery sees through a
/// filter that is always true.
fn partitions(remote: &Remote) -> Vec<String> {
    let table = &remote.0;
    let time = &table["timePartitioning"];
    let required = [table, time].iter().any(|place| place["requirePartitionFilter"].as_bool() == Some(true));
    if !required {
        return vec!["TRUE".into()];
    }
    let column = time["field"].as_str().or_else(|| table["rangePartitioning"]["field"].as_str()).unwrap_or("_PARTITIONTIME");
    vec![format!("`{column}` IS NOT NULL"), format!("`{column}` IS NULL")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_that_wants_a_filter_is_asked_in_two_halves() {
        let of = |table: Value| partitions(&Remote(table));
        assert_eq!(of(json!({"timePartitioning": {"field": "at"}})), ["TRUE"]);
        let by_range = json!({"requirePartitionFilter": true, "rangePartitioning": {"field": "n"}});
        assert_eq!(of(by_range), ["`n` IS NOT NULL", "`n` IS NULL"]);
        let by_ingestion = json!({"timePartitioning": {"type": "DAY", "requirePartitionFilter": true}});
        assert_eq!(of(by_ingestion), ["`_PARTITIONTIME` IS NOT NULL", "`_PARTITIONTIME` IS NULL"]);
    }
}
