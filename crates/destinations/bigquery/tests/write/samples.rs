//! Rows that tests and checks in the cloud send alike: changes of names by key, and values of every type.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use longshore_core::batch::{Changes, Operation, Rows};
use longshore_core::schema::{Field, TableSchema, Type};
use serde_json::{Value, json};

/// The columns of changes by key.
pub fn schema() -> TableSchema {
    TableSchema::new(vec![Field::new("id", Type::Int64), Field::new("name", Type::String)])
}

/// Key, name (none deletes) and order.
pub type Change<'a> = (i64, Option<&'a str>, &'a str);

/// Changes in this order.
pub fn batch(changes: &[Change<'_>]) -> Rows {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(changes.iter().map(|(id, _, _)| *id))),
        Arc::new(StringArray::from_iter(changes.iter().map(|(_, name, _)| *name))),
    ];
    let operation = |name: &Option<&str>| if name.is_some() { Operation::Upsert } else { Operation::Delete };
    Rows::Changes(Changes {
        rows: RecordBatch::try_new(schema().to_arrow(), columns).unwrap(),
        operations: changes.iter().map(|(_, name, _)| operation(name)).collect(),
        order: changes.iter().map(|(_, _, order)| (*order).to_owned()).collect(),
    })
}

/// All rows as changes, in their order.
pub fn upserts(rows: RecordBatch) -> Rows {
    let count = rows.num_rows();
    let order = (0..count).map(|row| row.to_string()).collect();
    Rows::Changes(Changes { rows, operations: vec![Operation::Upsert; count], order })
}

/// What a table of the key `id` is made with.
pub fn keyed() -> Value {
    json!({"tableConstraints": {"primaryKey": {"columns": ["id"]}}})
}

/// Columns of every type; `narrow` without the three that load jobs take from text only.
pub fn every_type_columns(narrow: bool) -> Value {
    let all = json!([
        {"name": "id", "type": "INT64"}, {"name": "s", "type": "STRING"}, {"name": "y", "type": "BYTES"},
        {"name": "f", "type": "FLOAT64"}, {"name": "b", "type": "BOOL"}, {"name": "n", "type": "NUMERIC"},
        {"name": "bn", "type": "BIGNUMERIC"}, {"name": "ts", "type": "TIMESTAMP"}, {"name": "d", "type": "DATE"},
        {"name": "t", "type": "TIME"}, {"name": "dt", "type": "DATETIME"}, {"name": "j", "type": "JSON"},
        {"name": "g", "type": "GEOGRAPHY"}, {"name": "v", "type": "INTERVAL"},
        {"name": "a", "type": "INT64", "mode": "REPEATED"},
        {"name": "o", "type": "STRUCT", "mode": "REPEATED", "fields": [
            {"name": "x", "type": "STRING"}, {"name": "y", "type": "STRUCT", "fields": [{"name": "z", "type": "DATE", "mode": "REPEATED"}]}]},
    ]);
    let text_only = |field: &Value| ["JSON", "GEOGRAPHY", "INTERVAL"].iter().any(|type_| field["type"] == *type_);
    all.as_array().unwrap().iter().filter(|field| !(narrow && text_only(field))).cloned().collect()
}

/// Rows of these columns with values at their bounds, in the middle, and nulls, by id: as Longshore shows them, nulls left out.
pub fn every_type_rows() -> Vec<Value> {
    vec![
        json!({"id": 1, "s": "ä\u{0}\u{10ffff}", "y": "AP8=", "f": 1.7976931348623157e308, "b": true,
            "n": "99999999999999999999999999999.999999999",
            "bn": "578960446186580977117854925043439539266.34992332820282019728792003956564819967",
            "ts": "9999-12-31T23:59:59.999999Z", "d": "9999-12-31", "t": "23:59:59.999999", "dt": "9999-12-31T23:59:59.999999",
            "j": {"k": [1, "ü", null]}, "g": "POINT(1 2)", "v": "1-2 3 4:5:6.500", "a": [1, -2, i64::MIN.to_string()],
            "o": [{"x": "1", "y": {"z": ["2024-02-29", "1969-12-31"]}}, {"x": "", "y": null}, {"x": null, "y": null}]}),
        json!({"id": 2, "s": "", "y": "", "f": 5e-324, "b": false, "n": "-99999999999999999999999999999.999999999",
            "bn": "-578960446186580977117854925043439539266.34992332820282019728792003956564819968",
            "ts": "0001-01-01T00:00:00Z", "d": "0001-01-01", "t": "00:00:00", "dt": "0001-01-01T00:00:00",
            "j": [], "v": "-10000-0 -3660000 -2400000:0:0"}),
        json!({"id": 3, "f": "NaN", "n": "0", "bn": "0", "ts": "1969-12-31T23:59:59.999999Z", "j": 1.5, "v": "0-0 0 0:0:0"}),
        json!({"id": 4, "f": "-Infinity", "n": "0.000000001", "bn": "0.00000000000000000000000000000000000001"}),
        json!({"id": 5, "f": -0.5, "n": "-12345678901234567890123456789.123456789", "dt": "0001-01-01T00:00:00.000001"}),
        json!({"id": i64::MAX.to_string(), "f": "Infinity"}),
    ]
}

/// A JSON column takes its document as text.
pub fn as_inserted(row: &Value) -> Value {
    let mut row = row.clone();
    if let Some(document) = row.get_mut("j") {
        *document = json!(document.to_string());
    }
    row
}
