//! Amounts as people write and read them.

use std::time::Duration;

pub use longshore_core::show::bytes as show_bytes;

/// Reads a number of bytes: `256MiB`, `1GB`, `65536`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err("bytes are written like 256MiB, 1GB or 65536".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "bytes are written like 256MiB, 1GB or 65536".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "that is more bytes than there are".to_owned())
}

/// As [`bytes`], for a run's memory: less than 16 MiB would not hold a block of a file and its columns.
pub fn memory(text: &str) -> Result<u64, String> {
    let bytes = bytes(text)?;
    if bytes < 16 << 20 {
        return Err("a run needs at least 16MiB".to_owned());
    }
    Ok(bytes)
}

/// Reads a duration: `60s`, `5m`, `500ms`, `1h`, or seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let wrong = || "a duration is written like 60s, 5m, 500ms or 1h".to_owned();
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs).ok_or_else(wrong);
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "" | "s" => seconds(1),
        "m" | "min" => seconds(60),
        "h" => seconds(3600),
        _ => Err(wrong()),
    }
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

/// A number for people: `1,234,567`.
pub fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 row`, `2 rows`.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", show_count(number), if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_durations_are_read_with_their_units() {
        assert_eq!(bytes("256MiB"), Ok(256 << 20));
        assert_eq!(bytes("1 GB"), Ok(1_000_000_000));
        assert_eq!(bytes("12"), Ok(12));
        assert!(bytes("12 parsecs").is_err() && bytes("").is_err() && bytes("99999999999GiB").is_err());
        assert!(memory("1MiB").is_err());
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        assert!(duration("-1s").is_err() && duration("soon").is_err());
    }

    #[test]
    fn amounts_are_shown_as_people_write_them() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(show_count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([12, 2048, 5 << 30].map(show_bytes), ["12 B", "2.0 KiB", "5.0 GiB"]);
        assert_eq!(count(1, "row", "rows"), "1 row");
    }
}
