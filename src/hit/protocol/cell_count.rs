//! Indices are handed out while threads make their arrays: an index is handed out only where every array has
//! it, and an array is used only where it has every index. Each side writes first and looks second.

use crate::sys::atomic::{AtomicU32, Ordering::*};

/// Whether an array of `capacity` cells has every index that was handed out, or ever will be.
#[must_use]
pub fn offer(smallest: &AtomicU32, next: &AtomicU32, capacity: u32) -> bool {
    // First this, then a look at what is handed out; `take` does it the other way round.
    smallest.fetch_min(capacity, SeqCst);
    next.load(SeqCst) <= capacity
}

/// `n` indices that every array has; 0: none are left. One thread at a time.
#[must_use]
pub fn take(smallest: &AtomicU32, next: &AtomicU32, n: u32) -> u32 {
    let first = next.fetch_add(n, SeqCst);
    if first + n > smallest.load(SeqCst) {
        next.fetch_sub(n, SeqCst);
        return 0;
    }
    first
}
