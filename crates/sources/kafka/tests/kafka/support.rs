//! A worker that lands what it reads in memory, by the journal's rules.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use longshore_core::batch::Rows;
use longshore_core::budget::Budget;
use longshore_core::commit::Contract;
use longshore_core::event::{Events, Observer, RunEvent};
use longshore_core::position::{Checkpoint, Covers, Delta, Partition, Position};
use longshore_core::schema::{Field, TableSchema, Type};
use longshore_core::source::{Context, Target};
use longshore_core::stop::Stop;
use longshore_core::stream::{Arrival, Delivery, Progress, StreamSource, Subscription, Tables};
use longshore_kafka::{KafkaConfig, KafkaSource};
use longshore_testkit::services::kafka::Record;
use serde_json::{Value, json};

/// Longer than anything takes that is going to happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The journal, and what landed by it: shared by all workers of a pipeline.
#[derive(Default)]
pub struct Books {
    checkpoint: Mutex<Checkpoint>,
    landed: Mutex<BTreeMap<(String, i64, i64), String>>,
    refused: AtomicU32,
}

/// A record that landed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub topic: String,
    pub partition: i64,
    pub offset: i64,
    pub value: String,
}

#[async_trait]
impl Progress for Books {
    async fn position(&self, partition: &Partition) -> longshore_core::Result<Option<Position>> {
        // As a store that takes its time.
        tokio::time::sleep(Duration::from_millis(2)).await;
        Ok(self.checkpoint.lock().expect("not poisoned").position(partition).cloned())
    }

    async fn known(&self, _: &str, _: &[String]) -> longshore_core::Result<BTreeMap<String, bool>> {
        Ok(BTreeMap::new())
    }
}

impl Books {
    /// The journal: takes rows with what they cover, or refuses both.
    pub fn journal(&self, deltas: &[Delta], rows: Vec<Row>) -> bool {
        let mut checkpoint = self.checkpoint.lock().expect("not poisoned");
        if checkpoint.apply(deltas).is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let mut landed = self.landed.lock().expect("not poisoned");
        for row in rows {
            let Row { topic, partition, offset, value } = row;
            // A topic that was made again counts its offsets from the beginning: its id is in the partition, not in the row.
            let id =
                deltas.iter().find(|delta| delta.partition.0.contains(&format!("/{topic}@"))).expect("covered").partition.clone();
            let before = landed.insert((id.0.rsplit_once('/').expect("a number").0.to_owned(), partition, offset), value);
            assert_eq!(before, None, "{topic}/{partition} at {offset} landed twice");
        }
        true
    }

    /// What the journal says of partitions that it has offsets of, by their number at the end.
    pub fn positions(&self) -> Vec<(String, i64)> {
        let checkpoint = self.checkpoint.lock().expect("not poisoned");
        checkpoint.iter().filter_map(|(partition, position)| Some((partition.0.clone(), position.0.parse().ok()?))).collect()
    }

    /// The journal's positions, as they are written.
    pub fn checkpoint(&self) -> Vec<String> {
        self.checkpoint.lock().expect("not poisoned").iter().map(|(_, position)| position.0.clone()).collect()
    }

    /// The values that landed, in order of topic, partition and offset.
    pub fn values(&self) -> Vec<String> {
        self.landed.lock().expect("not poisoned").values().cloned().collect()
    }

    pub fn offsets(&self) -> Vec<i64> {
        self.landed.lock().expect("not poisoned").keys().map(|(_, _, offset)| *offset).collect()
    }

    pub fn refused(&self) -> u32 {
        self.refused.load(Ordering::Relaxed)
    }

    pub fn len(&self) -> usize {
        self.landed.lock().expect("not poisoned").len()
    }
}

/// What was told.
#[derive(Default)]
pub struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn event(&self, event: &RunEvent) {
        if let RunEvent::Warning { text } | RunEvent::Note { text } = event {
            self.0.lock().expect("not poisoned").push(text.clone());
        }
    }
}

impl Told {
    pub fn all(&self) -> Vec<String> {
        self.0.lock().expect("not poisoned").clone()
    }

    pub fn count(&self, part: &str) -> usize {
        self.all().iter().filter(|text| text.contains(part)).count()
    }

    /// Waits until something was told.
    pub async fn until(&self, part: &str) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while self.count(part) == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(waited.await.is_ok(), "nobody said `{part}`, but {:?}", self.all());
    }
}

