//! What an error of librdkafka's means: whether it ends the reading, is to be waited for, or is no more than a line of the log.

use longshore_core::error::{Code, Error, Kind, Retry};
use rdkafka::error::RDKafkaErrorCode as Broker;

use crate::error::{
    KAFKA_AUTHENTICATION, KAFKA_DAMAGED, KAFKA_DENIED, KAFKA_FAILED, KAFKA_GROUP_REFUSED, KAFKA_TLS, KAFKA_TOPIC_UNKNOWN,
};
use crate::native::Trouble;

/// What is to be done about an error.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The reading ends.
    Ends(Error),
    /// Nobody lets us in. It may pass if a broker is only just starting, or a password was changed a moment ago.
    Denied(Error),
    /// No broker can be reached.
    Away,
    /// A topic is not there.
    Missing(String),
    /// The offset that was to be read is not there; `truncated` if it was, with another record.
    OutOfRange { topic: String, partition: i32, truncated: bool },
    /// librdkafka deals with it.
    Passing,
}

/// Judges an error.
pub(crate) fn judge(trouble: &Trouble) -> Verdict {
    let topic = || trouble.partition.as_ref().map(|(topic, _, _)| topic.clone());
    let ends = |code, what: &str, hint: &str| Verdict::Ends(error(code, what, trouble, hint));
    match trouble.code {
        Broker::AutoOffsetReset | Broker::OffsetOutOfRange | Broker::LogTruncation => match &trouble.partition {
            Some((topic, partition, _)) => {
                Verdict::OutOfRange { topic: topic.clone(), partition: *partition, truncated: trouble.text.contains("truncat") }
            }
            None => Verdict::Passing,
        },
        Broker::AllBrokersDown => Verdict::Away,
        Broker::Authentication | Broker::SaslAuthenticationFailed | Broker::UnsupportedSASLMechanism | Broker::SSL => {
            Verdict::Denied(denied(trouble))
        }
        Broker::TopicAuthorizationFailed => ends(KAFKA_DENIED, "a topic may not be read", "grant READ and DESCRIBE on the topic"),
        Broker::GroupAuthorizationFailed => {
            ends(KAFKA_DENIED, "the group may not be used", "grant READ on the group, or name another one with `group`")
        }
        Broker::ClusterAuthorizationFailed => ends(KAFKA_DENIED, "the cluster does not allow it", "ask whoever runs the cluster"),
        Broker::InconsistentGroupProtocol
        | Broker::UnsupportedAssignor
        | Broker::GroupMaxSizeReached
        | Broker::InvalidGroupId => {
            ends(KAFKA_GROUP_REFUSED, "the group does not take this reader", "name a group of the pipeline's own with `group`")
        }
        Broker::FencedInstanceId | Broker::UnreleasedInstanceId => {
            ends(KAFKA_GROUP_REFUSED, "another process has the same `group.instance.id`", "give each process an id of its own")
        }
        Broker::BadMessage | Broker::InvalidMessage | Broker::BadCompression | Broker::Underflow
            if trouble.partition.is_some() =>
        {
            ends(KAFKA_DAMAGED, "records are damaged", "read again; if it happens again, let another replica lead the partition")
        }
        Broker::UnsupportedCompressionType if trouble.partition.is_some() => {
            ends(KAFKA_FAILED, "records are compressed in a way that is not known", "known: none, gzip, snappy, lz4, zstd")
        }
        Broker::UnknownTopicOrPartition | Broker::UnknownTopic | Broker::UnknownTopicId | Broker::UnknownPartition => {
            match topic().or_else(|| named(&trouble.text)) {
                Some(topic) => Verdict::Missing(topic),
                None => Verdict::Passing,
            }
        }
        _ if trouble.fatal => {
            ends(KAFKA_FAILED, "the Kafka client cannot go on", "the message has the reason; run again once it is gone")
        }
        _ => Verdict::Passing,
    }
}

