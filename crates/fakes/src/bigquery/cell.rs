//! One value of a table, and the limits of each type.
//!
//! Whatever way a row comes in (JSON, Arrow, proto, Parquet), it becomes cells first, in the order of the table's columns;
//! whatever way it goes out, it is read from them.

use arrow::datatypes::i256;
use longshore_core::schema::{Field, Mode, Type};
use serde_json::Value;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// STRING, and the canonical text of BIGNUMERIC, TIME, JSON, GEOGRAPHY and INTERVAL.
    Text(String),
    Bytes(Vec<u8>),
    /// NUMERIC, times 10^9.
    Numeric(i128),
    /// TIMESTAMP and DATETIME: microseconds since 1970.
    Micros(i64),
    /// DATE: days since 1970.
    Days(i32),
    List(Vec<Cell>),
    Struct(Vec<Cell>),
}

/// A row: a cell for each column.
pub(crate) type Row = Vec<Cell>;

/// The largest NUMERIC, times 10^9.
const NUMERIC_MAX: i128 = 99_999_999_999_999_999_999_999_999_999_999_999_999;
/// 0001-01-01 and 9999-12-31 in days since 1970.
const DAY_MIN: i64 = -719_162;
const DAY_MAX: i64 = 2_932_896;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The cell of a column that a row does not name.
pub(crate) fn missing(field: &Field) -> Result<Cell, String> {
    match field.mode {
        Mode::Nullable => Ok(Cell::Null),
        Mode::Repeated => Ok(Cell::List(Vec::new())),
        Mode::Required => Err(format!("Missing required field: {}.", field.name)),
    }
}

/// Whether a value fits its column: its range, its length, its precision.
pub(crate) fn check(field: &Field, cell: &Cell) -> Result<(), String> {
    match (cell, field.mode) {
        (Cell::Null, Mode::Required) => Err(format!("Field {} is required but has no value.", field.name)),
        (Cell::Null, Mode::Repeated) => Err(format!("Field {} is repeated but has no list.", field.name)),
        (Cell::Null, Mode::Nullable) => Ok(()),
        (Cell::List(cells), Mode::Repeated) => {
            cells.iter().try_for_each(|cell| check_value(field, cell)).map_err(|why| format!("Field {}: {why}", field.name))
        }
        (cell, _) => check_value(field, cell).map_err(|why| format!("Field {}: {why}", field.name)),
    }
}

/// A numeric attribute of a column.
pub(crate) fn option(field: &Field, name: &str) -> Option<i64> {
    match field.options.get(name)? {
        Value::String(text) => text.parse().ok(),
        other => other.as_i64(),
    }
}

fn check_value(field: &Field, cell: &Cell) -> Result<(), String> {
    let max_length = |length: usize| match option(field, "maxLength") {
        Some(max) if length as i64 > max => Err(format!("maximum length {max} exceeded: {length}")),
        _ => Ok(()),
    };
    match (&field.type_, cell) {
        (_, Cell::Null) => Err("array element is NULL".into()),
        (Type::String, Cell::Text(text)) => max_length(text.chars().count()),
        (Type::Bytes, Cell::Bytes(bytes)) => max_length(bytes.len()),
        (Type::Numeric, Cell::Numeric(value)) => {
            if value.abs() > NUMERIC_MAX {
                return Err("NUMERIC out of range".into());
            }
            check_precision(field, &decimal_text(&value.to_string(), 9))
        }
        (Type::BigNumeric, Cell::Text(text)) => check_precision(field, text),
        (Type::Timestamp | Type::DateTime, Cell::Micros(micros)) => {
            let in_range = (DAY_MIN..=DAY_MAX).contains(&micros.div_euclid(MICROS_PER_DAY));
            if in_range { Ok(()) } else { Err(format!("{} out of range: {micros}", field.type_.name())) }
        }
        (Type::Date, Cell::Days(days)) => {
            let in_range = (DAY_MIN..=DAY_MAX).contains(&i64::from(*days));
            if in_range { Ok(()) } else { Err(format!("DATE out of range: {days}")) }
        }
        (Type::Struct(fields), Cell::Struct(cells)) => fields.iter().zip(cells).try_for_each(|(field, cell)| check(field, cell)),
        (Type::Json, Cell::Text(text)) => {
            serde_json::from_str::<serde::de::IgnoredAny>(text).map(|_| ()).map_err(|e| format!("invalid JSON: {e}"))
        }
        _ => Ok(()),
    }
}

