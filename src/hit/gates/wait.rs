//! Calls that wait with a mask of their own: rt_sigsuspend, ppoll, pselect6, epoll_pwait.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};

use crate::hit::consumer::Flow;
use crate::hit::gates::{call_again, skip};
use crate::hit::memory::SafeMemory;
use crate::hit::pending;
use crate::hit::thread::{self, PROTECTED_MASK, StepRecord, ThreadState};
use crate::hit::trap::Hit;
use crate::regs::{Memory, Reg, Regs};
use crate::sys::{self, SysResult};

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
    // SAFETY: the frame of this signal.
    let own = unsafe { (*hit.context).mask } & !PROTECTED_MASK | thread.blocked.load(Relaxed);
    loop {
        // Before the look: who makes one pending for the process later than that sees that it is let through here.
        if mask != own {
            thread.begin_wait(mask);
        }
        pending::drop_ignored(thread, mask);
        // Inside a handler of a probe they wait for its end.
        if thread.run().is_on() || pending::mask_of(thread) & !mask == 0 {
            break;
        }
        thread.end_wait();
        if let Some(result) = at_once(hit.regs) {
            return skip(hit, result);
        }
        let before = *hit.regs;
        skip(hit, Err(libc::EINTR));
        // SAFETY: the frame of this signal, complete.
        if unsafe { pending::deliver(thread, hit.context, mask) } {
            return Flow::RipChanged;
        }
        // Another thread took it.
        *hit.regs = before;
    }
    if mask != own {
        thread.leads_to_wait.store(hit.context as u64, Relaxed);
        hit.after = Some(match hit.regs.rax as i64 {
            libc::SYS_epoll_pwait => waited_for_events::<{ libc::SYS_epoll_pwait }>,
            libc::SYS_epoll_pwait2 => waited_for_events::<{ libc::SYS_epoll_pwait2 }>,
            _ => waited,
        });
    }
    Flow::Continue
}

/// What the call returns where it need not wait: then nothing is let in. The kernel looks at the descriptors first.
fn at_once(regs: &Regs) -> Option<SysResult> {
    // The kernel writes there what is left of it.
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let no_time = &raw mut time as usize;
    let [first, second, third, fourth] = [regs.rdi, regs.rsi, regs.rdx, regs.r10].map(|word| word as usize);
    let result = match regs.rax as i64 {
        // SAFETY: the program's own call, but for its mask and its time.
        libc::SYS_ppoll => unsafe { sys::syscall6(libc::SYS_ppoll, first, second, no_time, 0, 0, 0) },
        libc::SYS_pselect6 => select_at_once(first, [second, third, fourth], no_time),
        libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2 => {
            // SAFETY: as above.
            let result = unsafe { sys::syscall4(libc::SYS_epoll_wait, first, second, third, 0) };
            let has_no_time = if regs.rax as i64 == libc::SYS_epoll_pwait {
                fourth as i32 == 0
            } else {
                fourth != 0 && [0, 8].map(|at| SafeMemory.read_u64(regs.r10.wrapping_add(at))) == [Some(0); 2]
            };
            // Alone of them it does not ask for signals then.
            if has_no_time {
                return Some(result);
            }
            result
        }
        _ => return None,
    };
    Some(result).filter(|result| *result != Ok(0))
}

/// The same of pselect, which empties the sets where it finds nothing: a signal would have left them.
fn select_at_once(count: usize, sets: [usize; 3], no_time: usize) -> SysResult {
    /// What FD_SETSIZE makes of it. Of more, nothing is known.
    const BYTES: usize = 128;
    let len = (count as i32).max(0).unsigned_abs().div_ceil(64) as usize * 8;
    let mut copies = [[0_u8; BYTES]; 3];
    let mut given = [0_usize; 3];
    for ((set, copy), given) in sets.iter().zip(&mut copies).zip(&mut given) {
        if *set != 0 {
            let Some(copy) = copy.get_mut(..len) else { return Ok(0) };
            if SafeMemory.read(*set as u64, copy) != len {
                return Err(libc::EFAULT);
            }
            *given = copy.as_mut_ptr() as usize;
        }
    }
    let [read, write, except] = given;
    // SAFETY: sets of ours, of that many descriptors.
    let result = unsafe { sys::syscall6(libc::SYS_pselect6, count, read, write, except, no_time, 0) };
    if result.is_ok_and(|ready| ready > 0) {
        for (set, copy) in sets.iter().zip(&copies).filter(|(set, _)| **set != 0) {
            if SafeMemory.write(*set as u64, &copy[..len]) != len {
                return Err(libc::EFAULT);
            }
        }
    }
    result
}

fn waited(thread: &ThreadState, _: &StepRecord, _: &mut Regs) -> bool {
    thread.end_wait();
    true
}

/// The kernel may wake a thread for a signal of the process, and another of our threads, where the program blocks it,
/// takes it first and passes it on. All other calls are restarted by the kernel, if no handler runs; these two are
/// not. (Nor where the process was stopped: nobody wants to know that.)
fn waited_for_events<const NUMBER: i64>(thread: &ThreadState, _: &StepRecord, regs: &mut Regs) -> bool {
    let no_handler_ran = thread.waiting_mask().is_some();
    thread.end_wait();
    if no_handler_ran && regs.rax as i64 == -i64::from(libc::EINTR) {
        call_again(regs, NUMBER);
    }
    true
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
