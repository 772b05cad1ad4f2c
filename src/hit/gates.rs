//! The system calls of libc that we stand before: each site carries an internal probe on its
//! `syscall` instruction. The program gets exactly POSIX; the kernel never hears of a mask that
//! blocks our signals, nor of a handler that takes them away.
//!
//! A gate either leaves the call to be made, with its arguments mended, or makes it and skips it.

use std::sync::atomic::{AtomicPtr, Ordering::*};

use crate::hit::actions::{self, SIGNALS};
use crate::hit::consumer::Flow;
use crate::hit::memory::SafeMemory;
use crate::hit::thread::{self, PROTECTED_MASK};
use crate::hit::trap::Hit;
use crate::hit::{asm, process};
use crate::regs::Memory;
use crate::sys::{self, KernelSigaction, SIGSET_SIZE, SysResult};

/// Sanitised copies of masks live here until the kernel has read them; a handler that interrupts
/// in between uses the next.
const MASK_COPIES: usize = 16;

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
pub const GATED: [i64; 14] = [
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
    libc::SYS_prctl,
    libc::SYS_exit_group,
    libc::SYS_exit,
];

/// An internal consumer on a `syscall` instruction.
pub fn on_syscall(hit: &mut Hit<'_>) -> Flow {
    let regs = &hit.regs;
    let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
    match regs.rax as i64 {
        libc::SYS_rt_sigaction => sigaction(hit, args),
        libc::SYS_rt_sigprocmask => sigprocmask(hit, args),
        libc::SYS_rt_sigpending => sigpending(hit, args),
        libc::SYS_rt_sigtimedwait => sigtimedwait(hit, args),
        libc::SYS_rt_sigsuspend => {
            hit.regs.rdi = mended_mask(args[0]).unwrap_or(args[0]);
            Flow::Continue
        }
        libc::SYS_ppoll => {
            hit.regs.r10 = mended_mask(args[3]).unwrap_or(args[3]);
            Flow::Continue
        }
        libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2 => {
            hit.regs.r8 = mended_mask(args[4]).unwrap_or(args[4]);
            Flow::Continue
        }
        libc::SYS_pselect6 => {
            pselect(hit, args[5]);
            Flow::Continue
        }
        libc::SYS_execve => execute(hit, args, 2),
        libc::SYS_execveat => execute(hit, args, 3),
        libc::SYS_prctl => {
            // PR_SET_NAME (and whatever else): ask again at the next event.
            if let Some(thread) = thread::existing() {
                thread.comm_known.store(false, Relaxed);
            }
            Flow::Continue
        }
        libc::SYS_exit_group => on_exit(hit),
        _ => Flow::Continue,
    }
}

/// An internal consumer on `_exit`: the process ends, unless it is a child that borrows our memory.
pub fn on_exit(_hit: &mut Hit<'_>) -> Flow {
    if !process::is_borrowed() {
        let hook = ON_EXIT.load(Acquire);
        if !hook.is_null() {
            // SAFETY: stored from a fn() in start().
            unsafe { std::mem::transmute::<*mut (), fn()>(hook)() };
        }
    }
    Flow::Continue
}

