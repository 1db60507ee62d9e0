//! A request to stop, seen by everything that works for a run.

use std::sync::Arc;

use tokio::sync::watch;

/// Whether the run is to stop. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Stop {
    /// Asks everything to stop.
    pub fn request(&self) {
        self.0.send_replace(true);
    }

    /// Whether that was asked.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is.
    pub async fn requested(&self) {
        let mut watch = self.0.subscribe();
        // The sender lives as long as self.
        let _ = watch.wait_for(|stop| *stop).await;
    }
}
