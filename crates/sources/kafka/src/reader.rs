//! The thread that reads: it hears what the client tells, fills deliveries, and keeps the group alive while nobody takes them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore_core::error::{Error, Kind, code};
use longshore_core::event::Events;
use longshore_core::position::Delta;
use longshore_core::stream::Lag;
use rdkafka::Offset;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::fill::Filling;
use crate::handover::{Handover, Item};
use crate::health::Health;
use crate::native::{Client, Queue, Trouble, Waker, What, watermarks};
use crate::oauth::{Token, Tokens};
use crate::place::{Outcome, Placing, Wanted};
use crate::point::Point;
use crate::slots::{Name, Slots, State};
use crate::survey::list;
use crate::trouble::{Verdict, judge};

/// The longest wait for an event; commands end it.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// How long nothing is heard of the client while deliveries wait to be taken, before partitions are paused so that it can be.
const UNHEARD: Duration = Duration::from_secs(1);
/// Events heard before anything else is looked at.
const IN_A_ROW: usize = 1000;
/// How long the group may take to let go.
const FAREWELL: Duration = Duration::from_secs(10);

/// What is asked of the thread.
pub(crate) enum Command {
    /// It was found out where partitions begin.
    Placed(Placement),
    /// What the cluster says about the topics that are read, and the ends of their partitions.
    Checked(crate::health::Checked),
    /// Begin again from where the journal is; told once nothing of before is handed out any more.
    Rewind(oneshot::Sender<()>),
    /// These are complete.
    Commit(Vec<Delta>),
    /// A token, or why there is none.
    Token(Result<Token, String>),
    /// Leave the group and end.
    Close,
}

/// Where partitions begin, and what that was found out for.
pub(crate) struct Placement {
    pub(crate) ticket: u64,
    pub(crate) purpose: Purpose,
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) tries: u32,
    pub(crate) outcomes: longshore_core::Result<Vec<Outcome>>,
}

/// What places are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Partitions that the group has given and that are to be assigned.
    Assign,
    /// Partitions that are assigned.
    Seek,
}

/// What the thread works with.
pub(crate) struct Reader {
    pub(crate) queue: Arc<Queue>,
    pub(crate) client: Arc<Client>,
    pub(crate) handover: Arc<Handover>,
    pub(crate) waker: Waker,
    pub(crate) placing: Arc<Placing>,
    pub(crate) runtime: Handle,
    pub(crate) events: Events,
    pub(crate) tokens: Option<Tokens>,
    pub(crate) slots: Slots,
    pub(crate) filling: Filling,
    pub(crate) health: Health,
    /// Whether messages are changes by key, whose order has to be known.
    pub(crate) changes: bool,
    /// The ids by which librdkafka reads topics now, as its log says.
    pub(crate) fence: HashMap<String, String>,
    /// The search for the places of partitions that wait to be assigned.
    pub(crate) assigning: Option<u64>,
    pub(crate) ticket: u64,
    /// Whether the group has said at least once what is this member's.
    pub(crate) joined: bool,
    /// Whether it was told that everything is handed out.
    pub(crate) told: bool,
    pub(crate) paused: bool,
    /// Since when there is no room for what is full.
    pub(crate) full: Option<Instant>,
    /// Errors of commits that were told.
    pub(crate) refused_commits: HashSet<i32>,
    pub(crate) ends: bool,
}

impl Reader {
    /// Reads until it is asked to end, or cannot go on.
    pub(crate) fn run(mut self) {
        let _ending = Ending(self.handover.clone());
        while !self.ends {
            self.serve();
            if self.ends {
                break;
            }
            self.hand_over();
            self.look_around();
            self.hear();
        }
        self.leave();
    }

    /// Does what was asked.
    fn serve(&mut self) {
        if self.handover.is_deserted() {
            self.ends = true;
        }
        while let Some(command) = self.handover.asked() {
            match command {
                Command::Placed(placement) => self.placed(placement),
                Command::Checked(checked) => self.checked(checked),
                Command::Rewind(done) => {
                    self.rewind();
                    // Whoever asked may be gone.
                    let _ = done.send(());
                }
                Command::Commit(deltas) => self.commit(&deltas),
                Command::Token(token) => crate::contact::give(&self.client, token),
                Command::Close => self.ends = true,
            }
        }
    }

