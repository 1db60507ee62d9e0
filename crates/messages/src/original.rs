//! Everything about a message but its content, as a reject's `decoding` keeps it: for a replay, and for topics of
//! dead letters.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use longshore_core::Result;
use longshore_core::error::{Error, Kind, code};
use serde::de::Error as _;
use serde_json::Value;

use crate::config::Format;
use crate::message::{From, Message, Messages};

/// What stands as `format` in the `decoding` of a message's reject.
pub const FORMAT: &str = "message";

/// A message without its content.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Original {
    format: String,
    /// Where it comes from.
    #[serde(flatten)]
    pub origin: Origin,
    /// When it was written, as its broker said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<DateTime<Utc>>,
    /// The latest time of its partition's messages up to it, if it is a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<DateTime<Utc>>,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Bytes>,
    /// Its headers or attributes, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, Bytes)>,
    /// Whether it has no content, which is not the same as an empty one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tombstone: bool,
    /// The table that it names, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// How its content was taken to be written.
    pub content: Format,
}

/// Where a message comes from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A record of Kafka.
    Kafka {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// A message of Pub/Sub.
    PubSub {
        /// The subscription.
        subscription: String,
        /// The message's id.
        id: String,
        /// The ordering key, empty for none.
        ordering_key: String,
    },
}

/// Bytes, in base64 where they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Original {
    /// Of the message at an index; `table` is the one that it names.
    pub(crate) fn of(messages: &Messages, index: u32, table: Option<&str>, content: Format) -> Self {
        let origin = match messages.from(index) {
            From::Kafka { topic, partition, offset } => Origin::Kafka { topic: topic.to_owned(), partition, offset },
            From::PubSub { subscription, id, ordering_key } => {
                Origin::PubSub { subscription: subscription.to_owned(), id: id.to_owned(), ordering_key: ordering_key.to_owned() }
            }
        };
        Self {
            format: FORMAT.to_owned(),
            origin,
            time: messages.time(index),
            latest: messages.latest(index),
            key: messages.key(index).map(|key| Bytes(key.to_vec())),
            headers: messages.headers(index).map(|(name, value)| (name.to_owned(), Bytes(value.to_vec()))).collect(),
            tombstone: messages.value(index).is_none(),
            table: table.map(str::to_owned),
            content,
        }
    }

    /// Reads a reject's `decoding`. Errors: `config` if it is not that of a message.
    pub fn read(decoding: &Value) -> Result<Self> {
        let wrong = || Error::new(Kind::Config, code::CONFIG, "a dead letter does not say which message it was");
        let original: Self = serde::Deserialize::deserialize(decoding).map_err(|e| wrong().caused_by(e))?;
        if original.format == FORMAT { Ok(original) } else { Err(wrong()) }
    }

    /// Adds the message with this content, corrected or not. One that had none has none unless it was given some.
    pub fn push(&self, content: &[u8], messages: &mut Messages) {
        let headers: Vec<(&str, &[u8])> = self.headers.iter().map(|(name, value)| (name.as_str(), &value.0[..])).collect();
        let from = match &self.origin {
            Origin::Kafka { topic, partition, offset } => From::Kafka { topic, partition: *partition, offset: *offset },
            Origin::PubSub { subscription, id, ordering_key } => From::PubSub { subscription, id, ordering_key },
        };
        messages.push(Message {
            key: self.key.as_ref().map(|key| &key.0[..]),
            value: if self.tombstone && content.is_empty() { None } else { Some(content) },
            headers: &headers,
            from,
            time: self.time,
            latest: self.latest,
        });
    }
}

impl serde::Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> serde::Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        STANDARD.decode(&*text).map(Self).map_err(D::Error::custom)
    }
}
