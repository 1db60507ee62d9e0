//! What the tasks of a subscription share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::Outstanding;
use crate::leases::Leases;
use crate::outage::Outage;
use crate::protocol::SubscriptionProperties;

/// The messages that are lent to us, and how things stand.
pub(crate) struct Desk {
    leases: Mutex<Leases>,
    limit: Outstanding,
    /// Something is to be acknowledged.
    pub(crate) done: Notify,
    /// Something was acknowledged or given back.
    pub(crate) left: Notify,
    pub(crate) outage: Outage,
    streams: Mutex<Streams>,
    in_order: AtomicBool,
}

/// Which streams are open, and when there last was anything.
#[derive(Debug)]
struct Streams {
    open: Vec<bool>,
    last: Instant,
    /// When a message came, or a stream was opened.
    arrived: Instant,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is whole between any two calls.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    pub(crate) fn new(term: Duration, limit: Outstanding, streams: usize, outage: Outage) -> Self {
        Self {
            leases: Mutex::new(Leases::new(term)),
            limit,
            done: Notify::new(),
            left: Notify::new(),
            outage,
            streams: Mutex::new(Streams { open: vec![false; streams], last: Instant::now(), arrived: Instant::now() }),
            in_order: AtomicBool::new(false),
        }
    }

    pub(crate) fn leases(&self) -> MutexGuard<'_, Leases> {
        locked(&self.leases)
    }

    /// A stream is open, or is not any more.
    pub(crate) fn stream(&self, number: usize, open: bool) {
        let mut streams = locked(&self.streams);
        if let Some(stream) = streams.open.get_mut(number).filter(|stream| **stream != open) {
            *stream = open;
            (streams.last, streams.arrived) = (Instant::now(), Instant::now());
        }
    }

    /// Room was made for more.
    pub(crate) fn stirred(&self) {
        locked(&self.streams).last = Instant::now();
    }

    /// Messages came.
    pub(crate) fn arrived(&self) {
        let mut streams = locked(&self.streams);
        (streams.last, streams.arrived) = (Instant::now(), Instant::now());
    }

    /// Whether no message has come for so long, with all streams open.
    pub(crate) fn quiet_for(&self, time: Duration) -> bool {
        let streams = locked(&self.streams);
        streams.open.iter().all(|open| *open) && streams.arrived.elapsed() >= time
    }

    /// Since when nothing has come, if all streams are open and Pub/Sub has room to send: `None` if more may be there.
    pub(crate) fn quiet_since(&self) -> Option<Instant> {
        let streams = locked(&self.streams);
        let since = streams.open.iter().all(|open| *open).then_some(streams.last);
        drop(streams);
        // Pub/Sub counts in its own way, so that it may stop a little earlier.
        since.filter(|_| !self.beyond(3, 4))
    }

    /// Whether more is here than was asked for: each stream that is opened anew brings its own share.
    pub(crate) fn is_full(&self) -> bool {
        self.beyond(5, 4)
    }

    fn beyond(&self, share: u64, of: u64) -> bool {
        let leases = self.leases();
        let beyond = |count: u64, limit: u64| u128::from(count) * u128::from(of) > u128::from(limit) * u128::from(share);
        beyond(leases.len() as u64, u64::from(self.limit.messages)) || beyond(leases.bytes(), self.limit.bytes)
    }

    /// Waits while `busy` says so, which is asked again whenever something has left.
    pub(crate) async fn wait_while(&self, mut busy: impl FnMut(&Self) -> bool) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            // Before the question, so that no answer is missed.
            left.as_mut().enable();
            if !busy(self) {
                return;
            }
            left.await;
        }
    }

    /// What Pub/Sub says of the subscription while it is read.
    pub(crate) fn properties(&self, properties: SubscriptionProperties) {
        self.in_order.store(properties.message_ordering_enabled, Ordering::Relaxed);
    }

    /// Whether messages are acknowledged one request after the other: Pub/Sub may refuse a message before the one that it follows.
    pub(crate) fn in_order(&self) -> bool {
        self.in_order.load(Ordering::Relaxed)
    }
}
