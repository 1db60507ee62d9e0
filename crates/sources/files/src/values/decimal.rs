//! Decimals of any size, exactly.

/// Digits before the point that NUMERIC always has room for.
pub const NUMERIC_INTEGER_DIGITS: usize = 29;
/// Digits behind the point of NUMERIC.
pub const NUMERIC_SCALE: usize = 9;
/// Digits behind the point of BIGNUMERIC.
const BIGNUMERIC_SCALE: i64 = 38;
/// The largest BIGNUMERIC times 10^38, 2^255 - 1. The smallest is one further from zero.
const BIGNUMERIC_MAX: &[u8; 77] = b"57896044618658097711785492504343953926634992332820282019728792003956564819967";
const BIGNUMERIC_MIN: &[u8; 77] = b"57896044618658097711785492504343953926634992332820282019728792003956564819968";

/// The form of a number's text: `-?(0|[1-9][0-9]*)(.[0-9]+)?([eE][+-]?[0-9]+)?`, as JSON has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// Whether it begins with `-`.
    pub negative: bool,
    /// Digits before the point.
    pub integer_digits: usize,
    /// Digits behind the point, zeros at the end not counted.
    pub fraction_digits: usize,
    /// Whether it has a point.
    pub fraction: bool,
    /// Whether it has an exponent.
    pub exponent: bool,
    /// Digits from the first to the last that is not zero; 0 for zero.
    pub significant: usize,
}

impl Number {
    /// Reads the form; `None` if the text is not a number.
    pub fn scan(bytes: &[u8]) -> Option<Self> {
        let negative = bytes.first() == Some(&b'-');
        let start = usize::from(negative);
        let mut at = digits_end(bytes, start);
        let integer = &bytes[start..at];
        if integer.is_empty() || (integer[0] == b'0' && integer.len() > 1) {
            return None;
        }
        let mut fraction: &[u8] = &[];
        let has_fraction = bytes.get(at) == Some(&b'.');
        if has_fraction {
            let end = digits_end(bytes, at + 1);
            fraction = &bytes[at + 1..end];
            if fraction.is_empty() {
                return None;
            }
            at = end;
        }
        let exponent = matches!(bytes.get(at), Some(b'e' | b'E'));
        if exponent {
            let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
            let from = at + 1 + sign;
            at = digits_end(bytes, from);
            if at == from {
                return None;
            }
        }
        if at != bytes.len() {
            return None;
        }
        let fraction_digits = fraction.len() - trailing_zeros(fraction);
        let significant = if fraction_digits > 0 {
            let leading = if integer == b"0" { leading_zeros(fraction) } else { 0 };
            (if integer == b"0" { 0 } else { integer.len() }) + fraction_digits - leading
        } else if integer == b"0" {
            0
        } else {
            integer.len() - trailing_zeros(integer)
        };
        Some(Self { negative, integer_digits: integer.len(), fraction_digits, fraction: has_fraction, exponent, significant })
    }
}

fn digits_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while at < bytes.len() && bytes[at].is_ascii_digit() {
        at += 1;
    }
    at
}

fn leading_zeros(digits: &[u8]) -> usize {
    digits.iter().take_while(|&&d| d == b'0').count()
}

fn trailing_zeros(digits: &[u8]) -> usize {
    digits.iter().rev().take_while(|&&d| d == b'0').count()
}

