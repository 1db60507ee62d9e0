//! The calls of Pub/Sub: the only file that speaks to it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http::HeaderValue;
use http::uri::PathAndQuery;
use longshore_core::Result;
use longshore_core::error::code;
use prost::Message;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status, Streaming};

use crate::config::Access;
use crate::credentials::Identity;
use crate::error::config;
use crate::protocol as api;
use crate::wire::{Raw, put_bytes, put_integer};

/// Where Pub/Sub is.
const GOOGLE: &str = "https://pubsub.googleapis.com";
/// The variable that names an emulator.
const EMULATOR: &str = "PUBSUB_EMULATOR_HOST";
/// A call that takes longer is lost.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// The largest answer that is taken: a message has up to 10 MB.
const ANSWER_BYTES: usize = 64 << 20;
/// What became of a thousand acknowledgements comes in the trailers of an answer.
const HEADER_BYTES: u32 = 4 << 20;

/// Speaks to Pub/Sub. Clones share their connection.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    target: Endpoint,
    /// For single calls; made where there is a runtime.
    calls: Arc<OnceLock<Channel>>,
    identity: Identity,
}

impl Client {
    /// Reads the settings; connects at the first call.
    ///
    /// Errors: `pubsub_credentials`, `config`.
    pub(crate) fn new(access: &Access) -> Result<Self> {
        let address = address(access.endpoint.as_deref(), std::env::var(EMULATOR).ok().as_deref());
        let wrong = |e: tonic::transport::Error| {
            config(code::CONFIG, format!("{address} cannot be used as the address of Pub/Sub")).caused_by(e)
        };
        let plain = match address.split_once("://") {
            Some(("http", _)) => true,
            Some(("https", _)) => false,
            _ => {
                let unclear = config(code::CONFIG, format!("`endpoint: {address}` does not say how to speak to it"));
                return Err(unclear.hint("begin it with https://, or http:// for an emulator"));
            }
        };
        let mut target = Endpoint::from_shared(address.clone())
            .map_err(wrong)?
            .user_agent(concat!("longshore/", env!("CARGO_PKG_VERSION")))
            .map_err(wrong)?
            .connect_timeout(Duration::from_secs(20))
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_while_idle(true)
            .http2_max_header_list_size(HEADER_BYTES)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(1 << 20);
        if !plain {
            target = target.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(wrong)?;
        }
        // A token in plain text is anybody's.
        let identity = if plain { Identity::nobody() } else { Identity::new(access)? };
        Ok(Self { target, calls: Arc::default(), identity })
    }

    /// Who we are, in words.
    pub(crate) fn who(&self) -> &str {
        self.identity.who()
    }

    /// Where it speaks to.
    pub(crate) fn address(&self) -> String {
        self.target.uri().to_string().trim_end_matches('/').to_owned()
    }

    /// A request with who we are, and with what routes it to the region of its subscription.
    async fn request<T>(&self, message: T, routed_by: &str) -> Result<Request<T>, Status> {
        let mut headers = self.identity.headers().await.map_err(|error| {
            let words = [vec![error.to_string()], error.chain()].concat().join(": ");
            match error.retry() {
                longshore_core::error::Retry::Backoff => Status::unavailable(words),
                _ => Status::unauthenticated(words),
            }
        })?;
        if let Ok(value) = HeaderValue::from_str(routed_by) {
            headers.insert("x-goog-request-params", value);
        }
        Ok(Request::from_parts(MetadataMap::from_headers(headers), http::Extensions::new(), message))
    }

    async fn call(&self, path: &'static str, routed_by: &str, message: Bytes) -> Result<Bytes, Status> {
        let work = async {
            let request = self.request(message, routed_by).await?;
            let channel = self.calls.get_or_init(|| self.target.connect_lazy()).clone();
            let mut grpc = Grpc::new(channel).max_decoding_message_size(ANSWER_BYTES);
            grpc.ready().await.map_err(|e| Status::unavailable(in_full(&e)))?;
            Ok(grpc.unary(request, PathAndQuery::from_static(path), Raw).await?.into_inner())
        };
        let late = |_| Err(Status::deadline_exceeded("no answer in time"));
        tokio::time::timeout(ANSWERED_WITHIN, work).await.unwrap_or_else(late)
    }

    async fn ask<A: Message + Default>(&self, path: &'static str, routed_by: &str, request: &impl Message) -> Result<A, Status> {
        let answer = self.call(path, routed_by, request.encode_to_vec().into()).await?;
        A::decode(answer).map_err(|e| Status::internal(format!("the answer cannot be read: {e}")))
    }

    /// A connection of its own, for a stream.
    pub(crate) async fn connect(&self) -> Result<Channel, Status> {
        self.target.connect().await.map_err(|e| Status::unavailable(in_full(&e)))
    }

