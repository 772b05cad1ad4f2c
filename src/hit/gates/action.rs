//! rt_sigaction.

use std::sync::atomic::{AtomicU64, Ordering::*};

use crate::hit::actions::{self, SIGNALS};
use crate::hit::consumer::Flow;
use crate::hit::gates::skip;
use crate::hit::memory::SafeMemory;
use crate::hit::thread::{self, PROTECTED_MASK};
use crate::hit::trap::Hit;
use crate::hit::{hidden, pending, process};
use crate::regs::Memory;
use crate::sys::{self, KernelSigaction, SIGSET_SIZE};

fn read_action(at: u64) -> Option<KernelSigaction> {
    let mut bytes = [0_u8; 32];
    if SafeMemory.read(at, &mut bytes) != bytes.len() {
        return None;
    }
    let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|b| bytes[8 * i + b]));
    Some(KernelSigaction {
        handler: word(0) as usize,
        flags: word(1),
        restorer: word(2) as usize,
        mask: word(3),
    })
}

fn write_action(at: u64, action: &KernelSigaction) -> bool {
    let words = [action.handler as u64, action.flags, action.restorer as u64, action.mask];
    (0..4).all(|i| SafeMemory.write(at + 8 * i as u64, &words[i].to_le_bytes()) == 8)
}

pub(super) fn sigaction(hit: &mut Hit<'_>, [signal, new, old, size, ..]: [u64; 6]) -> Flow {
    let signal = signal as i32;
    let known = (1..SIGNALS as i32).contains(&signal) && size as usize == SIGSET_SIZE;
    if !known || matches!(signal, libc::SIGKILL | libc::SIGSTOP) {
        return Flow::Continue;
    }
    let wanted = match new {
        0 => None,
        _ => match read_action(new) {
            Some(action) => Some(actions::as_stored(action)),
            None => return skip(hit, Err(libc::EFAULT)),
        },
    };
    let before = actions::believed(signal);
    if let Some(wanted) = wanted
        && let Err(errno) = change_action(signal, &before, &wanted)
    {
        return skip(hit, Err(errno));
    }
    if old != 0 && !write_action(old, &before) {
        return skip(hit, Err(libc::EFAULT));
    }
    skip(hit, Ok(0))
}

/// Carries a change of an action out, in the caller's own process: a child that borrows our memory has its own table.
///
/// # Errors
/// errno.
pub(in crate::hit) fn change_action(
    signal: i32,
    before: &KernelSigaction,
    wanted: &KernelSigaction,
) -> Result<(), i32> {
    if process::is_borrowed() {
        // The child's own kernel table, our tables untouched. Its protected signals stay ours until
        // it executes another program, which resets handlers anyway.
        if !actions::is_protected(signal) {
            let allowed = KernelSigaction { mask: wanted.mask & !PROTECTED_MASK, ..*wanted };
            // SAFETY: what the program itself asked for.
            unsafe { sys::sigaction(signal, Some(&allowed)) }?;
        } else if let Some(thread) = thread::current() {
            thread.lend();
            let bit = sys::sigbit(signal);
            let set = |cell: &AtomicU64, on: bool| {
                let bits = cell.load(Relaxed);
                cell.store(if on { bits | bit } else { bits & !bit }, Relaxed);
            };
            set(&thread.borrower_defaults, wanted.handler != 1);
            set(&thread.borrower_ignores, wanted.handler == 1);
        }
        return Ok(());
    }
    if actions::is_protected(signal) {
        actions::believe(signal, wanted);
        if wanted.handler != 0 {
            actions::bound(signal);
        }
        if signal == libc::SIGTRAP && wanted.handler != 0 {
            hidden::expect();
        }
        if wanted.handler == 1 {
            pending::discard(signal);
        }
        let kept = libc::SA_ONSTACK | libc::SA_RESTART;
        if (before.flags ^ wanted.flags) & kept as u64 != 0 {
            actions::refresh_protected(signal);
        }
        return Ok(());
    }
    actions::believe(signal, wanted);
    let ours = actions::kernel_action(signal, wanted);
    // SAFETY: the program's wish, through our shim.
    if let Err(errno) = unsafe { sys::sigaction(signal, Some(&ours)) } {
        actions::believe(signal, before);
        let _ = actions::kernel_action(signal, before);
        return Err(errno);
    }
    Ok(())
}
