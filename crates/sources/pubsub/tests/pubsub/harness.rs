//! What the tests share: a journal in memory, a subscription of our own server, and what a delivery holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use longshore_core::Result;
use longshore_core::batch::Rows;
use longshore_core::budget::Budget;
use longshore_core::commit::Contract;
use longshore_core::error::{Error, Kind, Retry, code};
use longshore_core::event::{Events, Observer, RunEvent};
use longshore_core::position::{Covers, Partition, Position};
use longshore_core::schema::{Field, TableSchema, Type};
use longshore_core::source::{Context, Target};
use longshore_core::stop::Stop;
use longshore_core::stream::{Arrival, Delivery, Progress, StreamSource, Subscription, Tables};
use longshore_fakes::pubsub::{FakePubSub, Message, Options};
use longshore_pubsub::PubSubSource;
use serde_json::{Value, json};

/// The subscription of our own server.
pub const NAME: &str = "projects/test/subscriptions/orders";
const SCOPE: &str = "pubsub:projects/test/subscriptions/orders";
/// Nothing in a test takes longer.
const LONG: Duration = Duration::from_secs(20);

/// What was journalled, each id with whether its commit is complete.
#[derive(Default)]
pub struct Journal {
    ids: Mutex<BTreeMap<String, bool>>,
    /// How often it was asked.
    pub asked: AtomicUsize,
    /// How long an answer takes.
    pub slow: Mutex<Duration>,
    /// How many answers are errors that pass.
    pub failing: AtomicUsize,
}

impl Journal {
    /// Journals ids as the store does: all of them, or none if one is known.
    pub fn journal(&self, ids: &[String]) -> bool {
        let mut known = self.ids.lock().expect("no panic");
        let free = ids.iter().all(|id| !known.contains_key(id));
        if free {
            known.extend(ids.iter().map(|id| (id.clone(), false)));
        }
        free
    }

    pub fn complete(&self, ids: &[String]) {
        self.ids.lock().expect("no panic").extend(ids.iter().map(|id| (id.clone(), true)));
    }

    pub fn forget(&self, id: &str) {
        self.ids.lock().expect("no panic").remove(id);
    }

    pub fn len(&self) -> usize {
        self.ids.lock().expect("no panic").len()
    }
}

#[async_trait]
impl Progress for Journal {
    async fn position(&self, _: &Partition) -> Result<Option<Position>> {
        unreachable!("messages of Pub/Sub have no positions")
    }

    async fn known(&self, scope: &str, ids: &[String]) -> Result<BTreeMap<String, bool>> {
        assert!(scope.starts_with("pubsub:projects/"), "{scope}");
        self.asked.fetch_add(1, Ordering::Relaxed);
        let slow = *self.slow.lock().expect("no panic");
        tokio::time::sleep(slow).await;
        if self.failing.load(Ordering::Relaxed) > 0 {
            self.failing.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::new(Kind::Store, code::BUG, "the store is away").with_retry(Retry::Backoff));
        }
        let known = self.ids.lock().expect("no panic");
        Ok(ids.iter().filter_map(|id| known.get(id).map(|complete| (id.clone(), *complete))).collect())
    }
}

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn event(&self, event: &RunEvent) {
        if let RunEvent::Warning { text } | RunEvent::Note { text } = event {
            self.0.lock().expect("no panic").push(text.clone());
        }
    }
}

/// A server with a subscription, a journal, and what was told.
pub struct Stage {
    pub fake: FakePubSub,
    pub journal: Arc<Journal>,
    told: Arc<Told>,
    pub memory: u64,
}

impl Stage {
    pub async fn new(options: Options) -> Self {
        let fake = FakePubSub::start().await;
        fake.create_subscription(NAME, options);
        Self { fake, journal: Arc::default(), told: Arc::default(), memory: 64 << 20 }
    }

    /// A subscription like any other, with these messages.
    pub async fn with(count: usize) -> Self {
        let stage = Self::new(Options::default()).await;
        stage.publish(0..count);
        stage
    }

