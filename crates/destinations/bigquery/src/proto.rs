//! Rows in protobuf, of a message type made from the table's columns: what BigQuery takes changes by key in.
//!
//! Source: <https://cloud.google.com/bigquery/docs/supported-data-types>,
//! <https://cloud.google.com/bigquery/docs/change-data-capture>

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use longshore_core::Result;
use longshore_core::batch::Operation;
use longshore_core::destination::Refusal;
use longshore_core::error::Retry;
use longshore_core::schema::{Field, Mode, TableSchema, Type};
use longshore_core::schema_arrow::field_to_arrow;
use longshore_core::show::value_to_text;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::field_descriptor_proto::{Label, Type as ProtoType};
use prost_types::{DescriptorProto, FieldDescriptorProto};

use crate::error::{bug, codes, destination};
use crate::message::{Header, Message, Piece};
use crate::rows::{Cut, REQUEST_BYTES, object};

/// The pseudo-column that says what happened to a row.
const CHANGE_TYPE: &str = "_CHANGE_TYPE";
/// The pseudo-column that says in which order changes of a row count.
const SEQUENCE: &str = "_CHANGE_SEQUENCE_NUMBER";
/// Bytes of an order key: four sections of a sequence number hold so many.
const ORDER_BYTES: usize = 32;

/// Turns changes into messages.
pub(crate) struct Encoder {
    fields: Vec<Field>,
    pub(crate) header: Header,
}

impl Encoder {
    /// Errors: `bigquery_changes_unsupported` for columns that a message cannot name.
    pub(crate) fn new(schema: &TableSchema) -> Result<Self> {
        let mut descriptor = descriptor("Row", &schema.fields)?;
        for (number, name) in (schema.fields.len() as i32 + 1..).zip([CHANGE_TYPE, SEQUENCE]) {
            descriptor.field.push(member(name, number, ProtoType::String, Label::Optional));
        }
        Ok(Self { fields: schema.fields.clone(), header: Header::Proto(Arc::new(descriptor)) })
    }

    /// The changes of a batch in requests' sizes.
    ///
    /// Errors: `bigquery_changes_unsupported` for an order key that no sequence number holds.
    pub(crate) fn cut(&self, rows: &RecordBatch, changes: &[(Operation, String)]) -> Result<Cut> {
        let mut cut = Cut::default();
        let (mut request, mut bytes, mut first) = (Vec::new(), 0, 0);
        for (row, (operation, order)) in changes.iter().enumerate() {
            let mut message = Vec::new();
            put_fields(&self.fields, rows.columns(), row, &mut message)?;
            let number = self.fields.len() as u32;
            put_bytes(number + 1, if *operation == Operation::Delete { b"DELETE" } else { b"UPSERT" }, &mut message);
            if let Some(sequence) = sequence(order)? {
                put_bytes(number + 2, sequence.as_bytes(), &mut message);
            }
            if message.len() > REQUEST_BYTES {
                let reason = format!("a row of {} bytes does not fit a request of BigQuery's, which takes 10 MB", message.len());
                cut.refused.push(Refusal { row: row as u64, values: object(rows, row), reason });
            }
            let fits = message.len() <= REQUEST_BYTES;
            if !request.is_empty() && (!fits || bytes + message.len() > REQUEST_BYTES) {
                cut.pieces.push(piece(std::mem::take(&mut request), first));
                bytes = 0;
            }
            if fits {
                if request.is_empty() {
                    first = row as u64;
                }
                bytes += message.len();
                request.push(message.into());
            }
        }
        if !request.is_empty() {
            cut.pieces.push(piece(request, first));
        }
        Ok(cut)
    }
}

fn piece(request: Vec<bytes::Bytes>, first: u64) -> Piece {
    Piece { rows: request.len() as u64, message: Message::Proto(request), first }
}

/// An order key as BigQuery compares it: the key's bytes in sections of eight, in hex, so that the order of the texts is that of the
/// numbers. `None` for no key.
///
/// Errors: `bigquery_changes_unsupported`.
fn sequence(order: &str) -> Result<Option<String>> {
    if order.len() > ORDER_BYTES {
        let why = format!("an order key of {} bytes is longer than BigQuery's sequence numbers hold", order.len());
        return Err(destination(codes::CHANGES, why).with_retry(Retry::AfterFix));
    }
    let section = |bytes: &[u8]| {
        let mut padded = [0; 8];
        padded.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        format!("{:016x}", u64::from_be_bytes(padded))
    };
    let sections: Vec<String> = order.as_bytes().chunks(8).map(section).collect();
    Ok((!sections.is_empty()).then(|| sections.join("/")))
}

