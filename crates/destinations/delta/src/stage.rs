//! `stage`: rows to durable files that no log names, and the record that is enough to publish them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use longshore_core::Result;
use longshore_core::commit::{AttemptId, Committable, WriteDisposition};
use longshore_core::error::Retry;
use longshore_core::failpoint;
use longshore_core::schema::TableSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::encode::{Encoder, Held, Layout};
use crate::error::{bug, codes, destination};
use crate::partition::{self, PartitionColumn};
use crate::schema::Columns;
use crate::state::TableState;
use crate::storage::Storage;

/// The payload of a committable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Staged {
    /// The version of this record.
    pub format: u32,
    /// The id of the table that the files are for: a recreated table has another one.
    pub table_id: String,
    /// The columns in the files, with Delta's types.
    pub columns: BTreeMap<String, Value>,
    /// The table's partition columns.
    pub partition_columns: Vec<String>,
    /// The files.
    pub files: Vec<StagedFile>,
}

/// The version of [`Staged`] that this code writes and reads.
pub(crate) const FORMAT: u32 = 1;

/// A data file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StagedFile {
    /// Below the table's folder, not URL-encoded.
    pub path: String,
    pub size: u64,
    pub rows: u64,
    pub partition_values: BTreeMap<String, Option<String>>,
    /// The log's statistics, JSON text.
    pub stats: String,
    /// BLAKE3, hex.
    pub digest: String,
}

impl Staged {
    /// Reads a committable's payload. Errors: `delta_committable_unreadable`.
    pub(crate) fn read(committable: &Committable) -> Result<Self> {
        let unreadable = || {
            destination(codes::PAYLOAD, format!("the record of files staged for table {} cannot be read", committable.table))
                .with_retry(Retry::AfterFix)
        };
        let staged: Self = serde_json::from_value(committable.payload.clone()).map_err(|e| unreadable().caused_by(e))?;
        if staged.format == FORMAT { Ok(staged) } else { Err(unreadable().with("format", staged.format)) }
    }
}

/// One call of `stage`.
pub(crate) struct Job {
    pub storage: Storage,
    /// The table's folder.
    pub folder: String,
    pub table: String,
    pub state: TableState,
    pub attempt: AttemptId,
    pub schema: TableSchema,
    pub disposition: WriteDisposition,
    pub held: Held,
}

impl Job {
    /// Gets ready to encode. An error, or a [`Staging`] that is dropped, leaves no file.
    pub(crate) fn begin(self) -> Result<Staging> {
        let layout = self.layout()?;
        let columns = &self.state.columns;
        let type_of = |name: &str| columns.get(name).map(|column| column.data_type.clone());
        let staged_columns =
            layout.schema.fields().iter().map(|f| (f.name().clone(), type_of(f.name()).unwrap_or_default())).collect();
        let encoder = Encoder::new(self.storage.clone(), layout, self.held.clone());
        Ok(Staging { job: self, columns: staged_columns, encoder, first: true })
    }

    fn layout(&self) -> Result<Layout> {
        let changed = |why: String| {
            destination(codes::CHANGED, format!("table {} changed while it was being written: {why}", self.table))
                .with_retry(Retry::Backoff)
        };
        let columns: &Columns = &self.state.columns;
        for field in &self.schema.fields {
            match columns.get(&field.name).and_then(|column| column.logical.as_ref()) {
                Some(now) if now.type_.name() == field.type_.name() => {}
                _ => return Err(changed(format!("column {} is another one", field.name))),
            }
        }
        let wanted = |name: &str| self.schema.field(name).is_some();
        let mut fields: Vec<Field> = Vec::new();
        for column in columns.columns.iter().filter(|column| !column.partition) {
            match &column.physical {
                Some(physical) if wanted(&column.name) => fields.push(without_metadata(physical)),
                _ if !column.nullable => return Err(changed(format!("column {} is required now", column.name))),
                _ => {}
            }
        }
        if fields.is_empty() {
            return Err(destination(
                codes::NO_COLUMNS,
                format!("table {} has no columns but those of its partitions", self.table),
            ));
        }
        let partitions = columns.partition_columns.iter().map(|name| self.partition(name)).collect::<Result<_>>()?;
        // The first columns of the table, wherever they stand in the file.
        let indexed = columns.columns.iter().take(crate::stats::INDEXED_COLUMNS);
        let indexed = indexed.filter_map(|column| fields.iter().find(|f| f.name() == &column.name).cloned()).collect();
        Ok(Layout {
            table: self.folder.clone(),
            prefix: file_prefix(&self.attempt),
            schema: Arc::new(Schema::new(fields)),
            partitions,
            indexed,
        })
    }

