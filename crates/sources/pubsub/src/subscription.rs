//! A worker's share of a subscription.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use longshore_core::Result;
use longshore_core::budget::Budget;
use longshore_core::position::Covers;
use longshore_core::source::Context;
use longshore_core::stop::Stop;
use longshore_core::stream::{Arrival, Delivery, Lag, Progress, Subscription};
use longshore_messages::{Decoder, From, Message, Messages};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::client::Client;
use crate::config::PubSubConfig;
use crate::desk::Desk;
use crate::draft::Draft;
use crate::error::{bug, unreadable};
use crate::keeper::Keeper;
use crate::leases::Phase;
use crate::outage::Outage;
use crate::protocol::StreamingPullRequest;
use crate::pull::{Incoming, Puller};
use crate::received::Body;

/// How often those that are held are asked about.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Held ids that are asked about at once.
const ASKED_AT_ONCE: usize = 1_000;
/// How long acknowledgements are waited for when we leave.
const LEFT_WITHIN: Duration = Duration::from_secs(4);
/// How long streams may take to end.
const SHUT_WITHIN: Duration = Duration::from_secs(2);
/// How soon a message comes again after its lease has ended.
const LAPSED_WITHIN: Duration = Duration::from_secs(1);
/// How often it is looked at whether everything was read.
const LOOK: Duration = Duration::from_millis(100);

/// Tasks that end with their owner.
#[derive(Debug, Default)]
struct Tasks(Vec<JoinHandle<()>>);

impl Tasks {
    fn spawn(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.push(tokio::spawn(work));
    }

    /// Waits for their end, and ends those that take longer.
    async fn finish(&mut self, within: Duration) {
        let ended = futures::future::join_all(&mut self.0);
        _ = tokio::time::timeout(within, ended).await;
        self.0.retain(|task| !task.is_finished());
        self.end().await;
    }

