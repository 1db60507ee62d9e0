//! What a worker holds of a group.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use longshore_core::Result;
use longshore_core::error::{Error, Kind, Retry};
use longshore_core::position::Covers;
use longshore_core::source::Context;
use longshore_core::stream::{Arrival, Delivery, Lag, Progress, Subscription};
use tokio::sync::oneshot;

use crate::error::KAFKA_CLOSED;
use crate::handover::{Filled, Front, Handover, Item};
use crate::native::{Queue, Waker};
use crate::place::Placing;
use crate::reader::Command;
use crate::source::KafkaSource;

/// How long leaving may take.
const FAREWELL: Duration = Duration::from_secs(15);

/// A worker's share of the topics.
pub(crate) struct KafkaSubscription {
    pub(crate) source: KafkaSource,
    pub(crate) cx: Context,
    pub(crate) progress: Arc<dyn Progress>,
    pub(crate) reading: Reading,
    /// The reading has ended with an error that may pass.
    pub(crate) passes: bool,
}

/// One client's life in the group: a thread of its own reads, a few MiB ahead.
pub(crate) struct Reading {
    pub(crate) handover: Arc<Handover>,
    pub(crate) waker: Waker,
    pub(crate) placing: Arc<Placing>,
}

impl Reading {
    pub(crate) fn new(queue: &Arc<Queue>, placing: Placing) -> Self {
        Self { handover: Arc::default(), waker: Waker::of(queue), placing: Arc::new(placing) }
    }

    fn ask(&self, command: Command) {
        self.handover.ask(command);
        self.waker.wake();
    }

    /// Begins again from where the journal is; `false` if the reading has ended.
    async fn rewind(&self) -> bool {
        let (done, told) = oneshot::channel();
        self.ask(Command::Rewind(done));
        tokio::select! {
            // It may fail and do in one go what was asked.
            told = told => told.is_ok() && !self.handover.has_ended(),
            () = self.handover.end_of_reading() => false,
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.handover.desert();
        self.waker.wake();
    }
}

impl KafkaSubscription {
    fn delivery(&self, filled: Filled, permit: longshore_core::budget::Permit) -> Delivery {
        let messages = filled.messages;
        Delivery {
            messages: messages.len() as u64,
            bytes: messages.bytes(),
            oldest: messages.oldest(),
            covers: vec![Covers::Deltas(filled.parts.into_iter().map(|part| part.delta).collect())],
            decode: self.source.decoder.decode(messages),
            permit: Some(permit),
        }
    }

    /// Why the reading has ended: once the error itself.
    fn ended(&mut self) -> Error {
        let Some(error) = self.reading.handover.failure() else {
            return Error::new(Kind::Source, KAFKA_CLOSED, "reading Kafka has ended");
        };
        self.passes = error.retry() == Retry::Backoff;
        error
    }
}

#[async_trait]
impl Subscription for KafkaSubscription {
    async fn next(&mut self) -> Result<Arrival> {
        loop {
            match self.reading.handover.front() {
                Front::Mark(Item::CaughtUp) => return Ok(Arrival::CaughtUp),
                Front::Mark(_) => return Ok(Arrival::Rebalance),
                Front::Nothing => self.reading.handover.arrival().await,
                Front::Ended => return Err(self.ended()),
                Front::Filled(bytes) => {
                    let permit = self.cx.budget.take(bytes).await;
                    // While it waited, the delivery may have been forgotten, and another one be first.
                    if let Some(filled) = self.reading.handover.take(bytes) {
                        self.reading.waker.wake();
                        return Ok(Arrival::Delivery(self.delivery(filled, permit)));
                    }
                }
            }
        }
    }

    /// Nothing to do: what is handed out is never handed out again but by `rewind`, and there the journal is asked.
    fn journalled(&mut self, _covers: &[Covers]) {}

    async fn acknowledge(&mut self, covers: &[Covers]) -> Result<()> {
        let deltas = covers.iter().flat_map(|covers| match covers {
            Covers::Deltas(deltas) => deltas.clone(),
            Covers::Ids { .. } => Vec::new(),
        });
        self.reading.ask(Command::Commit(deltas.collect()));
        Ok(())
    }

    async fn rewind(&mut self) -> Result<()> {
        if self.reading.rewind().await {
            return Ok(());
        }
        let error = self.ended();
        if !self.passes {
            return Err(error);
        }
        // Whoever begins anew is another member, with another client.
        self.reading = self.source.read(&self.cx, self.progress.clone(), Some(&self.reading.placing)).await?;
        self.passes = false;
        Ok(())
    }

