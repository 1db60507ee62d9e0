//! Which partitions are this member's, and where they are read.
//!
//! A partition that the group gives is assigned only when its place is known, with that place, so that nothing is ever fetched from anywhere
//! else. The group waits for that answer; it is one question to the cluster and one to the journal.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use longshore_core::error::{Error, Kind, Retry};
use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;

use crate::handover::{Dropped, Item};
use crate::place::{Outcome, PATIENCE, Placed, Wanted, Whence};
use crate::point::Point;
use crate::reader::{Command, Placement, Purpose, Reader};
use crate::slots::{Identity, Name, Slot, State};
use crate::survey::list;

/// The wait before it is asked again about partitions that could not be placed.
const AGAIN: Duration = Duration::from_secs(1);
/// The wait before it is asked again about a topic that librdkafka knows by another id than the cluster says, and how often.
const ID_AGAIN: Duration = Duration::from_millis(200);
const ID_TRIES: u32 = 10;

impl Reader {
    /// The group gives partitions.
    pub(crate) fn assigned(&mut self, partitions: Vec<(String, i32)>) {
        tracing::debug!(?partitions, "the group gives partitions");
        if partitions.is_empty() {
            self.assigning = None;
            self.assign(self.ticket, &[]);
            return;
        }
        let journal = Whence::Journal { chosen: None };
        let wanted = partitions
            .into_iter()
            .map(|(topic, number)| Wanted { name: Name { topic: topic.into(), number }, whence: journal.clone() })
            .collect();
        let ticket = self.search(Purpose::Assign, wanted);
        self.assigning = Some(ticket);
    }

    /// The group takes partitions away, or somebody else has them already. What waits of them is forgotten: whoever has them now reads it again.
    pub(crate) fn revoked(&mut self, partitions: &[(String, i32)]) {
        tracing::debug!(?partitions, "the group takes partitions");
        self.assigning = None;
        self.flush();
        let gone: HashSet<(&str, i32)> = partitions.iter().map(|(topic, number)| (topic.as_str(), *number)).collect();
        let dropped = self.handover.forget(|name| gone.contains(&(&*name.topic, name.number)));
        let mut had = Vec::new();
        for (topic, number) in partitions {
            let name = Name { topic: topic.as_str().into(), number: *number };
            had.extend(self.slots.remove(&name).map(|slot| slot.name));
        }
        self.told = false;
        let list = list(had.iter().map(|name| (name, Offset::Invalid)));
        if let Err(error) = self.client.incremental_unassign(&list) {
            self.fail(refused("partitions could not be given back", &error));
            return;
        }
        self.go_back(dropped);
        if !had.is_empty() {
            self.handover.push_front(Item::Rebalance);
        }
    }

    /// Reads once more what was dropped unread of partitions that are still this member's.
    fn go_back(&mut self, dropped: Vec<Dropped>) {
        let mut back = Vec::new();
        for dropped in dropped {
            let Some(slot) = self.slots.get(&dropped.name) else { continue };
            if slot.state != State::Reading {
                continue;
            }
            slot.covered = match &dropped.from {
                None => None,
                Some(from) => match Point::of(&slot.identity.partition, from) {
                    Ok(point) => Some(point),
                    Err(error) => return self.fail(error),
                },
            };
            slot.next = dropped.begun;
            slot.latest = slot.covered.or(slot.start.map(|start| start.point)).and_then(|point| point.latest);
            slot.at_end = false;
            back.push(dropped.name);
        }
        self.seek(&back);
        back.iter().for_each(|name| self.announce(name));
    }

    /// Begins again from where the journal is.
    pub(crate) fn rewind(&mut self) {
        self.handover.clear();
        self.forget_filled();
        // Even if there is nothing to be placed.
        self.told = false;
        let names: Vec<Name> = self.slots.iter().map(|slot| slot.name.clone()).collect();
        self.place_again(&names);
    }

    /// Finds out anew where partitions are to be read. What comes of them until then is dropped.
    fn place_again(&mut self, names: &[Name]) {
        let mut wanted = Vec::new();
        for name in names {
            let Some(slot) = self.slots.get(name) else { continue };
            let chosen = slot.start.map(|start| (slot.identity.clone(), start));
            wanted.push(Wanted { name: name.clone(), whence: Whence::Journal { chosen } });
        }
        self.search_seeking(wanted);
    }

    fn search_seeking(&mut self, wanted: Vec<Wanted>) {
        if wanted.is_empty() {
            return;
        }
        let names: Vec<Name> = wanted.iter().map(|wanted| wanted.name.clone()).collect();
        let ticket = self.search(Purpose::Seek, wanted);
        for name in &names {
            if let Some(slot) = self.slots.get(name) {
                slot.state = State::Placing(ticket);
                slot.at_end = false;
            }
        }
        self.told = false;
    }

    /// The offset that was to be read of a partition is not there.
    pub(crate) fn out_of_range(&mut self, topic: &str, partition: i32, truncated: bool) {
        let Some(at) = self.slots.find(topic, partition) else { return };
        let Some(slot) = self.slots.at(at).filter(|slot| slot.state == State::Reading) else { return };
        let whence = Whence::Here { identity: slot.identity.clone(), next: slot.next, truncated };
        let wanted = Wanted { name: slot.name.clone(), whence };
        self.search_seeking(vec![wanted]);
    }

