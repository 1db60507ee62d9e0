//! The walk over a level's objects, and columns of columns: STRUCT and ARRAY.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType;

use longshore_core::commit::Contract;
use longshore_core::error::{Error, Kind, Result, code};
use longshore_core::schema::Mode;

use super::misfit::Misfit;
use super::{Column, Level, Times};
use crate::shape::TEXT_FIELD;
use crate::tape::{Span, Tape, Token};

/// The place of a value whose key its object lacks.
pub const MISSING: u32 = u32::MAX;
/// The place of a value whose object is itself null, missing or bad: nothing is asked of it.
pub const ABSENT: u32 = u32::MAX - 1;

/// Which column takes a key.
#[derive(Clone, Copy)]
enum Match {
    /// The one that has this name at the source.
    Exact(usize),
    /// One whose name is near enough.
    Near(usize),
    /// None.
    None,
}

impl Match {
    fn of(level: &Level, key: &str) -> Self {
        match level.lookup.find_how(key) {
            Some((column, true)) => Match::Exact(column),
            Some((column, false)) => Match::Near(column),
            None => Match::None,
        }
    }
}

/// What a value carries; of several, the greatest counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Content {
    /// Null, or containers of nothing.
    Nothing,
    /// Besides that, nulls in arrays.
    NullElements,
    /// A value.
    Something,
}

/// One decoding: the tape, and which rows have turned out bad.
pub struct Build<'a> {
    pub tape: &'a Tape,
    contract: Contract,
    pub times: Times,
    /// For each row, the first thing that does not fit.
    pub bad: Vec<Option<Box<Misfit>>>,
    /// Dropped values by path.
    pub ignored: BTreeMap<String, u64>,
}

/// Which record each slot of a column belongs to; `None` where slot and record are the same.
pub type Owners<'a> = Option<&'a [u32]>;

impl<'a> Build<'a> {
    pub fn new(tape: &'a Tape, contract: Contract, times: Times, rows: usize) -> Self {
        let mut bad = Vec::new();
        bad.resize_with(rows, || None);
        Self { tape, contract, times, bad, ignored: BTreeMap::new() }
    }

    /// Marks the record of a slot as bad; what was found first stays.
    pub fn mark(&mut self, slot: usize, owners: Owners<'_>, misfit: impl FnOnce() -> Misfit) {
        let row = owners.map_or(slot, |owners| owners[slot] as usize);
        self.bad[row].get_or_insert_with(|| Box::new(misfit()));
    }

    /// The arrays of a level, for the objects at these places (or texts for `_text`, or nothing).
    pub fn level(&mut self, level: &Level, tokens: &[u32], owners: Owners<'_>) -> Result<Vec<ArrayRef>> {
        let places = self.spread(level, tokens, owners);
        level.columns.iter().zip(places).map(|(column, places)| self.column(column, places, owners)).collect()
    }

    /// For each column the places of its values.
    fn spread(&mut self, level: &Level, tokens: &[u32], owners: Owners<'_>) -> Vec<Vec<u32>> {
        let mut places = vec![vec![MISSING; tokens.len()]; level.columns.len()];
        let text_column = level.columns.iter().position(|c| c.field.name == TEXT_FIELD);
        // The keys of the object before and their columns: objects mostly repeat their keys in one order.
        let mut order: Vec<(Span, Match)> = Vec::new();
        for (slot, &token) in tokens.iter().enumerate() {
            let kind = if token >= ABSENT { Token::Null } else { self.tape.token(token) };
            let Token::Object { end } = kind else {
                for column in &mut places {
                    column[slot] = ABSENT;
                }
                if let (Token::Text(_), Some(at)) = (kind, text_column) {
                    places[at][slot] = token;
                }
                continue;
            };
            let mut next = token + 1;
            let mut guess = 0;
            while next < end {
                let Token::Key(span) = self.tape.token(next) else { unreachable!("a parser wrote a value without its key") };
                let value = next + 1;
                next = self.tape.after(value);
                let found = match order.get(guess) {
                    Some((known, found)) if *known == span || self.tape.bytes(*known) == self.tape.bytes(span) => *found,
                    _ => {
                        let found = Match::of(level, self.tape.text(span));
                        order.truncate(guess);
                        order.push((span, found));
                        found
                    }
                };
                guess += 1;
                match found {
                    Match::Exact(column) if places[column][slot] == MISSING => places[column][slot] = value,
                    Match::None => self.unknown(level, span, value, slot, owners),
                    // Inference gave such a key no column of its own, so this one says nothing about it.
                    Match::Near(_) if self.content(value) != Content::Something => self.unknown(level, span, value, slot, owners),
                    Match::Exact(column) | Match::Near(column) => {
                        self.place_beside(level, &mut places[column][slot], column, value, slot, owners);
                    }
                }
            }
        }
        places
    }

