//! Between the thread that reads and the task that asks: what was read, in order and bounded, and what is asked of the thread.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longshore_core::error::Error;
use longshore_core::position::{Delta, Position};
use longshore_core::stream::Lag;
use longshore_messages::Messages;
use tokio::sync::Notify;

use crate::reader::Command;
use crate::slots::Name;

/// So many deliveries wait at most, beside the one that is being filled.
const WAITING: usize = 4;

/// What the thread gives.
pub(crate) enum Item {
    Filled(Filled),
    CaughtUp,
    Rebalance,
}

/// Messages, and what they cover of which partitions.
pub(crate) struct Filled {
    pub(crate) messages: Messages,
    pub(crate) parts: Vec<Part>,
}

/// What a delivery covers of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: Name,
    pub(crate) delta: Delta,
    /// The offset where it was begun to read.
    pub(crate) begun: i64,
}

/// A place to go back to: where what was dropped of a partition began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) name: Name,
    pub(crate) from: Option<Position>,
    pub(crate) begun: i64,
}

/// What is to be handed out next.
pub(crate) enum Front {
    /// A delivery of so many bytes.
    Filled(u64),
    Mark(Item),
    Nothing,
    Ended,
}

/// Shared by the thread and the task.
#[derive(Default)]
pub(crate) struct Handover {
    state: Mutex<State>,
    /// Something came.
    arrived: Notify,
    /// Something was taken, or asked.
    changed: Condvar,
    /// The thread has ended.
    ended: Notify,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    deliveries: usize,
    commands: VecDeque<Command>,
    failure: Option<Error>,
    ended: bool,
    deserted: bool,
    lags: Vec<Lag>,
}

impl Handover {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock leaves it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds something behind the rest.
    pub(crate) fn push(&self, item: Item) {
        let mut state = self.state();
        state.deliveries += usize::from(matches!(item, Item::Filled(_)));
        state.items.push_back(item);
        drop(state);
        self.arrived.notify_one();
    }

    /// Adds something that is to be known at once.
    pub(crate) fn push_front(&self, item: Item) {
        self.state().items.push_front(item);
        self.arrived.notify_one();
    }

