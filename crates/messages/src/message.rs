//! Messages of a broker, many in one buffer.

use chrono::{DateTime, SubsecRound, Utc};

/// One message, as its broker gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The key. Pub/Sub has none: its ordering key is among the coordinates.
    pub key: Option<&'a [u8]>,
    /// The content. `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Kafka's headers or Pub/Sub's attributes, in order.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// Where it comes from.
    pub from: From<'a>,
    /// When it was written, as the broker says it. Kept in microseconds.
    pub time: Option<DateTime<Utc>>,
    /// The latest time of its partition's messages up to this one, where a source keeps that for the order of changes.
    pub latest: Option<DateTime<Utc>>,
}

/// The coordinates of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From<'a> {
    /// A record of Kafka.
    Kafka {
        /// The topic's name.
        topic: &'a str,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// A message of Pub/Sub.
    PubSub {
        /// The subscription, by whatever name people are to read.
        subscription: &'a str,
        /// The message's id.
        id: &'a str,
        /// The ordering key, empty for none.
        ordering_key: &'a str,
    },
}

/// Messages in one buffer: pushing one copies its bytes to the end of it and allocates nothing else.
#[derive(Debug, Default, Clone)]
pub struct Messages {
    /// Keys, values and the values of headers.
    bytes: Vec<u8>,
    /// Names of headers, ids, ordering keys.
    text: String,
    entries: Vec<Entry>,
    headers: Vec<Header>,
    /// The topics or subscriptions that they come from: few.
    sources: Vec<Box<str>>,
    size: u64,
    oldest: Option<DateTime<Utc>>,
}

/// Bytes of a buffer.
#[derive(Debug, Clone, Copy)]
struct Slice {
    start: usize,
    len: u32,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    name: Slice,
    value: Slice,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: Option<Slice>,
    value: Option<Slice>,
    /// The first of its headers, and how many.
    headers: (usize, u32),
    /// Number of its topic or subscription.
    source: u32,
    at: At,
    time: Option<DateTime<Utc>>,
    latest: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Copy)]
enum At {
    Kafka { partition: i32, offset: i64 },
    PubSub { id: Slice, ordering_key: Slice },
}