    /// Ends them; nothing of them runs any more then.
    async fn end(&mut self) {
        for task in self.0.drain(..) {
            task.abort();
            // It was aborted: that is what its answer says.
            _ = task.await;
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

pub(crate) struct PubSubSubscription {
    name: String,
    scope: String,
    client_id: String,
    config: PubSubConfig,
    client: Client,
    decoder: Arc<Decoder>,
    cx: Context,
    progress: Arc<dyn Progress>,
    desk: Arc<Desk>,
    keeper: Arc<Keeper>,
    buffer: Budget,
    queue: UnboundedReceiver<Result<Incoming>>,
    draft: Draft,
    /// When those that are held are asked about next.
    ask_at: Instant,
    /// Since when everything is known to have been read, if that was told.
    told: Option<Instant>,
    streams: Tasks,
    /// Set when the streams are to end.
    shut: Stop,
    keeping: Tasks,
}

impl PubSubSubscription {
    /// Begins to read.
    pub(crate) fn new(
        name: String,
        config: PubSubConfig,
        client: Client,
        decoder: Arc<Decoder>,
        cx: Context,
        progress: Arc<dyn Progress>,
    ) -> Self {
        let outage = Outage::new(cx.events.clone(), format!("the subscription {name}"));
        let desk = Arc::new(Desk::new(config.ack_deadline, config.max_outstanding, config.streams as usize, outage));
        let keeper = Keeper { client: client.clone(), desk: desk.clone(), subscription: name.clone(), term: config.ack_deadline };
        let keeper = Arc::new(keeper);
        // What is on its way out of it counts in the run's budget.
        let buffer = Budget::new((cx.budget.total() / 8).clamp(1 << 20, 64 << 20));
        let mut keeping = Tasks::default();
        keeping.spawn({
            let keeper = Arc::clone(&keeper);
            async move { keeper.extend().await }
        });
        keeping.spawn({
            let keeper = Arc::clone(&keeper);
            async move { keeper.acknowledge().await }
        });
        let mut subscription = Self {
            scope: format!("pubsub:{name}"),
            name,
            client_id: client_id(),
            config,
            client,
            decoder,
            cx,
            progress,
            desk,
            keeper,
            buffer,
            queue: unbounded_channel().1,
            draft: Draft::default(),
            ask_at: Instant::now(),
            told: None,
            streams: Tasks::default(),
            shut: Stop::default(),
            keeping,
        };
        subscription.open();
        subscription
    }

    /// Opens the streams.
    fn open(&mut self) {
        let (sender, queue) = unbounded_channel();
        (self.queue, self.shut) = (queue, Stop::default());
        let share = |limit: u64| i64::try_from(limit.div_ceil(u64::from(self.config.streams))).unwrap_or(i64::MAX);
        let opening = StreamingPullRequest {
            subscription: self.name.clone(),
            stream_ack_deadline_seconds: i32::try_from(self.config.ack_deadline.as_secs()).unwrap_or(i32::MAX),
            // The same when a stream is opened again: what was sent on the old one is then known to be here.
            client_id: self.client_id.clone(),
            max_outstanding_messages: share(self.config.max_outstanding.messages.into()),
            max_outstanding_bytes: share(self.config.max_outstanding.bytes),
            protocol_version: 1,
        };
        for number in 0..self.config.streams as usize {
            let puller = Puller {
                client: self.client.clone(),
                desk: self.desk.clone(),
                opening: opening.clone(),
                buffer: self.buffer.clone(),
                queue: sender.clone(),
                number,
                stop: self.shut.clone(),
            };
            self.streams.spawn(puller.run());
        }
    }

    /// Ends the streams and forgets what they brought and nobody got.
    async fn shut(&mut self) {
        self.shut.request();
        // A server that does not end them is left alone: what it sends then comes again when its lease ends.
        self.streams.finish(SHUT_WITHIN).await;
        (self.queue, self.draft) = (unbounded_channel().1, Draft::default());
        for number in 0..self.config.streams as usize {
            self.desk.stream(number, false);
        }
    }

    /// Hands out the next messages, if any of them is new.
    async fn deliver(&mut self) -> Result<Option<Delivery>> {
        let (count, bytes) = self.draft.next_size();
        let permit = self.cx.budget.take(bytes as u64).await;
        let ids: Vec<String> = self.draft.first(count).map(|(id, _)| id.to_string()).collect();
        let known = self.progress.known(&self.scope, &ids).await?;
        // From here on nothing waits, so that a call that is dropped has taken nothing.
        let mut fresh = vec![false; count];
        let (mut done, mut held) = (false, false);
        {
            let mut leases = self.desk.leases();
            for (id, fresh) in ids.iter().zip(&mut fresh) {
                let phase = match known.get(id) {
                    None => Phase::Handed,
                    Some(true) => Phase::Done { sent: false },
                    Some(false) => Phase::Held,
                };
                // If it is not there any more, it was taken away meanwhile.
                let moved = leases.advance(id, Phase::Waiting, phase);
                *fresh = moved && phase == Phase::Handed;
                done |= phase != Phase::Handed && phase != Phase::Held;
                held |= phase == Phase::Held;
            }
        }
        if done {
            self.desk.done.notify_one();
        }
        if held {
            // Not later than those are due that were held before.
            let now = Instant::now();
            self.ask_at = if self.ask_at > now { self.ask_at } else { now + ASK_AGAIN };
        }
        let messages = self.messages(count, bytes, &fresh)?;
        self.draft.remove(count);
        if messages.is_empty() {
            return Ok(None);
        }
        let ids = ids.into_iter().zip(&fresh).filter(|(_, fresh)| **fresh).map(|(id, _)| id).collect();
        Ok(Some(Delivery {
            messages: messages.len() as u64,
            bytes: messages.bytes(),
            oldest: messages.oldest(),
            decode: self.decoder.decode(messages),
            covers: vec![Covers::Ids { scope: self.scope.clone(), ids }],
            permit: Some(permit),
        }))
    }

    /// Those of the next messages that are new.
    fn messages(&self, count: usize, bytes: usize, fresh: &[bool]) -> Result<Messages> {
        let mut messages = Messages::with_capacity(bytes);
        let mut parts = Body::default();
        for ((id, body), _) in self.draft.first(count).zip(fresh).filter(|(_, fresh)| **fresh) {
            parts.read(body).map_err(|_| unreadable("a message of Pub/Sub"))?;
            // Pub/Sub does not tell no content from an empty one. Where messages are changes, it means that the row is gone.
            let value = Some(parts.data).filter(|data| !data.is_empty() || !self.config.messages.changes);
            messages.push(Message {
                key: None,
                value,
                headers: &parts.attributes,
                from: From::PubSub { subscription: &self.name, id, ordering_key: parts.ordering_key },
                time: parts.published,
                latest: None,
            });
        }
        Ok(messages)
    }

    /// Asks how those are that are held.
    async fn ask_again(&mut self) -> Result<()> {
        self.ask_at = Instant::now() + ASK_AGAIN;
        let held = self.desk.leases().held_ids();
        for ids in held.chunks(ASKED_AT_ONCE) {
            let known = self.progress.known(&self.scope, ids).await?;
            let unknown: HashSet<&str> = ids.iter().filter(|id| !known.contains_key(*id)).map(String::as_str).collect();
            let again = {
                let mut leases = self.desk.leases();
                for (id, _) in known.iter().filter(|(_, complete)| **complete) {
                    leases.advance(id, Phase::Held, Phase::Done { sent: false });
                }
                // Nobody has them any more, and what they hold is not here: they have to come again.
                leases.give_back(|id, phase| phase == Phase::Held && unknown.contains(id))
            };
            self.desk.done.notify_one();
            self.keeper.give_back(again).await;
        }
        Ok(())
    }

    /// Since when everything has been handed out, if that is so and was not told.
    fn caught_up(&self) -> Option<Instant> {
        let since = self.desk.quiet_since()?;
        let read = self.draft.is_empty() && self.queue.is_empty() && self.desk.leases().held() == 0;
        Some(since).filter(|since| read && self.told != Some(*since) && since.elapsed() >= self.config.idle_after)
    }

    fn ids<'a>(&'a self, covers: &'a [Covers]) -> impl Iterator<Item = &'a str> {
        let ours = covers.iter().filter_map(|covers| match covers {
            Covers::Ids { scope, ids } if *scope == self.scope => Some(ids),
            _ => None,
        });
        ours.flatten().map(String::as_str)
    }
}

#[async_trait]
impl Subscription for PubSubSubscription {
    async fn next(&mut self) -> Result<Arrival> {
        loop {
            let now = Instant::now();
            if self.ask_at <= now && self.desk.leases().held() > 0 {
                self.ask_again().await?;
            }
            if self.draft.is_full() || self.draft.due().is_some_and(|due| due <= now) {
                match self.deliver().await? {
                    Some(delivery) => return Ok(Arrival::Delivery(delivery)),
                    None => continue,
                }
            }
            if let Some(since) = self.caught_up() {
                self.told = Some(since);
                return Ok(Arrival::CaughtUp);
            }
            let wake = self.draft.due().unwrap_or(now + LOOK);
            tokio::select! {
                biased;
                incoming = self.queue.recv() => match incoming {
                    Some(incoming) => self.draft.add(incoming?),
                    None => return Err(bug("a subscription was asked for messages after its end")),
                },
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    fn journalled(&mut self, covers: &[Covers]) {
        let mut leases = self.desk.leases();
        for id in self.ids(covers) {
            leases.advance(id, Phase::Handed, Phase::Journalled);
        }
    }

    async fn acknowledge(&mut self, covers: &[Covers]) -> Result<()> {
        {
            let mut leases = self.desk.leases();
            self.ids(covers).for_each(|id| leases.finish(id));
        }
        // Beside everything else, and tried until it succeeds: reading goes on. What is not acknowledged when we die comes again and is known.
        self.desk.done.notify_one();
        Ok(())
    }

    async fn rewind(&mut self) -> Result<()> {
        // What is on its way on the old streams would overtake what comes again.
        self.shut().await;
        let given = self.desk.leases().give_back(|_, phase| matches!(phase, Phase::Waiting | Phase::Handed));
        self.keeper.give_back(given).await;
        self.open();
        Ok(())
    }

    /// What was lent to this worker and is not journalled. How much waits with Pub/Sub it does not say.
    fn lag(&self) -> Vec<Lag> {
        vec![Lag { name: self.name.clone(), messages: Some(self.desk.leases().unread() as u64) }]
    }

    fn remembers(&self) -> Option<(String, Duration)> {
        Some((self.scope.clone(), self.config.dedupe_window))
    }

    fn outstanding(&self) -> Option<(u64, u64)> {
        Some((self.config.max_outstanding.messages.into(), self.config.max_outstanding.bytes))
    }

    /// What a worker has that died before the last message came, comes before this says so.
    async fn rest_is_read(&mut self) -> Result<bool> {
        Ok(self.desk.quiet_for(self.config.ack_deadline + LAPSED_WITHIN))
    }

    async fn close(&mut self) -> Result<()> {
        self.shut().await;
        let given = self.desk.leases().give_back(|_, phase| matches!(phase, Phase::Waiting | Phase::Held | Phase::Handed));
        self.keeper.give_back(given).await;
        let acknowledged = self.desk.wait_while(|desk| desk.leases().doing() > 0);
        // What is not acknowledged by then comes again, to somebody who knows it.
        _ = tokio::time::timeout(LEFT_WITHIN, acknowledged).await;
        self.keeping.end().await;
        Ok(())
    }
}

/// Tells this client from all others.
fn client_id() -> String {
    format!("longshore-{:016x}{:016x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1))
}
