//! The one retry policy.

use std::future::Future;
use std::time::Duration;

use crate::Result;
use crate::error::Retry;
use crate::event::{Events, RunEvent};
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

/// Waits longer than this are told.
const TOLD: Duration = Duration::from_secs(2);
/// What the other side may ask us to wait in all, before a person has to look.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);
/// What a wait counts at least towards that, so that somebody who asks for none does not keep us for ever.
const LEAST_ASKED: Duration = Duration::from_secs(5);

/// Where waits are told, and what ends them.
#[derive(Clone)]
pub struct Patience {
    /// A request to stop ends every wait.
    pub stop: Stop,
    /// Where a long wait is told, as waiting and not as a failure.
    pub events: Events,
}

impl Default for Patience {
    /// Tells nobody and is never asked to stop.
    fn default() -> Self {
        Self { stop: Stop::default(), events: Events::silent() }
    }
}

impl Patience {
    /// Waits; tells why if it is long. `false` if it was asked to stop.
    pub async fn wait(&self, time: Duration, why: impl FnOnce() -> String) -> bool {
        if time >= TOLD {
            self.events.send(RunEvent::Waiting { reason: format!("{}; again in {} s", why(), time.as_secs_f64().round()) });
        }
        tokio::select! {
            () = tokio::time::sleep(time) => true,
            () = self.stop.requested() => false,
        }
    }
}

impl Policy {
    /// The wait after the `failed`th failed try (from 1): half fixed, half by chance, so that many workers spread out.
    fn wait(&self, failed: u32, chance: f64) -> Duration {
        let doubled = self.first_wait.saturating_mul(1 << failed.saturating_sub(1).min(16)).min(self.longest_wait);
        doubled.mul_f64(0.5 + chance / 2.0)
    }

    /// Calls until it succeeds, fails for good, or the tries are used up, which is for good, too. A wait that the other side asks for (a
    /// quota) is honoured and uses up no try, but in all such waits are bounded by an hour. A request to stop ends the waiting with the last
    /// error.
    pub async fn run<T, F>(&self, patience: &Patience, mut call: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let (mut failed, mut asked) = (0, Duration::ZERO);
        loop {
            let error = match call().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if error.retry() != Retry::Backoff {
                return Err(error);
            }
            let wait = match error.retry_after() {
                Some(wait) => {
                    asked += wait.max(LEAST_ASKED);
                    wait.max(self.first_wait)
                }
                None => {
                    failed += 1;
                    self.wait(failed, chance())
                }
            };
            if failed >= self.tries || asked > LONGEST_ASKED {
                // Whoever called us may have a policy, too: it must not begin all over again.
                return Err(error.with("tries", failed).with_retry(Retry::AfterFix));
            }
            if !patience.wait(wait, || error.to_string()).await {
                return Err(error);
            }
        }
    }
}

/// A number in [0, 1).
pub fn chance() -> f64 {
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
                .run(&Patience::default(), || {
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
            .run(&Patience::default(), || {
                tries += 1;
                let first = tries == 1;
                async move { if first { Err(failing(Retry::Backoff).with_retry_after(Duration::from_secs(90))) } else { Ok(()) } }
            })
            .await;
        assert!(result.is_ok());
        assert_eq!(start.elapsed(), Duration::from_secs(90));
    }

    #[tokio::test(start_paused = true)]
    async fn waits_that_are_asked_for_are_told_use_up_no_tries_and_end_after_an_hour() {
        struct Told(std::sync::Mutex<Vec<RunEvent>>);
        impl crate::event::Observer for Told {
            fn event(&self, event: &RunEvent) {
                self.0.lock().expect("not poisoned").push(event.clone());
            }
        }
        let told = std::sync::Arc::new(Told(std::sync::Mutex::default()));
        let patience = Patience { stop: Stop::default(), events: Events::new(told.clone()) };
        let start = tokio::time::Instant::now();
        let result: Result<()> = Policy::default()
            .run(&patience, || async { Err(failing(Retry::Backoff).with_retry_after(Duration::from_secs(60))) })
            .await;
        assert_eq!(result.expect_err("for ever").retry(), Retry::AfterFix);
        assert_eq!(start.elapsed(), Duration::from_secs(3600));
        let told = told.0.lock().expect("not poisoned");
        assert_eq!((told.len(), &told[0]), (60, &RunEvent::Waiting { reason: "refused; again in 60 s".into() }));
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
