//! `tabledata.insertAll`: rows as JSON, shown as soon as they are taken.
//!
//! Source: <https://cloud.google.com/bigquery/docs/reference/rest/v2/tabledata/insertAll>

use arrow::array::RecordBatch;
use longshore_core::Result;
use longshore_core::schema::{Field, Mode, TableSchema, Type};
use serde_json::{Value, json};

use crate::error::Failure;
use crate::rows::{REQUEST_BYTES, object};
use crate::tables::Tables;

/// Rows of a request: more do not make it faster.
const ROWS: usize = 500;

/// Sends rows of one table; keeps what BigQuery says about those that it refuses.
pub(crate) struct Inserter<'a> {
    pub(crate) tables: &'a Tables,
    pub(crate) table: &'a str,
    /// What ids begin with: BigQuery drops most rows whose id it has seen a moment ago.
    pub(crate) id: String,
    /// Numbers of the refused rows, and BigQuery's words.
    pub(crate) refused: Vec<(u64, String)>,
}

impl Inserter<'_> {
    /// Sends a batch whose first row has the number `first`. Sending it again repeats its ids.
    pub(crate) async fn send(&mut self, batch: &RecordBatch, first: u64) -> Result<()> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let schema = TableSchema::from_arrow(&batch.schema())?;
        for row in 0..batch.num_rows() {
            let number = first + row as u64;
            let mut values = object(batch, row);
            json_as_text(&schema.fields, &mut values);
            let values = json!({"insertId": format!("{}-{number}", self.id), "json": values});
            let size = values.to_string().len();
            if size > REQUEST_BYTES {
                let reason = format!("a row of {size} bytes does not fit a request of BigQuery's, which takes 10 MB");
                self.refused.push((number, reason));
                continue;
            }
            if rows.len() == ROWS || bytes + size > REQUEST_BYTES {
                self.request(std::mem::take(&mut rows)).await?;
                bytes = 0;
            }
            bytes += size;
            rows.push((number, values));
        }
        if !rows.is_empty() {
            self.request(rows).await?;
        }
        Ok(())
    }

    async fn request(&mut self, rows: Vec<(u64, Value)>) -> Result<(), Failure> {
        let (numbers, rows): (Vec<u64>, Vec<Value>) = rows.into_iter().unzip();
        let path = self.tables.path(&format!("/tables/{}/insertAll", self.table));
        let doing = format!("tabledata.insertAll {}", self.table);
        let request = json!({"kind": "bigquery#tableDataInsertAllRequest", "skipInvalidRows": true, "rows": rows});
        let answer = self.tables.rest().post(&doing, &path, &request).await?;
        for error in answer["insertErrors"].as_array().into_iter().flatten() {
            let index = error["index"].as_u64().and_then(|index| usize::try_from(index).ok()).unwrap_or_default();
            let Some(number) = numbers.get(index) else { continue };
            let words = error["errors"].as_array().into_iter().flatten().map(|error| {
                let place = error["location"].as_str().filter(|place| !place.is_empty());
                let place = place.map_or_else(String::new, |place| format!("{place}: "));
                format!("{place}{}", error["message"].as_str().or(error["reason"].as_str()).unwrap_or_default())
            });
            self.refused.push((*number, words.collect::<Vec<_>>().join("; ")));
        }
        Ok(())
    }
}

/// What a JSON column holds is sent as text: a document would be taken for a record.
fn json_as_text(fields: &[Field], values: &mut Value) {
    for field in fields {
        let Some(value) = values.get_mut(&field.name) else { continue };
        let elements = match value {
            Value::Array(elements) if field.mode == Mode::Repeated => elements.as_mut_slice(),
            one => std::slice::from_mut(one),
        };
        for element in elements {
            match &field.type_ {
                Type::Json => *element = Value::String(element.to_string()),
                Type::Struct(children) => json_as_text(children, element),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_sent_as_text_wherever_they_stand() {
        let schema = json!([
            {"name": "j", "type": "JSON"}, {"name": "n", "type": "INT64"},
            {"name": "s", "type": "STRUCT", "mode": "REPEATED", "fields": [{"name": "j", "type": "JSON", "mode": "REPEATED"}]},
        ]);
        let schema = TableSchema::from_json(&schema).expect("valid");
        let mut values = json!({"j": "1", "n": 1, "s": [{"j": [{"a": null}, [1]]}, {}]});
        json_as_text(&schema.fields, &mut values);
        assert_eq!(values, json!({"j": "\"1\"", "n": 1, "s": [{"j": ["{\"a\":null}", "[1]"]}, {}]}));
    }
}
