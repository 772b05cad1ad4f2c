//! The system calls of libc that we stand before: each site carries an internal probe on its
//! `syscall` instruction. The program gets exactly POSIX; the kernel never hears of a mask that
//! blocks our signals, nor of a handler that takes them away.
//!
//! A gate either leaves the call to be made, with its arguments mended, or makes it and skips it.

use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::*};

use crate::hit::actions::{self, SIGNALS};
use crate::hit::consumer::Flow;
use crate::hit::frame::SignalInfo;
use crate::hit::memory::SafeMemory;
use crate::hit::thread::{self, PROTECTED_MASK, StepRecord, ThreadState};
use crate::hit::trap::Hit;
use crate::hit::{asm, clones, hidden, output, pending, process, restrict, seccomp};
use crate::regs::{Memory, Reg, Regs};
use crate::sys::{self, KernelSigaction, SIGSET_SIZE, SysResult};

/// Sanitised copies of masks are kept until the kernel has read them, which is at once; by then so many
/// others may have been made.
const MASK_COPIES: usize = 1024;

/// Called before a program is executed over this one, with argv and envp pointers; returns the envp
/// to use.
static ON_EXEC: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// Called at `_exit`.
static ON_EXIT: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// Bytes of a `syscall` instruction.
const SYSCALL_LEN: u64 = 2;

/// What [`ON_EXEC`] holds.
pub type ExecHook = fn(u64) -> u64;

/// Remembers what to call when the process ends or becomes another program.
pub fn start(on_exit: fn(), on_exec: ExecHook) {
    ON_EXIT.store(on_exit as *mut (), Release);
    ON_EXEC.store(on_exec as *mut (), Release);
}

