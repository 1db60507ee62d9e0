//! Times that formats have as numbers, in microseconds.

use longshore_files::values::calendar;

/// What becomes of a time that is finer than a microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finer {
    /// It is refused.
    Refuse,
    /// It is cut to the microsecond before it.
    Truncate,
}

/// A number of units, `per_second` to a second, as microseconds.
pub(crate) fn scaled(time: i64, per_second: i64, finer: Finer) -> Result<i64, String> {
    if per_second <= 1_000_000 {
        return time.checked_mul(1_000_000 / per_second).ok_or_else(|| format!("{time} is no time"));
    }
    cut(time, per_second / 1_000_000, finer)
}

/// A number of units, `each` to a microsecond, as microseconds.
fn cut(time: i64, each: i64, finer: Finer) -> Result<i64, String> {
    match finer {
        Finer::Refuse if time.rem_euclid(each) != 0 => Err(format!(
            "the time is finer than a microsecond, the finest that a table holds ({} ns beyond it); cut such times with \
             `truncate_nanoseconds: true`",
            time.rem_euclid(each) * 1000 / each
        )),
        _ => Ok(time.div_euclid(each)),
    }
}

/// Seconds and nanoseconds as microseconds.
pub(crate) fn of_parts(seconds: i64, nanos: i64, finer: Finer) -> Result<i64, String> {
    let micros = cut(nanos, 1000, finer)?;
    seconds
        .checked_mul(1_000_000)
        .and_then(|micros_| micros_.checked_add(micros))
        .ok_or_else(|| format!("{seconds} s is no time"))
}

/// Checks a time of day.
pub(crate) fn time(micros: i64) -> Result<i64, String> {
    if (0..calendar::MICROS_PER_DAY).contains(&micros) { Ok(micros) } else { Err(format!("{micros} us is no time of a day")) }
}

/// Checks a moment.
pub(crate) fn moment(micros: i64) -> Result<i64, String> {
    if calendar::is_moment(micros) { Ok(micros) } else { Err(format!("{micros} us from 1970 is not within the years 1 to 9999")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_scaled_exactly_or_refused() {
        assert_eq!(scaled(-1, 1000, Finer::Refuse), Ok(-1000));
        assert_eq!(scaled(i64::MAX, 1_000_000, Finer::Refuse), Ok(i64::MAX));
        assert!(scaled(i64::MAX, 1000, Finer::Refuse).is_err());
        assert_eq!(scaled(-2000, 1_000_000_000, Finer::Refuse), Ok(-2));
        assert!(scaled(-1999, 1_000_000_000, Finer::Refuse).expect_err("finer").contains("1 ns"));
        assert_eq!(scaled(-1999, 1_000_000_000, Finer::Truncate), Ok(-2), "what comes before stays before");
        assert_eq!(of_parts(-1, 999_999_000, Finer::Refuse), Ok(-1));
        assert_eq!(of_parts(1, 999, Finer::Truncate), Ok(1_000_000));
        assert!(time(86_400_000_000).is_err() && time(-1).is_err() && time(0).is_ok());
        assert!(moment(253_402_300_800_000_000).is_err() && moment(-62_135_596_800_000_000).is_ok());
    }
}
