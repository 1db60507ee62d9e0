//! Contents whose schema the schema registry has.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_core::Result;
use longshore_core::schema::TableSchema;

use super::columns::merged;
use super::schema::Schema;
use super::{Columns, Reader, Unread, avro, json, protobuf};
use crate::error::SCHEMA_UNUSABLE;
use crate::fault::Fault;
use crate::registry::{Kind, SchemaRegistry, split};
use crate::sheet::Sheet;
use crate::times::Finer;

/// Contents of one format.
pub(crate) struct Registered {
    pub registry: Arc<SchemaRegistry>,
    pub kind: Kind,
    pub finer: Finer,
}

impl Reader for Registered {
    fn read(&self, content: &[u8], sheet: &mut Sheet) -> Result<u32, Unread> {
        let (id, plain) = split(content)?;
        if self.kind == Kind::Json {
            // JSON says itself what it is; its schema only tells columns.
            return Ok(json::read(plain, sheet)?);
        }
        let schema = sheet.schema(id, &self.registry)?;
        match &*schema {
            Schema::Avro(schema) if self.kind == Kind::Avro => Ok(avro::record(schema, plain, self.finer, sheet)?),
            Schema::Protobuf(schema) if self.kind == Kind::Protobuf => {
                let (message, plain) = schema.message(plain)?;
                Ok(protobuf::read(&message, plain, self.finer, sheet)?)
            }
            other => {
                let why = format!("schema {id} is {}, and the pipeline's format is {}", other.kind(), self.kind);
                Err(Fault::new(SCHEMA_UNUSABLE, why).into())
            }
        }
    }

    fn columns(&self, contents: &mut dyn Iterator<Item = &[u8]>) -> Result<Columns> {
        let all = columns(&self.registry, contents, |schema, plain| schema.columns(plain))?;
        // An object of JSON may have more than its schema tells.
        Ok(if self.kind == Kind::Json { Columns::Some(all) } else { Columns::All(all) })
    }
}

/// What the schemas of contents tell, each once; the newest first, because what it says of a column counts.
pub(crate) fn columns(
    registry: &SchemaRegistry,
    contents: &mut dyn Iterator<Item = &[u8]>,
    of: impl Fn(&Schema, &[u8]) -> Option<TableSchema>,
) -> Result<TableSchema> {
    let mut by_id: BTreeMap<Reverse<u32>, BTreeSet<&[u8]>> = BTreeMap::new();
    for content in contents {
        if let Ok((id, plain)) = split(content) {
            // With Protocol Buffers a schema has several types; what names one stands first. With others it is of no account.
            by_id.entry(Reverse(id)).or_default().insert(protobuf::indexes(plain));
        }
    }
    let mut all = Vec::new();
    for (Reverse(id), types) in by_id {
        match registry.schema(id) {
            Ok(schema) if schema.kind() == Kind::Protobuf => all.extend(types.into_iter().filter_map(|type_| of(&schema, type_))),
            Ok(schema) => all.extend(of(&schema, &[])),
            Err(Unread::Fault(_)) => {}
            Err(Unread::Error(error)) => return Err(error),
        }
    }
    Ok(merged(all))
}