/// The system calls that are gated, by number.
pub const GATED: [i64; 19] = [
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
        libc::SYS_rt_sigaction => sigaction(hit, args),
        libc::SYS_rt_sigprocmask => sigprocmask(hit, args),
        libc::SYS_rt_sigpending => sigpending(hit, args),
        libc::SYS_rt_sigtimedwait => sigtimedwait(hit, args),
        libc::SYS_rt_sigsuspend => wait_with(hit, Reg::Rdi, args[0]),
        libc::SYS_ppoll => wait_with(hit, Reg::R10, args[3]),
        libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2 => wait_with(hit, Reg::R8, args[4]),
        libc::SYS_pselect6 => pselect(hit, args[5]),
        libc::SYS_execve => execute(hit, args, 2),
        libc::SYS_execveat => execute(hit, args, 3),
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
        libc::SYS_tgkill | libc::SYS_rt_tgsigqueueinfo => send(hit, number, args),
        libc::SYS_close => close(hit, args[0]),
        libc::SYS_dup | libc::SYS_fcntl | libc::SYS_fstat => look(hit, args[0]),
        libc::SYS_newfstatat if args[3] as i32 & libc::AT_EMPTY_PATH != 0 => look(hit, args[0]),
        libc::SYS_newfstatat => Flow::Continue,
        libc::SYS_close_range => close_range(hit, args),
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
pub(super) fn change_action(
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

fn sigprocmask(hit: &mut Hit<'_>, [how, new, old, size, ..]: [u64; 6]) -> Flow {
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
        if process::is_borrowed() {
            thread.lend();
        }
        thread.end_wait();
        thread.set_mask(after);
        // SAFETY: the frame of this signal, complete.
        unsafe { pending::deliver(thread, hit.context, after) };
    }
    Flow::RipChanged
}

fn sigpending(hit: &mut Hit<'_>, [set, size, ..]: [u64; 6]) -> Flow {
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

fn sigtimedwait(hit: &mut Hit<'_>, [set, info, _, size, ..]: [u64; 6]) -> Flow {
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

/// tgkill, rt_tgsigqueueinfo. A SIGTRAP for another thread of the process finds it at a breakpoint perhaps.
fn send(hit: &mut Hit<'_>, number: i64, args: [u64; 6]) -> Flow {
    let [pid, tid, signal, info, ..] = args;
    if !actions::is_protected(signal as i32) {
        // Made here, where it waits: a debugger that stops at it, or a core, shows no slot.
        // SAFETY: the program's own call, which a filter of its own allows.
        let result = unsafe { sys::unguarded(number, args.map(|arg| arg as usize)) };
        return skip(hit, result);
    }
    let is_other = signal as i32 == libc::SIGTRAP
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
    sent.signal = libc::SIGTRAP;
    skip(hit, pending::send(other, libc::SIGTRAP, &sent))
}

/// After the wait: a signal that another thread passed on shows the program what was sent.
fn accepted(thread: &ThreadState, _: &StepRecord, regs: &mut Regs) -> bool {
    thread.accepts.store(0, Relaxed);
    // Woken by a signal that another thread took, and gives back: no handler ran, which would end the wait.
    let no_handler_ran = thread.waiting_mask().is_some();
    thread.end_wait();
    if no_handler_ran && regs.rax as i64 == -i64::from(libc::EINTR) {
        regs.rax = libc::SYS_rt_sigtimedwait as u64;
        regs.rip -= SYSCALL_LEN;
        return true;
    }
    let was_announced = show_what_was_sent(regs);
    if was_announced && regs.rax == libc::SIGTRAP as u64 {
        // Its announcement was seen by the trap that led here.
        pending::forget(thread, libc::SIGTRAP);
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

/// Descriptors of ours are not there for the program.
fn close(hit: &mut Hit<'_>, fd: u64) -> Flow {
    let fd = fd as i32;
    if output::guarded(fd..=fd).is_none() || process::is_borrowed() {
        return Flow::Continue;
    }
    skip(hit, Err(libc::EBADF))
}

/// Nor when it looks which of its numbers are open.
fn look(hit: &mut Hit<'_>, fd: u64) -> Flow {
    let fd = fd as i32;
    match output::guarded(fd..=fd) {
        Some(_) => skip(hit, Err(libc::EBADF)),
        None => Flow::Continue,
    }
}

/// The same for a range: around ours.
fn close_range(hit: &mut Hit<'_>, [first, last, flags, ..]: [u64; 6]) -> Flow {
    let (mut first, last) = (first as u32, last as u32);
    if first > last || output::guarded(to_fd(first)..=to_fd(last)).is_none() || process::is_borrowed() {
        return Flow::Continue;
    }
    loop {
        let ours = if first > last { None } else { output::guarded(to_fd(first)..=to_fd(last)) };
        let end = ours.map_or(last, |fd| (fd as u32).wrapping_sub(1));
        if first <= end && end <= last {
            // SAFETY: the program's own call, less our descriptors.
            let result =
                unsafe { sys::syscall3(libc::SYS_close_range, first as usize, end as usize, flags as usize) };
            if result.is_err() {
                return skip(hit, result);
            }
        }
        match ours {
            Some(fd) => first = fd as u32 + 1,
            None => return skip(hit, Ok(0)),
        }
    }
}

fn to_fd(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A call that waits with the mask at `at` in force, passed in `reg`.
fn wait_with(hit: &mut Hit<'_>, reg: Reg, at: u64) -> Flow {
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
fn pselect(hit: &mut Hit<'_>, argument: u64) -> Flow {
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

/// Whether a protected signal is ignored, in a vfork child's own eyes where it said something.
fn is_ignored(signal: i32) -> bool {
    let bit = sys::sigbit(signal);
    match thread::current().filter(|thread| thread.borrower.load(Relaxed) == sys::getpid()) {
        Some(thread) if thread.borrower_defaults.load(Relaxed) & bit != 0 => false,
        Some(thread) if thread.borrower_ignores.load(Relaxed) & bit != 0 => true,
        _ => actions::is_ignored(signal),
    }
}

/// execve and execveat, made from here: handlers are reset by the kernel, but the mask and the ignored
/// signals are inherited, and those must be the program's own.
fn execute(hit: &mut Hit<'_>, mut args: [u64; 6], envp: usize) -> Flow {
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