/// Fields are numbered as the columns are, from 1.
fn descriptor(name: &str, fields: &[Field]) -> Result<DescriptorProto> {
    let mut descriptor = DescriptorProto { name: Some(name.to_owned()), ..DescriptorProto::default() };
    for (number, field) in (1..).zip(fields) {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !field.name.chars().all(fits) || field.name.starts_with(|c: char| c.is_ascii_digit()) {
            let why = format!("changes cannot be written to a table with a column `{}`", field.name.escape_debug());
            return Err(destination(codes::CHANGES, why)
                .with_retry(Retry::AfterFix)
                .hint("such columns take letters, digits and `_`; with `changes: merge` any name goes"));
        }
        let label = if field.mode == Mode::Repeated { Label::Repeated } else { Label::Optional };
        let mut member = member(&field.name, number, proto_type(&field.type_), label);
        if let Type::Struct(children) = &field.type_ {
            let type_name = format!("Struct{number}");
            descriptor.nested_type.push(self::descriptor(&type_name, children)?);
            member.type_name = Some(type_name);
        }
        descriptor.field.push(member);
    }
    Ok(descriptor)
}

fn member(name: &str, number: i32, type_: ProtoType, label: Label) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        r#type: Some(type_ as i32),
        label: Some(label as i32),
        ..FieldDescriptorProto::default()
    }
}

fn proto_type(type_: &Type) -> ProtoType {
    match type_ {
        Type::Int64 | Type::Timestamp => ProtoType::Int64,
        Type::Date => ProtoType::Int32,
        Type::Float64 => ProtoType::Double,
        Type::Bool => ProtoType::Bool,
        Type::Bytes => ProtoType::Bytes,
        Type::Struct(_) => ProtoType::Message,
        _ => ProtoType::String,
    }
}

fn put_fields(fields: &[Field], columns: &[Arc<dyn Array>], row: usize, out: &mut Vec<u8>) -> Result<()> {
    for ((number, field), column) in (1..).zip(fields).zip(columns) {
        if column.is_null(row) {
            continue;
        }
        if field.mode != Mode::Repeated {
            put(number, field, column, row, out)?;
            continue;
        }
        let elements = column.as_list::<i32>().value(row);
        for index in 0..elements.len() {
            put(number, field, &elements, index, out)?;
        }
    }
    Ok(())
}

/// One value that is not null.
fn put(number: u32, field: &Field, column: &Arc<dyn Array>, row: usize, out: &mut Vec<u8>) -> Result<()> {
    match &field.type_ {
        Type::Int64 => put_varint(number, column.as_primitive::<Int64Type>().value(row) as u64, out),
        Type::Timestamp => put_varint(number, column.as_primitive::<TimestampMicrosecondType>().value(row) as u64, out),
        Type::Date => put_varint(number, i64::from(column.as_primitive::<Date32Type>().value(row)) as u64, out),
        Type::Bool => put_varint(number, u64::from(column.as_boolean().value(row)), out),
        Type::Float64 => {
            encode_key(number, WireType::SixtyFourBit, out);
            out.extend(column.as_primitive::<Float64Type>().value(row).to_le_bytes());
        }
        Type::Bytes => put_bytes(number, column.as_binary::<i32>().value(row), out),
        Type::Numeric => {
            let array = column.as_primitive::<Decimal128Type>();
            put_bytes(number, array.value_as_string(row).as_bytes(), out);
        }
        Type::DateTime => {
            let element = Field { mode: Mode::Nullable, ..field.clone() };
            let text = value_to_text(&field_to_arrow(&element), column, row).unwrap_or_default();
            put_bytes(number, text.as_bytes(), out);
        }
        Type::Struct(children) => {
            let mut inner = Vec::new();
            put_fields(children, column.as_struct().columns(), row, &mut inner)?;
            put_bytes(number, &inner, out);
        }
        _ => {
            let texts = column.as_string_opt::<i32>().ok_or_else(|| bug(format!("a text is {}", column.data_type())))?;
            put_bytes(number, texts.value(row).as_bytes(), out);
        }
    }
    Ok(())
}

fn put_varint(number: u32, value: u64, out: &mut Vec<u8>) {
    encode_key(number, WireType::Varint, out);
    encode_varint(value, out);
}

fn put_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_sequence_numbers_is_that_of_the_keys() {
        assert_eq!(sequence("").expect("fits"), None);
        assert_eq!(sequence("ab").expect("fits").as_deref(), Some("6162000000000000"));
        assert_eq!(sequence("abcdefghi").expect("fits").as_deref(), Some("6162636465666768/6900000000000000"));
        let keys = ["0", "00", "0000000A", "0000000B", "0000000B/1", "0000000B/10", "1", "~"];
        let numbers: Vec<String> = keys.iter().map(|key| sequence(key).expect("fits").expect("a key")).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
        sequence(&"x".repeat(33)).expect_err("too long");
    }

    #[test]
    fn a_column_that_no_message_can_name_is_refused_by_its_name() {
        let schema = TableSchema::new(vec![Field::new("größe", Type::Int64)]);
        let error = Encoder::new(&schema).err().expect("refused");
        assert!(error.to_string().contains("größe"), "{error}");
    }
}
