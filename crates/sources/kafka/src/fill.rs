//! Records into deliveries.

use std::time::{Duration, Instant};

use chrono::DateTime;
use longshore_core::position::Delta;
use longshore_messages::{From, Message, Messages};

use crate::handover::{Filled, Item, Part};
use crate::native::Record;
use crate::place::Chosen;
use crate::point::{Point, later};
use crate::reader::Reader;
use crate::slots::{Identity, Name, Slot, State};

/// A delivery is handed over when its first record has waited this long.
const LONGEST: Duration = Duration::from_millis(100);
/// So many offsets without a record (aborted transactions, compaction) are worth a delivery of their own.
const EMPTY_OFFSETS: i64 = 10_000;
/// Fewer are, when nothing else has come for so long: what retention removes of them would look like a loss else.
const QUIET: Duration = Duration::from_secs(3);

/// The delivery that is being filled.
pub(crate) struct Filling {
    messages: Messages,
    parts: Vec<Begun>,
    since: Option<Instant>,
    limit: u64,
}

/// What it covers of a partition so far.
struct Begun {
    name: Name,
    identity: Identity,
    from: Option<Point>,
    begun: i64,
    to: Point,
}

impl Filling {
    /// An empty one, which is full with so many bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self { messages: Messages::new(), parts: Vec::new(), since: None, limit: limit.max(1) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.messages.bytes() >= self.limit
    }

    /// Whether it is to be handed over: it is full, or old enough.
    pub(crate) fn is_due(&self) -> bool {
        self.is_full() || self.time_left() == Some(Duration::ZERO)
    }

    /// How long it may still be filled, `None` if it is empty.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        self.since.map(|since| LONGEST.saturating_sub(since.elapsed()))
    }

    /// The part of a partition, begun if it is not.
    fn part(&mut self, slot: &mut Slot) -> &mut Begun {
        self.since.get_or_insert_with(Instant::now);
        let at = *slot.part.get_or_insert_with(|| {
            let begun = Begun {
                name: slot.name.clone(),
                identity: slot.identity.clone(),
                from: slot.covered,
                begun: slot.next,
                to: Point { offset: slot.next, latest: slot.latest },
            };
            self.parts.push(begun);
            self.parts.len() - 1
        });
        &mut self.parts[at]
    }

    fn take(&mut self) -> (Messages, Vec<Begun>) {
        self.since = None;
        // The next one has as much, most likely; a record that is far larger than the rest is no measure.
        let room = usize::try_from(self.messages.bytes().min(self.limit + self.limit / 8)).unwrap_or(0);
        let messages = std::mem::replace(&mut self.messages, Messages::with_capacity(room));
        (messages, std::mem::take(&mut self.parts))
    }
}

impl Reader {
    /// Adds a record, unless it is not expected: of a partition that is gone, or from before a seek.
    pub(crate) fn record(&mut self, record: &Record<'_>) {
        let Some(at) = self.slots.find(record.topic(), record.partition()) else { return };
        let Some(slot) = self.slots.at(at) else { return };
        let offset = record.offset();
        if slot.state != State::Reading || offset < slot.next {
            return;
        }
        let time = record.time();
        if self.changes {
            slot.latest = Some(later(slot.latest, time));
        }
        let (latest, change) = (slot.latest, self.changes);
        self.filling.part(slot).to = Point { offset: offset + 1, latest };
        slot.next = offset + 1;
        slot.at_end = false;
        self.told = false;
        let headers = record.headers();
        let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (&**name, *value)).collect();
        self.filling.messages.push(Message {
            key: record.key(),
            value: record.value(),
            headers: &headers,
            from: From::Kafka { topic: record.topic(), partition: record.partition(), offset },
            time: time.and_then(DateTime::from_timestamp_millis),
            latest: latest.filter(|_| change).and_then(DateTime::from_timestamp_millis),
        });
    }

    /// There is nothing more to read of a partition for now, up to this offset. What is between it and the last record are markers of
    /// transactions, records that were aborted, and those that compaction has removed: they are covered as well.
    pub(crate) fn end(&mut self, topic: &str, partition: i32, offset: i64) {
        let Some(at) = self.slots.find(topic, partition) else { return };
        let Some(slot) = self.slots.at(at) else { return };
        if slot.state != State::Reading || offset < slot.next {
            return;
        }
        slot.at_end = true;
        slot.quiet_since = Instant::now();
        let worth = offset - slot.covered.map_or(slot.next, |covered| covered.offset) >= EMPTY_OFFSETS;
        if offset > slot.next && (slot.part.is_some() || worth) {
            self.filling.part(slot).to.offset = offset;
        }
        slot.next = offset;
    }

    /// Covers offsets without a record at the ends of partitions that are quiet.
    pub(crate) fn cover_quiet_ends(&mut self) {
        for slot in self.slots.iter_mut() {
            let behind = slot.covered.is_some_and(|covered| covered.offset < slot.next);
            let quiet = slot.state == State::Reading && slot.at_end && slot.quiet_since.elapsed() >= QUIET;
            if behind && quiet && slot.part.is_none() {
                self.filling.part(slot);
            }
        }
    }

    /// Hands over what was filled, whether there is room or not.
    pub(crate) fn flush(&mut self) {
        let (messages, begun) = self.filling.take();
        if begun.is_empty() {
            return;
        }
        let mut parts = Vec::with_capacity(begun.len());
        for part in begun {
            if let Some(slot) = self.slots.get(&part.name) {
                slot.covered = Some(part.to);
                slot.part = None;
            }
            let delta =
                Delta { partition: part.identity.partition, from: part.from.map(Point::position), to: part.to.position() };
            parts.push(Part { name: part.name, delta, begun: part.begun });
        }
        self.handover.push(Item::Filled(Filled { messages, parts }));
    }

    /// Hands out where a partition begins, so that it is journalled before anything can happen to it.
    pub(crate) fn announce(&mut self, name: &Name) {
        let Some(slot) = self.slots.get(name) else { return };
        let (None, Some(start)) = (slot.covered, slot.start) else { return };
        let Chosen { point, carried } = start;
        slot.covered = Some(point);
        let part = |partition, from, to| Part { name: name.clone(), delta: Delta { partition, from, to }, begun: point.offset };
        let mut parts = vec![part(slot.identity.partition.clone(), None, point.position())];
        if carried {
            // Else a topic that is made again would go on there once more.
            let nameless = Identity::new(&self.placing.cluster, name, None).partition;
            parts.push(part(nameless, Some(point.position()), crate::point::carried()));
        }
        self.handover.push(Item::Filled(Filled { messages: Messages::new(), parts }));
    }

    /// Forgets what was filled.
    pub(crate) fn forget_filled(&mut self) {
        self.filling.take();
        self.slots.iter_mut().for_each(|slot| slot.part = None);
    }
}
