//! What a source hands over: rows of one table, and the records of the same range that are not rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};

use crate::budget::Permit;
use crate::error::{Error, Kind, Place, code};
use crate::position::Covers;
use crate::schema::{Field, Mode, TableSchema, Type};

/// The rows of one table, in the table's own schema (the one `prepare` settled), or changes to it.
#[derive(Debug, Clone)]
pub enum Rows {
    /// Rows to append.
    Plain(RecordBatch),
    /// Changes by key.
    Changes(Changes),
}

/// Row images with what happened to each and where it stands in the source's order.
#[derive(Debug, Clone)]
pub struct Changes {
    /// New row images; for a delete, the key columns suffice and the others are null.
    pub rows: RecordBatch,
    /// What happened, one per row.
    pub operations: Vec<Operation>,
    /// The source's order key, one per row; text order is the order of the changes.
    pub order: Vec<String>,
}

/// The column of a history that says what happened: `upsert` or `delete`.
pub const OPERATION: &str = "_operation";
/// The column of a history with the source's order key.
pub const ORDER: &str = "_order";

impl Changes {
    /// The columns of a table that keeps every change as a row: those of the rows, what happened, and the order key.
    ///
    /// Errors: `config` if the rows have a column of one of these names.
    pub fn history(schema: &TableSchema) -> crate::Result<TableSchema> {
        if let Some(field) = schema.fields.iter().find(|field| [OPERATION, ORDER].contains(&field.name.as_str())) {
            let why = format!("changes cannot be kept: their column `{}` has the name of one of Longshore's own", field.name);
            return Err(Error::new(Kind::Config, code::CONFIG, why).hint("rename it where it comes from"));
        }
        let column = |name: &str, description: &str| Field {
            description: Some(description.to_owned()),
            ..Field::new(name, Type::String).with_mode(Mode::Required)
        };
        let more =
            [column(OPERATION, "What happened to the row: upsert or delete"), column(ORDER, "Where it stands among the changes")];
        // A delete may know nothing but the key.
        let nullable = |field: &Field| match field.mode {
            Mode::Required => field.clone().with_mode(Mode::Nullable),
            _ => field.clone(),
        };
        Ok(TableSchema::new(schema.fields.iter().map(nullable).chain(more).collect()))
    }

    /// The changes as rows of these columns, found by their names. What the changes do not have is null.
    pub fn to_rows(&self, columns: &TableSchema) -> crate::Result<RecordBatch> {
        let name = |operation: &Operation| if *operation == Operation::Delete { "delete" } else { "upsert" };
        let schema = columns.to_arrow();
        let column = |field: &arrow::datatypes::FieldRef| -> ArrayRef {
            match field.name().as_str() {
                OPERATION => Arc::new(StringArray::from_iter_values(self.operations.iter().map(name))),
                ORDER => Arc::new(StringArray::from_iter_values(&self.order)),
                other => match self.rows.column_by_name(other) {
                    Some(column) => column.clone(),
                    None => arrow::array::new_null_array(field.data_type(), self.rows.num_rows()),
                },
            }
        };
        let columns = schema.fields().iter().map(column).collect();
        RecordBatch::try_new(schema, columns)
            .map_err(|e| Error::new(Kind::Bug, code::BUG, "changes do not fit the columns of their table").caused_by(e))
    }
}

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It is new, or replaces the row of the same key.
    Upsert,
    /// It is gone.
    Delete,
}

impl Rows {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Rows::Plain(rows) => rows.num_rows(),
            Rows::Changes(changes) => changes.rows.num_rows(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What kind of thing could not be landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A whole file.
    File,
    /// One record of a file.
    Record,
    /// A message of a stream.
    Message,
    /// A row that the destination refused.
    Row,
    /// An object of a bucket.
    Object,
}

/// Something that could not be decoded or does not fit its table.
#[derive(Debug, Clone)]
pub struct Reject {
    /// What it is.
    pub unit: Unit,
    /// The table it was meant for, where that is known.
    pub table: Option<String>,
    /// The source's own bytes.
    pub payload: Payload,
    /// A stable reason code (`type_mismatch` ...).
    pub code: &'static str,
    /// Why, in words: what was found, where, what was expected, and what to do. One or two sentences.
    pub reason: String,
    /// Path, line and column of its first byte.
    pub place: Place,
    /// The column or element path that did not fit, where there is one.
    pub field: Option<String>,
    /// What a replay needs to decode the payload again without its file (format, header, record path), as the source
    /// wrote it.
    pub decoding: Option<Arc<serde_json::Value>>,
    /// Which record of its source it is, from 0; with the file it makes a stable coordinate.
    pub index: u64,
}

/// The bytes of a reject.
#[derive(Debug, Clone)]
pub enum Payload {
    /// Held in memory.
    Inline(Vec<u8>),
    /// Too large to be held: a file that the destination copies beside its dead letters. Offset and length name the
    /// part of it that is the payload.
    File {
        /// The file.
        path: std::path::PathBuf,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
        /// Whether the file is a temporary one, to be removed once copied.
        temporary: bool,
    },
}

/// Rows of one table and the rejects found among them.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The table.
    pub table: String,
    /// The rows that fit.
    pub rows: Rows,
    /// The records of the same range that do not.
    pub rejects: Vec<Reject>,
}

/// A piece of a source, cut out but not yet decoded: whole records in the source's order.
///
/// Cutting is cheap and runs in one place; decoding is the costly part and runs on any lane. `decode` is called once.
pub struct Chunk {
    /// Bytes of input, for progress.
    pub bytes: u64,
    /// Decodes it.
    pub decode: Box<dyn FnOnce() -> crate::Result<Vec<Batch>> + Send>,
    /// What everything up to and including this chunk covers. A commit ends only behind a chunk that says so.
    pub covers: Option<Covers>,
    /// The share of the run's memory it holds; given back when its batches have been staged.
    pub permit: Option<Permit>,
}

/// One thing in the ordered flow of a source.
pub enum Item {
    /// Records.
    Chunk(Chunk),
    /// From here on the table has these columns.
    SchemaChange {
        /// The table.
        table: String,
        /// Its columns from here on.
        schema: TableSchema,
    },
    /// The table was emptied at the source.
    Truncate {
        /// The table.
        table: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_that_has_the_name_of_one_of_ours_is_refused_by_its_name() {
        let schema = TableSchema::new(vec![Field::new("id", Type::Int64), Field::new("_order", Type::Int64)]);
        let error = Changes::history(&schema).expect_err("refused");
        assert!(error.to_string().contains("`_order`"), "{error}");
    }
}