    /// Hands over what is full or old enough, if there is room; else waits for it, and not too long.
    fn hand_over(&mut self) {
        if !self.filling.is_due() {
            self.full = None;
        } else if self.handover.has_room() {
            self.flush();
        } else {
            let since = *self.full.get_or_insert_with(Instant::now);
            if since.elapsed() < UNHEARD {
                self.handover.wait_for_room(Duration::from_millis(100));
            } else {
                self.pause();
            }
        }
        if self.paused && self.handover.has_room() {
            self.resume();
        }
        self.tell_end();
    }

    /// Hears what the client has to tell.
    fn hear(&mut self) {
        if self.filling.is_due() && !self.paused {
            // There was no room a moment ago.
            return;
        }
        let queue = self.queue.clone();
        let mut wait = match self.filling.time_left() {
            // Whoever takes something ends the wait.
            Some(left) if !self.paused => left.min(LONGEST_WAIT),
            _ => LONGEST_WAIT,
        };
        for _ in 0..IN_A_ROW {
            let Some(mut event) = queue.poll(wait) else { return };
            wait = Duration::ZERO;
            match event.what() {
                What::Record(record) => {
                    self.record(&record);
                    if self.filling.is_full() {
                        return;
                    }
                }
                What::End { topic, partition, offset } => self.end(&topic, partition, offset),
                What::Assigned(partitions) => self.assigned(partitions),
                What::Revoked(partitions) => self.revoked(&partitions),
                What::Trouble(trouble) => self.trouble(&trouble),
                What::Committed(Some(error)) => self.commit_refused(error),
                What::Log { level, text } => self.log(level, &text),
                What::Token => self.fetch_token(),
                What::Committed(None) | What::Other => {}
            }
            if self.ends {
                return;
            }
        }
    }

    /// Ends with an error.
    pub(crate) fn fail(&mut self, error: Error) {
        self.handover.fail(error);
        self.ends = true;
    }

    fn trouble(&mut self, trouble: &Trouble) {
        tracing::debug!(?trouble, "the client tells of an error");
        match judge(trouble) {
            Verdict::Ends(error) => self.fail(error),
            Verdict::Denied(error) => self.health.denied(error, &self.events),
            Verdict::Away => self.health.away(&self.events),
            Verdict::Missing(topic) => self.health.missing(topic, &self.events),
            Verdict::OutOfRange { topic, partition, truncated } => self.out_of_range(&topic, partition, truncated),
            Verdict::Passing => {}
        }
    }

    fn fetch_token(&self) {
        let Some(tokens) = self.tokens.clone() else { return };
        let (handover, waker) = (self.handover.clone(), self.waker.clone());
        self.runtime.spawn(async move {
            handover.ask(Command::Token(tokens.fetch().await));
            waker.wake();
        });
    }

    /// While nobody takes what is full, the group has to be kept alive without reading more.
    fn pause(&mut self) {
        if !self.paused {
            self.paused = true;
            tracing::debug!("nobody takes what was read: paused");
            self.pause_all();
        }
    }

    pub(crate) fn pause_all(&self) {
        let all = list(self.slots.iter().map(|slot| (&slot.name, Offset::Invalid)));
        if all.count() > 0
            && let Err(error) = self.client.pause(&all)
        {
            tracing::warn!(%error, "partitions could not be paused");
        }
    }

    fn resume(&mut self) {
        self.paused = false;
        tracing::debug!("there is room: resumed");
        let all = list(self.slots.iter().map(|slot| (&slot.name, Offset::Invalid)));
        if all.count() > 0
            && let Err(error) = self.client.resume(&all)
        {
            self.fail(crate::assign::refused("partitions could not be resumed", &error));
        }
    }

