//! The in-memory twin of a source with positions: partitions of numbered records, some of which do not fit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Int64Array, RecordBatch, StringArray};
use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use longshore_core::Result;
use longshore_core::batch::{Batch, Chunk, Item, Payload, Reject, Rows, Unit};
use longshore_core::error::{Error, Kind, Place, code};
use longshore_core::position::{Covers, Delta, Partition, Position};
use longshore_core::schema::{Field, TableSchema, Type};
use longshore_core::source::{Context, Description, Source, Split, Splits, Target};
use longshore_core::store::{FileLedger, Store};

/// Records in a chunk.
const CHUNK: u64 = 10;

/// A source of partitions of records `0, 1, 2 ...`. Record `i` goes to the table `t<i % tables>`; a record that
/// `is_bad` says so of becomes a reject.
pub struct MemorySource {
    store: Arc<dyn Store>,
    tables: u64,
    is_bad: fn(u64) -> bool,
    partitions: Mutex<BTreeMap<String, u64>>,
    acknowledged: Mutex<Vec<serde_json::Value>>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Range {
    partition: String,
    from: Option<u64>,
    to: u64,
}

impl MemorySource {
    /// A source without records whose positions are in this store.
    pub fn new(store: Arc<dyn Store>, tables: u64, is_bad: fn(u64) -> bool) -> Self {
        Self { store, tables, is_bad, partitions: Mutex::default(), acknowledged: Mutex::default() }
    }

    /// Makes a partition hold so many records.
    pub fn grow(&self, partition: &str, records: u64) {
        lock(&self.partitions).insert(partition.to_owned(), records);
    }

    /// What was acknowledged, in order, repetitions included.
    pub fn acknowledged(&self) -> Vec<serde_json::Value> {
        lock(&self.acknowledged).clone()
    }

    /// The table of a record.
    pub fn table(&self, record: u64) -> String {
        format!("t{}", record % self.tables)
    }

    /// The columns of every table.
    pub fn schema() -> TableSchema {
        TableSchema::new(vec![Field::new("partition", Type::String), Field::new("id", Type::Int64)])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn range(split: &Split) -> Result<Range> {
    serde_json::from_value(split.payload.clone())
        .map_err(|e| Error::new(Kind::Bug, code::BUG, "not a split of this source").caused_by(e))
}

#[async_trait]
impl Source for MemorySource {
    async fn splits(&self, cx: &Context, _: &dyn FileLedger) -> Result<Splits> {
        let partitions = lock(&self.partitions).clone();
        let mut splits = Vec::new();
        for (partition, to) in partitions {
            let position = self.store.position(&cx.pipeline, &Partition(partition.clone())).await?;
            let from = position.and_then(|position| position.0.parse().ok());
            if from.unwrap_or(0) < to {
                let payload = serde_json::json!(Range { partition: partition.clone(), from, to });
                splits.push(Split { name: partition, bytes: to - from.unwrap_or(0), payload });
            }
        }
        Ok(Splits { splits, skipped: Vec::new() })
    }

    async fn describe(&self, _: &Context, splits: Vec<Split>, _: &dyn FileLedger) -> Result<Description> {
        let tables = (0..self.tables).map(|i| (self.table(i), Self::schema())).collect();
        Ok(Description { tables, splits, ..Description::default() })
    }

    async fn read(&self, cx: &Context, split: &Split, _: &BTreeMap<String, Target>) -> Result<BoxStream<'static, Result<Item>>> {
        let Range { partition, from, to } = range(split)?;
        let covers = self.covers(split);
        let (tables, is_bad, budget) = (self.tables, self.is_bad, cx.budget.clone());
        let starts: Vec<u64> = (from.unwrap_or(0)..to).step_by(CHUNK as usize).collect();
        let items = futures::stream::iter(starts).then(move |start| {
            let (partition, covers, budget) = (partition.clone(), covers.clone(), budget.clone());
            async move {
                let end = (start + CHUNK).min(to);
                let permit = Some(budget.take(end - start).await);
                let decode = Box::new(move || decode(&partition, start..end, tables, is_bad));
                Ok(Item::Chunk(Chunk { bytes: end - start, decode, covers: (end == to).then_some(covers), permit }))
            }
        });
        Ok(items.boxed())
    }

    async fn acknowledge(&self, _: &Context, what: &serde_json::Value) -> Result<()> {
        lock(&self.acknowledged).push(what.clone());
        Ok(())
    }

    fn acknowledgement(&self, splits: &[Split]) -> Option<serde_json::Value> {
        Some(splits.iter().map(|split| split.payload.clone()).collect())
    }

    fn covers(&self, split: &Split) -> Covers {
        match range(split) {
            Ok(Range { partition, from, to }) => Covers::Deltas(vec![Delta {
                partition: Partition(partition),
                from: from.map(Position::from_count),
                to: Position::from_count(to),
            }]),
            Err(_) => Covers::Deltas(Vec::new()),
        }
    }
}

fn decode(partition: &str, records: std::ops::Range<u64>, tables: u64, is_bad: fn(u64) -> bool) -> Result<Vec<Batch>> {
    let mut batches = Vec::new();
    for t in 0..tables {
        let (bad, good): (Vec<u64>, Vec<u64>) = records.clone().filter(|i| i % tables == t).partition(|&i| is_bad(i));
        let table = format!("t{t}");
        let ids = Int64Array::from_iter_values(good.iter().map(|&i| i as i64));
        let partitions = StringArray::from(vec![partition; good.len()]);
        let rows = RecordBatch::try_new(MemorySource::schema().to_arrow(), vec![Arc::new(partitions), Arc::new(ids)])
            .map_err(|e| Error::new(Kind::Bug, code::BUG, "twin rows").caused_by(e))?;
        let rejects = bad
            .into_iter()
            .map(|index| Reject {
                unit: Unit::Message,
                table: Some(table.clone()),
                payload: Payload::Inline(format!("{partition}/{index}").into_bytes()),
                code: code::TYPE_MISMATCH.name,
                reason: "bad on purpose".into(),
                place: Place { file: partition.to_owned(), line: Some(index + 1), column: None },
                field: None,
                decoding: None,
                index,
            })
            .collect();
        batches.push(Batch { table, rows: Rows::Plain(rows), rejects });
    }
    Ok(batches)
}