impl Messages {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// None, with room for so many bytes of content.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// Adds one behind the others. No part of a message has 4 GiB, at either broker.
    pub fn push(&mut self, message: Message<'_>) {
        let (source, at) = match message.from {
            From::Kafka { topic, partition, offset } => (topic, At::Kafka { partition, offset }),
            From::PubSub { subscription, id, ordering_key } => {
                (subscription, At::PubSub { id: self.name(id), ordering_key: self.name(ordering_key) })
            }
        };
        let source = self.source(source);
        let (before, first) = (self.bytes.len(), self.headers.len());
        let mut names = 0;
        let key = message.key.map(|key| self.content(key));
        let value = message.value.map(|value| self.content(value));
        for (name, value) in message.headers {
            names += name.len();
            let header = Header { name: self.name(name), value: self.content(value) };
            self.headers.push(header);
        }
        self.size += (self.bytes.len() - before + names) as u64;
        let time = message.time.map(|time| time.trunc_subsecs(6));
        self.oldest = self.oldest.into_iter().chain(time).min();
        let (headers, latest) = ((first, message.headers.len() as u32), message.latest);
        self.entries.push(Entry { key, value, headers, source, at, time, latest });
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes of their keys, values and headers, names of headers included.
    pub fn bytes(&self) -> u64 {
        self.size
    }

    /// When the oldest of them was written.
    pub fn oldest(&self) -> Option<DateTime<Utc>> {
        self.oldest
    }

    fn content(&mut self, bytes: &[u8]) -> Slice {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Slice { start, len: bytes.len() as u32 }
    }

    fn name(&mut self, text: &str) -> Slice {
        let start = self.text.len();
        self.text.push_str(text);
        Slice { start, len: text.len() as u32 }
    }

    fn source(&mut self, name: &str) -> u32 {
        // Messages mostly come from where the one before came from.
        let last = self.entries.last().map(|entry| entry.source as usize);
        let found = last.filter(|&last| *self.sources[last] == *name);
        let found = found.or_else(|| self.sources.iter().position(|known| **known == *name));
        found.unwrap_or_else(|| {
            self.sources.push(name.into());
            self.sources.len() - 1
        }) as u32
    }

    fn get(&self, slice: Slice) -> &[u8] {
        &self.bytes[slice.start..slice.start + slice.len as usize]
    }

    fn text(&self, slice: Slice) -> &str {
        &self.text[slice.start..slice.start + slice.len as usize]
    }

    /// The key of the message at an index.
    pub fn key(&self, index: u32) -> Option<&[u8]> {
        self.entries[index as usize].key.map(|key| self.get(key))
    }

    /// The content of the message at an index, `None` for a tombstone.
    pub fn value(&self, index: u32) -> Option<&[u8]> {
        self.entries[index as usize].value.map(|value| self.get(value))
    }

    /// The headers of the message at an index, in order.
    pub fn headers(&self, index: u32) -> impl DoubleEndedIterator<Item = (&str, &[u8])> {
        let (first, count) = self.entries[index as usize].headers;
        self.headers[first..first + count as usize].iter().map(|header| (self.text(header.name), self.get(header.value)))
    }

    /// The last header of a name: where there are several, the last one counts.
    pub fn header(&self, index: u32, name: &str) -> Option<&[u8]> {
        self.headers(index).rev().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Where the message at an index comes from.
    pub fn from(&self, index: u32) -> From<'_> {
        let entry = &self.entries[index as usize];
        let source = &*self.sources[entry.source as usize];
        match entry.at {
            At::Kafka { partition, offset } => From::Kafka { topic: source, partition, offset },
            At::PubSub { id, ordering_key } => {
                From::PubSub { subscription: source, id: self.text(id), ordering_key: self.text(ordering_key) }
            }
        }
    }

    /// When the message at an index was written.
    pub fn time(&self, index: u32) -> Option<DateTime<Utc>> {
        self.entries[index as usize].time
    }

    /// The latest time of its partition's messages up to the one at an index, where that is known.
    pub(crate) fn latest(&self, index: u32) -> Option<DateTime<Utc>> {
        self.entries[index as usize].latest
    }

    /// A text whose order is the order of the changes of one key. Pub/Sub gives the messages of an ordering key ascending times, and ids that
    /// ascend within one. Kafka's offsets count within a partition only, and a key may move to another one: there the latest time comes first.
    pub(crate) fn order(&self, index: u32) -> String {
        // Destinations take order keys of 32 bytes.
        match self.from(index) {
            From::Kafka { offset, .. } => match self.latest(index) {
                // Tables may hold offsets of 20 digits from before; these begin with 0.
                Some(latest) => format!("1{:013}{:018}", millis(latest), offset.clamp(0, LAST_OFFSET)),
                None => format!("{:020}", offset.unsigned_abs()),
            },
            From::PubSub { id, .. } => {
                format!("{:013}{:019}", self.time(index).map_or(0, millis), number_of(id) % 10_000_000_000_000_000_000)
            }
        }
    }

    /// The bytes of the key and the value of the message at an index.
    pub(crate) fn size(&self, index: u32) -> usize {
        let entry = &self.entries[index as usize];
        [entry.key, entry.value].into_iter().flatten().map(|slice| slice.len as usize).sum()
    }
}

impl From<'_> {
    /// `kafka:TOPIC/PARTITION` or `pubsub:SUBSCRIPTION`, for people.
    pub fn name(&self) -> String {
        match self {
            From::Kafka { topic, partition, .. } => format!("kafka:{topic}/{partition}"),
            From::PubSub { subscription, .. } => format!("pubsub:{subscription}"),
        }
    }

