//! The in-memory twin of a broker: partitions that never end, shared out among any number of subscriptions, or a queue that delivers each
//! message until it is acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use async_trait::async_trait;
use longshore_core::Result;
use longshore_core::batch::{Batch, Payload, Reject, Rows, Unit};
use longshore_core::error::{Error, Kind as ErrorKind, Place, Retry, code};
use longshore_core::position::{Covers, Delta, Partition, Position};
use longshore_core::schema::{Field, TableSchema, Type};
use longshore_core::source::Context;
use longshore_core::stream::{
    Arrival, Decode, Decoded, Delivery, Lag, Letterbox, Progress, StreamSource, Subscription, Tables, Wanted,
};

/// Messages that are handed out together, unless a test says otherwise.
const DELIVERY: usize = 10;
/// How long a subscription waits before it looks for more.
const LOOK: Duration = Duration::from_millis(5);
/// The scope of a queue's ids.
const SCOPE: &str = "queue";

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its number, unique in the broker.
    pub id: i64,
    /// The table that it names.
    pub table: String,
    /// The value of a second column, if it has one.
    pub more: Option<String>,
    /// Whether it cannot be decoded.
    pub bad: bool,
}

impl Message {
    /// A good one.
    pub fn new(id: i64, table: &str) -> Self {
        Self { id, table: table.to_owned(), more: None, bad: false }
    }
}

/// How a broker hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Partitions,
    Queue,
}

/// A broker. Cloning shares it.
#[derive(Clone)]
pub struct MemoryStream {
    kind: Kind,
    broker: Arc<Mutex<Broker>>,
    letterbox: Option<Arc<dyn Letterbox>>,
    together: usize,
}

#[derive(Default)]
struct Broker {
    partitions: BTreeMap<String, Vec<Message>>,
    /// Grows with each change of who reads what.
    generation: u64,
    /// The subscriptions there are, in order.
    members: Vec<u64>,
    joined: u64,
    /// Of a queue: who holds a message.
    held: BTreeMap<i64, u64>,
    acknowledged: BTreeSet<i64>,
    /// How far the broker was told, by partition.
    committed: BTreeMap<String, u64>,
    /// Acknowledgements that are to be lost.
    lose: usize,
    /// How often the next message is not to be had.
    fail: usize,
    /// How often decoding lacks something.
    lack: usize,
}

impl MemoryStream {
    /// A broker with partitions, each read in order from the journal's position.
    pub fn partitions() -> Self {
        Self { kind: Kind::Partitions, broker: Arc::default(), letterbox: None, together: DELIVERY }
    }

    /// A broker that hands out each message until it is acknowledged.
    pub fn queue() -> Self {
        Self { kind: Kind::Queue, broker: Arc::default(), letterbox: None, together: DELIVERY }
    }

    /// Appends messages to a partition, which is made if it is new.
    pub fn send(&self, partition: &str, messages: impl IntoIterator<Item = Message>) {
        let mut broker = self.broker();
        if !broker.partitions.contains_key(partition) {
            broker.generation += 1;
        }
        broker.partitions.entry(partition.to_owned()).or_default().extend(messages);
    }

    /// Shares the partitions out anew, as after a member was taken for dead: every subscription loses what it has to the next one. What a queue's
    /// subscriptions hold is delivered again.
    pub fn rebalance(&self) {
        let mut broker = self.broker();
        if !broker.members.is_empty() {
            broker.members.rotate_left(1);
        }
        broker.generation += 1;
        broker.held.clear();
    }

    /// The next acknowledgements, so many, are lost on their way.
    pub fn lose_acknowledgements(&self, number: usize) {
        self.broker().lose = number;
    }

    /// Reading fails so many times, for a passing reason, before the next message.
    pub fn fail(&self, times: usize) {
        self.broker().fail = times;
    }

    /// Decoding lacks something so many times, as if a registry were away.
    pub fn lack(&self, times: usize) {
        self.broker().lack = times;
    }

    /// The same with a place for copies of dead letters.
    #[must_use]
    pub fn with_letterbox(self, letterbox: Arc<dyn Letterbox>) -> Self {
        Self { letterbox: Some(letterbox), ..self }
    }

