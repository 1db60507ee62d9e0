//! What `stage` leaves behind, by method.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use arrow::array::RecordBatch;
use futures::StreamExt;
use longshore_core::Result;
use longshore_core::batch::Rows;
use longshore_core::commit::{AttemptId, Committable, WriteDisposition};
use longshore_core::destination::{self, Batches, Refusal};
use longshore_core::error::Retry;
use longshore_core::failpoint;
use longshore_core::retry::{Patience, Policy};
use longshore_core::schema::TableSchema;
use serde_json::json;

use crate::bucket::Bucket;
use crate::config::{FileFormat, Method};
use crate::error::{bug, codes, destination as failed};
use crate::files::{self, Files};
use crate::rows::Encoder;
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

/// One call of `stage`.
pub(crate) struct Stage<'a> {
    pub(crate) tables: &'a Tables,
    pub(crate) write: &'a StorageWrite,
    pub(crate) idle: &'a Idle,
    pub(crate) method: Method,
    /// The bucket and the wanted format, for load jobs.
    pub(crate) bucket: Option<(&'a Bucket, FileFormat)>,
    pub(crate) table: &'a str,
    pub(crate) remote: &'a Remote,
    pub(crate) schema: &'a TableSchema,
    pub(crate) attempt: &'a AttemptId,
    pub(crate) disposition: WriteDisposition,
}

/// What was counted on the way.
#[derive(Default)]
struct Counted {
    rows: u64,
    bytes: u64,
    digest: blake3::Hasher,
    refused: Vec<Refusal>,
}