    /// A number that tells the message from the others of its partition: the offset, or one made of the id.
    pub(crate) fn index(&self) -> u64 {
        match self {
            From::Kafka { offset, .. } => offset.unsigned_abs(),
            From::PubSub { id, .. } => number_of(id),
        }
    }
}

/// The last offset that has a place in an order key.
const LAST_OFFSET: i64 = 999_999_999_999_999_999;

/// Milliseconds since 1970, in 13 digits.
fn millis(time: DateTime<Utc>) -> i64 {
    time.timestamp_millis().clamp(0, 9_999_999_999_999)
}

/// The number that an id is, or one that only it is likely to have.
fn number_of(id: &str) -> u64 {
    id.parse().unwrap_or_else(|_| {
        // FNV-1a: the same for ever, on every machine.
        id.bytes().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were_pushed() {
        let time = DateTime::from_timestamp_micros(1_700_000_000_000_001).expect("a time");
        let headers: [(&str, &[u8]); 3] = [("a", b"1"), ("b", b""), ("a", b"\xFF")];
        let kafka = |topic, offset, value| Message {
            key: Some(b"k"),
            value,
            headers: &headers,
            from: From::Kafka { topic, partition: 3, offset },
            time: Some(time),
            latest: None,
        };
        let of_pubsub = Message {
            key: None,
            value: Some(b""),
            headers: &[],
            from: From::PubSub { subscription: "s", id: "12", ordering_key: "o" },
            time: None,
            latest: None,
        };
        let all = [kafka("t", 7, Some(b"{}")), of_pubsub, kafka("u", 8, None), kafka("t", 9, Some(b"x"))];
        let mut messages = Messages::new();
        all.iter().for_each(|message| messages.push(*message));
        assert_eq!((messages.len(), messages.oldest()), (4, Some(time)));
        for (index, message) in (0..).zip(&all) {
            assert_eq!(messages.key(index), message.key);
            assert_eq!(messages.value(index), message.value);
            assert_eq!(messages.headers(index).collect::<Vec<_>>(), message.headers);
            assert_eq!((messages.from(index), messages.time(index)), (message.from, message.time));
        }
        assert_eq!(messages.header(0, "a"), Some(&b"\xFF"[..]), "the last one counts");
        assert_eq!(messages.header(0, "c"), None);
        // Three times a key of one byte and headers of five; the values.
        assert_eq!(messages.bytes(), 3 * (1 + 5) + 2 + 1);
    }

    #[test]
    fn the_order_of_changes_is_text_order_and_fits_what_destinations_take() {
        let order = |from, millis: Option<i64>| {
            let time = millis.and_then(DateTime::from_timestamp_millis);
            let mut messages = Messages::new();
            messages.push(Message { key: None, value: None, headers: &[], from, time, latest: time });
            messages.order(0)
        };
        let kafka = |latest, offset| order(From::Kafka { topic: "t", partition: 0, offset }, latest);
        assert!(kafka(None, 9) < kafka(None, 10) && kafka(None, 10) < kafka(None, i64::MAX));
        assert!(kafka(Some(5), 9) < kafka(Some(5), 10) && kafka(Some(5), i64::MAX) < kafka(Some(6), 0), "the time comes first");
        assert!(kafka(None, i64::MAX) < kafka(Some(0), 0), "what tables hold from before is older");
        assert_eq!(kafka(Some(i64::MAX / 2000), i64::MAX).len(), 32);
        let pubsub = |millis, id| order(From::PubSub { subscription: "s", id, ordering_key: "" }, Some(millis));
        assert!(pubsub(1, "9") < pubsub(1, "10") && pubsub(1, "10") < pubsub(2, "1"));
        assert!(pubsub(i64::MAX / 2000, "m-1").len() <= 32 && pubsub(0, &u64::MAX.to_string()).len() == 32);
    }
}
