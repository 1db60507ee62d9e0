//! Where partitions begin: at the journal's position; where there is none, where `start` says.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{StreamExt, TryStreamExt};
use longshore_core::Result;
use longshore_core::error::{Error, Kind, Retry, code};
use longshore_core::event::Events;
use longshore_core::position::Partition;
use longshore_core::stream::Progress;

use crate::begin::{Begin, begin};
use crate::config::{Isolation, Start};
use crate::native::{About, Client, Described};
use crate::point::{Known, Point};
use crate::slots::{Identity, Name};
use crate::survey::{Survey, describe_topics, survey};

/// How long a broker may take to answer what is asked here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Questions to the journal at a time.
const AT_ONCE: usize = 16;

/// Finds out where partitions begin.
pub(crate) struct Placing {
    pub(crate) client: Arc<Client>,
    pub(crate) progress: Arc<dyn Progress>,
    pub(crate) cluster: String,
    pub(crate) start: Start,
    pub(crate) isolation: Isolation,
    pub(crate) events: Events,
    /// The topics that were there when reading began, each with its partitions.
    pub(crate) before: BTreeMap<String, i32>,
    pub(crate) seen: Arc<Mutex<Seen>>,
}

/// What was seen of topics since reading began.
#[derive(Default)]
pub(crate) struct Seen {
    /// The first id of each.
    first: HashMap<String, Option<String>>,
    /// Ids that are not the first of their topic, each told once.
    told: HashSet<String>,
    /// Whether it was said that the brokers have no ids.
    nameless: bool,
    /// Whether it was said that they had some before.
    without_id: bool,
}

/// A partition to be placed.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) name: Name,
    pub(crate) whence: Whence,
}

#[derive(Debug, Clone)]
pub(crate) enum Whence {
    /// From where the journal says. If it says nothing, a start that was chosen before for the topic of this id stays.
    Journal { chosen: Option<(Identity, Chosen)> },
    /// From where it has been read to, as far as that is still there.
    Here { identity: Identity, next: i64, truncated: bool },
}

/// Where a partition begins that the journal does not know yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) point: Point,
    /// Whether it is where the partition was left while its topic had no id. That position ends then.
    pub(crate) carried: bool,
}

/// Where a partition begins, or why that cannot be told yet.
#[derive(Debug)]
pub(crate) enum Outcome {
    Placed(Placed),
    Later(Name, String),
}

/// Where a partition begins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) name: Name,
    pub(crate) identity: Identity,
    /// The journal's position.
    pub(crate) covered: Option<Point>,
    /// The offset to read first.
    pub(crate) next: i64,
    /// The same, if it was `start` that said so and the journal does not know yet.
    pub(crate) start: Option<Chosen>,
    pub(crate) end: i64,
    /// Whether only the offset to read was looked for ([`Whence::Here`]).
    pub(crate) here: bool,
}

impl Placing {
    /// Places partitions; one answer for each.
    ///
    /// Errors: what nobody but a person can mend. Brokers and stores that are away for a while are waited for, or the answer is `Later`.
    pub(crate) async fn place(self: Arc<Self>, wanted: Vec<Wanted>) -> Result<Vec<Outcome>> {
        let ids = match self.identities(&wanted).await? {
            Ok(ids) => ids,
            Err(why) => return Ok(wanted.into_iter().map(|wanted| Outcome::Later(wanted.name, why.clone())).collect()),
        };
        let mut outcomes = Vec::new();
        let mut known = Vec::new();
        for wanted in wanted {
            match ids.get(&*wanted.name.topic) {
                Some(Ok(described)) => known.push((self.identity(&wanted, described), wanted)),
                Some(Err((_, why))) => outcomes.push(Outcome::Later(wanted.name, why.clone())),
                None => outcomes.push(Outcome::Later(wanted.name, "the broker does not tell about the topic".to_owned())),
            }
        }
        let positions: Vec<Known> =
            futures::stream::iter(known.iter().map(|(identity, wanted)| asked(identity, wanted)).collect::<Vec<_>>())
                .map(|partition| self.journalled(partition))
                .buffered(AT_ONCE)
                .try_collect()
                .await?;
        let surveys = self.survey(known.iter().map(|(_, wanted)| wanted.name.clone()).collect()).await?;
        for ((identity, wanted), position) in known.into_iter().zip(positions) {
            outcomes.push(match surveys.get(&wanted.name) {
                _ if position == Known::Carried => self.without_id(wanted.name),
                Some(Ok(survey)) => Outcome::Placed(self.decide(wanted, identity, position, survey).await?),
                Some(Err(why)) => Outcome::Later(wanted.name, why.clone()),
                None => Outcome::Later(wanted.name, "the broker does not tell its offsets".to_owned()),
            });
        }
        Ok(outcomes)
    }