    /// The same, which hands out so many messages together.
    #[must_use]
    pub fn together(self, messages: usize) -> Self {
        Self { together: messages, ..self }
    }

    /// How far the broker was told of a partition.
    pub fn committed(&self, partition: &str) -> u64 {
        self.broker().committed.get(partition).copied().unwrap_or(0)
    }

    /// The messages of a queue that were acknowledged.
    pub fn acknowledged(&self) -> BTreeSet<i64> {
        self.broker().acknowledged.clone()
    }

    /// The columns of the messages.
    pub fn columns(more: bool) -> TableSchema {
        let mut fields = vec![Field::new("partition", Type::String), Field::new("id", Type::Int64)];
        fields.extend(more.then(|| Field::new("more", Type::String)));
        TableSchema::new(fields)
    }

    fn broker(&self) -> MutexGuard<'_, Broker> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StreamSource for MemoryStream {
    async fn subscribe(&self, _: &Context, progress: Arc<dyn Progress>) -> Result<Box<dyn Subscription>> {
        let mut broker = self.broker();
        broker.joined += 1;
        broker.generation += 1;
        let member = broker.joined;
        broker.members.push(member);
        drop(broker);
        let share = Share {
            stream: self.clone(),
            progress,
            member,
            generation: 0,
            next: BTreeMap::new(),
            journalled: BTreeSet::new(),
            pending: BTreeSet::new(),
            told_idle: false,
        };
        Ok(Box::new(share))
    }

    fn letterbox(&self) -> Option<Arc<dyn Letterbox>> {
        self.letterbox.clone()
    }

    async fn inspect(&self, _: &Context) -> Result<Vec<String>> {
        Ok(self.broker().partitions.keys().cloned().collect())
    }
}

/// One subscription.
struct Share {
    stream: MemoryStream,
    progress: Arc<dyn Progress>,
    member: u64,
    /// The broker's when the partitions were taken over.
    generation: u64,
    /// The partitions it reads: from where, and whether anything was read of them ever.
    next: BTreeMap<String, Option<u64>>,
    /// Of a queue: held messages whose commit is journalled.
    journalled: BTreeSet<i64>,
    /// Of a queue: messages that somebody journalled and did not complete.
    pending: BTreeSet<i64>,
    told_idle: bool,
}

impl Share {
    /// Takes over the partitions that are its own now, each from where the journal says.
    async fn take_over(&mut self) -> Result<()> {
        let (mine, generation) = {
            let broker = self.stream.broker();
            let at = broker.members.iter().position(|member| *member == self.member);
            let of_mine = |(i, _): &(usize, &String)| Some(i % broker.members.len().max(1)) == at;
            let mine: Vec<String> = broker.partitions.keys().enumerate().filter(of_mine).map(|(_, name)| name.clone()).collect();
            (mine, broker.generation)
        };
        self.next.clear();
        for partition in mine {
            let position = self.progress.position(&Partition(partition.clone())).await?;
            self.next.insert(partition, position.and_then(|position| position.0.parse().ok()));
        }
        self.generation = generation;
        self.told_idle = false;
        Ok(())
    }

    fn of_partitions(&mut self) -> Option<Delivery> {
        for (partition, next) in &mut self.next {
            let from = next.unwrap_or(0) as usize;
            let messages: Vec<Message> =
                self.stream.broker().partitions.get(partition)?.iter().skip(from).take(self.stream.together).cloned().collect();
            if messages.is_empty() {
                continue;
            }
            let to = (from + messages.len()) as u64;
            let delta = Delta {
                partition: Partition(partition.clone()),
                from: next.map(Position::from_count),
                to: Position::from_count(to),
            };
            *next = Some(to);
            return Some(delivery(&self.stream, partition, messages, Covers::Deltas(vec![delta])));
        }
        None
    }