/// Skips the system call: its result, the registers it clobbers, the next instruction.
fn skip(hit: &mut Hit<'_>, result: SysResult) -> Flow {
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

fn sigaction(hit: &mut Hit<'_>, [signal, new, old, size, ..]: [u64; 6]) -> Flow {
    let signal = signal as i32;
    let known = (1..SIGNALS as i32).contains(&signal) && size as usize == SIGSET_SIZE;
    if !known || matches!(signal, libc::SIGKILL | libc::SIGSTOP) {
        return Flow::Continue;
    }
    let wanted = match new {
        0 => None,
        _ => match read_action(new) {
            // The kernel never lets KILL and STOP be blocked, and shows so.
            Some(mut action) => {
                action.mask &= !(sys::sigbit(libc::SIGKILL) | sys::sigbit(libc::SIGSTOP));
                Some(action)
            }
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

fn change_action(signal: i32, before: &KernelSigaction, wanted: &KernelSigaction) -> Result<(), i32> {
    if process::is_borrowed() {
        // The child's own kernel table, our tables untouched. Its protected signals stay ours until
        // it executes another program, which resets handlers anyway.
        if !actions::is_protected(signal) {
            // SAFETY: what the program itself asked for.
            unsafe { sys::sigaction(signal, Some(wanted)) }?;
        }
        return Ok(());
    }
    if actions::is_protected(signal) {
        actions::believe(signal, wanted);
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

fn sigprocmask(hit: &mut Hit<'_>, [how, new, old, size, ..]: [u64; 6]) -> Flow {
    if size as usize != SIGSET_SIZE {
        return Flow::Continue;
    }
    // SAFETY: the frame of this signal.
    let frame_mask = unsafe { &mut (*hit.context).mask };
    let thread = thread::current();
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
    if let Some(thread) = thread {
        actions::set_blocked(thread, after & PROTECTED_MASK);
    }
    if old != 0 && SafeMemory.write(old, &before.to_le_bytes()) != 8 {
        return skip(hit, Err(libc::EFAULT));
    }
    skip(hit, Ok(0))
}

fn sigpending(hit: &mut Hit<'_>, [set, size, ..]: [u64; 6]) -> Flow {
    if size as usize > SIGSET_SIZE {
        return Flow::Continue;
    }
    let mut pending = 0_u64;
    // SAFETY: the kernel writes eight bytes.
    let result = unsafe { sys::syscall3(libc::SYS_rt_sigpending, &raw mut pending as usize, SIGSET_SIZE, 0) };
    if let Some(thread) = thread::current() {
        pending |= actions::pending_mask(thread);
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

fn sigtimedwait(hit: &mut Hit<'_>, [set, info, _, size, ..]: [u64; 6]) -> Flow {
    if size as usize != SIGSET_SIZE {
        return Flow::Continue;
    }
    let (Some(thread), Some(wanted)) = (thread::current(), SafeMemory.read_u64(set)) else {
        return Flow::Continue;
    };
    // One that arrives while the thread waits is the kernel's to hand out, blocked or not; only what
    // came earlier is with us.
    let Some(taken) = actions::take_pending(thread, wanted) else { return Flow::Continue };
    // SAFETY: a siginfo is 128 plain bytes.
    let bytes = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(&taken).cast::<u8>(), 128) };
    if info != 0 && SafeMemory.write(info, bytes) != bytes.len() {
        return skip(hit, Err(libc::EFAULT));
    }
    skip(hit, Ok(taken.signal as usize))
}

/// A copy of the mask at `at` without our signals, where it holds any.
fn mended_mask(at: u64) -> Option<u64> {
    let mask = SafeMemory.read_u64(at).filter(|mask| at != 0 && mask & PROTECTED_MASK != 0)?;
    Some(mask_copy([mask & !PROTECTED_MASK, 0]))
}

/// Address of two words that stay as they are until the kernel has read them.
fn mask_copy(words: [u64; 2]) -> u64 {
    use std::sync::atomic::{AtomicU64, AtomicUsize};
    static COPIES: [[AtomicU64; 2]; MASK_COPIES * 64] =
        [const { [AtomicU64::new(0), AtomicU64::new(0)] }; MASK_COPIES * 64];
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let copy = &COPIES[NEXT.fetch_add(1, Relaxed) % COPIES.len()];
    copy[0].store(words[0], Relaxed);
    copy[1].store(words[1], Relaxed);
    copy.as_ptr() as u64
}

/// pselect6's last argument points to {mask, size}.
fn pselect(hit: &mut Hit<'_>, argument: u64) {
    let (Some(mask), Some(size)) = (SafeMemory.read_u64(argument), SafeMemory.read_u64(argument + 8)) else {
        return;
    };
    if argument != 0
        && let Some(mended) = mended_mask(mask)
    {
        hit.regs.r9 = mask_copy([mended, size]);
    }
}

/// execve and execveat, made from here: handlers are reset by the kernel, but the mask and the ignored
/// signals are inherited, and those must be the program's own.
fn execute(hit: &mut Hit<'_>, mut args: [u64; 6], envp: usize) -> Flow {
    let borrowed = process::is_borrowed();
    let hook = ON_EXEC.load(Acquire);
    if !hook.is_null() {
        // SAFETY: stored from an ExecHook in start().
        let hook = unsafe { std::mem::transmute::<*mut (), ExecHook>(hook) };
        args[envp] = hook(args[envp]);
    }
    let ignored = PROTECTED_IGNORED.map(|signal| (signal, actions::believed(signal).handler == 1));
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
    let number = hit.regs.rax as i64;
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
    sys::set_signal_mask(ours);
    for (signal, ignored) in ignored {
        if ignored {
            actions::refresh_protected(signal);
        }
    }
    let _ = borrowed;
    skip(hit, result)
}

const PROTECTED_IGNORED: [i32; 5] = thread::PROTECTED;
