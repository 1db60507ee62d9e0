//! What `stage` leaves behind, by method.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use arrow::array::RecordBatch;
use futures::{StreamExt, stream};
use longshore_core::Result;
use longshore_core::batch::{self as core, Rows};
use longshore_core::commit::{AttemptId, Committable, WriteDisposition};
use longshore_core::destination::{self, Batches, Refusal};
use longshore_core::error::{Error, Retry};
use longshore_core::failpoint;
use longshore_core::retry::Policy;
use longshore_core::schema::TableSchema;
use serde_json::json;

use crate::bucket::Bucket;
use crate::config::{Changes, FileFormat, Method};
use crate::error::{bug, codes, destination as failed};
use crate::files::{self, Files};
use crate::prepare::Known;
use crate::rows::Encoder;
use crate::spool::{Spool, Writer};
use crate::tables::{OURS, Remote, Tables};
use crate::write::{Appender, StorageWrite, StreamType};

/// The version of [`Staged`].
const FORMAT: u32 = 1;

/// A committable's record.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Staged {
    format: u32,
    /// When the table was made that the rows are for.
    pub(crate) born: String,
    pub(crate) kept: Kept,
    /// Files that an amendment has read and nobody needs once this is published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) leftovers: Vec<String>,
}

/// Where the rows are.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kept {
    /// There are none.
    Nothing,
    /// In a finalized pending stream.
    Pending {
        /// Its full name.
        stream: String,
    },
    /// In a buffered stream that may go on.
    Buffered {
        /// Its full name.
        stream: String,
        /// The offset of the last row.
        last: i64,
    },
    /// In a table of ours, whose rows replace those of the table.
    Table {
        /// Its name, in the same dataset.
        name: String,
        /// Its columns.
        columns: Vec<String>,
    },
    /// In files of a bucket.
    Files {
        /// Their names, `gs://...`.
        uris: Vec<String>,
        /// Their format, in BigQuery's word.
        format: String,
    },
    /// In files of ours, from where they are sent.
    Spooled {
        /// Their names.
        files: Vec<String>,
        /// As what.
        how: How,
    },
    /// Changes by key, in a table of ours.
    Changes {
        /// Its name, in the same dataset.
        name: String,
        /// The table's columns.
        columns: Vec<String>,
        /// Those of its key.
        key: Vec<String>,
    },
}

/// How rows are sent that show at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    /// On the default stream.
    Append,
    /// On the default stream, as changes by key.
    Change,
    /// By `insertAll`.
    Insert,
}

impl Staged {
    pub(crate) fn read(committable: &Committable) -> Result<Self> {
        let unreadable = || {
            failed(codes::PAYLOAD, format!("the record of rows staged for table {} cannot be read", committable.table))
                .with_retry(Retry::AfterFix)
        };
        let staged: Self = serde_json::from_value(committable.payload.clone()).map_err(|e| unreadable().caused_by(e))?;
        if staged.format == FORMAT { Ok(staged) } else { Err(unreadable().with("format", staged.format)) }
    }
}

/// Buffered streams that may go on: each has nothing in it but what was journalled.
#[derive(Debug, Default)]
pub(crate) struct Idle(Mutex<HashMap<String, Vec<(String, i64)>>>);

impl Idle {
    fn take(&self, table: &str, born: &str) -> Option<(String, i64)> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.get_mut(&format!("{table}@{born}"))?.pop()
    }

    /// Says that all that was appended to a stream was published: it may take the rows of another commit.
    pub(crate) fn give_back(&self, table: &str, born: &str, stream: &str, next: i64) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let streams = idle.entry(format!("{table}@{born}")).or_default();
        if !streams.iter().any(|(known, _)| known == stream) {
            streams.push((stream.to_owned(), next));
        }
    }
}

/// What both halves, `stage` and `publish`, work with.
pub(crate) struct Shared {
    pub(crate) tables: Tables,
    pub(crate) write: StorageWrite,
    pub(crate) idle: Idle,
    pub(crate) method: Method,
    pub(crate) changes: Changes,
    /// The bucket and the wanted format, for load jobs.
    pub(crate) bucket: Option<(Bucket, FileFormat)>,
    pub(crate) spool: Spool,
    pub(crate) max_bad_records: Option<u64>,
    pub(crate) known: Known,
}