/// A decimal number: its significant digits as an integer, times a power of ten. Equal numbers are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decimal {
    negative: bool,
    /// Without zeros at either end; empty for zero.
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    /// Reads a number of the form of [`Number`]. Zero loses its sign.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let number = Number::scan(bytes)?;
        let start = usize::from(number.negative);
        let mantissa_end = bytes.iter().position(|b| matches!(b, b'e' | b'E')).unwrap_or(bytes.len());
        let mut exponent: i64 = match bytes.get(mantissa_end + 1..) {
            Some(text) if number.exponent => exponent_of(text),
            _ => 0,
        };
        let mut digits: Vec<u8> = Vec::with_capacity(mantissa_end);
        let mut behind_point = false;
        for &byte in &bytes[start..mantissa_end] {
            match byte {
                b'.' => behind_point = true,
                _ => {
                    digits.push(byte);
                    exponent -= i64::from(behind_point);
                }
            }
        }
        let zeros = trailing_zeros(&digits);
        digits.truncate(digits.len() - zeros);
        exponent += zeros as i64;
        digits.drain(..leading_zeros(&digits));
        if digits.is_empty() {
            return Some(Self { negative: false, digits, exponent: 0 });
        }
        Some(Self { negative: number.negative, digits, exponent })
    }

    /// The integer that it is.
    pub fn to_i64(&self) -> Option<i64> {
        let value = self.scaled(0, 19)?;
        i64::try_from(value).ok()
    }

    /// Times 10^9, if NUMERIC holds it.
    pub fn to_numeric(&self) -> Option<i128> {
        self.scaled(NUMERIC_SCALE as i64, NUMERIC_INTEGER_DIGITS + NUMERIC_SCALE)
    }

    /// The integer that it is times 10^`scale`, if that has at most `digits` digits (at most 38).
    fn scaled(&self, scale: i64, digits: usize) -> Option<i128> {
        let zeros = self.exponent.checked_add(scale)?;
        if zeros < 0 && !self.digits.is_empty() {
            return None;
        }
        let zeros = usize::try_from(zeros).unwrap_or(0);
        if self.digits.len().checked_add(zeros)? > digits && !self.digits.is_empty() {
            return None;
        }
        let mut value = 0i128;
        for &digit in &self.digits {
            value = value * 10 + i128::from(digit - b'0');
        }
        if value != 0 {
            value *= 10i128.pow(zeros as u32);
        }
        Some(if self.negative { -value } else { value })
    }

    /// BIGNUMERIC's canonical text, if BIGNUMERIC holds it: no exponent, no zeros at the end.
    pub fn to_bignumeric(&self) -> Option<String> {
        if self.digits.is_empty() {
            return Some("0".to_owned());
        }
        let zeros = self.exponent.checked_add(BIGNUMERIC_SCALE).filter(|zeros| *zeros >= 0)?;
        let length = self.digits.len().checked_add(usize::try_from(zeros).ok()?)?;
        if length > BIGNUMERIC_MAX.len() {
            return None;
        }
        if length == BIGNUMERIC_MAX.len() {
            let mut scaled = self.digits.clone();
            scaled.resize(length, b'0');
            let limit = if self.negative { BIGNUMERIC_MIN } else { BIGNUMERIC_MAX };
            if scaled.as_slice() > limit.as_slice() {
                return None;
            }
        }
        Some(self.to_plain())
    }

    /// Without an exponent; only for exponents of modest size.
    fn to_plain(&self) -> String {
        let mut out = String::with_capacity(self.digits.len() + 3);
        if self.negative {
            out.push('-');
        }
        let point = self.digits.len() as i64 + self.exponent;
        if point <= 0 {
            out.push_str("0.");
            out.extend(std::iter::repeat_n('0', point.unsigned_abs() as usize));
        }
        for (i, &digit) in self.digits.iter().enumerate() {
            if i > 0 && i as i64 == point {
                out.push('.');
            }
            out.push(char::from(digit));
        }
        out.extend(std::iter::repeat_n('0', usize::try_from(self.exponent).unwrap_or(0)));
        out
    }
}

/// An exponent, held within what any check of range can still tell apart.
fn exponent_of(text: &[u8]) -> i64 {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let value = digits.iter().fold(0i64, |value, &d| (value * 10 + i64::from(d - b'0')).min(1 << 40));
    if negative { -value } else { value }
}

/// A NUMERIC times 10^9: plain decimals and, as exactly, numbers with an exponent.
pub fn numeric(text: &str) -> Option<i128> {
    numeric_short(text.as_bytes()).or_else(|| Decimal::parse(text)?.to_numeric())
}

