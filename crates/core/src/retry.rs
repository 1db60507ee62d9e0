//! The one retry policy.

use std::future::Future;
use std::time::Duration;

use crate::Result;
use crate::error::Retry;
use crate::stop::Stop;

/// How often and how long.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Tries in all.
    pub tries: u32,
    /// The wait before the second try; doubles with each.
    pub first_wait: Duration,
    /// The longest wait between two tries, apart from what the other side asks for.
    pub longest_wait: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { tries: 6, first_wait: Duration::from_millis(200), longest_wait: Duration::from_secs(30) }
    }
}

impl Policy {
    /// The wait after the `failed`th failed try (from 1): half fixed, half by chance, so that many workers spread out.
    fn wait(&self, failed: u32, chance: f64) -> Duration {
        let doubled = self.first_wait.saturating_mul(1 << failed.saturating_sub(1).min(16)).min(self.longest_wait);
        doubled.mul_f64(0.5 + chance / 2.0)
    }

    /// Calls until it succeeds, fails for good, or the tries are used up, which is for good, too. A wait that the other side asked for is
    /// honoured.
    /// A request to stop ends the waiting with the last error.
    pub async fn run<T, F>(&self, stop: &Stop, mut call: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut failed = 0;
        loop {
            let error = match call().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            failed += 1;
            match error.retry() {
                Retry::Never | Retry::AfterFix => return Err(error),
                // Whoever called us may have a policy, too: it must not begin all over again.
                Retry::Backoff if failed >= self.tries => return Err(error.with("tries", failed).with_retry(Retry::AfterFix)),
                Retry::Backoff => {
                    let wait = error.retry_after().unwrap_or_else(|| self.wait(failed, chance()));
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = stop.requested() => return Err(error),
                    }
                }
            }
        }
    }
}

/// A number in [0, 1).
fn chance() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_u128() as u32) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind, code};

    fn failing(retry: Retry) -> Error {
        Error::new(Kind::Destination, code::BUG, "refused").with_retry(retry)
    }

    #[tokio::test(start_paused = true)]
    async fn backoff_is_bounded_and_other_classes_are_final() {
        for (retry, calls) in [(Retry::Backoff, 6), (Retry::Never, 1), (Retry::AfterFix, 1)] {
            let mut seen = 0;
            let result: Result<()> = Policy::default()
                .run(&Stop::default(), || {
                    seen += 1;
                    async move { Err(failing(retry)) }
                })
                .await;
            let error = result.expect_err("never succeeds");
            assert_ne!(error.retry(), Retry::Backoff, "a policy around this one does not begin again");
            assert_eq!(seen, calls, "{retry:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_other_sides_wish_is_honoured() {
        let start = tokio::time::Instant::now();
        let mut tries = 0;
        let result = Policy::default()
            .run(&Stop::default(), || {
                tries += 1;
                let first = tries == 1;
                async move { if first { Err(failing(Retry::Backoff).with_retry_after(Duration::from_secs(90))) } else { Ok(()) } }
            })
            .await;
        assert!(result.is_ok());
        assert_eq!(start.elapsed(), Duration::from_secs(90));
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let policy = Policy::default();
        assert_eq!(policy.wait(1, 1.0), Duration::from_millis(200));
        assert_eq!(policy.wait(3, 1.0), Duration::from_millis(800));
        assert_eq!(policy.wait(30, 1.0), Duration::from_secs(30));
        assert_eq!(policy.wait(1, 0.0), Duration::from_millis(100));
    }
}