    /// Publishes orders of these numbers; returns the ids.
    pub fn publish(&self, numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
        numbers.into_iter().map(|number| self.fake.publish(NAME, order(number, ""))).collect()
    }

    pub fn source(&self, more: Value) -> PubSubSource {
        source(json!({"subscription": NAME, "endpoint": self.fake.endpoint()}), more)
    }

    pub fn context(&self) -> Context {
        Context {
            pipeline: "test".into(),
            run: "run".into(),
            budget: Budget::new(self.memory),
            lanes: 1,
            events: Events::new(self.told.clone()),
            stop: Stop::default(),
        }
    }

    pub async fn worker(&self) -> Worker {
        self.worker_with(json!({})).await
    }

    pub async fn worker_with(&self, more: Value) -> Worker {
        Worker::of(&self.source(more), &self.context(), &self.journal).await
    }

    pub fn told(&self) -> Vec<String> {
        self.told.0.lock().expect("no panic").clone()
    }

    /// Drops the only worker without a word, and waits until the server has seen it.
    pub async fn dies(&self, worker: Worker) {
        self.dies_beside(worker, 0).await;
    }

    /// The same for one beside others, who have so many streams.
    pub async fn dies_beside(&self, worker: Worker, streams: usize) {
        drop(worker);
        until(|| self.fake.streams(NAME) == streams, || format!("{} streams", self.fake.streams(NAME))).await;
    }

    /// Waits until so many messages were acknowledged, and no more than that.
    pub async fn acknowledged(&self, count: usize) {
        until(|| self.fake.acknowledged_count(NAME) >= count, || format!("{count} of {}", self.fake.acknowledged_count(NAME)))
            .await;
        let unique: BTreeSet<_> = self.fake.acknowledged(NAME).into_iter().collect();
        assert_eq!((unique.len(), self.fake.acknowledged_count(NAME)), (count, count));
    }
}

/// An order, as a message.
pub fn order(number: usize, key: &str) -> Message {
    Message {
        data: format!("{{\"id\": {number}}}").into(),
        attributes: [("destination_table".to_owned(), "orders".to_owned())].into(),
        ordering_key: key.to_owned(),
    }
}

/// A source with these settings and `more`, as a pipeline file has them.
pub fn source(mut settings: Value, more: Value) -> PubSubSource {
    let into = settings.as_object_mut().expect("an object");
    into.extend(more.as_object().expect("an object").clone());
    PubSubSource::new(serde_json::from_value(settings).expect("settings")).expect("a source")
}