fn check_precision(field: &Field, text: &str) -> Result<(), String> {
    let Some(precision) = option(field, "precision") else { return Ok(()) };
    let scale = option(field, "scale").unwrap_or(0);
    let (whole, fraction) = text.trim_start_matches('-').split_once('.').unwrap_or((text.trim_start_matches('-'), ""));
    let digits = whole.trim_start_matches('0').len() as i64;
    if fraction.len() as i64 > scale || digits > precision - scale {
        return Err(format!("{text} does not fit {}({precision}, {scale})", field.type_.name()));
    }
    Ok(())
}

/// A decimal as text, without trailing zeros: `digits` is the unscaled integer.
pub(crate) fn decimal_text(digits: &str, scale: usize) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    let fraction = fraction.trim_end_matches('0');
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        rest => rest,
    };
    match fraction {
        "" if whole == "0" => "0".into(),
        "" => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{fraction}"),
    }
}

/// Reads a decimal, with or without an exponent: sign, digits and how many of them stand after the point.
fn decimal_parts(text: &str) -> Option<(bool, String, i32)> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.as_bytes().first()? {
        b'-' => (true, &mantissa[1..]),
        b'+' => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut scale = fraction.len() as i32 - exponent;
    while scale > 0 && digits.len() > 1 && digits.ends_with('0') {
        digits.pop();
        scale -= 1;
    }
    if scale < 0 {
        digits.extend(std::iter::repeat_n('0', scale.unsigned_abs() as usize));
        scale = 0;
    }
    let digits = digits.trim_start_matches('0').to_owned();
    Some((negative, if digits.is_empty() { "0".into() } else { digits }, scale))
}

/// Reads a NUMERIC; digits that it cannot hold are refused, not rounded.
pub(crate) fn numeric(text: &str) -> Result<Cell, String> {
    let invalid = || format!("Invalid NUMERIC value: {text}");
    let (negative, digits, scale) = decimal_parts(text.trim()).ok_or_else(invalid)?;
    if scale > 9 && digits != "0" {
        return Err(invalid());
    }
    let padding = "0".repeat(9 - scale.clamp(0, 9) as usize);
    let value: i128 = format!("{digits}{padding}").parse().map_err(|_| invalid())?;
    if value > NUMERIC_MAX {
        return Err(invalid());
    }
    Ok(Cell::Numeric(if negative { -value } else { value }))
}

/// Reads a BIGNUMERIC into its canonical text.
pub(crate) fn big_numeric(text: &str) -> Result<Cell, String> {
    let invalid = || format!("Invalid BIGNUMERIC value: {text}");
    let (negative, digits, scale) = decimal_parts(text.trim()).ok_or_else(invalid)?;
    if digits == "0" {
        return Ok(Cell::Text("0".into()));
    }
    if scale > 38 {
        return Err(invalid());
    }
    // What it holds is a 256-bit integer times 10^-38.
    let unscaled = format!("{digits}{}", "0".repeat(38 - scale as usize));
    let lowest = || negative && format!("-{unscaled}") == i256::MIN.to_string();
    if unscaled.len() > 77 || (i256::from_string(&unscaled).is_none() && !lowest()) {
        return Err(invalid());
    }
    let text = decimal_text(&digits, scale as usize);
    Ok(Cell::Text(if negative { format!("-{text}") } else { text }))
}

/// Reads digits after a point as microseconds; a seventh digit must be zero.
fn micros_of_fraction(fraction: &str) -> Option<i64> {
    let (kept, rest) = fraction.split_at(fraction.len().min(6));
    if fraction.is_empty() || rest.bytes().any(|b| b != b'0') {
        return None;
    }
    format!("{kept:0<6}").parse().ok()
}

/// Reads `YYYY-MM-DD` as days since 1970.
fn days(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 || month.len() > 2 || day.len() > 2 {
        return None;
    }
    let date = chrono::NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)?;
    Some((date - chrono::NaiveDate::default()).num_days())
}

