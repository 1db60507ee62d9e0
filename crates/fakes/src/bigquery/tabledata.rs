//! REST: the rows of a table, read and streamed in.

use serde_json::{Value, json};

use super::cell::Row;
use super::from_json::{self, Reading};
use super::http::{ApiError, Call};
use super::rest::without_decorator;
use super::state::State;
use super::to_arrow::wire_row;

pub(crate) fn list(state: &State, project: &str, dataset: &str, table: &str, call: &Call) -> Result<Value, ApiError> {
    let table = state.table(project, dataset, table)?;
    let total = table.rows.len();
    let start = call.param("pageToken").or_else(|| call.param("startIndex")).and_then(|text| text.parse().ok()).unwrap_or(0usize);
    let max = call.param("maxResults").and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
    let selected: Vec<usize> = match call.param("selectedFields") {
        None => (0..table.schema.fields.len()).collect(),
        Some(names) => {
            let names: Vec<&str> = names.split(',').collect();
            (0..table.schema.fields.len()).filter(|i| names.contains(&table.schema.fields[*i].name.as_str())).collect()
        }
    };
    let fields: Vec<_> = selected.iter().map(|i| table.schema.fields[*i].clone()).collect();
    let int64 = call.flag("formatOptions.useInt64Timestamp");
    let shown = table.rows.iter().skip(start).take(max).map(|row| {
        let cells: Row = selected.iter().map(|i| row.cells[*i].clone()).collect();
        wire_row(&fields, &cells, int64)
    });
    let rows: Vec<Value> = shown.collect();
    let end = start + rows.len();
    let mut answer = json!({"kind": "bigquery#tableDataList", "totalRows": total.to_string(), "rows": rows});
    if end < total && max > 0 {
        answer["pageToken"] = json!(end.to_string());
    }
    Ok(answer)
}

pub(crate) fn insert_all(state: &mut State, project: &str, dataset: &str, name: &str, call: &Call) -> Result<Value, ApiError> {
    let body = call.json()?;
    let partition = name.split_once('$').map(|(_, partition)| partition.to_owned());
    let table = state.table_mut(project, dataset, without_decorator(name))?;
    let Some(entries) = body["rows"].as_array().filter(|rows| !rows.is_empty()) else {
        return Err(ApiError::invalid("Request should contain at least one row."));
    };
    if table.schema.fields.is_empty() {
        return Err(ApiError::invalid("The destination table has no schema."));
    }
    let flag = |name: &str| body[name].as_bool().unwrap_or(false);
    let reading = Reading { ignore_unknown: flag("ignoreUnknownValues"), json_is_text: true };
    let read: Vec<_> = entries.iter().map(|entry| from_json::row(&table.schema.fields, &entry["json"], reading)).collect();
    let bad = read.iter().any(Result::is_err);
    let skip_bad = flag("skipInvalidRows");
    let mut errors = Vec::new();
    let mut good: Vec<Row> = Vec::new();
    for (index, (entry, row)) in entries.iter().zip(read).enumerate() {
        let error = |reason: &str, location: &str, message: &str| json!({"index": index, "errors": [{"reason": reason, "location": location, "debugInfo": "", "message": message}]});
        match row {
            Err((location, why)) => errors.push(error("invalid", &location, &why)),
            Ok(_) if bad && !skip_bad => errors.push(error("stopped", "", "")),
            Ok(row) => {
                let id = entry["insertId"].as_str().filter(|id| !id.is_empty());
                if id.is_none_or(|id| table.insert_ids.insert(id.to_owned())) {
                    good.push(row);
                }
            }
        }
    }
    table.stream_in(good, partition.as_deref());
    let mut answer = json!({"kind": "bigquery#tableDataInsertAllResponse"});
    if !errors.is_empty() {
        answer["insertErrors"] = Value::Array(errors);
    }
    Ok(answer)
}
