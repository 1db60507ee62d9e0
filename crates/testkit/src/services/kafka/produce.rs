//! Records for topics.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use uuid::Uuid;

use super::{Kafka, PATIENCE};

/// What to write into a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Where to; `None`: by the key, or anywhere.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None`: a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers, in order; a name may come again.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970; `None`: now.
    pub time: Option<i64>,
}

impl Record {
    /// A record with a value and nothing else.
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// A record with a key and no value.
    pub fn tombstone(key: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), ..Self::default() }
    }

    /// The same with a key.
    #[must_use]
    pub fn key(self, key: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// The same for a partition.
    #[must_use]
    pub fn partition(self, partition: i32) -> Self {
        Self { partition: Some(partition), ..self }
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), Some(value.into())));
        self
    }

    /// The same with a time in milliseconds since 1970.
    #[must_use]
    pub fn time(self, millis: i64) -> Self {
        Self { time: Some(millis), ..self }
    }
}

/// A transaction that has begun. Dropped without an end, it stays open until the broker ends it, which is after a minute.
pub struct Transaction {
    producer: FutureProducer,
}

impl Kafka {
    /// Writes records, many at once; returns the partition and the offset of each, in order. Records of one partition are
    /// stored in the order in which they are given.
    ///
    /// # Panics
    /// If one is not stored on all brokers that must have it.
    pub async fn produce(&self, topic: &str, records: impl IntoIterator<Item = Record>) -> Vec<(i32, i64)> {
        produce(&self.producer, topic, records).await
    }

    /// Begins a transaction.
    ///
    /// # Panics
    /// If the cluster does not have it.
    pub async fn transaction(&self) -> Transaction {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.internal())
            .set("transactional.id", Uuid::new_v4().to_string())
            .set("linger.ms", "1");
        let producer: FutureProducer = config.create().expect("these settings are right");
        let begun = producer.clone();
        blocking(move || begun.init_transactions(PATIENCE).and_then(|()| begun.begin_transaction())).await;
        Transaction { producer }
    }

    /// Writes records in a transaction of their own, which is aborted unless `commit`; see [`Self::produce`].
    pub async fn produce_transaction(
        &self,
        topic: &str,
        records: impl IntoIterator<Item = Record>,
        commit: bool,
    ) -> Vec<(i32, i64)> {
        let transaction = self.transaction().await;
        let stored = transaction.produce(topic, records).await;
        if commit {
            transaction.commit().await;
        } else {
            transaction.abort().await;
        }
        stored
    }
}

impl Transaction {
    /// See [`Kafka::produce`].
    pub async fn produce(&self, topic: &str, records: impl IntoIterator<Item = Record>) -> Vec<(i32, i64)> {
        produce(&self.producer, topic, records).await
    }

    /// Ends it; its records count.
    pub async fn commit(self) {
        blocking(move || self.producer.commit_transaction(PATIENCE)).await;
    }

    /// Ends it; its records do not count.
    pub async fn abort(self) {
        blocking(move || self.producer.abort_transaction(PATIENCE)).await;
    }
}

async fn produce(producer: &FutureProducer, topic: &str, records: impl IntoIterator<Item = Record>) -> Vec<(i32, i64)> {
    let mut sent = Vec::new();
    for record in records {
        sent.push(send(producer, topic, &record).await);
    }
    let mut stored = Vec::with_capacity(sent.len());
    for delivery in sent {
        match delivery.await.expect("the producer is alive") {
            Ok(delivery) => stored.push((delivery.partition, delivery.offset)),
            Err((e, _)) => panic!("a record is not stored in {topic}: {e}"),
        }
    }
    stored
}

async fn send(producer: &FutureProducer, topic: &str, record: &Record) -> DeliveryFuture {
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
    for (key, value) in &record.headers {
        headers = headers.insert(Header { key, value: value.as_ref() });
    }
    let mut next: FutureRecord<'_, Vec<u8>, Vec<u8>> = FutureRecord::to(topic);
    (next.partition, next.key, next.payload) = (record.partition, record.key.as_ref(), record.value.as_ref());
    next.timestamp = record.time;
    next.headers = (!record.headers.is_empty()).then_some(headers);
    loop {
        match producer.send_result(next) {
            Ok(delivery) => return delivery,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                next = again;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err((e, _)) => panic!("a record is not sent to {topic}: {e}"),
        }
    }
}

/// What the client does only while its caller waits.
async fn blocking(work: impl FnOnce() -> Result<(), KafkaError> + Send + 'static) {
    let done = tokio::task::spawn_blocking(work).await.expect("it does not panic");
    done.expect("the cluster does what it is told");
}
