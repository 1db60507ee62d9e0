//! The text of single values that hold no others.

use std::fmt::Write as _;

const MICROS_PER_DAY: i64 = 86_400_000_000;
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A decimal without an exponent and without trailing zeros: `digits` is the unscaled integer.
pub(super) fn push_decimal(digits: &str, scale: i8, out: &mut String) {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    if digits.bytes().all(|b| b == b'0') {
        out.push('0');
        return;
    }
    out.push_str(sign);
    let Ok(scale) = usize::try_from(scale) else {
        out.push_str(digits);
        out.extend(std::iter::repeat_n('0', usize::from(scale.unsigned_abs())));
        return;
    };
    let point = digits.len().saturating_sub(scale);
    out.push_str(if point == 0 { "0" } else { &digits[..point] });
    let fraction = digits[point..].trim_end_matches('0');
    if !fraction.is_empty() {
        out.push('.');
        out.extend(std::iter::repeat_n('0', scale.saturating_sub(digits.len())));
        out.push_str(fraction);
    }
}

/// A day of the proleptic Gregorian calendar, `0001-01-01`; days count from 1970-01-01.
pub(super) fn push_date(days: i64, out: &mut String) {
    // Eras of 400 years that begin on a first of March, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    // Writing to a String cannot fail, here and below.
    _ = if year < 0 { write!(out, "-{:04}-{month:02}-{day:02}", -year) } else { write!(out, "{year:04}-{month:02}-{day:02}") };
}

/// A time of day in nanoseconds since midnight.
pub(super) fn push_time(nanos: i64, out: &mut String) {
    let seconds = nanos.div_euclid(NANOS_PER_SECOND);
    _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    push_fraction(nanos.rem_euclid(NANOS_PER_SECOND), out);
}

/// A point in time that counts `per_second` units from 1970-01-01T00:00:00.
pub(super) fn push_date_time(value: i64, per_second: i64, out: &mut String) {
    let per_day = per_second * (MICROS_PER_DAY / 1_000_000);
    push_date(value.div_euclid(per_day), out);
    out.push('T');
    push_time(value.rem_euclid(per_day) * (NANOS_PER_SECOND / per_second), out);
}

fn push_fraction(nanos: i64, out: &mut String) {
    _ = if nanos == 0 {
        Ok(())
    } else if nanos % 1_000_000 == 0 {
        write!(out, ".{:03}", nanos / 1_000_000)
    } else if nanos % 1_000 == 0 {
        write!(out, ".{:06}", nanos / 1_000)
    } else {
        write!(out, ".{nanos:09}")
    };
}

/// The text of a text-carried TIME: as [`push_time`] writes it.
pub(super) fn push_time_text(text: &str, out: &mut String) {
    let Some((seconds, fraction)) = text.split_once('.') else {
        out.push_str(text);
        return;
    };
    out.push_str(seconds);
    let kept = fraction.trim_end_matches('0').len();
    let digits = kept.div_ceil(3) * 3;
    if kept > 0 && digits <= fraction.len() {
        out.push('.');
        out.push_str(&fraction[..digits]);
    } else if kept > 0 {
        out.push('.');
        out.push_str(fraction);
    }
}

/// An interval as BigQuery writes it, `Y-M D H:M:S`: each part has its own sign.
pub(super) fn push_interval(months: i64, days: i64, nanos: i128, out: &mut String) {
    let sign = if months < 0 { "-" } else { "" };
    _ = write!(out, "{sign}{}-{} {days} ", months.abs() / 12, months.abs() % 12);
    if nanos < 0 {
        out.push('-');
    }
    let nanos = nanos.unsigned_abs();
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    _ = write!(out, "{}:{}:{}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    // The rest is below one second.
    push_fraction(i64::try_from(rest).unwrap_or_default(), out);
}

/// Base64 with the standard alphabet and padding.
pub(super) fn push_base64(bytes: &[u8], out: &mut String) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.reserve(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0u32, |word, (i, byte)| word | u32::from(*byte) << (16 - 8 * i));
        for i in 0..4 {
            let letter = ALPHABET[(word >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
}

/// The shortest text that reads back as the same double.
pub(super) fn push_float(value: f64, out: &mut String) {
    _ = match value {
        v if v.is_nan() => write!(out, "NaN"),
        v if v.is_infinite() => write!(out, "{}Infinity", if v < 0.0 { "-" } else { "" }),
        v => write!(out, "{v:?}"),
    };
}
