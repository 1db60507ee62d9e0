//! Threads that encode: as many as there are cores, however many tables there are.
//!
//! What is encoded for a table stays on one of them. Memory that one thread takes and another gives back is memory that neither uses soon.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};

use longshore_core::Result;
use tokio::sync::oneshot;

use crate::error::bug;

type Work = Box<dyn FnOnce() + Send>;

/// The threads; they end when this and every [`Thread`] is dropped.
pub(crate) struct Threads {
    queues: Vec<Sender<Work>>,
    next: AtomicUsize,
}

/// One of them.
#[derive(Clone)]
pub(crate) struct Thread(Sender<Work>);

impl Threads {
    /// Starts them.
    pub(crate) fn start() -> Self {
        let count = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self { queues: (0..count).map(start).collect(), next: AtomicUsize::new(0) }
    }

    /// The next one.
    pub(crate) fn pick(&self) -> Thread {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        Thread(self.queues[next % self.queues.len()].clone())
    }
}

fn start(number: usize) -> Sender<Work> {
    let (queue, works) = mpsc::channel::<Work>();
    let run = move || {
        for work in works {
            // Whoever waits for it sees that it has no answer.
            _ = catch_unwind(AssertUnwindSafe(work));
        }
    };
    // Without a thread nobody takes what is sent, which is an error there.
    _ = std::thread::Builder::new().name(format!("encode-{number}")).spawn(run);
    queue
}

impl Thread {
    /// Does what blocks after what was asked for before. A panic is a `bug`.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        _ = self.0.send(Box::new(move || _ = answer.send(work())));
        answered.await.map_err(|_| bug("the thread that writes Parquet panicked"))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn works_of_one_thread_follow_one_another_and_a_panic_ends_one_of_them_only() {
        let threads = Threads::start();
        let thread = threads.pick();
        let name = || Ok(std::thread::current().name().map(str::to_owned));
        let first = thread.run(name).await.expect("it runs");
        assert_eq!(thread.run::<()>(|| panic!("on purpose")).await.expect_err("panicked").code(), "bug");
        assert_eq!(thread.run(name).await.expect("it goes on"), first);
        let others: Vec<_> = futures::future::join_all(
            (0..threads.queues.len())
                .map(|_| threads.pick())
                .map(|thread| async move { thread.run(name).await.expect("it runs") }),
        )
        .await;
        assert_eq!(others.iter().collect::<std::collections::BTreeSet<_>>().len(), threads.queues.len());
    }
}