    /// Tells once that everything is handed out, as often as that becomes true.
    fn tell_end(&mut self) {
        let waiting = self.told || !self.joined || self.assigning.is_some() || !self.filling.is_empty();
        if !waiting && self.slots.iter().all(|slot| slot.state == State::Reading && slot.at_end) {
            self.told = true;
            self.handover.push(Item::CaughtUp);
        }
    }

    /// Commits the group's offsets for partitions that are this member's, for other tools to see. Never backwards.
    fn commit(&mut self, deltas: &[Delta]) {
        let mut done: Vec<(Name, i64)> = Vec::new();
        for slot in self.slots.iter_mut() {
            let of_slot = deltas.iter().filter(|delta| delta.partition == slot.identity.partition);
            let Some(to) =
                of_slot.filter_map(|delta| Point::of(&delta.partition, &delta.to).ok()).map(|point| point.offset).max()
            else {
                continue;
            };
            if to > slot.acknowledged {
                slot.acknowledged = to;
                done.push((slot.name.clone(), to));
            }
        }
        if done.is_empty() {
            return;
        }
        let offsets = list(done.iter().map(|(name, to)| (name, Offset::Offset(*to))));
        if let Err(error) = self.client.commit(&offsets, CommitMode::Async) {
            tracing::debug!(%error, "offsets were not committed");
        }
    }

    fn commit_refused(&mut self, error: RDKafkaErrorCode) {
        use RDKafkaErrorCode as Broker;
        tracing::debug!(?error, "offsets were not committed");
        // While the group changes, or a broker is away, this happens, and the next commit makes up for it.
        let passes = matches!(
            error,
            Broker::RebalanceInProgress
                | Broker::IllegalGeneration
                | Broker::UnknownMemberId
                | Broker::StaleMemberEpoch
                | Broker::FencedMemberEpoch
                | Broker::NoOffset
                | Broker::AssignmentLost
                | Broker::DestroyBroker
                | Broker::BrokerTransportFailure
                | Broker::OperationTimedOut
                | Broker::RequestTimedOut
                | Broker::WaitingForCoordinator
                | Broker::NotCoordinator
                | Broker::CoordinatorNotAvailable
                | Broker::CoordinatorLoadInProgress
        );
        if !passes && self.refused_commits.insert(error as i32) {
            self.events.warn(format!(
                "the group's offsets could not be committed: {error}; nothing is lost by that, but other tools show old offsets"
            ));
        }
    }

    /// How far behind each partition is, by what is known without asking.
    pub(crate) fn lags(&self) -> Vec<Lag> {
        let lag = |slot: &crate::slots::Slot| {
            let seen = watermarks(&self.client, &slot.name.topic, slot.name.number).map_or(-1, |(_, high)| high);
            let behind = u64::try_from(seen.max(slot.end) - slot.next).unwrap_or(0);
            Lag { name: slot.name.to_string(), messages: (slot.state == State::Reading).then_some(behind) }
        };
        self.slots.iter().map(lag).collect()
    }

    /// Leaves the group, so that others take over at once.
    fn leave(&mut self) {
        let none = list([]);
        if self.assigning.take().is_some() {
            // It waits for an answer to what it gave.
            let _ = self.client.incremental_assign(&none);
        }
        if let Err(error) = self.client.close_queue() {
            tracing::debug!(%error, "the group was not left");
            return;
        }
        let until = Instant::now() + FAREWELL;
        while !self.client.closed() && Instant::now() < until {
            let Some(mut event) = self.queue.poll(Duration::from_millis(20)) else { continue };
            // Any answer will do: everything is taken back now.
            let _ = match event.what() {
                What::Assigned(_) => self.client.incremental_assign(&none),
                What::Revoked(_) => self.client.incremental_unassign(&none),
                _ => Ok(()),
            };
        }
    }
}

/// Says that the thread is gone, however it went.
struct Ending(Arc<Handover>);

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(Error::new(Kind::Bug, code::BUG, "the thread that reads Kafka has stopped"));
        }
        self.0.end();
    }
}