    /// A topic is another one than it was: its partitions end, and those of the new one begin.
    pub(crate) fn recreated(&mut self, topic: &str) {
        // What was read so far is of the topic before, and stays.
        self.flush();
        let of_topic = |slot: &&Slot| &*slot.name.topic == topic;
        let names: Vec<Name> = self.slots.iter().filter(of_topic).map(|slot| slot.name.clone()).collect();
        self.place_again(&names);
    }

    fn search(&mut self, purpose: Purpose, wanted: Vec<Wanted>) -> u64 {
        self.ticket += 1;
        self.search_after(Duration::ZERO, self.ticket, purpose, wanted, 0);
        self.ticket
    }

    fn search_after(&self, wait: Duration, ticket: u64, purpose: Purpose, wanted: Vec<Wanted>, tries: u32) {
        let (placing, handover, waker) = (self.placing.clone(), self.handover.clone(), self.waker.clone());
        self.runtime.spawn(async move {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            let outcomes = placing.place(wanted.clone()).await;
            handover.ask(Command::Placed(Placement { ticket, purpose, wanted, tries, outcomes }));
            waker.wake();
        });
    }

    /// It was found out where partitions are to be read.
    pub(crate) fn placed(&mut self, placement: Placement) {
        let Placement { ticket, purpose, wanted, tries, outcomes } = placement;
        if purpose == Purpose::Assign && self.assigning != Some(ticket) {
            return;
        }
        if purpose == Purpose::Seek && self.slots.iter().all(|slot| slot.state != State::Placing(ticket)) {
            return;
        }
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(error) => return self.fail(error),
        };
        if tries < ID_TRIES && outcomes.iter().any(|outcome| self.is_other_topic(outcome)) {
            self.search_after(ID_AGAIN, ticket, purpose, wanted, tries + 1);
            return;
        }
        match purpose {
            Purpose::Assign => {
                self.assigning = None;
                self.assign(ticket, &outcomes);
            }
            Purpose::Seek => self.take_places(ticket, &outcomes),
        }
        let later: HashSet<Name> = outcomes
            .into_iter()
            .filter_map(|outcome| match outcome {
                Outcome::Later(name, why) => {
                    tracing::debug!(%name, why, "cannot be placed yet");
                    Some(name)
                }
                Outcome::Placed(_) => None,
            })
            .collect();
        self.try_later(ticket, wanted.into_iter().filter(|wanted| later.contains(&wanted.name)).collect());
    }

    /// Whether librdkafka reads a topic by another id than the one that a place was found for.
    fn is_other_topic(&self, outcome: &Outcome) -> bool {
        let Outcome::Placed(placed) = outcome else { return false };
        match (self.fence.get(&*placed.name.topic), &placed.identity.id) {
            (Some(fence), Some(id)) => fence != id,
            _ => false,
        }
    }

    fn try_later(&mut self, ticket: u64, wanted: Vec<Wanted>) {
        let mut still = Vec::new();
        for wanted in wanted {
            if self.slots.get(&wanted.name).is_some_and(|slot| slot.state == State::Placing(ticket)) {
                still.push(wanted);
            }
        }
        if !still.is_empty() {
            self.search_after(AGAIN, ticket, Purpose::Seek, still, 0);
        }
    }

    /// Answers the group: partitions are read from their places on. One that has none yet is read, too, and what comes of it dropped, because
    /// the group waits; its place comes later, by the same ticket.
    fn assign(&mut self, ticket: u64, outcomes: &[Outcome]) {
        let offsets: Vec<(&Name, Offset)> = outcomes
            .iter()
            .map(|outcome| match outcome {
                Outcome::Placed(placed) => (&placed.name, Offset::Offset(placed.next)),
                Outcome::Later(name, _) => (name, Offset::End),
            })
            .collect();
        tracing::debug!(?offsets, "partitions are assigned");
        if let Err(error) = self.client.incremental_assign(&list(offsets)) {
            self.fail(refused("partitions could not be taken", &error));
            return;
        }
        for outcome in outcomes {
            let slot = match outcome {
                Outcome::Placed(placed) => slot(&placed.name, &placed.identity, placed.next, State::Reading),
                Outcome::Later(name, _) => {
                    let unknown = Identity::new(&self.placing.cluster, name, None);
                    slot(name, &unknown, 0, State::Placing(ticket))
                }
            };
            self.slots.insert(slot);
            if let Outcome::Placed(placed) = outcome {
                self.settle(placed);
            }
        }
        self.joined = true;
        self.told = false;
        if self.paused {
            self.pause_all();
        }
    }

    /// Partitions that are read already are read from their places on.
    fn take_places(&mut self, ticket: u64, outcomes: &[Outcome]) {
        let mut taken = Vec::new();
        for outcome in outcomes {
            let Outcome::Placed(placed) = outcome else { continue };
            let Some(slot) = self.slots.get(&placed.name).filter(|slot| slot.state == State::Placing(ticket)) else { continue };
            slot.next = placed.next;
            slot.at_end = false;
            taken.push(placed);
        }
        let names: Vec<Name> = taken.iter().map(|placed| placed.name.clone()).collect();
        if self.seek(&names) {
            taken.into_iter().for_each(|placed| self.settle(placed));
        }
    }

    /// A partition is at its place.
    fn settle(&mut self, placed: &Placed) {
        let Some(slot) = self.slots.get(&placed.name) else { return };
        slot.state = State::Reading;
        slot.end = placed.end;
        if placed.here {
            return;
        }
        slot.identity = placed.identity.clone();
        slot.covered = placed.covered;
        slot.start = placed.start;
        slot.latest = placed.covered.or(placed.start.map(|start| start.point)).and_then(|point| point.latest);
        self.announce(&placed.name);
    }

    /// Reads partitions from their `next` on; `false` if that is impossible, which ends the reading.
    fn seek(&mut self, names: &[Name]) -> bool {
        let mut offsets = Vec::new();
        for name in names {
            offsets.extend(self.slots.get(name).map(|slot| (name, Offset::Offset(slot.next))));
        }
        if offsets.is_empty() {
            return true;
        }
        tracing::debug!(?offsets, "partitions are read from other offsets");
        let answer = match self.client.seek_partitions(list(offsets), PATIENCE) {
            Ok(answer) => answer,
            Err(error) => {
                self.fail(refused("partitions could not be read from another offset", &error));
                return false;
            }
        };
        // librdkafka does not seek where it has given up reading because an offset was not there.
        let stuck: Vec<Name> = answer
            .elements()
            .iter()
            .filter(|element| element.error().is_err())
            .map(|element| Name { topic: element.topic().into(), number: element.partition() })
            .collect();
        stuck.is_empty() || self.assign_anew(&stuck)
    }

    fn assign_anew(&mut self, names: &[Name]) -> bool {
        let mut offsets = Vec::new();
        for name in names {
            offsets.extend(self.slots.get(name).map(|slot| (name, Offset::Offset(slot.next))));
        }
        tracing::debug!(?offsets, "partitions are assigned anew");
        let offsets = list(offsets);
        let done = self.client.incremental_unassign(&offsets).and_then(|()| self.client.incremental_assign(&offsets));
        if let Err(error) = done {
            self.fail(refused("partitions could not be taken anew", &error));
            return false;
        }
        if self.paused {
            self.pause_all();
        }
        true
    }

    /// A line of librdkafka's log.
    pub(crate) fn log(&mut self, level: i32, text: &str) {
        if let Some((topic, id)) = changed_id(text) {
            let was = self.fence.insert(topic.to_owned(), id.clone());
            let other = |slot: &Slot| {
                *slot.name.topic == *topic
                    && slot.state == State::Reading
                    && slot.identity.id.as_ref().is_some_and(|known| *known != id)
            };
            if self.slots.iter().any(other) {
                tracing::info!(topic, id, ?was, "the topic is another one");
                self.recreated(topic);
            }
        }
        match level {
            0..=4 => tracing::warn!("{text}"),
            5 | 6 => tracing::debug!("{text}"),
            _ => tracing::trace!("{text}"),
        }
    }
}

