//! Protocol Buffers: messages by their descriptors.

mod columns;
mod read;
mod source;

use std::path::Path;

use longshore_core::Result;
use longshore_core::error::{Error, Kind, code};
use prost_reflect::{DescriptorPool, MessageDescriptor};

pub(crate) use columns::columns;
pub(crate) use read::read;

use super::{Columns, Reader, Unread};
use crate::config::ProtobufConfig;
use crate::error::PROTOBUF_INVALID;
use crate::fault::Fault;
use crate::sheet::Sheet;
use crate::times::Finer;

/// Numbers of types that a content may name: a type within types within types.
const MOST_INDEXES: u64 = 100;

/// A schema of the schema registry: a file, with what it imports.
pub(crate) struct Schema {
    pool: DescriptorPool,
    file: String,
}

impl Schema {
    /// Compiles a `.proto` file's text. The error says what is wrong with it.
    pub fn parse(text: &str, references: &[(String, String)]) -> Result<Self, String> {
        let (pool, file) = source::compile(text, references)?;
        Ok(Self { pool, file })
    }

    /// The type that the numbers at the beginning of a content name, and what follows them.
    pub fn message<'a>(&self, content: &'a [u8]) -> Result<(MessageDescriptor, &'a [u8]), Fault> {
        let invalid = |why: &str| Fault::new(PROTOBUF_INVALID, format!("the message does not name its type: {why}"));
        let (path, rest) = path(content).ok_or_else(|| invalid("it ends, or is damaged, where the numbers of the type stand"))?;
        let file = self.pool.get_file_by_name(&self.file).ok_or_else(|| invalid("its schema is empty"))?;
        let (first, inner) = path.split_first().ok_or_else(|| invalid("there is no number"))?;
        let none = || invalid("its schema has no type of that number");
        let top = file.messages().nth(*first).ok_or_else(none)?;
        let message = inner.iter().try_fold(top, |message, number| message.child_messages().nth(*number)).ok_or_else(none)?;
        Ok((message, rest))
    }
}

/// The numbers of the type that a content begins with, and what follows: how many there are, then each, as zigzag varints. A single zero stands
/// for the first type.
///
/// Source: <https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format>
fn path(content: &[u8]) -> Option<(Vec<usize>, &[u8])> {
    let (count, mut rest) = number(content)?;
    if count == 0 {
        return Some((vec![0], rest));
    }
    if count > MOST_INDEXES {
        return None;
    }
    let mut path = Vec::new();
    for _ in 0..count {
        let (index, after) = number(rest)?;
        path.push(usize::try_from(index).ok()?);
        rest = after;
    }
    Some((path, rest))
}

/// The bytes of a content that name its type.
pub(crate) fn indexes(content: &[u8]) -> &[u8] {
    path(content).map_or(&[], |(_, rest)| &content[..content.len() - rest.len()])
}

/// A zigzag varint that is not negative.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (at, &byte) in bytes.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7F) << (7 * at);
        if byte < 0x80 {
            return (value & 1 == 0).then_some((value >> 1, &bytes[at + 1..]));
        }
    }
    None
}

/// Messages of one type, by a file.
pub(crate) struct ProtobufFile {
    message: MessageDescriptor,
    finer: Finer,
}

impl ProtobufFile {
    /// Errors: `config` if the file cannot be read or compiled, or does not have the type.
    pub fn new(path: &Path, config: &ProtobufConfig, finer: Finer) -> Result<Self> {
        let refused = |what: String| Error::new(Kind::Config, code::CONFIG, what);
        let unusable = |why: String| refused(format!("`protobuf.schema`: {} cannot be used: {why}", path.display()));
        let (pool, of_file) = source::read(path, config.include.as_deref()).map_err(unusable)?;
        let names = || of_file.iter().map(|message| message.full_name().to_owned()).collect::<Vec<_>>().join(", ");
        let message = match &config.message {
            Some(name) => pool.get_message_by_name(name).ok_or_else(|| {
                refused(format!("`protobuf.message`: there is no {name} in {}", path.display()))
                    .hint(format!("it has {}", names()))
            })?,
            None => match &of_file[..] {
                [only] => only.clone(),
                _ => {
                    let what = format!("`protobuf.message` is missing: {} declares {} types", path.display(), of_file.len());
                    return Err(refused(what).hint(format!("one of {}", names())));
                }
            },
        };
        Ok(Self { message, finer })
    }
}

impl Reader for ProtobufFile {
    fn read(&self, content: &[u8], sheet: &mut Sheet) -> Result<u32, Unread> {
        Ok(read(&self.message, content, self.finer, sheet)?)
    }

    fn columns(&self, _contents: &mut dyn Iterator<Item = &[u8]>) -> Result<Columns> {
        Ok(Columns::All(columns(&self.message)))
    }
}

/// The types that are written as one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WellKnown {
    Timestamp,
    Duration,
    Wrapper,
    FieldMask,
    /// Any JSON.
    Json,
    Decimal,
}

impl WellKnown {
    fn of(message: &MessageDescriptor) -> Option<Self> {
        Some(match message.full_name() {
            "google.protobuf.Timestamp" => Self::Timestamp,
            "google.protobuf.Duration" => Self::Duration,
            "google.protobuf.FieldMask" => Self::FieldMask,
            "google.protobuf.Struct" | "google.protobuf.Value" | "google.protobuf.ListValue" => Self::Json,
            "google.protobuf.DoubleValue"
            | "google.protobuf.FloatValue"
            | "google.protobuf.Int64Value"
            | "google.protobuf.UInt64Value"
            | "google.protobuf.Int32Value"
            | "google.protobuf.UInt32Value"
            | "google.protobuf.BoolValue"
            | "google.protobuf.StringValue"
            | "google.protobuf.BytesValue" => Self::Wrapper,
            "confluent.type.Decimal" => Self::Decimal,
            _ => return None,
        })
    }
}