/// The common case: at most 19 digits and no exponent. `None` says nothing.
fn numeric_short(bytes: &[u8]) -> Option<i128> {
    const POWERS: [u64; 10] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];
    let negative = bytes.first() == Some(&b'-');
    let digits = &bytes[usize::from(negative)..];
    if digits.is_empty() || digits.len() > 19 || (digits[0] == b'0' && digits.len() > 1 && digits[1] != b'.') {
        return None;
    }
    let mut value = 0u64;
    let mut point = None;
    for (i, &byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => value = value * 10 + u64::from(byte - b'0'),
            b'.' if point.is_none() && i > 0 && i + 1 < digits.len() => point = Some(i),
            _ => return None,
        }
    }
    let fraction = point.map_or(0, |i| digits.len() - i - 1);
    if fraction > NUMERIC_SCALE {
        return None;
    }
    let value = i128::from(value) * i128::from(POWERS[NUMERIC_SCALE - fraction]);
    Some(if negative { -value } else { value })
}

/// BIGNUMERIC's canonical text for a number's text.
pub fn bignumeric(text: &str) -> Option<String> {
    Decimal::parse(text)?.to_bignumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_takes_29_digits_before_and_9_behind_the_point() {
        assert_eq!(numeric("12.5"), Some(12_500_000_000));
        assert_eq!(numeric("-0.000000001"), Some(-1));
        assert_eq!(numeric("0.0000000010"), Some(1));
        assert_eq!(numeric("0.0000000001"), None);
        assert_eq!(numeric("99999999999999999999999999999.999999999"), Some(10i128.pow(38) - 1));
        assert_eq!(numeric("100000000000000000000000000000"), None);
        assert_eq!(numeric("1e3"), Some(1_000_000_000_000));
        assert_eq!(numeric("1e-9"), Some(1));
        assert_eq!(numeric("1e-10"), None);
        assert_eq!(numeric("0e99999999999999999999"), Some(0));
        for text in ["", "-", ".", "1.", ".1", "01", "1.2.3", "1e", "+1", "1e+", " 1"] {
            assert_eq!(numeric(text), None, "{text}");
        }
    }

    #[test]
    fn the_short_way_and_the_long_way_agree() {
        for text in ["0", "-1", "12", "1.50", "0.123456789", "123456789.987654321", "0.0", "10", "-10.010"] {
            let short = numeric_short(text.as_bytes());
            assert!(short.is_some(), "{text}");
            assert_eq!(short, Decimal::parse(text).and_then(|d| d.to_numeric()), "{text}");
        }
    }

    #[test]
    fn bignumeric_is_canonical_and_within_its_bounds() {
        assert_eq!(bignumeric("12.50").as_deref(), Some("12.5"));
        assert_eq!(bignumeric("1200").as_deref(), Some("1200"));
        assert_eq!(bignumeric("-0.00120").as_deref(), Some("-0.0012"));
        assert_eq!(bignumeric("0.000").as_deref(), Some("0"));
        assert_eq!(bignumeric("-0").as_deref(), Some("0"));
        assert_eq!(bignumeric("1.5e3").as_deref(), Some("1500"));
        let max = "578960446186580977117854925043439539266.34992332820282019728792003956564819967";
        let min = "-578960446186580977117854925043439539266.34992332820282019728792003956564819968";
        assert_eq!(bignumeric(max).as_deref(), Some(max));
        assert_eq!(bignumeric(min).as_deref(), Some(min));
        assert_eq!(bignumeric(&min[1..]), None);
        assert_eq!(bignumeric("1e39"), None);
        assert_eq!(bignumeric("1e38").map(|t| t.len()), Some(39));
        assert_eq!(bignumeric("1e-38").map(|t| t.len()), Some(40));
        assert_eq!(bignumeric("1e-39"), None);
        assert_eq!(bignumeric("1e99999999999999999999"), None);
    }

    #[test]
    fn significant_digits_are_counted_between_zeros() {
        for (text, count) in [("0", 0), ("0.00", 0), ("1500", 2), ("1500.0", 2), ("1500.01", 6), ("0.0015", 2), ("1e9", 1)] {
            assert_eq!(Number::scan(text.as_bytes()).map(|n| n.significant), Some(count), "{text}");
        }
    }
}
