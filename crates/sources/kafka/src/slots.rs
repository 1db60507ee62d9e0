//! The partitions that this member of the group has, and how far each is read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use longshore_core::position::Partition;

use crate::place::Chosen;
use crate::point::Point;

/// A partition by the names that the broker uses.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) topic: Arc<str>,
    pub(crate) number: i32,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.number)
    }
}

/// Which partition it really is, whatever its name: its topic's id, and the journal's name for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: Option<String>,
    pub(crate) partition: Partition,
}

impl Identity {
    pub(crate) fn new(cluster: &str, name: &Name, id: Option<String>) -> Self {
        let shown = id.as_deref().unwrap_or_default();
        let partition = Partition(format!("kafka:{cluster}/{}@{shown}/{}", name.topic, name.number));
        Self { id, partition }
    }
}

/// What is done with a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It is being found out where to read; what comes until then is dropped. The number tells one such search from an older one.
    Placing(u64),
    /// It is read.
    Reading,
}

/// A partition that this member has.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) name: Name,
    pub(crate) state: State,
    pub(crate) identity: Identity,
    /// How far deliveries cover it, `None` before the first.
    pub(crate) covered: Option<Point>,
    /// The next offset that is expected.
    pub(crate) next: i64,
    /// The latest time so far ([`Point::latest`]).
    pub(crate) latest: Option<i64>,
    /// Where `start` put it, which stays so until the journal has it.
    pub(crate) start: Option<Chosen>,
    /// Whether everything there was has been read.
    pub(crate) at_end: bool,
    /// When that was last found out.
    pub(crate) quiet_since: Instant,
    /// Its place among the parts of the delivery that is being filled.
    pub(crate) part: Option<usize>,
    /// The end, as the broker said when it was asked for it.
    pub(crate) end: i64,
    /// How far the group's offset was committed.
    pub(crate) acknowledged: i64,
}

/// Partitions by name.
#[derive(Default)]
pub(crate) struct Slots {
    all: Vec<Option<Slot>>,
    index: HashMap<Arc<str>, HashMap<i32, usize>>,
    /// The one that was found last: records come in runs of one partition.
    last: usize,
}

impl Slots {
    /// The number of a partition's slot.
    pub(crate) fn find(&mut self, topic: &str, number: i32) -> Option<usize> {
        let is = |slot: &Slot| slot.name.number == number && *slot.name.topic == *topic;
        if self.all.get(self.last).and_then(Option::as_ref).is_some_and(is) {
            return Some(self.last);
        }
        self.last = *self.index.get(topic)?.get(&number)?;
        Some(self.last)
    }

    /// The slot of a number that `find` gave.
    pub(crate) fn at(&mut self, at: usize) -> Option<&mut Slot> {
        self.all.get_mut(at).and_then(Option::as_mut)
    }

    pub(crate) fn get(&mut self, name: &Name) -> Option<&mut Slot> {
        let at = self.find(&name.topic, name.number)?;
        self.at(at)
    }

    /// Adds a partition, or puts it in the place of the slot that it has.
    pub(crate) fn insert(&mut self, slot: Slot) {
        if let Some(at) = self.find(&slot.name.topic, slot.name.number) {
            self.all[at] = Some(slot);
            return;
        }
        let at = self.all.iter().position(Option::is_none).unwrap_or_else(|| {
            self.all.push(None);
            self.all.len() - 1
        });
        self.index.entry(slot.name.topic.clone()).or_default().insert(slot.name.number, at);
        self.all[at] = Some(slot);
    }

    pub(crate) fn remove(&mut self, name: &Name) -> Option<Slot> {
        let at = self.find(&name.topic, name.number)?;
        let numbers = self.index.get_mut(&name.topic)?;
        numbers.remove(&name.number);
        if numbers.is_empty() {
            self.index.remove(&name.topic);
        }
        self.all[at].take()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.all.iter().flatten()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.all.iter_mut().flatten()
    }

    /// The topics that partitions are of, each once.
    pub(crate) fn topics(&self) -> Vec<String> {
        self.index.keys().map(|topic| topic.to_string()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(topic: &str, number: i32) -> Slot {
        let name = Name { topic: topic.into(), number };
        let identity = Identity::new("c", &name, Some("id".into()));
        Slot {
            name,
            state: State::Reading,
            identity,
            covered: None,
            next: 0,
            latest: None,
            start: None,
            at_end: false,
            quiet_since: Instant::now(),
            part: None,
            end: 0,
            acknowledged: 0,
        }
    }

    #[test]
    fn partitions_are_found_until_they_are_removed_and_places_are_used_again() {
        let mut slots = Slots::default();
        [("a", 0), ("a", 1), ("b", 0)].into_iter().for_each(|(topic, number)| slots.insert(slot(topic, number)));
        let name = Name { topic: "a".into(), number: 1 };
        assert!(slots.get(&name).is_some());
        assert!(slots.remove(&name).is_some() && slots.remove(&name).is_none());
        assert!(slots.find("a", 1).is_none());
        slots.insert(slot("c", 7));
        assert_eq!(slots.all.len(), 3);
        assert_eq!(slots.find("b", 0).and_then(|at| slots.at(at)).expect("still there").name.number, 0);
        let mut topics = slots.topics();
        topics.sort();
        assert_eq!(topics, ["a", "b", "c"]);
    }

    #[test]
    fn a_recreated_topic_is_another_partition() {
        let name = Name { topic: "orders".into(), number: 3 };
        let of = |id: Option<&str>| Identity::new("c1", &name, id.map(str::to_owned)).partition.0;
        assert_eq!(of(Some("A")), "kafka:c1/orders@A/3");
        assert_ne!(of(Some("A")), of(Some("B")));
        assert_eq!(of(None), "kafka:c1/orders@/3");
    }
}
