//! How records become rows of one table.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use longshore_core::Result;
use longshore_core::error::{Error, Kind, code};
use longshore_core::schema::{Mode, TableSchema};
use longshore_core::source::Target;
use longshore_files::columns::{Decoder, Lookup, Times};
use serde_json::Value;

/// A table's columns, ready to be built.
pub(crate) struct Plan {
    target: Target,
    key: Vec<String>,
    /// Rows, and new images of rows.
    pub rows: Decoder,
    /// Rows that are gone, of which only the key is known.
    pub gone: Decoder,
    /// The columns where only those of the key are REQUIRED.
    relaxed: SchemaRef,
}

impl Plan {
    /// `key` has the names, at the source, of the columns of the key; none if rows are no changes.
    pub fn new(table: &str, target: &Target, key: &[String], times: Times) -> Self {
        let lookup = Lookup::new(&target.schema.fields);
        let of_key: Vec<usize> = key.iter().filter_map(|name| lookup.find(name)).collect();
        let relax = |(at, field): (usize, &longshore_core::schema::Field)| match field.mode {
            Mode::Required if !of_key.contains(&at) => field.clone().with_mode(Mode::Nullable),
            _ => field.clone(),
        };
        let relaxed = TableSchema::new(target.schema.fields.iter().enumerate().map(relax).collect());
        let relaxed = Target { schema: relaxed, contract: target.contract };
        let decoder = |target: &Target| Decoder::new(table, Arc::from(""), target, Value::Null).taking(times);
        Self {
            target: target.clone(),
            key: key.to_vec(),
            rows: decoder(target),
            gone: decoder(&relaxed),
            relaxed: relaxed.schema.to_arrow(),
        }
    }

    pub fn is_for(&self, target: &Target, key: &[String]) -> bool {
        self.target == *target && self.key == key
    }

    /// Whether the table has a column for this field of a key.
    pub fn has(&self, name: &str) -> bool {
        Lookup::new(&self.target.schema.fields).find(name).is_some()
    }

    /// New images and rows that are gone as one batch, in the order of the numbers that they have.
    pub fn together(&self, rows: &RecordBatch, numbers: &[u32], gone: &RecordBatch, gone_numbers: &[u32]) -> Result<RecordBatch> {
        let broken = |e| Error::new(Kind::Bug, code::BUG, "changes of one table do not go together").caused_by(e);
        let rows = rows.clone().with_schema(self.relaxed.clone()).map_err(broken)?;
        if gone_numbers.is_empty() {
            return Ok(rows);
        }
        if numbers.is_empty() {
            return Ok(gone.clone());
        }
        let all = concat_batches(&self.relaxed, [&rows, gone]).map_err(broken)?;
        let mut order: Vec<(u32, u32)> = numbers.iter().chain(gone_numbers).copied().zip(0..).collect();
        order.sort_unstable();
        let order: UInt32Array = order.into_iter().map(|(_, place)| place).collect();
        take_record_batch(&all, &order).map_err(broken)
    }
}
