//! Copies of dead letters, into a topic.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::Duration;

use async_trait::async_trait;
use longshore_core::Result;
use longshore_core::batch::Payload;
use longshore_core::error::{Error, Kind, Retry, code};
use longshore_core::stream::{LetterCopy, Letterbox};
use longshore_messages::{Origin, Original};

use crate::error::codes;
use crate::publish::{Outgoing, Publisher};

/// Google takes no more attributes, and no longer values.
const ATTRIBUTES: usize = 100;
const VALUE_BYTES: usize = 1_024;

/// How long a delivery may take: whoever asks for it tries again.
const PATIENCE: Duration = Duration::from_secs(10);

/// A topic for copies of dead letters.
pub(crate) struct PubSubLetterbox {
    topic: String,
    publisher: Publisher,
}

impl PubSubLetterbox {
    /// The topic of this full name. Reaches for nothing yet.
    pub(crate) fn new(topic: String, publisher: Publisher) -> Self {
        Self { topic, publisher }
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// Publishes messages. One that is refused, because it is too large, takes no other along.
    async fn publish(&self, messages: Vec<Outgoing>) -> Result<()> {
        let mut refused = None;
        let mut parts = vec![messages];
        while let Some(mut part) = parts.pop() {
            match self.publisher.try_to_publish(&self.topic, part.clone()).await {
                Err(error) if error.code() == codes::REFUSED.name => {
                    refused = refused.or(Some(error));
                    if part.len() > 1 {
                        let rest = part.split_off(part.len() / 2);
                        parts.extend([rest, part]);
                    }
                }
                published => drop(published?),
            }
        }
        refused.map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Letterbox for PubSubLetterbox {
    fn name(&self) -> String {
        format!("the topic {}", self.topic)
    }

    async fn deliver(&self, copies: &[LetterCopy]) -> Result<()> {
        let mut messages = Vec::with_capacity(copies.len());
        for copy in copies {
            messages.push(message(copy).await?);
        }
        tokio::time::timeout(PATIENCE, self.publish(messages)).await.unwrap_or_else(|_| {
            let why = format!("{} did not take copies of dead letters within {} s", self.name(), PATIENCE.as_secs());
            Err(Error::new(Kind::Source, codes::UNAVAILABLE, why).with_retry(Retry::Backoff))
        })
    }
}

/// A dead letter as it came, with what is known about it.
async fn message(copy: &LetterCopy) -> Result<Outgoing> {
    let original = copy.reject.decoding.as_ref().and_then(|decoding| Original::read(decoding).ok());
    let mut attributes: Vec<(String, String)> = Vec::new();
    let mut ordering_key = String::new();
    if let Some(original) = original {
        attributes
            .extend(original.headers.into_iter().map(|(name, value)| (name, String::from_utf8_lossy(&value.0).into_owned())));
        if let Origin::PubSub { ordering_key: key, .. } = original.origin {
            ordering_key = key;
        }
    }
    // A letter that comes from a topic of dead letters has such attributes already: of the newest there is one each.
    let about = copy.about();
    attributes.retain(|(name, _)| about.iter().all(|(known, _)| known != name));
    let room = ATTRIBUTES.saturating_sub(attributes.len());
    attributes.extend(about.into_iter().take(room).map(|(name, value)| (name.to_owned(), shortened(value))));
    Ok(Outgoing { data: payload(&copy.reject.payload).await?.into(), attributes, ordering_key })
}

fn shortened(mut value: String) -> String {
    value.truncate(value.floor_char_boundary(VALUE_BYTES));
    value
}

async fn payload(payload: &Payload) -> Result<Vec<u8>> {
    let (path, offset, length) = match payload {
        Payload::Inline(bytes) => return Ok(bytes.clone()),
        Payload::File { path, offset, length, .. } => (path.clone(), *offset, *length),
    };
    let read = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes).map(|_| bytes)
    });
    let wrong =
        |error: std::io::Error| Error::new(Kind::Source, code::BUG, "the bytes of a dead letter cannot be read").caused_by(error);
    read.await.map_err(|e| wrong(e.into()))?.map_err(wrong)
}
