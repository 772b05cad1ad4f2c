//! Children that borrow our memory until they execute a program or end: vfork, posix_spawn.
//!
//! Such a child runs on the state of the thread that made it, which waits. Killed in the middle of a hit it
//! leaves that unfinished, and its parent would never be outside of one again: so the parent, when it is back,
//! ends what was begun meanwhile. The system call is a step; its second trap comes in the child and in the
//! parent, and is the step's end in the parent only.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};

use crate::hit::consumer::Flow;
use crate::hit::gates;
use crate::hit::memory::SafeMemory;
use crate::hit::thread::{self, StepRecord, ThreadState};
use crate::hit::trap::Hit;
use crate::regs::{Memory, Reg, Regs};

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
    note_new_task(flags);
    let is_borrowed = flags & BORROWED == BORROWED;
    if is_borrowed {
        hit.after = Some(returned);
    }
    // The traps of the child are handled by us, too. One that borrows our memory can't tell, if it executes another
    // program: that resets what is handled. Of others the program's handlers are taken away when they have begun.
    if hit.regs.rax as i64 == libc::SYS_clone3
        && flags & CLONE_CLEAR_SIGHAND != 0
        && let Some(copy) = copy_of(hit.regs.rdi, hit.regs.rsi, flags & !CLONE_CLEAR_SIGHAND)
    {
        hit.changed = Some((Reg::Rdi, hit.regs.rdi));
        hit.regs.rdi = copy;
        if !is_borrowed {
            hit.after = Some(begun_without_handlers);
        }
    }
    Flow::Continue
}

/// A task is about to be made that may run on the caller's own thread-local storage.
fn note_new_task(flags: u64) {
    const WHICH: u64 = (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_SETTLS) as u64;
    if flags & WHICH == libc::CLONE_VM as u64
        && let Some(thread) = thread::current()
    {
        thread.share();
    }
}

/// In the child: all signals that are caught are as they are by default.
fn begun_without_handlers(_thread: &ThreadState, _step: &StepRecord, regs: &mut Regs) -> bool {
    if regs.rax == 0 {
        gates::drop_handlers();
    }
    true
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

/// Words of `struct clone_args` that kernels know so far, and some more.
const ARGUMENT_WORDS: usize = 16;
const COPIES: usize = 64;

/// A copy of the arguments with other flags. It is kept until the kernel has read it, which is at once.
fn copy_of(at: u64, size: u64, flags: u64) -> Option<u64> {
    static ARGUMENTS: [[AtomicU64; ARGUMENT_WORDS]; COPIES] =
        [const { [const { AtomicU64::new(0) }; ARGUMENT_WORDS] }; COPIES];
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let words = size as usize / 8;
    if !size.is_multiple_of(8) || words > ARGUMENT_WORDS {
        return None;
    }
    let copy = &ARGUMENTS[NEXT.fetch_add(1, Relaxed) % COPIES];
    copy[0].store(flags, Relaxed);
    for (i, word) in copy.iter().enumerate().take(words).skip(1) {
        word.store(SafeMemory.read_u64(at + 8 * i as u64)?, Relaxed);
    }
    Some(copy.as_ptr() as u64)
}
