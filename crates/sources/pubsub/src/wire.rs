//! Protobuf and gRPC as bytes: what comes in great numbers is read and written in place, without a value of its own for each message.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// gRPC messages as their bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// A protobuf message that breaks off or is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A field's value, as far as the wire tells what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// An integer, a bool, an enum.
    Number(u64),
    /// A text, bytes, or a message.
    Bytes(&'a [u8]),
    /// Of a kind that no field that we know has.
    Other,
}

/// The fields of a message, in the order in which they were written.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(Malformed)?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), Malformed> {
        let key = self.number()?;
        let value = match key & 7 {
            0 => Value::Number(self.number()?),
            1 => self.take(8).map(|_| Value::Other)?,
            2 => {
                let length = usize::try_from(self.number()?).map_err(|_| Malformed)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Other)?,
            _ => return Err(Malformed),
        };
        Ok((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Where a part of a message lies in it. Both must be the same bytes.
pub(crate) fn range_in(whole: &[u8], part: &[u8]) -> std::ops::Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    start..start + part.len()
}

/// Writes a text or bytes as a field.
pub(crate) fn put_bytes(out: &mut BytesMut, field: u32, value: &[u8]) {
    put_number(out, u64::from((field << 3) | 2));
    put_number(out, value.len() as u64);
    out.put_slice(value);
}

/// Writes an integer as a field.
pub(crate) fn put_integer(out: &mut BytesMut, field: u32, value: u64) {
    put_number(out, u64::from(field << 3));
    put_number(out, value);
}

fn put_number(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::protocol::{PubsubMessage, ReceivedMessage};

    fn written() -> Vec<u8> {
        let message = PubsubMessage { data: b"data".as_slice().into(), message_id: "m1".into(), ..Default::default() };
        ReceivedMessage { ack_id: "ack".repeat(50), message: Some(message), delivery_attempt: 300 }.encode_to_vec()
    }

    #[test]
    fn fields_are_read_as_another_implementation_wrote_them() {
        let bytes = written();
        let fields: Vec<_> = Fields::new(&bytes).map(|field| field.expect("well formed")).collect();
        assert_eq!(fields[0], (1, Value::Bytes("ack".repeat(50).as_bytes())));
        assert_eq!(fields[2], (3, Value::Number(300)));
        let (2, Value::Bytes(message)) = fields[1] else { panic!("{fields:?}") };
        assert_eq!(&bytes[range_in(&bytes, message)], message);
        assert_eq!(Fields::new(message).next(), Some(Ok((1, Value::Bytes(b"data")))));
    }

    #[test]
    fn another_implementation_reads_what_is_written() {
        let mut out = BytesMut::new();
        put_bytes(&mut out, 1, "ack".repeat(50).as_bytes());
        put_integer(&mut out, 3, 300);
        let read = ReceivedMessage::decode(out.freeze()).expect("well formed");
        assert_eq!((read.ack_id, read.delivery_attempt), ("ack".repeat(50), 300));
    }

    #[test]
    fn a_message_that_breaks_off_anywhere_is_malformed_and_never_panics() {
        let bytes = written();
        let whole = Fields::new(&bytes).count();
        for end in 1..bytes.len() {
            let fields: Vec<_> = Fields::new(&bytes[..end]).collect();
            assert!(fields.len() < whole || fields.last().is_some_and(Result::is_err), "{end}");
        }
        assert_eq!(Fields::new(&[0xff; 11]).next(), Some(Err(Malformed)));
    }
}
