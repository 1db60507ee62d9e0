//! Rejects of messages.

use std::sync::Arc;

use crate::config::Format;
use crate::fault::Fault;
use crate::message::{From, Messages};
use crate::original::Original;
use longshore_core::Result;
use longshore_core::batch::{Payload, Reject, Unit};
use longshore_core::error::{Error, Kind, Place, code};

/// The reject of a message. The payload is its content, byte for byte; `content` is how that was taken to be written.
pub(crate) fn reject(messages: &Messages, index: u32, table: Option<&str>, fault: Fault, content: Format) -> Result<Reject> {
    let from = messages.from(index);
    let line = match from {
        From::Kafka { offset, .. } => u64::try_from(offset).ok(),
        From::PubSub { .. } => None,
    };
    let decoding = serde_json::to_value(Original::of(messages, index, table, content))
        .map_err(|e| Error::new(Kind::Bug, code::BUG, "a message cannot be described").caused_by(e))?;
    Ok(Reject {
        unit: Unit::Message,
        table: table.map(str::to_owned),
        payload: Payload::Inline(messages.value(index).unwrap_or_default().to_vec()),
        code: fault.code,
        reason: fault.reason,
        place: Place { file: from.name(), line, column: None },
        field: fault.field,
        decoding: Some(Arc::new(decoding)),
        index: from.index(),
    })
}
