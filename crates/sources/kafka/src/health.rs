//! Whether brokers can be reached and topics are what they were: looked at from time to time, and told once each time it changes.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use longshore_core::error::Error;
use longshore_core::event::Events;

use crate::native::{About, Described, is_member};
use crate::place::PATIENCE;
use crate::reader::{Command, Reader};
use crate::slots::{Name, State};
use crate::survey::{describe_topics, ends};

/// How often topics are looked at.
const EVERY: Duration = Duration::from_secs(10);
/// How often it is tried while something is wrong.
const EVERY_WHEN_AWAY: Duration = Duration::from_secs(2);
/// How long brokers may refuse who asks, once they did not: one that starts does not know all users yet.
const DENIED_FOR: Duration = Duration::from_secs(60);
/// How long a member may have no partitions before it is sure that it gets none: by the newer protocol (KIP-848) the broker tells a new member
/// of its partitions with a later heartbeat at times, and librdkafka does not tell at all if there are none.
const EMPTY_HANDED: Duration = Duration::from_secs(10);
/// How often small things are seen to: lags are written down, quiet ends covered.
const EVERY_SECOND: Duration = Duration::from_secs(1);
/// How far ahead of this machine's clock records may be without a word, in milliseconds.
const AHEAD: i64 = 3_600_000;

/// What is known of the brokers.
#[derive(Default)]
pub(crate) struct Health {
    away: bool,
    denied: Option<(Instant, Error)>,
    missing: HashSet<String>,
    /// A look is under way.
    looking: bool,
    looked: Option<Instant>,
    seen_to: Option<Instant>,
    /// Since when this is a member that was given nothing yet.
    empty_handed: Option<Instant>,
    /// It was said that a partition's records are ahead of the time.
    ahead: bool,
}

/// What a look found.
pub(crate) struct Checked {
    /// The topics, or why nobody answered.
    topics: Result<Vec<(String, About)>, String>,
    ends: Vec<(Name, i64)>,
}

impl Health {
    /// No broker can be reached.
    pub(crate) fn away(&mut self, events: &Events) {
        if !std::mem::replace(&mut self.away, true) {
            events.warn("no broker can be reached; reading goes on when one is back");
        }
    }

    /// Brokers refuse who asks.
    pub(crate) fn denied(&mut self, error: Error, events: &Events) {
        if self.denied.is_none() {
            events.warn(format!("{error}; trying on for {} s", DENIED_FOR.as_secs()));
            self.denied = Some((Instant::now(), error));
        }
    }

    /// A topic that is to be read is not there.
    pub(crate) fn missing(&mut self, topic: String, events: &Events) {
        if !self.missing.contains(&topic) {
            events.warn(format!("the topic {topic} is not there; it is read as soon as it is"));
            self.missing.insert(topic);
        }
    }

    /// A broker has answered.
    fn answered(&mut self, events: &Events) {
        self.denied = None;
        if std::mem::replace(&mut self.away, false) {
            events.note("brokers can be reached again");
        }
    }

    /// The error if brokers have refused who asks for too long.
    fn given_up(&mut self) -> Option<Error> {
        match &self.denied {
            Some((since, _)) if since.elapsed() > DENIED_FOR => self.denied.take().map(|(_, error)| error),
            _ => None,
        }
    }

    fn is_due(&self) -> bool {
        let every = if self.away || self.denied.is_some() { EVERY_WHEN_AWAY } else { EVERY };
        !self.looking && self.looked.is_none_or(|looked| looked.elapsed() >= every)
    }
}

impl Reader {
    /// Looks from time to time whether things are as they were.
    pub(crate) fn look_around(&mut self) {
        if let Some(error) = self.health.given_up() {
            return self.fail(error);
        }
        if self.health.seen_to.is_none_or(|last| last.elapsed() >= EVERY_SECOND) {
            self.health.seen_to = Some(Instant::now());
            self.handover.set_lags(self.lags());
            self.cover_quiet_ends();
            self.find_out_that_there_is_nothing();
            self.tell_of_times_to_come();
        }
        if !self.health.is_due() {
            return;
        }
        let topics = match self.slots.topics() {
            topics if topics.is_empty() => self.placing.before.keys().take(1).cloned().collect(),
            topics => topics,
        };
        if topics.is_empty() {
            return;
        }
        self.health.looking = true;
        let names: Vec<Name> = self.slots.iter().map(|slot| slot.name.clone()).collect();
        let (client, handover, waker) = (self.client.clone(), self.handover.clone(), self.waker.clone());
        self.runtime.spawn_blocking(move || {
            let answer = describe_topics(&client, &topics, PATIENCE).map(|topics| topics.into_iter().collect());
            let ends = if answer.is_ok() { ends(&client, &names, PATIENCE) } else { Vec::new() };
            drop(client);
            handover.ask(Command::Checked(Checked { topics: answer, ends }));
            waker.wake();
        });
    }

    /// A change that moves away from a partition whose time is ahead is taken for an older one.
    fn tell_of_times_to_come(&mut self) {
        let now = Utc::now().timestamp_millis();
        let ahead = self.slots.iter().find(|slot| slot.latest.is_some_and(|latest| latest > now + AHEAD));
        if let (Some(slot), false) = (ahead, self.health.ahead) {
            self.health.ahead = true;
            let time = slot.latest.and_then(DateTime::from_timestamp_millis).unwrap_or_default();
            self.events.warn(format!(
                "a record of {} says that it was written at {time}: until then, changes of a key that moves from there to another partition \
                 are taken for older ones",
                slot.name
            ));
        }
    }

    /// A member without partitions has joined, too.
    fn find_out_that_there_is_nothing(&mut self) {
        if self.joined || self.assigning.is_some() {
            return;
        }
        if !is_member(&self.client) {
            self.health.empty_handed = None;
            return;
        }
        let since = *self.health.empty_handed.get_or_insert_with(Instant::now);
        self.joined = since.elapsed() >= EMPTY_HANDED;
    }

    /// What a look found.
    pub(crate) fn checked(&mut self, checked: Checked) {
        self.health.looking = false;
        self.health.looked = Some(Instant::now());
        let topics = match checked.topics {
            Ok(topics) => topics,
            Err(why) => {
                tracing::debug!(why, "the cluster does not answer");
                return;
            }
        };
        self.health.answered(&self.events);
        for (name, end) in checked.ends {
            if let Some(slot) = self.slots.get(&name) {
                slot.end = end;
            }
        }
        for (topic, answer) in topics {
            let Ok(Described { id: Some(id), .. }) = answer else { continue };
            self.health.missing.remove(&topic);
            // librdkafka reads by the id that it last told; while that is the one that is read here, what comes is of that topic.
            if self.fence.get(&topic).is_some_and(|fence| *fence != id) {
                continue;
            }
            let other = |slot: &crate::slots::Slot| {
                *slot.name.topic == *topic
                    && slot.state == State::Reading
                    && slot.identity.id.as_ref().is_some_and(|known| *known != id)
            };
            if self.slots.iter().any(other) {
                self.recreated(&topic);
            }
        }
    }
}
