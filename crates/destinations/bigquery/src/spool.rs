//! Files of our own: in the bucket if there is one, else beside the store.
//!
//! Rows that would show as soon as they are sent wait here, as an Arrow stream, until their commit is journalled. And what waits in a bucket
//! comes here to be read again.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use longshore_core::Result;
use longshore_core::commit::AttemptId;
use longshore_core::error::Error;
use longshore_core::schema::TableSchema;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::bucket::{Bucket, Upload};
use crate::cells;
use crate::error::{bug, codes, destination};
use crate::rows::{Native, encoding};

/// Batches that are read ahead.
const AHEAD: usize = 2;
/// Lines of JSON that become a batch.
const LINES: usize = 4096;

/// Where files of ours are.
#[derive(Debug, Clone)]
pub(crate) struct Spool {
    folder: PathBuf,
    bucket: Option<Bucket>,
}

/// What a file holds.
#[derive(Debug, Clone)]
pub(crate) enum Format {
    /// An Arrow stream, as the spool writes it.
    Arrow,
    /// Parquet in BigQuery's own types.
    Parquet,
    /// Avro of these columns.
    Avro(TableSchema),
    /// JSON lines of these columns.
    Json(TableSchema),
}

/// A file that is being written.
pub(crate) struct Writer {
    encoder: StreamWriter<Vec<u8>>,
    sink: Sink,
    pub(crate) bytes: u64,
    pub(crate) digest: blake3::Hasher,
}

enum Sink {
    Local(tokio::fs::File, PathBuf),
    Bucket(Box<Upload>),
}

impl Spool {
    pub(crate) fn new(state: &Path, bucket: Option<Bucket>) -> Self {
        Self { folder: state.join("spool"), bucket }
    }

    fn folder(&self, attempt: &AttemptId) -> PathBuf {
        self.folder.join(&blake3::hash(attempt.0.as_bytes()).to_hex()[..32])
    }

    /// A new file of this attempt.
    pub(crate) async fn create(&self, attempt: &AttemptId, schema: &SchemaRef) -> Result<Writer> {
        let name = format!("{}.arrow", uuid::Uuid::new_v4().simple());
        let sink = match &self.bucket {
            Some(bucket) => Sink::Bucket(Box::new(bucket.create(attempt, &name, "application/vnd.apache.arrow.stream").await?)),
            None => {
                let path = self.folder(attempt).join(name);
                let file = create(&path).await.map_err(|e| unusable(&path, e))?;
                Sink::Local(file, path)
            }
        };
        let encoder = StreamWriter::try_new(Vec::new(), schema).map_err(encoding)?;
        Ok(Writer { encoder, sink, bytes: 0, digest: blake3::Hasher::new() })
    }

    /// The rows of a file, batch by batch, in order. A file in a bucket is copied here first.
    ///
    /// Errors: `bigquery_staged_gone`.
    pub(crate) async fn read(&self, file: &str, format: Format) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let (path, copy) = match (file.starts_with("gs://"), &self.bucket) {
            (true, Some(bucket)) => {
                let path = self.folder.join(format!("{}.copy", uuid::Uuid::new_v4().simple()));
                tokio::fs::create_dir_all(&self.folder).await.map_err(|e| unusable(&self.folder, e))?;
                let copy = Copy(path.clone());
                bucket.download(file, &path).await?;
                (path, Some(copy))
            }
            (true, None) => {
                let missing = destination(codes::STAGING, format!("{file} cannot be read without a bucket"));
                return Err(missing.hint("set `staging` as it was when the rows were staged"));
            }
            (false, _) => (PathBuf::from(file), None),
        };
        let (sender, receiver) = mpsc::channel(AHEAD);
        tokio::task::spawn_blocking(move || {
            let _copy = copy;
            if let Err(error) = read_file(&path, &format, &sender) {
                // Whoever does not listen any more has failed already.
                let _ = sender.blocking_send(Err(error));
            }
        });
        Ok(stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|batch| (batch, receiver)) }).boxed())
    }

    /// Removes a file; one that is not there is fine.
    pub(crate) async fn remove(&self, file: &str) -> Result<()> {
        if file.starts_with("gs://") {
            return match &self.bucket {
                Some(bucket) => bucket.remove_uri(file).await,
                None => Ok(()),
            };
        }
        match tokio::fs::remove_file(file).await {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(unusable(Path::new(file), e)),
            _ => {
                // Goes with its last file.
                if let Some(folder) = Path::new(file).parent() {
                    let _ = tokio::fs::remove_dir(folder).await;
                }
                Ok(())
            }
        }
    }

    /// Removes everything local of an attempt; returns its bytes.
    pub(crate) async fn sweep(&self, attempt: &AttemptId) -> Result<u64> {
        let folder = self.folder(attempt);
        let bytes = std::fs::read_dir(&folder)
            .map(|entries| entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum())
            .unwrap_or_default();
        match tokio::fs::remove_dir_all(&folder).await {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(unusable(&folder, e)),
            _ => Ok(bytes),
        }
    }
}

