//! ISO days and times, years 1 to 9999, at most six digits of a second.

use std::borrow::Cow;
use std::fmt::Write;

const MICROS_PER_SECOND: i64 = 1_000_000;
/// Microseconds of a day.
pub const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
/// 0001-01-01, in days since 1970-01-01.
const FIRST_DAY: i32 = -719_162;
/// 9999-12-31.
const LAST_DAY: i32 = 2_932_896;

/// What a text writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// `2024-01-31`, days since 1970-01-01.
    Date(i32),
    /// `10:30:00.5`, microseconds since midnight.
    Time(i64),
    /// `2024-01-31T10:30:00`, microseconds since 1970-01-01 as if in UTC.
    DateTime(i64),
    /// `2024-01-31T10:30:00+01:00`, microseconds since 1970-01-01 UTC.
    Timestamp(i64),
}

/// Reads any of the four; `T` or one space stands between day and time.
pub fn moment(text: &[u8]) -> Option<Moment> {
    if text.len() < 8 {
        return None;
    }
    if text[2] == b':' {
        return time(text).map(Moment::Time);
    }
    let day = date(text.get(..10)?)?;
    match text.get(10) {
        None => return Some(Moment::Date(day)),
        Some(b'T' | b' ') => {}
        Some(_) => return None,
    }
    let rest = &text[11..];
    let time_end = rest.iter().position(|b| !matches!(b, b'0'..=b'9' | b':' | b'.')).unwrap_or(rest.len());
    let micros = i64::from(day) * MICROS_PER_DAY + time(&rest[..time_end])?;
    if time_end == rest.len() {
        return Some(Moment::DateTime(micros));
    }
    let micros = micros - offset(&rest[time_end..])? * MICROS_PER_SECOND;
    is_moment(micros).then_some(Moment::Timestamp(micros))
}

/// Whether so many days from 1970-01-01 is within the years 1 to 9999.
pub fn is_day(days: i32) -> bool {
    (FIRST_DAY..=LAST_DAY).contains(&days)
}

/// Whether so many microseconds from 1970-01-01 is within the years 1 to 9999.
pub fn is_moment(micros: i64) -> bool {
    let first = i64::from(FIRST_DAY) * MICROS_PER_DAY;
    let end = (i64::from(LAST_DAY) + 1) * MICROS_PER_DAY;
    (first..end).contains(&micros)
}

/// `YYYY-MM-DD`: days since 1970-01-01. Only days that exist.
pub fn date(text: &[u8]) -> Option<i32> {
    if text.len() != 10 || text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let year = two(text, 0)? * 100 + two(text, 2)?;
    let (month, day) = (two(text, 5)?, two(text, 8)?);
    if year == 0 || month == 0 || month > 12 || day == 0 || day > days_in(year, month) {
        return None;
    }
    Some(days_from_civil(year as i32, month as i32, day as i32))
}

