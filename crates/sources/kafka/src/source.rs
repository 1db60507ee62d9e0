//! Kafka as a source that never ends.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use longshore_core::Result;
use longshore_core::error::{Error, Kind, Retry, code};
use longshore_core::letters::Letter;
use longshore_core::source::Context;
use longshore_core::stream::{Decode, Letterbox, Progress, StreamSource, Subscription};
use longshore_messages::{Decoder, Route};
use rdkafka::consumer::Consumer;
use tokio::runtime::Handle;

use crate::assign::refused;
use crate::client::connect;
use crate::config::KafkaConfig;
use crate::contact::{Contact, contact};
use crate::error::KAFKA_UNREACHABLE;
use crate::fill::Filling;
use crate::health::Health;
use crate::letters::KafkaLetterbox;
use crate::native::Queue;
use crate::oauth::Tokens;
use crate::place::{Placing, blocking};
use crate::reader::Reader;
use crate::slots::{Name, Slots};
use crate::subscription::{KafkaSubscription, Reading};
use crate::survey::survey;

/// How long one try to make contact may take.
const CONTACT: Duration = Duration::from_secs(5);
/// The wait between two tries.
const AGAIN: Duration = Duration::from_secs(1);
/// How long `inspect` waits for an answer.
const INSPECTION: Duration = Duration::from_secs(10);
/// The bytes of a delivery at most, unless a record is larger.
const DELIVERY: u64 = 1024 * 1024;

/// Topics of Kafka, shared by everybody who reads them under the same group.
#[derive(Clone)]
pub struct KafkaSource {
    pub(crate) config: Arc<KafkaConfig>,
    pub(crate) decoder: Arc<Decoder>,
    tokens: Option<Tokens>,
}

impl KafkaSource {
    /// A source by its settings. Reaches for nothing yet. Errors: `config`.
    pub fn new(config: KafkaConfig) -> Result<Self> {
        config.check()?;
        let decoder = Decoder::new(&config.messages, Route::Topic)?;
        let tokens = Tokens::new(&config)?;
        Ok(Self { config: Arc::new(config), decoder, tokens })
    }

    fn group<'a>(&'a self, cx: &'a Context) -> &'a str {
        self.config.group.as_deref().unwrap_or(&cx.pipeline)
    }

    /// A client and the queue on which it tells everything.
    async fn client(&self, group: Option<String>, memory: u64) -> Result<Arc<Queue>> {
        let config = self.config.clone();
        let client = blocking(move || connect(&config, group.as_deref(), memory)).await??;
        Ok(Arc::new(Queue::of(Arc::new(client))))
    }

    /// The inner error is why no broker answered.
    async fn contact(&self, queue: &Arc<Queue>, patience: Duration) -> Result<std::result::Result<Contact, String>> {
        let (queue, config, tokens) = (queue.clone(), self.config.clone(), self.tokens.clone());
        let runtime = Handle::current();
        blocking(move || contact(&queue, &config, tokens.as_ref(), &runtime, patience)).await?
    }

    /// Makes contact, as long as it takes.
    async fn reach(&self, cx: &Context, queue: &Arc<Queue>) -> Result<Contact> {
        let mut told = false;
        loop {
            let why = match self.contact(queue, CONTACT).await? {
                Ok(contact) => {
                    if told {
                        cx.events.note("brokers can be reached now");
                    }
                    return Ok(contact);
                }
                Err(why) => why,
            };
            if !std::mem::replace(&mut told, true) {
                cx.events.warn(format!("no broker of {} can be reached yet: {why}; trying on", self.config.brokers.join(", ")));
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = cx.stop.requested() => {
                    return Err(Error::new(Kind::Interrupted, code::INTERRUPTED, "no broker could be reached before the run was stopped"));
                }
            }
        }
    }

    /// Begins to read as one of the workers.
    pub(crate) async fn open(&self, cx: &Context, progress: Arc<dyn Progress>) -> Result<KafkaSubscription> {
        self.decoder.attach(cx);
        let reading = self.read(cx, progress.clone(), None).await?;
        Ok(KafkaSubscription { source: self.clone(), cx: cx.clone(), progress, reading, passes: false })
    }

