//! rt_sigtimedwait, which accepts a signal without a handler.

use std::sync::atomic::Ordering::*;

use crate::hit::consumer::Flow;
use crate::hit::frame::SignalInfo;
use crate::hit::gates::{call_again, skip};
use crate::hit::memory::SafeMemory;
use crate::hit::pending;
use crate::hit::thread::{self, PROTECTED_MASK, StepRecord, ThreadState};
use crate::hit::trap::Hit;
use crate::regs::{Memory, Regs};
use crate::sys::{self, SIGSET_SIZE};

pub(super) fn sigtimedwait(hit: &mut Hit<'_>, [set, info, _, size, ..]: [u64; 6]) -> Flow {
    if size as usize != SIGSET_SIZE {
        return Flow::Continue;
    }
    let (Some(thread), Some(wanted)) = (thread::current(), SafeMemory.read_u64(set)) else {
        return Flow::Continue;
    };
    // One that arrives while the thread waits is the kernel's to hand out, blocked or not; what came
    // earlier is with us, and what is sent to the process may come to another thread (see `deliver`).
    if wanted & PROTECTED_MASK != 0 {
        // What is sent to the process from now on may come here, but not before the sigreturn: it would
        // be set aside behind the look that follows. No fault and no trap of ours happens until then.
        thread.begin_accept(wanted);
        // SAFETY: the frame of this signal.
        let own = unsafe { (*hit.context).mask } & !PROTECTED_MASK | thread.blocked.load(Relaxed);
        thread.begin_wait(own);
        hit.after = Some(accepted);
        sys::set_signal_mask(!0);
    }
    let Some(taken) = pending::take(thread, wanted) else { return Flow::Continue };
    thread.accepts.store(0, Relaxed);
    thread.end_wait();
    hit.after = None;
    sys::set_signal_mask(!PROTECTED_MASK);
    // SAFETY: a siginfo is 128 plain bytes.
    let bytes = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(&taken).cast::<u8>(), 128) };
    if info != 0 && SafeMemory.write(info, bytes) != bytes.len() {
        return skip(hit, Err(libc::EFAULT));
    }
    skip(hit, Ok(taken.signal as usize))
}

/// After the wait: a signal that another thread passed on shows the program what was sent.
fn accepted(thread: &ThreadState, _: &StepRecord, regs: &mut Regs) -> bool {
    thread.accepts.store(0, Relaxed);
    // Woken by a signal that another thread took, and gives back: no handler ran, which would end the wait.
    let no_handler_ran = thread.waiting_mask().is_some();
    thread.end_wait();
    if no_handler_ran && regs.rax as i64 == -i64::from(libc::EINTR) {
        call_again(regs, libc::SYS_rt_sigtimedwait);
        return true;
    }
    let was_announced = show_what_was_sent(regs);
    let signal = regs.rax as i32;
    if was_announced && pending::is_announced(signal) {
        // Its announcement was seen by the trap that led here, or by nobody.
        let _ = pending::take_announced(signal);
        pending::forget(thread, signal);
    }
    true
}

/// Whether it came from another thread by way of us, as far as can be said.
fn show_what_was_sent(regs: &Regs) -> bool {
    let mut head = [0_u8; 16];
    if regs.rsi == 0 || (regs.rax as i64) <= 0 || SafeMemory.read(regs.rsi, &mut head) != head.len() {
        return regs.rsi == 0;
    }
    let word = |at: usize| i32::from_le_bytes(std::array::from_fn(|byte| head[at + byte]));
    let mut info = SignalInfo::new();
    (info.signal, info.errno, info.code) = (word(0), word(4), word(8));
    let was_sent_by_us = info.restore();
    if was_sent_by_us {
        let words = (u64::from(info.code as u32) << 32) | u64::from(info.errno as u32);
        SafeMemory.write(regs.rsi + 4, &words.to_le_bytes());
    }
    was_sent_by_us
}