    /// Messages of a queue that nobody holds and nobody has journalled.
    async fn of_queue(&mut self) -> Result<Option<Delivery>> {
        let taken: Vec<Message> = {
            let mut broker = self.stream.broker();
            let free = |message: &&Message| !broker.acknowledged.contains(&message.id) && !broker.held.contains_key(&message.id);
            let taken: Vec<Message> =
                broker.partitions.values().flatten().filter(free).take(self.stream.together).cloned().collect();
            broker.held.extend(taken.iter().map(|message| (message.id, self.member)));
            taken
        };
        let ids: Vec<String> = taken.iter().map(|message| message.id.to_string()).collect();
        let known = self.progress.known(SCOPE, &ids).await?;
        let mut fresh = Vec::new();
        for message in taken {
            match known.get(&message.id.to_string()) {
                Some(true) => drop(self.stream.broker().acknowledged.insert(message.id)),
                Some(false) => drop(self.pending.insert(message.id)),
                None => fresh.push(message),
            }
        }
        if fresh.is_empty() {
            return Ok(None);
        }
        let ids = fresh.iter().map(|message| message.id.to_string()).collect();
        Ok(Some(delivery(&self.stream, "queue", fresh, Covers::Ids { scope: SCOPE.into(), ids })))
    }

    /// Held messages of others' commits: acknowledged once these are complete.
    async fn look_at_pending(&mut self) -> Result<()> {
        let ids: Vec<String> = self.pending.iter().map(ToString::to_string).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let known = self.progress.known(SCOPE, &ids).await?;
        let done: Vec<i64> = self.pending.iter().copied().filter(|id| known.get(&id.to_string()) == Some(&true)).collect();
        for id in done {
            self.pending.remove(&id);
            self.stream.broker().acknowledged.insert(id);
        }
        Ok(())
    }
}

fn delivery(stream: &MemoryStream, partition: &str, messages: Vec<Message>, covers: Covers) -> Delivery {
    Delivery {
        messages: messages.len() as u64,
        bytes: messages.len() as u64 * 8,
        oldest: Some(chrono::Utc::now()),
        decode: Arc::new(Undecoded { stream: stream.clone(), partition: partition.to_owned(), messages }),
        covers: vec![covers],
        permit: None,
    }
}

