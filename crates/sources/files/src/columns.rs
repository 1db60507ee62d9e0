//! From tapes to Arrow columns: a table's records into exactly its columns.
//!
//! Decoding goes column by column. A first walk over a level's objects writes, for each column, where in the tape each row's
//! value is; then each column is built in one loop over these places. A value that does not fit marks its record as bad and leaves a
//! placeholder, so that the other records are not touched; in the end bad records are filtered out and become rejects.
//!
//! Conversion is exact: a value is taken only if the column holds it unchanged. Where a column's type is wider than the value's,
//! the value is widened on the fly (INT64 into NUMERIC, a day into DATETIME, one value into an ARRAY ...).

mod build;
mod leaf;
mod lookup;
mod misfit;
mod texts;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;

use longshore_core::batch::{Batch, Payload, Reject, Rows, Unit};
use longshore_core::commit::Contract;
use longshore_core::error::{Error, Kind, Place, Result, code};
use longshore_core::schema::{Field, Mode, Type};
use longshore_core::source::Target;

pub use lookup::Lookup;

use crate::tape::{Records, Row, Tape};
pub use misfit::{Misfit, shorten};

/// Turns records into rows of one table. Made once per file and table; shared by all lanes.
pub struct Decoder {
    table: String,
    file: Arc<str>,
    schema: SchemaRef,
    level: Level,
    contract: Contract,
    times: Times,
    decoding: Arc<serde_json::Value>,
}

/// How times in texts are taken, beyond what a column holds exactly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// One without a zone is in UTC, for a TIMESTAMP.
    pub assume_utc: bool,
    /// What is finer than a microsecond is cut off.
    pub truncate: bool,
}

/// What decoding gives.
#[derive(Debug)]
pub struct Decoded {
    /// Rows in the target's schema, and rejects in the order of the file.
    pub batch: Batch,
    /// Values of unknown columns that were dropped under [`Contract::Ignore`], by path.
    pub ignored: BTreeMap<String, u64>,
}

/// What [`Decoder::fit`] gives.
#[derive(Debug)]
pub struct Fitted {
    /// The records that fit, in their order.
    pub rows: RecordBatch,
    /// The others: the number of each among all, ascending, and why.
    pub misfits: Vec<(usize, Misfit)>,
    /// As in [`Decoded`].
    pub ignored: BTreeMap<String, u64>,
}

/// The columns of one level: the table's, or the fields of one STRUCT.
struct Level {
    columns: Vec<Column>,
    lookup: Lookup,
    path: String,
}

/// One column.
struct Column {
    field: Field,
    arrow: arrow::datatypes::FieldRef,
    /// Its name with those of the STRUCTs around it, dots between.
    path: String,
    /// The fields of a STRUCT.
    level: Option<Level>,
}

impl Level {
    fn new(fields: &[Field], arrow: &arrow::datatypes::Fields, path: &str) -> Self {
        let columns = fields.iter().zip(arrow).map(|(field, arrow)| Column::new(field, arrow, path)).collect();
        Self { columns, lookup: Lookup::new(fields), path: path.to_owned() }
    }
}

impl Column {
    fn new(field: &Field, arrow: &arrow::datatypes::FieldRef, above: &str) -> Self {
        use arrow::datatypes::DataType;
        let path = if above.is_empty() { field.name.clone() } else { format!("{above}.{}", field.name) };
        let element = match arrow.data_type() {
            DataType::List(element) => element.data_type(),
            other => other,
        };
        let level = match (&field.type_, element) {
            (Type::Struct(children), DataType::Struct(arrow)) => Some(Level::new(children, arrow, &path)),
            _ => None,
        };
        Self { field: field.clone(), arrow: arrow.clone(), path, level }
    }

    fn is_required(&self) -> bool {
        self.field.mode == Mode::Required
    }
}

impl Decoder {
    /// A decoder of `file`'s records into a table's columns. `decoding` is put into each reject
    /// ([`crate::cut::Format::decoding`]).
    pub fn new(table: &str, file: Arc<str>, target: &Target, decoding: serde_json::Value) -> Self {
        let schema = target.schema.to_arrow();
        let level = Level::new(&target.schema.fields, schema.fields(), "");
        Self {
            table: table.to_owned(),
            file,
            schema,
            level,
            contract: target.contract,
            times: Times::default(),
            decoding: decoding.into(),
        }
    }

    /// The same, with times taken like this.
    #[must_use]
    pub fn taking(self, times: Times) -> Self {
        Self { times, ..self }
    }

    /// Decodes the records of one chunk whose raw bytes are `bytes`. Fails only by a fault of ours.
    pub fn decode(&self, records: Records, bytes: &[u8]) -> Result<Decoded> {
        let Records { tape, rows, mut rejects } = records;
        let tokens: Vec<u32> = rows.iter().map(|row| row.token).collect();
        let Fitted { rows: batch, misfits, ignored } = self.fit(&tape, &tokens)?;
        rejects.extend(misfits.into_iter().map(|(row, misfit)| self.reject(&rows[row], misfit, bytes)));
        for reject in &mut rejects {
            reject.table = Some(self.table.clone());
            reject.decoding = Some(self.decoding.clone());
        }
        rejects.sort_by_key(|reject| reject.index);
        Ok(Decoded { batch: Batch { table: self.table.clone(), rows: Rows::Plain(batch), rejects }, ignored })
    }

    /// Decodes the records at these places of a tape. Fails only by a fault of ours.
    pub fn fit(&self, tape: &Tape, records: &[u32]) -> Result<Fitted> {
        let mut build = build::Build::new(tape, self.contract, self.times, records.len());
        let arrays = build.level(&self.level, records, None)?;
        let build::Build { bad, ignored, .. } = build;
        let options = RecordBatchOptions::new().with_row_count(Some(records.len()));
        let mut rows = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map_err(|e| Error::new(Kind::Bug, code::BUG, "decoded columns do not make a batch").caused_by(e))?;
        let bad_rows = bad.iter().filter(|misfit| misfit.is_some()).count();
        if bad_rows > 0 {
            rows = self.without(rows, &bad, bad_rows)?;
        }
        let misfits = bad.into_iter().enumerate().filter_map(|(row, misfit)| Some((row, *misfit?))).collect();
        Ok(Fitted { rows, misfits, ignored })
    }

    fn without(&self, batch: RecordBatch, bad: &[Option<Box<Misfit>>], bad_rows: usize) -> Result<RecordBatch> {
        let broken = |e| Error::new(Kind::Bug, code::BUG, "bad rows cannot be taken out of a batch").caused_by(e);
        if batch.num_columns() == 0 {
            let options = RecordBatchOptions::new().with_row_count(Some(bad.len() - bad_rows));
            return RecordBatch::try_new_with_options(self.schema.clone(), Vec::new(), &options).map_err(broken);
        }
        let good = BooleanBuffer::collect_bool(bad.len(), |row| bad[row].is_none());
        filter_record_batch(&batch, &BooleanArray::new(good, None)).map_err(broken)
    }

    fn reject(&self, row: &Row, misfit: Misfit, bytes: &[u8]) -> Reject {
        Reject {
            unit: Unit::Record,
            table: None,
            payload: Payload::Inline(bytes.get(row.start..row.start + row.len).unwrap_or_default().to_vec()),
            code: misfit.code,
            reason: misfit.reason(),
            place: Place { file: self.file.to_string(), line: Some(row.line), column: Some(row.column) },
            field: Some(misfit.field),
            decoding: None,
            index: row.index,
        }
    }
}

#[cfg(test)]
mod tests;
