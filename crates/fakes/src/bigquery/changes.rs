//! Change rows: upserts and deletes by primary key, in the order that their sequence numbers tell.

use std::collections::HashMap;

use super::cell::{Cell, Row};
use super::state::{Stored, Table};

/// The pseudo-column that says what a row does.
pub(crate) const CHANGE_TYPE: &str = "_CHANGE_TYPE";
/// The pseudo-column that says in which order changes of a key count.
pub(crate) const CHANGE_SEQUENCE: &str = "_CHANGE_SEQUENCE_NUMBER";

/// A sequence number: up to four sections, compared one by one. No number at all is the lowest, and equal numbers count in
/// the order in which they came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Sequence([u64; 4]);

impl Sequence {
    /// Reads hex sections split by `/`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let invalid = || format!("Invalid value for {CHANGE_SEQUENCE}: {text}");
        let mut sections = [0; 4];
        for (i, section) in text.split('/').enumerate() {
            let place = sections.get_mut(i).ok_or_else(invalid)?;
            let hex = section.len() <= 16 && !section.is_empty() && section.bytes().all(|b| b.is_ascii_hexdigit());
            *place = u64::from_str_radix(section, 16).ok().filter(|_| hex).ok_or_else(invalid)?;
        }
        Ok(Self(sections))
    }
}

/// What a row does.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) delete: bool,
    pub(crate) sequence: Sequence,
}

impl Change {
    /// Reads the pseudo-columns of a row.
    pub(crate) fn read(type_: &Cell, sequence: &Cell) -> Result<Self, String> {
        let delete = match type_ {
            Cell::Text(text) if text == "UPSERT" => false,
            Cell::Text(text) if text == "DELETE" => true,
            other => return Err(format!("Invalid value for {CHANGE_TYPE}: {other:?}")),
        };
        let sequence = match sequence {
            Cell::Text(text) => Sequence::parse(text)?,
            _ => Sequence::default(),
        };
        Ok(Self { delete, sequence })
    }
}

/// The positions of the primary key's columns; none if the table has no primary key.
pub(crate) fn key_columns(table: &Table) -> Option<Vec<usize>> {
    let names = table.resource.get("tableConstraints")?.get("primaryKey")?.get("columns")?.as_array()?;
    let place = |name: &serde_json::Value| {
        let name = name.as_str()?;
        table.schema.fields.iter().position(|field| field.name.eq_ignore_ascii_case(name))
    };
    let columns: Vec<usize> = names.iter().map(place).collect::<Option<_>>()?;
    (!columns.is_empty()).then_some(columns)
}

fn key_of(columns: &[usize], row: &Row) -> String {
    columns.iter().map(|at| format!("{:?};", row[*at])).collect()
}

/// Applies changes in their order. A change that is older than the last one of its key does nothing.
pub(crate) fn apply(table: &mut Table, columns: &[usize], changes: Vec<(Change, Row)>) {
    let mut places: HashMap<String, usize> = HashMap::new();
    for (at, row) in table.rows.iter().enumerate() {
        places.insert(key_of(columns, &row.cells), at);
    }
    let mut rows: Vec<Option<Stored>> = std::mem::take(&mut table.rows).into_iter().map(Some).collect();
    for (change, row) in changes {
        let key = key_of(columns, &row);
        if table.changes.get(&key).is_some_and(|last| *last > change.sequence) {
            continue;
        }
        table.changes.insert(key.clone(), change.sequence);
        let place = places.get(&key).copied();
        let stored = (!change.delete).then_some(Stored::from(row));
        match place {
            Some(at) => rows[at] = stored,
            None if stored.is_some() => {
                places.insert(key, rows.len());
                rows.push(stored);
            }
            None => {}
        }
    }
    table.rows = rows.into_iter().flatten().collect();
    table.rows_version += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_compare_section_by_section_as_numbers() {
        let parse = |text: &str| Sequence::parse(text).expect("valid");
        assert!(parse("A") > parse("9"));
        assert!(parse("0/ff") < parse("1/0"));
        assert!(parse("1/2") > parse("1/1/ffff"));
        assert!(parse("00ff") == parse("FF"));
        for bad in ["", "g", "1/2/3/4/5", "11111111111111111", "1//2"] {
            assert!(Sequence::parse(bad).is_err(), "{bad}");
        }
    }
}