impl Shared {
    /// Whether so many refused rows may become dead letters.
    ///
    /// Errors: `bigquery_rows_refused`.
    pub(crate) fn bear(&self, table: &str, refused: &[Refusal]) -> Result<()> {
        let (number, first) = (refused.len() as u64, refused.first());
        match (self.max_bad_records, first) {
            (Some(most), Some(first)) if number > most => {
                let why = format!("BigQuery refuses {number} rows of table {table}, more than {most}: {}", first.reason);
                Err(failed(codes::ROWS_REFUSED, why)
                    .with_retry(Retry::AfterFix)
                    .hint("raise `max_bad_records`, or correct the rows"))
            }
            _ => Ok(()),
        }
    }
}

/// One call of `stage`.
pub(crate) struct Stage<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) method: Method,
    pub(crate) table: &'a str,
    pub(crate) remote: &'a Remote,
    pub(crate) schema: &'a TableSchema,
    pub(crate) attempt: &'a AttemptId,
    pub(crate) disposition: WriteDisposition,
    /// Files that are read to stage this.
    pub(crate) leftovers: Vec<String>,
}

/// What was counted on the way.
#[derive(Default)]
struct Counted {
    /// Rows that came.
    seen: u64,
    /// Rows that are kept.
    rows: u64,
    bytes: u64,
    digest: blake3::Hasher,
    refused: Vec<Refusal>,
}

