//! When a pipeline is run: a cron pattern in a time zone.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, TimeDelta, TimeZone as _, Timelike as _, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use longshore_core::Result;
use longshore_core::error::{Error, Kind};

use crate::error::{SCHEDULE_INVALID, TIME_ZONE_UNKNOWN};

/// The longest time that clocks were ever put forward by, with an hour to spare: Samoa left out a day.
const LONGEST_GAP_MINUTES: i64 = 25 * 60;
/// How far back the latest time is looked for, in seconds: most schedules are found in the first steps.
const STEPS_BACK: [i64; 2] = [60, 3600];

/// The times at which a pipeline is run.
///
/// Patterns are read in the time zone's wall clock. Where clocks change, each time of a pattern comes once: one that does not exist at the first
/// moment after the gap (together with others of the gap), one that exists twice the first time. A pattern of every hour goes by time as it
/// passes: it comes in both hours of the same name.
#[derive(Debug, Clone)]
pub struct Schedule {
    cron: Box<Cron>,
    zone: Tz,
    every_hour: bool,
}

impl Schedule {
    /// A pattern of five fields (minute, hour, day of the month, month, day of the week), or six with seconds before them, in a time zone of
    /// IANA's list; UTC if there is none. If both days are restricted, either suffices. Errors: `schedule_invalid`, `time_zone_unknown`.
    pub fn new(cron: &str, zone: Option<&str>) -> Result<Self> {
        let zone = match zone {
            None => Tz::UTC,
            Some(name) => name.parse().map_err(|_| unknown_zone(name))?,
        };
        let invalid = |message: String| {
            Error::new(Kind::Config, SCHEDULE_INVALID, message)
                .hint("five fields: minute, hour, day of the month, month, day of the week; `0 3 * * *` is every night at three")
        };
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(cron).map_err(|e| invalid(format!("`{cron}` is no schedule")).caused_by(e))?;
        let every_hour = (0..24).all(|hour| cron.pattern.hour_match(hour).unwrap_or(false));
        let schedule = Self { cron: Box::new(cron), zone, every_hour };
        match schedule.next(Utc::now()) {
            Some(_) => Ok(schedule),
            None => Err(invalid(format!("no time ever fits `{}`", schedule.cron.pattern.as_str()))),
        }
    }

    /// The first time after this one; `None` if there is none.
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let after = DateTime::from_timestamp(after.timestamp(), 0)?;
        if self.every_hour {
            let next = self.cron.find_next_occurrence(&after.with_timezone(&self.zone), false).ok()?;
            return Some(next.with_timezone(&Utc));
        }
        let mut wall = after.with_timezone(&self.zone).naive_local();
        loop {
            // The pattern is asked in a zone whose clocks never change, and the answer taken for the wall clock's.
            wall = self.cron.find_next_occurrence(&wall.and_utc(), false).ok()?.naive_utc();
            match self.moment(wall)? {
                at if at > after => return Some(at),
                // It came in the first of two hours, or with others of a gap.
                _ => {}
            }
        }
    }

    /// The last time after `after` and not after `until`; `None` if there is none.
    pub fn latest(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let near = STEPS_BACK.map(|seconds| until - TimeDelta::seconds(seconds)).into_iter().filter(|from| *from > after);
        near.chain([after]).find_map(|from| {
            let times = std::iter::successors(self.next(from), |time| self.next(*time));
            times.take_while(|time| *time <= until).last()
        })
    }

    /// When the wall clock shows this for the first time, or, if it never does, the first moment after the gap.
    fn moment(&self, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
        let found = |wall: &NaiveDateTime| match self.zone.from_local_datetime(wall) {
            MappedLocalTime::Single(time) | MappedLocalTime::Ambiguous(time, _) => Some(time.with_timezone(&Utc)),
            MappedLocalTime::None => None,
        };
        found(&wall).or_else(|| {
            // Clocks change at whole minutes.
            let minute = wall.with_second(0)?;
            (1..LONGEST_GAP_MINUTES).find_map(|minutes| found(&(minute + TimeDelta::minutes(minutes))))
        })
    }
}

impl std::fmt::Display for Schedule {
    /// The pattern and its zone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.cron.pattern.as_str(), self.zone.name())
    }
}

fn unknown_zone(name: &str) -> Error {
    let wanted = name.to_ascii_lowercase().replace(' ', "_");
    let near = |zone: &&Tz| {
        let zone = zone.name().to_ascii_lowercase();
        zone == wanted || zone.rsplit('/').next() == Some(wanted.as_str())
    };
    let hint = match TZ_VARIANTS.iter().find(near) {
        Some(zone) => format!("did you mean `{}`?", zone.name()),
        None => "zones are named like `Europe/Oslo`; without one it is UTC".to_owned(),
    };
    Error::new(Kind::Config, TIME_ZONE_UNKNOWN, format!("the time zone `{name}` is not known")).hint(hint)
}

#[cfg(test)]
mod tests;
