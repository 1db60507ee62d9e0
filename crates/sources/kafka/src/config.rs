//! The settings of the `kafka` source.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use longshore_core::Result;
use longshore_core::error::{Error, Kind, code};
use longshore_messages::MessagesConfig;
use secrecy::SecretString;

/// Kafka topics, read for ever, from where the journal says.
#[derive(Clone, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct KafkaConfig {
    /// Brokers to begin with, `host:port`. One text (a comma between them) or a list. The cluster tells about the others.
    #[serde(deserialize_with = "one_or_many")]
    pub brokers: Vec<String>,
    /// Names of topics.
    #[serde(deserialize_with = "one_or_many")]
    pub topics: Vec<String>,
    /// A regular expression instead of `topics`: topics whose whole name matches. Those that are made later are read as well. The one that
    /// `dead_letter_topic` names is never read.
    pub pattern: Option<String>,
    /// The consumer group, which shares the partitions out among everybody who runs the pipeline. The pipeline's name, unless given. The offsets
    /// that are committed to it follow the journal, for other tools to see; nothing is read from where they are.
    pub group: Option<String>,
    /// Where a partition begins that was never read by this pipeline: `earliest`, `latest`, `{time: "2026-01-31T00:00:00Z"}` (the first record
    /// of that time or later), or `{offsets: {"0": 123}}` (offsets by partition, `TOPIC/0` for one topic only; partitions without one
    /// begin at the earliest). Partitions and topics that are added while a run reads are read from their beginning.
    pub start: Start,
    /// `read_committed` leaves out records of transactions that were aborted, and waits for those that are open; `read_uncommitted` reads
    /// everything at once.
    pub isolation: Isolation,
    /// Connections are encrypted. With nothing below it, the authorities that the machine trusts count.
    pub tls: Option<Tls>,
    /// Who asks.
    pub sasl: Option<Sasl>,
    /// A topic of the same brokers that copies of dead letters go to, beside their table: value, key and headers unchanged, and what is known
    /// about each in headers that begin with `longshore-`. A copy may come twice, with the same `longshore-id`.
    pub dead_letter_topic: Option<String>,
    /// Any other property of librdkafka, by its own name (`session.timeout.ms: 10000`, `group.protocol: consumer`).
    pub options: BTreeMap<String, String>,
    /// How messages become rows.
    #[serde(flatten)]
    pub messages: MessagesConfig,
}

/// Where a partition begins that was never read.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// At the first record that the broker still has.
    #[default]
    Earliest,
    /// Behind the last record there is.
    Latest,
    /// At the first record of this time (RFC 3339) or later.
    Time(#[schemars(with = "String")] DateTime<Utc>),
    /// At these offsets, by partition: `0`, or `TOPIC/0`.
    Offsets(BTreeMap<String, i64>),
}

/// What is seen of transactions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// What was committed.
    #[default]
    ReadCommitted,
    /// Everything.
    ReadUncommitted,
}

/// How connections are encrypted. Each of these is the path of a PEM file, or the PEM text itself (from a variable).
#[derive(Clone, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The authorities to trust instead of those of the machine.
    pub ca: Option<String>,
    /// The certificate that this client shows.
    pub certificate: Option<String>,
    /// Its private key.
    #[schemars(with = "Option<String>")]
    pub key: Option<SecretString>,
    /// The password of the private key.
    #[schemars(with = "Option<String>")]
    pub key_password: Option<SecretString>,
}

/// Who asks, and how that is proved.
#[derive(Clone, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sasl {
    /// How it is proved.
    pub mechanism: Mechanism,
    /// The user (PLAIN, SCRAM).
    pub user: Option<String>,
    /// The password (PLAIN, SCRAM).
    #[schemars(with = "Option<String>")]
    pub password: Option<SecretString>,
    /// Where tokens are had (OAUTHBEARER), by OAuth's client credentials: an `https` address.
    pub token_endpoint: Option<String>,
    /// The client at the token endpoint (OAUTHBEARER).
    pub client_id: Option<String>,
    /// Its secret (OAUTHBEARER).
    #[schemars(with = "Option<String>")]
    pub client_secret: Option<SecretString>,
    /// What the token is for, if the endpoint wants to know (OAUTHBEARER).
    pub scope: Option<String>,
}

/// How it is proved who asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
pub enum Mechanism {
    /// User and password, as they are: use it with `tls` only.
    #[default]
    #[serde(rename = "PLAIN")]
    Plain,
    /// User and password, without telling the password.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// User and password, without telling the password.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    /// Tokens that an endpoint gives.
    #[serde(rename = "OAUTHBEARER")]
    Oauthbearer,
}

impl Mechanism {
    /// Its name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
            Mechanism::Oauthbearer => "OAUTHBEARER",
        }
    }
}