/// Returns once it is so.
pub async fn until(so: impl Fn() -> bool, how: impl Fn() -> String) {
    let started = tokio::time::Instant::now();
    while !so() {
        assert!(started.elapsed() < LONG, "it did not happen: {}", how());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A subscription with what it has handed out.
pub struct Worker {
    pub subscription: Box<dyn Subscription>,
    journal: Arc<Journal>,
}

impl Worker {
    pub async fn of(source: &PubSubSource, cx: &Context, journal: &Arc<Journal>) -> Self {
        let subscription = source.subscribe(cx, journal.clone()).await.expect("subscribes");
        Self { subscription, journal: journal.clone() }
    }

    pub async fn next(&mut self) -> Result<Arrival> {
        tokio::time::timeout(LONG, self.subscription.next()).await.expect("something comes")
    }

    /// The next delivery.
    pub async fn delivery(&mut self) -> Delivery {
        loop {
            if let Arrival::Delivery(delivery) = self.next().await.expect("reads") {
                return delivery;
            }
        }
    }

    /// Deliveries with so many messages together, which none of them comes twice in; returns the numbers of the orders as they came.
    pub async fn read(&mut self, count: usize) -> Read {
        let mut read = Read::default();
        while read.orders.len() < count {
            let delivery = self.delivery().await;
            read.add(&delivery);
        }
        assert_eq!(read.orders.len(), count, "{:?}", read.orders);
        let unique: BTreeSet<_> = read.ids().into_iter().collect();
        assert_eq!(unique.len(), count, "each once");
        read
    }

    /// Asserts that nothing is handed out for a while.
    pub async fn nothing(&mut self) {
        let until = tokio::time::Instant::now() + Duration::from_millis(400);
        while let Ok(arrival) = tokio::time::timeout_at(until, self.subscription.next()).await {
            if let Arrival::Delivery(delivery) = arrival.expect("reads") {
                panic!("{:?} came", delivery.covers);
            }
        }
    }

    /// Everything there is to be read, to the end.
    pub async fn caught_up(&mut self) -> Read {
        let mut read = Read::default();
        loop {
            match self.next().await.expect("reads") {
                Arrival::Delivery(delivery) => read.add(&delivery),
                Arrival::CaughtUp => return read,
                Arrival::Rebalance => panic!("Pub/Sub tells no rebalance"),
            }
        }
    }

    /// The steps of a commit after staging; `false` if the journal refuses.
    pub async fn commit(&mut self, read: &Read) -> bool {
        if !self.journal.journal(&read.ids()) {
            return false;
        }
        self.subscription.journalled(&read.covers);
        self.journal.complete(&read.ids());
        self.subscription.acknowledge(&read.covers).await.expect("acknowledges");
        true
    }
}

/// What was handed out.
#[derive(Default, Clone)]
pub struct Read {
    pub covers: Vec<Covers>,
    /// The `id`s of the contents, in order.
    pub orders: Vec<i64>,
}

impl Read {
    pub fn add(&mut self, delivery: &Delivery) {
        self.covers.extend(delivery.covers.clone());
        self.orders.extend(orders(delivery));
    }

    pub fn ids(&self) -> Vec<String> {
        ids(&self.covers)
    }
}

pub fn ids(covers: &[Covers]) -> Vec<String> {
    let mut all = Vec::new();
    for covers in covers {
        let Covers::Ids { scope, ids } = covers else { panic!("{covers:?}") };
        assert!(scope == SCOPE || scope.starts_with("pubsub:projects/"), "{scope}");
        all.extend(ids.iter().cloned());
    }
    all
}

/// Decodes a delivery into the table `orders` with these columns.
pub fn decoded(delivery: &Delivery, columns: Vec<Field>) -> arrow::array::RecordBatch {
    let target = Target { schema: TableSchema::new(columns), contract: Contract::Freeze };
    let tables = Tables { known: [("orders".to_owned(), target)].into(), ..Tables::default() };
    let decoded = delivery.decode.decode(&tables).expect("decodes");
    let rejects: Vec<_> = decoded.rejects.iter().chain(decoded.batches.iter().flat_map(|batch| &batch.rejects)).collect();
    assert!(rejects.is_empty(), "{rejects:?}");
    let [batch] = decoded.batches.as_slice() else { panic!("{} batches", decoded.batches.len()) };
    assert_eq!((batch.table.as_str(), batch.rows.len() as u64), ("orders", delivery.messages));
    match &batch.rows {
        Rows::Plain(rows) => rows.clone(),
        Rows::Changes(_) => panic!("changes"),
    }
}

/// The orders' numbers in a delivery.
pub fn orders(delivery: &Delivery) -> Vec<i64> {
    let rows = decoded(delivery, vec![Field::new("id", Type::Int64)]);
    let column = rows.column(0).as_primitive::<Int64Type>();
    assert_eq!(column.null_count(), 0);
    let Covers::Ids { ids, .. } = &delivery.covers[0] else { panic!("ids") };
    assert_eq!((column.len(), delivery.covers.len()), (ids.len(), 1));
    column.values().to_vec()
}

pub fn numbers(range: std::ops::Range<i64>) -> Vec<i64> {
    range.collect()
}

pub fn sorted(mut numbers: Vec<i64>) -> Vec<i64> {
    numbers.sort_unstable();
    numbers
}
