//! Durations as people write them: `500ms`, `10s`, `5m`, `12h`, `1d`.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    let millis = duration.as_millis() as u64;
    let (unit, size) = UNITS.into_iter().find(|(_, size)| millis >= *size && millis.is_multiple_of(*size)).unwrap_or(("ms", 1));
    serializer.serialize_str(&format!("{}{unit}", millis / size))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(text.trim())
        .ok_or_else(|| D::Error::custom(format!("`{text}` is no duration: it is written like 500ms, 10s, 5m, 12h or 1d")))
}

fn parse(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let size = UNITS.into_iter().find(|(name, _)| *name == unit.trim())?.1;
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(size)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit_and_not_without() {
        for (text, millis) in [("500ms", 500), ("10s", 10_000), ("5 m", 300_000), ("12h", 43_200_000), ("1d", 86_400_000)] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "-1s", "1w", "1.5s", "99999999999999999999d", "999999999999999999d"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
