//! How values are shown: one text for every value, whether it goes to a terminal, a CSV file or JSON lines.
//!
//! What is written follows the Arrow type of the column and, for text-carried types, the BigQuery type in the field's
//! metadata (see [`crate::schema`]):
//!
//! | type | text | in JSON |
//! |---|---|---|
//! | INT64 | `42` | a number; a string beyond 2^53, where most readers lose digits |
//! | FLOAT64 | the shortest that reads back equal, `1.0`, `NaN`, `-Infinity` | a number; a string if not finite |
//! | NUMERIC, BIGNUMERIC | `3.35`, without trailing zeros | a string |
//! | BYTES | base64 | a string |
//! | TIMESTAMP | `2024-01-02T03:04:05.678901Z`, always UTC | a string |
//! | DATETIME, DATE, TIME | the same without a zone; a fraction has 3, 6 or 9 digits, or is left out when zero | a string |
//! | JSON | the document | the document itself |
//! | STRUCT, ARRAY | compact JSON | an object in the order of the fields, an array |
//!
//! [`value_to_json`] and [`value_to_text`] show one value; [`TableWriter`], [`CsvWriter`] and [`JsonWriter`] whole batches.

mod column;
mod csv;
mod json;
mod scalar;
mod table;

use arrow::array::Array;
use arrow::datatypes::Field;
use serde_json::Value;

pub use csv::CsvWriter;
pub use json::JsonWriter;
pub use table::{TableShown, TableWriter};

use column::Column;

/// One value as JSON. `field` tells the types that Arrow does not know (from its metadata); the array's own type decides
/// the rest. Panics if `row` is out of bounds.
pub fn value_to_json(field: &Field, array: &dyn Array, row: usize) -> Value {
    Column::new(field, array).json(row)
}

/// One value as text; `None` for NULL. Panics if `row` is out of bounds.
pub fn value_to_text(field: &Field, array: &dyn Array, row: usize) -> Option<String> {
    let mut text = String::new();
    Column::new(field, array).text(row, &mut text).then_some(text)
}

/// Bytes for people: `3.2 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut amount, mut unit) = (bytes as f64, 0);
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{amount:.1} {}", UNITS[unit]) }
}

/// The text as a JSON string with its quotes, appended to `out`.
fn push_json_string(text: &str, out: &mut String) {
    use std::fmt::Write as _;
    out.push('"');
    let mut plain_from = 0;
    for (i, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[plain_from..i]);
        plain_from = i + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            // Writing to a String cannot fail.
            other => _ = write!(out, "\\u{other:04x}"),
        }
    }
    out.push_str(&text[plain_from..]);
    out.push('"');
}

#[cfg(test)]
mod tests;
