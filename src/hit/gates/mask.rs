//! rt_sigprocmask and rt_sigpending.

use std::sync::atomic::Ordering::*;

use crate::hit::consumer::Flow;
use crate::hit::gates::skip;
use crate::hit::memory::SafeMemory;
use crate::hit::pending;
use crate::hit::thread::{self, PROTECTED_MASK};
use crate::hit::trap::Hit;
use crate::regs::Memory;
use crate::sys::{self, SIGSET_SIZE};

pub(super) fn sigprocmask(hit: &mut Hit<'_>, [how, new, old, size, ..]: [u64; 6]) -> Flow {
    if size as usize != SIGSET_SIZE {
        return Flow::Continue;
    }
    // SAFETY: the frame of this signal.
    let frame_mask = unsafe { &mut (*hit.context).mask };
    let thread = thread::current();
    if let Some(thread) = thread {
        thread.reconcile(*frame_mask);
    }
    let blocked = thread.map_or(0, |thread| thread.blocked.load(Relaxed));
    let before = (*frame_mask & !PROTECTED_MASK) | blocked;
    let mut after = before;
    if new != 0 {
        let Some(set) = SafeMemory.read_u64(new) else { return skip(hit, Err(libc::EFAULT)) };
        let set = set & !(sys::sigbit(libc::SIGKILL) | sys::sigbit(libc::SIGSTOP));
        after = match how as i32 {
            libc::SIG_BLOCK => before | set,
            libc::SIG_UNBLOCK => before & !set,
            libc::SIG_SETMASK => set,
            _ => return skip(hit, Err(libc::EINVAL)),
        };
    }
    // sigreturn puts it into force; the kernel never sees ours blocked.
    *frame_mask = after & !PROTECTED_MASK;
    let copied = old == 0 || SafeMemory.write(old, &before.to_le_bytes()) == 8;
    skip(hit, if copied { Ok(0) } else { Err(libc::EFAULT) });
    if let Some(thread) = thread {
        thread.lend_if_borrowed();
        thread.end_wait();
        thread.set_mask(after);
        // SAFETY: the frame of this signal, complete.
        unsafe { pending::deliver(thread, hit.context, after) };
    }
    Flow::RipChanged
}

pub(super) fn sigpending(hit: &mut Hit<'_>, [set, size, ..]: [u64; 6]) -> Flow {
    if size as usize > SIGSET_SIZE {
        return Flow::Continue;
    }
    let mut pending = 0_u64;
    // SAFETY: the kernel writes eight bytes.
    let result = unsafe { sys::syscall3(libc::SYS_rt_sigpending, &raw mut pending as usize, SIGSET_SIZE, 0) };
    if let Some(thread) = thread::current() {
        pending |= pending::mask_of(thread);
        // What is pending only because a hit is being handled is not blocked in the program's eyes.
        // SAFETY: the frame of this signal.
        let blocked = unsafe { (*hit.context).mask } | thread.blocked.load(Relaxed);
        pending &= blocked;
    }
    if SafeMemory.write(set, &pending.to_le_bytes()[..size as usize]) != size as usize {
        return skip(hit, Err(libc::EFAULT));
    }
    skip(hit, result)
}
