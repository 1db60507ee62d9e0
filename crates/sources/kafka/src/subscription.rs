//! What a worker holds of a group.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use longshore_core::Result;
use longshore_core::budget::Budget;
use longshore_core::error::{Error, Kind};
use longshore_core::position::Covers;
use longshore_core::stream::{Arrival, Delivery, Lag, Subscription};
use longshore_messages::Decoder;
use tokio::sync::oneshot;

use crate::error::KAFKA_CLOSED;
use crate::handover::{Filled, Front, Handover, Item};
use crate::native::Waker;
use crate::place::Placing;
use crate::reader::Command;

/// How long leaving may take.
const FAREWELL: Duration = Duration::from_secs(15);

/// A worker's share of the topics. Reads on a thread of its own, a few MiB ahead.
pub(crate) struct KafkaSubscription {
    pub(crate) handover: Arc<Handover>,
    pub(crate) waker: Waker,
    pub(crate) decoder: Arc<Decoder>,
    pub(crate) budget: Budget,
    pub(crate) placing: Arc<Placing>,
    /// The topics by name, without those of a pattern.
    pub(crate) topics: Vec<String>,
}

impl KafkaSubscription {
    fn ask(&self, command: Command) {
        self.handover.ask(command);
        self.waker.wake();
    }

    fn delivery(&self, filled: Filled, permit: longshore_core::budget::Permit) -> Delivery {
        let messages = filled.messages;
        Delivery {
            messages: messages.len() as u64,
            bytes: messages.bytes(),
            oldest: messages.oldest(),
            covers: vec![Covers::Deltas(filled.parts.into_iter().map(|part| part.delta).collect())],
            decode: self.decoder.decode(messages),
            permit: Some(permit),
        }
    }

    fn ended(&self) -> Error {
        self.handover.failure().unwrap_or_else(|| Error::new(Kind::Source, KAFKA_CLOSED, "reading Kafka has ended"))
    }
}

#[async_trait]
impl Subscription for KafkaSubscription {
    async fn next(&mut self) -> Result<Arrival> {
        loop {
            match self.handover.front() {
                Front::Mark(Item::CaughtUp) => return Ok(Arrival::CaughtUp),
                Front::Mark(_) => return Ok(Arrival::Rebalance),
                Front::Nothing => self.handover.arrival().await,
                Front::Ended => return Err(self.ended()),
                Front::Filled(bytes) => {
                    let permit = self.budget.take(bytes).await;
                    // While it waited, the delivery may have been forgotten, and another one be first.
                    if let Some(filled) = self.handover.take(bytes) {
                        self.waker.wake();
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
        self.ask(Command::Commit(deltas.collect()));
        Ok(())
    }

    async fn rewind(&mut self) -> Result<()> {
        let (done, told) = oneshot::channel();
        self.ask(Command::Rewind(done));
        tokio::select! {
            told = told => told.map_err(|_| self.ended()),
            () = self.handover.end_of_reading() => Err(self.ended()),
        }
    }

    fn lag(&self) -> Vec<Lag> {
        self.handover.lags()
    }

    /// With a pattern only what this worker has is known.
    async fn rest_is_read(&mut self) -> Result<bool> {
        self.placing.is_read(&self.topics).await
    }

    async fn close(&mut self) -> Result<()> {
        self.ask(Command::Close);
        if tokio::time::timeout(FAREWELL, self.handover.end_of_reading()).await.is_err() {
            tracing::warn!("the group was not left in time; it takes this member for gone when its session ends");
        }
        Ok(())
    }
}

impl Drop for KafkaSubscription {
    fn drop(&mut self) {
        self.handover.desert();
        self.waker.wake();
    }
}
