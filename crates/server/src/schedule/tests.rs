use super::*;

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap_or_else(|e| panic!("{e} in {text}"))
}

fn schedule(cron: &str, zone: &str) -> Schedule {
    Schedule::new(cron, Some(zone)).expect("a schedule")
}

/// The next times after this one, so many.
fn times(schedule: &Schedule, after: &str, number: usize) -> Vec<String> {
    let first = schedule.next(utc(after));
    let all = std::iter::successors(first, |time| schedule.next(*time));
    all.take(number).map(|time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string()).collect()
}

#[test]
fn a_time_is_of_its_zone_and_comes_after_the_one_that_is_asked_about() {
    let nightly = schedule("0 3 * * *", "Europe/Oslo");
    assert_eq!(times(&nightly, "2026-01-10T01:59:59.9Z", 2), ["2026-01-10T02:00:00Z", "2026-01-11T02:00:00Z"]);
    assert_eq!(times(&nightly, "2026-01-10T02:00:00Z", 1), ["2026-01-11T02:00:00Z"]);
    assert_eq!(times(&nightly, "2026-07-10T00:00:00Z", 1), ["2026-07-10T01:00:00Z"]);
    let utc = Schedule::new("0 3 * * *", None).expect("a schedule");
    assert_eq!(times(&utc, "2026-07-10T00:00:00Z", 1), ["2026-07-10T03:00:00Z"]);
    assert_eq!((nightly.to_string(), utc.to_string()), ("0 3 * * * (Europe/Oslo)".into(), "0 3 * * * (UTC)".into()));
}

#[test]
fn seconds_may_stand_before_the_minutes() {
    let seconds = schedule("*/20 * * * * *", "UTC");
    assert_eq!(times(&seconds, "2026-01-10T00:00:20.5Z", 2), ["2026-01-10T00:00:40Z", "2026-01-10T00:01:00Z"]);
}

#[test]
fn a_time_that_the_clock_leaves_out_comes_once_right_after_the_gap() {
    // Oslo, 2026-03-29: 02:00 becomes 03:00 at 01:00 UTC.
    assert_eq!(
        times(&schedule("30 2 * * *", "Europe/Oslo"), "2026-03-28T00:00:00Z", 3),
        ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    );
    // All of the gap, and the time that is there, are one.
    assert_eq!(
        times(&schedule("*/20 2,3 * * *", "Europe/Oslo"), "2026-03-29T00:00:00Z", 4),
        ["2026-03-29T01:00:00Z", "2026-03-29T01:20:00Z", "2026-03-29T01:40:00Z", "2026-03-30T00:00:00Z"]
    );
    // Apia left out a whole day.
    assert_eq!(
        times(&schedule("0 12 * * *", "Pacific/Apia"), "2011-12-29T00:00:00Z", 3),
        ["2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"]
    );
}

