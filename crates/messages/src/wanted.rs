//! What the messages of a table would need of it.

use std::collections::HashMap;

use longshore_core::Result;
use longshore_core::names::column_name;
use longshore_core::schema::{Mode, TableSchema, Type};
use longshore_core::stream::Wanted;
use longshore_files::shape::{Overrides, Shape};
use longshore_files::tape::{Tape, Token};

use crate::changes;
use crate::decode::Read;
use crate::decoder::Decoder;
use crate::message::Messages;

/// The names at the source of the columns of a table's key: those that most of these keys have, so that a single odd key decides nothing.
pub(crate) fn key(tape: &Tape, keys: &[u32]) -> Vec<String> {
    let mut counts: HashMap<Vec<&str>, (usize, u32)> = HashMap::new();
    for &key in keys {
        let mut names: Vec<&str> = tape.members(key).map(|(name, _)| name).collect();
        names.sort_unstable();
        counts.entry(names).or_insert((0, key)).0 += 1;
    }
    let most = counts.into_values().max_by_key(|(count, first)| (*count, std::cmp::Reverse(*first)));
    most.map(|(_, key)| changes::names(tape, key)).unwrap_or_default()
}

/// The columns that some of the records read have, or all of them. None if there are more than a table can have.
pub(crate) fn columns(
    decoder: &Decoder,
    messages: &Messages,
    tape: &Tape,
    read: &Read,
    of: Option<&[usize]>,
) -> Result<TableSchema> {
    let chosen = || {
        let all = of.is_none().then(|| read.records.iter().enumerate());
        let some = of.map(|of| of.iter().map(|&number| (number, &read.records[number])));
        all.into_iter().flatten().chain(some.into_iter().flatten())
    };
    let mut contents = chosen().filter_map(|(_, (index, _))| messages.value(*index));
    let mut columns = match decoder.reader.columns(&mut contents)? {
        Some(mut columns) => {
            let of_key = of_keys(decoder, tape, chosen().filter_map(|(number, _)| read.keys.get(number).copied()));
            let missing: Vec<_> = of_key.fields.into_iter().filter(|field| columns.field(&field.name).is_none()).collect();
            columns.fields.splice(0..0, missing);
            columns
        }
        None => of_records(decoder, tape, chosen().map(|(_, (_, record))| *record)),
    };
    for field in decoder.columns.fields() {
        columns.fields.retain(|other| !other.name.eq_ignore_ascii_case(&field.name));
        columns.fields.push(field);
    }
    Ok(columns)
}

/// What records show of their columns.
fn of_records(decoder: &Decoder, tape: &Tape, records: impl Iterator<Item = u32>) -> TableSchema {
    let mut shape = Shape::new();
    let mut types = std::collections::BTreeMap::new();
    let mut open = decoder.keys.as_ref().map(|keys| (keys.column.as_str(), true));
    for record in records {
        shape.observe(tape, record);
        if let Some((column, is_open)) = &mut open {
            let value = tape.members(record).find(|(name, _)| name == column).map(|(_, value)| tape.token(value));
            // Only the text of a key tells nothing of its type: tomorrow's may be no number.
            *is_open &= matches!(value, None | Some(Token::Text(_)));
        }
    }
    if let Some((column, true)) = open {
        types.insert(column.to_lowercase(), (Type::String, Mode::Nullable));
    }
    let overrides = Overrides { types, ..Overrides::default() };
    // More columns than a table can have are a matter of each record: it is rejected for them.
    shape.resolve(&overrides).unwrap_or_default()
}

fn of_keys(decoder: &Decoder, tape: &Tape, keys: impl Iterator<Item = u32>) -> TableSchema {
    of_records(decoder, tape, keys)
}

/// With the columns of the key by their names in the table.
pub(crate) fn wanted(columns: TableSchema, key: &[String]) -> Wanted {
    let named = |name: &String| {
        let of_name = columns.fields.iter().find(|field| field.original_name.as_ref().unwrap_or(&field.name) == name);
        of_name.map_or_else(|| column_name(name), |field| field.name.clone())
    };
    let key = key.iter().map(named).collect();
    Wanted { columns, key }
}

/// Adds what later messages want.
pub(crate) fn merge(wanted: &mut Wanted, later: Wanted) {
    for field in later.columns.fields {
        if wanted.columns.field(&field.name).is_none() {
            wanted.columns.fields.push(field);
        }
    }
    if wanted.key.is_empty() {
        wanted.key = later.key;
    }
}