    /// Whether these topics, as far as they were there when reading began, are journalled to their ends. Tells nobody anything.
    pub(crate) async fn is_read(&self, topics: &[String]) -> Result<bool> {
        let mut wanted = Vec::new();
        for topic in topics {
            let name: Arc<str> = topic.as_str().into();
            let partitions = self.before.get(topic).copied().unwrap_or(0);
            let whence = Whence::Journal { chosen: None };
            wanted.extend(
                (0..partitions).map(|number| Wanted { name: Name { topic: name.clone(), number }, whence: whence.clone() }),
            );
        }
        let Ok(ids) = self.identities(&wanted).await? else { return Ok(false) };
        let surveys = self.survey(wanted.iter().map(|wanted| wanted.name.clone()).collect()).await?;
        for wanted in &wanted {
            let (Some(Ok(described)), Some(Ok(survey))) = (ids.get(&*wanted.name.topic), surveys.get(&wanted.name)) else {
                return Ok(false);
            };
            let identity = Identity::new(&self.cluster, &wanted.name, described.id.clone());
            // Nobody has begun with it: it is at its end only if there is nothing.
            let position = match self.position(&identity.partition).await? {
                Known::At(point) => point.offset,
                Known::Nothing => survey.low,
                Known::Carried => return Ok(false),
            };
            if position < survey.high {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the cluster knows of the topics; the inner error is why it did not answer.
    async fn identities(&self, wanted: &[Wanted]) -> Result<std::result::Result<HashMap<String, About>, String>> {
        let topics: HashSet<String> = wanted.iter().map(|wanted| wanted.name.topic.to_string()).collect();
        let client = self.client.clone();
        let names: Vec<String> = topics.into_iter().collect();
        blocking(move || describe_topics(&client, &names, PATIENCE)).await
    }

    fn identity(&self, wanted: &Wanted, described: &Described) -> Identity {
        if let Whence::Here { identity, .. } = &wanted.whence {
            return identity.clone();
        }
        if described.id.is_none() {
            self.say_nameless();
        }
        Identity::new(&self.cluster, &wanted.name, described.id.clone())
    }

    fn say_nameless(&self) {
        let mut seen = self.seen();
        if !std::mem::replace(&mut seen.nameless, true) {
            self.events.warn(
                "the brokers are too old to have ids of topics (Kafka 2.8 and later have them): a topic that is deleted and made again under \
                 its name cannot be told from the one before",
            );
        }
    }

    /// A broker that has no ids cannot say which topic a position is of that was journalled by an id.
    fn without_id(&self, name: Name) -> Outcome {
        let why = "the broker does not tell the topic's id";
        if !std::mem::replace(&mut self.seen().without_id, true) {
            self.events.warn(format!("{name} cannot be read: {why}, which was known before; it is read as soon as it is told"));
        }
        Outcome::Later(name, why.to_owned())
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The journal's position, waited for.
    async fn journalled(&self, partition: Option<Partition>) -> Result<Known> {
        match partition {
            Some(partition) => self.position(&partition).await,
            None => Ok(Known::Nothing),
        }
    }

    async fn position(&self, partition: &Partition) -> Result<Known> {
        let mut wait = Duration::from_millis(200);
        loop {
            match self.progress.position(partition).await {
                Ok(position) => return Known::of(partition, position.as_ref()),
                Err(error) if error.retry() == Retry::Backoff => {
                    tracing::debug!(%partition, error = ?error, "the journal does not tell a position; again soon");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(5));
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn survey(&self, names: Vec<Name>) -> Result<HashMap<Name, std::result::Result<Survey, String>>> {
        let client = self.client.clone();
        let time = match &self.start {
            Start::Time(time) => Some(time.timestamp_millis()),
            _ => None,
        };
        blocking(move || survey(&client, &names, time, PATIENCE)).await
    }

    async fn decide(&self, wanted: Wanted, identity: Identity, position: Known, survey: &Survey) -> Result<Placed> {
        let name = wanted.name;
        let here = matches!(wanted.whence, Whence::Here { .. });
        let placed = |covered, next, start| Placed {
            name: name.clone(),
            identity: identity.clone(),
            covered,
            next,
            start,
            end: survey.high,
            here,
        };
        let position = match wanted.whence {
            Whence::Here { next, truncated, .. } => {
                if truncated || next > survey.high {
                    return Err(beyond_end(&name, next, survey));
                }
                return Ok(placed(None, self.above_low(&name, next, survey), None));
            }
            Whence::Journal { chosen } => match (position, chosen) {
                (Known::At(position), _) => position,
                (_, Some((of, start))) if of == identity => {
                    return Ok(placed(None, self.above_low(&name, start.point.offset, survey), Some(start)));
                }
                _ => match self.nameless_position(&name, &identity).await? {
                    Known::At(point) => return Ok(placed(None, point.offset, Some(Chosen { point, carried: true }))),
                    Known::Nothing | Known::Carried => {
                        let (next, start) = self.first(&name, &identity, survey)?;
                        return Ok(placed(None, next, start));
                    }
                },
            },
        };
        Ok(placed(Some(position), self.above_low(&name, position.offset, survey), None))
    }

    /// The first offset that is still there, from this one on. What is gone is told.
    fn above_low(&self, name: &Name, position: i64, survey: &Survey) -> i64 {
        if position < survey.low {
            self.events.warn(format!(
                "{} offsets of {name} are gone: they were to be read from {position} on, and the broker has nothing before {} any more \
                 (retention, or records were deleted); reading goes on there",
                survey.low - position,
                survey.low
            ));
        }
        position.max(survey.low)
    }

    /// The position under the name that the partition had while the brokers had no ids of topics, unless it was carried over already.
    async fn nameless_position(&self, name: &Name, identity: &Identity) -> Result<Known> {
        match identity.id {
            Some(_) => self.position(&Identity::new(&self.cluster, name, None).partition).await,
            None => Ok(Known::Nothing),
        }
    }

    /// Where a partition begins that was never read: the offset, and the same again if it was chosen.
    fn first(&self, name: &Name, identity: &Identity, survey: &Survey) -> Result<(i64, Option<Chosen>)> {
        let recreated = self.recreated(name, identity);
        let added = recreated || self.before.get(&*name.topic).is_none_or(|&partitions| name.number >= partitions);
        let begins = if added { Begin::Earliest } else { Begin::of(&self.start, name) };
        match begin(begins, survey) {
            Ok((offset, chosen)) => {
                if let Begin::Offset(named) = begins {
                    self.above_low(name, named, survey);
                }
                let point = Point { offset, latest: None };
                Ok((offset, chosen.then_some(Chosen { point, carried: false })))
            }
            Err(named) => Err(crate::begin::beyond(name, named, survey, self.isolation)),
        }
    }

    /// Whether the topic was made anew since reading began; says so once.
    fn recreated(&self, name: &Name, identity: &Identity) -> bool {
        let mut seen = self.seen();
        let first = seen.first.entry(name.topic.to_string()).or_insert_with(|| identity.id.clone()).clone();
        let (Some(first), Some(id)) = (first, &identity.id) else { return false };
        if first == *id {
            return false;
        }
        if seen.told.insert(id.clone()) {
            self.events.warn(format!(
                "the topic {} was deleted and made again while it was read (its id was {first} and is {id}): the new one is read from its \
                 start",
                name.topic
            ));
        }
        true
    }
}

/// The partition to ask the journal about.
fn asked(identity: &Identity, wanted: &Wanted) -> Option<Partition> {
    matches!(wanted.whence, Whence::Journal { .. }).then(|| identity.partition.clone())
}

/// Runs something that blocks.
pub(crate) async fn blocking<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(what)
        .await
        .map_err(|e| Error::new(Kind::Bug, code::BUG, "a question to a broker ended without an answer").caused_by(e))
}

fn beyond_end(name: &Name, next: i64, survey: &Survey) -> Error {
    Error::new(
        Kind::Source,
        crate::error::KAFKA_POSITION_BEYOND_END,
        format!("{name} was read up to offset {next}, and the broker has it up to {} only", survey.high),
    )
    .with_retry(Retry::AfterFix)
    .with("earliest", survey.low)
    .hint(
        "the broker has lost records (an unclean leader election, or a restored copy); restore the topic, or read it from its start under \
         another pipeline name",
    )
}
