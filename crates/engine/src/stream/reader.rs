//! The task that owns a subscription: arrivals out, word of commits in.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use longshore_core::Result;
use longshore_core::error::{Error, Kind, code};
use longshore_core::event::Events;
use longshore_core::position::Covers;
use longshore_core::stream::{Arrival, Lag, Subscription};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// Arrivals that wait to be decoded; each holds its own share of the run's memory.
const WAITING: usize = 4;
/// How often the lag is looked at while nothing comes, or nothing more is taken: it may be something else all the same. Not more often,
/// because each look begins the waiting for the next arrival anew.
const LOOK: Duration = Duration::from_secs(5);

/// What came, and after how many rewinds. What came before the last one is not to be used.
pub(crate) struct Arrived {
    pub(crate) generation: u64,
    pub(crate) arrival: Result<Arrival>,
}

enum Command {
    Journalled(Vec<Covers>),
    Acknowledge(Vec<Covers>),
    Rewind(oneshot::Sender<Result<u64>>),
    Rest(oneshot::Sender<Result<bool>>),
    Close(oneshot::Sender<Result<()>>),
}

/// A subscription that is being read.
pub(crate) struct Reader {
    commands: mpsc::UnboundedSender<Command>,
    lag: Arc<Mutex<Vec<Lag>>>,
    task: JoinHandle<()>,
}

struct Reading {
    subscription: Box<dyn Subscription>,
    events: Events,
    lag: Arc<Mutex<Vec<Lag>>>,
    generation: u64,
}

impl Reader {
    /// Begins to read.
    pub(crate) fn start(subscription: Box<dyn Subscription>, events: Events) -> (Self, mpsc::Receiver<Arrived>) {
        let (commands, orders) = mpsc::unbounded_channel();
        let (out, arrivals) = mpsc::channel(WAITING);
        let lag = Arc::new(Mutex::default());
        let reading = Reading { subscription, events, lag: lag.clone(), generation: 0 };
        let task = tokio::spawn(reading.run(orders, out));
        (Self { commands, lag, task }, arrivals)
    }

    /// A commit that covers these is journalled.
    pub(crate) fn journalled(&self, covers: Vec<Covers>) {
        let _ = self.commands.send(Command::Journalled(covers));
    }

    /// A commit that covers these is complete.
    pub(crate) fn acknowledge(&self, covers: Vec<Covers>) {
        let _ = self.commands.send(Command::Acknowledge(covers));
    }

    /// What was handed out and is not journalled comes again; returns the generation in which it does.
    pub(crate) async fn rewind(&self) -> Result<u64> {
        let (answer, answered) = oneshot::channel();
        let _ = self.commands.send(Command::Rewind(answer));
        answered.await.map_err(|_| gone())?
    }

    /// Whether nothing waits at the source in the shares of others either.
    pub(crate) async fn rest_is_read(&self) -> Result<bool> {
        let (answer, answered) = oneshot::channel();
        let _ = self.commands.send(Command::Rest(answer));
        answered.await.map_err(|_| gone())?
    }

    /// How far behind the source is read.
    pub(crate) fn lag(&self) -> Vec<Lag> {
        self.lag.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Leaves the source.
    pub(crate) async fn close(self) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        let _ = self.commands.send(Command::Close(answer));
        let closed = answered.await.map_err(|_| gone())?;
        let _ = self.task.await;
        closed
    }
}

fn gone() -> Error {
    Error::new(Kind::Source, code::BUG, "the task that reads the source is gone")
}

impl Reading {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Command>, out: mpsc::Sender<Arrived>) {
        let mut pending: Option<Arrived> = None;
        // After an error, until it is rewound, and when nobody listens any more, only orders are taken.
        let mut open = true;
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Command::Rewind(answer)) => {
                        let rewound = self.rewind().await;
                        (pending, open) = (None, rewound.is_ok());
                        let _ = answer.send(rewound);
                    }
                    Some(Command::Close(answer)) => {
                        let _ = answer.send(self.subscription.close().await);
                        return;
                    }
                    Some(Command::Rest(answer)) => {
                        let _ = answer.send(self.subscription.rest_is_read().await);
                    }
                    Some(Command::Journalled(covers)) => self.subscription.journalled(&covers),
                    Some(Command::Acknowledge(covers)) => self.acknowledge(&covers).await,
                    None => return,
                },
                place = out.reserve(), if open && pending.is_some() => match (place, pending.take()) {
                    (Ok(place), Some(arrived)) => {
                        open = arrived.arrival.is_ok();
                        place.send(arrived);
                    }
                    _ => open = false,
                },
                arrival = self.subscription.next(), if open && pending.is_none() => {
                    pending = Some(Arrived { generation: self.generation, arrival });
                    self.see_lag();
                }
                _ = looks.tick() => self.see_lag(),
            }
        }
    }

    fn see_lag(&self) {
        *self.lag.lock().unwrap_or_else(PoisonError::into_inner) = self.subscription.lag();
    }

    async fn rewind(&mut self) -> Result<u64> {
        self.subscription.rewind().await?;
        self.generation += 1;
        Ok(self.generation)
    }

    /// The broker is told later if it cannot be told now: what it hands out again then is known.
    async fn acknowledge(&mut self, covers: &[Covers]) {
        if let Err(error) = self.subscription.acknowledge(covers).await {
            self.events.warn(format!("the source could not be told what has landed: {error}"));
        }
    }
}
