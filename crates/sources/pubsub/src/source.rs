//! A subscription as a source.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use longshore_core::Result;
use longshore_core::error::code;
use longshore_core::letters::Letter;
use longshore_core::source::Context;
use longshore_core::stream::{Decode, Letterbox, Progress, StreamSource, Subscription};
use longshore_messages::{Decoder, Route};
use tonic::{Code, Status};

use crate::client::Client;
use crate::config::PubSubConfig;
use crate::error::{Doing, codes, config, refusal};
use crate::letters::PubSubLetterbox;
use crate::protocol as api;
use crate::publish::Publisher;
use crate::subscription::PubSubSubscription;

/// What names the table of a message if the settings say nothing.
const DEFAULT_ROUTE: &str = "destination_table";
/// How long Pub/Sub may take to say whether there is such a subscription. Reading it tells the same, later.
const LOOKED_WITHIN: Duration = Duration::from_secs(5);

/// A subscription of Google Pub/Sub.
pub struct PubSubSource {
    name: String,
    config: PubSubConfig,
    client: Client,
    decoder: Arc<Decoder>,
    letters: Option<Arc<PubSubLetterbox>>,
}

impl PubSubSource {
    /// Reads the settings; asks nobody yet.
    ///
    /// Errors: `config`, `pubsub_name`, `pubsub_credentials`, and what the decoder says of its settings.
    pub fn new(config: PubSubConfig) -> Result<Self> {
        config.check()?;
        let decoder = Decoder::new(&config.messages, Route::Header(DEFAULT_ROUTE.to_owned()))?;
        let (name, client) = (config.subscription()?, Client::new(&config.access)?);
        let letters =
            config.dead_letter_topic()?.map(|topic| Arc::new(PubSubLetterbox::new(topic, Publisher::of(client.clone()))));
        Ok(Self { name, config, client, decoder, letters })
    }

    /// Whether the subscription is one that can be read. Errors: `pubsub_refused`; `config` if dead letters would come back to it.
    fn usable(&self, found: &api::Subscription) -> Result<()> {
        readable(&self.name, found)?;
        match &self.letters {
            Some(letters) if letters.topic() == found.topic => {
                let why = format!("`dead_letter_topic` is the topic of {}", self.name);
                Err(config(code::CONFIG, why).hint("each dead letter would be read again, and be one again"))
            }
            _ => Ok(()),
        }
    }

    fn refused(&self, status: &Status) -> longshore_core::Error {
        refusal(Doing::Reading(&self.name), status)
    }
}

#[async_trait]
impl StreamSource for PubSubSource {
    async fn subscribe(&self, cx: &Context, progress: Arc<dyn Progress>) -> Result<Box<dyn Subscription>> {
        // To look takes a permission that reading does not: only a clear answer counts.
        match tokio::time::timeout(LOOKED_WITHIN, self.client.subscription(&self.name)).await {
            Ok(Ok(found)) => self.usable(&found)?,
            Ok(Err(status)) if matches!(status.code(), Code::NotFound | Code::Unauthenticated) => {
                return Err(self.refused(&status));
            }
            Ok(Err(_)) | Err(_) => {}
        }
        self.decoder.attach(cx);
        let (name, config, client) = (self.name.clone(), self.config.clone(), self.client.clone());
        Ok(Box::new(PubSubSubscription::new(name, config, client, self.decoder.clone(), cx.clone(), progress)))
    }

    fn letterbox(&self) -> Option<Arc<dyn Letterbox>> {
        self.letters.clone().map(|letters| letters as Arc<dyn Letterbox>)
    }

    fn again(&self, letter: &Letter) -> Result<std::result::Result<Arc<dyn Decode>, String>> {
        Ok(self.decoder.again(letter))
    }

    async fn inspect(&self, _cx: &Context) -> Result<Vec<String>> {
        let mut lines = vec![format!("{} at {}, as {}", self.name, self.client.address(), self.client.who())];
        match self.client.subscription(&self.name).await {
            Ok(found) => {
                self.usable(&found)?;
                lines.extend(described(&found));
            }
            // Whoever may read need not be allowed to look.
            Err(status) if status.code() == Code::PermissionDenied => match self.client.may_read(&self.name).await {
                Ok(true) => lines.push("may be read; what it is cannot be looked at without `roles/pubsub.viewer`".to_owned()),
                _ => return Err(self.refused(&status)),
            },
            Err(status) => return Err(self.refused(&status)),
        }
        Ok(lines)
    }
}

/// Errors: `pubsub_refused` if the subscription is one that nobody can read.
fn readable(name: &str, found: &api::Subscription) -> Result<()> {
    let pushes = found.push_config.as_ref().map(|push| push.push_endpoint.as_str()).filter(|address| !address.is_empty());
    let why = if found.detached {
        "is detached from its topic: nothing comes on it any more".to_owned()
    } else if let Some(address) = pushes {
        format!("pushes its messages to {address}")
    } else if let Some(table) = found.bigquery_config.as_ref().filter(|into| !into.table.is_empty()) {
        format!("writes its messages into the table {} by itself", table.table)
    } else if let Some(bucket) = found.cloud_storage_config.as_ref().filter(|into| !into.bucket.is_empty()) {
        format!("writes its messages into the bucket {} by itself", bucket.bucket)
    } else {
        return Ok(());
    };
    Err(config(codes::REFUSED, format!("{name} {why}")).hint("make another subscription of the topic, of the kind `pull`"))
}

/// What there is to know of a subscription, a line each.
fn described(found: &api::Subscription) -> Vec<String> {
    let mut lines = vec![match found.topic.as_str() {
        "_deleted-topic_" => "its topic was deleted: nothing new comes".to_owned(),
        topic => format!("of {topic}"),
    }];
    if !found.filter.is_empty() {
        lines.push(format!("only messages with {}", found.filter));
    }
    if found.enable_exactly_once_delivery {
        lines.push("delivers exactly once: acknowledgements are confirmed".to_owned());
    }
    if found.enable_message_ordering {
        lines.push("delivers the messages of an ordering key in order".to_owned());
    }
    if let Some(policy) = &found.dead_letter_policy {
        let (topic, tries) = (&policy.dead_letter_topic, policy.max_delivery_attempts);
        lines.push(format!("Pub/Sub itself moves a message to {topic} after {tries} deliveries"));
    }
    lines
}
