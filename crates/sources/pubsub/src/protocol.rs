//! The messages of `google.pubsub.v1` that are used, with the field numbers that Google publishes.
//!
//! Source: <https://github.com/googleapis/googleapis/blob/master/google/pubsub/v1/pubsub.proto>

use std::collections::HashMap;

use bytes::Bytes;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StreamingPullRequest {
    #[prost(string, tag = "1")]
    pub subscription: String,
    #[prost(int32, tag = "5")]
    pub stream_ack_deadline_seconds: i32,
    #[prost(string, tag = "6")]
    pub client_id: String,
    #[prost(int64, tag = "7")]
    pub max_outstanding_messages: i64,
    #[prost(int64, tag = "8")]
    pub max_outstanding_bytes: i64,
    /// 1: the client sends signs of life and expects empty answers to them.
    #[prost(int64, tag = "10")]
    pub protocol_version: i64,
}

/// Read in place by `received`; this one is for tests.
#[cfg(test)]
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StreamingPullResponse {
    #[prost(message, repeated, tag = "1")]
    pub received_messages: Vec<ReceivedMessage>,
    #[prost(message, optional, tag = "4")]
    pub subscription_properties: Option<SubscriptionProperties>,
}

#[cfg(test)]
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReceivedMessage {
    #[prost(string, tag = "1")]
    pub ack_id: String,
    #[prost(message, optional, tag = "2")]
    pub message: Option<PubsubMessage>,
    #[prost(int32, tag = "3")]
    pub delivery_attempt: i32,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct SubscriptionProperties {
    #[prost(bool, tag = "1")]
    pub exactly_once_delivery_enabled: bool,
    #[prost(bool, tag = "2")]
    pub message_ordering_enabled: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PubsubMessage {
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
    #[prost(map = "string, string", tag = "2")]
    pub attributes: HashMap<String, String>,
    #[prost(string, tag = "3")]
    pub message_id: String,
    #[prost(message, optional, tag = "4")]
    pub publish_time: Option<prost_types::Timestamp>,
    #[prost(string, tag = "5")]
    pub ordering_key: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GetSubscriptionRequest {
    #[prost(string, tag = "1")]
    pub subscription: String,
}

/// What we look at of a subscription.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Subscription {
    #[prost(string, tag = "2")]
    pub topic: String,
    #[prost(message, optional, tag = "4")]
    pub push_config: Option<PushConfig>,
    #[prost(bool, tag = "10")]
    pub enable_message_ordering: bool,
    #[prost(string, tag = "12")]
    pub filter: String,
    #[prost(message, optional, tag = "13")]
    pub dead_letter_policy: Option<DeadLetterPolicy>,
    #[prost(bool, tag = "15")]
    pub detached: bool,
    #[prost(bool, tag = "16")]
    pub enable_exactly_once_delivery: bool,
    #[prost(message, optional, tag = "18")]
    pub bigquery_config: Option<Table>,
    #[prost(message, optional, tag = "22")]
    pub cloud_storage_config: Option<Bucket>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PushConfig {
    #[prost(string, tag = "1")]
    pub push_endpoint: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Table {
    #[prost(string, tag = "1")]
    pub table: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Bucket {
    #[prost(string, tag = "1")]
    pub bucket: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DeadLetterPolicy {
    #[prost(string, tag = "1")]
    pub dead_letter_topic: String,
    #[prost(int32, tag = "2")]
    pub max_delivery_attempts: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PublishRequest {
    #[prost(string, tag = "1")]
    pub topic: String,
    #[prost(message, repeated, tag = "2")]
    pub messages: Vec<PubsubMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PublishResponse {
    #[prost(string, repeated, tag = "1")]
    pub message_ids: Vec<String>,
}

/// `google.iam.v1.TestIamPermissionsRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TestPermissionsRequest {
    #[prost(string, tag = "1")]
    pub resource: String,
    #[prost(string, repeated, tag = "2")]
    pub permissions: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TestPermissionsResponse {
    #[prost(string, repeated, tag = "1")]
    pub permissions: Vec<String>,
}

/// `google.rpc.Status`, the details of a refusal.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<prost_types::Any>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ErrorInfo {
    #[prost(map = "string, string", tag = "3")]
    pub metadata: HashMap<String, String>,
}