    fn partition(&self, name: &str) -> Result<PartitionColumn> {
        let refused = |why: &str| {
            destination(codes::UNSUPPORTED, format!("table {} is partitioned by {name}, {why}", self.table))
                .with_retry(Retry::AfterFix)
        };
        let column = self.state.columns.get(name).ok_or_else(|| refused("which is no column"))?;
        let physical = column.physical.as_ref().ok_or_else(|| refused("whose type cannot be written"))?;
        if !partition::can_partition(physical.data_type()) {
            return Err(refused("whose type cannot be written"));
        }
        let source = column.derived_from.as_deref().unwrap_or(name);
        let source = self.schema.field(source).ok_or_else(|| refused("which the rows do not have"))?;
        Ok(PartitionColumn {
            name: column.name.clone(),
            source: source.name.clone(),
            data_type: physical.data_type().clone(),
            day: column.derived_from.is_some(),
        })
    }
}

/// Rows on their way into files. Each of its methods blocks.
pub(crate) struct Staging {
    job: Job,
    columns: BTreeMap<String, Value>,
    encoder: Encoder,
    first: bool,
}

impl Staging {
    /// Encodes these rows.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.encoder.write(batch)?;
        if std::mem::take(&mut self.first) {
            failpoint::hit("stage.first_batch");
        }
        Ok(())
    }

    /// Makes what was written durable.
    pub(crate) fn finish(mut self) -> Result<Committable> {
        failpoint::hit("stage.before_sync");
        let files = self.encoder.finish()?;
        let mut digest = blake3::Hasher::new();
        for file in &files {
            digest.update(file.digest.as_bytes());
        }
        let (rows, bytes) = (files.iter().map(|f| f.rows).sum(), files.iter().map(|f| f.size).sum());
        let Job { table, state, disposition, .. } = self.job;
        let staged = Staged {
            format: FORMAT,
            table_id: state.metadata.id.clone(),
            columns: self.columns,
            partition_columns: state.columns.partition_columns.clone(),
            files,
        };
        Ok(Committable {
            table,
            disposition,
            payload: serde_json::to_value(staged).map_err(|e| bug("cannot write a committable as JSON").caused_by(e))?,
            rows,
            bytes,
            digest: digest.finalize().to_hex().to_string(),
        })
    }
}

/// A field for Parquet: metadata belongs to the log.
fn without_metadata(field: &Field) -> Field {
    Field::new(field.name(), field.data_type().clone(), field.is_nullable())
}

/// How the names of an attempt's files begin.
pub(crate) fn file_prefix(attempt: &AttemptId) -> String {
    format!("part-{}-", attempt_name(attempt))
}

/// Whether a file of this name was staged by one of these attempts (given by their [`attempt_name`]s).
pub(crate) fn staged_by(name: &str, attempts: &std::collections::BTreeSet<String>) -> bool {
    let inner = name.strip_prefix("part-").and_then(|name| name.strip_suffix(".parquet"));
    let parts = inner.and_then(|inner| inner.rsplit_once('-'));
    parts.is_some_and(|(attempt, id)| id.len() == 32 && attempts.contains(attempt))
}

/// An attempt's id as it stands in names of files and folders.
pub(crate) fn attempt_name(attempt: &AttemptId) -> String {
    let tame = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !attempt.0.is_empty() && attempt.0.len() <= 64 && attempt.0.chars().all(tame) {
        attempt.0.clone()
    } else {
        format!("x{}", &blake3::hash(attempt.0.as_bytes()).to_hex()[..31])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_belongs_to_the_attempt_in_its_name_and_to_no_other() {
        let name =
            |attempt: &str| format!("{}{}.parquet", file_prefix(&AttemptId(attempt.into())), uuid::Uuid::new_v4().simple());
        let dead: std::collections::BTreeSet<String> = [attempt_name(&AttemptId("a-1".into()))].into();
        assert!(staged_by(&name("a-1"), &dead));
        assert!(!staged_by(&name("a-1-2"), &dead));
        assert!(!staged_by(&name("a"), &dead));
        assert!(!staged_by("part-00000-c000.snappy.parquet", &dead));
    }

    #[test]
    fn an_attempt_of_any_name_makes_a_tame_file() {
        let name = attempt_name(&AttemptId("../../etc".into()));
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()));
        assert_ne!(name, attempt_name(&AttemptId("../../etd".into())));
    }
}
