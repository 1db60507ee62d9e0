//! Whole decodings: messages in, rows and rejects out.

mod avro;
mod changes;
mod csv;
mod every;
mod json;
mod json_schema;
mod metadata;
mod protobuf;
mod raw;
mod registry;
mod replay;
mod routing;
mod server;
mod speed;

use std::sync::Arc;

use arrow::array::RecordBatch;
use chrono::DateTime;
use longshore_core::batch::{Payload, Reject, Rows};
use longshore_core::commit::Contract;
use longshore_core::schema::TableSchema;
use longshore_core::source::Target;
use longshore_core::stream::{Decoded, Tables};
use serde_json::{Value, json};

use crate::{Decoder, From, Message, Messages, MessagesConfig, Route};

/// The settings of this JSON.
pub fn config(settings: Value) -> MessagesConfig {
    serde_json::from_value(settings).expect("settings")
}

pub fn decoder(settings: Value) -> Arc<Decoder> {
    Decoder::new(&config(settings), Route::Table("t".to_owned())).expect("a decoder")
}

/// A message of partition 2 of the topic `topic`.
pub fn kafka<'a>(offset: i64, key: Option<&'a [u8]>, value: Option<&'a [u8]>, headers: &'a [(&'a str, &'a [u8])]) -> Message<'a> {
    let time = DateTime::from_timestamp_micros(1_700_000_000_000_000 + offset);
    Message { key, value, headers, from: From::Kafka { topic: "topic", partition: 2, offset }, time, latest: None }
}

/// A message of the subscription `s`.
pub fn pubsub<'a>(id: &'a str, value: &'a [u8], attributes: &'a [(&'a str, &'a [u8])]) -> Message<'a> {
    let from = From::PubSub { subscription: "s", id, ordering_key: "" };
    Message { key: None, value: Some(value), headers: attributes, from, time: DateTime::from_timestamp_micros(1), latest: None }
}

/// Messages that have nothing but contents, at offsets from 0.
pub fn contents<T: AsRef<[u8]>>(contents: &[T]) -> Messages {
    let mut messages = Messages::new();
    for (offset, content) in (0..).zip(contents) {
        messages.push(kafka(offset, None, Some(content.as_ref()), &[]));
    }
    messages
}

/// Known tables of these columns.
pub fn tables(contract: Contract, known: &[(&str, Value)]) -> Tables {
    let target = |schema: &Value| Target { schema: TableSchema::from_json(schema).expect("a schema"), contract };
    Tables { known: known.iter().map(|(name, schema)| (name.to_string(), target(schema))).collect(), ..Tables::default() }
}

/// Columns by name and type.
pub fn columns(columns: &[(&str, &str)]) -> Value {
    columns.iter().map(|(name, type_)| json!({"name": name, "type": type_})).collect()
}

/// Rows as JSON, nulls included.
pub fn rows(batch: &RecordBatch) -> Value {
    let mut out = Vec::new();
    let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
    let mut writer = builder.build::<_, arrow::json::writer::JsonArray>(&mut out);
    writer.write(batch).expect("rows become JSON");
    writer.finish().expect("rows become JSON");
    if out.is_empty() { json!([]) } else { serde_json::from_slice(&out).expect("JSON") }
}

/// The rows of a table, which come in one batch.
pub fn of_table(decoded: &Decoded, table: &str) -> Value {
    let batch = decoded.batches.iter().find(|batch| batch.table == table).expect("rows of the table");
    match &batch.rows {
        Rows::Plain(batch) => rows(batch),
        Rows::Changes(changes) => rows(&changes.rows),
    }
}

/// All rejects: table, code, index.
pub fn rejected(decoded: &Decoded) -> Vec<(Option<&str>, &str, u64)> {
    all_rejects(decoded).map(|reject| (reject.table.as_deref(), reject.code, reject.index)).collect()
}

pub fn all_rejects(decoded: &Decoded) -> impl Iterator<Item = &Reject> {
    decoded.batches.iter().flat_map(|batch| &batch.rejects).chain(&decoded.rejects)
}

pub fn payload(reject: &Reject) -> &[u8] {
    match &reject.payload {
        Payload::Inline(bytes) => bytes,
        Payload::File { .. } => panic!("payloads of messages are held"),
    }
}

/// Decodes contents for the table `t` of these columns, which takes no others.
pub fn decode<T: AsRef<[u8]>>(settings: Value, schema: &[(&str, &str)], all: &[T]) -> Decoded {
    decoder(settings).decode(contents(all)).decode(&tables(Contract::Freeze, &[("t", columns(schema))])).expect("decoded")
}

/// The columns of a table that is yet to be made, as `name TYPE`.
pub fn wanted_columns(decoded: &Decoded, table: &str) -> Vec<String> {
    decoded.wanted[table].columns.fields.iter().map(|field| format!("{} {field}", field.name)).collect()
}

/// Decodes contents into the columns that their table would get.
pub fn decode_wanted<T: AsRef<[u8]>>(decoder: &Arc<Decoder>, all: &[T]) -> (Vec<String>, Decoded) {
    let decode = decoder.decode(contents(all));
    let first = decode.decode(&Tables::default()).expect("decoded");
    let columns = wanted_columns(&first, "t");
    let target = Target { schema: first.wanted["t"].columns.clone(), contract: Contract::Freeze };
    let tables = Tables { known: [("t".to_owned(), target)].into(), ..Tables::default() };
    (columns, decode.decode(&tables).expect("decoded"))
}
