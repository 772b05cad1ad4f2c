//! Signals of our five that wait: of a thread, or of the process.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, Ordering::*};

use crate::hit::frame::SignalInfo;
use crate::hit::thread::{PROTECTED, ThreadState};
use crate::sys::sigbit;

/// Remembers a blocked signal; like the kernel's, one of each.
pub(super) fn pend(thread: &ThreadState, signal: i32, info: &SignalInfo) {
    let Some(at) = PROTECTED.iter().position(|protected| *protected == signal) else { return };
    if thread.pending.fetch_or(1 << at, AcqRel) & (1 << at) == 0 {
        // SAFETY: this thread's own cell.
        unsafe { (&mut *thread.pending_info.get())[at] = *info };
    }
}

/// Which protected signals are pending for the thread or the process, as a kernel mask.
#[must_use]
pub fn pending_mask(thread: &ThreadState) -> u64 {
    own_pending(thread) | PROCESS_PENDING.mask()
}

/// Those pending for the thread itself.
#[must_use]
pub fn own_pending(thread: &ThreadState) -> u64 {
    let pending = thread.pending.load(Acquire);
    PROTECTED
        .iter()
        .enumerate()
        .filter(|(at, _)| pending & (1 << at) != 0)
        .fold(0, |mask, (_, s)| mask | sigbit(*s))
}

/// Takes one pending signal out of `set`, for sigwait and its kin.
#[must_use]
pub fn take_pending(thread: &ThreadState, set: u64) -> Option<SignalInfo> {
    let own = own_pending(thread);
    let Some(at) = PROTECTED.iter().position(|signal| set & own & sigbit(*signal) != 0) else {
        return PROCESS_PENDING.take(set);
    };
    thread.pending.fetch_and(!(1 << at), AcqRel);
    // SAFETY: this thread's own cell.
    Some(unsafe { (&*thread.pending_info.get())[at] })
}

/// Signals of the process that no thread takes.
pub(super) struct ProcessPending([PendingCell; PROTECTED.len()]);

struct PendingCell {
    state: AtomicU32,
    info: UnsafeCell<SignalInfo>,
}

const EMPTY: u32 = 0;
const CHANGING: u32 = 1;
const FULL: u32 = 2;

// SAFETY: a cell is touched only by whoever set its state to CHANGING.
unsafe impl Sync for ProcessPending {}

pub(super) static PROCESS_PENDING: ProcessPending = ProcessPending(
    [const { PendingCell { state: AtomicU32::new(EMPTY), info: UnsafeCell::new(SignalInfo::new()) } };
        PROTECTED.len()],
);

impl ProcessPending {
    /// In a fork child: none, and nobody in the middle of a change.
    pub(super) fn clear(&self) {
        for cell in &self.0 {
            cell.state.store(EMPTY, Relaxed);
        }
    }

    pub(super) fn put(&self, signal: i32, info: &SignalInfo) {
        let Some(at) = PROTECTED.iter().position(|protected| *protected == signal) else { return };
        let cell = &self.0[at];
        if cell.state.compare_exchange(EMPTY, CHANGING, SeqCst, Relaxed).is_ok() {
            // SAFETY: ours while CHANGING.
            unsafe { *cell.info.get() = *info };
            cell.state.store(FULL, SeqCst);
        }
    }

    pub(super) fn take(&self, set: u64) -> Option<SignalInfo> {
        self.0.iter().zip(PROTECTED).filter(|(_, signal)| set & sigbit(*signal) != 0).find_map(|(cell, _)| {
            cell.state.compare_exchange(FULL, CHANGING, SeqCst, Relaxed).ok()?;
            // SAFETY: ours while CHANGING.
            let info = unsafe { *cell.info.get() };
            cell.state.store(EMPTY, SeqCst);
            Some(info)
        })
    }

    fn mask(&self) -> u64 {
        let full = self.0.iter().zip(PROTECTED).filter(|(cell, _)| cell.state.load(SeqCst) == FULL);
        full.fold(0, |mask, (_, signal)| mask | sigbit(signal))
    }
}
