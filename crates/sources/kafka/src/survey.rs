//! What brokers say of topics and partitions. Everything here blocks.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::MetadataBroker;
use rdkafka::{Offset, TopicPartitionList};

use crate::native::{About, Client, Described, describe};
use crate::slots::Name;

/// The offsets of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Survey {
    /// The first that is there.
    pub(crate) low: i64,
    /// The one behind the last that may be read: with `read_committed`, the first of a transaction that is open.
    pub(crate) high: i64,
    /// The first of the time that was asked for, if there is one.
    pub(crate) timed: Option<i64>,
}

/// What the cluster knows of topics by their names. The outer error is why no answer came.
pub(crate) fn describe_topics(client: &Client, names: &[String], patience: Duration) -> Result<HashMap<String, About>, String> {
    let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let Some(first) = names.first() else { return Ok(HashMap::new()) };
    // Whoever answers this can be asked the rest.
    let metadata = client.fetch_metadata(Some(first), patience / 2).map_err(|e| e.to_string())?;
    let broker = match metadata.orig_broker_id() {
        // It was asked by its address only.
        -1 => metadata.brokers().first().map_or(-1, MetadataBroker::id),
        broker => broker,
    };
    match describe(client, broker, &names, patience / 2) {
        Ok(topics) => Ok(topics.into_iter().collect()),
        // Brokers that cannot describe have no ids either.
        Err((RDKafkaErrorCode::UnsupportedFeature | RDKafkaErrorCode::UnsupportedVersion, _)) => {
            undescribed(client, &names, patience)
        }
        Err((_, why)) => Err(why),
    }
}

fn undescribed(client: &Client, names: &[&str], patience: Duration) -> Result<HashMap<String, About>, String> {
    let until = Instant::now() + patience;
    let mut all = HashMap::new();
    for name in names {
        let left = until.saturating_duration_since(Instant::now());
        let metadata = client.fetch_metadata(Some(name), left).map_err(|e| e.to_string())?;
        let topic = metadata.topics().first();
        let answer = match topic.map(|topic| (topic.error(), topic.partitions().len())) {
            Some((None, partitions)) => Ok(Described { id: None, partitions: i32::try_from(partitions).unwrap_or(i32::MAX) }),
            Some((Some(error), _)) => {
                let error = RDKafkaErrorCode::from(error);
                Err((error, error.to_string()))
            }
            None => Err((RDKafkaErrorCode::UnknownTopicOrPartition, "the broker does not tell about it".to_owned())),
        };
        all.insert((*name).to_owned(), answer);
    }
    Ok(all)
}

/// The offsets of partitions, each or why it cannot be told; with `time`, in milliseconds since 1970, the first of that time as well.
pub(crate) fn survey(
    client: &Client,
    names: &[Name],
    time: Option<i64>,
    patience: Duration,
) -> HashMap<Name, Result<Survey, String>> {
    let until = Instant::now() + patience;
    let all = |names: &[Name], longest: Duration| -> Result<Vec<Result<Survey, String>>, String> {
        let left = |until: Instant| until.saturating_duration_since(Instant::now()).min(longest);
        let low = offsets(client, names, Offset::Beginning, left(until))?;
        let high = offsets(client, names, Offset::End, left(until))?;
        let timed = match time {
            Some(time) => offsets(client, names, Offset::Offset(time), left(until))?,
            None => vec![Ok(None); names.len()],
        };
        let joined = low.into_iter().zip(high).zip(timed).map(|((low, high), timed)| {
            let known = |offset: Option<i64>| offset.ok_or_else(|| "the broker does not tell its offsets".to_owned());
            Ok(Survey { low: known(low?)?, high: known(high?)?, timed: timed? })
        });
        Ok(joined.collect())
    };
    if let Ok(answers) = all(names, patience / 2) {
        return names.iter().cloned().zip(answers).collect();
    }
    // One that has no leader holds all up: each by itself, as far as time allows.
    let each = |name: &Name| match all(std::slice::from_ref(name), Duration::from_secs(1)) {
        Ok(answers) => answers.into_iter().next().unwrap_or_else(|| Err("the broker did not answer".to_owned())),
        Err(why) => Err(why),
    };
    names.iter().map(|name| (name.clone(), each(name))).collect()
}

/// The ends of partitions, where they can be told.
pub(crate) fn ends(client: &Client, names: &[Name], patience: Duration) -> Vec<(Name, i64)> {
    let Ok(ends) = offsets(client, names, Offset::End, patience) else { return Vec::new() };
    names.iter().zip(ends).filter_map(|(name, end)| end.ok().flatten().map(|end| (name.clone(), end))).collect()
}

/// The offsets of partitions for a time, or the first or last ones: one answer for each, `None` if there is no such offset. The outer error
/// is why no answer came at all.
fn offsets(client: &Client, names: &[Name], of: Offset, patience: Duration) -> Result<Vec<Result<Option<i64>, String>>, String> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let asked = list(names.iter().map(|name| (name, of)));
    let answer = client.offsets_for_times(asked, patience.max(Duration::from_millis(1))).map_err(|e| e.to_string())?;
    let found: HashMap<(String, i32), Result<Option<i64>, String>> = answer
        .elements()
        .iter()
        .map(|element| {
            let offset = element.error().map_err(|e| e.to_string()).map(|()| match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            });
            ((element.topic().to_owned(), element.partition()), offset)
        })
        .collect();
    let answer = |name: &Name| found.get(&(name.topic.to_string(), name.number)).cloned();
    Ok(names.iter().map(|name| answer(name).unwrap_or_else(|| Err("the broker did not answer".to_owned()))).collect())
}

/// Partitions with offsets, as librdkafka takes them.
pub(crate) fn list<'a>(partitions: impl IntoIterator<Item = (&'a Name, Offset)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (name, offset) in partitions {
        // Only an offset that the protocol cannot express is refused, and none such is made here.
        let _ = list.add_partition_offset(&name.topic, name.number, offset);
    }
    list
}
