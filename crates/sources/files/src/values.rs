//! Texts to typed values, exactly: a text either has a value of the type that is the very one it writes, or none.
//!
//! [`classify`] says which types a text could have; the functions named after types convert. Nothing here rounds: a decimal with
//! too many digits, an integer that a double cannot hold or a day that does not exist has no value.

pub mod calendar;
pub mod decimal;

use decimal::{Decimal, Number};

use crate::tape::Value;

/// What has been seen of a value: one bit per kind. Joining is `|`.
pub mod kind {
    /// A null, or nothing.
    pub const NULL: u32 = 1;
    /// An empty text, whose type its neighbours decide.
    pub const EMPTY: u32 = 1 << 1;
    /// `true` or `false`.
    pub const BOOL: u32 = 1 << 2;
    /// An integer within 2^53, which a double holds exactly.
    pub const INT_SMALL: u32 = 1 << 3;
    /// Any other 64-bit integer.
    pub const INT: u32 = 1 << 4;
    /// A larger integer or a plain decimal that NUMERIC holds.
    pub const NUMERIC: u32 = 1 << 5;
    /// One that only BIGNUMERIC holds.
    pub const BIGNUMERIC: u32 = 1 << 6;
    /// A number that a double holds: with an exponent, or in JSON with a fraction.
    pub const FLOAT: u32 = 1 << 7;
    /// A calendar day.
    pub const DATE: u32 = 1 << 8;
    /// A time of day.
    pub const TIME: u32 = 1 << 9;
    /// Day and time without a zone.
    pub const DATETIME: u32 = 1 << 10;
    /// Day and time with a zone.
    pub const TIMESTAMP: u32 = 1 << 11;
    /// Anything else that is text.
    pub const STRING: u32 = 1 << 12;
    /// An object.
    pub const OBJECT: u32 = 1 << 13;
    /// An array.
    pub const ARRAY: u32 = 1 << 14;
    /// A scalar that a format wrote as typed (a JSON number, string or literal), not as open text.
    pub const TYPED: u32 = 1 << 15;
    /// Bytes.
    pub const BYTES: u32 = 1 << 16;

    /// All that are scalars with a value.
    pub const SCALAR: u32 =
        BOOL | INT_SMALL | INT | NUMERIC | BIGNUMERIC | FLOAT | DATE | TIME | DATETIME | TIMESTAMP | STRING | BYTES;
}

/// The kind of an open text (CSV, XML).
pub fn classify(text: &str) -> u32 {
    let bytes = text.as_bytes();
    match bytes.first() {
        None => kind::EMPTY,
        Some(b'0'..=b'9' | b'-') => match classify_number(text, false) {
            kind::STRING => classify_moment(bytes),
            number => number,
        },
        Some(b't' | b'f') if boolean(text).is_some() => kind::BOOL,
        Some(_) => kind::STRING,
    }
}

/// The kind of a JSON string: only days and times are looked for.
pub fn classify_string(text: &str) -> u32 {
    match text.as_bytes() {
        bytes @ [b'0'..=b'9', ..] => classify_moment(bytes),
        _ => kind::STRING,
    }
}

/// The kind of a JSON number.
pub fn classify_json_number(text: &str) -> u32 {
    classify_number(text, true)
}

/// The kind of a value that its format has as such.
pub fn classify_typed(value: Value) -> u32 {
    match value {
        Value::Int(int) if int.unsigned_abs() <= 1 << 53 => kind::INT_SMALL,
        Value::Int(_) => kind::INT,
        Value::Double(_) => kind::FLOAT,
        Value::Date(_) => kind::DATE,
        Value::Time(_) => kind::TIME,
        Value::DateTime(_) => kind::DATETIME,
        Value::Timestamp(_) => kind::TIMESTAMP,
    }
}

fn classify_moment(bytes: &[u8]) -> u32 {
    match calendar::moment(bytes) {
        None => kind::STRING,
        Some(calendar::Moment::Date(_)) => kind::DATE,
        Some(calendar::Moment::Time(_)) => kind::TIME,
        Some(calendar::Moment::DateTime(_)) => kind::DATETIME,
        Some(calendar::Moment::Timestamp(_)) => kind::TIMESTAMP,
    }
}

