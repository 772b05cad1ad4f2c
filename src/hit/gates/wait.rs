//! Calls that wait with a mask of their own: rt_sigsuspend, ppoll, pselect6, epoll_pwait.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};

use crate::hit::consumer::Flow;
use crate::hit::gates::skip;
use crate::hit::memory::SafeMemory;
use crate::hit::pending;
use crate::hit::thread::{self, PROTECTED_MASK};
use crate::hit::trap::Hit;
use crate::regs::{Memory, Reg};

/// Sanitised copies of masks are kept until the kernel has read them, which is at once; by then so many
/// others may have been made.
const MASK_COPIES: usize = 1024;

/// A call that waits with the mask at `at` in force, passed in `reg`.
pub(super) fn wait_with(hit: &mut Hit<'_>, reg: Reg, at: u64) -> Flow {
    let Some(mask) = SafeMemory.read_u64(at).filter(|_| at != 0) else { return Flow::Continue };
    match wait(hit, mask) {
        changed @ (Flow::RipChanged | Flow::Replaced) => changed,
        Flow::Continue => {
            if mask & PROTECTED_MASK != 0 {
                hit.changed = Some((reg, at));
                *hit.regs.get_mut(reg) = mask_copy([mask & !PROTECTED_MASK, 0]);
            }
            Flow::Continue
        }
    }
}

/// Makes `mask` the one in force for our signals while the call waits; one that is pending and that it
/// lets through ends the wait at once.
fn wait(hit: &mut Hit<'_>, mask: u64) -> Flow {
    let Some(thread) = thread::current() else { return Flow::Continue };
    pending::drop_ignored(thread, mask);
    if pending::mask_of(thread) & !mask != 0 {
        let before = *hit.regs;
        skip(hit, Err(libc::EINTR));
        // SAFETY: the frame of this signal, complete.
        if unsafe { pending::deliver(thread, hit.context, mask) } {
            return Flow::RipChanged;
        }
        *hit.regs = before;
    }
    // SAFETY: the frame of this signal.
    let own = unsafe { (*hit.context).mask } & !PROTECTED_MASK | thread.blocked.load(Relaxed);
    if mask != own {
        thread.begin_wait(mask);
        hit.after = Some(|thread, _, _| {
            thread.end_wait();
            true
        });
    }
    Flow::Continue
}

/// Address of two words that stay as they are until the kernel has read them.
fn mask_copy(words: [u64; 2]) -> u64 {
    static COPIES: [[AtomicU64; 2]; MASK_COPIES] =
        [const { [AtomicU64::new(0), AtomicU64::new(0)] }; MASK_COPIES];
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let copy = &COPIES[NEXT.fetch_add(1, Relaxed) % COPIES.len()];
    copy[0].store(words[0], Relaxed);
    copy[1].store(words[1], Relaxed);
    copy.as_ptr() as u64
}

/// pselect6's last argument points to {mask, size}.
pub(super) fn pselect(hit: &mut Hit<'_>, argument: u64) -> Flow {
    let at = SafeMemory.read_u64(argument).filter(|at| argument != 0 && *at != 0);
    let (Some(at), Some(size)) = (at, SafeMemory.read_u64(argument.wrapping_add(8))) else {
        return Flow::Continue;
    };
    let Some(mask) = SafeMemory.read_u64(at) else { return Flow::Continue };
    match wait(hit, mask) {
        changed @ (Flow::RipChanged | Flow::Replaced) => changed,
        Flow::Continue => {
            if mask & PROTECTED_MASK != 0 {
                hit.changed = Some((Reg::R9, argument));
                hit.regs.r9 = mask_copy([mask_copy([mask & !PROTECTED_MASK, 0]), size]);
            }
            Flow::Continue
        }
    }
}
