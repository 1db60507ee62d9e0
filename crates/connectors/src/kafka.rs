//! Kafka as a source that never ends.

use std::sync::Arc;

use longshore_kafka::{KafkaConfig, KafkaSource};

use crate::{Declaration, Make, read};

pub(crate) const DECLARATION: Declaration = Declaration {
    name: "kafka",
    summary: "Kafka topics, read for ever, each record once, to any number of tables",
    capabilities: &[
        "offsets are kept with the data: records land once, whatever fails",
        "any number of processes share the partitions of a group",
        "JSON, Avro, Protobuf, JSON Schema, CSV and raw bytes; schema registries",
        "transactions, compacted topics as changes by key",
        "topics and partitions that are added while it runs, topics that are made again",
        "TLS, SASL PLAIN, SCRAM and OAUTHBEARER",
    ],
    settings: || schemars::schema_for!(KafkaConfig).to_value(),
    codes: &[longshore_kafka::error::ALL, longshore_messages::error::ALL],
    make: Make::Stream {
        open: |settings, _| Ok(Arc::new(KafkaSource::new(read::<KafkaConfig>("kafka", settings)?)?)),
        inputs: |settings| {
            let listed = match &settings["topics"] {
                serde_json::Value::Array(topics) => topics.iter().filter_map(|topic| topic.as_str()).map(str::to_owned).collect(),
                _ => Vec::new(),
            };
            let topics = listed.into_iter().chain(settings["pattern"].as_str().map(|pattern| format!("pattern {pattern}")));
            topics.map(|topic| format!("kafka:{topic}")).collect()
        },
    },
};