/// Reads `HH:MM:SS[.F]` as microseconds since midnight.
fn time_of_day(text: &str) -> Option<i64> {
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, micros_of_fraction(fraction)?),
        None => (text, 0),
    };
    let mut parts = clock.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let valid = parts.next().is_none() && (0..24).contains(&hour) && (0..60).contains(&minute) && (0..60).contains(&second);
    valid.then_some(((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction)
}

/// Reads a DATE.
pub(crate) fn date(text: &str) -> Result<Cell, String> {
    let days = days(text.trim()).and_then(|days| i32::try_from(days).ok());
    days.map(Cell::Days).ok_or_else(|| format!("Invalid date: '{text}'"))
}

/// Reads a TIME into its canonical text.
pub(crate) fn time(text: &str) -> Result<Cell, String> {
    let micros = time_of_day(text.trim()).ok_or_else(|| format!("Invalid time string \"{text}\""))?;
    Ok(Cell::Text(time_text(micros)))
}

/// `HH:MM:SS.ffffff`.
pub(crate) fn time_text(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    format!("{:02}:{:02}:{:02}.{:06}", seconds / 3_600, seconds / 60 % 60, seconds % 60, micros % 1_000_000)
}

/// Reads a DATETIME: `YYYY-MM-DD[ T]HH:MM:SS[.F]`, or a day alone.
pub(crate) fn date_time(text: &str) -> Result<Cell, String> {
    let invalid = || format!("Invalid datetime string \"{text}\"");
    let text = text.trim();
    let (day, clock) = text.split_once(['T', 't', ' ']).unwrap_or((text, "00:00:00"));
    let micros = days(day).and_then(|days| Some(days * MICROS_PER_DAY + time_of_day(clock)?));
    micros.map(Cell::Micros).ok_or_else(invalid)
}

/// Reads a TIMESTAMP: a DATETIME with `Z`, `UTC`, an offset, or nothing for UTC.
pub(crate) fn timestamp(text: &str) -> Result<Cell, String> {
    let invalid = |_| format!("Invalid timestamp: '{text}'");
    let trimmed = text.trim();
    let plain = trimmed.strip_suffix("UTC").or_else(|| trimmed.strip_suffix(['Z', 'z'])).unwrap_or(trimmed).trim_end();
    if plain.len() < trimmed.len() {
        return date_time(plain).map_err(invalid);
    }
    // A sign after the day is an offset's.
    let offset_at = plain.rfind(['+', '-']).filter(|at| *at > 10);
    let Some(at) = offset_at else { return date_time(plain).map_err(invalid) };
    let (hours, minutes) = plain[at + 1..].split_once(':').unwrap_or((&plain[at + 1..], "0"));
    let (Ok(hours), Ok(minutes), Cell::Micros(local)) =
        (hours.parse::<i64>(), minutes.parse::<i64>(), date_time(plain[..at].trim_end()).map_err(invalid)?)
    else {
        return Err(invalid(String::new()));
    };
    let offset = (hours * 60 + minutes) * 60_000_000;
    Ok(Cell::Micros(if plain.as_bytes()[at] == b'-' { local + offset } else { local - offset }))
}

/// Reads an INTERVAL in its canonical form, `Y-M D H:M:S[.F]`.
pub(crate) fn interval(text: &str) -> Result<Cell, String> {
    let parts = || -> Option<(i64, i64, i64)> {
        let mut words = text.split_whitespace();
        let (months, days, clock) = (words.next()?, words.next()?, words.next()?);
        let (sign, months) = months.strip_prefix('-').map_or((1, months), |rest| (-1, rest));
        let (years, months) = months.split_once('-')?;
        let months = sign * (years.parse::<i64>().ok()? * 12 + months.parse::<i64>().ok()?);
        let (sign, clock) = clock.strip_prefix('-').map_or((1, clock), |rest| (-1, rest));
        let (clock, fraction) = match clock.split_once('.') {
            Some((clock, fraction)) => (clock, micros_of_fraction(fraction)?),
            None => (clock, 0),
        };
        let mut units = clock.split(':').map(|unit| unit.parse::<i64>().ok());
        let seconds = (units.next()?? * 60 + units.next()??) * 60 + units.next()??;
        (words.next().is_none() && units.next().is_none()).then_some(())?;
        Some((months, days.parse().ok()?, sign * (seconds * 1_000_000 + fraction)))
    };
    let (months, days, micros) = parts().ok_or_else(|| format!("Invalid interval: {text}"))?;
    Ok(Cell::Text(interval_text(months, days, micros)))
}

/// `Y-M D H:M:S[.F]`, each part with its own sign.
pub(crate) fn interval_text(months: i64, days: i64, micros: i64) -> String {
    let sign = |value: i64| if value < 0 { "-" } else { "" };
    let (seconds, rest) = (micros.abs() / 1_000_000, micros.abs() % 1_000_000);
    let fraction = match rest {
        0 => String::new(),
        rest if rest % 1_000 == 0 => format!(".{:03}", rest / 1_000),
        rest => format!(".{rest:06}"),
    };
    let (years, clock) = (format!("{}{}-{}", sign(months), months.abs() / 12, months.abs() % 12), seconds);
    format!("{years} {days} {}{}:{}:{}{fraction}", sign(micros), clock / 3_600, clock / 60 % 60, clock % 60)
}

/// Reads the text of any type that has one, as loads from text and proto strings do.
pub(crate) fn from_text(type_: &Type, text: &str) -> Result<Cell, String> {
    use base64::Engine as _;
    match type_ {
        Type::String => Ok(Cell::Text(text.to_owned())),
        Type::Bytes => {
            let bytes =
                base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| "Could not decode base64 string to bytes.")?;
            Ok(Cell::Bytes(bytes))
        }
        Type::Int64 => {
            text.trim().parse().map(Cell::Int).map_err(|_| format!("Cannot convert value to integer (bad value): {text}"))
        }
        Type::Float64 => match text.trim() {
            "Infinity" | "+Infinity" | "inf" => Ok(Cell::Float(f64::INFINITY)),
            "-Infinity" | "-inf" => Ok(Cell::Float(f64::NEG_INFINITY)),
            other => {
                other.parse().map(Cell::Float).map_err(|_| format!("Cannot convert value to floating point (bad value): {text}"))
            }
        },
        Type::Bool => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Ok(Cell::Bool(true)),
            "false" | "f" | "0" => Ok(Cell::Bool(false)),
            _ => Err(format!("Cannot convert value to boolean (bad value): {text}")),
        },
        Type::Numeric => numeric(text),
        Type::BigNumeric => big_numeric(text),
        Type::Timestamp => timestamp(text),
        Type::DateTime => date_time(text),
        Type::Date => date(text),
        Type::Time => time(text),
        Type::Interval => interval(text),
        Type::Json => json_text(text),
        Type::Geography => geography(text),
        Type::Struct(_) => Err("This field is a record.".into()),
    }
}

