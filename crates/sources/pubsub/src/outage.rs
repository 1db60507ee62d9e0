//! An outage is told once, and its end.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use longshore_core::event::Events;
use tokio::time::Instant;

/// What breaks off and is there again within this time is nobody's concern: streams do so by design.
const TOLD_AFTER: Duration = Duration::from_secs(3);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What is known of an outage. Shared by all that speak to Pub/Sub.
pub(crate) struct Outage {
    events: Events,
    what: String,
    told: AtomicBool,
}

/// What one of them meets.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    count: u32,
    since: Option<Instant>,
}

impl Outage {
    pub(crate) fn new(events: Events, what: String) -> Self {
        Self { events, what, told: AtomicBool::new(false) }
    }

    /// It failed once more. Returns how long to wait.
    pub(crate) fn failed(&self, failures: &mut Failures, why: &str) -> Duration {
        failures.count += 1;
        let since = *failures.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= TOLD_AFTER && !self.told.swap(true, Ordering::Relaxed) {
            self.events.warn(format!("{} cannot be reached, and is tried again until it can: {why}", self.what));
        }
        let doubled = FIRST_WAIT.saturating_mul(1 << (failures.count - 1).min(16)).min(LONGEST_WAIT);
        // Half by chance, so that many workers spread out.
        let chance = RandomState::new().hash_one(failures.count) as f64 / u64::MAX as f64;
        doubled.mul_f64(0.5 + chance / 2.0)
    }

    /// It works.
    pub(crate) fn works(&self, failures: &mut Failures) {
        if failures.count > 0 && self.told.swap(false, Ordering::Relaxed) {
            self.events.note(format!("{} can be reached again", self.what));
        }
        *failures = Failures::default();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use longshore_core::event::{Observer, RunEvent};

    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Vec<RunEvent>>);

    impl Observer for Told {
        fn event(&self, event: &RunEvent) {
            self.0.lock().expect("no panic").push(event.clone());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_told_once_and_so_is_its_end() {
        let told = Arc::new(Told::default());
        let outage = Outage::new(Events::new(told.clone()), "pubsub".to_owned());
        let (mut one, mut other) = (Failures::default(), Failures::default());
        for _ in 0..20 {
            let wait = outage.failed(&mut one, "no route");
            outage.failed(&mut other, "no route");
            assert!(wait <= LONGEST_WAIT);
            tokio::time::sleep(wait).await;
        }
        outage.works(&mut one);
        outage.works(&mut other);
        let told = told.0.lock().expect("no panic");
        assert!(
            matches!(told.as_slice(), [RunEvent::Warning { text }, RunEvent::Note { .. }] if text.contains("no route")),
            "{told:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_there_again_at_once_is_not_told() {
        let told = Arc::new(Told::default());
        let outage = Outage::new(Events::new(told.clone()), "pubsub".to_owned());
        let mut failures = Failures::default();
        for _ in 0..10 {
            let wait = outage.failed(&mut failures, "by design");
            assert!(wait <= FIRST_WAIT, "the wait begins anew each time");
            tokio::time::sleep(wait).await;
            outage.works(&mut failures);
            tokio::time::sleep(Duration::from_secs(1800)).await;
        }
        assert!(told.0.lock().expect("no panic").is_empty());
    }
}
