//! How deep our handlers of the five stand upon each other.
//!
//! While a hit is handled the five come through (SA_NODEFER): a handler of a probe may hit another, or crash. But where
//! somebody sends one faster than it is put aside, each comes on top of the one before, until the stack is full. So from
//! the first that was sent on, the kernel keeps a second one of the same back while our handler runs; and whoever goes on
//! to what may trap or fault lets it in first ([`let_in`]): what nests then are hits, which end.

use std::sync::atomic::{AtomicBool, Ordering::*};

use super::refresh_protected;
use crate::hit::process;
use crate::hit::seccomp;
use crate::hit::thread::{PROTECTED, PROTECTED_MASK};
use crate::sys;

/// Somebody has sent one.
static IS_BOUNDED: AtomicBool = AtomicBool::new(false);
/// The kernel has been told so.
static IS_TOLD: AtomicBool = AtomicBool::new(false);
/// Some thread may not change its mask any more, and could not let them in.
static IS_FORBIDDEN: AtomicBool = AtomicBool::new(false);

/// Of the kernel's registrations.
pub(super) fn flags() -> i32 {
    let is_bounded = IS_BOUNDED.load(SeqCst) && !IS_FORBIDDEN.load(SeqCst);
    if is_bounded { 0 } else { libc::SA_NODEFER }
}

fn refresh() {
    PROTECTED.into_iter().for_each(refresh_protected);
}

/// One of the five was sent by somebody. Signal-safe.
pub fn bound() {
    // A vfork child has a table of its own, in its parent's memory.
    if IS_TOLD.load(Relaxed) || IS_FORBIDDEN.load(SeqCst) || process::is_borrowed() {
        return;
    }
    if !seccomp::allows_any(libc::SYS_rt_sigprocmask) {
        return;
    }
    // Or the next would come between, and before that one's the one after.
    let mask = sys::set_signal_mask(!0);
    IS_BOUNDED.store(true, SeqCst);
    refresh();
    // Since meanwhile, perhaps.
    if IS_FORBIDDEN.load(SeqCst) {
        refresh();
    }
    IS_TOLD.store(true, SeqCst);
    sys::set_signal_mask(mask);
}

/// Lets them in, where the handler's begin has kept one out. Signal-safe.
#[inline]
pub fn let_in() {
    if IS_BOUNDED.load(Relaxed) {
        sys::set_signal_mask(!PROTECTED_MASK);
    }
}

/// A thread is about to lose the right to change its mask.
pub fn forbid() {
    if !IS_FORBIDDEN.swap(true, SeqCst) && IS_BOUNDED.load(SeqCst) {
        refresh();
    }
}