    /// Puts a value where there may be one already. What carries nothing gives way.
    fn place_beside(&mut self, level: &Level, place: &mut u32, column: usize, value: u32, slot: usize, owners: Owners<'_>) {
        if *place == MISSING || self.content(*place) == Content::Nothing {
            *place = value;
        } else if self.content(value) != Content::Nothing {
            self.mark(slot, owners, || Misfit::duplicate_key(&level.columns[column].path));
        }
    }

    /// A key that the table has no column for. One that carries nothing is nothing to lose.
    fn unknown(&mut self, level: &Level, key: Span, value: u32, slot: usize, owners: Owners<'_>) {
        let content = self.content(value);
        if content == Content::Nothing {
            return;
        }
        let path = if level.path.is_empty() {
            self.tape.text(key).to_owned()
        } else {
            format!("{}.{}", level.path, self.tape.text(key))
        };
        match self.contract {
            Contract::Ignore => *self.ignored.entry(path).or_default() += 1,
            _ if content == Content::NullElements => self.mark(slot, owners, || Misfit::null_in_array(&path)),
            Contract::Evolve | Contract::Freeze => self.mark(slot, owners, || Misfit::unknown_column(&path)),
        }
    }

    /// What a value carries, as inference sees it: where no value of a path carries something, the path has no column.
    fn content(&self, value: u32) -> Content {
        match self.tape.token(value) {
            Token::Null => Content::Nothing,
            Token::Array { .. } => {
                self.tape.elements(value).map(|inner| self.element_content(inner)).max().unwrap_or(Content::Nothing)
            }
            Token::Object { .. } => {
                self.tape.members(value).map(|(_, inner)| self.content(inner)).max().unwrap_or(Content::Nothing)
            }
            _ => Content::Something,
        }
    }

    fn element_content(&self, element: u32) -> Content {
        match self.tape.token(element) {
            Token::Null => Content::NullElements,
            // An array in an array makes a column, whatever it holds.
            Token::Array { .. } => Content::Something,
            _ => self.content(element),
        }
    }

    fn column(&mut self, column: &Column, places: Vec<u32>, owners: Owners<'_>) -> Result<ArrayRef> {
        match column.field.mode {
            Mode::Repeated => self.list(column, &places, owners),
            Mode::Nullable | Mode::Required => match &column.level {
                Some(level) => self.structs(column, level, places, column.is_required(), owners),
                None => Ok(self.leaf(column, &places, column.is_required(), owners)),
            },
        }
    }

