//! Calls that send a signal to a thread.

use std::sync::atomic::Ordering::*;

use crate::hit::consumer::Flow;
use crate::hit::frame::SignalInfo;
use crate::hit::gates::skip;
use crate::hit::memory::SafeMemory;
use crate::hit::thread::{self, ThreadState};
use crate::hit::trap::Hit;
use crate::hit::{actions, pending, process, seccomp};
use crate::regs::Memory;
use crate::sys;

/// tgkill, rt_tgsigqueueinfo. A SIGTRAP for another thread of the process finds it at a breakpoint perhaps, and a SIGFPE
/// where it divides by zero for us. What the latter sends has the code of sigqueue(), which sends to the process: where it
/// is blocked, nothing else would tell that it is the thread's.
pub(super) fn send(hit: &mut Hit<'_>, number: i64, args: [u64; 6]) -> Flow {
    let [pid, tid, signal, info, ..] = args;
    if !actions::is_protected(signal as i32) {
        // Made here, where it waits: a debugger that stops at it, or a core, shows no slot.
        // SAFETY: the program's own call, which a filter of its own allows.
        let result = unsafe { sys::unguarded(number, args.map(|arg| arg as usize)) };
        return skip(hit, result);
    }
    let signal = signal as i32;
    let tid = tid as i32;
    let is_near = pid as i32 == process::pid()
        && !process::is_borrowed()
        && seccomp::allows_any(libc::SYS_rt_tgsigqueueinfo)
        && (pending::is_announced(signal) || number != libc::SYS_tgkill);
    let own = thread::current().filter(|_| tid == sys::gettid());
    let is_open = |thread: &ThreadState| thread.blocked.load(Relaxed) & sys::sigbit(signal) == 0;
    if !is_near || own.is_some_and(|thread| number == libc::SYS_tgkill || is_open(thread)) {
        return Flow::Continue;
    }
    let mut sent = SignalInfo::new();
    if number == libc::SYS_tgkill {
        (sent.code, sent.address) = (libc::SI_TKILL, u64::from(sys::getuid()) << 32 | pid);
    } else {
        // SAFETY: a siginfo is 128 plain bytes.
        let bytes = unsafe { std::slice::from_raw_parts_mut((&raw mut sent).cast::<u8>(), 128) };
        // The kernel says what others are wrong with.
        if SafeMemory.read(info, bytes) != bytes.len() || sent.code >= 0 || sent.code == libc::SI_TKILL {
            return Flow::Continue;
        }
        sent.mark_for_thread();
    }
    sent.signal = signal;
    if let Some(thread) = own {
        pending::keep(thread, &sent);
        return skip(hit, Ok(0));
    }
    pending::send(tid, signal, &sent).map_or(Flow::Continue, |result| skip(hit, result))
}
