//! One stream of messages: opened, read, and opened again whenever it ends.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedSender as Signs, unbounded};
use longshore_core::Result;
use longshore_core::budget::{Budget, Permit};
use longshore_core::stop::Stop;
use prost::Message as _;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use crate::client::Client;
use crate::desk::Desk;
use crate::error::{Doing, Verdict, refusal, unreadable, verdict};
use crate::outage::Failures;
use crate::protocol::StreamingPullRequest;
use crate::received;
use crate::wire::{Malformed, range_in};

/// An idle stream is closed by Google after a minute and a half.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);
/// A server that has nothing to send may say nothing at all. After so long without a refusal the stream counts as open.
const PRESUMED_OPEN: Duration = Duration::from_secs(5);

/// An answer, and the ids and places of what is new in it.
type Fresh = (Bytes, Vec<(Arc<str>, Range<usize>)>);

/// New messages of one answer.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// The answer.
    pub raw: Bytes,
    /// Ids, and where the messages are in it.
    pub messages: Vec<(Arc<str>, Range<usize>)>,
    /// The room that the answer takes in the buffer.
    #[expect(dead_code, reason = "held for its drop")]
    pub room: Permit,
}

/// What reads a stream.
pub(crate) struct Puller {
    pub client: Client,
    pub desk: Arc<Desk>,
    /// What opens it.
    pub opening: StreamingPullRequest,
    /// Room for what is not handed out yet.
    pub buffer: Budget,
    pub queue: UnboundedSender<Result<Incoming>>,
    pub number: usize,
    /// Set when it is to end.
    pub stop: Stop,
}

/// Why a stream ended.
enum End {
    Status(Status),
    Malformed,
    /// It was to.
    Stopped,
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        End::Status(status)
    }
}

impl Puller {
    /// Reads until it is stopped, or until Google says a final no, which goes to the queue.
    pub(crate) async fn run(self) {
        let mut failures = Failures::default();
        let mut unknown = 0;
        loop {
            let end = self.read(&mut failures, &mut unknown).await;
            self.desk.stream(self.number, false);
            let status = match end {
                End::Status(status) => status,
                End::Malformed => return self.fail(unreadable("an answer of Pub/Sub")),
                End::Stopped => return,
            };
            // A token that runs out while a stream is open ends it; the next one must be good.
            unknown += u32::from(verdict(&status) == Verdict::Unknown);
            if verdict(&status) == Verdict::Final || unknown > 1 {
                return self.fail(refusal(Doing::Reading(&self.opening.subscription), &status));
            }
            let words = format!("{:?}: {}", status.code(), status.message());
            let wait = self.desk.outage.failed(&mut failures, &words);
            if self.unless_stopped(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    fn fail(&self, error: longshore_core::Error) {
        // If nobody listens, nobody needs to know.
        _ = self.queue.send(Err(error));
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.stop.requested() => None,
            done = work => Some(done),
        }
    }

    /// Reads one stream to its end.
    async fn read(&self, failures: &mut Failures, unknown: &mut u32) -> End {
        let (mut stream, requests) = match self.open().await {
            Ok(open) => open,
            Err(end) => return end,
        };
        self.desk.stream(self.number, true);
        let mut sign = tokio::time::interval_at(Instant::now() + SIGN_OF_LIFE, SIGN_OF_LIFE);
        loop {
            let answer = tokio::select! {
                biased;
                () = self.stop.requested() => {
                    drop(requests);
                    self.drain(stream).await;
                    return End::Stopped;
                }
                answer = stream.message() => answer,
                _ = sign.tick() => {
                    // If the stream has ended, its next answer says so.
                    _ = requests.unbounded_send(Bytes::new());
                    continue;
                }
            };
            match answer {
                Ok(Some(answer)) => {
                    self.desk.outage.works(failures);
                    *unknown = 0;
                    let Ok(incoming) = self.take_down(answer) else { return End::Malformed };
                    if let Some(incoming) = incoming {
                        // If it is stopped meanwhile, what came is lent to us, and given back.
                        self.unless_stopped(self.hand_on(incoming)).await;
                    }
                }
                Ok(None) => return End::Status(Status::unavailable("the stream ended")),
                Err(status) => return End::Status(status),
            }
        }
    }

    /// Opens the stream. It lasts as long as the second of these, which says that we are there: a reader that is dropped takes it along.
    async fn open(&self) -> Result<(Streaming<Bytes>, Signs<Bytes>), End> {
        let channel = self.unless_stopped(self.client.connect()).await.ok_or(End::Stopped)??;
        let (requests, signs) = unbounded();
        // A request that says nothing is a sign of life, and is answered: one at once shows that the stream is there.
        for request in [self.opening.encode_to_vec().into(), Bytes::new()] {
            _ = requests.unbounded_send(request);
        }
        let opening = self.client.pull(channel, &self.opening.subscription, signs);
        tokio::pin!(opening);
        let mut wait = PRESUMED_OPEN;
        loop {
            tokio::select! {
                biased;
                opened = &mut opening => return Ok((opened?, requests)),
                () = self.stop.requested() => break,
                () = tokio::time::sleep(wait) => {
                    self.desk.stream(self.number, true);
                    wait = SIGN_OF_LIFE;
                    // If nobody takes it, the opening fails as well.
                    _ = requests.unbounded_send(Bytes::new());
                }
            }
        }
        // The server may have begun to send.
        drop(requests);
        if let Ok(stream) = opening.await {
            self.drain(stream).await;
        }
        Err(End::Stopped)
    }

    /// Waits until the server has ended the stream as well, so that it sends nothing more there, and takes down what was on its way.
    async fn drain(&self, mut stream: Streaming<Bytes>) {
        while let Ok(Some(answer)) = stream.message().await {
            _ = self.take_down(answer);
        }
    }

    /// Takes down what an answer brings; returns what is new in it.
    fn take_down(&self, raw: Bytes) -> Result<Option<Fresh>, Malformed> {
        let answer = received::answer(&raw)?;
        if let Some(properties) = answer.properties {
            self.desk.properties(properties);
        }
        if answer.messages.is_empty() {
            return Ok(None);
        }
        self.desk.arrived();
        let now = Instant::now();
        let mut messages = Vec::with_capacity(answer.messages.len());
        let mut leases = self.desk.leases();
        for message in &answer.messages {
            if let Some(id) = leases.arrived(message.id, message.ack_id, message.body.len(), now) {
                messages.push((id, range_in(&raw, message.body)));
            }
        }
        drop(leases);
        Ok((!messages.is_empty()).then_some((raw, messages)))
    }

    /// Queues what is new. Its leases are kept while it waits.
    async fn hand_on(&self, (raw, messages): Fresh) {
        let room = self.buffer.take(raw.len() as u64).await;
        // If nobody takes it any more, it is given back.
        _ = self.queue.send(Ok(Incoming { raw, messages, room }));
        self.desk.wait_while(Desk::is_full).await;
    }
}
