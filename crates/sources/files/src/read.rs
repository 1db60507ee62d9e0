//! The rows of one file.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use futures::stream::{self, BoxStream, StreamExt};
use longshore_core::batch::{Batch, Chunk, Item, Payload, Reject, Rows};
use longshore_core::error::{Error, Kind, Result, Retry};
use longshore_core::event::Events;
use longshore_core::lanes::in_lanes;
use longshore_core::source::{Context, Target};

use crate::chunks::{Part, Pass, last};
use crate::columns::Decoder;
use crate::config::OnBadRecord;
use crate::cut::{Format, Limits, RawChunk, empty_records};
use crate::error::{FILE_CHANGED, FILE_REJECTED};
use crate::input::digest;
use crate::source::{FilesSource, blocking};
use crate::split::{FileSplit, Refusal};
use crate::tape::Records;

/// Decodes a file's chunks, on any lane.
struct Lane {
    format: Arc<dyn Format>,
    tables: Vec<Table>,
    ignored: Ignored,
}

/// What becomes of the records of one of the file's tables.
struct Table {
    name: String,
    /// Whether they are to be read; if not, they landed before.
    read: bool,
    /// `None` for a table without columns: it can only have rejects.
    decoder: Option<Decoder>,
    decoding: Arc<serde_json::Value>,
}

/// Values of unknown columns that the contract drops. Told when the last lane is done.
struct Ignored {
    counts: Mutex<BTreeMap<String, u64>>,
    address: String,
    events: Events,
}

impl Drop for Ignored {
    fn drop(&mut self) {
        let counts = self.counts.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (column, count) in std::mem::take(counts) {
            self.events.warn(format!("{}: {count} values of the unknown column {column} were dropped", self.address));
        }
    }
}

impl Lane {
    fn decode(&self, chunk: &RawChunk) -> Result<Vec<Batch>> {
        let mut records = empty_records(&*self.format);
        self.format.parse(chunk, &mut records)?;
        let mut batches = Vec::with_capacity(records.len());
        for (table, records) in self.tables.iter().zip(records) {
            match &table.decoder {
                _ if !table.read => forget(records.rejects),
                Some(decoder) => {
                    let decoded = decoder.decode(records, &chunk.bytes)?;
                    batches.push(decoded.batch);
                    let mut counts = self.ignored.counts.lock().unwrap_or_else(PoisonError::into_inner);
                    for (column, count) in decoded.ignored {
                        *counts.entry(format!("{}.{column}", table.name)).or_default() += count;
                    }
                }
                None => batches.push(table.rejects_only(records)),
            }
        }
        Ok(batches)
    }
}

impl Table {
    fn rejects_only(&self, records: Records) -> Batch {
        let mut rejects = records.rejects;
        for reject in &mut rejects {
            reject.table = Some(self.name.clone());
            reject.decoding = Some(self.decoding.clone());
        }
        Batch { table: self.name.clone(), rows: no_rows(), rejects }
    }
}

