//! The messages of a subscription: those that wait, those that are lent, those that were acknowledged.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Write as _;

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use tokio::time::{Duration, Instant};

use super::protocol::{Message, put_bytes, put_integer};
use super::{Generated, Options};

/// Message ids have 17 digits, as Google's.
const FIRST_ID: u64 = 10_000_000_000_000_000;
/// An ack id of Google's has some 180 characters.
const ACK_ID: usize = 176;
/// What one answer holds at most.
const MESSAGES: usize = 500;
const BYTES: usize = 512 << 10;
/// How often it is looked for leases that are over.
const LOOK: Duration = Duration::from_millis(100);

/// A message that was published.
struct Stored {
    message: Message,
    published: DateTime<Utc>,
}

/// A message that is lent to a stream.
struct Lent {
    attempt: u32,
    until: Instant,
    stream: u64,
    bytes: u64,
}

/// A stream of a client, with what it may have at once.
pub(crate) struct Stream {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) term: Duration,
    has: (u64, u64),
}

/// A subscription.
pub(crate) struct Backlog {
    pub(crate) options: Options,
    generated: Option<(Generated, Instant)>,
    /// The numbers of the messages that wait, and were published or lent before.
    waiting: VecDeque<u64>,
    stored: HashMap<u64, Stored>,
    lent: HashMap<u64, Lent>,
    attempts: HashMap<u64, u32>,
    /// Which stream has the messages of a key, and how many.
    keys: HashMap<String, (u64, usize)>,
    streams: HashMap<u64, Stream>,
    pub(crate) acknowledged: Vec<u64>,
    /// How often messages were sent.
    pub(crate) sent: usize,
    numbers: u64,
    /// When leases were last looked at.
    looked: Instant,
    scratch: BytesMut,
}

impl Stream {
    pub(crate) fn new(messages: i64, bytes: i64, seconds: i32) -> Self {
        let limit = |limit: i64| u64::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(u64::MAX);
        let term = Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1));
        Self { messages: limit(messages), bytes: limit(bytes), term, has: (0, 0) }
    }

    fn has_room(&self) -> bool {
        self.has.0 < self.messages && self.has.1 < self.bytes
    }
}

/// The id of a message by its number.
pub(crate) fn id(number: u64) -> String {
    (FIRST_ID + number).to_string()
}

fn parse(ack_id: &str) -> Option<(u64, u32)> {
    let (number, rest) = ack_id.split_once(':')?;
    Some((number.parse().ok()?, rest.split(':').next()?.parse().ok()?))
}

