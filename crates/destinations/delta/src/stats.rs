//! A data file's statistics as the log writes them, taken from what Parquet knows already.

use arrow::datatypes::{DataType, Field};
use chrono::{DateTime, NaiveDate, TimeDelta};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use serde_json::{Map, Value, json};

/// How many columns have statistics; also the table's `delta.dataSkippingNumIndexedCols`. They make the log long.
pub(crate) const INDEXED_COLUMNS: usize = 4;

/// The longest text that stands in statistics.
const LONGEST_TEXT: usize = 64;

/// The statistics of a file with these columns, as JSON text: the number of rows, and null counts, minima and maxima of the
/// first columns. Exact: a bound that Parquet has shortened is left out.
pub(crate) fn of_file(metadata: &ParquetMetaData, columns: &[&Field]) -> String {
    let rows: i64 = metadata.row_groups().iter().map(|group| group.num_rows()).sum();
    let (mut minima, mut maxima, mut nulls) = (Map::new(), Map::new(), Map::new());
    for field in columns.iter().take(INDEXED_COLUMNS).filter(|field| !field.data_type().is_nested()) {
        let Some(statistics) = chunk_statistics(metadata, field.name()) else { continue };
        let counts: Option<Vec<u64>> = statistics.iter().map(|s| s.null_count_opt()).collect();
        if let Some(counts) = counts {
            nulls.insert(field.name().clone(), json!(counts.iter().sum::<u64>()));
        }
        if let Some((min, max)) = bounds(&statistics, field.data_type()) {
            minima.insert(field.name().clone(), min);
            maxima.insert(field.name().clone(), max);
        }
    }
    json!({"numRecords": rows, "minValues": minima, "maxValues": maxima, "nullCount": nulls}).to_string()
}

/// The statistics of a column in every row group; `None` if one has none.
fn chunk_statistics<'a>(metadata: &'a ParquetMetaData, name: &str) -> Option<Vec<&'a Statistics>> {
    metadata
        .row_groups()
        .iter()
        .map(|group| {
            let chunk = group.columns().iter().find(|c| matches!(c.column_path().parts(), [only] if only == name))?;
            chunk.statistics()
        })
        .collect()
}

/// The least and greatest value, if every row group tells both exactly. Floats are left out: Parquet does not count NaN.
fn bounds(statistics: &[&Statistics], data_type: &DataType) -> Option<(Value, Value)> {
    let mut integers: Option<(i64, i64)> = None;
    let mut texts: Option<(String, String)> = None;
    for group in statistics {
        if !group.min_is_exact() || !group.max_is_exact() {
            return None;
        }
        match group {
            Statistics::Int32(s) => widen(&mut integers, i64::from(*s.min_opt()?), i64::from(*s.max_opt()?)),
            Statistics::Int64(s) => widen(&mut integers, *s.min_opt()?, *s.max_opt()?),
            Statistics::ByteArray(s) => {
                let text = |bytes: &parquet::data_type::ByteArray| {
                    std::str::from_utf8(bytes.data()).ok().filter(|text| text.len() <= LONGEST_TEXT).map(str::to_owned)
                };
                widen(&mut texts, text(s.min_opt()?)?, text(s.max_opt()?)?);
            }
            _ => return None,
        }
    }
    match data_type {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => integers.map(|(a, b)| (json!(a), json!(b))),
        DataType::Date32 => integers.and_then(|(a, b)| Some((day(a)?, day(b)?))),
        DataType::Timestamp(_, zone) => integers.and_then(|(a, b)| Some((time(a, zone.is_some())?, time(b, zone.is_some())?))),
        DataType::Utf8 => texts.map(|(a, b)| (json!(a), json!(b))),
        _ => None,
    }
}

fn widen<T: PartialOrd>(bounds: &mut Option<(T, T)>, min: T, max: T) {
    *bounds = Some(match bounds.take() {
        None => (min, max),
        Some((a, b)) => (if min < a { min } else { a }, if max > b { max } else { b }),
    });
}

fn day(days: i64) -> Option<Value> {
    let date = NaiveDate::default().checked_add_signed(TimeDelta::try_days(days)?)?;
    Some(json!(date.format("%Y-%m-%d").to_string()))
}

fn time(micros: i64, zone: bool) -> Option<Value> {
    let format = if zone { "%Y-%m-%dT%H:%M:%S%.6fZ" } else { "%Y-%m-%dT%H:%M:%S%.6f" };
    Some(json!(DateTime::from_timestamp_micros(micros)?.naive_utc().format(format).to_string()))
}