impl Stage<'_> {
    pub(crate) async fn run(self, mut batches: Batches) -> Result<destination::Staged> {
        let mut counted = Counted::default();
        let first = batches.next().await.transpose()?;
        let changes = matches!(first, Some(Rows::Changes(_)));
        let empty = first.is_none();
        let batches = stream::iter(first.map(Ok)).chain(batches).boxed();
        let kept = match (self.disposition, self.method) {
            (WriteDisposition::Truncate, _) if changes => return Err(self.unchangeable("changes do not replace a table")),
            _ if changes => self.changes(batches, &mut counted).await?,
            (WriteDisposition::Append | WriteDisposition::Empty, _) if empty => Kept::Nothing,
            (_, Method::LoadJob) => self.files(batches, &mut counted).await?,
            (WriteDisposition::Truncate, _) => self.replacement(batches, &mut counted).await?,
            (_, Method::StorageWrite) => self.buffered(batches, &mut counted).await?,
            (_, Method::StorageWriteDefault) => self.spooled(batches, How::Append, &mut counted).await?,
            (_, Method::InsertAll) => self.spooled(batches, How::Insert, &mut counted).await?,
            (_, Method::Auto | Method::StorageWritePending) => {
                let target = self.shared.tables.resource_name(self.table);
                Kept::Pending { stream: self.pending(&target, self.schema, batches, &mut counted).await? }
            }
        };
        self.shared.bear(self.table, &counted.refused)?;
        let committable = self.committable(kept, &counted)?;
        Ok(destination::Staged { committable, refused: counted.refused })
    }

    /// The record of what is kept.
    fn committable(&self, kept: Kept, counted: &Counted) -> Result<Committable> {
        let staged = Staged { format: FORMAT, born: self.remote.born(), kept, leftovers: self.leftovers.clone() };
        Ok(Committable {
            table: self.table.to_owned(),
            disposition: self.disposition,
            payload: serde_json::to_value(staged).map_err(|e| bug("cannot write a committable as JSON").caused_by(e))?,
            rows: counted.rows,
            bytes: counted.bytes,
            digest: counted.digest.finalize().to_hex().to_string(),
        })
    }

    /// The record of rows of which all are visible.
    pub(crate) fn shown(&self, rows: u64) -> Result<Committable> {
        self.committable(Kept::Nothing, &Counted { rows, ..Counted::default() })
    }

    /// A new stream. If an answer is lost, an empty one stays behind, which BigQuery removes.
    async fn create(&self, table: &str, type_: StreamType) -> Result<String> {
        let create = || async { Ok(self.shared.write.create(table, type_).await?) };
        Policy::default().run(&self.shared.tables.quota.patience(), create).await
    }

    /// Rows in a new pending stream of `target`, finalized.
    async fn pending(&self, target: &str, schema: &TableSchema, batches: Batches, counted: &mut Counted) -> Result<String> {
        let stream = self.create(target, StreamType::Pending).await?;
        let end = self.append(&stream, 0, schema, batches, counted).await?;
        failpoint::hit("stage.before_sync");
        let finalize = || async { Ok(self.shared.write.finalize(&stream).await?) };
        let held = Policy::default().run(&self.shared.tables.quota.patience(), finalize).await?;
        if held != end {
            return Err(failed(codes::OFFSET, format!("a stream of {end} rows holds {held}")).with_retry(Retry::Backoff));
        }
        Ok(stream)
    }

    /// Rows behind those of earlier commits in a buffered stream, or in a new one.
    async fn buffered(&self, batches: Batches, counted: &mut Counted) -> Result<Kept> {
        let (stream, first) = match self.shared.idle.take(self.table, &self.remote.born()) {
            Some(idle) => idle,
            None => (self.create(&self.shared.tables.resource_name(self.table), StreamType::Buffered).await?, 0),
        };
        // From here on the stream is not idle: only `publish` of what this yields makes it so again.
        let end = self.append(&stream, first, self.schema, batches, counted).await?;
        failpoint::hit("stage.before_sync");
        Ok(if end == first { Kept::Nothing } else { Kept::Buffered { stream, last: end - 1 } })
    }

    /// Rows in a table of our own, for replacing those of the table in one statement.
    async fn replacement(&self, batches: Batches, counted: &mut Counted) -> Result<Kept> {
        let name = self.own_table(self.schema, batches, counted).await?;
        Ok(Kept::Table { name, columns: self.schema.fields.iter().map(|field| field.name.clone()).collect() })
    }

    /// Rows in a new table of our own; returns its name.
    async fn own_table(&self, schema: &TableSchema, mut batches: Batches, counted: &mut Counted) -> Result<String> {
        let tables = &self.shared.tables;
        let name = staging_table(self.attempt, self.table);
        let resource = json!({
            "tableReference": {"projectId": tables.project, "datasetId": tables.dataset, "tableId": name},
            "description": format!("Rows of Longshore on their way to {}; it goes when they are there.", self.table),
            "schema": {"fields": crate::columns::to_rest(&schema.fields)?},
        });
        tables.insert(&name, &resource).await?;
        if let Some(first) = batches.next().await {
            let batches = stream::iter([first]).chain(batches).boxed();
            let target = tables.resource_name(&name);
            let stream = self.pending(&target, schema, batches, counted).await?;
            self.shared.write.commit(&target, &[stream]).await?;
        }
        Ok(name)
    }

    /// Changes by key, kept until they may be sent or merged.
    async fn changes(&self, batches: Batches, counted: &mut Counted) -> Result<Kept> {
        let key = self.remote.key();
        if key.is_empty() {
            return Err(self
                .unchangeable("it has no primary key")
                .hint("name its columns in the pipeline file: `tables: {NAME: {key: [ID]}}`"));
        }
        let history = core::Changes::history(self.schema)?;
        let columns = history.clone();
        let rows = batches.map(move |batch| match batch? {
            Rows::Changes(changes) => Ok(Rows::Plain(changes.to_rows(&columns)?)),
            Rows::Plain(_) => Err(bug("rows among changes")),
        });
        if self.shared.changes == Changes::Cdc {
            return self.spooled(rows.boxed(), How::Change, counted).await;
        }
        let name = self.own_table(&history, rows.boxed(), counted).await?;
        Ok(Kept::Changes { name, columns: self.schema.fields.iter().map(|field| field.name.clone()).collect(), key })
    }

    fn unchangeable(&self, why: &str) -> Error {
        failed(codes::CHANGES, format!("changes by key cannot be written to table {}: {why}", self.table))
            .with_retry(Retry::AfterFix)
    }

    /// Rows in a file of ours.
    async fn spooled(&self, mut batches: Batches, how: How, counted: &mut Counted) -> Result<Kept> {
        let mut writer: Option<Writer> = None;
        while let Some(batch) = batches.next().await {
            let rows = self.plain(batch?)?;
            let writer = match &mut writer {
                Some(writer) => writer,
                None => writer.insert(self.shared.spool.create(self.attempt, &rows.schema()).await?),
            };
            writer.write(&rows).await?;
            if counted.rows == 0 {
                failpoint::hit("stage.first_batch");
            }
            counted.rows += rows.num_rows() as u64;
        }
        failpoint::hit("stage.before_sync");
        let Some(writer) = writer else { return Ok(Kept::Nothing) };
        let (name, written) = writer.finish().await?;
        (counted.bytes, counted.digest) = (written.bytes, written.digest);
        Ok(Kept::Spooled { files: vec![name], how })
    }

    /// Rows in files of the bucket.
    async fn files(&self, mut batches: Batches, counted: &mut Counted) -> Result<Kept> {
        let (bucket, wanted) = self.shared.bucket.as_ref().ok_or_else(|| bug("load jobs without a bucket"))?;
        bucket.check(&self.shared.tables).await?;
        let format = files::format(*wanted, self.schema);
        let mut files = Files::new(bucket, self.attempt, self.table, self.schema, format);
        while let Some(batch) = batches.next().await {
            let rows = self.plain(batch?)?;
            let first = counted.seen;
            let refused = files.write(&rows).await?;
            counted.seen += rows.num_rows() as u64;
            counted.refused.extend(refused.into_iter().map(|refused| Refusal { row: first + refused.row, ..refused }));
            if first == 0 {
                failpoint::hit("stage.first_batch");
            }
        }
        failpoint::hit("stage.before_sync");
        let uris = files.finish(self.disposition == WriteDisposition::Truncate).await?;
        counted.rows = counted.seen - counted.refused.len() as u64;
        (counted.bytes, counted.digest) = (files.bytes, files.digest);
        if uris.is_empty() {
            return Ok(Kept::Nothing);
        }
        let format = match format {
            FileFormat::Json => "NEWLINE_DELIMITED_JSON",
            FileFormat::Avro => "AVRO",
            FileFormat::Auto | FileFormat::Parquet => "PARQUET",
        };
        Ok(Kept::Files { uris, format: format.to_owned() })
    }

    fn plain(&self, rows: Rows) -> Result<RecordBatch> {
        match rows {
            Rows::Plain(rows) => Ok(rows),
            Rows::Changes(_) => Err(bug("changes among rows")),
        }
    }

    /// Appends everything from `first` on; returns the offset behind the last row.
    async fn append(
        &self,
        stream: &str,
        first: i64,
        schema: &TableSchema,
        mut batches: Batches,
        counted: &mut Counted,
    ) -> Result<i64> {
        let mut encoder = Encoder::new(schema)?;
        let mut appender = self.shared.write.appender(stream, encoder.header.clone(), Some(first));
        while let Some(batch) = next(&mut batches, &mut appender).await? {
            let rows = self.plain(batch)?;
            let cut = encoder.cut(&rows)?;
            for piece in cut.pieces {
                let number = counted.seen + piece.first;
                appender.append(piece, number).await?;
            }
            let before = counted.seen;
            counted.refused.extend(cut.refused.into_iter().map(|refused| Refusal { row: before + refused.row, ..refused }));
            if before == 0 {
                failpoint::hit("stage.first_batch");
            }
            counted.seen += rows.num_rows() as u64;
        }
        let appended = appender.finish().await?;
        (counted.rows, counted.bytes, counted.digest) = (appended.rows, appended.bytes, appended.digest);
        counted.refused.extend(appended.refused);
        counted.refused.sort_by_key(|refused| refused.row);
        appended.next.ok_or_else(|| bug("a stream with offsets lost its own"))
    }
}