    /// Opens a stream of messages. `requests` says how, and whether we are still there; the stream ends when it does. Waits until the server says
    /// something, which may be long if there is nothing to send.
    pub(crate) async fn pull(
        &self,
        channel: Channel,
        subscription: &str,
        requests: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Streaming<Bytes>, Status> {
        let request = self.request(requests, &format!("subscription={subscription}")).await?;
        let mut grpc = Grpc::new(channel).max_decoding_message_size(ANSWER_BYTES);
        grpc.ready().await.map_err(|e| Status::unavailable(in_full(&e)))?;
        let path = PathAndQuery::from_static("/google.pubsub.v1.Subscriber/StreamingPull");
        Ok(grpc.streaming(request, path, Raw).await?.into_inner())
    }

    /// Acknowledges deliveries.
    pub(crate) async fn acknowledge(&self, subscription: &str, ack_ids: impl Iterator<Item = &str>) -> Result<(), Status> {
        let mut message = BytesMut::new();
        put_bytes(&mut message, 1, subscription.as_bytes());
        ack_ids.for_each(|id| put_bytes(&mut message, 2, id.as_bytes()));
        let routed_by = format!("subscription={subscription}");
        self.call("/google.pubsub.v1.Subscriber/Acknowledge", &routed_by, message.freeze()).await.map(drop)
    }

    /// Keeps deliveries for so many seconds from now; 0 gives them back.
    pub(crate) async fn extend(
        &self,
        subscription: &str,
        ack_ids: impl Iterator<Item = &str>,
        seconds: u64,
    ) -> Result<(), Status> {
        let mut message = BytesMut::new();
        put_bytes(&mut message, 1, subscription.as_bytes());
        put_integer(&mut message, 3, seconds);
        ack_ids.for_each(|id| put_bytes(&mut message, 4, id.as_bytes()));
        let routed_by = format!("subscription={subscription}");
        self.call("/google.pubsub.v1.Subscriber/ModifyAckDeadline", &routed_by, message.freeze()).await.map(drop)
    }

    /// What Pub/Sub says of a subscription. That takes a permission that reading it does not.
    pub(crate) async fn subscription(&self, name: &str) -> Result<api::Subscription, Status> {
        let request = api::GetSubscriptionRequest { subscription: name.to_owned() };
        self.ask("/google.pubsub.v1.Subscriber/GetSubscription", &format!("subscription={name}"), &request).await
    }

    /// Whether a subscription may be read.
    pub(crate) async fn may_read(&self, name: &str) -> Result<bool, Status> {
        let wanted = "pubsub.subscriptions.consume".to_owned();
        let request = api::TestPermissionsRequest { resource: name.to_owned(), permissions: vec![wanted] };
        let routed_by = format!("resource={name}");
        let answer: api::TestPermissionsResponse =
            self.ask("/google.iam.v1.IAMPolicy/TestIamPermissions", &routed_by, &request).await?;
        Ok(!answer.permissions.is_empty())
    }

    /// Publishes messages; returns their ids in the same order.
    pub(crate) async fn publish(&self, request: &api::PublishRequest) -> Result<Vec<String>, Status> {
        let routed_by = format!("topic={}", request.topic);
        let answer: api::PublishResponse = self.ask("/google.pubsub.v1.Publisher/Publish", &routed_by, request).await?;
        Ok(answer.message_ids)
    }
}

/// Where to go: where the settings say, or else the variable, or else to Google.
fn address(endpoint: Option<&str>, emulator: Option<&str>) -> String {
    let emulator = emulator.filter(|host| !host.is_empty()).map(|host| match host.contains("://") {
        true => host.to_owned(),
        false => format!("http://{host}"),
    });
    let address = endpoint.map(str::to_owned).or(emulator).unwrap_or_else(|| GOOGLE.to_owned());
    address.trim_end_matches('/').to_owned()
}

/// An error with what is underneath: a connection's own text is only that there is none.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_go_before_the_variable_and_that_before_google() {
        assert_eq!(address(None, None), GOOGLE);
        assert_eq!(address(None, Some("")), GOOGLE);
        for host in ["localhost:8085", "http://localhost:8085/"] {
            assert_eq!(address(None, Some(host)), "http://localhost:8085");
            assert_eq!(
                address(Some("https://europe-west1-pubsub.googleapis.com/"), Some(host)),
                "https://europe-west1-pubsub.googleapis.com"
            );
        }
    }

    #[tokio::test]
    async fn nothing_that_goes_out_in_plain_text_has_credentials() {
        let access =
            Access { endpoint: Some("http://127.0.0.1:1".into()), credentials: Some("/nowhere".into()), ..Access::default() };
        let client = Client::new(&access).expect("an emulator's");
        let request = client.request((), "subscription=x").await.expect("a request");
        assert!(request.metadata().get("authorization").is_none());
        assert!(client.who().contains("nobody"));
    }
}
