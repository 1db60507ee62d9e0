//! Partition values: computed from a batch, written as Delta writes them, and the folders named after them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow::row::{RowConverter, SortField};
use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta};
use longshore_core::Result;

use crate::conform::conform;
use crate::error::{bug, codes, destination, first_line};

/// A partition column and where its values come from.
#[derive(Debug, Clone)]
pub(crate) struct PartitionColumn {
    pub name: String,
    /// The column of the batch.
    pub source: String,
    /// Its type in the table.
    pub data_type: DataType,
    /// Whether it is the UTC day of a timestamp.
    pub day: bool,
}

/// The values of a partition's columns in order, as the log writes them; `None` is null.
pub(crate) type Values = Vec<Option<String>>;

/// Whether values of the type can be written into a partition without loss.
pub(crate) fn can_partition(data_type: &DataType) -> bool {
    use DataType::{Boolean, Date32, Decimal128, Int8, Int16, Int32, Int64, Timestamp, Utf8};
    matches!(data_type, Utf8 | Boolean | Date32 | Decimal128(..) | Int8 | Int16 | Int32 | Int64 | Timestamp(..))
}

/// Cuts a batch into one per partition, in the order in which the partitions come up.
pub(crate) fn split(batch: &RecordBatch, columns: &[PartitionColumn]) -> Result<Vec<(Values, RecordBatch)>> {
    if columns.is_empty() {
        return Ok(vec![(Vec::new(), batch.clone())]);
    }
    let broken = |e: arrow::error::ArrowError| bug("cannot split a batch by partition").caused_by(e);
    let arrays = columns.iter().map(|column| partition_array(batch, column)).collect::<Result<Vec<_>>>()?;
    let fields = arrays.iter().map(|array| SortField::new(array.data_type().clone())).collect();
    let rows = RowConverter::new(fields).and_then(|c| c.convert_columns(&arrays)).map_err(broken)?;
    let mut places: HashMap<&[u8], usize> = HashMap::new();
    let mut groups: Vec<Vec<u32>> = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let group = *places.entry(row.data()).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[group].push(u32::try_from(i).map_err(|_| bug("a batch has more than four thousand million rows"))?);
    }
    groups
        .into_iter()
        .map(|indices| {
            let first = usize::try_from(indices[0]).unwrap_or(usize::MAX);
            let values = columns
                .iter()
                .zip(&arrays)
                .map(|(column, array)| value_text(array, first, &column.name))
                .collect::<Result<Values>>()?;
            let all = indices.len() == batch.num_rows();
            let part = if all { Ok(batch.clone()) } else { take_record_batch(batch, &UInt32Array::from(indices)) };
            Ok((values, part.map_err(broken)?))
        })
        .collect()
}

fn partition_array(batch: &RecordBatch, column: &PartitionColumn) -> Result<ArrayRef> {
    let source = batch
        .column_by_name(&column.source)
        .ok_or_else(|| bug(format!("the batch lacks the partition column {}", column.source)))?;
    if !column.day {
        return conform(source, &column.data_type, &column.name);
    }
    const DAY: i64 = 86_400_000_000;
    let source = source
        .as_primitive_opt::<TimestampMicrosecondType>()
        .ok_or_else(|| bug(format!("the partition column {} is no timestamp", column.source)))?;
    let days: Date32Array = source.iter().map(|micros| micros.and_then(|m| i32::try_from(m.div_euclid(DAY)).ok())).collect();
    Ok(Arc::new(days))
}

/// One value as the log writes it.
fn value_text(array: &ArrayRef, row: usize, column: &str) -> Result<Option<String>> {
    if array.is_null(row) {
        return Ok(None);
    }
    let out_of_range =
        || destination(codes::VALUE_DOES_NOT_FIT, format!("a value of the partition column {column} is out of range"));
    let epoch = NaiveDate::default();
    Ok(Some(match array.data_type() {
        DataType::Utf8 => match array.as_string::<i32>().value(row) {
            // Readers take an empty partition value for NULL.
            "" => {
                return Err(destination(codes::PARTITION, format!("the partition column {column} holds an empty string"))
                    .with_retry(longshore_core::error::Retry::AfterFix)
                    .hint("partition by another column: Delta cannot tell an empty string from NULL there"));
            }
            text => text.to_owned(),
        },
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Date32 => {
            let days = TimeDelta::days(i64::from(array.as_primitive::<Date32Type>().value(row)));
            epoch.checked_add_signed(days).ok_or_else(out_of_range)?.format("%Y-%m-%d").to_string()
        }
        DataType::Timestamp(..) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            let at: NaiveDateTime = DateTime::from_timestamp_micros(micros).ok_or_else(out_of_range)?.naive_utc();
            at.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
        }
        other => return Err(bug(first_line(format!("cannot partition by {other}")))),
    }))
}

