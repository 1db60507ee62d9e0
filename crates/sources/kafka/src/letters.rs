//! Copies of dead letters, into a topic of the same brokers.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use longshore_core::Result;
use longshore_core::batch::Payload;
use longshore_core::error::{Error, Kind, Retry, code};
use longshore_core::stream::{LetterCopy, Letterbox};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use secrecy::ExposeSecret;
use serde_json::Value;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;

use crate::client::{refused, writing};
use crate::config::KafkaConfig;
use crate::error::{KAFKA_DENIED, KAFKA_LETTERS};
use crate::oauth::Tokens;
use crate::place::blocking;

/// How long a delivery may take: whoever asks for it tries again.
const PATIENCE: Duration = Duration::from_secs(10);

/// A topic for copies of dead letters.
pub(crate) struct KafkaLetterbox {
    topic: String,
    config: Arc<KafkaConfig>,
    tokens: Option<Tokens>,
    producer: OnceCell<FutureProducer<Writer>>,
}

/// What a producer asks for by itself.
#[derive(Clone)]
struct Writer {
    tokens: Option<Tokens>,
    runtime: Handle,
}

impl ClientContext for Writer {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, _: RDKafkaLogLevel, _: &str, line: &str) {
        tracing::debug!("{line}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the producer of dead letters tells of an error");
    }

    /// Called on a thread of the producer's own.
    fn generate_oauth_token(
        &self,
        _: Option<&str>,
    ) -> std::result::Result<rdkafka::client::OAuthToken, Box<dyn std::error::Error>> {
        let tokens = self.tokens.as_ref().ok_or(crate::oauth::NO_TOKEN)?;
        let token = self.runtime.block_on(tokens.fetch())?;
        Ok(rdkafka::client::OAuthToken {
            token: token.text.expose_secret().to_owned(),
            principal_name: token.principal,
            lifetime_ms: token.until,
        })
    }
}

impl KafkaLetterbox {
    /// The topic of this name. Reaches for nothing yet.
    pub(crate) fn new(topic: String, config: Arc<KafkaConfig>, tokens: Option<Tokens>) -> Self {
        Self { topic, config, tokens, producer: OnceCell::new() }
    }

    async fn producer(&self) -> Result<&FutureProducer<Writer>> {
        self.producer
            .get_or_try_init(|| async {
                let (config, writer) = (self.config.clone(), Writer { tokens: self.tokens.clone(), runtime: Handle::current() });
                blocking(move || writing(&config).create_with_context(writer).map_err(|error| refused(&config, error))).await?
            })
            .await
    }

    /// Writes one copy; it is safe with the brokers when this returns.
    async fn write(&self, producer: &FutureProducer<Writer>, copy: &LetterCopy) -> Result<()> {
        let payload = payload(copy).await?;
        let (key, headers) = (key(copy), headers(copy));
        let mut record: FutureRecord<'_, Vec<u8>, Vec<u8>> = FutureRecord::to(&self.topic).headers(headers);
        (record.key, record.payload) = (key.as_ref(), payload.as_ref());
        let sent = producer.send(record, Timeout::After(PATIENCE)).await;
        sent.map(|_| ()).map_err(|(error, _)| self.failed(&error))
    }

    fn failed(&self, error: &KafkaError) -> Error {
        use RDKafkaErrorCode as Broker;
        let failed = |code, retry| {
            Error::new(Kind::Source, code, format!("a copy of a dead letter was not taken by the topic {}: {error}", self.topic))
                .with_retry(retry)
        };
        match error.rdkafka_error_code() {
            Some(Broker::TopicAuthorizationFailed | Broker::ClusterAuthorizationFailed) => {
                failed(KAFKA_DENIED, Retry::AfterFix).hint("grant WRITE and DESCRIBE on the topic")
            }
            Some(Broker::MessageSizeTooLarge | Broker::InvalidMessageSize | Broker::MessageBatchTooLarge) => {
                failed(KAFKA_LETTERS, Retry::AfterFix).hint("raise `max.message.bytes` of the topic")
            }
            Some(Broker::UnknownTopic | Broker::UnknownTopicOrPartition | Broker::InvalidTopic | Broker::UnknownPartition) => {
                failed(KAFKA_LETTERS, Retry::AfterFix).hint("make the topic that `dead_letter_topic` names")
            }
            _ => failed(KAFKA_LETTERS, Retry::Backoff),
        }
    }
}

#[async_trait]
impl Letterbox for KafkaLetterbox {
    fn name(&self) -> String {
        format!("the topic {}", self.topic)
    }

    async fn deliver(&self, copies: &[LetterCopy]) -> Result<()> {
        let written = async {
            let producer = self.producer().await?;
            // Sent together; the first that fails is told.
            futures::future::join_all(copies.iter().map(|copy| self.write(producer, copy))).await.into_iter().collect()
        };
        tokio::time::timeout(PATIENCE, written).await.unwrap_or_else(|_| {
            let why = format!("the topic {} did not take copies of dead letters within {} s", self.topic, PATIENCE.as_secs());
            Err(Error::new(Kind::Source, KAFKA_LETTERS, why).with_retry(Retry::Backoff))
        })
    }
}

/// The bytes of a dead letter, as they came; `None` for a record without a value.
async fn payload(copy: &LetterCopy) -> Result<Option<Vec<u8>>> {
    match &copy.reject.payload {
        Payload::Inline(_) if told(copy, "tombstone").is_some() => Ok(None),
        Payload::Inline(bytes) => Ok(Some(bytes.clone())),
        Payload::File { path, offset, length, .. } => {
            let (path, offset, length) = (path.clone(), *offset, *length);
            let read = blocking(move || read(&path, offset, length)).await?;
            read.map(Some)
                .map_err(|e| Error::new(Kind::Source, code::BUG, "the bytes of a dead letter cannot be read").caused_by(e))
        }
    }
}

fn read(path: &std::path::Path, offset: u64, length: u64) -> std::io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What the dead letter keeps of its message.
fn told<'a>(copy: &'a LetterCopy, name: &str) -> Option<&'a Value> {
    copy.reject.decoding.as_ref().and_then(|decoding| decoding.get(name))
}

fn key(copy: &LetterCopy) -> Option<Vec<u8>> {
    STANDARD.decode(told(copy, "key")?.as_str()?).ok()
}

/// The message's own headers, unchanged, and behind them what is known about it.
fn headers(copy: &LetterCopy) -> OwnedHeaders {
    let own = told(copy, "headers").and_then(Value::as_array).into_iter().flatten();
    let own = own.filter_map(|header| Some((header.get(0)?.as_str()?, STANDARD.decode(header.get(1)?.as_str()?).ok()?)));
    let headers = own.fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(&value) }));
    let about = copy.about();
    about.iter().fold(headers, |all, (key, value)| all.insert(Header { key, value: Some(value) }))
}
