//! Breakpoints that a sent SIGTRAP hides.
//!
//! The kernel keeps one SIGTRAP for a thread at a time. Where somebody has sent one (tgkill(2), pthread_kill(3)) in
//! the moment before an int3, that one's siginfo is all that is told of both, with rip behind the int3:
//!
//! ```text
//!   sender             thread              kernel                       here
//!   tgkill ─────────────────────────────► SIGTRAP pending, SI_TKILL
//!                      int3 ─────────────► vector 3; one is pending: dropped
//!                      P+1 ◄─ stopped ──── SI_TKILL, rip = P+1 ───────► on_trap: hit, and the sender's signal
//! ```
//!
//! A thread may be at P+1 without that: it was sent on to there (the instruction at P has one byte), branched to there
//! (from a loop, past a lock prefix), or a handler returned to there. What tells is the vector in the frame, which is
//! that of the thread's last exception. The kernel never clears it, and so we do: in a program that may be sent
//! SIGTRAPs, each trap is at once followed by an exception of another vector, of our own ([`settle`]). A vector of 3
//! then is that of an int3 which nobody has seen yet.
//!
//! Only the first SIGTRAP that is sent to a thread may come before that; there the place is all that can be looked at.

use std::arch::global_asm;
use std::sync::atomic::{AtomicBool, Ordering::*};

use crate::hit::frame::{SignalContext, VECTOR_BREAKPOINT};
use crate::hit::point::{self, STEP_OFFSET};
use crate::hit::thread::{self, ThreadState};
use crate::hit::{actions, asm, detour, fault, slots, trap};
use crate::sys::sigbit;

/// Whether the program may be sent SIGTRAPs. Never cleared.
static EXPECTED: AtomicBool = AtomicBool::new(false);

/// From now on the program may be sent SIGTRAPs: it has said what is to become of them, or one came. Signal-safe.
pub fn expect() {
    if !EXPECTED.load(Relaxed) {
        EXPECTED.store(true, Relaxed);
    }
}

/// What the vector of a frame says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Evidence {
    /// It is of an exception that nobody has seen before this frame.
    Fresh,
    /// It may be of one that was handled.
    Unknown,
}

/// The frame of the code that a SIGTRAP's frame stands upon. Where a SIGILL was delivered with it, that one's handler
/// was to begin between the two: the kernel takes the lower number first.
///
/// # Safety
/// `context` is the kernel's frame of a SIGTRAP.
#[must_use]
pub unsafe fn trapped(context: *mut SignalContext) -> *mut SignalContext {
    // SAFETY: the caller's promise.
    let regs = unsafe { &(*context).regs };
    // A handler begins with its arguments: the signal, its information, its frame.
    if regs.rip == fault::on_fault as *const () as u64 && regs.rdi as i32 == libc::SIGILL {
        return regs.rdx as *mut SignalContext;
    }
    context
}

/// To be called first wherever an int3 may have led: what the frame's vector says, and the thread's own is changed, so
/// that it says something in the next frame. Signal-safe.
pub fn settle(context: &SignalContext) -> Evidence {
    if !EXPECTED.load(Relaxed) {
        return Evidence::Unknown;
    }
    let Some(thread) = thread::current() else { return Evidence::Unknown };
    let was_settled = thread.is_settled.load(Relaxed);
    if context.trap_number == VECTOR_BREAKPOINT {
        let can_settle = can_take_another(context);
        if can_settle {
            // SAFETY: `on_fault` takes the exception, see `after_settling`.
            unsafe { uprobe_settle() };
        }
        thread.is_settled.store(can_settle, Relaxed);
    }
    if was_settled { Evidence::Fresh } else { Evidence::Unknown }
}

/// Whether SIGFPE comes to us here: it isn't blocked, and its frame has room where the program wants it to stand.
fn can_take_another(context: &SignalContext) -> bool {
    /// More than the kernel's largest frame (AVX-512 and AMX: some 11 KiB).
    const ROOM: u64 = 16 << 10;
    if context.mask & sigbit(libc::SIGFPE) != 0 {
        return false;
    }
    let on_alternate = actions::believed(libc::SIGFPE).flags & libc::SA_ONSTACK as u64 != 0;
    !on_alternate || context.alternate_stack_size().is_none_or(|size| size >= ROOM)
}

/// Where the thread goes on, if the division by zero at `rip` is ours.
#[must_use]
pub fn after_settling(rip: u64) -> Option<u64> {
    (rip == &raw const uprobe_settling as u64).then_some(&raw const uprobe_settled as u64)
}

/// Whether a thread that got a SIGTRAP from somebody has run into an int3 of ours, too, and is behind it.
#[must_use]
pub fn is_hidden(context: &SignalContext, evidence: Evidence) -> bool {
    let rip = context.regs.rip;
    if context.trap_number != VECTOR_BREAKPOINT {
        return false;
    }
    let at = rip.wrapping_sub(1);
    let is_step = |at: u64| slots::owner(at).is_some_and(|found| at >= found.slot() + STEP_OFFSET);
    let is_here = rip == asm::deliver_site() || detour::is_resume_site(rip);
    if evidence == Evidence::Fresh {
        // If not one of ours, it is the program's own, which its sender has hidden without us, too.
        return match point::lookup(at) {
            Some(found) => found.armed.load(Acquire) || trap::is_not_breakpoint(at),
            None => is_here || detour::inner_undefined(at).is_some() || is_step(at),
        };
    }
    if detour::inner(rip).is_some() {
        return false;
    }
    match point::lookup(at).filter(|found| found.armed.load(Acquire)) {
        // Behind an instruction of one byte that was emulated before, the thread may be as well.
        Some(found) if found.insn.len == 1 => {
            let has_resumed = |thread: &ThreadState| thread.has_resumed_at(&context.regs);
            !trap::is_not_breakpoint(at) && !thread::existing().is_some_and(has_resumed)
        }
        Some(_) => !trap::is_not_breakpoint(at),
        None => is_here || detour::inner(at).is_some() || (is_step(at) && !trap::is_not_breakpoint(at)),
    }
}

global_asm!(
    ".text",
    ".p2align 4",
    ".globl uprobe_settle",
    ".hidden uprobe_settle",
    ".globl uprobe_settling",
    ".hidden uprobe_settling",
    ".globl uprobe_settled",
    ".hidden uprobe_settled",
    ".type uprobe_settle,@function",
    // A division by zero: of all exceptions the one that neither hypervisors nor the kernel look at for long.
    "uprobe_settle:",
    ".cfi_startproc",
    "xor ecx, ecx",
    "xor edx, edx",
    "uprobe_settling:",
    "div ecx",
    "uprobe_settled:",
    "ret",
    ".cfi_endproc",
    ".size uprobe_settle, . - uprobe_settle",
);

unsafe extern "C" {
    /// Raises an exception, and returns.
    fn uprobe_settle();
    static uprobe_settling: u8;
    static uprobe_settled: u8;
}
