//! Batches to Parquet files that no log names yet. Runs on a blocking thread.
//!
//! Memory stays flat whatever is staged: a file's row group is written out at [`ROW_GROUP_BYTES`], earlier if all files being
//! written in this process together hold more than [`ALL_BYTES`]; at most [`OPEN_FILES`] partitions are open at once.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, SchemaRef};
use longshore_core::{Error, Result};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::conform::conform;
use crate::error::{self, bug, codes, destination};
use crate::partition::{self, PartitionColumn, Values};
use crate::stage::StagedFile;
use crate::stats;
use crate::storage::{Sink, Storage};

const ROW_GROUP_BYTES: usize = 16 << 20;
const ROW_GROUP_ROWS: usize = 256 << 10;
const ALL_BYTES: usize = 64 << 20;
/// A row group below this is not written out early: tiny ones make a file slow to read.
const LEAST_BYTES: usize = 1 << 20;
const FILE_BYTES: usize = 256 << 20;
const OPEN_FILES: usize = 64;
const SLICE_ROWS: usize = 16 << 10;
const DICTIONARY_BYTES: usize = 512 << 10;

/// Bytes that the files being written in this process hold in memory.
pub(crate) type Held = Arc<AtomicUsize>;

/// What the files of one call of `stage` have in common.
pub(crate) struct Layout {
    /// The table's folder.
    pub table: String,
    /// How the names of its files begin: `part-<attempt>-`.
    pub prefix: String,
    /// The columns of a file, in the table's order, without those of partitions.
    pub schema: SchemaRef,
    /// The columns of partitions.
    pub partitions: Vec<PartitionColumn>,
    /// The columns that have statistics.
    pub indexed: Vec<Field>,
}

/// Writes the rows of one call of `stage`.
pub(crate) struct Encoder {
    storage: Storage,
    layout: Layout,
    held: Held,
    open: BTreeMap<Values, OpenFile>,
    done: Vec<StagedFile>,
    /// Every file created, to be removed if this comes to nothing.
    created: Vec<String>,
    turn: u64,
}

struct OpenFile {
    writer: ArrowWriter<Hashing>,
    path: String,
    rows: u64,
    memory: usize,
    used: u64,
}

/// Counts and digests what passes.
struct Hashing {
    sink: Box<dyn Sink>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.sink.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

impl Encoder {
    /// An encoder that has written nothing yet.
    pub(crate) fn new(storage: Storage, layout: Layout, held: Held) -> Self {
        Self { storage, layout, held, open: BTreeMap::new(), done: Vec::new(), created: Vec::new(), turn: 0 }
    }

    /// Takes the rows of a batch in the plan's columns.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        for (values, rows) in partition::split(batch, &self.layout.partitions)? {
            let columns = self
                .layout
                .schema
                .fields()
                .iter()
                .map(|field| {
                    let column = rows
                        .column_by_name(field.name())
                        .ok_or_else(|| bug(format!("a batch for {} lacks the column {}", self.layout.table, field.name())))?;
                    conform(column, field.data_type(), field.name())
                })
                .collect::<Result<Vec<ArrayRef>>>()?;
            let rows = RecordBatch::try_new(self.layout.schema.clone(), columns).map_err(|e| {
                destination(codes::VALUE_DOES_NOT_FIT, format!("rows do not fit {}: {}", self.layout.table, error::first_line(e)))
            })?;
            let mut from = 0;
            while from < rows.num_rows() {
                let slice = rows.slice(from, SLICE_ROWS.min(rows.num_rows() - from));
                from += slice.num_rows();
                self.write_slice(&values, &slice)?;
            }
        }
        Ok(())
    }

    fn write_slice(&mut self, values: &Values, rows: &RecordBatch) -> Result<()> {
        self.turn += 1;
        if !self.open.contains_key(values) {
            self.make_room()?;
            let file = self.create(values)?;
            self.open.insert(values.clone(), file);
        }
        let Some(file) = self.open.get_mut(values) else { return Err(bug("an open file was lost")) };
        file.used = self.turn;
        file.rows += rows.num_rows() as u64;
        file.writer.write(rows).map_err(|e| failed(&self.storage, &file.path, e))?;
        if file.writer.in_progress_size() >= ROW_GROUP_BYTES {
            file.writer.flush().map_err(|e| failed(&self.storage, &file.path, e))?;
        }
        file.note_memory(&self.held);
        let large = file.writer.bytes_written() + file.writer.in_progress_size() >= FILE_BYTES;
        if large {
            self.close(&values.clone())?;
        }
        self.shrink()
    }

    /// Writes out our largest row groups while all files together hold too much.
    fn shrink(&mut self) -> Result<()> {
        while self.held.load(Ordering::Relaxed) > ALL_BYTES {
            let largest = self.open.values_mut().max_by_key(|file| file.memory);
            let Some(file) = largest.filter(|file| file.memory >= LEAST_BYTES) else { break };
            file.writer.flush().map_err(|e| failed(&self.storage, &file.path, e))?;
            file.note_memory(&self.held);
        }
        Ok(())
    }

    /// Closes the partition that has not been written to for longest, if too many are open.
    fn make_room(&mut self) -> Result<()> {
        while self.open.len() >= OPEN_FILES {
            let Some(oldest) = self.open.iter().min_by_key(|(_, file)| file.used).map(|(values, _)| values.clone()) else {
                break;
            };
            self.close(&oldest)?;
        }
        Ok(())
    }

    fn create(&mut self, values: &Values) -> Result<OpenFile> {
        let folder = partition::folder(&self.layout.partitions, values);
        let name = uuid::Uuid::new_v4().simple();
        let path = format!("{}/{folder}{}{name}.parquet", self.layout.table, self.layout.prefix);
        self.created.push(path.clone());
        let sink = Hashing { sink: self.storage.create(&path)?, hasher: blake3::Hasher::new(), bytes: 0 };
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_dictionary_page_size_limit(DICTIONARY_BYTES)
            .set_created_by(format!("longshore {}", env!("CARGO_PKG_VERSION")))
            .build();
        // The log says what the columns are: Arrow's own copy of the schema would only lengthen each file.
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(sink, self.layout.schema.clone(), options);
        let writer = writer.map_err(|e| failed(&self.storage, &path, e))?;
        Ok(OpenFile { writer, path, rows: 0, memory: 0, used: self.turn })
    }

    fn close(&mut self, values: &Values) -> Result<()> {
        let Some(mut file) = self.open.remove(values) else { return Ok(()) };
        file.release(&self.held);
        let metadata = file.writer.finish().map_err(|e| failed(&self.storage, &file.path, e))?;
        let hashing = file.writer.inner_mut();
        let address = self.storage.address(&file.path).display().to_string();
        hashing.sink.flush().and_then(|()| hashing.sink.sync()).map_err(|e| error::io("sync", &address, e))?;
        let indexed: Vec<&Field> = self.layout.indexed.iter().collect();
        let path = file.path.strip_prefix(&format!("{}/", self.layout.table)).unwrap_or(&file.path);
        self.done.push(StagedFile {
            path: path.to_owned(),
            size: hashing.bytes,
            rows: file.rows,
            partition_values: self.layout.partitions.iter().map(|c| c.name.clone()).zip(values.iter().cloned()).collect(),
            stats: stats::of_file(&metadata, &indexed),
            digest: hashing.hasher.finalize().to_hex().to_string(),
        });
        Ok(())
    }

    /// Closes and syncs every file and the folders that name them. What comes back is durable.
    pub(crate) fn finish(&mut self) -> Result<Vec<StagedFile>> {
        let open: Vec<Values> = self.open.keys().cloned().collect();
        open.iter().try_for_each(|values| self.close(values))?;
        let mut folders: Vec<String> = Vec::new();
        for path in &self.created {
            let mut dir = path.as_str();
            while let Some((above, _)) = dir.rsplit_once('/').filter(|(above, _)| above.len() >= self.layout.table.len()) {
                folders.push(above.to_owned());
                dir = above;
            }
        }
        folders.sort();
        folders.dedup();
        folders.iter().try_for_each(|folder| self.storage.sync_dir(folder))?;
        self.created.clear();
        Ok(std::mem::take(&mut self.done))
    }
}