/// `HH:MM:SS` with up to six more digits: microseconds since midnight.
pub fn time(text: &[u8]) -> Option<i64> {
    if text.len() < 8 || text[2] != b':' || text[5] != b':' {
        return None;
    }
    let (hour, minute, second) = (two(text, 0)?, two(text, 3)?, two(text, 6)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut micros = i64::from(hour * 3600 + minute * 60 + second) * MICROS_PER_SECOND;
    if let Some((point, digits)) = text[8..].split_first() {
        if *point != b'.' || digits.is_empty() || digits.len() > 6 {
            return None;
        }
        let mut weight = 100_000;
        for digit in digits {
            if !digit.is_ascii_digit() {
                return None;
            }
            micros += i64::from(digit - b'0') * weight;
            weight /= 10;
        }
    }
    Some(micros)
}

/// A text without the digits that follow the sixth behind its point: those of a time are finer than a microsecond.
pub fn without_nanoseconds(text: &[u8]) -> Cow<'_, [u8]> {
    let Some(point) = text.iter().position(|byte| *byte == b'.') else { return Cow::Borrowed(text) };
    let digits = text[point + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits <= 6 {
        return Cow::Borrowed(text);
    }
    Cow::Owned([&text[..point + 7], &text[point + 1 + digits..]].concat())
}

/// Day and time without a zone; a day alone is its midnight.
pub fn datetime(text: &[u8]) -> Option<i64> {
    match moment(text)? {
        Moment::DateTime(micros) => Some(micros),
        Moment::Date(day) => Some(i64::from(day) * MICROS_PER_DAY),
        Moment::Time(_) | Moment::Timestamp(_) => None,
    }
}

/// Day and time with a zone.
pub fn timestamp(text: &[u8]) -> Option<i64> {
    match moment(text)? {
        Moment::Timestamp(micros) => Some(micros),
        Moment::Date(_) | Moment::Time(_) | Moment::DateTime(_) => None,
    }
}

/// `Z`, `+HH:MM`, `+HHMM` or `+HH`, at most 14 hours: seconds east of UTC.
fn offset(text: &[u8]) -> Option<i64> {
    let (sign, rest) = match text {
        [b'Z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let minutes = match rest.len() {
        2 => 0,
        4 => two(rest, 2)?,
        5 if rest[2] == b':' => two(rest, 3)?,
        _ => return None,
    };
    let hours = two(rest, 0)?;
    if minutes > 59 || hours * 60 + minutes > 14 * 60 {
        return None;
    }
    Some(sign * i64::from(hours * 3600 + minutes * 60))
}

fn two(text: &[u8], at: usize) -> Option<u32> {
    let (tens, ones) = (text.get(at)?.wrapping_sub(b'0'), text.get(at + 1)?.wrapping_sub(b'0'));
    (tens <= 9 && ones <= 9).then_some(u32::from(tens) * 10 + u32::from(ones))
}

fn days_in(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01. Counts years from March, so that the leap day is a year's last.
fn days_from_civil(year: i32, month: i32, day: i32) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

fn civil_from_days(days: i32) -> (i32, i32, i32) {
    // Not after the year looked for, and close to it.
    let mut year = 1970 + if days >= 0 { days / 366 } else { days.div_euclid(365) };
    while days_from_civil(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days_from_civil(year, month + 1, 1) <= days {
        month += 1;
    }
    (year, month, days - days_from_civil(year, month, 1) + 1)
}

/// `YYYY-MM-DD`.
pub fn date_text(days: i32) -> String {
    let (year, month, day) = civil_from_days(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// TIME's canonical text: `HH:MM:SS.ffffff`, always six digits.
pub fn time_text(micros: i64) -> String {
    let mut out = String::with_capacity(15);
    let seconds = micros / MICROS_PER_SECOND;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    write!(out, "{hour:02}:{minute:02}:{second:02}.{:06}", micros % MICROS_PER_SECOND).expect("a String takes all");
    out
}

/// `YYYY-MM-DDTHH:MM:SS.ffffff`.
pub fn datetime_text(micros: i64) -> String {
    let day = micros.div_euclid(MICROS_PER_DAY) as i32;
    format!("{}T{}", date_text(day), time_text(micros.rem_euclid(MICROS_PER_DAY)))
}

/// INTERVAL's canonical text, `Y-M D H:M:S[.F]` with a sign before each part, for a text of that form. Months below 12, minutes and
/// seconds below 60; at most 10,000 years, 3,660,000 days and 87,840,000 hours.
pub fn interval(text: &str) -> Option<String> {
    let mut parts = text.split(' ');
    let (months, days, time) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let (months_sign, months) = sign(months);
    let (year, month) = months.split_once('-')?;
    let (year, month) = (count(year, 10_000)?, count(month, 11)?);
    let (days_sign, days) = sign(days);
    let days = count(days, 3_660_000)?;
    let (time_sign, time) = sign(time);
    let mut clock = time.split(':');
    let (hour, minute, second) = (clock.next()?, clock.next()?, clock.next()?);
    if clock.next().is_some() {
        return None;
    }
    let (second, fraction) = second.split_once('.').map_or((second, None), |(s, f)| (s, Some(f)));
    let fraction = match fraction {
        Some(f) if f.is_empty() || f.len() > 6 || !f.bytes().all(|b| b.is_ascii_digit()) => return None,
        Some(f) => f.trim_end_matches('0'),
        None => "",
    };
    let (hour, minute, second) = (count(hour, 87_840_000)?, count(minute, 59)?, count(second, 59)?);
    let minus = |negative: bool, zero: bool| if negative && !zero { "-" } else { "" };
    let months_sign = minus(months_sign, year == 0 && month == 0);
    let days_sign = minus(days_sign, days == 0);
    let time_sign = minus(time_sign, hour == 0 && minute == 0 && second == 0 && fraction.is_empty());
    let mut out = format!("{months_sign}{year}-{month} {days_sign}{days} {time_sign}{hour}:{minute}:{second}");
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    Some(out)
}

fn sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    }
}

fn count(text: &str, most: u32) -> Option<u32> {
    let digits = !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
    let value = if digits { text.parse().ok()? } else { return None };
    (value <= most).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_the_calendar_comes_back() {
        let mut day = FIRST_DAY;
        while day <= LAST_DAY {
            assert_eq!(date(date_text(day).as_bytes()), Some(day));
            day += 17;
        }
        assert_eq!(date(b"1970-01-01"), Some(0));
        assert_eq!(date(b"0001-01-01"), Some(FIRST_DAY));
        assert_eq!(date(b"9999-12-31"), Some(LAST_DAY));
    }

    #[test]
    fn days_that_do_not_exist_are_none() {
        for text in ["2023-02-29", "2023-02-30", "1900-02-29", "2024-13-01", "2024-00-01", "2024-01-00", "2024-04-31"] {
            assert_eq!(date(text.as_bytes()), None, "{text}");
        }
        for text in ["0000-01-01", "2024-1-1", "20240101", "2024/01/01", "10000-01-01", "-001-01-01"] {
            assert_eq!(moment(text.as_bytes()), None, "{text}");
        }
        assert!(date(b"2000-02-29").is_some());
    }

    #[test]
    fn times_have_at_most_six_digits_of_a_second() {
        assert_eq!(time(b"00:00:00"), Some(0));
        assert_eq!(time(b"23:59:59.999999"), Some(MICROS_PER_DAY - 1));
        assert_eq!(time(b"10:00:00.5"), Some(36_000_500_000));
        for text in ["24:00:00", "10:60:00", "10:00:60", "10:00", "10:00:00.", "10:00:00.1234567", "1:00:00", "10:00:00,5"] {
            assert_eq!(time(text.as_bytes()), None, "{text}");
        }
        assert_eq!(time_text(36_000_500_000), "10:00:00.500000");
    }

    #[test]
    fn digits_beyond_the_microsecond_can_be_cut() {
        for (text, cut) in [
            ("2024-01-01T12:00:00.123456789Z", "2024-01-01T12:00:00.123456Z"),
            ("12:00:00.1234567", "12:00:00.123456"),
            ("12:00:00.123456", "12:00:00.123456"),
            ("12:00:00", "12:00:00"),
        ] {
            assert_eq!(without_nanoseconds(text.as_bytes()).as_ref(), cut.as_bytes());
        }
    }

    #[test]
    fn an_offset_makes_a_timestamp_and_its_absence_a_datetime() {
        let noon = 19_723 * MICROS_PER_DAY + 12 * 3600 * MICROS_PER_SECOND;
        assert_eq!(moment(b"2024-01-01T12:00:00"), Some(Moment::DateTime(noon)));
        assert_eq!(moment(b"2024-01-01 12:00:00"), Some(Moment::DateTime(noon)));
        for text in [
            "2024-01-01T12:00:00Z",
            "2024-01-01 12:00:00.000Z",
            "2024-01-01T14:00:00+02:00",
            "2024-01-01T14:00:00+0200",
            "2024-01-01 14:00:00+02",
            "2024-01-01T06:30:00-05:30",
        ] {
            assert_eq!(moment(text.as_bytes()), Some(Moment::Timestamp(noon)), "{text}");
        }
        for text in ["2024-01-01T12:00:00z", "2024-01-01T12:00:00+15:00", "2024-01-01T12:00:00 Z", "2024-01-01t12:00:00"] {
            assert_eq!(moment(text.as_bytes()), None, "{text}");
        }
        assert_eq!(datetime_text(noon), "2024-01-01T12:00:00.000000");
    }

    #[test]
    fn a_timestamp_outside_the_years_1_to_9999_in_utc_is_none() {
        assert_eq!(moment(b"0001-01-01T00:00:00+01:00"), None);
        assert_eq!(moment(b"9999-12-31T23:59:59-01:00"), None);
        assert!(moment(b"0001-01-01T00:00:00-01:00").is_some());
    }

    #[test]
    fn intervals_are_canonical() {
        assert_eq!(interval("1-2 3 4:5:6.700").as_deref(), Some("1-2 3 4:5:6.7"));
        assert_eq!(interval("-1-02 -3 -04:05:06").as_deref(), Some("-1-2 -3 -4:5:6"));
        assert_eq!(interval("-0-0 -0 -0:0:0.0").as_deref(), Some("0-0 0 0:0:0"));
        for text in ["1-12 0 0:0:0", "1 2 3", "0-0 0 0:60:0", "0-0 0 0:0:0.1234567", "P1Y", "0-0 0 0:0:0 1", "0-0  0:0:0"] {
            assert_eq!(interval(text), None, "{text}");
        }
    }
}