/// The folder of a partition below the table, `a=1/b=x/`; empty for a table without partitions. The log holds the values
/// themselves: the name is for people.
pub(crate) fn folder(columns: &[PartitionColumn], values: &Values) -> String {
    columns
        .iter()
        .zip(values)
        .map(|(column, value)| format!("{}={}/", escape(&column.name), escaped_value(value.as_deref())))
        .collect()
}

fn escaped_value(value: Option<&str>) -> String {
    let Some(value) = value else { return "__HIVE_DEFAULT_PARTITION__".to_owned() };
    let escaped = escape(value);
    // File systems take names of 255 bytes.
    if escaped.len() <= 200 {
        escaped
    } else {
        format!("{}-{}", &escape(value)[..60], &blake3::hash(value.as_bytes()).to_hex()[..32])
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => escaped.push(char::from(byte)),
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

/// A path as the log writes it: URL-encoded. Our own names need that for `%` only.
pub(crate) fn log_path(path: &str) -> String {
    path.replace('%', "%25")
}

/// The path that a log entry means.
pub(crate) fn path_of(log_path: &str) -> String {
    let bytes = log_path.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = (bytes[i] == b'%').then(|| bytes.get(i + 1..i + 3)).flatten();
        match hex.and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                i += 3;
            }
            None => {
                decoded.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{StringArray, TimestampMicrosecondArray};

    fn column(name: &str, data_type: DataType, day: bool) -> PartitionColumn {
        PartitionColumn { name: name.into(), source: "c".into(), data_type, day }
    }

    #[test]
    fn a_batch_is_cut_into_one_per_value_and_null_is_a_value() {
        let array: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), Some("a"), None, Some("b")]));
        let batch = RecordBatch::try_from_iter([("c", array)]).expect("batch");
        let parts = split(&batch, &[column("c", DataType::Utf8, false)]).expect("splits");
        let seen: Vec<_> = parts.iter().map(|(values, part)| (values[0].as_deref(), part.num_rows())).collect();
        assert_eq!(seen, [(Some("b"), 2), (Some("a"), 1), (None, 1)]);
    }

    #[test]
    fn the_day_of_a_time_before_1970_is_the_day_it_is_in() {
        let array: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), Some(0), Some(-62_135_596_800_000_000)]));
        let batch = RecordBatch::try_from_iter([("c", array)]).expect("batch");
        let parts = split(&batch, &[column("c_day", DataType::Date32, true)]).expect("splits");
        let days: Vec<_> = parts.iter().filter_map(|(values, _)| values[0].clone()).collect();
        assert_eq!(days, ["1969-12-31", "1970-01-01", "0001-01-01"]);
    }

    #[test]
    fn an_empty_text_is_refused_since_readers_take_it_for_null() {
        let array: ArrayRef = Arc::new(StringArray::from(vec![""]));
        let batch = RecordBatch::try_from_iter([("c", array)]).expect("batch");
        let error = split(&batch, &[column("c", DataType::Utf8, false)]).expect_err("refused");
        assert_eq!(error.code(), "delta_partition");
    }

    #[test]
    fn odd_values_make_tame_folders_whose_log_path_leads_back() {
        let columns = [column("c", DataType::Utf8, false)];
        let name = folder(&columns, &vec![Some("São / 100%".into())]);
        assert_eq!(name, "c=S%C3%A3o%20%2F%20100%25/");
        assert_eq!(path_of(&log_path(&name)), name);
        assert!(folder(&columns, &vec![Some("é".repeat(500))]).len() < 255);
        assert_eq!(folder(&columns, &vec![None]), "c=__HIVE_DEFAULT_PARTITION__/");
    }
}
