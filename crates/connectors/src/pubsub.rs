//! Google Pub/Sub as a source that never ends.

use std::sync::Arc;

use longshore_pubsub::PubSubSource;
use longshore_pubsub::config::PubSubConfig;

use crate::{Declaration, Make, read};

pub(crate) const DECLARATION: Declaration = Declaration {
    name: "pubsub",
    summary: "A subscription of Google Pub/Sub, read for ever, each message once, to any number of tables",
    capabilities: &[
        "ids are kept with the data: messages land once, whatever fails and however often they come",
        "acknowledged after their commit only; leases are extended for as long as it takes",
        "any number of processes share a subscription",
        "tables named by an attribute, `destination_table` if nothing else is said",
        "ordering keys, subscriptions that deliver exactly once",
        "JSON, Avro, Protobuf, JSON Schema, CSV and raw bytes; schema registries",
        "application default credentials, keys, workload identity, impersonation; emulators",
    ],
    settings: || schemars::schema_for!(PubSubConfig).to_value(),
    codes: &[longshore_pubsub::error::codes::ALL, longshore_messages::error::ALL],
    make: Make::Stream {
        open: |settings, _| Ok(Arc::new(PubSubSource::new(read::<PubSubConfig>("pubsub", settings)?)?)),
        inputs: |settings| settings["subscription"].as_str().map(|name| format!("pubsub:{name}")).into_iter().collect(),
    },
};
