//! What everybody who works for a server shares.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use longshore_core::stop::Stop;
use longshore_core::store::Store;

use crate::board::Board;
use crate::event::{Listener, ServerEvent};

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
}

impl Shared {
    pub(crate) fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    pub(crate) fn tell(&self, event: &ServerEvent) {
        self.listener.server(event);
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
