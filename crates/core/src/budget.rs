//! The memory that a run may hold between its source and its destination.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The smallest amount that is counted.
const UNIT: u64 = 1024;

/// A number of bytes shared by everything that buffers. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Budget {
    semaphore: Arc<Semaphore>,
    total: u64,
}

/// Bytes taken from a [`Budget`]; dropping it gives them back.
#[derive(Debug)]
pub struct Permit(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Budget {
    /// A budget of this many bytes (at least one KiB).
    pub fn new(bytes: u64) -> Self {
        let units = usize::try_from((bytes / UNIT).max(1)).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { semaphore: Arc::new(Semaphore::new(units)), total: bytes.max(UNIT) }
    }

    /// All of it, free or not.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Waits until `bytes` are free and takes them. More than everything counts as everything, so that one large record
    /// passes alone instead of never.
    pub async fn take(&self, bytes: u64) -> Permit {
        let permit = self.semaphore.clone().acquire_many_owned(self.units(bytes)).await;
        // The semaphore is never closed.
        Permit(permit.unwrap_or_else(|_| unreachable!("the budget's semaphore is never closed")))
    }

    /// As [`Budget::take`], for a thread that is not async.
    pub fn take_blocking(&self, bytes: u64) -> Permit {
        futures::executor::block_on(self.take(bytes))
    }

    fn units(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.min(self.total) / UNIT).unwrap_or(u32::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_beyond_everything_takes_everything() {
        let budget = Budget::new(10 * UNIT);
        let permit = budget.take(1 << 40).await;
        assert_eq!(budget.semaphore.available_permits(), 0);
        drop(permit);
        assert_eq!(budget.semaphore.available_permits(), 10);
    }

    #[tokio::test]
    async fn a_full_budget_makes_the_next_one_wait() {
        let budget = Budget::new(4 * UNIT);
        let first = budget.take(3 * UNIT).await;
        let second = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take(2 * UNIT).await }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        second.await.expect("gets its share");
    }
}
