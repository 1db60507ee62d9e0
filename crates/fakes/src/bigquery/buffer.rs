//! The streaming buffer: rows that came in by `tabledata.insertAll` and cannot be changed by statements for a while.
//!
//! Rows of the Storage Write API can be changed at once. Source:
//! <https://cloud.google.com/bigquery/docs/data-manipulation-language#limitations>.

use serde_json::{Value, json};

use super::cell::Row;
use super::state::{Stored, Table, now_micros};

/// How long a row stays in the buffer.
const MICROS: i64 = 30 * 60 * 1_000_000;

impl Stored {
    /// Whether the row is in the buffer.
    pub(crate) fn is_buffered(&self) -> bool {
        self.streamed.is_some_and(|at| now_micros() - at < MICROS)
    }
}

impl Table {
    /// Adds rows at the end, in the buffer.
    pub(crate) fn stream_in(&mut self, rows: Vec<Row>, partition: Option<&str>) {
        let (count, now) = (rows.len(), now_micros());
        self.append(rows, partition);
        self.rows.iter_mut().rev().take(count).for_each(|row| row.streamed = Some(now));
    }

    /// Takes all rows out of the buffer; they stay in the table.
    pub(crate) fn empty_buffer(&mut self) {
        self.rows.iter_mut().for_each(|row| row.streamed = None);
    }

    /// What `tables.get` tells of the buffer; nothing if it is empty.
    /// <https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#Streamingbuffer>
    pub(crate) fn shown_buffer(&self) -> Option<Value> {
        let buffered: Vec<&Stored> = self.rows.iter().filter(|row| row.is_buffered()).collect();
        let oldest = buffered.iter().filter_map(|row| row.streamed).min()?;
        Some(json!({
            "estimatedRows": buffered.len().to_string(),
            "estimatedBytes": (buffered.len() * self.schema.fields.len() * 8).to_string(),
            "oldestEntryTime": (oldest / 1_000).to_string(),
        }))
    }
}
