//! Columns of single values, one loop per type.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, BinaryBuilder, BooleanArray, BooleanBufferBuilder, NullBufferBuilder, PrimitiveArray};

use arrow::datatypes::{ArrowPrimitiveType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};

use longshore_core::schema::Type;

use super::build::{ABSENT, Build, Owners, element_type, takes_empty_text};
use super::misfit::Misfit;
use super::{Column, Times};
use crate::tape::{Tape, Token, Value};
use crate::values::{self, calendar, decimal};

/// What is at a place.
pub enum Found<T> {
    /// A value that the column holds.
    Value(T),
    /// Nothing: the column's null, or a placeholder where it takes none.
    Nothing,
}

impl<'a> Build<'a> {
    /// A column of single values. `required` columns hold no null: a slot without a value is marked and gets a placeholder.
    pub fn leaf(&mut self, column: &Column, places: &[u32], required: bool, owners: Owners<'_>) -> ArrayRef {
        let times = self.times;
        let array: ArrayRef = match &column.field.type_ {
            Type::Int64 => Arc::new(self.primitive::<Int64Type>(column, places, required, owners, int64)),
            Type::Float64 => Arc::new(self.primitive::<Float64Type>(column, places, required, owners, float64)),
            Type::Numeric => Arc::new(self.primitive::<Decimal128Type>(column, places, required, owners, numeric)),
            Type::Date => Arc::new(self.primitive::<Date32Type>(column, places, required, owners, date)),
            Type::DateTime => {
                Arc::new(self.primitive::<TimestampMicrosecondType>(column, places, required, owners, |tape, token| {
                    datetime(tape, token, times)
                }))
            }
            Type::Timestamp => {
                Arc::new(self.primitive::<TimestampMicrosecondType>(column, places, required, owners, |tape, token| {
                    timestamp(tape, token, times)
                }))
            }
            Type::Bool => Arc::new(self.booleans(column, places, required, owners)),
            Type::Bytes => Arc::new(self.binaries(column, places, required, owners)),
            Type::String => Arc::new(self.strings(column, places, required, owners)),
            Type::BigNumeric | Type::Time | Type::Json | Type::Geography | Type::Interval => {
                Arc::new(self.carried_texts(column, places, required, owners))
            }
            // A STRUCT is built of its fields; one that is asked for here has none.
            Type::Struct(_) => arrow::array::new_null_array(element_type(column), places.len()),
        };
        array
    }

