//! Rejects of messages, and what they keep so that the message can be made again from them.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use longshore_core::batch::{Payload, Reject, Unit};
use longshore_core::error::Place;
use serde_json::{Map, Value, json};

use crate::fault::Fault;
use crate::message::{From, Messages};

/// What stands as `format` in the `decoding` of a message's reject.
pub const FORMAT: &str = "message";

/// The reject of a message. The payload is its content, byte for byte; `settings` say how it was decoded.
pub(crate) fn reject(messages: &Messages, index: u32, table: Option<&str>, fault: Fault, settings: &Value) -> Reject {
    let from = messages.from(index);
    let line = match from {
        From::Kafka { offset, .. } => u64::try_from(offset).ok(),
        From::PubSub { .. } => None,
    };
    Reject {
        unit: Unit::Message,
        table: table.map(str::to_owned),
        payload: Payload::Inline(messages.value(index).unwrap_or_default().to_vec()),
        code: fault.code,
        reason: fault.reason,
        place: Place { file: from.name(), line, column: None },
        field: fault.field,
        decoding: Some(Arc::new(decoding(messages, index, table, settings))),
        index: from.index(),
    }
}

/// Everything about a message but its content.
fn decoding(messages: &Messages, index: u32, table: Option<&str>, settings: &Value) -> Value {
    let mut all = Map::new();
    all.insert("format".to_owned(), FORMAT.into());
    match messages.from(index) {
        From::Kafka { topic, partition, offset } => {
            all.insert("kafka".to_owned(), json!({"topic": topic, "partition": partition, "offset": offset}));
        }
        From::PubSub { subscription, id, ordering_key } => {
            let from = json!({"subscription": subscription, "id": id, "ordering_key": ordering_key});
            all.insert("pubsub".to_owned(), from);
        }
    }
    if let Some(time) = messages.time(index) {
        all.insert("time".to_owned(), time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true).into());
    }
    if let Some(key) = messages.key(index) {
        all.insert("key".to_owned(), STANDARD.encode(key).into());
    }
    let headers: Vec<Value> = messages.headers(index).map(|(name, value)| json!([name, STANDARD.encode(value)])).collect();
    if !headers.is_empty() {
        all.insert("headers".to_owned(), headers.into());
    }
    if messages.value(index).is_none() {
        all.insert("tombstone".to_owned(), true.into());
    }
    if let Some(table) = table {
        all.insert("table".to_owned(), table.into());
    }
    all.insert("settings".to_owned(), settings.clone());
    Value::Object(all)
}
