//! How deep our handlers of the five stand upon each other.
//!
//! While a hit is handled the five come through (SA_NODEFER): a handler of a probe may hit another, or crash. But where
//! somebody sends one faster than it is put aside, each comes on top of the one before, until the stack is full. So where
//! one may be sent (the program has said what is to become of it, or one came), the kernel keeps a second one of the same
//! back while our handler runs; and whoever goes on to what may trap or fault lets it in first ([`let_in`]): what nests
//! then are hits, which end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

use super::refresh_protected;
use crate::hit::thread::{PROTECTED, PROTECTED_MASK};
use crate::hit::{process, seccomp};
use crate::sys::{self, sigbit};

/// Which of them may be sent.
static BOUNDED: AtomicU64 = AtomicU64::new(0);
/// Of which the kernel has been told so.
static TOLD: AtomicU64 = AtomicU64::new(0);
/// Some thread may not change its mask any more, and could not let them in.
static IS_FORBIDDEN: AtomicBool = AtomicBool::new(false);

/// Of the kernel's registration.
pub(super) fn flags(signal: i32) -> i32 {
    let is_bounded = BOUNDED.load(SeqCst) & sigbit(signal) != 0 && !IS_FORBIDDEN.load(SeqCst);
    if is_bounded { 0 } else { libc::SA_NODEFER }
}

/// `signal`, one of the five, may be sent by somebody. Signal-safe.
pub fn bound(signal: i32) {
    let bit = sigbit(signal);
    // A vfork child has a table of its own, in its parent's memory.
    if TOLD.load(Relaxed) & bit != 0 || IS_FORBIDDEN.load(SeqCst) || process::is_borrowed() {
        return;
    }
    if !seccomp::allows_any(libc::SYS_rt_sigprocmask) {
        return;
    }
    // Or the next would come between, and before that one's the one after.
    let Ok(mask) = sys::try_set_signal_mask(!0) else {
        // A filter that nobody has told us of.
        return IS_FORBIDDEN.store(true, SeqCst);
    };
    BOUNDED.fetch_or(bit, SeqCst);
    refresh_protected(signal);
    // Since meanwhile, perhaps.
    if IS_FORBIDDEN.load(SeqCst) {
        refresh_protected(signal);
    }
    TOLD.fetch_or(bit, SeqCst);
    sys::set_signal_mask(mask);
}

/// Lets all in, where the beginning of a handler of one of `signals` may have kept one out. Signal-safe.
#[inline]
pub fn let_in(signals: u64) {
    if BOUNDED.load(Relaxed) & signals != 0 {
        sys::set_signal_mask(!PROTECTED_MASK);
    }
}

/// A thread is about to lose the right to change its mask.
pub fn forbid() {
    if !IS_FORBIDDEN.swap(true, SeqCst) && BOUNDED.load(SeqCst) != 0 {
        PROTECTED.into_iter().for_each(refresh_protected);
    }
}
