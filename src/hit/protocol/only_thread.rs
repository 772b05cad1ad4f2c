//! Additions by an ordinary instruction while only one thread makes any. See [`crate::hit::alone`].

use crate::sys::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};

/// No thread has come yet, or one.
pub const NOBODY: u32 = 0;
/// One has.
pub const ALONE: u32 = 1;
/// A second is about to.
pub const ENDING: u32 = 2;
/// Several have.
pub const SHARED: u32 = 3;

/// A thread that has not added yet is about to. `heavy` orders it against the others' `light`;
/// `wait` returns when nobody is seen counting.
#[inline]
pub fn arrive(phase: &AtomicU32, heavy: impl FnOnce(), wait: impl FnOnce()) {
    if phase.compare_exchange(NOBODY, ALONE, SeqCst, SeqCst).is_ok() || phase.load(Acquire) == SHARED {
        return;
    }
    phase.store(ENDING, SeqCst);
    heavy();
    wait();
    phase.store(SHARED, Release);
}

/// Nobody is alone any more, for another reason than that a second thread has come: whoever counts does it with the
/// others in mind, and the next to come finds out that nobody counts otherwise.
#[inline]
pub fn end(phase: &AtomicU32) {
    let _ = phase.compare_exchange(ALONE, ENDING, SeqCst, SeqCst);
}

/// Adds `n` (wrapping) to `word`. `counting` is the thread's own.
#[inline]
pub fn add(phase: &AtomicU32, counting: &AtomicBool, word: &AtomicU64, n: u64, light: impl FnOnce()) {
    if phase.load(Relaxed) == SHARED {
        word.fetch_add(n, Relaxed);
        return;
    }
    counting.store(true, Relaxed);
    light();
    if phase.load(Acquire) == ALONE {
        word.store(word.load(Relaxed).wrapping_add(n), Relaxed);
    } else {
        word.fetch_add(n, Relaxed);
    }
    counting.store(false, Release);
}
