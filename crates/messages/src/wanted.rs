//! What the messages of a table would need of it.

use std::collections::{BTreeMap, HashMap};

use longshore_core::Result;
use longshore_core::names::column_name;
use longshore_core::schema::{Mode, TableSchema, Type};
use longshore_core::stream::Wanted;
use longshore_files::shape::{Overrides, Shape};
use longshore_files::tape::{Tape, Token};

use crate::changes;
use crate::decode::Read;
use crate::decoder::Decoder;
use crate::formats::{Columns, merged};
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

/// The columns that some of the records read have, or all of them: those of the key first, what comes with messages last.
pub(crate) fn columns(
    decoder: &Decoder,
    messages: &Messages,
    tape: &Tape,
    read: &Read,
    of: Option<&[usize]>,
) -> Result<TableSchema> {
    let numbers: Vec<usize> = of.map_or_else(|| (0..read.records.len()).collect(), <[usize]>::to_vec);
    let chosen = || numbers.iter().map(|&number| read.records[number]);
    let of_keys = match &decoder.keys {
        Some(keys) => keys.columns(&mut chosen().filter_map(|(index, _)| messages.key(index)))?,
        None => TableSchema::default(),
    };
    let mut contents = chosen().filter_map(|(index, _)| messages.value(index));
    let mut columns = match decoder.reader.columns(&mut contents)? {
        Columns::Some(given) => {
            let given = merged([of_keys, given]);
            of_records(decoder, tape, chosen().map(|(_, record)| record), given)
        }
        Columns::All(all) if of_keys.fields.is_empty() => {
            let keys = numbers.iter().filter_map(|&number| read.keys.get(number).copied());
            let of_keys = of_records(decoder, tape, keys, TableSchema::default());
            // An open key is text; a column of the content knows better.
            let missing = of_keys.fields.into_iter().filter(|field| all.field(&field.name).is_none()).collect();
            merged([TableSchema::new(missing), all])
        }
        Columns::All(all) => merged([of_keys, all]),
    };
    for field in decoder.columns.fields() {
        columns.fields.retain(|other| !other.name.eq_ignore_ascii_case(&field.name));
        columns.fields.push(field);
    }
    Ok(columns)
}

/// What records show of their columns beside the given ones.
fn of_records(decoder: &Decoder, tape: &Tape, records: impl Iterator<Item = u32>, given: TableSchema) -> TableSchema {
    let mut shape = Shape::new();
    let mut types = BTreeMap::new();
    let open = decoder.keys.as_ref().map(|keys| keys.column.as_str());
    let mut open = open.filter(|column| given.field(column).is_none()).map(|column| (column, true));
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
    let overrides = Overrides { given, types, ..Overrides::default() };
    // More columns than a table can have are a matter of each record: it is rejected for them.
    shape.resolve(&overrides).unwrap_or_default()
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
