//! Pub/Sub.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::process::{Process, Ready, Spec, client};
use super::{PROJECT, installed};

/// What it says once it answers, followed by where.
const READY: &str = "ready ";
/// More than this at once is not asked of it.
const MESSAGES_AT_ONCE: usize = 1000;

/// Google's own fake of Pub/Sub. Beside the real service: a stream gets about a hundred messages a second, so few are for
/// it; seeking ends it; an acknowledgement of anything is fine; messages live ten minutes.
#[derive(Debug)]
pub struct PubSub {
    process: Process,
    endpoint: String,
    door: String,
}

/// A message as it is published, or as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PubSubMessage {
    /// What it says.
    pub data: Vec<u8>,
    /// Attributes.
    pub attributes: BTreeMap<String, String>,
    /// Empty: none.
    pub ordering_key: String,
    /// Its id; empty in what is published.
    pub id: String,
    /// How often it was delivered, if its subscription counts (has a dead-letter topic).
    pub delivery_attempt: u64,
}

impl PubSubMessage {
    /// A message with data and nothing else.
    pub fn new(data: impl Into<Vec<u8>>) -> Self {
        Self { data: data.into(), ..Self::default() }
    }

    /// The same with one more attribute.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: &str) -> Self {
        self.attributes.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same with an ordering key.
    #[must_use]
    pub fn ordering_key(self, key: &str) -> Self {
        Self { ordering_key: key.to_owned(), ..self }
    }
}

/// What became of a message that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// Its id.
    pub id: String,
    /// The full name of its topic.
    pub topic: String,
    /// How often it was handed out, over all subscriptions.
    pub deliveries: u64,
    /// How often it was acknowledged, over all subscriptions.
    pub acks: u64,
    /// The deadlines in seconds to which it was put, in order; 0 gives it back.
    pub deadlines: Vec<u64>,
}

impl PubSub {
    /// Starts one without topics, at once; `None` (said loudly) if it is not installed.
    ///
    /// # Panics
    /// If it does not start, with what it said; with `CI=true` if it is not installed.
    pub async fn start() -> Option<Self> {
        let program = installed("pubsub")?.join("server");
        let spec = |_: &_| Spec { program: program.clone(), ready: Ready::Says(READY), ..Spec::default() };
        let process = Process::start(spec).await;
        let said = process.log();
        let line = said.lines().find_map(|line| line.strip_prefix(READY)).expect("it was ready");
        let (endpoint, door) = line.split_once(' ').expect("it says two addresses");
        let (endpoint, door) = (endpoint.to_owned(), door.to_owned());
        Some(Self { process, endpoint, door })
    }