impl Drop for Encoder {
    /// Removes what was written, if it did not come to an end. Best effort: the sweep finds what is left.
    fn drop(&mut self) {
        for file in self.open.values_mut() {
            file.release(&self.held);
        }
        self.open.clear();
        for path in &self.created {
            let _ = self.storage.delete(path);
        }
    }
}

impl OpenFile {
    fn note_memory(&mut self, held: &Held) {
        let now = self.writer.memory_size();
        held.fetch_add(now, Ordering::Relaxed);
        held.fetch_sub(self.memory, Ordering::Relaxed);
        self.memory = now;
    }

    fn release(&mut self, held: &Held) {
        held.fetch_sub(self.memory, Ordering::Relaxed);
        self.memory = 0;
    }
}

/// The error underneath Parquet's: mostly one of the disk.
fn failed(storage: &Storage, path: &str, parquet: ParquetError) -> Error {
    let address = storage.address(path).display().to_string();
    match parquet {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(io) => error::io("write", &address, *io),
            Err(other) => destination(codes::IO, format!("cannot write {address}: {}", error::first_line(other))),
        },
        other => destination(codes::IO, format!("cannot write {address}: {}", error::first_line(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::BinaryArray;
    use arrow::datatypes::{DataType, Schema};

    #[test]
    fn many_files_at_once_hold_no_more_than_their_share_of_memory() {
        const BATCH: usize = 1 << 20;
        let folder = tempfile::tempdir().expect("a folder");
        let storage = Storage::open(folder.path()).expect("opens");
        let schema = Arc::new(Schema::new(vec![Field::new("b", DataType::Binary, true)]));
        let held: Held = Arc::default();
        let mut encoders: Vec<Encoder> = (0..10)
            .map(|i| {
                let layout = Layout {
                    table: format!("d/t{i}"),
                    prefix: "part-a-".into(),
                    schema: schema.clone(),
                    partitions: Vec::new(),
                    indexed: Vec::new(),
                };
                Encoder::new(storage.clone(), layout, held.clone())
            })
            .collect();
        let mut random = blake3::Hasher::new().finalize_xof();
        let mut highest = 0;
        // Ten files of 14 MiB that cannot be compressed: none fills a row group by itself.
        for _ in 0..14 {
            for encoder in &mut encoders {
                let mut bytes = vec![0; BATCH];
                random.fill(&mut bytes);
                let array: ArrayRef = Arc::new(BinaryArray::from_iter_values(bytes.chunks(1024)));
                encoder.write(&RecordBatch::try_new(schema.clone(), vec![array]).expect("a batch")).expect("writes");
                highest = highest.max(held.load(Ordering::Relaxed));
            }
        }
        assert!(highest > ALL_BYTES / 2, "{highest} bytes say that nothing was counted");
        assert!(highest <= ALL_BYTES + 4 * BATCH, "{highest} bytes were held at once");
        let rows: u64 = encoders.iter_mut().flat_map(|e| e.finish().expect("finishes")).map(|file| file.rows).sum();
        assert_eq!(rows, 10 * 14 * 1024);
        assert_eq!(held.load(Ordering::Relaxed), 0);
    }
}
