//! Events to the observer at once, and to the store's history behind it.

use std::sync::Arc;

use longshore_core::error::code;
use longshore_core::event::{Events, Observer, RunEvent};
use longshore_core::retry::{Patience, Policy};
use longshore_core::store::Store;
use longshore_core::{Error, Result};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Writes a run's events to the store in the background; [`History::finish`] waits until they stand there.
pub(crate) struct History {
    writer: JoinHandle<Result<()>>,
    sender: mpsc::UnboundedSender<RunEvent>,
}

struct Recorder {
    observer: Arc<dyn Observer>,
    sender: mpsc::WeakUnboundedSender<RunEvent>,
    kept: fn(&RunEvent) -> bool,
}

impl Observer for Recorder {
    fn event(&self, event: &RunEvent) {
        self.observer.event(event);
        if !(self.kept)(event) {
            return;
        }
        // After the end of the run there is no history to write to.
        if let Some(sender) = self.sender.upgrade() {
            let _ = sender.send(event.clone());
        }
    }
}

/// Appends, as often as it takes: a store that others share may be away for a while. An answer that was lost leaves lines twice, which does no
/// harm, and after the last of them a refusal, which says that it is there.
async fn append(store: &dyn Store, run: &str, events: &[RunEvent]) -> Result<()> {
    let mut again = false;
    let call = || {
        let repeated = std::mem::replace(&mut again, true);
        async move {
            match store.append_events(run, events).await {
                Err(error) if repeated && error.code() == code::BUG.name => Ok(()),
                other => other,
            }
        }
    };
    let (policy, patience) = (Policy::default(), Patience::default());
    policy.run(&patience, call).await
}

impl History {
    /// Starts writing the events of `run`.
    ///
    /// What `kept` says no to is not written: what comes with every commit of a run that never ends stands in its receipts.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        run: String,
        observer: Arc<dyn Observer>,
        kept: fn(&RunEvent) -> bool,
    ) -> (Self, Events) {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let writer = tokio::spawn(async move {
            let mut events = Vec::new();
            while receiver.recv_many(&mut events, 256).await > 0 {
                append(store.as_ref(), &run, &events).await?;
                events.clear();
            }
            Ok::<_, Error>(())
        });
        let recorder = Recorder { observer, sender: sender.downgrade(), kept };
        (Self { writer, sender }, Events::new(Arc::new(recorder)))
    }

    /// Waits until every event sent so far is in the store.
    pub(crate) async fn finish(self) -> Result<()> {
        drop(self.sender);
        self.writer.await.map_err(|e| {
            Error::new(longshore_core::error::Kind::Bug, longshore_core::error::code::BUG, "the history's writer panicked")
                .caused_by(e)
        })?
    }
}