    /// The one that all tests of this process share, started at the first call; each test makes topics and subscriptions of
    /// its own in it. It ends with the process. `None` and panics as for [`Self::start`].
    pub async fn shared() -> Option<&'static Self> {
        static SHARED: OnceCell<Option<PubSub>> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await.as_ref()
    }

    /// Where clients find it, `HOST:PORT`, as PUBSUB_EMULATOR_HOST says it: gRPC, in plain text.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The full name of a topic.
    pub fn topic(name: &str) -> String {
        format!("projects/{PROJECT}/topics/{name}")
    }

    /// The full name of a subscription.
    pub fn subscription(name: &str) -> String {
        format!("projects/{PROJECT}/subscriptions/{name}")
    }

    /// Calls a method without streams (`Publisher`, `CreateTopic`) of `google.pubsub.v1` with a request in JSON; returns the
    /// answer in JSON, or what the server says is wrong: `CODE: message`.
    pub async fn call(&self, service: &str, method: &str, request: Value) -> Result<Value, String> {
        let url = format!("http://{}/call/{service}/{method}", self.door);
        let answer = client().post(url).json(&request).send().await.unwrap_or_else(|e| panic!("{e}:\n{}", self.log()));
        let fine = answer.status().is_success();
        let text = answer.text().await.unwrap_or_else(|e| panic!("{e}:\n{}", self.log()));
        if fine { Ok(serde_json::from_str(&text).expect("an answer in JSON")) } else { Err(text.trim_end().to_owned()) }
    }

    /// Makes a topic; `name` is the short one, here and below.
    ///
    /// # Panics
    /// If the server does not make it, say because it is there. All that follows panics likewise.
    pub async fn create_topic(&self, name: &str) {
        self.must("Publisher", "CreateTopic", json!({ "name": Self::topic(name) })).await;
    }

    /// Makes a subscription to a topic. `options` are fields of Pub/Sub's `Subscription` in JSON, for example
    /// `{"ackDeadlineSeconds": 10, "enableMessageOrdering": true}`; `{}`: none.
    pub async fn create_subscription(&self, name: &str, topic: &str, options: Value) {
        let mut request = json!({ "name": Self::subscription(name), "topic": Self::topic(topic) });
        let (Value::Object(request_fields), Value::Object(options)) = (&mut request, options) else {
            panic!("options are an object");
        };
        request_fields.extend(options);
        self.must("Subscriber", "CreateSubscription", request).await;
    }

    /// Publishes messages in order; returns their ids.
    pub async fn publish(&self, topic: &str, messages: &[PubSubMessage]) -> Vec<String> {
        let mut ids = Vec::with_capacity(messages.len());
        for some in messages.chunks(MESSAGES_AT_ONCE) {
            let list: Vec<Value> = some
                .iter()
                .map(|message| {
                    let data = BASE64_STANDARD.encode(&message.data);
                    json!({"data": data, "attributes": message.attributes, "orderingKey": message.ordering_key})
                })
                .collect();
            let answer = self.must("Publisher", "Publish", json!({"topic": Self::topic(topic), "messages": list})).await;
            let Value::Array(some_ids) = &answer["messageIds"] else { panic!("ids were expected: {answer}") };
            ids.extend(some_ids.iter().map(|id| id.as_str().expect("an id is text").to_owned()));
        }
        ids
    }

    /// Takes and acknowledges what a subscription has, until it has had nothing for half a second.
    pub async fn pull_all(&self, subscription: &str) -> Vec<PubSubMessage> {
        let name = Self::subscription(subscription);
        let mut messages = Vec::new();
        loop {
            let request = json!({"subscription": name, "maxMessages": MESSAGES_AT_ONCE});
            let answer = self.must("Subscriber", "Pull", request).await;
            let Some(received) = answer["receivedMessages"].as_array().filter(|list| !list.is_empty()) else { return messages };
            let acks: Vec<&Value> = received.iter().map(|one| &one["ackId"]).collect();
            self.must("Subscriber", "Acknowledge", json!({"subscription": name, "ackIds": acks})).await;
            messages.extend(received.iter().map(message));
        }
    }

    /// What became of all messages ever published here, in the order in which they were published.
    pub async fn fates(&self) -> Vec<Fate> {
        let answer = client().get(format!("http://{}/messages", self.door)).send().await.expect("it answers");
        let list: Option<Vec<Value>> = answer.json().await.expect("an answer in JSON");
        list.unwrap_or_default().iter().map(fate).collect()
    }

    /// Sets the clock by which deadlines pass that far ahead of the real one: leases that last less are over at once.
    pub async fn clock_ahead(&self, ahead: Duration) {
        self.order(&format!("clock?ahead={}", ahead.as_secs_f64())).await;
    }

    /// Ends each streaming pull that is opened from now on after that time, as the service does after half an hour; zero: not.
    pub async fn streams_end_after(&self, time: Duration) {
        self.order(&format!("streams?end={}", time.as_secs_f64())).await;
    }

    async fn order(&self, order: &str) {
        let answer = client().post(format!("http://{}/{order}", self.door)).send().await.expect("it answers");
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap_or_default());
    }

    async fn must(&self, service: &str, method: &str, request: Value) -> Value {
        self.call(service, method, request).await.unwrap_or_else(|e| panic!("{service}.{method}: {e}"))
    }

    /// Ends it without a word; all that it had is lost.
    pub async fn kill(&self) {
        self.process.end().await;
    }

    /// What it has said, for a test that fails.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

fn message(received: &Value) -> PubSubMessage {
    let message = &received["message"];
    let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
    PubSubMessage {
        data: BASE64_STANDARD.decode(text("data")).expect("data is Base64"),
        attributes: serde_json::from_value(message["attributes"].clone()).unwrap_or_default(),
        ordering_key: text("orderingKey"),
        id: text("messageId"),
        delivery_attempt: received["deliveryAttempt"].as_u64().unwrap_or_default(),
    }
}

fn fate(published: &Value) -> Fate {
    let text = |name: &str| published[name].as_str().unwrap_or_default().to_owned();
    let count = |value: &Value| value.as_u64().unwrap_or_default();
    let deadlines = published["Modacks"].as_array().into_iter().flatten().map(|modack| count(&modack["AckDeadline"])).collect();
    Fate {
        id: text("ID"),
        topic: text("Topic"),
        deliveries: count(&published["Deliveries"]),
        acks: count(&published["Acks"]),
        deadlines,
    }
}