    /// An ARRAY: the places of all elements, then one column of them.
    fn list(&mut self, column: &Column, places: &[u32], owners: Owners<'_>) -> Result<ArrayRef> {
        let mut elements: Vec<u32> = Vec::with_capacity(places.len());
        let mut element_owners: Vec<u32> = Vec::with_capacity(places.len());
        let mut offsets: Vec<i32> = Vec::with_capacity(places.len() + 1);
        offsets.push(0);
        for (slot, &place) in places.iter().enumerate() {
            let owner = owners.map_or(slot as u32, |owners| owners[slot]);
            let before = elements.len();
            match if place >= ABSENT { Token::Null } else { self.tape.token(place) } {
                // NULL is the empty array.
                Token::Null => {}
                Token::Array { .. } => elements.extend(self.tape.elements(place)),
                Token::Text(span) if span.len == 0 && !takes_empty_text(column) => {}
                // One value is an array of one.
                _ => elements.push(place),
            }
            element_owners.resize(elements.len(), owner);
            if elements[before..].iter().any(|&e| self.is_null_element(column, e)) {
                self.mark(slot, owners, || Misfit::null_in_array(&column.path));
            }
            offsets.push(i32::try_from(elements.len()).map_err(|_| too_long(column))?);
        }
        let values = match &column.level {
            Some(level) => self.structs(column, level, elements, true, Some(&element_owners))?,
            None => self.leaf(column, &elements, true, Some(&element_owners)),
        };
        let DataType::List(element) = column.arrow.data_type() else { unreachable!("a REPEATED column is a List") };
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let list = ListArray::try_new(element.clone(), offsets, values, None).map_err(|e| not_built(column, e))?;
        Ok(Arc::new(list))
    }

    fn is_null_element(&self, column: &Column, element: u32) -> bool {
        match self.tape.token(element) {
            Token::Null => true,
            Token::Text(span) => span.len == 0 && !takes_empty_text(column),
            _ => false,
        }
    }

    /// A STRUCT column. `required` columns hold no null: a slot without a value is marked and gets a placeholder.
    fn structs(
        &mut self,
        column: &Column,
        level: &Level,
        mut places: Vec<u32>,
        required: bool,
        owners: Owners<'_>,
    ) -> Result<ArrayRef> {
        let tape = self.tape;
        let has_text = level.columns.iter().any(|c| c.field.name == TEXT_FIELD);
        let mut valid: Vec<bool> = Vec::with_capacity(places.len());
        for (slot, place) in places.iter_mut().enumerate() {
            let present = match if *place >= ABSENT { Token::Null } else { tape.token(*place) } {
                Token::Object { .. } => true,
                Token::Null => false,
                Token::Text(span) if span.len == 0 => false,
                Token::Text(_) if has_text => true,
                _ => {
                    let token = *place;
                    self.mark(slot, owners, || Misfit::type_mismatch(&column.path, &column.field, tape, token));
                    false
                }
            };
            if !present {
                if required && *place != ABSENT {
                    self.mark(slot, owners, || Misfit::required_missing(&column.path));
                }
                *place = ABSENT;
            }
            valid.push(present);
        }
        let arrays = self.level(level, &places, owners)?;
        let DataType::Struct(fields) = element_type(column) else { unreachable!("a STRUCT column is a Struct") };
        let nulls = if required || valid.iter().all(|v| *v) { None } else { Some(NullBuffer::from(valid)) };
        let array = StructArray::try_new_with_length(fields.clone(), arrays, nulls, places.len());
        Ok(Arc::new(array.map_err(|e| not_built(column, e))?))
    }
}

/// Empty text is a value of these types and NULL of all others.
pub fn takes_empty_text(column: &Column) -> bool {
    use longshore_core::schema::Type;
    matches!(column.field.type_, Type::String | Type::Bytes)
}

pub fn element_type(column: &Column) -> &DataType {
    match column.arrow.data_type() {
        DataType::List(element) => element.data_type(),
        other => other,
    }
}

fn not_built(column: &Column, error: arrow::error::ArrowError) -> Error {
    Error::new(Kind::Bug, code::BUG, format!("column {} cannot be built", column.path)).caused_by(error)
}

fn too_long(column: &Column) -> Error {
    Error::new(Kind::Bug, code::BUG, format!("column {} has more elements in one chunk than a list can count", column.path))
}