    fn lag(&self) -> Vec<Lag> {
        self.reading.handover.lags()
    }

    /// With a pattern only what this worker has is known.
    async fn rest_is_read(&mut self) -> Result<bool> {
        self.reading.placing.is_read(&self.source.config.topics).await
    }

    async fn close(&mut self) -> Result<()> {
        self.reading.ask(Command::Close);
        if tokio::time::timeout(FAREWELL, self.reading.handover.end_of_reading()).await.is_err() {
            tracing::warn!("the group was not left in time; it takes this member for gone when its session ends");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use longshore_core::budget::Budget;
    use longshore_core::event::Events;
    use longshore_core::position::{Checkpoint, Delta, Partition, Position};
    use longshore_core::stop::Stop;
    use rdkafka::ClientConfig;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{FutureProducer, FutureRecord};
    use rdkafka::util::Timeout;

    use super::*;

    #[derive(Default)]
    struct Journal(Mutex<Checkpoint>);

    #[async_trait]
    impl Progress for Journal {
        async fn position(&self, partition: &Partition) -> Result<Option<Position>> {
            Ok(self.0.lock().expect("not poisoned").position(partition).cloned())
        }

        async fn known(&self, _: &str, _: &[String]) -> Result<BTreeMap<String, bool>> {
            Ok(BTreeMap::new())
        }
    }

    async fn write(brokers: &str, records: std::ops::Range<i32>) {
        let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", brokers).create().expect("a producer");
        for n in records {
            let value = n.to_string();
            let record: FutureRecord<'_, str, String> = FutureRecord::to("orders").partition(0).payload(&value);
            producer.send(record, Timeout::After(Duration::from_secs(20))).await.expect("stored");
        }
    }

    async fn delivery(subscription: &mut KafkaSubscription) -> (u64, Vec<Delta>) {
        loop {
            let arrival = tokio::time::timeout(Duration::from_secs(60), subscription.next()).await.expect("something comes");
            if let Arrival::Delivery(delivery) = arrival.expect("goes on") {
                let [Covers::Deltas(deltas)] = delivery.covers.as_slice() else { panic!("one list of deltas") };
                return (delivery.messages, deltas.clone());
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn after_an_error_that_may_pass_a_rewind_begins_anew_and_any_other_stays() {
        let cluster = MockCluster::new(1).expect("a cluster");
        cluster.create_topic("orders", 1, 1).expect("a topic");
        let brokers = cluster.bootstrap_servers();
        write(&brokers, 0..10).await;
        // A member that ends while it joins is missed by the group only after this.
        let options = serde_json::json!({"session.timeout.ms": "6000"});
        let settings = serde_json::json!({"brokers": brokers, "topics": ["orders"], "options": options});
        let source = KafkaSource::new(serde_json::from_value(settings).expect("settings")).expect("a source");
        let cx = Context {
            pipeline: "p".into(),
            run: "r".into(),
            budget: Budget::new(64 << 20),
            lanes: 1,
            events: Events::silent(),
            stop: Stop::default(),
        };
        let journal = Arc::new(Journal::default());
        let mut subscription = source.open(&cx, journal.clone()).await.expect("a subscription");
        let (messages, deltas) = delivery(&mut subscription).await;
        journal.0.lock().expect("not poisoned").apply(&deltas).expect("joins");
        let unknown = || rdkafka::error::KafkaError::Seek("somebody else has it".into());
        for handed_out in [true, false] {
            subscription.reading.handover.fail(crate::assign::refused("partitions could not be taken", &unknown()));
            if handed_out {
                let error = loop {
                    if let Err(error) = subscription.next().await {
                        break error;
                    }
                };
                assert_eq!((error.code(), error.retry()), ("kafka_failed", Retry::Backoff));
            }
            subscription.rewind().await.expect("begins anew");
        }
        write(&brokers, 10..15).await;
        let (mut all, mut from) = (messages, deltas[0].to.clone());
        while all < 15 {
            let (messages, deltas) = delivery(&mut subscription).await;
            assert_eq!(deltas[0].from, Some(from), "from where the journal is");
            (all, from) = (all + messages, deltas[0].to.clone());
        }
        let denied = Error::new(Kind::Source, crate::error::KAFKA_DENIED, "no").with_retry(Retry::AfterFix);
        subscription.reading.handover.fail(denied);
        assert_eq!(subscription.rewind().await.expect_err("is no use").code(), "kafka_denied");
        assert_eq!(subscription.rewind().await.expect_err("is no use").code(), "kafka_closed");
    }
}
