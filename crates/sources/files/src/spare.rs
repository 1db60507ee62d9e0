//! Large buffers that are used again. An allocator hands them to the system and fetches them anew, page by page, for every chunk.

use std::sync::{Mutex, PoisonError};

/// Buffers that are kept; more than work at once would only be held.
const KEPT: usize = 4;
/// A buffer above this is let go of: one large record must not be paid for to the end.
const LARGEST: usize = 8 << 20;

/// Buffers of one kind that nobody uses at present.
pub struct Spare<T>(Mutex<Vec<T>>);

impl<T> Spare<T> {
    /// None yet.
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// One of them.
    pub fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Keeps one of so many bytes, if it is worth it.
    pub fn give(&self, buffer: T, bytes: usize) {
        if bytes == 0 || bytes > LARGEST {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(buffer);
        }
    }
}
