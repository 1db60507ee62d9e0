//! Cells as Arrow, in the form of `longshore_core::schema`, and as the JSON of BigQuery's REST answers.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, ListArray, RecordBatch,
    RecordBatchOptions, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field as ArrowField};
use base64::Engine as _;
use longshore_core::schema::{Field, Mode, TableSchema, Type};
use longshore_core::show::value_to_json;
use serde_json::{Map, Value, json};

use super::cell::{Cell, Row, decimal_text};

/// The rows as one batch.
pub(crate) fn batch<'a>(schema: &TableSchema, rows: impl Iterator<Item = &'a Row> + Clone) -> RecordBatch {
    let columns = schema.fields.iter().enumerate();
    let columns = columns.map(|(i, field)| column(field, &rows.clone().map(|row| &row[i]).collect::<Vec<_>>())).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.count()));
    RecordBatch::try_new_with_options(schema.to_arrow(), columns, &options).expect("cells were checked against the schema")
}

/// The rows as JSON objects without nulls, as `longshore_core::show` shows values.
pub(crate) fn objects(batch: &RecordBatch) -> Vec<Value> {
    let schema = batch.schema();
    let object = |row: usize| {
        let shown = schema.fields().iter().zip(batch.columns());
        let shown = shown.map(|(field, array)| (field.name().clone(), value_to_json(field, array, row)));
        Value::Object(shown.filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>())
    };
    (0..batch.num_rows()).map(object).collect()
}

fn column(field: &Field, cells: &[&Cell]) -> ArrayRef {
    if field.mode != Mode::Repeated {
        return values(&field.type_, cells);
    }
    let lists = cells.iter().map(|cell| match cell {
        Cell::List(cells) => cells.as_slice(),
        _ => &[],
    });
    let offsets = OffsetBuffer::from_lengths(lists.clone().map(<[Cell]>::len));
    let elements = values(&field.type_, &lists.flatten().collect::<Vec<_>>());
    let element = Arc::new(ArrowField::new("element", elements.data_type().clone(), false));
    Arc::new(ListArray::new(element, offsets, elements, None))
}

