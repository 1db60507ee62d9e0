//! Dead letters as a source: payloads that are decoded again, each by itself.
//!
//! A letter whose record fits now lands and is covered by its id; the commit that lands it closes it. One that still does not fit is
//! covered by nothing: it stays open, as it was, and no new letter is made for it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use longshore_core::batch::{Batch, Chunk, Item, Payload, Rows};
use longshore_core::commit::DEAD_LETTERS;
use longshore_core::error::{Error, Kind, Result, code};
pub use longshore_core::letters::{Letter, Letters};
use longshore_core::position::Covers;
use longshore_core::source::{Context, Description, Source, Split, Splits, Target};
use longshore_core::store::FileLedger;

use crate::columns::Decoder;
use crate::config::FilesConfig;
use crate::csv::CsvFormat;
use crate::cut::{Format, Limits, RawChunk, empty_records};
use crate::json::JsonFormat;
use crate::shape::{Overrides, Shape};
use crate::source::blocking;
use crate::tape::Records;
use crate::xml::cut::XmlFormat;

/// Payload bytes that are decoded together.
const SPLIT_BYTES: u64 = 4 << 20;
/// Letters that are decoded together.
const SPLIT_LETTERS: usize = 1000;
/// Letters that are told one by one when they stay open.
const TOLD: usize = 5;

/// Reads dead letters.
pub struct ReplaySource {
    letters: Arc<dyn Letters>,
    spool: PathBuf,
    kept: Mutex<BTreeMap<String, String>>,
}

/// A letter's record, parsed.
struct Parsed {
    id: String,
    table: String,
    decoding: serde_json::Value,
    chunk: RawChunk,
    records: Records,
}

impl ReplaySource {
    /// A source of these letters. `spool` is a folder for temporary files.
    pub fn new(letters: Arc<dyn Letters>, spool: PathBuf) -> Self {
        Self { letters, spool, kept: Mutex::default() }
    }

    /// The letters that stay open because they still do not fit, and why.
    pub fn kept(&self) -> BTreeMap<String, String> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, cx: &Context, id: &str, reason: String) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < TOLD && !kept.contains_key(id) {
            cx.events.warn(format!("dead letter {id} stays open: {reason}"));
        }
        kept.insert(id.to_owned(), reason);
    }

    /// The letters of a split, parsed; those that cannot be are kept open.
    async fn parsed(&self, cx: &Context, split: &Split) -> Result<Vec<Parsed>> {
        let ids: Vec<String> = serde_json::from_value(split.payload.clone())
            .map_err(|e| Error::new(Kind::Bug, code::BUG, "a split of dead letters cannot be read").caused_by(e))?;
        let letters = self.letters.fetch(&ids).await?;
        let limits = Limits { keep_payloads: false, ..Limits::for_memory(cx.budget.total(), &self.spool) };
        let parse = move || letters.into_iter().map(|letter| parse(letter, &limits)).collect::<Vec<_>>();
        let results = blocking(move || Ok(parse())).await?;
        let mut parsed = Vec::with_capacity(results.len());
        for result in results {
            match result {
                Ok(record) => parsed.push(record),
                Err((id, reason)) => self.keep(cx, &id, reason),
            }
        }
        Ok(parsed)
    }

    /// Decodes what was parsed: rows by table, and the ids of the letters that became rows.
    fn decode(&self, cx: &Context, parsed: Vec<Parsed>, targets: &BTreeMap<String, Target>) -> Result<(Vec<Batch>, Vec<String>)> {
        let mut decoders: BTreeMap<(String, String), Decoder> = BTreeMap::new();
        let mut rows: BTreeMap<String, Vec<RecordBatch>> = BTreeMap::new();
        let mut ids = Vec::new();
        for Parsed { id, table, decoding, chunk, records } in parsed {
            let Some(target) = targets.get(&table) else {
                self.keep(cx, &id, "the record has no value at all".to_owned());
                continue;
            };
            let decoder = decoders
                .entry((table.clone(), decoding.to_string()))
                .or_insert_with(|| Decoder::new(&table, id.as_str().into(), target, decoding));
            let decoded = decoder.decode(records, &chunk.bytes)?;
            if let Some(reject) = decoded.batch.rejects.into_iter().next() {
                self.keep(cx, &id, reject.reason);
                continue;
            }
            for (column, count) in decoded.ignored {
                cx.events.warn(format!("{id}: {count} values of the unknown column {column} were dropped"));
            }
            if let Rows::Plain(batch) = decoded.batch.rows {
                rows.entry(table).or_default().push(batch);
            }
            ids.push(id);
        }
        let mut batches = Vec::with_capacity(rows.len());
        for (table, rows) in rows {
            let all = arrow::compute::concat_batches(rows[0].schema_ref(), &rows)
                .map_err(|e| Error::new(Kind::Bug, code::BUG, "rows of one table do not go together").caused_by(e))?;
            batches.push(Batch { table, rows: Rows::Plain(all), rejects: Vec::new() });
        }
        // Corrected or dropped columns may let a letter fit that did not when it was looked at.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        ids.iter().for_each(|id| drop(kept.remove(id)));
        Ok((batches, ids))
    }
}

