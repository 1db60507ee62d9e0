//! What a stream's answer holds, read in place.

use chrono::{DateTime, Utc};
use prost::Message as _;

use crate::protocol::SubscriptionProperties;
use crate::wire::{Fields, Malformed, Value};

/// A message within an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received<'a> {
    /// What acknowledges this delivery of it.
    pub ack_id: &'a str,
    /// Its id, the same each time it comes.
    pub id: &'a str,
    /// The message itself.
    pub body: &'a [u8],
}

/// An answer of a stream: bytes, and what is where in them.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answer<'a> {
    pub messages: Vec<Received<'a>>,
    pub properties: Option<SubscriptionProperties>,
}

/// Finds the messages of an answer.
pub(crate) fn answer(bytes: &[u8]) -> Result<Answer<'_>, Malformed> {
    let mut answer = Answer::default();
    for field in Fields::new(bytes) {
        match field? {
            (1, Value::Bytes(received)) => answer.messages.push(message(received)?),
            (4, Value::Bytes(properties)) => {
                answer.properties = Some(SubscriptionProperties::decode(properties).map_err(|_| Malformed)?);
            }
            _ => {}
        }
    }
    Ok(answer)
}

fn message(received: &[u8]) -> Result<Received<'_>, Malformed> {
    let (mut ack_id, mut body) = ("", None);
    for field in Fields::new(received) {
        match field? {
            (1, Value::Bytes(text)) => ack_id = self::text(text)?,
            (2, Value::Bytes(message)) => body = Some(message),
            _ => {}
        }
    }
    let body = body.ok_or(Malformed)?;
    let mut id = "";
    for field in Fields::new(body) {
        if let (3, Value::Bytes(text)) = field? {
            id = self::text(text)?;
        }
    }
    if ack_id.is_empty() || id.is_empty() {
        return Err(Malformed);
    }
    Ok(Received { ack_id, id, body })
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

/// A message's parts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Body<'a> {
    pub data: &'a [u8],
    pub attributes: Vec<(&'a str, &'a [u8])>,
    pub published: Option<DateTime<Utc>>,
    pub ordering_key: &'a str,
}

impl<'a> Body<'a> {
    /// Reads a message into the place of an earlier one, whose list is used again.
    pub(crate) fn read(&mut self, message: &'a [u8]) -> Result<(), Malformed> {
        let mut attributes = std::mem::take(&mut self.attributes);
        attributes.clear();
        *self = Self { attributes, ..Self::default() };
        for field in Fields::new(message) {
            match field? {
                (1, Value::Bytes(data)) => self.data = data,
                (2, Value::Bytes(entry)) => self.attributes.push(attribute(entry)?),
                (4, Value::Bytes(time)) => self.published = timestamp(time)?,
                (5, Value::Bytes(key)) => self.ordering_key = text(key)?,
                _ => {}
            }
        }
        Ok(())
    }
}

fn attribute(entry: &[u8]) -> Result<(&str, &[u8]), Malformed> {
    let (mut name, mut value) = ("", [].as_slice());
    for field in Fields::new(entry) {
        match field? {
            (1, Value::Bytes(bytes)) => name = text(bytes)?,
            (2, Value::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    Ok((name, value))
}

fn timestamp(time: &[u8]) -> Result<Option<DateTime<Utc>>, Malformed> {
    let time = prost_types::Timestamp::decode(time).map_err(|_| Malformed)?;
    Ok(u32::try_from(time.nanos).ok().and_then(|nanos| DateTime::from_timestamp(time.seconds, nanos)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::{PubsubMessage, ReceivedMessage, StreamingPullResponse};
    use crate::wire::range_in;

    fn sample(id: &str) -> ReceivedMessage {
        let message = PubsubMessage {
            data: Bytes::from_static(b"{\"a\": 1}"),
            attributes: [("destination_table".to_owned(), "orders".to_owned())].into(),
            message_id: id.to_owned(),
            publish_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5_000 }),
            ordering_key: "k".to_owned(),
        };
        ReceivedMessage { ack_id: format!("ack-{id}"), message: Some(message), delivery_attempt: 2 }
    }

    #[test]
    fn an_answer_is_read_with_all_that_its_messages_have() {
        let properties = SubscriptionProperties { exactly_once_delivery_enabled: true, message_ordering_enabled: false };
        let response = StreamingPullResponse {
            received_messages: vec![sample("1"), sample("2")],
            subscription_properties: Some(properties),
        };
        let bytes = Bytes::from(response.encode_to_vec());
        let answer = answer(&bytes).expect("well formed");
        assert_eq!(answer.properties, Some(properties));
        let ids: Vec<_> = answer.messages.iter().map(|message| (message.id, message.ack_id)).collect();
        assert_eq!(ids, [("1", "ack-1"), ("2", "ack-2")]);
        let mut body = Body::default();
        for message in &answer.messages {
            body.read(message.body).expect("well formed");
            assert_eq!(body.data, b"{\"a\": 1}");
            assert_eq!(body.attributes, [("destination_table", b"orders".as_slice())]);
            assert_eq!(body.published, DateTime::from_timestamp(1_700_000_000, 5_000));
            assert_eq!(body.ordering_key, "k");
            assert_eq!(&bytes[range_in(&bytes, message.body)], message.body);
        }
    }

    #[test]
    fn a_sign_of_life_is_an_answer_without_messages() {
        assert_eq!(answer(&[]), Ok(Answer::default()));
    }

    #[test]
    fn a_message_without_an_id_is_malformed() {
        let response = StreamingPullResponse { received_messages: vec![sample("")], subscription_properties: None };
        assert_eq!(answer(&response.encode_to_vec()), Err(Malformed));
    }
}