/// The error for brokers that let nobody in.
fn denied(trouble: &Trouble) -> Error {
    let (code, what, hint) = match trouble.code {
        Broker::SSL => (
            KAFKA_TLS,
            "no trusted connection to a broker",
            "name the authority that signed the broker's certificate as `tls.ca`, and the brokers by the host names of their certificates",
        ),
        _ if trouble.text.contains(crate::oauth::NO_TOKEN) => (
            crate::error::KAFKA_TOKEN,
            "there is no token for the broker",
            "check `token_endpoint`, `client_id` and `client_secret` of `sasl`",
        ),
        _ => (KAFKA_AUTHENTICATION, "a broker refuses who asks", "check `mechanism`, `user` and `password` of `sasl`"),
    };
    error(code, what, trouble, hint)
}

/// The error for topics of which none is there.
pub(crate) fn no_topic(topics: &[String], words: &str) -> Error {
    let what = match topics {
        [one] => format!("the topic `{one}` is not there"),
        several => format!("none of the topics is there: {}", several.join(", ")),
    };
    Error::new(Kind::Source, KAFKA_TOPIC_UNKNOWN, what)
        .with_retry(Retry::AfterFix)
        .with("broker", words)
        .hint("check the names, and that they may be read; upper and lower case differ")
}

fn error(code: Code, what: &str, trouble: &Trouble, hint: &str) -> Error {
    let place = match &trouble.partition {
        Some((topic, partition, offset)) if *partition >= 0 => format!("{topic}/{partition} at offset {offset}: "),
        Some((topic, ..)) => format!("{topic}: "),
        None => String::new(),
    };
    Error::new(Kind::Source, code, format!("{what}: {place}{}", trouble.text)).with_retry(Retry::AfterFix).hint(hint)
}

/// The topic that librdkafka names in `Subscribed topic not available: NAME: ...`.
fn named(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("ubscribed topic not available: ")?;
    rest.split(':').next().map(|name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(code: Broker, text: &str, partition: Option<(&str, i32, i64)>) -> Trouble {
        let partition = partition.map(|(topic, number, offset)| (topic.to_owned(), number, offset));
        Trouble { code, fatal: false, text: text.to_owned(), partition }
    }

    #[test]
    fn errors_that_pass_by_themselves_end_nothing() {
        for code in
            [Broker::BrokerTransportFailure, Broker::Resolve, Broker::LeaderNotAvailable, Broker::CoordinatorLoadInProgress]
        {
            assert!(matches!(judge(&trouble(code, "x", None)), Verdict::Passing), "{code:?}");
        }
        assert!(matches!(judge(&trouble(Broker::AllBrokersDown, "3/3 brokers are down", None)), Verdict::Away));
    }

    #[test]
    fn what_a_person_has_to_mend_ends_with_the_brokers_words_and_a_hint() {
        for (code, expected) in [
            (Broker::TopicAuthorizationFailed, "kafka_denied"),
            (Broker::GroupAuthorizationFailed, "kafka_denied"),
            (Broker::InconsistentGroupProtocol, "kafka_group_refused"),
            (Broker::FencedInstanceId, "kafka_group_refused"),
            (Broker::BadMessage, "kafka_damaged"),
        ] {
            let Verdict::Ends(error) = judge(&trouble(code, "the broker's words", Some(("orders", 3, 17)))) else {
                panic!("{code:?} ends nothing")
            };
            assert_eq!((error.code(), error.retry()), (expected, Retry::AfterFix));
            assert!(error.to_string().contains("orders/3 at offset 17: the broker's words"), "{error}");
            assert!(error.hint_text().is_some());
        }
        let Verdict::Denied(error) = judge(&trouble(Broker::Authentication, "no", None)) else { panic!("let in") };
        assert_eq!(error.code(), "kafka_authentication");
    }

    #[test]
    fn a_fatal_error_that_nobody_knows_ends_the_reading() {
        let fatal = Trouble { fatal: true, ..trouble(Broker::Unknown, "x", None) };
        assert!(matches!(judge(&fatal), Verdict::Ends(error) if error.code() == "kafka_failed"));
    }

    #[test]
    fn a_topic_that_is_missing_is_named() {
        let text = "Subscribed topic not available: orders: Broker: Unknown topic or partition";
        let Verdict::Missing(topic) = judge(&trouble(Broker::UnknownTopicOrPartition, text, None)) else { panic!("not missing") };
        assert_eq!(topic, "orders");
    }
}
