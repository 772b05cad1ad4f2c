//! Chunks of a mapped file, and records in a chunk: whoever reads the file, at whatever moment the writers were
//! stopped, finds whole records.

use crate::sys::atomic::{AtomicBool, AtomicU64, Ordering::*};

/// The offset of a chunk of `size` bytes that nobody else has, below `end`. It does not run away
/// where the file is full.
#[must_use]
pub fn take_chunk(next: &AtomicU64, size: u64, end: u64) -> Option<u64> {
    if next.load(Relaxed) + size > end {
        return None;
    }
    let offset = next.fetch_add(size, Relaxed);
    (offset + size <= end).then_some(offset)
}

/// Commits the record whose first word lies at `at` and the rest of which is written; `behind` is the word
/// after it, where there is one. False: the trace has ended.
#[inline]
#[must_use]
pub fn commit(at: &AtomicU64, behind: Option<&AtomicU64>, word: u64, is_broken: &AtomicBool) -> bool {
    // What was begun there and never committed (a vfork child's) must not look like a word.
    if let Some(behind) = behind {
        behind.store(0, Relaxed);
    }
    if is_broken.load(Relaxed) {
        return false;
    }
    // Release: not before what it commits.
    at.store(word, Release);
    true
}