    /// Whether another delivery may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.state().deliveries < WAITING
    }

    /// Waits for room, or for a command, and not longer than this.
    pub(crate) fn wait_for_room(&self, longest: Duration) {
        let state = self.state();
        let full = |state: &mut State| state.deliveries >= WAITING && state.commands.is_empty() && !state.deserted;
        drop(self.changed.wait_timeout_while(state, longest, full).unwrap_or_else(PoisonError::into_inner));
    }

    /// Forgets everything that waits.
    pub(crate) fn clear(&self) {
        let mut state = self.state();
        state.items.clear();
        state.deliveries = 0;
        drop(state);
        self.changed.notify_all();
    }

    /// Forgets what waits of partitions that are gone. A delivery that has something of them goes, and all behind it with messages, since they
    /// would not join what was handed out before. Returns where to go back to in the partitions that are not gone.
    pub(crate) fn forget(&self, gone: impl Fn(&Name) -> bool) -> Vec<Dropped> {
        let mut state = self.state();
        let mut dropped: Vec<Dropped> = Vec::new();
        let mut cut = false;
        for item in std::mem::take(&mut state.items) {
            let Item::Filled(mut filled) = item else {
                // Whether everything was handed out is found out anew.
                state.items.extend(matches!(item, Item::Rebalance).then_some(item));
                continue;
            };
            if filled.messages.is_empty() && !cut {
                filled.parts.retain(|part| !gone(&part.name));
                if !filled.parts.is_empty() {
                    state.items.push_back(Item::Filled(filled));
                }
                continue;
            }
            cut = cut || filled.parts.iter().any(|part| gone(&part.name));
            if !cut {
                state.items.push_back(Item::Filled(filled));
                continue;
            }
            for part in filled.parts {
                if !gone(&part.name) && dropped.iter().all(|before| before.name != part.name) {
                    dropped.push(Dropped { name: part.name, from: part.delta.from, begun: part.begun });
                }
            }
        }
        state.deliveries = state.items.iter().filter(|item| matches!(item, Item::Filled(_))).count();
        drop(state);
        self.changed.notify_all();
        dropped
    }

    /// The reading ended with this error, which is handed out behind what waits.
    pub(crate) fn fail(&self, error: Error) {
        let mut state = self.state();
        if state.failure.is_none() && !state.ended {
            state.failure = Some(error);
        }
        state.ended = true;
        drop(state);
        self.arrived.notify_one();
        self.ended.notify_waiters();
        self.changed.notify_all();
    }

    /// The thread is gone.
    pub(crate) fn end(&self) {
        self.state().ended = true;
        self.arrived.notify_one();
        self.ended.notify_waiters();
    }

    /// Asks the thread for something. It has to be woken.
    pub(crate) fn ask(&self, command: Command) {
        self.state().commands.push_back(command);
        self.changed.notify_all();
    }

    /// What was asked.
    pub(crate) fn asked(&self) -> Option<Command> {
        self.state().commands.pop_front()
    }

    /// Nobody asks any more.
    pub(crate) fn desert(&self) {
        self.state().deserted = true;
        self.changed.notify_all();
    }

    /// Whether nobody asks any more.
    pub(crate) fn is_deserted(&self) -> bool {
        self.state().deserted
    }

    /// Keeps how far behind the partitions are.
    pub(crate) fn set_lags(&self, lags: Vec<Lag>) {
        self.state().lags = lags;
    }

    pub(crate) fn lags(&self) -> Vec<Lag> {
        self.state().lags.clone()
    }

    /// What comes next. A mark is taken by looking at it.
    pub(crate) fn front(&self) -> Front {
        let mut state = self.state();
        match state.items.pop_front() {
            Some(Item::Filled(filled)) => {
                let bytes = filled.messages.bytes();
                state.items.push_front(Item::Filled(filled));
                Front::Filled(bytes)
            }
            Some(mark) => Front::Mark(mark),
            None if state.ended => Front::Ended,
            None => Front::Nothing,
        }
    }

    /// Takes the first delivery, if it is first and has at most so many bytes.
    pub(crate) fn take(&self, bytes: u64) -> Option<Filled> {
        let mut state = self.state();
        let filled = match state.items.pop_front() {
            Some(Item::Filled(filled)) if filled.messages.bytes() <= bytes => filled,
            other => {
                if let Some(item) = other {
                    state.items.push_front(item);
                }
                return None;
            }
        };
        state.deliveries -= 1;
        drop(state);
        self.changed.notify_all();
        Some(filled)
    }

    /// Waits until something came, or the thread has ended. May be dropped while it waits.
    pub(crate) async fn arrival(&self) {
        self.arrived.notified().await;
    }

    /// The error that ended the reading, once.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.state().failure.take()
    }

    /// Whether the thread has ended or failed.
    pub(crate) fn has_ended(&self) -> bool {
        self.state().ended
    }

    /// Waits until the thread has ended or failed.
    pub(crate) async fn end_of_reading(&self) {
        let ended = self.ended.notified();
        tokio::pin!(ended);
        // Registered before the look, so that nothing is missed between the two.
        ended.as_mut().enable();
        if !self.state().ended {
            ended.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use longshore_core::position::Partition;
    use longshore_messages::{From, Message};

    use super::*;

    /// A delivery of some partitions, each from an offset to another; without messages if it only moves positions.
    fn filled(parts: &[(i32, Option<u64>, u64)], messages: bool) -> Item {
        let mut all = Messages::new();
        if messages {
            let from = From::Kafka { topic: "t", partition: 0, offset: 0 };
            all.push(Message { key: None, value: Some(b"v"), headers: &[], from, time: None, latest: None });
        }
        let part = |(number, from, to): &(i32, Option<u64>, u64)| Part {
            name: Name { topic: "t".into(), number: *number },
            delta: Delta {
                partition: Partition(format!("t/{number}")),
                from: from.map(Position::from_count),
                to: Position::from_count(*to),
            },
            begun: from.unwrap_or(0) as i64,
        };
        Item::Filled(Filled { messages: all, parts: parts.iter().map(part).collect() })
    }

    /// The partitions and ends of what waits.
    fn waiting(handover: &Handover) -> Vec<Vec<(i32, String)>> {
        let state = handover.state();
        let parts = |item: &Item| match item {
            Item::Filled(filled) => filled.parts.iter().map(|part| (part.name.number, part.delta.to.0.clone())).collect(),
            Item::CaughtUp | Item::Rebalance => Vec::new(),
        };
        state.items.iter().map(parts).collect()
    }

    fn at(number: i32, to: u64) -> (i32, String) {
        (number, Position::from_count(to).0)
    }

    #[test]
    fn what_waits_before_the_first_delivery_of_a_partition_that_is_gone_stays() {
        let handover = Handover::default();
        handover.push(filled(&[(0, None, 5)], true));
        handover.push(filled(&[(0, Some(5), 9), (1, None, 3)], true));
        handover.push(Item::CaughtUp);
        handover.push(filled(&[(0, Some(9), 12), (2, None, 2)], true));
        let dropped = handover.forget(|name| name.number == 1);
        assert_eq!(waiting(&handover), [vec![at(0, 5)]]);
        let back: Vec<(i32, Option<Position>, i64)> =
            dropped.into_iter().map(|dropped| (dropped.name.number, dropped.from, dropped.begun)).collect();
        assert_eq!(back, [(0, Some(Position::from_count(5)), 5), (2, None, 0)], "where the first of each that was dropped began");
    }

    #[test]
    fn a_start_that_waits_loses_only_what_is_gone() {
        let handover = Handover::default();
        handover.push(filled(&[(0, None, 70), (1, None, 80)], false));
        handover.push(filled(&[(1, None, 90)], false));
        assert_eq!(handover.forget(|name| name.number == 1), []);
        assert_eq!(waiting(&handover), [vec![at(0, 70)]]);
    }

    #[test]
    fn nothing_is_dropped_for_partitions_that_nothing_waits_of() {
        let handover = Handover::default();
        handover.push(filled(&[(0, None, 5)], true));
        handover.push_front(Item::Rebalance);
        assert_eq!(handover.forget(|name| name.number == 1), []);
        assert_eq!(waiting(&handover).len(), 2);
    }

    #[test]
    fn room_is_counted_in_deliveries_and_comes_back() {
        let handover = Handover::default();
        (0..WAITING).for_each(|_| handover.push(filled(&[(0, None, 5)], true)));
        handover.push(Item::CaughtUp);
        assert!(!handover.has_room());
        assert!(handover.take(0).is_none(), "it has more bytes");
        assert!(handover.take(1).is_some() && handover.has_room());
        handover.clear();
        assert!(matches!(handover.front(), Front::Nothing));
    }

    #[test]
    fn an_error_comes_behind_what_waits_and_once() {
        let handover = Handover::default();
        handover.push(filled(&[(0, None, 5)], true));
        let error = || Error::new(longshore_core::error::Kind::Source, crate::error::KAFKA_FAILED, "x");
        handover.fail(error());
        handover.fail(error());
        assert!(matches!(handover.front(), Front::Filled(1)));
        assert!(handover.take(1).is_some() && matches!(handover.front(), Front::Ended));
        assert!(handover.failure().is_some() && handover.failure().is_none());
    }
}