#[test]
fn a_time_that_the_clock_shows_twice_comes_the_first_time_only() {
    // Oslo, 2026-10-25: 03:00 becomes 02:00 at 01:00 UTC.
    assert_eq!(
        times(&schedule("30 2 * * *", "Europe/Oslo"), "2026-10-24T00:00:00Z", 3),
        ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    assert_eq!(
        times(&schedule("0,30 2-3 * * *", "Europe/Oslo"), "2026-10-25T00:00:00Z", 4),
        ["2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z", "2026-10-25T02:30:00Z", "2026-10-26T01:00:00Z"]
    );
    // Asked in the second of the two hours.
    assert_eq!(times(&schedule("45 2 * * *", "Europe/Oslo"), "2026-10-25T01:10:00Z", 1), ["2026-10-26T01:45:00Z"]);
}

#[test]
fn every_hour_goes_by_time_as_it_passes() {
    let hourly = schedule("30 * * * *", "Europe/Oslo");
    assert_eq!(
        times(&hourly, "2026-10-25T00:00:00Z", 3),
        ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"]
    );
    assert_eq!(times(&hourly, "2026-03-29T00:00:00Z", 2), ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"]);
}

#[test]
fn a_leap_day_comes_in_leap_years() {
    let leap = schedule("0 0 29 2 *", "UTC");
    assert_eq!(times(&leap, "2026-01-01T00:00:00Z", 2), ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]);
    assert_eq!(times(&leap, "2096-03-01T00:00:00Z", 1), ["2104-02-29T00:00:00Z"], "2100 has none");
    let last = schedule("0 0 L * *", "UTC");
    assert_eq!(times(&last, "2028-01-31T00:00:00Z", 2), ["2028-02-29T00:00:00Z", "2028-03-31T00:00:00Z"]);
}

#[test]
fn of_the_times_that_were_missed_the_latest_counts() {
    let hourly = schedule("0 * * * *", "UTC");
    let (after, until) = (utc("2026-01-10T00:00:00Z"), utc("2026-01-10T05:59:00Z"));
    assert_eq!(hourly.latest(after, until), Some(utc("2026-01-10T05:00:00Z")));
    assert_eq!(hourly.latest(utc("2026-01-10T05:00:00Z"), until), None, "the time itself is not after itself");
    assert_eq!(hourly.latest(utc("2026-01-10T04:59:59Z"), utc("2026-01-10T05:00:00Z")), Some(utc("2026-01-10T05:00:00Z")));
    let nightly = schedule("0 3 * * *", "UTC");
    assert_eq!(nightly.latest(utc("2026-01-09T06:00:00Z"), utc("2026-01-10T06:00:00Z")), Some(utc("2026-01-10T03:00:00Z")));
    assert_eq!(nightly.latest(utc("2026-01-10T03:00:00Z"), utc("2026-01-10T06:00:00Z")), None);
    let seconds = schedule("* * * * * *", "UTC");
    assert_eq!(seconds.latest(utc("2026-01-09T06:00:00Z"), utc("2026-01-10T06:00:00.7Z")), Some(utc("2026-01-10T06:00:00Z")));
}

#[test]
fn what_is_missed_where_clocks_change_is_the_same_seen_from_either_side() {
    for (cron, from, to) in [
        ("*/10 1-3 * * *", "2026-03-28T23:00:00Z", "2026-03-29T03:00:00Z"),
        ("*/10 1-3 * * *", "2026-10-24T23:00:00Z", "2026-10-25T04:00:00Z"),
        ("*/10 * * * *", "2026-10-24T23:00:00Z", "2026-10-25T04:00:00Z"),
    ] {
        let schedule = schedule(cron, "Europe/Oslo");
        let all: Vec<DateTime<Utc>> = std::iter::successors(schedule.next(utc(from)), |time| schedule.next(*time))
            .take_while(|time| *time <= utc(to))
            .collect();
        assert!(all.is_sorted() && all.len() > 10, "{cron} from {from}: {all:?}");
        for minutes in 0..(utc(to) - utc(from)).num_minutes() {
            let now = utc(from) + TimeDelta::minutes(minutes);
            let last = all.iter().rev().find(|time| **time <= now).copied();
            assert_eq!(schedule.latest(utc(from), now), last, "{cron} at {now}");
        }
    }
}

#[test]
fn what_is_no_schedule_is_refused_with_what_one_looks_like() {
    for cron in ["", "3 * * *", "61 * * * *", "0 3 * * * * 2027", "often", "0 25 * * *"] {
        let error = Schedule::new(cron, None).expect_err(cron);
        assert_eq!(error.code(), "schedule_invalid", "{cron}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("five fields")));
    }
    let error = Schedule::new("0 0 30 2 *", None).expect_err("there is no such day");
    assert_eq!(error.message(), "no time ever fits `0 0 30 2 *`");
    let error = Schedule::new("0 3 * * *", Some("oslo")).expect_err("not a zone");
    assert_eq!((error.code(), error.hint_text()), ("time_zone_unknown", Some("did you mean `Europe/Oslo`?")));
    assert_eq!(Schedule::new("0 3 * * *", Some("Mars/Base")).expect_err("not a zone").code(), "time_zone_unknown");
}