/// A name that nobody else has.
pub fn fresh(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn config(brokers: &str, topic: &str, more: Value) -> KafkaConfig {
    let mut settings = json!({
        "brokers": brokers, "topics": [topic], "route": {"table": "all"},
        "columns": ["topic", "partition", "offset"],
    });
    let Value::Object(more) = more else { panic!("settings") };
    let all = settings.as_object_mut().expect("settings");
    // Null takes a setting away.
    more.into_iter().for_each(|(name, value)| drop(all.insert(name, value)));
    all.retain(|_, value| !value.is_null());
    serde_json::from_value(settings).expect("settings")
}

/// A record with a text.
pub fn record(text: impl std::fmt::Display) -> Record {
    Record::new(json!({"value": text.to_string()}).to_string())
}

/// Everything that a worker is given.
pub fn context(pipeline: &str, told: &Arc<Told>) -> Context {
    Context {
        pipeline: pipeline.to_owned(),
        run: "run".to_owned(),
        budget: Budget::new(256 << 20),
        lanes: 2,
        events: Events::new(told.clone()),
        stop: Stop::default(),
    }
}

/// A worker.
pub struct Worker {
    pub subscription: Box<dyn Subscription>,
    pub books: Arc<Books>,
    pub told: Arc<Told>,
}

/// What came of one delivery.
pub struct Taken {
    pub deltas: Vec<Delta>,
    pub rows: Vec<Row>,
}

impl Worker {
    pub async fn new(config: KafkaConfig, pipeline: &str, books: &Arc<Books>) -> Self {
        let told = Arc::new(Told::default());
        let cx = context(pipeline, &told);
        let source = KafkaSource::new(config).expect("settings");
        let subscription = source.subscribe(&cx, books.clone()).await.expect("a subscription");
        Self { subscription, books: books.clone(), told }
    }

    pub async fn next(&mut self) -> longshore_core::Result<Arrival> {
        tokio::time::timeout(PATIENCE, self.subscription.next()).await.expect("something comes")
    }

    /// The next delivery, whatever comes before it.
    pub async fn delivery(&mut self) -> Delivery {
        loop {
            if let Arrival::Delivery(delivery) = self.next().await.expect("goes on") {
                return delivery;
            }
        }
    }

    /// Lands what comes until everything there was has landed. What the journal refuses is read again.
    pub async fn catch_up(&mut self) {
        while !self.step().await.expect("goes on") {}
    }

    /// Lands what comes until so much has landed in all, by whichever worker.
    pub async fn share(&mut self, rows: usize) {
        while self.books.len() < rows {
            if let Ok(arrival) = tokio::time::timeout(Duration::from_millis(200), self.subscription.next()).await {
                self.take(arrival.expect("goes on")).await.expect("goes on");
            }
        }
    }

    /// Lands what comes next; whether everything there was has landed.
    pub async fn step(&mut self) -> longshore_core::Result<bool> {
        let arrival = self.next().await?;
        self.take(arrival).await
    }

    async fn take(&mut self, arrival: Arrival) -> longshore_core::Result<bool> {
        match arrival {
            Arrival::Delivery(delivery) => {
                let taken = decode(&delivery);
                if self.books.journal(&taken.deltas, taken.rows) {
                    let covers = [Covers::Deltas(taken.deltas)];
                    self.subscription.journalled(&covers);
                    self.subscription.acknowledge(&covers).await?;
                } else {
                    self.subscription.rewind().await?;
                }
                Ok(false)
            }
            Arrival::Rebalance => Ok(false),
            Arrival::CaughtUp => Ok(true),
        }
    }

    /// Lands what comes until so much has landed in all.
    pub async fn until(&mut self, rows: usize) {
        while self.books.len() < rows {
            self.step().await.expect("goes on");
        }
    }

    /// The error that ends the reading.
    pub async fn error(&mut self) -> longshore_core::Error {
        loop {
            if let Err(error) = self.step().await {
                return error;
            }
        }
    }

    pub async fn close(mut self) {
        self.subscription.close().await.expect("leaves");
    }
}

/// The one table.
pub fn tables() -> Tables {
    let columns =
        [("value", Type::String), ("_topic", Type::String), ("_topic_partition", Type::Int64), ("_offset", Type::Int64)];
    let schema = TableSchema::new(columns.into_iter().map(|(name, kind)| Field::new(name, kind)).collect());
    let known = [("all".to_owned(), Target { schema, contract: Contract::Freeze })].into();
    Tables { known, ..Tables::default() }
}

/// The rows of a delivery and what it covers.
pub fn decode(delivery: &Delivery) -> Taken {
    let [Covers::Deltas(deltas)] = delivery.covers.as_slice() else { panic!("one list of deltas") };
    let decoded = delivery.decode.decode(&tables()).expect("decodes");
    let mut rows = Vec::new();
    for batch in decoded.batches {
        assert!(batch.rejects.is_empty(), "{:?}", batch.rejects);
        let Rows::Plain(batch) = batch.rows else { panic!("plain rows") };
        let text = |name: &str| batch.column_by_name(name).expect("a column").as_string::<i32>().clone();
        let number = |name: &str| batch.column_by_name(name).expect("a column").as_primitive::<Int64Type>().clone();
        let (value, topic) = (text("value"), text("_topic"));
        let (partition, offset) = (number("_topic_partition"), number("_offset"));
        rows.extend((0..batch.num_rows()).map(|row| Row {
            topic: topic.value(row).to_owned(),
            partition: partition.value(row),
            offset: offset.value(row),
            value: value.value(row).to_owned(),
        }));
    }
    assert!(decoded.rejects.is_empty() && decoded.wanted.is_empty());
    assert_eq!(rows.len() as u64, delivery.messages);
    Taken { deltas: deltas.clone(), rows }
}
