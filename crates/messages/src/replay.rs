//! Rejected messages decoded again.

use longshore_core::Result;
use longshore_core::error::{Error, Kind, code};
use serde_json::Value;

use crate::config::MessagesConfig;

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