fn classify_number(text: &str, json: bool) -> u32 {
    let bytes = text.as_bytes();
    // Most numbers are short integers.
    if bytes.len() <= 15 && bytes[0] != b'0' && bytes.iter().all(u8::is_ascii_digit) {
        return kind::INT_SMALL;
    }
    let Some(number) = Number::scan(bytes) else { return kind::STRING };
    let negative_zero = number.negative && number.significant == 0;
    if number.exponent || (json && (number.fraction || negative_zero)) {
        return if double(text, &number, json).is_some() { kind::FLOAT } else { kind::STRING };
    }
    if negative_zero {
        return kind::STRING;
    }
    if !number.fraction && number.integer_digits <= 19 {
        match text.parse::<i64>() {
            Ok(int) if int.unsigned_abs() <= 1 << 53 => return kind::INT_SMALL,
            Ok(_) => return kind::INT,
            Err(_) => {}
        }
    }
    if number.integer_digits <= decimal::NUMERIC_INTEGER_DIGITS && number.fraction_digits <= decimal::NUMERIC_SCALE {
        kind::NUMERIC
    } else if Decimal::parse(text).and_then(|d| d.to_bignumeric()).is_some() {
        kind::BIGNUMERIC
    } else {
        kind::STRING
    }
}

/// `true` or `false`, nothing else.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// A 64-bit integer in canonical form: `-12`, `0`, not `007`, `+5`, `-0`.
pub fn int64(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, bytes),
    };
    if digits.is_empty() || (digits[0] == b'0' && (digits.len() > 1 || negative)) {
        return None;
    }
    if digits.len() > 18 {
        return if digits.iter().all(u8::is_ascii_digit) { text.parse().ok() } else { None };
    }
    let mut value = 0i64;
    for &digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(if negative { -value } else { value })
}

/// The integer that a JSON number is, however it is written: `1.0` and `1e3` are integers.
pub fn int64_of_number(text: &str) -> Option<i64> {
    int64(text).or_else(|| Decimal::parse(text)?.to_i64())
}

/// The double that a number's text writes, exactly: an integer within a double's reach, else by [`double`]. `NaN`, `Infinity`, `INF` and
/// `-Infinity`, `-INF` are doubles too.
pub fn float64(text: &str) -> Option<f64> {
    match text {
        "NaN" => return Some(f64::NAN),
        "Infinity" | "INF" => return Some(f64::INFINITY),
        "-Infinity" | "-INF" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    let number = Number::scan(text.as_bytes())?;
    double(text, &number, true)
}

/// The double of a number's text, if it is finite and the same number: at most 15 significant digits always are, more are if
/// they are the shortest that tell this double from its neighbours.
///
/// With `as_written`, digits beyond the shortest also pass if this double written with as many digits gives them:
/// `0.10000000000000001` is how many programs write the double 0.1, while `0.12345678901234567891` is the text of no double.
pub fn double(text: &str, number: &Number, as_written: bool) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    if !value.is_finite() {
        return None;
    }
    // Below the normal range doubles have fewer digits.
    if number.significant == 0 || (number.significant <= 15 && value.abs() >= 1e-290) {
        return Some(value);
    }
    let written = Decimal::parse(text)?;
    let shortest = Decimal::parse(&format!("{value:e}"))?;
    if written == shortest {
        return Some(value);
    }
    // An integer may have any number of digits and still be a double's own value; so may a dyadic fraction.
    let as_many = || Decimal::parse(&format!("{value:.*e}", number.significant.min(1100) - 1));
    (as_written && as_many()? == written).then_some(value)
}

/// Standard base64 with padding.
pub fn base64(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(4) {
        return None;
    }
    let padding = bytes.iter().rev().take(2).take_while(|&&b| b == b'=').count();
    let mut out = Vec::with_capacity(bytes.len() / 4 * 3);
    for (i, group) in bytes.chunks_exact(4).enumerate() {
        let last = (i + 1) * 4 == bytes.len();
        let used = if last { 4 - padding } else { 4 };
        let mut bits = 0u32;
        for (k, &byte) in group.iter().enumerate() {
            bits = bits << 6 | if k < used { u32::from(sextet(byte)?) } else { 0 };
        }
        let triple = bits.to_be_bytes();
        let kept = used - 1;
        // What padding leaves over must be zero, else two texts would be the same bytes.
        if triple[1 + kept..].iter().any(|&b| b != 0) {
            return None;
        }
        out.extend_from_slice(&triple[1..1 + kept]);
    }
    Some(out)
}

