//! What goes over a connection of the Storage Write API: rows in Arrow, or, for changes by key, in protobuf.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use longshore_core::Result;
use prost_types::DescriptorProto;
use serde_json::Value;

use crate::error::bug;
use crate::rows::{encoding, object};

/// What a connection is told first: how rows look.
#[derive(Debug, Clone)]
pub(crate) enum Header {
    /// The message of an Arrow schema.
    Arrow(Bytes),
    /// A message type.
    Proto(Arc<DescriptorProto>),
}

/// The rows of one request.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    /// The message of an Arrow record batch.
    Arrow(Bytes),
    /// A message for each row.
    Proto(Vec<Bytes>),
}

/// Rows of a batch, few enough for a request.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) message: Message,
    pub(crate) rows: u64,
    /// Which row of its batch is its first.
    pub(crate) first: u64,
}

impl Message {
    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Message::Arrow(bytes) => bytes.len(),
            Message::Proto(rows) => rows.iter().map(Bytes::len).sum(),
        }
    }

    pub(crate) fn digest(&self, into: &mut blake3::Hasher) {
        match self {
            Message::Arrow(bytes) => _ = into.update(bytes),
            Message::Proto(rows) => {
                for row in rows {
                    into.update(row);
                }
            }
        }
    }

    /// The message without some of its rows, `None` if none is left; and those as objects, which rows in protobuf are not turned into.
    pub(crate) fn without(&self, header: &Header, rows: &BTreeSet<usize>) -> Result<(Option<Self>, Vec<Value>)> {
        match (header, self) {
            (Header::Arrow(header), Message::Arrow(message)) => {
                let (rest, out) = arrow_without(header, message, rows)?;
                Ok((rest.map(Message::Arrow), out))
            }
            (_, Message::Proto(all)) => {
                let rest: Vec<Bytes> =
                    all.iter().enumerate().filter(|(row, _)| !rows.contains(row)).map(|(_, bytes)| bytes.clone()).collect();
                Ok(((!rest.is_empty()).then_some(Message::Proto(rest)), vec![Value::Null; rows.len()]))
            }
            (Header::Proto(_), Message::Arrow(_)) => Err(bug("rows in Arrow on a connection for protobuf")),
        }
    }
}

fn arrow_without(header: &Bytes, message: &Bytes, rows: &BTreeSet<usize>) -> Result<(Option<Bytes>, Vec<Value>)> {
    let stream = [header.as_ref(), message.as_ref()].concat();
    let mut reader = StreamReader::try_new(stream.as_slice(), None).map_err(encoding)?;
    let batch = reader.next().ok_or_else(|| bug("a message without a batch"))?.map_err(encoding)?;
    let out = rows.iter().filter(|row| **row < batch.num_rows()).map(|row| object(&batch, *row)).collect();
    let kept: BooleanArray = (0..batch.num_rows()).map(|row| Some(!rows.contains(&row))).collect();
    let rest = arrow::compute::filter_record_batch(&batch, &kept).map_err(encoding)?;
    if rest.num_rows() == 0 {
        return Ok((None, out));
    }
    let mut writer = StreamWriter::try_new(Vec::new(), &rest.schema()).map_err(encoding)?;
    writer.get_mut().clear();
    writer.write(&rest).map_err(encoding)?;
    Ok((Some(std::mem::take(writer.get_mut()).into()), out))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use longshore_core::schema::{Field, TableSchema, Type};
    use serde_json::json;

    use super::*;
    use crate::rows::Encoder;

    #[test]
    fn rows_are_taken_out_of_a_message() {
        let schema = TableSchema::new(vec![Field::new("i", Type::Int64)]);
        let column: ArrayRef = Arc::new(Int64Array::from(vec![10, 11, 12]));
        let batch = RecordBatch::try_new(schema.to_arrow(), vec![column]).expect("a batch");
        let mut encoder = Encoder::new(&schema).expect("an encoder");
        let message = encoder.cut(&batch).expect("cut").pieces.remove(0).message;
        let (rest, out) = message.without(&encoder.header, &BTreeSet::from([1])).expect("taken out");
        assert_eq!(out, [json!({"i": 11})]);
        let rest = rest.expect("two are left");
        let (none, out) = rest.without(&encoder.header, &BTreeSet::from([0, 1])).expect("taken out");
        assert!(none.is_none());
        assert_eq!(out, [json!({"i": 10}), json!({"i": 12})]);
    }
}
