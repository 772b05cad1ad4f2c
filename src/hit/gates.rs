//! The system calls of libc that we stand before: each site carries an internal probe on its
//! `syscall` instruction. The program gets exactly POSIX; the kernel never hears of a mask that
//! blocks our signals, nor of a handler that takes them away.
//!
//! A gate either leaves the call to be made, with its arguments mended, or makes it and skips it.

mod accept;
mod action;
mod descriptors;
mod execute;
mod mask;
mod send;
mod wait;

use std::sync::atomic::{AtomicPtr, Ordering::*};

pub(in crate::hit) use action::change_action;

use crate::hit::consumer::Flow;
use crate::hit::trap::Hit;
use crate::hit::{clones, output, process, restrict, seccomp, thread};
use crate::regs::{Reg, Regs};
use crate::sys::{self, SysResult};

/// Called before a program is executed over this one, with argv and envp pointers; returns the envp
/// to use.
static ON_EXEC: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// Called at `_exit`.
static ON_EXIT: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// What [`ON_EXEC`] holds.
pub type ExecHook = fn(u64) -> u64;

/// Remembers what to call when the process ends or becomes another program.
pub fn start(on_exit: fn(), on_exec: ExecHook) {
    ON_EXIT.store(on_exit as *mut (), Release);
    ON_EXEC.store(on_exec as *mut (), Release);
}

/// The system calls that are gated, by number.
pub const GATED: [i64; 20] = [
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigsuspend,
    libc::SYS_pselect6,
    libc::SYS_ppoll,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_prctl,
    libc::SYS_close_range,
    libc::SYS_vfork,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_tgkill,
    libc::SYS_rt_tgsigqueueinfo,
];

/// Gated besides, where descriptors of ours have numbers that the program could get.
pub const GATED_FOR_DESCRIPTORS: [i64; 7] = [
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
];

/// An internal consumer on a `syscall` instruction.
pub fn on_syscall(hit: &mut Hit<'_>) -> Flow {
    if let Some(thread) = thread::existing() {
        thread.settle_borrower();
    }
    let regs = &hit.regs;
    let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
    let number = regs.rax as i64;
    // It is not made, but raises SIGSYS.
    if thread::existing().is_some_and(|thread| thread.dispatch.catches(hit.point.next())) {
        return Flow::Continue;
    }
    // What a filter of the program's forbids, the kernel itself shall answer.
    if !matches!(number, libc::SYS_exit | libc::SYS_exit_group)
        && !seccomp::allows(number, &args.map(|arg| arg as usize))
    {
        return Flow::Continue;
    }
    match number {
        libc::SYS_rt_sigaction => action::sigaction(hit, args),
        libc::SYS_rt_sigprocmask => mask::sigprocmask(hit, args),
        libc::SYS_rt_sigpending => mask::sigpending(hit, args),
        libc::SYS_rt_sigtimedwait => accept::sigtimedwait(hit, args),
        libc::SYS_rt_sigsuspend => wait::wait_with(hit, Reg::Rdi, args[0]),
        libc::SYS_ppoll => wait::wait_with(hit, Reg::R10, args[3]),
        libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2 => wait::wait_with(hit, Reg::R8, args[4]),
        libc::SYS_pselect6 => wait::pselect(hit, args[5]),
        libc::SYS_execve => execute::execute(hit, args, 2),
        libc::SYS_execveat => execute::execute(hit, args, 3),
        libc::SYS_ptrace => execute::ptrace(hit, args[0]),
        libc::SYS_prctl => {
            // PR_SET_NAME (and whatever else): ask again at the next event.
            if let Some(thread) = thread::existing() {
                thread.comm_known.store(false, Relaxed);
            }
            restrict::on_prctl(hit, args)
        }
        libc::SYS_vfork | libc::SYS_clone | libc::SYS_clone3 => clones::on_clone(hit),
        libc::SYS_exit_group => on_exit(hit),
        libc::SYS_exit => {
            // A task that was cloned without thread-local data of its own ends nobody's calls.
            if let Some(thread) = thread::existing()
                && thread.tid.load(Relaxed) == sys::gettid()
            {
                thread.stack.end();
            }
            // What clone() was given to run may have returned: a process of one thread ends so, too.
            if !process::is_borrowed() && restrict::is_last_thread() {
                report();
            }
            restrict::end_here(number, args[0]);
            Flow::Continue
        }
        libc::SYS_tgkill | libc::SYS_rt_tgsigqueueinfo => send::send(hit, number, args),
        libc::SYS_close => descriptors::close(hit, args[0]),
        libc::SYS_dup | libc::SYS_fcntl | libc::SYS_fstat => descriptors::look(hit, args[0]),
        libc::SYS_newfstatat if args[3] as i32 & libc::AT_EMPTY_PATH != 0 => descriptors::look(hit, args[0]),
        libc::SYS_newfstatat => Flow::Continue,
        libc::SYS_close_range => descriptors::close_range(hit, args),
        libc::SYS_dup2 | libc::SYS_dup3 => {
            if !process::is_borrowed() && output::guarded(args[1] as i32..=args[1] as i32).is_some() {
                output::give_up(args[1] as i32);
            }
            Flow::Continue
        }
        _ => restrict::on_call(hit, number, args),
    }
}

/// An internal consumer on `_exit`: the process ends, unless it is a child that borrows our memory.
pub fn on_exit(hit: &mut Hit<'_>) -> Flow {
    if !process::is_borrowed() {
        report();
    }
    restrict::end_here(libc::SYS_exit_group, hit.regs.rdi);
    Flow::Continue
}

fn report() {
    let hook = ON_EXIT.load(Acquire);
    if !hook.is_null() {
        // SAFETY: stored from a fn() in start().
        unsafe { std::mem::transmute::<*mut (), fn()>(hook)() };
    }
}

/// Skips the system call: its result, the registers it clobbers, the next instruction.
pub(super) fn skip(hit: &mut Hit<'_>, result: SysResult) -> Flow {
    let next = hit.point.next();
    hit.regs.rax = match result {
        Ok(value) => value as u64,
        Err(errno) => (-(errno as i64)) as u64,
    };
    hit.regs.rcx = next;
    hit.regs.r11 = hit.regs.rflags;
    hit.regs.rip = next;
    Flow::RipChanged
}

/// After the system call: it is made once more, by way of its gate.
fn call_again(regs: &mut Regs, number: i64) {
    const SYSCALL_LEN: u64 = 2;
    regs.rax = number as u64;
    regs.rip -= SYSCALL_LEN;
}