impl Writer {
    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.encoder.write(batch).map_err(encoding)?;
        self.put().await
    }

    async fn put(&mut self) -> Result<()> {
        let bytes = std::mem::take(self.encoder.get_mut());
        self.bytes += bytes.len() as u64;
        self.digest.update(&bytes);
        match &mut self.sink {
            Sink::Local(file, path) => file.write_all(&bytes).await.map_err(|e| unusable(path, e)),
            Sink::Bucket(upload) => upload.put(bytes.into()).await,
        }
    }

    /// Makes it durable; returns its name.
    pub(crate) async fn finish(mut self) -> Result<(String, Self)> {
        self.encoder.finish().map_err(encoding)?;
        self.put().await?;
        let name = match &mut self.sink {
            Sink::Local(file, path) => {
                file.sync_all().await.map_err(|e| unusable(path, e))?;
                sync_folders(path).map_err(|e| unusable(path, e))?;
                path.display().to_string()
            }
            Sink::Bucket(upload) => {
                upload.finish().await?;
                upload.uri.clone()
            }
        };
        Ok((name, self))
    }
}

/// A copy of a file of the bucket, which goes when it was read.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn create(path: &Path) -> std::io::Result<tokio::fs::File> {
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    tokio::fs::File::create_new(path).await
}

/// The folder of the attempt, that of all attempts, and the store's know of the file.
fn sync_folders(path: &Path) -> std::io::Result<()> {
    path.ancestors().skip(1).take(3).try_for_each(|folder| File::open(folder)?.sync_all())
}

fn unusable(path: &Path, e: std::io::Error) -> Error {
    destination(codes::IO, format!("{} cannot be read or written", path.display())).caused_by(e)
}

/// Blocks. Ends early if nobody listens.
fn read_file(path: &Path, format: &Format, to: &mpsc::Sender<Result<RecordBatch>>) -> Result<()> {
    let file = File::open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => destination(codes::GONE, format!("{} is gone", path.display())).caused_by(e),
        _ => unusable(path, e),
    })?;
    match format {
        Format::Arrow => {
            let batches = StreamReader::try_new(BufReader::new(file), None).map_err(|e| damaged(path, e))?;
            pass_on(batches.map(|batch| batch.map_err(|e| damaged(path, e))), to)
        }
        Format::Parquet => {
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| damaged(path, e))?;
            let batches = reader.build().map_err(|e| damaged(path, e))?;
            pass_on(batches.map(|batch| batch.map_err(|e| damaged(path, e))), to)
        }
        Format::Avro(schema) => {
            let native = Native::new(schema);
            let reader = arrow_avro::reader::ReaderBuilder::new().build(BufReader::new(file)).map_err(|e| damaged(path, e))?;
            let batches = reader.map(|batch| native.cast(&batch.map_err(|e| damaged(path, e))?));
            pass_on(batches, to)
        }
        Format::Json(schema) => {
            let mut lines = BufReader::new(file).lines().peekable();
            let next = || {
                lines.peek()?;
                let objects = lines.by_ref().take(LINES).map(|line| {
                    let line = line.map_err(|e| unusable(path, e))?;
                    serde_json::from_str(&line).map_err(|e| damaged(path, e))
                });
                Some(objects.collect::<Result<Vec<_>>>().and_then(|objects| cells::from_objects(schema, &objects)))
            };
            pass_on(std::iter::from_fn(next), to)
        }
    }
    Ok(())
}

fn pass_on(batches: impl Iterator<Item = Result<RecordBatch>>, to: &mpsc::Sender<Result<RecordBatch>>) {
    for batch in batches {
        if to.blocking_send(batch).is_err() {
            return;
        }
    }
}

fn damaged(path: &Path, e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    bug(format!("{} is not as it was written", path.display())).caused_by(e)
}
