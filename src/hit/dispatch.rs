//! Syscall User Dispatch: while a byte of the program's says so, each system call that a thread makes from outside
//! a range of addresses raises SIGSYS in it instead of being made. Our own calls must be made all the same, the return
//! from a breakpoint's handler first of all: the kernel gets a range that has our code too. A call of the program's that
//! would have been caught, a gate leaves alone: it is made in its slot, and caught there.
//!
//! A range of the program's becomes the smallest one with both, and with the slots near it, in which its instructions
//! run: what is mapped between makes its calls, too.

use std::sync::atomic::{AtomicU64, Ordering::*};

use crate::hit::consumer::Flow;
use crate::hit::frame::{SignalContext, SignalInfo};
use crate::hit::gates::skip;
use crate::hit::memory::SafeMemory;
use crate::hit::slots;
use crate::hit::thread;
use crate::hit::trap::Hit;
use crate::insn::slot::SLOT_SIZE;
use crate::regs::Memory;
use crate::sys;

/// prctl(2), linux/prctl.h.
pub const PR_SET_SYSCALL_USER_DISPATCH: i32 = 59;
const OFF: u64 = 0;
const ON: u64 = 1;
/// What the byte says.
const FILTER_ALLOW: u8 = 0;

/// So far from what they stand for are slots at most.
const NEAR: u64 = 1 << 31;

/// Where our own code is, once somebody has asked.
static OWN: (AtomicU64, AtomicU64) = (AtomicU64::new(0), AtomicU64::new(0));

/// What a thread asked for; inherited by none.
#[derive(Default)]
pub struct Dispatch {
    is_on: AtomicU64,
    /// From here so many bytes make their calls.
    start: AtomicU64,
    len: AtomicU64,
    /// Where the byte is; 0: every call is caught.
    selector: AtomicU64,
}

impl Dispatch {
    /// The thread's calls are made.
    pub fn clear(&self) {
        self.is_on.store(OFF, Relaxed);
    }

    /// Whether a call that is made at `at` would be caught now. Signal-safe.
    #[must_use]
    pub fn catches(&self, at: u64) -> bool {
        if self.is_on.load(Relaxed) == OFF
            || at.wrapping_sub(self.start.load(Relaxed)) < self.len.load(Relaxed)
        {
            return false;
        }
        let (selector, mut byte) = (self.selector.load(Relaxed), [0]);
        selector == 0 || (SafeMemory.read(selector, &mut byte) == 1 && byte[0] != FILTER_ALLOW)
    }
}

/// Our own code is in `low..high`.
pub fn note_own(low: u64, high: u64) {
    OWN.0.store(low, Relaxed);
    OWN.1.store(high, Relaxed);
}

/// prctl(PR_SET_SYSCALL_USER_DISPATCH, mode, start, len, selector), before it is made.
pub fn on_prctl(hit: &mut Hit<'_>, [_, mode, start, len, selector, _]: [u64; 6]) -> Flow {
    let Some(thread) = thread::existing() else { return Flow::Continue };
    // Addresses that are none, the kernel refuses; other modes catch nothing in our code.
    let is_range = start == 0 || start.checked_add(len).is_some_and(|end| end > start);
    if mode > ON || (mode == ON && !is_range) {
        return Flow::Continue;
    }
    let (low, high) = (OWN.0.load(Relaxed), OWN.1.load(Relaxed));
    let (from, to) = match (mode, len) {
        (ON, 0) => (low, high),
        (ON, _) => slots::arenas()
            .map(|arena| (arena.base, arena.base + (arena.slots * SLOT_SIZE) as u64))
            .filter(|(base, _)| base.abs_diff(start) < NEAR)
            .fold((low.min(start), high.max(start + len)), |(from, to), (base, end)| {
                (from.min(base), to.max(end))
            }),
        // All of the others must be 0 then: the kernel looks at what the program gave.
        _ => (start, start.wrapping_add(len)),
    };
    let args = [hit.regs.rdi, mode, from, to.wrapping_sub(from), selector, hit.regs.r9];
    // SAFETY: the program's own call; where it is on, with more that is let through.
    let result = unsafe { sys::unguarded(hit.regs.rax as i64, args.map(|arg| arg as usize)) };
    if result.is_ok() {
        let dispatch = &thread.dispatch;
        dispatch.start.store(start, Relaxed);
        dispatch.len.store(len, Relaxed);
        dispatch.selector.store(selector, Relaxed);
        dispatch.is_on.store(mode, Relaxed);
    }
    skip(hit, result)
}

/// A call that raised SIGSYS at `from`, in a slot, is shown at the place that the frame shows by now.
///
/// # Safety
/// `context` is the kernel's frame of a SIGSYS.
pub unsafe fn show_place(context: *mut SignalContext, from: u64) {
    /// Of the kernel's struct ucontext, behind which it puts the siginfo.
    const CONTEXT_SIZE: usize = 304;
    // SAFETY: the caller's promise.
    let (now, info) =
        unsafe { ((*context).regs.rip, &mut *context.byte_add(CONTEXT_SIZE).cast::<SignalInfo>()) };
    if info.signal == libc::SIGSYS && info.is_synchronous() && info.address == from {
        info.address = now;
    }
}