fn sextet(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

/// Bytes as standard base64 with padding.
pub fn to_base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, &b| bits << 8 | u32::from(b)) << (8 * (3 - group.len()));
        for k in 0..4 {
            let sextet = (bits >> (18 - 6 * k)) as usize & 63;
            out.push(if k <= group.len() { char::from(ALPHABET[sextet]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn int64_is_only_the_canonical_form() {
        for (text, value) in [("0", 0), ("-12", -12), ("9223372036854775807", i64::MAX), ("-9223372036854775808", i64::MIN)] {
            assert_eq!(int64(text), Some(value), "{text}");
        }
        for text in ["007", "+5", "-0", "", "-", "1.0", "1e3", " 1", "1 ", "9223372036854775808", "12a", "00"] {
            assert_eq!(int64(text), None, "{text}");
        }
    }

    #[test]
    fn texts_are_classified_by_what_they_write() {
        for (text, expected) in [
            ("", kind::EMPTY),
            ("true", kind::BOOL),
            ("True", kind::STRING),
            ("TRUE", kind::STRING),
            ("1", kind::INT_SMALL),
            ("0", kind::INT_SMALL),
            ("-7", kind::INT_SMALL),
            ("007", kind::STRING),
            ("+5", kind::STRING),
            ("-0", kind::STRING),
            ("-0.0", kind::STRING),
            ("9007199254740992", kind::INT_SMALL),
            ("9007199254740993", kind::INT),
            ("-9223372036854775808", kind::INT),
            ("9223372036854775808", kind::NUMERIC),
            ("99999999999999999999999999999", kind::NUMERIC),
            ("100000000000000000000000000000", kind::BIGNUMERIC),
            ("12.50", kind::NUMERIC),
            ("0.123456789", kind::NUMERIC),
            ("0.1234567890", kind::NUMERIC),
            ("0.1234567891", kind::BIGNUMERIC),
            ("0.12345678901234567890123456789012345678", kind::BIGNUMERIC),
            ("0.123456789012345678901234567890123456789", kind::STRING),
            ("578960446186580977117854925043439539266", kind::BIGNUMERIC),
            ("578960446186580977117854925043439539267", kind::STRING),
            ("01.5", kind::STRING),
            (".5", kind::STRING),
            ("5.", kind::STRING),
            ("1e3", kind::FLOAT),
            ("-1.5E-7", kind::FLOAT),
            ("1e400", kind::STRING),
            ("1e-400", kind::STRING),
            ("1.2345678901234567891e3", kind::STRING),
            ("NaN", kind::STRING),
            ("2024-02-29", kind::DATE),
            ("2023-02-29", kind::STRING),
            ("12:30:00", kind::TIME),
            ("12:30", kind::STRING),
            ("2024-01-01T00:00:00", kind::DATETIME),
            ("2024-01-01 00:00:00.5", kind::DATETIME),
            ("2024-01-01T00:00:00Z", kind::TIMESTAMP),
            ("2024-01-01 00:00:00+02:00", kind::TIMESTAMP),
            ("abc", kind::STRING),
            ("-", kind::STRING),
        ] {
            assert_eq!(classify(text), expected, "{text}");
        }
    }

    #[test]
    fn json_numbers_with_a_fraction_are_doubles_only_if_that_changes_nothing() {
        for (text, expected) in [
            ("1", kind::INT_SMALL),
            ("-0", kind::FLOAT),
            ("1.5", kind::FLOAT),
            ("1e3", kind::FLOAT),
            ("0.1", kind::FLOAT),
            ("0.30000000000000004", kind::FLOAT),
            ("0.10000000000000001", kind::FLOAT),
            ("0.1000000000000000055511151231257827", kind::FLOAT),
            ("0.12345678901234567891", kind::STRING),
            ("1e400", kind::STRING),
            ("123456789012345678901234567890", kind::BIGNUMERIC),
        ] {
            assert_eq!(classify_json_number(text), expected, "{text}");
        }
    }

    #[test]
    fn json_strings_are_days_and_times_but_never_numbers() {
        assert_eq!(classify_string("12"), kind::STRING);
        assert_eq!(classify_string("true"), kind::STRING);
        assert_eq!(classify_string(""), kind::STRING);
        assert_eq!(classify_string("2024-01-31"), kind::DATE);
        assert_eq!(classify_string("2024-01-31T10:00:00Z"), kind::TIMESTAMP);
    }

    #[test]
    fn doubles_are_taken_only_where_exact() {
        assert_eq!(float64("9007199254740992"), Some(9_007_199_254_740_992.0));
        assert_eq!(float64("9007199254740993"), None);
        assert_eq!(float64("1152921504606846976"), Some(1_152_921_504_606_846_976.0));
        assert_eq!(float64("5e-324"), Some(5e-324));
        assert_eq!(float64("-Infinity"), Some(f64::NEG_INFINITY));
        assert!(float64("NaN").is_some_and(f64::is_nan));
        assert_eq!(float64("abc"), None);
        assert_eq!(float64("inf"), None);
        assert!(float64("-0.0").is_some_and(|v| v == 0.0 && v.is_sign_negative()));
    }

    #[test]
    fn base64_is_standard_and_padded() {
        for bytes in [&b""[..], b"f", b"fo", b"foo", b"foob", &[0, 255, 254]] {
            assert_eq!(base64(&to_base64(bytes)).as_deref(), Some(bytes));
        }
        assert_eq!(to_base64(b"foob"), "Zm9vYg==");
        for text in ["Zg", "Zg=", "Zh==", "Z===", "====", "Zm9v\n", "Zg==Zg==", "_-==", "Z=9v"] {
            assert_eq!(base64(text), None, "{text}");
        }
    }
}
