//! Rejected messages decoded again.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use longshore_core::Result;
use longshore_core::batch::Payload;
use longshore_core::error::{Error, Kind, code};
use longshore_core::letters::Letter;
use longshore_core::stream::Decode;
use serde_json::Value;

use crate::config::MessagesConfig;
use crate::decoder::Decoder;
use crate::message::{From, Message, Messages};
use crate::reject::FORMAT;

/// The settings that decoding again needs: those that say something, without secrets.
pub(crate) fn settings(config: &MessagesConfig) -> Result<Value> {
    let mut all =
        serde_json::to_value(config).map_err(|e| Error::new(Kind::Bug, code::BUG, "settings cannot be written").caused_by(e))?;
    if let Value::Object(all) = &mut all {
        let empty = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Object(object) => object.is_empty(),
            _ => false,
        };
        all.retain(|key, value| key != "route" && !empty(value));
    }
    Ok(all)
}

impl Decoder {
    /// What decodes the message of a dead letter again: its bytes, corrected or not, with the key, headers and coordinates that it came with. The
    /// inner error says why it cannot be.
    pub fn again(self: &Arc<Self>, letter: &Letter) -> std::result::Result<Arc<dyn Decode>, String> {
        let decoding = letter.decoding.as_ref().filter(|decoding| decoding["format"] == FORMAT);
        let decoding = decoding.ok_or("it is no message of a stream, or does not say how it came")?;
        let Payload::Inline(payload) = &letter.payload else { return Err("its payload is not at hand".to_owned()) };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let bytes = |value: &Value| value.as_str().and_then(|text| STANDARD.decode(text).ok());
        let headers: Vec<(String, Vec<u8>)> = decoding["headers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|header| Some((text(&header[0])?, bytes(&header[1])?)))
            .collect();
        let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let key = bytes(&decoding["key"]);
        let (kafka, pubsub) = (&decoding["kafka"], &decoding["pubsub"]);
        let from = match (kafka["topic"].as_str(), pubsub["subscription"].as_str()) {
            (Some(topic), _) => From::Kafka {
                topic,
                partition: kafka["partition"].as_i64().and_then(|partition| partition.try_into().ok()).unwrap_or_default(),
                offset: kafka["offset"].as_i64().unwrap_or_default(),
            },
            (None, Some(subscription)) => From::PubSub {
                subscription,
                id: pubsub["id"].as_str().unwrap_or_default(),
                ordering_key: pubsub["ordering_key"].as_str().unwrap_or_default(),
            },
            (None, None) => return Err("it does not say where it came from".to_owned()),
        };
        let is_tombstone = decoding["tombstone"] == true && payload.is_empty();
        let time = decoding["time"].as_str().and_then(|time| DateTime::parse_from_rfc3339(time).ok());
        let mut messages = Messages::new();
        messages.push(Message {
            key: key.as_deref(),
            value: (!is_tombstone).then_some(payload.as_slice()),
            headers: &headers,
            from,
            time: time.map(|time| time.with_timezone(&Utc)),
        });
        Ok(self.decode(messages))
    }
}