    /// The value at a slot, by a conversion; a value that does not fit marks the record.
    pub fn find<T>(
        &mut self,
        column: &Column,
        (slot, place): (usize, u32),
        required: bool,
        owners: Owners<'_>,
        convert: impl FnOnce(&'a Tape, u32) -> Option<T>,
    ) -> Found<T> {
        let tape = self.tape;
        let token = if place >= ABSENT { Token::Null } else { tape.token(place) };
        let nothing = match token {
            Token::Null => true,
            Token::Text(span) => span.len == 0 && !takes_empty_text(column),
            _ => false,
        };
        if nothing {
            if required && place != ABSENT {
                self.mark(slot, owners, || Misfit::required_missing(&column.path));
            }
            return Found::Nothing;
        }
        match convert(tape, place) {
            Some(value) => Found::Value(value),
            None => {
                self.mark(slot, owners, || Misfit::type_mismatch(&column.path, &column.field, tape, place));
                Found::Nothing
            }
        }
    }

    fn primitive<T: ArrowPrimitiveType>(
        &mut self,
        column: &Column,
        places: &[u32],
        required: bool,
        owners: Owners<'_>,
        convert: impl Fn(&Tape, Token) -> Option<T::Native>,
    ) -> PrimitiveArray<T> {
        let mut values: Vec<T::Native> = Vec::with_capacity(places.len());
        let mut nulls = NullBufferBuilder::new(places.len());
        for (slot, &place) in places.iter().enumerate() {
            match self.find(column, (slot, place), required, owners, |tape, place| convert(tape, tape.token(place))) {
                Found::Value(value) => {
                    values.push(value);
                    nulls.append_non_null();
                }
                Found::Nothing => {
                    values.push(T::Native::default());
                    nulls.append(required);
                }
            }
        }
        PrimitiveArray::<T>::new(values.into(), nulls.finish()).with_data_type(element_type(column).clone())
    }

    fn booleans(&mut self, column: &Column, places: &[u32], required: bool, owners: Owners<'_>) -> BooleanArray {
        let mut values = BooleanBufferBuilder::new(places.len());
        let mut nulls = NullBufferBuilder::new(places.len());
        for (slot, &place) in places.iter().enumerate() {
            let found = self.find(column, (slot, place), required, owners, |tape, place| match tape.token(place) {
                Token::Bool(value) => Some(value),
                Token::Text(span) => values::boolean(tape.text(span)),
                _ => None,
            });
            match found {
                Found::Value(value) => {
                    values.append(value);
                    nulls.append_non_null();
                }
                Found::Nothing => {
                    values.append(false);
                    nulls.append(required);
                }
            }
        }
        BooleanArray::new(values.finish(), nulls.finish())
    }

    fn binaries(&mut self, column: &Column, places: &[u32], required: bool, owners: Owners<'_>) -> BinaryArray {
        let mut builder = BinaryBuilder::with_capacity(places.len(), places.len() * 16);
        for (slot, &place) in places.iter().enumerate() {
            let found = self.find(column, (slot, place), required, owners, |tape, place| match tape.token(place) {
                Token::Bytes(span) => Some(Cow::Borrowed(tape.blob_at(span))),
                token => open_text(tape, token).and_then(values::base64).map(Cow::Owned),
            });
            match found {
                Found::Value(value) => builder.append_value(value),
                Found::Nothing if required => builder.append_value(b""),
                Found::Nothing => builder.append_null(),
            }
        }
        builder.finish()
    }
}

/// The text of a value that is written as text, or as a string.
pub fn open_text(tape: &Tape, token: Token) -> Option<&str> {
    match token {
        Token::Text(span) | Token::String(span) => Some(tape.text(span)),
        _ => None,
    }
}

/// The text of a number, be it written as such or as text or a string (as exports write what a double would spoil).
pub fn number_text(tape: &Tape, token: Token) -> Option<&str> {
    match token {
        Token::Text(span) | Token::String(span) | Token::Number(span) => Some(tape.text(span)),
        _ => None,
    }
}

/// The integer that a typed value is.
pub fn exact_int(token: Token) -> Option<i64> {
    match token.value()? {
        Value::Int(int) => Some(int),
        // Up to here a double holds every integer.
        Value::Double(double) if double.fract() == 0.0 && double.abs() <= 9_007_199_254_740_992.0 => Some(double as i64),
        _ => None,
    }
}

fn int64(tape: &Tape, token: Token) -> Option<i64> {
    match token {
        Token::Number(span) => values::int64_of_number(tape.text(span)),
        Token::Typed(..) => exact_int(token),
        _ => values::int64(open_text(tape, token)?),
    }
}

fn float64(tape: &Tape, token: Token) -> Option<f64> {
    match token.value() {
        Some(Value::Double(double)) => Some(double),
        // As `i128`, since 2^63 as a double is no `i64`.
        Some(Value::Int(int)) => Some(int as f64).filter(|double| *double as i128 == i128::from(int)),
        Some(_) => None,
        None => values::float64(number_text(tape, token)?),
    }
}

fn numeric(tape: &Tape, token: Token) -> Option<i128> {
    match token {
        Token::Typed(..) => exact_int(token).map(|int| i128::from(int) * 1_000_000_000),
        _ => decimal::numeric(number_text(tape, token)?),
    }
}

fn date(tape: &Tape, token: Token) -> Option<i32> {
    match token.value() {
        Some(Value::Date(days)) => Some(days),
        Some(_) => None,
        None => calendar::date(open_text(tape, token)?.as_bytes()),
    }
}

fn datetime(tape: &Tape, token: Token, times: Times) -> Option<i64> {
    match token.value() {
        Some(Value::DateTime(micros)) => Some(micros),
        Some(Value::Date(days)) => Some(i64::from(days) * calendar::MICROS_PER_DAY),
        Some(_) => None,
        None => calendar::datetime(&micros_of(open_text(tape, token)?, times)),
    }
}

fn timestamp(tape: &Tape, token: Token, times: Times) -> Option<i64> {
    match token.value() {
        Some(Value::Timestamp(micros)) => Some(micros),
        Some(Value::DateTime(micros)) if times.assume_utc => Some(micros),
        Some(_) => None,
        None => {
            let text = micros_of(open_text(tape, token)?, times);
            calendar::timestamp(&text).or_else(|| times.assume_utc.then(|| calendar::datetime(&text)).flatten())
        }
    }
}

/// The text of a time as it is taken.
fn micros_of(text: &str, times: Times) -> Cow<'_, [u8]> {
    if times.truncate { calendar::without_nanoseconds(text.as_bytes()) } else { Cow::Borrowed(text.as_bytes()) }
}
