//! The client of librdkafka: its properties, and how it is made.

use longshore_core::Result;
use longshore_core::error::{Error, Kind, code};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError;
use secrecy::{ExposeSecret, SecretString};

use crate::config::{Isolation, KafkaConfig, Mechanism, Sasl, Tls};
use crate::native::Client;

/// What a client does by itself: nothing. All it has to tell is read from its queue ([`crate::native::Queue`]).
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, _: KafkaError, _: &str) {}

    fn stats_raw(&self, _: &[u8]) {}
}

impl ConsumerContext for Quiet {}

/// The property that leaves topics out of a pattern: regular expressions with commas between them.
const LEFT_OUT: &str = "topic.blacklist";

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Makes a client. With a group it is a reader, which begins nothing before it subscribes; without, it only asks. Blocks for a moment.
/// `memory` is what it may buffer.
///
/// Errors: `config` if librdkafka does not take a property.
pub(crate) fn connect(config: &KafkaConfig, group: Option<&str>, memory: u64) -> Result<Client> {
    let properties = properties(config, group, memory);
    let consumer = BaseConsumer::from_config_and_context(&properties, Quiet);
    consumer.map(Client::new).map_err(|error| refused(config, error))
}

/// The properties of a producer, which writes each record once and in order.
pub(crate) fn writing(config: &KafkaConfig) -> ClientConfig {
    let mut all = ClientConfig::new();
    let mut set = |name: &str, value: &str| {
        all.set(name, value);
    };
    common(&mut set, config);
    set("enable.idempotence", "true");
    // Whoever writes tries again by itself. A topic that is not there is to be known for that before.
    set("message.timeout.ms", "8000");
    set("topic.metadata.propagation.max.ms", "4000");
    set("linger.ms", "5");
    // The topic says what is too large.
    set("message.max.bytes", "1000000000");
    set("queue.buffering.max.kbytes", "65536");
    security(&mut set, config);
    // What the other options say is about reading, but for how brokers are reached.
    for (name, value) in &config.options {
        if ["ssl.", "socket.", "broker.", "client.dns.lookup"].iter().any(|part| name.starts_with(part)) {
            set(name, value);
        }
    }
    all
}

/// What every client has.
fn common(set: &mut impl FnMut(&str, &str), config: &KafkaConfig) {
    set("bootstrap.servers", &config.brokers.join(","));
    set("client.id", "longshore");
    set("allow.auto.create.topics", "false");
    set("socket.keepalive.enable", "true");
    set("reconnect.backoff.max.ms", "3000");
}

/// The properties of a client. What the user's `options` say wins, but for those that are refused there.
fn properties(config: &KafkaConfig, group: Option<&str>, memory: u64) -> ClientConfig {
    let mut all = ClientConfig::new();
    let mut set = |name: &str, value: &str| {
        all.set(name, value);
    };
    common(&mut set, config);
    // New topics and partitions are to be seen within seconds, not minutes.
    set("topic.metadata.refresh.interval.ms", "10000");
    if let Some(group) = group {
        reading(&mut set, config, group, memory);
    }
    security(&mut set, config);
    for (name, value) in &config.options {
        set(name, value);
    }
    if let (Some(pattern), Some(_)) = (&config.pattern, group)
        && let Some(topics) = left_out(config, pattern)
    {
        set(LEFT_OUT, &topics);
    }
    // The reader learns from the log when librdkafka takes a topic for another one (see `fence`).
    let debug = match config.options.get("debug") {
        Some(more) => format!("metadata,{more}"),
        None => "metadata".to_owned(),
    };
    set("debug", &debug);
    all.set_log_level(RDKafkaLogLevel::Debug);
    all
}

/// The topics that a pattern never means.
fn left_out(config: &KafkaConfig, pattern: &str) -> Option<String> {
    let own = config.options.get(LEFT_OUT).cloned();
    // Kafka's own topics (`__consumer_offsets`) are nobody's data.
    let own = own.or_else(|| (!pattern.trim_start_matches('^').starts_with('_')).then(|| "^__".to_owned()));
    // Each of its letters would be read, be one again, and be written to it again, without end.
    let letters = config.dead_letter_topic.as_ref().map(|topic| format!("^{}$", topic.replace('.', "\\.")));
    let all: Vec<String> = own.into_iter().chain(letters).collect();
    (!all.is_empty()).then(|| all.join(","))
}

fn reading(set: &mut impl FnMut(&str, &str), config: &KafkaConfig, group: &str, memory: u64) {
    set("group.id", group);
    // The journal knows the positions, and nobody else.
    set("enable.auto.commit", "false");
    set("enable.auto.offset.store", "false");
    set("auto.offset.reset", "error");
    set("enable.partition.eof", "true");
    set("check.crcs", "true");
    set(
        "isolation.level",
        match config.isolation {
            Isolation::ReadCommitted => "read_committed",
            Isolation::ReadUncommitted => "read_uncommitted",
        },
    );
    if config.options.get("group.protocol").is_none_or(|protocol| protocol == "classic") {
        set("partition.assignment.strategy", "cooperative-sticky");
    }
    // Half of the share is for what waits in the queue, half for answers that are on their way when it is full.
    set("queued.max.messages.kbytes", &(memory / 2 / KIB).clamp(256, 2_097_151).to_string());
    // A record costs about half a KiB beside its bytes.
    set("queued.min.messages", &(memory / KIB).clamp(1_000, 100_000).to_string());
    set("fetch.max.bytes", &(memory / 4).clamp(MIB, 64 * MIB).to_string());
    set("fetch.message.max.bytes", &(memory / 8).clamp(64 * KIB, 4 * MIB).to_string());
    // A record may be larger than all of these; the broker sends it alone.
    set("receive.message.max.bytes", "1000000000");
    // Other requests wait behind a fetch on the same connection.
    set("fetch.wait.max.ms", "100");
    // How soon it is looked again whether there is room in the queue.
    set("fetch.queue.backoff.ms", "5");
}

