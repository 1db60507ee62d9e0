//! The points at which a test can hold a step or make it fail.

use std::sync::{Arc, PoisonError};

use longshore_core::Result;
use longshore_core::error::{Code, Error, Kind, Retry};
use tokio::sync::{Semaphore, watch};

use super::MemoryDestination;

/// The points in the order in which a commit passes them. Every method has a `before` and an `after`; `publish.fenced` is
/// passed after the fence was asked and before anything becomes visible.
pub const POINTS: &[&str] = &[
    "open.before",
    "open.after",
    "prepare.before",
    "prepare.after",
    "stage.before",
    "stage.after",
    "publish.before",
    "publish.fenced",
    "publish.after",
    "sweep.before",
    "sweep.after",
    "payload.before",
    "payload.after",
    "restage.before",
    "restage.after",
];

const FAULT: Code = Code { name: "memory_fault", explanation: "A test asked for this failure." };

/// A point that is held: whoever comes by waits until it is opened.
#[derive(Clone)]
pub struct Gate {
    reached: Arc<watch::Sender<usize>>,
    open: Arc<Semaphore>,
}

impl Gate {
    /// Waits until `count` passers-by in all have come to the point.
    pub async fn reached(&self, count: usize) {
        let mut watch = self.reached.subscribe();
        // The sender lives as long as self.
        let _ = watch.wait_for(|seen| *seen >= count).await;
    }

    /// Lets everybody through, now and later.
    pub fn open(&self) {
        self.open.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Lets one through.
    pub fn let_one_pass(&self) {
        self.open.add_permits(1);
    }
}

impl MemoryDestination {
    /// Holds a point, one of [`POINTS`].
    ///
    /// # Panics
    /// If there is no such point.
    pub fn gate(&self, point: &'static str) -> Gate {
        let gate = Gate { reached: Arc::new(watch::Sender::new(0)), open: Arc::new(Semaphore::new(0)) };
        self.at(point, |at| at.gate = Some(gate.clone()));
        gate
    }

    /// Makes the next `times` visits to a point fail with this retry class.
    ///
    /// # Panics
    /// If there is no such point.
    pub fn fail(&self, point: &'static str, times: usize, retry: Retry) {
        self.at(point, |at| at.faults.extend(std::iter::repeat_n(Some(retry), times)));
    }

    /// Lets so many visits to a point pass and makes the next one fail.
    ///
    /// # Panics
    /// If there is no such point.
    pub fn fail_after(&self, passes: usize, point: &'static str, retry: Retry) {
        self.at(point, |at| {
            at.faults.push(Some(retry));
            at.faults.extend(std::iter::repeat_n(None, passes));
        });
    }

    fn at<T>(&self, point: &'static str, act: impl FnOnce(&mut Point) -> T) -> T {
        assert!(POINTS.contains(&point), "there is no point {point}");
        act(self.0.points.lock().unwrap_or_else(PoisonError::into_inner).entry(point).or_default())
    }

    /// Passes a point: waits while it is held, then fails if a test wants it to.
    pub(super) async fn pass(&self, name: &'static str) -> Result<()> {
        let gate = self.at(name, |at| at.gate.clone());
        if let Some(gate) = gate {
            gate.reached.send_modify(|seen| *seen += 1);
            // Never closed.
            if let Ok(permit) = gate.open.acquire().await {
                permit.forget();
            }
        }
        let fault = self.at(name, |at| at.faults.pop().flatten());
        match fault {
            None => Ok(()),
            Some(retry) => {
                Err(Error::new(Kind::Destination, FAULT, format!("the destination in memory failed at {name}")).with_retry(retry))
            }
        }
    }
}

/// What a test wants to happen at a point.
#[derive(Default)]
pub(super) struct Point {
    gate: Option<Gate>,
    /// What becomes of the next visits, the next one last.
    faults: Vec<Option<Retry>>,
}
