//! The messages of `google.pubsub.v1` that the server reads and writes, with the field numbers that Google publishes.
//!
//! Source: <https://github.com/googleapis/googleapis/blob/master/google/pubsub/v1/pubsub.proto>

use std::collections::HashMap;

use bytes::{BufMut as _, Bytes, BytesMut};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StreamingPullRequest {
    #[prost(string, tag = "1")]
    pub subscription: String,
    #[prost(int32, tag = "5")]
    pub stream_ack_deadline_seconds: i32,
    #[prost(int64, tag = "7")]
    pub max_outstanding_messages: i64,
    #[prost(int64, tag = "8")]
    pub max_outstanding_bytes: i64,
    #[prost(int64, tag = "10")]
    pub protocol_version: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AcknowledgeRequest {
    #[prost(string, tag = "1")]
    pub subscription: String,
    #[prost(string, repeated, tag = "2")]
    pub ack_ids: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ModifyAckDeadlineRequest {
    #[prost(string, tag = "1")]
    pub subscription: String,
    #[prost(int32, tag = "3")]
    pub ack_deadline_seconds: i32,
    #[prost(string, repeated, tag = "4")]
    pub ack_ids: Vec<String>,
}

/// Also `google.iam.v1.TestIamPermissionsRequest`, as far as it is read.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct NameRequest {
    #[prost(string, tag = "1")]
    pub name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Subscription {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub topic: String,
    #[prost(message, optional, tag = "4")]
    pub push_config: Option<NameRequest>,
    #[prost(int32, tag = "5")]
    pub ack_deadline_seconds: i32,
    #[prost(bool, tag = "10")]
    pub enable_message_ordering: bool,
    #[prost(bool, tag = "16")]
    pub enable_exactly_once_delivery: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TestPermissionsResponse {
    #[prost(string, repeated, tag = "1")]
    pub permissions: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PublishRequest {
    #[prost(string, tag = "1")]
    pub topic: String,
    #[prost(message, repeated, tag = "2")]
    pub messages: Vec<Message>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PublishResponse {
    #[prost(string, repeated, tag = "1")]
    pub message_ids: Vec<String>,
}

/// A message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    /// The content.
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
    /// The attributes.
    #[prost(map = "string, string", tag = "2")]
    pub attributes: HashMap<String, String>,
    /// The ordering key.
    #[prost(string, tag = "5")]
    pub ordering_key: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<prost_types::Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ErrorInfo {
    #[prost(string, tag = "1")]
    pub reason: String,
    #[prost(string, tag = "2")]
    pub domain: String,
    #[prost(map = "string, string", tag = "3")]
    pub metadata: HashMap<String, String>,
}

/// Writes a text, bytes or a message as a field.
pub(crate) fn put_bytes(out: &mut BytesMut, field: u8, value: &[u8]) {
    out.put_u8((field << 3) | 2);
    put_number(out, value.len() as u64);
    out.put_slice(value);
}

/// Writes an integer as a field.
pub(crate) fn put_integer(out: &mut BytesMut, field: u8, value: u64) {
    out.put_u8(field << 3);
    put_number(out, value);
}

fn put_number(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}
