//! Rows as files in a bucket, for load jobs: Parquet where it carries every type of the table, else JSON lines.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow_avro::compression::CompressionCodec;
use arrow_avro::errors::AvroError;
use arrow_avro::writer::{AvroWriter, WriterBuilder};
use bytes::Bytes;
use futures::future::BoxFuture;
use longshore_core::Result;
use longshore_core::commit::AttemptId;
use longshore_core::destination::Refusal;
use longshore_core::error::Error;
use longshore_core::schema::{Field, TableSchema, Type};
use longshore_core::show::JsonWriter;
use parquet::arrow::AsyncArrowWriter;
use parquet::arrow::async_writer::AsyncFileWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::bucket::{Bucket, Seen, Upload};
use crate::config::FileFormat;
use crate::error::bug;
use crate::rows;

/// A file is ended at this size: BigQuery loads many files side by side.
const FILE_BYTES: u64 = 256 << 20;
/// A row group is ended at this size in memory.
const ROW_GROUP_BYTES: usize = 24 << 20;

/// The format that a table's rows are staged in.
pub(crate) fn format(wanted: FileFormat, schema: &TableSchema) -> FileFormat {
    match wanted {
        FileFormat::Auto | FileFormat::Avro if schema.fields.iter().any(only_as_text) => FileFormat::Json,
        FileFormat::Auto => FileFormat::Parquet,
        other => other,
    }
}

/// Types that a load job takes from text only.
fn only_as_text(field: &Field) -> bool {
    match &field.type_ {
        Type::Json | Type::Interval | Type::Geography => true,
        Type::Struct(fields) => fields.iter().any(only_as_text),
        _ => false,
    }
}

/// Writes the rows of one call of `stage`.
pub(crate) struct Files<'a> {
    bucket: &'a Bucket,
    attempt: &'a AttemptId,
    table: &'a str,
    schema: &'a TableSchema,
    format: FileFormat,
    open: Option<Open>,
    /// The files that are complete, as BigQuery names them.
    done: Vec<String>,
    pub(crate) bytes: u64,
    pub(crate) digest: blake3::Hasher,
}

enum Open {
    Avro { writer: Box<AvroWriter<Buffer>>, buffer: Buffer, native: rows::Native, upload: Upload },
    Parquet { writer: Box<AsyncArrowWriter<Upload>>, native: rows::Native, seen: Seen, uri: String },
    Json { writer: JsonWriter<Vec<u8>>, upload: Upload },
}

impl<'a> Files<'a> {
    pub(crate) fn new(
        bucket: &'a Bucket,
        attempt: &'a AttemptId,
        table: &'a str,
        schema: &'a TableSchema,
        format: FileFormat,
    ) -> Self {
        let (digest, bytes) = (blake3::Hasher::new(), 0);
        Self { bucket, attempt, table, schema, format, open: None, done: Vec::new(), bytes, digest }
    }

