//! What everybody who works for a server shares.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use longshore_core::error::Error;
use longshore_core::stop::Stop;
use longshore_core::store::Store;

use crate::board::Board;
use crate::event::{Listener, ServerEvent};
use crate::pauses::Pauses;

/// A wall clock that is set, or a machine that slept, is noticed after this time.
const GLANCE: Duration = Duration::from_secs(20);

/// What time it is.
pub(crate) type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// What everybody shares.
pub(crate) struct Shared {
    pub(crate) board: Arc<Board>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) listener: Arc<dyn Listener>,
    pub(crate) clock: Clock,
    /// A number from 0 to 1, another at each call.
    pub(crate) chance: fn() -> f64,
}

impl Shared {
    pub(crate) fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    pub(crate) fn tell(&self, event: &ServerEvent) {
        self.listener.server(event);
    }

    /// When something is tried again after this error, which came after so much time at work.
    pub(crate) fn again(&self, pauses: &mut Pauses, error: &Error, worked: Duration) -> DateTime<Utc> {
        let pause = pauses.after(error, worked, (self.chance)());
        self.now() + TimeDelta::from_std(pause).unwrap_or(TimeDelta::MAX)
    }

    /// Waits until this time; `false` if it was asked to stop before.
    pub(crate) async fn sleep_until(&self, time: DateTime<Utc>, stop: &Stop) -> bool {
        while let Ok(left) = (time - self.now()).to_std()
            && !left.is_zero()
        {
            if !rest(left.min(GLANCE), stop).await {
                return false;
            }
        }
        !stop.is_requested()
    }
}

/// Waits; `false` if it was asked to stop.
pub(crate) async fn rest(time: Duration, stop: &Stop) -> bool {
    tokio::select! {
        biased;
        () = stop.requested() => false,
        () = tokio::time::sleep(time) => true,
    }
}
