//! New tasks: what of them concerns us before they are there.
//!
//! A child that borrows our memory until it executes a program or ends (vfork, posix_spawn) runs on the state of the
//! thread that made it, which waits. Killed in the middle of a hit it leaves that unfinished, and its parent
//! would never be outside of one again: so the parent, when it is back, ends what was begun meanwhile. The
//! system call is a step; its second trap comes in the child and in the parent, and is the step's end in the
//! parent only.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};

use crate::hit::actions::{self, SIGNALS};
use crate::hit::consumer::Flow;
use crate::hit::gates;
use crate::hit::memory::SafeMemory;
use crate::hit::thread::{self, StepRecord, ThreadState};
use crate::hit::trap::Hit;
use crate::regs::{Memory, Reg, Regs};
use crate::sys::KernelSigaction;

/// The child begins with the default for every signal that is handled, also for those that are ours.
const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
/// What vfork asks for.
const BORROWED: u64 = (libc::CLONE_VM | libc::CLONE_VFORK) as u64;

/// A gate before vfork, clone and clone3.
pub fn on_clone(hit: &mut Hit<'_>) -> Flow {
    let flags = match hit.regs.rax as i64 {
        libc::SYS_vfork => Some(BORROWED),
        libc::SYS_clone => Some(hit.regs.rdi),
        _ => SafeMemory.read_u64(hit.regs.rdi),
    };
    let Some(flags) = flags else { return Flow::Continue };
    note_shared_storage(flags);
    let is_borrowed = flags & BORROWED == BORROWED;
    if is_borrowed {
        hit.after = Some(returned);
    }
    // The traps of the child are handled by us, too: ours are inherited, and the program's handlers are taken away
    // when it has begun.
    if hit.regs.rax as i64 == libc::SYS_clone3
        && flags & CLONE_CLEAR_SIGHAND != 0
        && let Some(copy) = copy_of(hit.regs.rdi, hit.regs.rsi, flags & !CLONE_CLEAR_SIGHAND)
    {
        hit.changed = Some((Reg::Rdi, hit.regs.rdi));
        hit.regs.rdi = copy;
        hit.after = Some(if is_borrowed { returned_cleared } else { cleared });
    }
    Flow::Continue
}

/// A task is about to be made that may run on the caller's own thread-local storage, beside it.
fn note_shared_storage(flags: u64) {
    const WHICH: u64 = BORROWED | libc::CLONE_SETTLS as u64;
    if flags & WHICH == libc::CLONE_VM as u64
        && let Some(thread) = thread::current()
    {
        thread.share();
    }
}

/// Back, in the child or in the parent.
fn returned(thread: &ThreadState, step: &StepRecord, regs: &mut Regs) -> bool {
    let in_child = regs.rax == 0;
    if !in_child {
        thread.settle_borrower();
        thread.abandon_hits(step);
    }
    !in_child
}

/// The same, where the child begins without handlers.
fn returned_cleared(thread: &ThreadState, step: &StepRecord, regs: &mut Regs) -> bool {
    clear_handlers(regs);
    returned(thread, step, regs)
}

/// Back from making a child with memory of its own, which begins without handlers.
fn cleared(_: &ThreadState, _: &StepRecord, regs: &mut Regs) -> bool {
    clear_handlers(regs);
    true
}

/// In the child: all signals that are caught are as they are by default.
fn clear_handlers(regs: &Regs) {
    if regs.rax != 0 {
        return;
    }
    let default = KernelSigaction { handler: 0, flags: 0, restorer: 0, mask: 0 };
    for signal in 1..SIGNALS as i32 {
        let before = actions::believed(signal);
        if before.handler > 1 && !matches!(signal, libc::SIGKILL | libc::SIGSTOP) {
            let _ = gates::change_action(signal, &before, &default);
        }
    }
}

/// Words of `struct clone_args` that kernels know so far, and some more.
const ARGUMENT_WORDS: usize = 16;
const COPIES: usize = 64;

/// A copy of the arguments with other flags. It is kept until the kernel has read it, which is at once.
fn copy_of(at: u64, size: u64, flags: u64) -> Option<u64> {
    static ARGUMENTS: [[AtomicU64; ARGUMENT_WORDS]; COPIES] =
        [const { [const { AtomicU64::new(0) }; ARGUMENT_WORDS] }; COPIES];
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let words = size as usize / 8;
    if !size.is_multiple_of(8) || !(1..=ARGUMENT_WORDS).contains(&words) {
        return None;
    }
    let copy = &ARGUMENTS[NEXT.fetch_add(1, Relaxed) % COPIES];
    copy[0].store(flags, Relaxed);
    for (i, word) in copy.iter().enumerate().take(words).skip(1) {
        word.store(SafeMemory.read_u64(at + 8 * i as u64)?, Relaxed);
    }
    Some(copy.as_ptr() as u64)
}