/// The next batch; meanwhile the appender takes its answers.
async fn next(batches: &mut Batches, appender: &mut Appender) -> Result<Option<Rows>> {
    loop {
        tokio::select! {
            batch = batches.next() => return batch.transpose(),
            () = appender.arrival() => {}
        }
        appender.take_answer().await?;
    }
}

/// The beginning of the names of an attempt's own tables.
fn staging_prefix(attempt: &AttemptId) -> String {
    format!("{OURS}_stage_{}_", &blake3::hash(attempt.0.as_bytes()).to_hex()[..16])
}

fn staging_table(attempt: &AttemptId, table: &str) -> String {
    format!("{}{table}", staging_prefix(attempt))
}

/// Removes the files and tables that these attempts made; returns their bytes, a table counting as one. Streams need no sweeping:
/// nobody sees what is in them, and BigQuery removes them.
pub(crate) async fn sweep(shared: &Shared, attempts: &[AttemptId]) -> Result<u64> {
    if attempts.is_empty() {
        return Ok(0);
    }
    let mut removed = 0;
    for attempt in attempts {
        removed += shared.spool.sweep(attempt).await?;
        if let Some((bucket, _)) = &shared.bucket {
            removed += bucket.sweep(attempt).await?;
        }
    }
    let prefixes: Vec<String> = attempts.iter().map(staging_prefix).collect();
    for name in shared.tables.list().await? {
        if prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            shared.tables.delete(&name).await?;
            removed += 1;
        }
    }
    Ok(removed)
}
