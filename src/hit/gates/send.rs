//! Calls that send a signal to a thread.

use std::sync::atomic::Ordering::*;

use crate::hit::consumer::Flow;
use crate::hit::frame::SignalInfo;
use crate::hit::gates::skip;
use crate::hit::memory::SafeMemory;
use crate::hit::trap::Hit;
use crate::hit::{actions, pending, process, thread};
use crate::regs::Memory;
use crate::sys;

/// tgkill, rt_tgsigqueueinfo. A SIGTRAP for another thread of the process finds it at a breakpoint perhaps, and a SIGFPE
/// where it divides by zero for us.
pub(super) fn send(hit: &mut Hit<'_>, number: i64, args: [u64; 6]) -> Flow {
    let [pid, tid, signal, info, ..] = args;
    if !actions::is_protected(signal as i32) {
        // Made here, where it waits: a debugger that stops at it, or a core, shows no slot.
        // SAFETY: the program's own call, which a filter of its own allows.
        let result = unsafe { sys::unguarded(number, args.map(|arg| arg as usize)) };
        return skip(hit, result);
    }
    let signal = signal as i32;
    let is_other = pending::is_announced(signal)
        && pid as i32 == process::pid()
        && !process::is_borrowed()
        && tid as i32 != sys::gettid();
    let other = thread::all().find(|other| is_other && other.tid.load(Relaxed) == tid as i32);
    let Some(other) = other else { return Flow::Continue };
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
    }
    sent.signal = signal;
    skip(hit, pending::send(other, signal, &sent))
}