impl Stage<'_> {
    pub(crate) async fn run(self, batches: Batches) -> Result<destination::Staged> {
        let mut counted = Counted::default();
        let kept = match (self.disposition, self.method) {
            (_, Method::LoadJob) => self.files(batches, &mut counted).await?,
            (WriteDisposition::Truncate, _) => self.in_own_table(batches, &mut counted).await?,
            (_, Method::StorageWrite) => self.buffered(batches, &mut counted).await?,
            (_, Method::Auto | Method::StorageWritePending) => {
                let target = self.tables.resource_name(self.table);
                match self.pending(&target, batches, &mut counted).await? {
                    Some(stream) => Kept::Pending { stream },
                    None => Kept::Nothing,
                }
            }
        };
        let staged = Staged { format: FORMAT, born: self.remote.born(), kept };
        let committable = Committable {
            table: self.table.to_owned(),
            disposition: self.disposition,
            payload: serde_json::to_value(staged).map_err(|e| bug("cannot write a committable as JSON").caused_by(e))?,
            rows: counted.rows,
            bytes: counted.bytes,
            digest: counted.digest.finalize().to_hex().to_string(),
        };
        Ok(destination::Staged { committable, refused: counted.refused })
    }

    /// A new stream. If an answer is lost, an empty one stays behind, which BigQuery removes.
    async fn create(&self, table: &str, type_: StreamType) -> Result<String> {
        Policy::default().run(&Patience::default(), || async { Ok(self.write.create(table, type_).await?) }).await
    }

    /// Rows in a new pending stream of `target`, finalized; none if there are no rows.
    async fn pending(&self, target: &str, batches: Batches, counted: &mut Counted) -> Result<Option<String>> {
        let mut batches = batches.peekable();
        if std::pin::Pin::new(&mut batches).peek().await.is_none() {
            return Ok(None);
        }
        let stream = self.create(target, StreamType::Pending).await?;
        let end = self.append(&stream, 0, batches.boxed(), counted).await?;
        failpoint::hit("stage.before_sync");
        let finalize = || async { Ok(self.write.finalize(&stream).await?) };
        let held = Policy::default().run(&Patience::default(), finalize).await?;
        if held != end {
            return Err(failed(codes::OFFSET, format!("a stream of {end} rows holds {held}")).with_retry(Retry::Backoff));
        }
        Ok(Some(stream))
    }

    /// Rows behind those of earlier commits in a buffered stream, or in a new one.
    async fn buffered(&self, batches: Batches, counted: &mut Counted) -> Result<Kept> {
        let mut batches = batches.peekable();
        if std::pin::Pin::new(&mut batches).peek().await.is_none() {
            return Ok(Kept::Nothing);
        }
        let (stream, first) = match self.idle.take(self.table, &self.remote.born()) {
            Some(idle) => idle,
            None => (self.create(&self.tables.resource_name(self.table), StreamType::Buffered).await?, 0),
        };
        // From here on the stream is not idle: only `publish` of what this yields makes it so again.
        let end = self.append(&stream, first, batches.boxed(), counted).await?;
        failpoint::hit("stage.before_sync");
        Ok(if end == first { Kept::Nothing } else { Kept::Buffered { stream, last: end - 1 } })
    }

    /// Rows in a table of our own, for replacing those of the table in one statement.
    async fn in_own_table(&self, batches: Batches, counted: &mut Counted) -> Result<Kept> {
        let name = staging_table(self.attempt, self.table);
        let resource = json!({
            "tableReference": {"projectId": self.tables.project, "datasetId": self.tables.dataset, "tableId": name},
            "description": format!("Rows of Longshore on their way to {}; it goes when they are there.", self.table),
            "schema": {"fields": crate::columns::to_rest(&self.schema.fields)?},
        });
        self.tables.insert(&name, &resource).await?;
        let target = self.tables.resource_name(&name);
        if let Some(stream) = self.pending(&target, batches, counted).await? {
            self.write.commit(&target, &[stream]).await?;
        }
        Ok(Kept::Table { name, columns: self.schema.fields.iter().map(|field| field.name.clone()).collect() })
    }

    /// Rows in files of the bucket.
    async fn files(&self, mut batches: Batches, counted: &mut Counted) -> Result<Kept> {
        let (bucket, wanted) = self.bucket.ok_or_else(|| bug("load jobs without a bucket"))?;
        bucket.check(self.tables).await?;
        let format = files::format(wanted, self.schema);
        let mut files = Files::new(bucket, self.attempt, self.table, self.schema, format);
        while let Some(batch) = batches.next().await {
            let rows = self.plain(batch?)?;
            let first = counted.rows == 0;
            counted.rows += rows.num_rows() as u64;
            files.write(&rows).await?;
            if first {
                failpoint::hit("stage.first_batch");
            }
        }
        failpoint::hit("stage.before_sync");
        let uris = files.finish(self.disposition == WriteDisposition::Truncate).await?;
        counted.bytes = files.bytes;
        counted.digest = files.digest;
        if uris.is_empty() {
            return Ok(Kept::Nothing);
        }
        let format = if format == FileFormat::Json { "NEWLINE_DELIMITED_JSON" } else { "PARQUET" };
        Ok(Kept::Files { uris, format: format.to_owned() })
    }

    fn plain(&self, rows: Rows) -> Result<RecordBatch> {
        match rows {
            Rows::Plain(rows) => Ok(rows),
            Rows::Changes(_) => Err(failed(codes::CHANGES, format!("table {} was sent changes by key", self.table))),
        }
    }

    /// Appends everything from `first` on; returns the offset behind the last row.
    async fn append(&self, stream: &str, first: i64, mut batches: Batches, counted: &mut Counted) -> Result<i64> {
        let mut encoder = Encoder::new(self.schema)?;
        let mut appender = self.write.appender(stream, encoder.header.clone(), Some(first));
        let mut seen = 0;
        while let Some(batch) = next(&mut batches, &mut appender).await? {
            let rows = self.plain(batch)?;
            let cut = encoder.cut(&rows)?;
            for piece in cut.pieces {
                let number = seen + piece.first;
                appender.append(piece, number).await?;
            }
            counted.refused.extend(cut.oversized.into_iter().map(|refused| Refusal { row: seen + refused.row, ..refused }));
            if seen == 0 {
                failpoint::hit("stage.first_batch");
            }
            seen += rows.num_rows() as u64;
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
pub(crate) async fn sweep(tables: &Tables, bucket: Option<&Bucket>, attempts: &[AttemptId]) -> Result<u64> {
    if attempts.is_empty() {
        return Ok(0);
    }
    let mut removed = 0;
    if let Some(bucket) = bucket {
        for attempt in attempts {
            removed += bucket.sweep(attempt).await?;
        }
    }
    let prefixes: Vec<String> = attempts.iter().map(staging_prefix).collect();
    for name in tables.list().await? {
        if prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            tables.delete(&name).await?;
            removed += 1;
        }
    }
    Ok(removed)
}
