//! Cells of an answer to a query, as Arrow.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, ListArray, RecordBatch,
    StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::DataType;
use base64::Engine as _;
use longshore_core::Result;
use longshore_core::error::Error;
use longshore_core::schema::{Field, Mode, TableSchema, Type};
use longshore_core::schema_arrow::{NUMERIC_PRECISION, NUMERIC_SCALE, field_to_arrow};
use serde_json::{Value, json};

use crate::error::{bug, codes, destination};

/// Rows such as `{"f": [{"v": "1"}, {"v": null}]}` in the columns of the answer.
///
/// Errors: `bigquery_answer_unreadable`.
pub(crate) fn batch(schema: &TableSchema, rows: &[Value]) -> Result<RecordBatch> {
    let columns = schema.fields.iter().enumerate().map(|(i, field)| {
        let cells: Vec<&Value> = rows.iter().map(|row| &row["f"][i]["v"]).collect();
        column(field, &cells)
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(schema.to_arrow(), columns, &options).map_err(unfit)
}

/// Rows such as `{"id": 1}`, as files of JSON lines hold them.
///
/// Errors: `bigquery_answer_unreadable`.
pub(crate) fn from_objects(schema: &TableSchema, objects: &[Value]) -> Result<RecordBatch> {
    let rows: Vec<Value> = objects.iter().map(|object| cells_of(&schema.fields, object)).collect();
    batch(schema, &rows)
}

fn cells_of(fields: &[Field], object: &Value) -> Value {
    let cells: Vec<Value> = fields.iter().map(|field| json!({"v": cell_of(field, &object[&field.name])})).collect();
    json!({"f": cells})
}

fn cell_of(field: &Field, value: &Value) -> Value {
    if field.mode == Mode::Repeated {
        let element = Field { mode: Mode::Nullable, ..field.clone() };
        let elements = value.as_array().into_iter().flatten();
        return elements.map(|value| json!({"v": cell_of(&element, value)})).collect();
    }
    match (&field.type_, value) {
        (_, Value::Null) => Value::Null,
        (Type::Struct(fields), object) => cells_of(fields, object),
        // What a JSON column holds is told as text.
        (Type::Json, value) => value.to_string().into(),
        (_, value) => value.clone(),
    }
}

fn unfit(error: arrow::error::ArrowError) -> Error {
    bug("an answer does not fit its own columns").caused_by(error)
}

fn column(field: &Field, cells: &[&Value]) -> Result<ArrayRef> {
    if field.mode != Mode::Repeated {
        return values(field, cells);
    }
    let lists: Vec<&[Value]> = cells.iter().map(|cell| cell.as_array().map_or(&[][..], Vec::as_slice)).collect();
    let elements: Vec<&Value> = lists.iter().flat_map(|list| list.iter().map(|element| &element["v"])).collect();
    let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.len()));
    let elements = values(field, &elements)?;
    let DataType::List(element) = field_to_arrow(field).data_type().clone() else { return Err(bug("an ARRAY is no list")) };
    Ok(Arc::new(ListArray::try_new(element, offsets, elements, None).map_err(unfit)?))
}

/// The cells' values; of the elements, for an ARRAY.
fn values(field: &Field, cells: &[&Value]) -> Result<ArrayRef> {
    let texts = || cells.iter().map(|cell| text(cell));
    let unreadable =
        || destination(codes::ANSWER, format!("an answer has a value in {} that is no {}", field.name, field.type_.name()));
    macro_rules! parsed {
        ($array:ty, $read:expr) => {
            Arc::new(
                texts()
                    .map(|text| text.map(|text| $read(&text).ok_or_else(unreadable)).transpose())
                    .collect::<Result<$array>>()?,
            )
        };
    }
    Ok(match &field.type_ {
        Type::Int64 => parsed!(Int64Array, |text: &str| text.parse::<i64>().ok()),
        Type::Float64 => parsed!(Float64Array, |text: &str| text.parse::<f64>().ok()),
        Type::Bool => parsed!(BooleanArray, |text: &str| text.parse::<bool>().ok()),
        Type::Date => parsed!(Date32Array, day),
        Type::DateTime => {
            let micros = |text: &str| Some(text.parse::<chrono::NaiveDateTime>().ok()?.and_utc().timestamp_micros());
            parsed!(TimestampMicrosecondArray, micros)
        }
        Type::Timestamp => {
            let times: Vec<Option<i64>> =
                texts().map(|text| text.map(|text| micros(&text).ok_or_else(unreadable)).transpose()).collect::<Result<_>>()?;
            Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
        }
        Type::Numeric => {
            let numbers: Vec<Option<i128>> =
                texts().map(|text| text.map(|text| numeric(&text).ok_or_else(unreadable)).transpose()).collect::<Result<_>>()?;
            let array = Decimal128Array::from(numbers).with_precision_and_scale(NUMERIC_PRECISION, NUMERIC_SCALE);
            Arc::new(array.map_err(unfit)?)
        }
        Type::Bytes => {
            let decode = |text: String| base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| unreadable());
            let bytes: Vec<Option<Vec<u8>>> = texts().map(|text| text.map(decode).transpose()).collect::<Result<_>>()?;
            Arc::new(BinaryArray::from_iter(bytes))
        }
        Type::BigNumeric => Arc::new(StringArray::from_iter(texts().map(|text| text.map(|text| plain(&text))))),
        Type::Time => Arc::new(StringArray::from_iter(texts().map(|text| text.map(|text| six_digits(&text))))),
        Type::String | Type::Json | Type::Geography | Type::Interval => Arc::new(StringArray::from_iter(texts())),
        Type::Struct(fields) => {
            let nulls = NullBuffer::from_iter(cells.iter().map(|cell| !cell.is_null()));
            let children = fields.iter().enumerate().map(|(i, child)| {
                let cells: Vec<&Value> = cells.iter().map(|cell| &cell["f"][i]["v"]).collect();
                column(child, &cells)
            });
            let arrow = fields.iter().map(field_to_arrow).collect();
            let children = children.collect::<Result<Vec<_>>>()?;
            let nulls = (nulls.null_count() > 0).then_some(nulls);
            Arc::new(StructArray::try_new_with_length(arrow, children, nulls, cells.len()).map_err(unfit)?)
        }
    })
}

