//! execve and execveat, and what waits for them.

use std::sync::atomic::Ordering::*;

use crate::hit::consumer::Flow;
use crate::hit::gates::{ExecHook, ON_EXEC, skip};
use crate::hit::thread::{self, PROTECTED_MASK, ThreadState};
use crate::hit::trap::Hit;
use crate::hit::{actions, asm, pending, process};
use crate::sys::{self, KernelSigaction};

/// The state on which the caller runs, where that is a vfork child that has said something of its own.
fn borrowed_state() -> Option<&'static ThreadState> {
    thread::current().filter(|thread| thread.borrower.load(Relaxed) == sys::getpid())
}

/// Whether a protected signal is ignored, in a vfork child's own eyes where it said something.
fn is_ignored(signal: i32) -> bool {
    let bit = sys::sigbit(signal);
    match borrowed_state() {
        Some(thread) if thread.borrower_defaults.load(Relaxed) & bit != 0 => false,
        Some(thread) if thread.borrower_ignores.load(Relaxed) & bit != 0 => true,
        _ => actions::is_ignored(signal),
    }
}

/// execve and execveat, made from here: handlers are reset by the kernel, but the mask and the ignored
/// signals are inherited, and those must be the program's own.
pub(super) fn execute(hit: &mut Hit<'_>, mut args: [u64; 6], envp: usize) -> Flow {
    let hook = ON_EXEC.load(Acquire);
    // A program that is looked for in folder after folder (execvp) ends this one only where it is found.
    let found = hit.regs.rax as i64 != libc::SYS_execve || sys::is_executable(args[0] as usize);
    if !hook.is_null() && found {
        // SAFETY: stored from an ExecHook in start().
        let hook = unsafe { std::mem::transmute::<*mut (), ExecHook>(hook) };
        args[envp] = hook(args[envp]);
    }
    let ignored = thread::PROTECTED.map(|signal| (signal, is_ignored(signal)));
    for (signal, ignored) in ignored {
        if ignored {
            let ignore = KernelSigaction {
                handler: 1,
                flags: sys::SA_RESTORER,
                restorer: asm::uprobe_restorer as *const () as usize,
                mask: 0,
            };
            // SAFETY: SIG_IGN.
            let _ = unsafe { sys::sigaction(signal, Some(&ignore)) };
        }
    }
    let blocked = thread::current().map_or(0, |thread| thread.blocked.load(Relaxed));
    // SAFETY: the frame of this signal.
    let mask = unsafe { (*hit.context).mask };
    let ours = sys::set_signal_mask((mask & !PROTECTED_MASK) | blocked);
    if let Some(thread) = thread::existing() {
        pending::hand_over(thread, blocked);
    }
    let number = hit.regs.rax as i64;
    if found {
        begin_to_be_traced();
    }
    // A child that borrows our memory does not come back from here: the hit must not look unfinished to
    // the thread it borrowed from.
    let depth = thread::existing().map_or(0, ThreadState::suspend);
    // SAFETY: the program's own call with its own arguments; where it succeeds nothing of us is left.
    let result = unsafe {
        sys::syscall6(
            number,
            args[0] as usize,
            args[1] as usize,
            args[2] as usize,
            args[3] as usize,
            args[4] as usize,
            args[5] as usize,
        )
    };
    if let Some(thread) = thread::existing() {
        thread.resume(depth);
    }
    sys::set_signal_mask(ours);
    for (signal, ignored) in ignored {
        if ignored {
            actions::refresh_protected(signal);
        }
    }
    // Still here: this process's own report is to come.
    if !process::is_borrowed() {
        let _ = process::page().finished.compare_exchange(1, 0, Relaxed, Relaxed);
    }
    skip(hit, result)
}

/// ptrace(PTRACE_TRACEME). Who is traced stops at a breakpoint of ours, and a vfork child does so for good: its parent, which
/// would let it go on, waits for it to execute something (gdb begins a program so). So it is traced from there on.
pub(super) fn ptrace(hit: &mut Hit<'_>, request: u64) -> Flow {
    if request != u64::from(libc::PTRACE_TRACEME) || !process::is_borrowed() {
        return Flow::Continue;
    }
    // One beside its parent has a state of its own.
    let Some(thread) = thread::existing().filter(|thread| thread.tid.load(Relaxed) != sys::gettid()) else {
        return Flow::Continue;
    };
    thread.lend();
    thread.borrower_is_traced.store(true, Relaxed);
    skip(hit, Ok(0))
}

fn begin_to_be_traced() {
    if borrowed_state().is_some_and(|thread| thread.borrower_is_traced.swap(false, Relaxed)) {
        // SAFETY: the program's own call; it has no pointers.
        let _ = unsafe { sys::syscall3(libc::SYS_ptrace, libc::PTRACE_TRACEME as usize, 0, 0) };
    }
}