#[async_trait]
impl Subscription for Share {
    async fn next(&mut self) -> Result<Arrival> {
        loop {
            if self.stream.broker().generation != self.generation {
                let had = !self.next.is_empty();
                self.take_over().await?;
                if had {
                    return Ok(Arrival::Rebalance);
                }
            }
            let fails = {
                let mut broker = self.stream.broker();
                let fails = broker.fail > 0;
                broker.fail = broker.fail.saturating_sub(1);
                fails
            };
            if fails {
                return Err(Error::new(ErrorKind::Source, code::BUG, "the broker in memory is away").with_retry(Retry::Backoff));
            }
            let delivery = match self.stream.kind {
                Kind::Partitions => self.of_partitions(),
                Kind::Queue => self.of_queue().await?,
            };
            if let Some(delivery) = delivery {
                self.told_idle = false;
                return Ok(Arrival::Delivery(delivery));
            }
            self.look_at_pending().await?;
            if self.pending.is_empty() && !std::mem::replace(&mut self.told_idle, true) {
                return Ok(Arrival::CaughtUp);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn journalled(&mut self, covers: &[Covers]) {
        self.journalled.extend(ids(covers));
    }

    async fn acknowledge(&mut self, covers: &[Covers]) -> Result<()> {
        let mut broker = self.stream.broker();
        if broker.lose > 0 {
            broker.lose -= 1;
            return Ok(());
        }
        for covers in covers {
            let Covers::Deltas(deltas) = covers else { continue };
            for delta in deltas {
                let to = delta.to.0.parse().unwrap_or(0);
                let committed = broker.committed.entry(delta.partition.0.clone()).or_default();
                *committed = to.max(*committed);
            }
        }
        broker.acknowledged.extend(ids(covers));
        Ok(())
    }

    async fn rewind(&mut self) -> Result<()> {
        let (member, journalled) = (self.member, &self.journalled);
        self.stream.broker().held.retain(|id, by| *by != member || journalled.contains(id));
        self.take_over().await
    }

    fn lag(&self) -> Vec<Lag> {
        let broker = self.stream.broker();
        let waiting = |(name, next): (&String, &Option<u64>)| {
            let all = broker.partitions.get(name).map_or(0, Vec::len) as u64;
            Lag { name: name.clone(), messages: Some(all.saturating_sub(next.unwrap_or(0))) }
        };
        self.next.iter().map(waiting).collect()
    }

    fn remembers(&self) -> Option<(String, Duration)> {
        (self.stream.kind == Kind::Queue).then(|| (SCOPE.to_owned(), Duration::from_secs(3600)))
    }

    async fn close(&mut self) -> Result<()> {
        let mut broker = self.stream.broker();
        broker.members.retain(|member| *member != self.member);
        broker.generation += 1;
        let acknowledged = broker.acknowledged.clone();
        broker.held.retain(|id, by| *by != self.member || acknowledged.contains(id));
        Ok(())
    }
}

fn ids(covers: &[Covers]) -> Vec<i64> {
    let of = |covers: &Covers| match covers {
        Covers::Ids { ids, .. } => ids.iter().filter_map(|id| id.parse().ok()).collect(),
        Covers::Deltas(_) => Vec::new(),
    };
    covers.iter().flat_map(of).collect()
}

struct Undecoded {
    stream: MemoryStream,
    partition: String,
    messages: Vec<Message>,
}

impl Undecoded {
    fn reject(&self, message: &Message, code: &'static str) -> Reject {
        Reject {
            unit: Unit::Message,
            table: Some(message.table.clone()),
            payload: Payload::Inline(message.id.to_string().into_bytes()),
            code,
            reason: "on purpose".into(),
            place: Place { file: self.partition.clone(), line: Some(message.id as u64), column: None },
            field: None,
            decoding: None,
            index: message.id as u64,
        }
    }

    fn rows(&self, messages: &[&Message], columns: &TableSchema) -> Option<RecordBatch> {
        let column = |field: &Field| -> Option<ArrayRef> {
            Some(match field.name.as_str() {
                "partition" => Arc::new(StringArray::from(vec![self.partition.as_str(); messages.len()])),
                "id" => Arc::new(Int64Array::from_iter_values(messages.iter().map(|message| message.id))),
                "more" => Arc::new(StringArray::from_iter(messages.iter().map(|message| message.more.as_deref()))),
                _ => return None,
            })
        };
        let columns_of: Vec<ArrayRef> = columns.fields.iter().map(column).collect::<Option<_>>()?;
        RecordBatch::try_new(columns.to_arrow(), columns_of).ok()
    }
}

impl Decode for Undecoded {
    fn decode(&self, tables: &Tables) -> Result<Decoded> {
        {
            let mut broker = self.stream.broker();
            if broker.lack > 0 {
                broker.lack -= 1;
                return Err(Error::new(ErrorKind::Source, code::BUG, "the registry in memory is away").with_retry(Retry::Backoff));
            }
        }
        let mut decoded = Decoded::default();
        let mut by_table: BTreeMap<&str, Vec<&Message>> = BTreeMap::new();
        for message in &self.messages {
            by_table.entry(&message.table).or_default().push(message);
        }
        for (table, messages) in by_table {
            let more = messages.iter().any(|message| message.more.is_some());
            let wanted = Wanted { columns: MemoryStream::columns(more), key: Vec::new() };
            if tables.unknown.contains(table) || tables.closed.contains_key(table) {
                decoded.rejects.extend(messages.iter().map(|message| self.reject(message, code::TYPE_MISMATCH.name)));
                continue;
            }
            let Some(target) = tables.known.get(table) else {
                decoded.wanted.insert(table.to_owned(), wanted);
                continue;
            };
            let has_more = target.schema.field("more").is_some();
            let fits = |message: &&&Message| !message.bad && (message.more.is_none() || has_more);
            let good: Vec<&Message> = messages.iter().filter(fits).copied().collect();
            let bad: Vec<&Message> = messages.iter().filter(|message| !fits(message)).copied().collect();
            if more && !has_more {
                decoded.wanted.insert(table.to_owned(), wanted);
            }
            let rejects = bad.iter().map(|message| self.reject(message, code::TYPE_MISMATCH.name)).collect();
            let rows = self.rows(&good, &target.schema);
            let rows = rows.unwrap_or_else(|| RecordBatch::new_empty(target.schema.to_arrow()));
            decoded.batches.push(Batch { table: table.to_owned(), rows: Rows::Plain(rows), rejects });
        }
        Ok(decoded)
    }
}