/// A cell as text; `None` for NULL. Some servers send numbers and truth values as such.
fn text(cell: &Value) -> Option<String> {
    match cell {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn day(text: &str) -> Option<i32> {
    let date: chrono::NaiveDate = text.parse().ok()?;
    i32::try_from(date.signed_duration_since(chrono::NaiveDate::default()).num_days()).ok()
}

/// Microseconds since 1970, or seconds with a fraction where a server does not know the option for them, or, in files, a day and time.
fn micros(text: &str) -> Option<i64> {
    if let Ok(micros) = text.parse() {
        return Some(micros);
    }
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_micros());
    }
    let seconds: f64 = text.parse().ok()?;
    Some((seconds * 1e6).round() as i64)
}

fn numeric(text: &str) -> Option<i128> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let scale = usize::try_from(NUMERIC_SCALE).ok()?;
    if fraction.len() > scale {
        return None;
    }
    Some(sign * format!("{whole}{fraction:0<scale$}").parse::<i128>().ok()?)
}

/// A decimal without what says nothing: trailing zeros, a point at the end.
fn plain(text: &str) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
}

/// A time of day with six digits behind the point, as it is carried everywhere.
fn six_digits(text: &str) -> String {
    let (time, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{time}.{fraction:0<6}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_core::show::{JsonWriter, value_to_json};

    #[test]
    fn every_type_of_an_answer_is_read() {
        let schema = TableSchema::from_json(&json!([
            {"name": "i", "type": "INT64"}, {"name": "f", "type": "FLOAT64"}, {"name": "b", "type": "BOOL"},
            {"name": "d", "type": "DATE"}, {"name": "dt", "type": "DATETIME"}, {"name": "ts", "type": "TIMESTAMP"},
            {"name": "n", "type": "NUMERIC"}, {"name": "bn", "type": "BIGNUMERIC"}, {"name": "y", "type": "BYTES"},
            {"name": "t", "type": "TIME"}, {"name": "j", "type": "JSON"},
            {"name": "s", "type": "STRUCT", "fields": [{"name": "a", "type": "INT64", "mode": "REPEATED"}]},
        ]))
        .expect("valid");
        let cell = |value: Value| json!({"v": value});
        let full = json!({"f": [
            cell(json!("-7")), cell(json!("NaN")), cell(json!("true")), cell(json!("1969-12-31")),
            cell(json!("2024-01-02T03:04:05.5")), cell(json!("1704164645500000")), cell(json!("-3.35")), cell(json!("1.50")),
            cell(json!("aGk=")), cell(json!("01:02:03")), cell(json!("{\"k\":1}")),
            cell(json!({"f": [{"v": [{"v": "1"}, {"v": "2"}]}]})),
        ]});
        let empty = json!({"f": vec![json!({"v": null}); 12]});
        let batch = batch(&schema, &[full, empty]).expect("reads");
        let shown = |row: usize| -> Vec<Value> {
            let fields = batch.schema();
            (0..12).map(|i| value_to_json(fields.field(i), batch.column(i), row)).collect()
        };
        let expected = json!([-7, "NaN", true, "1969-12-31", "2024-01-02T03:04:05.500", "2024-01-02T03:04:05.500Z", "-3.35", "1.5",
            "aGk=", "01:02:03", {"k": 1}, {"a": [1, 2]}]);
        assert_eq!(Value::from(shown(0)), expected);
        assert!(shown(1).iter().all(Value::is_null));
    }

    #[test]
    fn rows_that_were_written_as_json_lines_are_read_back_as_they_were() {
        let schema = TableSchema::from_json(&json!([
            {"name": "i", "type": "INT64"}, {"name": "j", "type": "JSON"}, {"name": "y", "type": "BYTES"},
            {"name": "ts", "type": "TIMESTAMP"}, {"name": "dt", "type": "DATETIME"}, {"name": "v", "type": "INTERVAL"},
            {"name": "f", "type": "FLOAT64"}, {"name": "n", "type": "NUMERIC"}, {"name": "s", "type": "STRUCT", "mode": "REPEATED",
                "fields": [{"name": "a", "type": "STRING", "mode": "REPEATED"}, {"name": "j", "type": "JSON"}]},
        ]))
        .expect("valid");
        let objects = [
            json!({"i": "9007199254740993", "j": {"k": [1, null]}, "y": "aGk=", "ts": "2024-01-02T03:04:05.5Z",
                "dt": "2024-01-02T03:04:05", "v": "1-2 3 4:5:6", "f": "-Infinity", "n": "-1.5", "s": [{"a": ["x"], "j": "t"}, {}]}),
            json!({}),
        ];
        let written = from_objects(&schema, &objects).expect("reads");
        let mut lines = JsonWriter::new(Vec::new(), schema.to_arrow());
        lines.write(&written).expect("writes");
        let lines = lines.finish().expect("writes");
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let objects: Vec<Value> = lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect();
        assert_eq!(from_objects(&schema, &objects).expect("reads"), written);
        assert_eq!(objects[0]["j"], json!({"k": [1, null]}));
    }
}
