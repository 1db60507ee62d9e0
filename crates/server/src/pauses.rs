//! How long to wait before what failed is tried again.

use std::time::Duration;

use longshore_core::error::{Error, Retry, code};

/// The first pause after an error that may pass.
const FIRST: Duration = Duration::from_secs(1);
/// The longest one; each is twice the one before.
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// The pause after an error that passes only when a person has done something: somebody may have, where nobody can see it.
const FIXED: Duration = Duration::from_secs(15 * 60);
/// After so much good work earlier failures count no more.
const GOOD: Duration = Duration::from_secs(10 * 60);

/// The pauses of one pipeline.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    failed: u32,
}

impl Pauses {
    /// The pause after this error, which came after so much time at work. By `chance`, from 0 to 1, it is longer by up to a quarter, so that
    /// servers which failed at once do not all come back at once.
    pub(crate) fn after(&mut self, error: &Error, worked: Duration, chance: f64) -> Duration {
        self.least(error, worked).mul_f64(1.0 + chance / 4.0)
    }

    fn least(&mut self, error: &Error, worked: Duration) -> Duration {
        if worked >= GOOD {
            self.failed = 0;
        }
        if !passes(error) {
            return FIXED;
        }
        let pause = FIRST.saturating_mul(1 << self.failed.min(16)).min(LONGEST);
        self.failed += 1;
        pause.max(error.retry_after().unwrap_or_default())
    }
}

/// Whether the same run may succeed later, without anybody's doing.
pub(crate) fn passes(error: &Error) -> bool {
    // Errors that outlast a run's own tries are no longer marked as passing, lest two policies multiply; but an outage that is longer than
    // a run's patience is just what a server has to outlast. And whoever runs the pipeline now will be done with it.
    let outlasted = error.context().iter().any(|(key, _)| *key == "tries");
    error.retry() == Retry::Backoff || outlasted || error.code() == code::LEASE_HELD.name
}

#[cfg(test)]
mod tests {
    use longshore_core::error::Kind;

    use super::*;

    fn failing(retry: Retry) -> Error {
        Error::new(Kind::Destination, code::BUG, "refused").with_retry(retry)
    }

    #[test]
    fn pauses_double_up_to_five_minutes_and_begin_anew_after_good_work() {
        let mut pauses = Pauses::default();
        let error = failing(Retry::Backoff);
        let seconds: Vec<u64> = (0..11).map(|_| pauses.after(&error, Duration::ZERO, 0.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(pauses.after(&error, GOOD - Duration::from_secs(1), 0.0).as_secs(), 300);
        assert_eq!(pauses.after(&error, GOOD, 0.0).as_secs(), 1);
    }

    #[test]
    fn what_a_person_has_to_mend_is_looked_at_every_quarter_of_an_hour() {
        for retry in [Retry::AfterFix, Retry::Never] {
            assert_eq!(Pauses::default().after(&failing(retry), Duration::ZERO, 0.0), FIXED);
        }
    }

    #[test]
    fn what_outlasted_a_runs_own_tries_passes_all_the_same_and_a_wish_is_honoured() {
        let outlasted = failing(Retry::AfterFix).with("tries", 6);
        assert_eq!(Pauses::default().after(&outlasted, Duration::ZERO, 0.0), FIRST);
        let asked = failing(Retry::Backoff).with_retry_after(Duration::from_secs(90));
        assert_eq!(Pauses::default().after(&asked, Duration::ZERO, 0.0).as_secs(), 90);
        let held = Error::new(Kind::Store, code::LEASE_HELD, "somebody runs it");
        assert_eq!(Pauses::default().after(&held, Duration::ZERO, 0.0), FIRST);
    }

    #[test]
    fn servers_that_fail_at_once_come_back_one_after_the_other_and_never_too_early() {
        let asked = failing(Retry::Backoff).with_retry_after(Duration::from_secs(100));
        let pauses =
            |error: &Error| [0.0, 0.4, 1.0].map(|chance| Pauses::default().after(error, Duration::ZERO, chance).as_millis());
        assert_eq!(pauses(&failing(Retry::Backoff)), [1000, 1100, 1250]);
        assert_eq!(pauses(&failing(Retry::AfterFix)), [900_000, 990_000, 1_125_000]);
        assert_eq!(pauses(&asked), [100_000, 110_000, 125_000]);
    }
}