impl Backlog {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            generated: None,
            waiting: VecDeque::new(),
            stored: HashMap::new(),
            lent: HashMap::new(),
            attempts: HashMap::new(),
            keys: HashMap::new(),
            streams: HashMap::new(),
            acknowledged: Vec::new(),
            sent: 0,
            numbers: 0,
            looked: Instant::now(),
            scratch: BytesMut::new(),
        }
    }

    /// Adds a message; returns its number.
    pub(crate) fn publish(&mut self, message: Message) -> u64 {
        let number = self.numbers;
        self.numbers += 1;
        self.stored.insert(number, Stored { message, published: Utc::now() });
        self.waiting.push_back(number);
        number
    }

    /// From now on there are messages without end, or so many.
    pub(crate) fn generate(&mut self, generated: Generated) {
        self.generated = Some((generated, Instant::now()));
    }

    pub(crate) fn open(&mut self, number: u64, stream: Stream) {
        self.streams.insert(number, stream);
    }

    /// A stream is gone. What it has stays lent.
    pub(crate) fn shut(&mut self, number: u64) {
        self.streams.remove(&number);
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams.len()
    }

    pub(crate) fn lent(&self) -> usize {
        self.lent.len()
    }

    /// What a stream gets next: an encoded answer.
    pub(crate) fn next(&mut self, stream: u64) -> Option<Bytes> {
        self.lapse(Instant::now());
        let mut answer = BytesMut::new();
        let mut passed = Vec::new();
        let mut count = 0;
        while count < MESSAGES && answer.len() < BYTES && self.streams.get(&stream).is_some_and(Stream::has_room) {
            let Some(number) = self.waiting.pop_front().or_else(|| self.fresh()) else { break };
            // The messages of a key go to one stream as long as it has some.
            let owner = self.key(number).and_then(|key| self.keys.get(key)).map(|(owner, _)| *owner);
            if owner.is_some_and(|owner| owner != stream && self.streams.contains_key(&owner)) {
                passed.push(number);
                continue;
            }
            self.lend(number, stream, &mut answer);
            count += 1;
        }
        passed.into_iter().rev().for_each(|number| self.waiting.push_front(number));
        if count == 0 {
            return None;
        }
        self.scratch.clear();
        put_integer(&mut self.scratch, 1, self.options.exactly_once.into());
        put_integer(&mut self.scratch, 2, self.options.ordered.into());
        put_bytes(&mut answer, 4, &self.scratch);
        Some(answer.freeze())
    }

    /// The next generated message, if it is time for it.
    fn fresh(&mut self) -> Option<u64> {
        let (generated, since) = self.generated.as_ref()?;
        let due = generated.per_second.map_or(u64::MAX, |rate| (since.elapsed().as_secs_f64() * rate as f64) as u64);
        let number = self.numbers;
        (number < due.min(generated.messages)).then(|| {
            self.numbers += 1;
            number
        })
    }

    fn key(&self, number: u64) -> Option<&str> {
        let key = self.stored.get(&number).filter(|_| self.options.ordered).map(|stored| stored.message.ordering_key.as_str());
        key.filter(|key| !key.is_empty())
    }

    /// Lends a message to a stream and writes it.
    fn lend(&mut self, number: u64, stream: u64, answer: &mut BytesMut) {
        self.sent += 1;
        let attempt = self.attempts.get(&number).map_or(1, |attempt| attempt + 1);
        if attempt > 1 || self.stored.contains_key(&number) {
            self.attempts.insert(number, attempt);
        }
        let mut body = std::mem::take(&mut self.scratch);
        body.clear();
        self.write(number, &mut body);
        let mut ack_id = Vec::with_capacity(ACK_ID);
        _ = write!(ack_id, "{number}:{attempt}:");
        ack_id.resize(ACK_ID, b'x');
        let mut received = BytesMut::with_capacity(body.len() + ACK_ID + 16);
        put_bytes(&mut received, 1, &ack_id);
        put_bytes(&mut received, 2, &body);
        put_bytes(answer, 1, &received);
        let bytes = body.len() as u64;
        self.scratch = body;
        if let Some(key) = self.key(number).map(str::to_owned) {
            let owner = self.keys.entry(key).or_insert((stream, 0));
            *owner = (stream, owner.1 + 1);
        }
        let Some(of) = self.streams.get_mut(&stream) else { return };
        of.has = (of.has.0 + 1, of.has.1 + bytes);
        let until = Instant::now() + of.term;
        self.lent.insert(number, Lent { attempt, until, stream, bytes });
    }

    fn write(&self, number: u64, out: &mut BytesMut) {
        let mut text = Vec::new();
        let published = match (self.stored.get(&number), &self.generated) {
            (Some(stored), _) => {
                put_bytes(out, 1, &stored.message.data);
                for (name, value) in &stored.message.attributes {
                    put_attribute(out, name.as_bytes(), value.as_bytes());
                }
                put_bytes(out, 5, stored.message.ordering_key.as_bytes());
                stored.published
            }
            (None, Some((generated, _))) => {
                _ = write!(text, "{{\"id\":{number},\"kind\":\"event\",\"amount\":{}.25,\"text\":\"", number % 1000);
                text.resize(generated.bytes.saturating_sub(2).max(text.len()), b'x');
                text.extend_from_slice(b"\"}");
                put_bytes(out, 1, &text);
                text.clear();
                _ = write!(text, "table_{}", number % u64::from(generated.tables.max(1)));
                put_attribute(out, b"destination_table", &text);
                put_attribute(out, b"origin", b"null");
                Utc::now()
            }
            (None, None) => return,
        };
        text.clear();
        _ = write!(text, "{}", FIRST_ID + number);
        put_bytes(out, 3, &text);
        let mut time = BytesMut::with_capacity(16);
        put_integer(&mut time, 1, published.timestamp().unsigned_abs());
        put_integer(&mut time, 2, published.timestamp_subsec_nanos().into());
        put_bytes(out, 4, &time);
    }

    /// Takes a message back from the stream that has it.
    fn take(&mut self, number: u64) {
        let Some(lent) = self.lent.remove(&number) else { return };
        if let Some(stream) = self.streams.get_mut(&lent.stream) {
            stream.has = (stream.has.0 - 1, stream.has.1 - lent.bytes);
        }
        // What comes again needs a new ack id.
        self.attempts.insert(number, lent.attempt);
        if let Some(key) = self.key(number).map(str::to_owned)
            && let Some((_, count)) = self.keys.get_mut(&key)
        {
            *count -= 1;
            if *count == 0 {
                self.keys.remove(&key);
            }
        }
    }

    /// Takes messages back, to be sent again: of an ordering key with all that follow.
    fn give_back(&mut self, numbers: Vec<u64>) {
        let mut back: HashSet<u64> = numbers.into_iter().collect();
        if self.options.ordered {
            let mut first: HashMap<&str, u64> = HashMap::new();
            for number in &back {
                if let Some(key) = self.key(*number) {
                    let first = first.entry(key).or_insert(*number);
                    *first = (*first).min(*number);
                }
            }
            let later = |number: &u64| self.key(*number).and_then(|key| first.get(key)).is_some_and(|first| number > first);
            let later: Vec<u64> = self.lent.keys().copied().filter(later).collect();
            back.extend(later);
        }
        back.iter().for_each(|number| self.take(*number));
        let mut waiting: Vec<u64> = self.waiting.drain(..).chain(back).collect();
        waiting.sort_unstable();
        self.waiting = waiting.into();
    }

    fn lapse(&mut self, now: Instant) {
        if now < self.looked + LOOK {
            return;
        }
        self.looked = now;
        let lapsed: Vec<u64> = self.lent.iter().filter(|(_, lent)| lent.until <= now).map(|(number, _)| *number).collect();
        if !lapsed.is_empty() {
            self.give_back(lapsed);
        }
    }

    /// Every lease ends now.
    pub(crate) fn expire(&mut self) {
        self.give_back(self.lent.keys().copied().collect());
    }

    /// The message that an ack id is about, if it is that of its last delivery.
    fn current(&self, ack_id: &str) -> Option<u64> {
        let (number, attempt) = parse(ack_id)?;
        self.lent.get(&number).filter(|lent| lent.attempt == attempt).map(|_| number)
    }

    /// Acknowledges deliveries; returns the ack ids that are not those of a message's last one.
    pub(crate) fn acknowledge(&mut self, ack_ids: Vec<String>) -> Vec<String> {
        let mut refused = Vec::new();
        for ack_id in ack_ids {
            match self.current(&ack_id) {
                Some(number) => {
                    self.take(number);
                    self.stored.remove(&number);
                    self.attempts.remove(&number);
                    self.acknowledged.push(number);
                }
                None => refused.push(ack_id),
            }
        }
        refused
    }

    /// Extends leases, or ends them at once; returns the ack ids that are not those of a message's last delivery.
    pub(crate) fn modify(&mut self, ack_ids: Vec<String>, seconds: i32) -> Vec<String> {
        let (mut refused, mut back) = (Vec::new(), Vec::new());
        let until = Instant::now() + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        for ack_id in ack_ids {
            match self.current(&ack_id) {
                Some(number) if seconds == 0 => back.push(number),
                Some(number) => {
                    if let Some(lent) = self.lent.get_mut(&number) {
                        lent.until = until;
                    }
                }
                None => refused.push(ack_id),
            }
        }
        if !back.is_empty() {
            self.give_back(back);
        }
        refused
    }
}

fn put_attribute(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    let mut entry = BytesMut::with_capacity(name.len() + value.len() + 8);
    put_bytes(&mut entry, 1, name);
    put_bytes(&mut entry, 2, value);
    put_bytes(out, 2, &entry);
}