/// The topic whose id has changed, and its new id, if a line says that.
///
/// librdkafka goes on at the old offset when a topic was deleted and made again under its name, without a word to its user; it says so in the
/// log alone, and before it asks for the first record of the new topic.
pub(crate) fn changed_id(line: &str) -> Option<(&str, String)> {
    let (before, after) = line.split_once(" changed id from ")?;
    let (_, topic) = before.rsplit_once("Topic ")?;
    let (_, id) = after.split_once(" to ")?;
    Some((topic, crate::native::known_id(id.trim())?))
}

fn slot(name: &Name, identity: &Identity, next: i64, state: State) -> Slot {
    Slot {
        name: name.clone(),
        state,
        identity: identity.clone(),
        covered: None,
        next,
        latest: None,
        start: None,
        at_end: false,
        quiet_since: Instant::now(),
        part: None,
        end: 0,
        acknowledged: 0,
    }
}

/// The error for something that librdkafka refuses to do. Who begins anew has another client.
pub(crate) fn refused(what: &str, error: &KafkaError) -> Error {
    Error::new(Kind::Source, crate::error::KAFKA_FAILED, format!("{what}: {error}")).with_retry(Retry::Backoff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_says_that_a_topic_is_another_one_is_understood() {
        let line = "[thrd:main]: Topic orders.v1 changed id from AAAAAAAAAAAAAAAAAAAAAA to 4L6g3nShT+eMCtK//X86sw";
        assert_eq!(changed_id(line), Some(("orders.v1", "4L6g3nShT-eMCtK__X86sw".to_owned())));
        assert_eq!(changed_id("[thrd:main]: Topic orders changed id from 4L6g3nShT+eMCtK to AAAAAAAAAAAAAAAAAAAAAA"), None);
        assert_eq!(changed_id("Topic orders [0] Leader 1 Epoch 0"), None);
    }
}