fn security(set: &mut impl FnMut(&str, &str), config: &KafkaConfig) {
    set(
        "security.protocol",
        match (&config.tls, &config.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        },
    );
    if let Some(tls) = &config.tls {
        encryption(set, tls);
    }
    if let Some(sasl) = &config.sasl {
        login(set, sasl);
    }
}

fn encryption(set: &mut impl FnMut(&str, &str), tls: &Tls) {
    let mut file_or_text = |name: &str, value: Option<&str>| {
        let Some(value) = value else { return };
        if value.trim_start().starts_with("-----BEGIN") {
            set(&format!("{name}.pem"), value);
        } else {
            set(&format!("{name}.location"), value);
        }
    };
    file_or_text("ssl.ca", tls.ca.as_deref());
    file_or_text("ssl.certificate", tls.certificate.as_deref());
    file_or_text("ssl.key", tls.key.as_ref().map(ExposeSecret::expose_secret));
    if let Some(password) = &tls.key_password {
        set("ssl.key.password", password.expose_secret());
    }
}

fn login(set: &mut impl FnMut(&str, &str), sasl: &Sasl) {
    set("sasl.mechanisms", sasl.mechanism.name());
    if sasl.mechanism == Mechanism::Oauthbearer {
        return;
    }
    let shown =
        |secret: &Option<SecretString>| secret.as_ref().map(|secret| secret.expose_secret().to_owned()).unwrap_or_default();
    set("sasl.username", sasl.user.as_deref().unwrap_or_default());
    set("sasl.password", &shown(&sasl.password));
}

/// What librdkafka says of properties that it does not take. Values that may be secret are left out, and librdkafka puts a value into its
/// words at times.
pub(crate) fn refused(config: &KafkaConfig, error: KafkaError) -> Error {
    let invalid = |message: String| Error::new(Kind::Config, code::CONFIG, message);
    match error {
        KafkaError::ClientConfig(_, words, name, _) => {
            let secret =
                ["password", "secret", "pem", "key", "token", "config", "username"].iter().any(|part| name.contains(part));
            let error = invalid(format!("the Kafka client does not take the property `{name}`"));
            let error = if secret { error } else { error.with("says", words) };
            if config.options.contains_key(&name) {
                error.hint(
                    "properties of librdkafka are listed in its CONFIGURATION.md; check the name and the value in `options`",
                )
            } else {
                error
            }
        }
        other => invalid("the Kafka client cannot be made from these settings".to_owned())
            .caused_by(other)
            .hint("check the files that `tls` names, and `options`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(settings: serde_json::Value) -> KafkaConfig {
        serde_json::from_value(settings).expect("settings")
    }

    #[test]
    fn every_property_that_is_set_is_known_to_librdkafka() {
        let all = config(serde_json::json!({
            "brokers": ["127.0.0.1:1"], "pattern": "orders-.*", "tls": {}, "sasl": {"mechanism": "SCRAM-SHA-512", "user": "u", "password": "p"},
            "options": {"session.timeout.ms": "10000"},
        }));
        connect(&all, Some("g"), 64 * MIB).expect("a reader");
        connect(&all, None, 64 * MIB).expect("one that asks");
        for memory in [0, MIB, 1 << 40] {
            connect(&all, Some("g"), memory).expect("any memory");
        }
        let next =
            config(serde_json::json!({"brokers": ["127.0.0.1:1"], "topics": ["t"], "options": {"group.protocol": "consumer"}}));
        connect(&next, Some("g"), 64 * MIB).expect("the newer protocol");
        writing(&next).create::<rdkafka::producer::BaseProducer>().expect("a producer");
    }

    #[test]
    fn a_pattern_never_means_the_topic_of_dead_letters_nor_kafkas_own() {
        let left_out = |more: serde_json::Value| {
            let mut settings = serde_json::json!({"brokers": ["a:1"], "pattern": "orders.*"});
            settings.as_object_mut().expect("settings").extend(more.as_object().expect("settings").clone());
            properties(&config(settings), Some("g"), MIB).get(LEFT_OUT).map(str::to_owned)
        };
        assert_eq!(left_out(serde_json::json!({})).as_deref(), Some("^__"));
        assert_eq!(left_out(serde_json::json!({"dead_letter_topic": "orders.dead"})).as_deref(), Some(r"^__,^orders\.dead$"));
        let own = serde_json::json!({"dead_letter_topic": "orders-dead", "options": {"topic.blacklist": "^a,^b"}});
        assert_eq!(left_out(own).as_deref(), Some("^a,^b,^orders-dead$"));
        assert_eq!(left_out(serde_json::json!({"pattern": "^__.*"})), None);
        assert_eq!(left_out(serde_json::json!({"pattern": null, "topics": ["orders"]})), None);
    }

    #[test]
    fn a_property_that_is_not_known_is_named_and_no_secret_is_told() {
        let error = |options: serde_json::Value| {
            let config = config(serde_json::json!({"brokers": ["127.0.0.1:1"], "topics": ["t"], "options": options}));
            format!("{:?}", connect(&config, Some("g"), MIB).err().expect("refused"))
        };
        assert!(error(serde_json::json!({"fetch.wait.max": "1"})).contains("`fetch.wait.max`"));
        assert!(!error(serde_json::json!({"some.password": "hush"})).contains("hush"));
    }
}
