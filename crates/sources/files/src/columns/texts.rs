//! Columns whose Arrow form is text: STRING as written, the others in their canonical text.

use std::borrow::Cow;

use arrow::array::{StringArray, StringBuilder};

use longshore_core::schema::Type;

use super::Column;
use super::build::{Build, Owners};
use super::leaf::{Found, exact_int, number_text, open_text};
use crate::json;
use crate::tape::{Tape, Token, Value};
use crate::values::{calendar, decimal};

impl<'a> Build<'a> {
    /// STRING: any scalar's text as it is written.
    pub fn strings(&mut self, column: &Column, places: &[u32], required: bool, owners: Owners<'_>) -> StringArray {
        self.texts(column, places, required, owners, |tape, place| {
            Some(match tape.token(place) {
                Token::Text(span) | Token::String(span) | Token::Number(span) => Cow::Borrowed(tape.text(span)),
                Token::Bool(true) => Cow::Borrowed("true"),
                Token::Bool(false) => Cow::Borrowed("false"),
                Token::Typed(..) => Cow::Owned(typed_text(tape, place)),
                _ => return None,
            })
        })
    }

    /// The types that Arrow carries as text.
    pub fn carried_texts(&mut self, column: &Column, places: &[u32], required: bool, owners: Owners<'_>) -> StringArray {
        let convert: fn(&'a Tape, u32) -> Option<Cow<'a, str>> = match column.field.type_ {
            Type::BigNumeric => |tape, place| {
                if let Some(int) = exact_int(tape.token(place)) {
                    return Some(Cow::Owned(int.to_string()));
                }
                decimal::bignumeric(number_text(tape, tape.token(place))?).map(Cow::Owned)
            },
            Type::Time => |tape, place| {
                if let Some(Value::Time(micros)) = tape.token(place).value() {
                    return Some(Cow::Owned(calendar::time_text(micros)));
                }
                let text = open_text(tape, tape.token(place))?;
                calendar::time(text.as_bytes()).map(|micros| Cow::Owned(calendar::time_text(micros)))
            },
            Type::Interval => |tape, place| calendar::interval(open_text(tape, tape.token(place))?).map(Cow::Owned),
            Type::Json => |tape, place| match tape.token(place) {
                Token::Text(span) => json::canonical(tape.text(span)).map(Cow::Owned),
                _ => {
                    let mut out = String::new();
                    json::write(tape, place, &mut out);
                    Some(Cow::Owned(out))
                }
            },
            // GEOGRAPHY: what the destination makes of the text is its affair.
            _ => |tape, place| open_text(tape, tape.token(place)).map(Cow::Borrowed),
        };
        self.texts(column, places, required, owners, convert)
    }

    fn texts(
        &mut self,
        column: &Column,
        places: &[u32],
        required: bool,
        owners: Owners<'_>,
        convert: impl Fn(&'a Tape, u32) -> Option<Cow<'a, str>>,
    ) -> StringArray {
        let mut builder = StringBuilder::with_capacity(places.len(), places.len() * 16);
        for (slot, &place) in places.iter().enumerate() {
            match self.find(column, (slot, place), required, owners, &convert) {
                Found::Value(value) => builder.append_value(value),
                // What an empty text is for a type with a canonical text, a placeholder may be too: its row is taken out.
                Found::Nothing if required => builder.append_value(""),
                Found::Nothing => builder.append_null(),
            }
        }
        builder.finish()
    }
}

fn typed_text(tape: &Tape, place: u32) -> String {
    let mut out = String::new();
    json::write_text(tape, place, &mut out);
    out
}