impl KafkaConfig {
    /// Checks what the schema cannot say. Errors: `config`, with what to write instead.
    pub fn check(&self) -> Result<()> {
        if self.brokers.is_empty() {
            return Err(invalid("`brokers` is missing").hint("brokers: [\"kafka1:9092\", \"kafka2:9092\"]"));
        }
        if let Some(bad) = self.brokers.iter().find(|broker| broker.contains("://") || broker.trim().is_empty()) {
            return Err(
                invalid(format!("`{bad}` is not a broker")).hint("a broker is a host and a port, without a scheme: kafka1:9092")
            );
        }
        self.check_topics()?;
        self.check_letters()?;
        if let Start::Offsets(offsets) = &self.start {
            check_offsets(offsets)?;
        }
        if let Some(sasl) = &self.sasl {
            sasl.check()?;
        }
        if let Some(tls) = &self.tls
            && tls.certificate.is_some() != tls.key.is_some()
        {
            return Err(invalid("`tls` needs `certificate` and `key` together"));
        }
        self.options.keys().try_for_each(|name| check_option(name))
    }

    fn check_letters(&self) -> Result<()> {
        match &self.dead_letter_topic {
            Some(topic) if !is_topic(topic) => Err(invalid(format!("`{topic}` cannot be the name of a topic"))
                .hint("letters, digits, `.`, `_` and `-`, at most 249")),
            Some(topic) if self.topics.contains(topic) => Err(invalid("`dead_letter_topic` is one of the topics that are read")
                .hint("each dead letter would be read again, and be one again")),
            _ => Ok(()),
        }
    }

    fn check_topics(&self) -> Result<()> {
        match (&self.pattern, self.topics.as_slice()) {
            (None, []) => Err(invalid("`topics` is missing").hint("topics: [orders, payments], or pattern: \"orders-.*\"")),
            (Some(_), [_, ..]) => Err(invalid("`topics` and `pattern` cannot be used together")),
            (None, topics) => match topics.iter().find(|topic| !is_topic(topic)) {
                Some(bad) => Err(invalid(format!("`{bad}` cannot be the name of a topic"))
                    .hint("letters, digits, `.`, `_` and `-`, at most 249; for a regular expression use `pattern`")),
                None => Ok(()),
            },
            (Some(pattern), []) if pattern.is_empty() => Err(invalid("`pattern` is empty")),
            (Some(_), []) => Ok(()),
        }
    }
}

impl Sasl {
    fn check(&self) -> Result<()> {
        let oauth = self.mechanism == Mechanism::Oauthbearer;
        let needed: &[(&str, bool)] = if oauth {
            &[
                ("token_endpoint", self.token_endpoint.is_some()),
                ("client_id", self.client_id.is_some()),
                ("client_secret", self.client_secret.is_some()),
            ]
        } else {
            &[("user", self.user.is_some()), ("password", self.password.is_some())]
        };
        if let Some((name, _)) = needed.iter().find(|(_, given)| !given) {
            return Err(invalid(format!("`sasl.{name}` is missing, which {} needs", self.mechanism.name())));
        }
        let foreign = if oauth { self.user.is_some() || self.password.is_some() } else { self.token_endpoint.is_some() };
        if foreign {
            return Err(invalid(format!("`sasl` has settings that {} does not use", self.mechanism.name())).hint(
                "PLAIN and SCRAM take `user` and `password`, OAUTHBEARER `token_endpoint`, `client_id` and `client_secret`",
            ));
        }
        Ok(())
    }
}

/// The properties that the settings above are for, or that would break what Longshore promises, each with what to do instead.
const REFUSED: &[(&str, &str)] = &[
    ("bootstrap.servers", "use `brokers`"),
    ("metadata.broker.list", "use `brokers`"),
    ("group.id", "use `group`"),
    ("isolation.level", "use `isolation`"),
    ("security.protocol", "it follows from `tls` and `sasl`"),
    ("sasl.mechanism", "use `sasl`"),
    ("sasl.mechanisms", "use `sasl`"),
    ("sasl.username", "use `sasl`"),
    ("sasl.password", "use `sasl`"),
    ("sasl.oauthbearer.client.secret", "use `sasl`"),
    ("ssl.key.password", "use `tls`"),
    ("ssl.key.pem", "use `tls`"),
    ("auto.offset.reset", "use `start`; a position that is gone is never replaced in silence"),
    ("enable.auto.commit", "the journal says what has been read"),
    ("auto.commit.enable", "the journal says what has been read"),
    ("auto.commit.interval.ms", "the journal says what has been read"),
    ("enable.auto.offset.store", "the journal says what has been read"),
    ("offset.store.method", "the journal says what has been read"),
    ("offset.store.path", "the journal says what has been read"),
    ("enable.partition.eof", "it tells when everything has been read"),
    (
        "partition.assignment.strategy",
        "partitions are shared out by `cooperative-sticky`, or by the broker with `group.protocol: consumer`",
    ),
    ("group.remote.assignor", "the broker's own choice counts"),
    ("check.crcs", "records are always checked"),
    ("log.queue", "it is used by Longshore"),
    ("enabled_events", "it is used by Longshore"),
    ("plugin.library.paths", "no foreign code is loaded"),
];

