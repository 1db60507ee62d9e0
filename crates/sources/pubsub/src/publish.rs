//! Messages out, for topics of dead letters.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use longshore_core::Result;
use longshore_core::error::{Error, Kind};
use longshore_core::retry::{Patience, Policy};

use crate::client::Client;
use crate::config::{Access, full_name};
use crate::error::{Doing, codes, refusal};
use crate::protocol as api;

/// Google takes 1,000 messages and 10 MB in a request.
const MESSAGES: usize = 1_000;
const BYTES: usize = 9_000_000;
/// Requests that are on their way at once, each of another ordering key.
const AT_ONCE: usize = 4;

/// A message to be published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// The content.
    pub data: Bytes,
    /// The attributes, each name once.
    pub attributes: Vec<(String, String)>,
    /// The ordering key, empty for none.
    pub ordering_key: String,
}

/// Publishes to topics.
#[derive(Debug, Clone)]
pub struct Publisher {
    client: Client,
    project: Option<Arc<str>>,
}

impl Publisher {
    /// Reads the settings; connects at the first call. `project` is that of topics which do not name theirs.
    ///
    /// Errors: `pubsub_credentials`, `config`.
    pub fn new(access: &Access, project: Option<&str>) -> Result<Self> {
        Ok(Self { client: Client::new(access)?, project: project.map(Arc::from) })
    }

    /// One that shares a connection, for topics named in full.
    pub(crate) fn of(client: Client) -> Self {
        Self { client, project: None }
    }

    /// Publishes messages to a topic, named in full or by its own name; returns their ids in the same order. Those of one ordering key stay in
    /// order. At least once: a request whose answer is lost is sent again, and so is everything if this is called again.
    ///
    /// Errors: `pubsub_name`, and of kind `Source` what Pub/Sub says; some of the messages may have been published then.
    pub async fn publish(&self, topic: &str, messages: Vec<Outgoing>, patience: &Patience) -> Result<Vec<String>> {
        self.publish_in(topic, messages, Some(patience)).await
    }

    /// The same, each request tried once: for whoever tries again by itself.
    pub(crate) async fn try_to_publish(&self, topic: &str, messages: Vec<Outgoing>) -> Result<Vec<String>> {
        self.publish_in(topic, messages, None).await
    }

    async fn publish_in(&self, topic: &str, messages: Vec<Outgoing>, patience: Option<&Patience>) -> Result<Vec<String>> {
        let topic = full_name(topic, "topics", self.project.as_deref())?;
        let mut ids = vec![String::new(); messages.len()];
        // A request holds messages of one key. Those of the next request of a key wait for the one before.
        let lines = lines(messages).into_values().map(|requests| self.publish_line(&topic, requests, patience));
        let published: Vec<Vec<(usize, String)>> = futures::stream::iter(lines).buffer_unordered(AT_ONCE).try_collect().await?;
        for (place, id) in published.into_iter().flatten() {
            ids[place] = id;
        }
        Ok(ids)
    }

    async fn publish_line(
        &self,
        topic: &str,
        requests: Vec<Vec<Placed>>,
        patience: Option<&Patience>,
    ) -> Result<Vec<(usize, String)>> {
        let mut published = Vec::new();
        for request in requests {
            let (places, messages): (Vec<usize>, Vec<api::PubsubMessage>) = request.into_iter().unzip();
            let message = api::PublishRequest { topic: topic.to_owned(), messages };
            let ids = match patience {
                Some(patience) => Policy::default().run(patience, || self.publish_once(&message)).await?,
                None => self.publish_once(&message).await?,
            };
            published.extend(places.into_iter().zip(ids));
        }
        Ok(published)
    }

    async fn publish_once(&self, request: &api::PublishRequest) -> Result<Vec<String>> {
        let answer = self.client.publish(request).await;
        let ids = answer.map_err(|status| refusal(Doing::Publishing(&request.topic), &status))?;
        if ids.len() != request.messages.len() {
            let (topic, sent) = (&request.topic, request.messages.len());
            let why = format!("publishing to {topic}: {sent} messages were sent and {} ids came back", ids.len());
            return Err(Error::new(Kind::Source, codes::ANSWER, why));
        }
        Ok(ids)
    }
}

/// A message and its place among all.
type Placed = (usize, api::PubsubMessage);

/// The requests of each ordering key, in order.
fn lines(messages: Vec<Outgoing>) -> HashMap<String, Vec<Vec<Placed>>> {
    let mut lines: HashMap<String, Vec<Vec<Placed>>> = HashMap::new();
    let mut sizes: HashMap<String, usize> = HashMap::new();
    for (place, message) in messages.into_iter().enumerate() {
        let attributes = message.attributes.iter().map(|(name, value)| name.len() + value.len() + 16).sum::<usize>();
        let size = message.data.len() + message.ordering_key.len() + attributes + 32;
        let requests = lines.entry(message.ordering_key.clone()).or_default();
        let filled = sizes.entry(message.ordering_key.clone()).or_default();
        let placed = (
            place,
            api::PubsubMessage {
                data: message.data,
                attributes: message.attributes.into_iter().collect(),
                ordering_key: message.ordering_key,
                ..Default::default()
            },
        );
        match requests.last_mut().filter(|request| request.len() < MESSAGES && *filled + size <= BYTES) {
            Some(request) => {
                *filled += size;
                request.push(placed);
            }
            None => {
                *filled = size;
                requests.push(vec![placed]);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(key: &str, size: usize) -> Outgoing {
        Outgoing { data: vec![0; size].into(), ordering_key: key.to_owned(), ..Outgoing::default() }
    }

    #[test]
    fn requests_hold_one_ordering_key_in_order_and_stay_below_the_limits() {
        let mixed: Vec<_> = (0..2_500).map(|i| message(if i % 2 == 0 { "even" } else { "" }, 10)).collect();
        let lines_ = lines(mixed);
        let sizes = |lines: &HashMap<String, Vec<Vec<Placed>>>, key: &str| lines[key].iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!((sizes(&lines_, "even"), sizes(&lines_, "")), (vec![1_000, 250], vec![1_000, 250]));
        assert!(lines_["even"].iter().flatten().map(|(place, _)| *place).is_sorted());
        let large = lines((0..4).map(|_| message("", 4_000_000)).collect());
        assert_eq!(sizes(&large, ""), [2, 2]);
    }
}