#[async_trait]
impl Source for ReplaySource {
    async fn splits(&self, _cx: &Context, _ledger: &dyn FileLedger) -> Result<Splits> {
        let mut groups: Vec<(Vec<String>, u64)> = Vec::new();
        for (id, bytes) in self.letters.open().await? {
            match groups.last_mut() {
                Some((ids, sum)) if ids.len() < SPLIT_LETTERS && *sum + bytes <= SPLIT_BYTES => {
                    ids.push(id);
                    *sum += bytes;
                }
                _ => groups.push((vec![id], bytes)),
            }
        }
        let split = |(ids, bytes): (Vec<String>, u64)| Split { name: ids[0].clone(), bytes, payload: serde_json::json!(ids) };
        Ok(Splits { splits: groups.into_iter().map(split).collect(), skipped: Vec::new() })
    }

    async fn describe(&self, cx: &Context, splits: Vec<Split>, _ledger: &dyn FileLedger) -> Result<Description> {
        let mut shapes: BTreeMap<String, Shape> = BTreeMap::new();
        for split in &splits {
            for record in self.parsed(cx, split).await? {
                shapes.entry(record.table).or_default().observe_all(&record.records);
            }
        }
        let mut found = Description { splits, ..Description::default() };
        for (table, shape) in shapes {
            let schema = shape.resolve(&Overrides::for_table(&FilesConfig::default(), &table)?)?;
            if !schema.fields.is_empty() {
                found.tables.insert(table, schema);
            }
        }
        Ok(found)
    }

    async fn read(
        &self,
        cx: &Context,
        split: &Split,
        targets: &BTreeMap<String, Target>,
    ) -> Result<BoxStream<'static, Result<Item>>> {
        let permit = cx.budget.take(split.bytes).await;
        let parsed = self.parsed(cx, split).await?;
        let (batches, ids) = self.decode(cx, parsed, targets)?;
        let covers = (!ids.is_empty()).then(|| Covers::Ids { scope: DEAD_LETTERS.to_owned(), ids });
        let decode = Box::new(move || Ok(batches));
        let chunk = Chunk { bytes: split.bytes, decode, covers, permit: Some(permit) };
        Ok(stream::once(async move { Ok(Item::Chunk(chunk)) }).boxed())
    }

    async fn acknowledge(&self, _cx: &Context, _what: &serde_json::Value) -> Result<()> {
        Ok(())
    }

    fn covers(&self, _split: &Split) -> Covers {
        // A letter is covered by its id once it has become a row, never as part of a split.
        Covers::Ids { scope: DEAD_LETTERS.to_owned(), ids: Vec::new() }
    }
}

/// The record of a letter, or its id and why it cannot be replayed.
fn parse(letter: Letter, limits: &Limits) -> Result<Parsed, (String, String)> {
    let Letter { id, table, payload, decoding, .. } = letter;
    let wrong = |reason: String| (id.clone(), reason);
    let (Some(table), Some(decoding)) = (table, decoding) else {
        return Err(wrong("it is a whole file: correct the file and load it again, then drop this dead letter".to_owned()));
    };
    let bytes = bytes_of(payload, limits.max_record).map_err(wrong)?;
    let format = format(&id, &decoding).map_err(|e| wrong(e.to_string()))?;
    let (chunk, records) = one_record(&*format, bytes, limits).map_err(wrong)?;
    Ok(Parsed { id, table, decoding, chunk, records })
}

fn bytes_of(payload: Payload, most: usize) -> Result<Vec<u8>, String> {
    let (path, length) = match payload {
        Payload::Inline(bytes) => return Ok(bytes),
        Payload::File { path, length, .. } => (path, length),
    };
    if length > most as u64 {
        return Err(format!(
            "the record has {length} bytes, more than the {most} that fit a quarter of the memory; raise --memory"
        ));
    }
    let read = |path: &Path| {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(length).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    read(&path).map_err(|e| format!("its payload cannot be read from {}: {e}", path.display()))
}

fn format(id: &str, decoding: &serde_json::Value) -> Result<Box<dyn Format>> {
    let unknown = || {
        let what = format!("dead letter {id} does not say how its payload is written");
        Error::new(Kind::Source, code::CONFIG, what).with("decoding", decoding)
    };
    Ok(match decoding["format"].as_str() {
        Some("json") => Box::new(JsonFormat::for_replay(id.into())),
        Some("csv") => Box::new(CsvFormat::for_replay(id.into(), decoding)?),
        Some("xml") => Box::new(XmlFormat::replay(id, decoding).ok_or_else(unknown)?),
        _ => return Err(unknown()),
    })
}

/// The only record of a payload.
fn one_record(format: &dyn Format, bytes: Vec<u8>, limits: &Limits) -> Result<(RawChunk, Records), String> {
    let mut cutter = format.cutter(Box::new(std::io::Cursor::new(bytes)), limits);
    let mut found = None;
    while let Some(chunk) = cutter.next().map_err(|e| e.to_string())? {
        let mut records = empty_records(format);
        format.parse(&chunk, &mut records).map_err(|e| e.to_string())?;
        let mut records = records.pop().unwrap_or_default();
        if let Some(reject) = records.rejects.pop() {
            return Err(reject.reason);
        }
        match records.rows.len() {
            0 => {}
            1 if found.is_none() => found = Some((chunk, records)),
            _ => return Err("its payload holds several records; a dead letter stands for one".to_owned()),
        }
    }
    found.ok_or_else(|| "its payload holds no record".to_owned())
}