    /// Joins the group with a client of its own, and hears it on a thread of its own. What was known of topics when an earlier reading began
    /// stays known: what came since is new.
    pub(crate) async fn read(&self, cx: &Context, progress: Arc<dyn Progress>, earlier: Option<&Placing>) -> Result<Reading> {
        let memory = cx.budget.total() / 4;
        let queue = self.client(Some(self.group(cx).to_owned()), memory).await?;
        let found = self.reach(cx, &queue).await?;
        let mut health = Health::default();
        found.missing.into_iter().for_each(|(topic, _)| health.missing(topic, &cx.events));
        self.subscribe_to(&queue)?;
        let there = || found.topics.iter().map(|(name, topic)| (name.clone(), topic.partitions)).collect();
        let placing = Placing {
            client: queue.client().clone(),
            progress,
            cluster: found.cluster,
            start: self.config.start.clone(),
            isolation: self.config.isolation,
            events: cx.events.clone(),
            before: earlier.map_or_else(there, |earlier| earlier.before.clone()),
            seen: earlier.map(|earlier| earlier.seen.clone()).unwrap_or_default(),
        };
        let reading = Reading::new(&queue, placing);
        let reader = Reader {
            client: queue.client().clone(),
            queue,
            handover: reading.handover.clone(),
            waker: reading.waker.clone(),
            placing: reading.placing.clone(),
            runtime: Handle::current(),
            events: cx.events.clone(),
            tokens: self.tokens.clone(),
            slots: Slots::default(),
            filling: Filling::new(DELIVERY.min(memory / 8)),
            health,
            changes: self.config.messages.changes,
            fence: found.ids,
            assigning: None,
            ticket: 0,
            joined: false,
            told: false,
            paused: false,
            full: None,
            refused_commits: HashSet::new(),
            ends: false,
        };
        std::thread::Builder::new()
            .name("kafka".to_owned())
            .spawn(move || reader.run())
            .map_err(|e| Error::new(Kind::Bug, code::BUG, "no thread could be started").caused_by(e))?;
        Ok(reading)
    }

    fn subscribe_to(&self, queue: &Queue) -> Result<()> {
        let Some(pattern) = &self.config.pattern else {
            let topics: BTreeSet<&str> = self.config.topics.iter().map(String::as_str).collect();
            let topics: Vec<&str> = topics.into_iter().collect();
            return queue.client().subscribe(&topics).map_err(|e| refused("the topics cannot be subscribed to", &e));
        };
        // It is to match whole names.
        let whole = format!("^({})$", pattern.trim_start_matches('^').trim_end_matches('$'));
        queue.client().subscribe(&[&whole]).map_err(|e| {
            let what = format!("`pattern: {pattern}` is not a regular expression that the Kafka client understands");
            Error::new(Kind::Config, code::CONFIG, what).caused_by(e).hint("for example orders-.* or (orders|payments)\\.v[0-9]+")
        })
    }
}

#[async_trait]
impl StreamSource for KafkaSource {
    async fn subscribe(&self, cx: &Context, progress: Arc<dyn Progress>) -> Result<Box<dyn Subscription>> {
        Ok(Box::new(self.open(cx, progress).await?))
    }

    fn letterbox(&self) -> Option<Arc<dyn Letterbox>> {
        let topic = self.config.dead_letter_topic.clone()?;
        Some(Arc::new(KafkaLetterbox::new(topic, self.config.clone(), self.tokens.clone())))
    }

    fn again(&self, letter: &Letter) -> Result<std::result::Result<Arc<dyn Decode>, String>> {
        Ok(self.decoder.again(letter))
    }

    async fn inspect(&self, _cx: &Context) -> Result<Vec<String>> {
        let queue = self.client(None, 0).await?;
        let found = match self.contact(&queue, INSPECTION).await? {
            Ok(contact) => contact,
            Err(why) => {
                let what = format!("no broker of {} can be reached: {why}", self.config.brokers.join(", "));
                return Err(Error::new(Kind::Source, KAFKA_UNREACHABLE, what)
                    .with_retry(Retry::AfterFix)
                    .hint("check `brokers`, the network, and whether the brokers want TLS (`tls: {}`)"));
            }
        };
        let mut lines = vec![format!("cluster {} with {} brokers", found.cluster, found.brokers)];
        if let Some(pattern) = &self.config.pattern {
            lines.push(format!("{} topics are there, those that match {pattern} are read", found.topics.len()));
            return Ok(lines);
        }
        let names: Vec<Name> = found
            .topics
            .iter()
            .flat_map(|(topic, described)| {
                let topic: Arc<str> = topic.as_str().into();
                (0..described.partitions).map(move |number| Name { topic: topic.clone(), number })
            })
            .collect();
        let client = queue.client().clone();
        let surveys = blocking(move || survey(&client, &names, None, INSPECTION)).await?;
        for (topic, described) in &found.topics {
            let known = surveys.iter().filter(|(name, _)| *name.topic == **topic).filter_map(|(_, survey)| survey.as_ref().ok());
            let offsets: i64 = known.map(|survey| survey.high - survey.low).sum();
            lines.push(format!("topic {topic}: {} partitions with {offsets} offsets", described.partitions));
        }
        lines.extend(found.missing.iter().map(|(topic, words)| format!("topic {topic}: not there ({words})")));
        Ok(lines)
    }
}