/// Removes the files of records that nobody will keep.
fn forget(rejects: Vec<Reject>) {
    for reject in rejects {
        if let Payload::File { path, temporary: true, .. } = reject.payload {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn no_rows() -> Rows {
    Rows::Plain(RecordBatch::new_empty(Arc::new(Schema::empty())))
}

impl FilesSource {
    /// The chunks of one file; the last covers all of it.
    pub(crate) async fn read_file(
        &self,
        cx: &Context,
        file: FileSplit,
        targets: &BTreeMap<String, Target>,
    ) -> Result<BoxStream<'static, Result<Item>>> {
        let look = file.looked()?.clone();
        let (config, reopened) = (self.config.clone(), file.clone());
        let format = blocking(move || reopened.format(&config)).await?;
        let Some(format) = format else { return Ok(nothing(file, look.digest)) };
        let name: Arc<str> = file.address.as_str().into();
        let table = |(number, (table, read)): (usize, &(String, bool))| {
            let decoding = format.decoding(number);
            let target = targets.get(table).filter(|_| *read);
            let decoder = target.map(|target| Decoder::new(table, name.clone(), target, decoding.clone()));
            Table { name: table.clone(), read: *read, decoder, decoding: decoding.into() }
        };
        let tables = look.tables.iter().enumerate().map(table).collect();
        let ignored = Ignored { counts: Mutex::default(), address: file.address.clone(), events: cx.events.clone() };
        let lane = Arc::new(Lane { format, tables, ignored });
        if self.config.on_bad_record == OnBadRecord::RejectFile {
            let refusal = self.first_bad(cx, &file, lane.clone()).await?;
            let mut rejected = self.rejected.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(refusal) = refusal {
                let reject = file.reject(FILE_REJECTED.name, &refusal);
                rejected.insert(file.address.clone(), refusal);
                let batch = Batch { table: String::new(), rows: no_rows(), rejects: vec![reject] };
                return Ok(stream::iter([Ok(last(file.version.size, file.covers(), vec![batch]))]).boxed());
            }
            rejected.remove(&file.address);
        }
        let parts = self.read_pass(cx, &file, lane.format.clone(), true).parts();
        Ok(parts.map(move |part| item(part?, &lane, &file, &look.digest)).boxed())
    }

    fn read_pass(&self, cx: &Context, file: &FileSplit, format: Arc<dyn Format>, keep_payloads: bool) -> Pass {
        let mut limits = Limits::for_memory(cx.budget.total(), &self.spool);
        limits.keep_payloads = keep_payloads;
        Pass {
            path: file.path.clone(),
            version: file.version.clone(),
            format,
            limits,
            budget: cx.budget.clone(),
            stop: cx.stop.clone(),
            digest: keep_payloads,
        }
    }

    /// Decodes the whole file and forgets it; why its first bad record is bad, if there is one.
    async fn first_bad(&self, cx: &Context, file: &FileSplit, lane: Arc<Lane>) -> Result<Option<Refusal>> {
        let parts = self.read_pass(cx, file, lane.format.clone(), false).parts();
        let mut results = in_lanes(parts, cx.lanes, move |part| {
            let Part::Chunk { chunk, permit, .. } = part else { return Ok(None) };
            let batches = lane.decode(&chunk)?;
            drop(permit);
            let rejects = batches.into_iter().flat_map(|batch| batch.rejects);
            Ok(rejects.min_by_key(|reject| reject.index))
        });
        while let Some(result) = results.next().await {
            if let Some(reject) = result? {
                let reason = format!("the record at {} does not fit ({}): {}", reject.place, reject.code, reject.reason);
                return Ok(Some(Refusal { code: FILE_REJECTED.name.to_owned(), reason, place: reject.place }));
            }
        }
        Ok(None)
    }
}

fn item(part: Part, lane: &Arc<Lane>, file: &FileSplit, digest: &str) -> Result<Item> {
    match part {
        Part::Chunk { chunk, raw_bytes, permit } => {
            let lane = lane.clone();
            let decode = Box::new(move || lane.decode(&chunk));
            Ok(Item::Chunk(Chunk { bytes: raw_bytes, decode, covers: None, permit: Some(permit) }))
        }
        Part::End { digest: read, raw_bytes } if read == digest => Ok(last(raw_bytes, file.covers(), Vec::new())),
        Part::End { .. } => Err(differs(file)),
    }
}

/// A file without records: nothing but what it covers, if it still is what it was.
fn nothing(file: FileSplit, expected: String) -> BoxStream<'static, Result<Item>> {
    stream::once(async move {
        let path = file.path.clone();
        if blocking(move || digest(&path)).await? != expected {
            return Err(differs(&file));
        }
        Ok(last(file.version.size, file.covers(), Vec::new()))
    })
    .boxed()
}

fn differs(file: &FileSplit) -> Error {
    let what = format!("{} holds other bytes than when it was looked at", file.address);
    Error::new(Kind::Source, FILE_CHANGED, what).with_retry(Retry::Backoff)
}
