//! What every source must pass.
//!
//! A scene makes a fresh source whose records each carry an id; the list reads it in several ways and compares.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use longshore_core::Result;
use longshore_core::batch::{Item, Rows};
use longshore_core::budget::Budget;
use longshore_core::event::Events;
use longshore_core::position::Covers;
use longshore_core::source::{Context, Source, Split, Target};
use longshore_core::stop::Stop;
use longshore_core::store::FileLedger;

/// A source with something to read.
pub struct Scene {
    /// The source.
    pub source: Arc<dyn Source>,
    /// The ledger that it asks.
    pub ledger: Arc<dyn FileLedger>,
    /// The pipeline that it reads for.
    pub pipeline: String,
    /// How many records it has in all, good and bad.
    pub records: u64,
}

/// Everything that one reading gave.
#[derive(Debug, PartialEq)]
struct Reading {
    /// Rows of each table, printed, in order.
    rows: BTreeMap<String, Vec<String>>,
    /// Code and place of each reject, in order.
    rejects: Vec<String>,
    covers: Vec<Covers>,
}

fn context(scene: &Scene, lanes: usize, memory: u64) -> Context {
    Context {
        pipeline: scene.pipeline.clone(),
        run: "conformance".into(),
        budget: Budget::new(memory),
        lanes,
        events: Events::silent(),
        stop: Stop::default(),
    }
}

/// Runs the whole list. `make` gives a scene with equal content each time.
pub async fn check_all(make: impl Fn() -> Scene) {
    every_record_is_a_row_or_a_reject(&make()).await;
    the_result_does_not_depend_on_lanes_or_memory(&make()).await;
    a_split_survives_serialisation(&make()).await;
    the_last_chunk_covers_the_split(&make()).await;
    acknowledging_twice_is_harmless(&make()).await;
    reading_twice_gives_the_same(&make()).await;
}

async fn described(scene: &Scene, cx: &Context) -> Result<(Vec<Split>, BTreeMap<String, Target>)> {
    let found = scene.source.splits(cx, scene.ledger.as_ref()).await?;
    let description = scene.source.describe(cx, found.splits, scene.ledger.as_ref()).await?;
    assert!(description.refused.is_empty(), "the scene has no unreadable input");
    let targets = description.tables.into_iter().map(|(table, schema)| (table, Target { schema, contract: Default::default() }));
    Ok((description.splits, targets.collect()))
}

async fn read(scene: &Scene, cx: &Context, splits: &[Split], targets: &BTreeMap<String, Target>) -> Result<Reading> {
    let mut reading = Reading { rows: BTreeMap::new(), rejects: Vec::new(), covers: Vec::new() };
    for split in splits {
        let mut items = scene.source.read(cx, split, targets).await?;
        while let Some(item) = items.next().await {
            let Item::Chunk(chunk) = item? else { continue };
            for batch in (chunk.decode)()? {
                reading.rejects.extend(batch.rejects.iter().map(|r| format!("{} {}", r.code, r.place)));
                if let Rows::Plain(rows) = batch.rows {
                    assert_eq!(rows.schema(), targets[&batch.table].schema.to_arrow(), "rows are in the table's columns");
                    reading.rows.entry(batch.table).or_default().extend(print(&rows));
                }
            }
            reading.covers.extend(chunk.covers);
        }
    }
    Ok(reading)
}

fn print(rows: &arrow::array::RecordBatch) -> Vec<String> {
    let options = arrow::util::display::FormatOptions::default();
    let columns: Vec<_> = rows
        .columns()
        .iter()
        .map(|column| arrow::util::display::ArrayFormatter::try_new(column, &options).expect("a column that can be printed"))
        .collect();
    (0..rows.num_rows()).map(|i| columns.iter().map(|c| c.value(i).to_string()).collect::<Vec<_>>().join("|")).collect()
}

async fn reading(scene: &Scene, lanes: usize, memory: u64) -> Reading {
    let cx = context(scene, lanes, memory);
    let (splits, targets) = described(scene, &cx).await.expect("described");
    read(scene, &cx, &splits, &targets).await.expect("read")
}

async fn every_record_is_a_row_or_a_reject(scene: &Scene) {
    let reading = reading(scene, 2, 64 << 20).await;
    let rows: usize = reading.rows.values().map(Vec::len).sum();
    assert_eq!((rows + reading.rejects.len()) as u64, scene.records, "every record is a row or a reject");
}

async fn the_result_does_not_depend_on_lanes_or_memory(scene: &Scene) {
    assert_eq!(reading(scene, 1, 8 << 20).await, reading(scene, 7, 256 << 20).await);
}

async fn a_split_survives_serialisation(scene: &Scene) {
    let cx = context(scene, 2, 64 << 20);
    let (splits, targets) = described(scene, &cx).await.expect("described");
    let text = serde_json::to_string(&splits).expect("to JSON");
    let back: Vec<Split> = serde_json::from_str(&text).expect("from JSON");
    assert_eq!(back, splits);
    let there = read(scene, &cx, &splits, &targets).await.expect("read");
    assert_eq!(there, read(scene, &cx, &back, &targets).await.expect("read"));
}

async fn the_last_chunk_covers_the_split(scene: &Scene) {
    let cx = context(scene, 2, 64 << 20);
    let (splits, targets) = described(scene, &cx).await.expect("described");
    for split in &splits {
        let reading = read(scene, &cx, std::slice::from_ref(split), &targets).await.expect("read");
        assert_eq!(reading.covers, [scene.source.covers(split)], "{}", split.name);
    }
}

async fn acknowledging_twice_is_harmless(scene: &Scene) {
    let cx = context(scene, 2, 64 << 20);
    let (splits, _) = described(scene, &cx).await.expect("described");
    if let Some(what) = scene.source.acknowledgement(&splits) {
        scene.source.acknowledge(&cx, &what).await.expect("once");
        scene.source.acknowledge(&cx, &what).await.expect("twice");
    }
}

async fn reading_twice_gives_the_same(scene: &Scene) {
    assert_eq!(reading(scene, 2, 64 << 20).await, reading(scene, 2, 64 << 20).await);
}