fn check_option(name: &str) -> Result<()> {
    match REFUSED.iter().find(|(refused, _)| *refused == name) {
        Some((_, instead)) => Err(invalid(format!("the option `{name}` cannot be set")).hint(*instead)),
        None => Ok(()),
    }
}

fn check_offsets(offsets: &BTreeMap<String, i64>) -> Result<()> {
    for (partition, offset) in offsets {
        let number = partition.rsplit('/').next().unwrap_or(partition);
        if number.parse::<i32>().is_ok_and(|number| number >= 0) && *offset >= 0 {
            continue;
        }
        return Err(invalid(format!("`start.offsets` cannot have `{partition}: {offset}`"))
            .hint("partitions and offsets are numbers from 0: {offsets: {\"0\": 123, \"orders/1\": 0}}"));
    }
    Ok(())
}

/// What Kafka allows as the name of a topic.
fn is_topic(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 249 && name != "." && name != ".." && name.chars().all(allowed)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::Config, code::CONFIG, message)
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<String>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match serde::Deserialize::deserialize(deserializer)? {
        OneOrMany::One(one) => one.split(',').map(|part| part.trim().to_owned()).collect(),
        OneOrMany::Many(many) => many,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(settings: serde_json::Value) -> KafkaConfig {
        serde_json::from_value(settings).expect("settings")
    }

    fn refusal(settings: serde_json::Value) -> String {
        let error = config(settings).check().expect_err("refused");
        format!("{error}; {}", error.hint_text().unwrap_or_default())
    }

    #[test]
    fn the_least_settings_are_brokers_and_topics() {
        let config = config(serde_json::json!({"brokers": "a:9092, b:9092", "topics": ["orders"]}));
        config.check().expect("enough");
        assert_eq!(config.brokers, ["a:9092", "b:9092"]);
        assert_eq!((config.start, config.isolation), (Start::Earliest, Isolation::ReadCommitted));
    }

    #[test]
    fn every_way_to_say_a_start_is_understood() {
        let start = |value: serde_json::Value| config(serde_json::json!({"start": value})).start;
        assert_eq!(start(serde_json::json!("latest")), Start::Latest);
        assert_eq!(start(serde_json::json!({"offsets": {"0": 123}})), Start::Offsets([("0".to_owned(), 123)].into()));
        let Start::Time(time) = start(serde_json::json!({"time": "2026-01-31T00:00:00+01:00"})) else { panic!("a time") };
        assert_eq!(time.to_rfc3339(), "2026-01-30T23:00:00+00:00");
    }

    #[test]
    fn what_would_break_the_contract_is_refused_with_what_to_do_instead() {
        for (name, instead) in REFUSED {
            let said = refusal(serde_json::json!({"brokers": ["a:1"], "topics": ["t"], "options": {*name: "x"}}));
            assert!(said.contains(name) && said.contains(instead), "{said}");
        }
    }

    #[test]
    fn mistakes_are_named_with_what_to_write() {
        for (settings, part) in [
            (serde_json::json!({"topics": ["t"]}), "`brokers` is missing"),
            (serde_json::json!({"brokers": ["kafka://a:1"], "topics": ["t"]}), "without a scheme"),
            (serde_json::json!({"brokers": ["a:1"]}), "`topics` is missing"),
            (serde_json::json!({"brokers": ["a:1"], "topics": ["a*"]}), "use `pattern`"),
            (serde_json::json!({"brokers": ["a:1"], "topics": ["a"], "pattern": "b"}), "together"),
            (serde_json::json!({"brokers": ["a:1"], "topics": ["a"], "start": {"offsets": {"x": 1}}}), "numbers from 0"),
            (serde_json::json!({"brokers": ["a:1"], "topics": ["a"], "sasl": {"user": "u"}}), "`sasl.password` is missing"),
            (serde_json::json!({"brokers": ["a:1"], "topics": ["a"], "tls": {"key": "k"}}), "together"),
            (serde_json::json!({"brokers": ["a:1"], "topics": ["a"], "dead_letter_topic": "a"}), "read again"),
        ] {
            let said = refusal(settings.clone());
            assert!(said.contains(part), "{settings}: {said}");
        }
    }

    #[test]
    fn secrets_have_no_text_form() {
        let config = config(serde_json::json!({"sasl": {"user": "u", "password": "hush"}}));
        let password = config.sasl.expect("sasl").password.expect("password");
        assert!(!format!("{password:?}").contains("hush"));
    }
}
