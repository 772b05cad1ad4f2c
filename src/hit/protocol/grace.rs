//! A hit announces itself and then reads what is shared; whoever takes something away does so first and
//! then looks at the announcements. `light` and `heavy` of [`crate::hit::barrier`] stand between the two
//! steps of each.

use crate::sys::atomic::{AtomicPtr, AtomicU64, Ordering::*};

/// A hit begins: the thread's `sequence` becomes odd.
#[inline]
pub fn enter(sequence: &AtomicU64, light: impl FnOnce()) {
    // Only this thread writes it, and no handler of the program's runs in between.
    sequence.store(sequence.load(Relaxed) + 1, Relaxed);
    light();
}

/// It ends: whoever sees it even sees all that the hit did.
#[inline]
pub fn leave(sequence: &AtomicU64) {
    sequence.store(sequence.load(Relaxed) + 1, Release);
}

/// The hit under way, after `heavy`: what was taken away before may be read by it, and by no later one.
#[inline]
#[must_use]
pub fn under_way(sequence: &AtomicU64) -> Option<u64> {
    let seen = sequence.load(Acquire);
    (!seen.is_multiple_of(2)).then_some(seen)
}

/// Whether that hit has ended.
#[inline]
#[must_use]
pub fn is_over(sequence: &AtomicU64, seen: u64) -> bool {
    sequence.load(Acquire) != seen
}

/// A handler of `whom` is about to run, if it is found alive now.
#[inline]
pub fn begin_run<T>(running: &AtomicPtr<T>, whom: *mut T, light: impl FnOnce()) {
    running.store(whom, Release);
    light();
}

/// It has run.
#[inline]
pub fn end_run<T>(running: &AtomicPtr<T>) {
    running.store(std::ptr::null_mut(), Release);
}

/// Whether a handler of `whom` runs, after `heavy`: once not, never again.
#[inline]
#[must_use]
pub fn runs<T>(running: &AtomicPtr<T>, whom: *const T) -> bool {
    running.load(Acquire).cast_const() == whom
}
