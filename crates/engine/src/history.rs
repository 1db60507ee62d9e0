//! A run's beginning and end, and its events between them: to the observer at once, and to the store's history behind it.

use std::sync::Arc;
use std::time::Instant;

use longshore_core::budget::Budget;
use longshore_core::error::{Kind, code};
use longshore_core::event::{Events, Observer, RunEvent, Status, Summary};
use longshore_core::retry::{Patience, Policy};
use longshore_core::source::Context;
use longshore_core::stop::Stop;
use longshore_core::store::Store;
use longshore_core::{Error, Result};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::pipeline::Pipeline;

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

/// A run from its first event to its last.
pub(crate) struct Frame {
    pub(crate) cx: Context,
    history: History,
    began: Instant,
}

impl Frame {
    /// Begins a run.
    pub(crate) async fn open(
        store: &Arc<dyn Store>,
        pipeline: &Pipeline,
        observer: Arc<dyn Observer>,
        stop: Stop,
        kept: fn(&RunEvent) -> bool,
    ) -> Result<Self> {
        let run = store.begin_run(&pipeline.name).await?;
        let (history, events) = History::start(store.clone(), run.clone(), observer, kept);
        events.send(RunEvent::Started {
            pipeline: pipeline.name.clone(),
            inputs: pipeline.inputs.clone(),
            destination: pipeline.destination.clone(),
            process: std::process::id(),
            run_time: pipeline.run_time,
        });
        let (budget, lanes) = (Budget::new(pipeline.memory), pipeline.lanes);
        let cx = Context { pipeline: pipeline.name.clone(), run, budget, lanes, events, stop };
        Ok(Self { cx, history, began: Instant::now() })
    }

    /// Ends it as its work ended; gives the run's id and what it did.
    pub(crate) async fn close(self, result: Result<()>, mut summary: Summary) -> Result<(String, Summary)> {
        summary.seconds = self.began.elapsed().as_secs_f64();
        let status = match &result {
            Ok(()) => Status::Succeeded,
            Err(error) if error.kind() == Kind::Interrupted => Status::Cancelled,
            Err(_) => Status::Failed,
        };
        let (error, code) = result.as_ref().err().map(|e| (e.to_string(), e.code().to_owned())).unzip();
        self.cx.events.send(RunEvent::Finished { status, error, code, summary: summary.clone() });
        let written = self.history.finish().await;
        result?;
        written?;
        Ok((self.cx.run, summary))
    }
}
