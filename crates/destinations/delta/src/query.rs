//! SQL on the warehouse: DataFusion's dialect on Delta tables, read-only, with the names and types of BigQuery.
//!
//! - Names match without case, quoted or not; quotes tell tables apart that differ only by case. Columns come back named as
//!   in their table. Backticks are quotes too, around one name or a whole path (`` `shop.orders` ``).
//! - BIGNUMERIC and TIME, which Delta keeps as text, are read as a 256-bit decimal and a time of day, so that they compare
//!   and sort as what they are. JSON stays text and is shown as the document it is.
//! - Only the tables that a query names are opened, each at the version it has then.

mod bignumeric;
mod catalog;
mod checks;
mod detail;
pub mod error;
mod literals;
mod marks;
mod names;
mod nested;
mod output;
mod provider;
mod relations;
mod session;
mod statement;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use longshore_core::Result;
use longshore_core::error::{Error, Kind};
use longshore_core::schema::TableSchema;

pub use catalog::TableInfo;
pub use detail::{Mark, TableDetail};

use error::codes;

/// The memory that a query may take before it spills to disk, unless told otherwise.
pub const DEFAULT_MEMORY_BYTES: usize = 1 << 30;

/// A folder of datasets of Delta tables, for reading. Holds no files open; cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Warehouse {
    folder: PathBuf,
    memory_bytes: usize,
    partitions: usize,
}

/// The rows of a query, as they come.
pub struct QueryResult {
    /// Names and Arrow types of the columns; BigQuery types that Arrow lacks stand in the fields' metadata. Pass it to the
    /// writers of [`longshore_core::show`].
    pub schema: SchemaRef,
    /// The same columns with their BigQuery types. A type without a counterpart is the nearest that holds its text.
    pub columns: TableSchema,
    /// The rows. Each batch has `schema`'s columns in order. Dropping the stream ends the query.
    pub stream: BoxStream<'static, Result<RecordBatch>>,
}

impl std::fmt::Debug for QueryResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryResult").field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl Warehouse {
    /// Opens the warehouse at `folder`. Errors: `warehouse_missing` if there is no such folder.
    pub fn open(folder: &Path) -> Result<Self> {
        let missing = |why: String| {
            Error::new(Kind::Config, codes::WAREHOUSE_MISSING, why)
                .hint("load something first, as in `longshore load FILE`, or name another folder with `--warehouse FOLDER`")
        };
        let path = std::fs::canonicalize(folder)
            .map_err(|e| missing(format!("there is no warehouse at {}", folder.display())).caused_by(e))?;
        if !path.is_dir() {
            return Err(missing(format!("the warehouse {} is not a folder", folder.display())));
        }
        let partitions = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self { folder: path, memory_bytes: DEFAULT_MEMORY_BYTES, partitions })
    }

    /// The memory that each query may take before it spills to disk.
    #[must_use]
    pub fn with_memory(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// How many parts of a query run at once; the number of cores unless told otherwise.
    #[must_use]
    pub fn with_partitions(mut self, partitions: usize) -> Self {
        self.partitions = partitions.max(1);
        self
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The tables, by dataset and name. Errors: `warehouse_unreadable`.
    pub fn tables(&self) -> Result<Vec<TableInfo>> {
        catalog::list(&self.folder)
    }

    /// What is known of a table: `DATASET.TABLE` or `TABLE`, found as in a query. Errors: `unknown_table`,
    /// `table_unreadable`.
    pub fn describe<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<TableDetail>> {
        Box::pin(detail::describe(self, table))
    }

    /// Runs a query. Comes back once it is planned; rows are read as the stream is polled.
    ///
    /// Errors: `query_read_only` for anything but one SELECT, EXPLAIN, SHOW or DESCRIBE; `query_invalid`, `unknown_table`
    /// and `query_unknown_column` (all of kind usage, with the place in the query where it is known); `table_unreadable`. The
    /// stream may end in `query_failed` (a value that cannot be computed), `query_memory` or `table_unreadable`.
    pub fn query<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<QueryResult>> {
        Box::pin(session::run(self, sql))
    }
}
