//! Counts without locked instructions: every thread counts in words of its own, and whoever wants to
//! know adds them up, those of dead threads too.
//!
//! ```text
//!   thread 1  | Run | kept: of the C API's return probes | wiped: of a config's probes   |
//!   thread 2  | Run | ...                                | ...            |
//!                            ^ a count's index             ^ an index no array ends before
//! ```
//!
//! An array belongs to a [`ThreadState`](super::thread::ThreadState), is never unmapped, and goes with
//! the state to its next thread, counts and all. Only its thread writes it: one load, one store; no
//! hit of the same thread comes in between, since asynchronous signals wait while a hit is handled.
//! A cell may fall below zero, where a thread takes back what another one has counted: sums wrap.
//!
//! What a config's probes count belongs to one process: the kernel itself zeroes it in a fork child,
//! before the first instruction there (MADV_WIPEONFORK). What tells whether a probe of the C API
//! still has calls under way must survive a fork, as those calls do.

use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::*};

use crate::hit::protocol::cell_count;
use crate::hit::run::Run;
use crate::sys;

/// Cells of an array that survive a fork: the first, of which [`Run`] takes some. Whole pages.
const KEPT: u32 = 2048;
/// Cells of the first array, made before it is known how many are needed. Memory is used when touched.
const FIRST: u32 = 1 << 17;
/// Least cells of the others.
const LEAST: u32 = 8192;

/// Next index of each kind that was never handed out. 0 is none.
static NEXT_KEPT: AtomicU32 = AtomicU32::new(Run::WORDS);
static NEXT: AtomicU32 = AtomicU32::new(KEPT);
/// Cells of the smallest array there is.
static SMALLEST: AtomicU32 = AtomicU32::new(u32::MAX);

/// One thread's array.
#[derive(Default)]
pub struct Cells(AtomicPtr<AtomicU64>);

impl Cells {
    /// Makes it where there is none yet. Without memory its thread counts where all do. Signal-safe.
    pub fn prepare(&self) {
        while self.address().is_null() {
            let (smallest, next) = (SMALLEST.load(SeqCst), NEXT.load(SeqCst));
            let capacity = if smallest == u32::MAX { FIRST } else { LEAST.max(next.saturating_mul(2)) };
            let Some(array) = map(capacity as usize) else { return };
            if cell_count::offer(&SMALLEST, &NEXT, capacity) {
                self.0.store(array, Release);
            } else {
                // SAFETY: nobody knows of it.
                let _ = unsafe { sys::munmap(array as usize, capacity as usize * size_of::<u64>()) };
            }
        }
    }

    /// Of cell 0; null where there are none.
    #[inline]
    #[must_use]
    pub fn address(&self) -> *mut AtomicU64 {
        self.0.load(Acquire)
    }

    /// What stands at the head of the array.
    #[inline]
    #[must_use]
    pub fn run(&self) -> Option<&Run> {
        // SAFETY: zeroed memory of that size, aligned to a page, is one; arrays are never unmapped.
        unsafe { self.address().cast::<Run>().as_ref() }
    }

    /// The `N` cells from `index` on, which were handed out together. `None`: index 0, or no array.
    #[inline]
    #[must_use]
    pub fn get<const N: usize>(&self, index: u32) -> Option<&[AtomicU64; N]> {
        let array = self.address();
        if index == 0 || array.is_null() {
            return None;
        }
        // SAFETY: what is handed out lies inside every array, and arrays are never unmapped.
        Some(unsafe { &*array.add(index as usize).cast::<[AtomicU64; N]>() })
    }
}

fn map(capacity: usize) -> Option<*mut AtomicU64> {
    let kept = KEPT as usize * size_of::<u64>();
    let bytes = capacity * size_of::<u64>();
    let array = sys::map_reserved(bytes).ok()?;
    // SAFETY: our own fresh memory.
    if unsafe { sys::madvise(array + kept, bytes - kept, libc::MADV_WIPEONFORK) }.is_err() {
        // SAFETY: as above.
        let _ = unsafe { sys::munmap(array, bytes) };
        return None;
    }
    Some(array as *mut AtomicU64)
}

/// Indices of `n` cells that a fork child finds zeroed; 0: none are left. The registry's lock must be
/// held.
#[must_use]
pub fn take(n: u32) -> u32 {
    cell_count::take(&SMALLEST, &NEXT, n)
}

/// The same of `n` cells that survive a fork.
#[must_use]
pub fn take_kept(n: u32) -> u32 {
    let first = NEXT_KEPT.load(Relaxed);
    if first + n > KEPT {
        return 0;
    }
    NEXT_KEPT.store(first + n, Relaxed);
    first
}

/// Adds to a cell of the calling thread's own. Whoever reads the result sees what came before.
#[inline]
pub fn add(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(n), Release);
}