    /// Returns the rows that have a value which the format cannot hold, by their numbers in the batch.
    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<Vec<Refusal>> {
        let mut refused = Vec::new();
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin().await?,
        };
        let size = match &mut open {
            Open::Parquet { writer, native, seen, .. } => {
                let (runs, unfit) = native.batch(batch)?;
                for (_, run) in runs {
                    writer.write(&run).await.map_err(encoding)?;
                }
                refused = unfit;
                if writer.in_progress_size() > ROW_GROUP_BYTES {
                    writer.flush().await.map_err(encoding)?;
                }
                seen.bytes()
            }
            Open::Avro { writer, buffer, native, upload } => {
                let (runs, unfit) = native.batch(batch)?;
                for (_, run) in runs {
                    writer.write(&run).map_err(unwritten_avro)?;
                }
                refused = unfit;
                upload.put(buffer.take().into()).await?;
                upload.seen.bytes()
            }
            Open::Json { writer, upload } => {
                writer.write(batch).map_err(|e| bug("rows could not be written as JSON").caused_by(e))?;
                upload.put(std::mem::take(writer.get_mut()).into()).await?;
                upload.seen.bytes()
            }
        };
        self.open = Some(open);
        if size > FILE_BYTES {
            self.end().await?;
        }
        Ok(refused)
    }

    /// Ends the last file; returns all of them. With `at_least_one`, a file without rows if there is no other.
    pub(crate) async fn finish(&mut self, at_least_one: bool) -> Result<Vec<String>> {
        if at_least_one && self.open.is_none() && self.done.is_empty() {
            self.open = Some(self.begin().await?);
        }
        self.end().await?;
        Ok(std::mem::take(&mut self.done))
    }

    async fn begin(&mut self) -> Result<Open> {
        let (ending, content_type) = match self.format {
            FileFormat::Json => ("json", "application/x-ndjson"),
            FileFormat::Avro => ("avro", "application/avro"),
            FileFormat::Auto | FileFormat::Parquet => ("parquet", "application/vnd.apache.parquet"),
        };
        let below = format!("{}/{}.{ending}", self.table, uuid::Uuid::new_v4().simple());
        let upload = self.bucket.create(self.attempt, &below, content_type).await?;
        if self.format == FileFormat::Json {
            return Ok(Open::Json { writer: JsonWriter::new(Vec::new(), self.schema.to_arrow()), upload });
        }
        let native = rows::Native::new(self.schema);
        if self.format == FileFormat::Avro {
            let buffer = Buffer::default();
            let builder = WriterBuilder::new(native.schema().as_ref().clone()).with_compression(Some(CompressionCodec::Deflate));
            let writer = builder.build(buffer.clone()).map_err(unwritten_avro)?;
            return Ok(Open::Avro { writer: Box::new(writer), buffer, native, upload });
        }
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).map_err(encoding)?))
            .set_statistics_enabled(EnabledStatistics::None)
            .set_max_row_group_row_count(Some(1 << 20))
            .build();
        let (seen, uri) = (upload.seen.clone(), upload.uri.clone());
        let writer = AsyncArrowWriter::try_new(upload, native.schema(), Some(properties)).map_err(encoding)?;
        Ok(Open::Parquet { writer: Box::new(writer), native, seen, uri })
    }

    async fn end(&mut self) -> Result<()> {
        let (seen, uri) = match self.open.take() {
            None => return Ok(()),
            Some(Open::Parquet { writer, seen, uri, .. }) => {
                writer.close().await.map_err(encoding)?;
                (seen, uri)
            }
            Some(Open::Avro { mut writer, buffer, mut upload, .. }) => {
                writer.finish().map_err(unwritten_avro)?;
                upload.put(buffer.take().into()).await?;
                upload.finish().await?;
                (upload.seen, upload.uri)
            }
            Some(Open::Json { mut upload, .. }) => {
                upload.finish().await?;
                (upload.seen, upload.uri)
            }
        };
        let (bytes, digest) = seen.so_far();
        self.done.push(uri);
        self.bytes += bytes;
        self.digest.update(digest.as_bytes());
        Ok(())
    }
}

/// What a writer has written and nobody has sent yet.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn unwritten_avro(error: AvroError) -> Error {
    bug("rows could not be written as Avro").caused_by(error)
}

/// The upload's own error comes back wrapped once or more.
fn encoding(error: ParquetError) -> Error {
    let ParquetError::External(source) = error else { return unwritten(error) };
    match source.downcast::<Error>() {
        Ok(error) => *error,
        Err(source) => match source.downcast::<ParquetError>() {
            Ok(inner) => encoding(*inner),
            Err(source) => unwritten(source),
        },
    }
}

fn unwritten(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    bug("rows could not be written as Parquet").caused_by(source)
}

impl AsyncFileWriter for Upload {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), ParquetError>> {
        Box::pin(async move { self.put(bytes).await.map_err(|e| ParquetError::External(Box::new(e))) })
    }

    fn complete(&mut self) -> BoxFuture<'_, Result<(), ParquetError>> {
        Box::pin(async move { self.finish().await.map_err(|e| ParquetError::External(Box::new(e))) })
    }
}