/// Reads a JSON document into its compact text.
pub(crate) fn json_text(text: &str) -> Result<Cell, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("Invalid JSON: {e}"))?;
    Ok(Cell::Text(value.to_string()))
}

fn geography(text: &str) -> Result<Cell, String> {
    const SHAPES: [&str; 8] =
        ["POINT", "LINESTRING", "POLYGON", "MULTIPOINT", "MULTILINESTRING", "MULTIPOLYGON", "GEOMETRYCOLLECTION", "FULLGLOBE"];
    let upper = text.trim_start().to_ascii_uppercase();
    if SHAPES.iter().any(|shape| upper.starts_with(shape)) {
        Ok(Cell::Text(text.to_owned()))
    } else {
        Err(format!("Invalid geography: {text}"))
    }
}

/// A value of a type as one of a wider type, where BigQuery lets a column change from the one to the other.
pub(crate) fn wider(type_: &Type, cell: Cell) -> Cell {
    match (type_, cell) {
        (Type::Numeric, Cell::Int(value)) => Cell::Numeric(i128::from(value) * 1_000_000_000),
        (Type::BigNumeric, Cell::Int(value)) => big_numeric(&value.to_string()).unwrap_or(Cell::Null),
        (Type::Float64, Cell::Int(value)) => Cell::Float(value as f64),
        (Type::BigNumeric, Cell::Numeric(value)) => Cell::Text(decimal_text(&value.to_string(), 9)),
        (Type::Float64, Cell::Numeric(value)) => Cell::Float(decimal_text(&value.to_string(), 9).parse().unwrap_or(f64::NAN)),
        (_, cell) => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_the_value_it_says_or_is_refused() {
        let text = |text: &str| Cell::Text(text.to_owned());
        assert_eq!(numeric("-12.50"), Ok(Cell::Numeric(-12_500_000_000)));
        assert_eq!(numeric("1e3"), Ok(Cell::Numeric(1_000_000_000_000)));
        assert!(numeric("0.1234567891").is_err() && numeric("1e29").is_err() && numeric("x").is_err());
        assert_eq!(big_numeric("-001.500"), Ok(text("-1.5")));
        assert!(big_numeric(&"9".repeat(40)).is_err());
        assert_eq!(timestamp("1970-01-02T01:00:00.5+01:00"), Ok(Cell::Micros(86_400_500_000)));
        assert_eq!(timestamp("1970-01-01 00:00:01 UTC"), Ok(Cell::Micros(1_000_000)));
        assert_eq!(date("0001-01-01"), Ok(Cell::Days(-719_162)));
        assert!(date("2023-02-29").is_err() && time("24:00:00").is_err());
        assert_eq!(time("1:2:3.5"), Ok(text("01:02:03.500000")));
        assert_eq!(interval("1-2 3 4:5:6.5"), Ok(text("1-2 3 4:5:6.500")));
    }
}