fn values(type_: &Type, cells: &[&Cell]) -> ArrayRef {
    macro_rules! each {
        ($variant:ident) => {
            cells.iter().map(|cell| match cell {
                Cell::$variant(value) => Some(*value),
                _ => None,
            })
        };
    }
    match type_ {
        Type::Bool => Arc::new(each!(Bool).collect::<BooleanArray>()),
        Type::Int64 => Arc::new(each!(Int).collect::<Int64Array>()),
        Type::Float64 => Arc::new(each!(Float).collect::<Float64Array>()),
        Type::Date => Arc::new(each!(Days).collect::<Date32Array>()),
        Type::DateTime => Arc::new(each!(Micros).collect::<TimestampMicrosecondArray>()),
        Type::Timestamp => Arc::new(each!(Micros).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        Type::Numeric => {
            let array = each!(Numeric).collect::<Decimal128Array>().with_precision_and_scale(38, 9);
            Arc::new(array.expect("38 digits hold every NUMERIC"))
        }
        Type::Bytes => {
            let bytes = cells.iter().map(|cell| match cell {
                Cell::Bytes(bytes) => Some(bytes.as_slice()),
                _ => None,
            });
            Arc::new(bytes.collect::<BinaryArray>())
        }
        Type::String | Type::BigNumeric | Type::Time | Type::Json | Type::Geography | Type::Interval => {
            let text = cells.iter().map(|cell| match cell {
                Cell::Text(text) => Some(text.as_str()),
                _ => None,
            });
            Arc::new(text.collect::<StringArray>())
        }
        Type::Struct(fields) => structs(fields, cells),
    }
}

fn structs(fields: &[Field], cells: &[&Cell]) -> ArrayRef {
    // A struct that is NULL has children all the same; where they may not be null, an empty value stands for them.
    let filler: Vec<Cell> = fields.iter().map(filler).collect();
    let present = cells.iter().map(|cell| matches!(cell, Cell::Struct(_)));
    let nulls = NullBuffer::from_iter(present);
    let child = |i: usize| {
        let cells = cells.iter().map(|cell| match cell {
            Cell::Struct(cells) => &cells[i],
            _ => &filler[i],
        });
        cells.collect::<Vec<_>>()
    };
    let arrays: Vec<ArrayRef> = fields.iter().enumerate().map(|(i, field)| column(field, &child(i))).collect();
    let DataType::Struct(arrow_fields) = longshore_core::schema_arrow::type_to_arrow(&Type::Struct(fields.to_vec())) else {
        unreachable!("a STRUCT is an Arrow struct")
    };
    Arc::new(StructArray::new(arrow_fields, arrays, Some(nulls)))
}

fn filler(field: &Field) -> Cell {
    match (field.mode, &field.type_) {
        (Mode::Nullable, _) => Cell::Null,
        (Mode::Repeated, _) => Cell::List(Vec::new()),
        (_, Type::Bool) => Cell::Bool(false),
        (_, Type::Int64) => Cell::Int(0),
        (_, Type::Float64) => Cell::Float(0.0),
        (_, Type::Date) => Cell::Days(0),
        (_, Type::DateTime | Type::Timestamp) => Cell::Micros(0),
        (_, Type::Numeric) => Cell::Numeric(0),
        (_, Type::Bytes) => Cell::Bytes(Vec::new()),
        (_, Type::Struct(fields)) => Cell::Struct(fields.iter().map(filler).collect()),
        (_, _) => Cell::Text(String::new()),
    }
}

/// A row as REST answers hold it: `{"f": [{"v": ..}, ..]}`.
pub(crate) fn wire_row(fields: &[Field], cells: &[Cell], int64_timestamps: bool) -> Value {
    let cells = fields.iter().zip(cells).map(|(field, cell)| json!({"v": wire_cell(field, cell, int64_timestamps)}));
    json!({"f": cells.collect::<Vec<_>>()})
}

fn wire_cell(field: &Field, cell: &Cell, int64_timestamps: bool) -> Value {
    let text = |text: String| Value::String(text);
    match cell {
        Cell::Null => Value::Null,
        Cell::List(cells) => {
            let one = Field { mode: Mode::Nullable, ..field.clone() };
            cells.iter().map(|cell| json!({"v": wire_cell(&one, cell, int64_timestamps)})).collect()
        }
        Cell::Struct(cells) => wire_row(field.children(), cells, int64_timestamps),
        Cell::Bool(value) => text(value.to_string()),
        Cell::Int(value) => text(value.to_string()),
        Cell::Float(value) if value.is_nan() => text("NaN".into()),
        Cell::Float(value) if value.is_infinite() => text(if *value > 0.0 { "Infinity" } else { "-Infinity" }.into()),
        Cell::Float(value) => text(format!("{value:?}")),
        Cell::Bytes(bytes) => text(base64::engine::general_purpose::STANDARD.encode(bytes)),
        Cell::Numeric(value) => text(decimal_text(&value.to_string(), 9)),
        Cell::Days(days) => text(date_text(i64::from(*days))),
        Cell::Micros(micros) if field.type_ == Type::DateTime => text(date_time_text(*micros)),
        Cell::Micros(micros) if int64_timestamps => text(micros.to_string()),
        // The older form: seconds, as a number with a fraction and an exponent.
        Cell::Micros(micros) => text(format!("{:E}", *micros as f64 / 1e6)),
        Cell::Text(value) if field.type_ == Type::Time => text(value.trim_end_matches('0').trim_end_matches('.').to_owned()),
        Cell::Text(value) => text(value.clone()),
    }
}

fn date_text(days: i64) -> String {
    let date = chrono::NaiveDate::default().checked_add_signed(chrono::Duration::days(days));
    date.map_or_else(String::new, |date| date.format("%Y-%m-%d").to_string())
}

fn date_time_text(micros: i64) -> String {
    let shown = chrono::DateTime::from_timestamp_micros(micros).map(|at| at.naive_utc());
    shown.map_or_else(String::new, |at| at.format("%Y-%m-%dT%H:%M:%S%.f").to_string())
}
