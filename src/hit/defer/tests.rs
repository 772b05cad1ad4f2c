//! A hit without a trap is entered here by hand; signals come from the kernel. Each test is a process
//! of its own, whose signals are taken as in a program.

use std::sync::atomic::AtomicU64;

use super::*;
use crate::sys::{KernelSigaction, sigbit};

const RT: i32 = 40;
const USR1: i32 = libc::SIGUSR1;
const USR2: i32 = libc::SIGUSR2;

/// What one run of a handler saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Seen {
    signal: i32,
    code: i32,
    value: u64,
    /// The kernel's mask in the handler, and the frame's.
    mask: u64,
    frame: u64,
    on_alternate: bool,
}

static SEEN: [[AtomicU64; 6]; 64] = [const { [const { AtomicU64::new(0) }; 6] }; 64];
static COUNT: AtomicU32 = AtomicU32::new(0);
/// Added to the frame's mask by the handler.
static ADD: AtomicU64 = AtomicU64::new(0);
static ALTERNATE: AtomicU64 = AtomicU64::new(0);
const ALTERNATE_SIZE: u64 = 1 << 16;

fn seen() -> Vec<Seen> {
    (0..COUNT.load(SeqCst) as usize)
        .map(|at| {
            let word = |n: usize| SEEN[at][n].load(SeqCst);
            Seen {
                signal: word(0) as i32,
                code: word(1) as i32,
                value: word(2),
                mask: word(3),
                frame: word(4),
                on_alternate: word(5) == 1,
            }
        })
        .collect()
}

fn signals() -> Vec<i32> {
    seen().iter().map(|seen| seen.signal).collect()
}

/// The program's handler.
unsafe extern "C-unwind" fn on_signal(signal: i32, info: *mut SignalInfo, context: *mut SignalContext) {
    let local = 0_u8;
    let stack = (&raw const local as u64).wrapping_sub(ALTERNATE.load(SeqCst));
    // SAFETY: the arguments of a handler; si_value follows si_pid and si_uid.
    let (code, value, frame) = unsafe {
        let code = (*info).code;
        let value = *(&raw const *info).cast::<u64>().add(3);
        (code, if code == libc::SI_QUEUE { value } else { 0 }, (*context).mask)
    };
    let words = [signal as u64, code as u64, value, mask(), frame, u64::from(stack < ALTERNATE_SIZE)];
    let at = COUNT.fetch_add(1, SeqCst) as usize;
    for (cell, word) in SEEN[at].iter().zip(words) {
        cell.store(word, SeqCst);
    }
    // SAFETY: as above.
    unsafe { (*context).mask |= ADD.load(SeqCst) };
}

fn mask() -> u64 {
    let mut old = 0_u64;
    let size = sys::SIGSET_SIZE;
    // SAFETY: only asks.
    let _ = unsafe { sys::syscall4(libc::SYS_rt_sigprocmask, 0, 0, &raw mut old as usize, size) };
    old
}

fn register(signal: i32, flags: i32, mask: u64) {
    let action = KernelSigaction {
        handler: on_signal as *const () as usize,
        flags: (libc::SA_SIGINFO | flags) as u32 as u64,
        restorer: 0,
        mask,
    };
    actions::believe(signal, &action);
    if actions::is_protected(signal) {
        return actions::refresh_protected(signal);
    }
    // SAFETY: a handler that stores a few words.
    let done = unsafe { sys::sigaction(signal, Some(&actions::kernel_action(signal, &action))) };
    assert!(done.is_ok());
}

fn send(signal: i32) {
    assert!(sys::tgkill(sys::getpid(), sys::gettid(), signal).is_ok());
}

fn queue(signal: i32, value: u64) {
    let info = queued(signal, value);
    // SAFETY: a siginfo_t.
    let sent = unsafe { sys::tgsigqueueinfo(sys::getpid(), sys::gettid(), signal, info.as_ptr().cast()) };
    assert!(sent.is_ok());
}

fn queued(signal: i32, value: u64) -> [u64; 16] {
    let mut words = [0_u64; 16];
    words[0] = signal as u64;
    words[1] = u64::from(libc::SI_QUEUE as u32);
    words[3] = value;
    words
}

/// Where a process that is about to die tells what it did.
static TOLD: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(-1);

fn tell(what: &std::ffi::CStr) {
    // SAFETY: one byte of a string.
    let _ = unsafe { libc::write(TOLD.load(SeqCst), what.as_ptr().cast(), 1) };
}

fn died(_signal: i32) {
    tell(c"r");
}

/// Runs `test` in a process whose signals are the engine's; how it ended, as wait(2) says.
fn status(test: fn(&'static ThreadState)) -> i32 {
    // SAFETY: the child makes system calls, and panics into the hook below at worst.
    match unsafe { libc::fork() } {
        0 => {
            std::panic::set_hook(Box::from(|info: &std::panic::PanicHookInfo<'_>| {
                let text = info.to_string();
                // SAFETY: the string's bytes.
                let _ = unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
            }));
            sys::set_signal_mask(0);
            process::start(thread::after_fork);
            actions::start(died);
            let result = std::panic::catch_unwind(|| {
                let thread = thread::current();
                assert!(thread.is_some());
                thread.into_iter().for_each(test);
            });
            sys::exit_group(i32::from(result.is_err()))
        }
        child => {
            let mut status = 0;
            // SAFETY: our child.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            status
        }
    }
}

fn run(test: fn(&'static ThreadState)) {
    assert_eq!(status(test), 0, "the wait status of the process that was the test");
}

fn end(thread: &'static ThreadState) {
    thread.leave();
    finish(thread);
}

#[test]
fn handlers_run_after_the_hit_in_the_order_of_the_queue() {
    run(|thread| {
        register(RT, 0, 0);
        register(USR1, 0, sigbit(USR2));
        thread.enter();
        (1..=5).for_each(|value| queue(RT, value));
        send(USR1);
        assert_eq!(signals(), []);
        assert_eq!(mask() | PROTECTED_MASK | sigbit(libc::SIGKILL) | sigbit(libc::SIGSTOP), !0);
        assert_eq!(mask() & PROTECTED_MASK, 0);
        end(thread);
        let values: Vec<u64> = seen().iter().filter(|s| s.signal == RT).map(|s| s.value).collect();
        assert_eq!(values, [1, 2, 3, 4, 5]);
        assert!(seen().iter().filter(|s| s.signal == RT).all(|s| s.code == libc::SI_QUEUE));
        assert_eq!(signals().iter().filter(|signal| **signal == USR1).count(), 1);
        assert_eq!((mask(), thread.pending.load(SeqCst)), (0, 0));
    });
}

#[test]
fn every_mask_is_what_the_kernel_would_have_made_it() {
    run(|thread| {
        sys::set_signal_mask(sigbit(libc::SIGHUP));
        let all = |send: fn(), around: &dyn Fn(&dyn Fn())| {
            COUNT.store(0, SeqCst);
            around(&|| send());
            seen()
        };
        /// What sends it, the signal, its flags and its mask.
        type Case = (fn(), i32, i32, u64);
        let sends: [Case; 4] = [
            (|| send(USR1), USR1, 0, 0),
            (|| send(USR1), USR1, 0, sigbit(USR2) | sigbit(RT)),
            (|| send(USR1), USR1, libc::SA_NODEFER, sigbit(USR2)),
            (|| queue(RT, 7), RT, libc::SA_RESTART, !0),
        ];
        for (send, signal, flags, mask_of) in sends {
            register(signal, flags, mask_of);
            let native = all(send, &|send| send());
            let deferred = all(send, &|send| {
                thread.enter();
                send();
                end(thread);
            });
            // Which of our five the program believes blocked is no business of the kernel's.
            assert_eq!(native, deferred);
            assert_eq!(native.len(), 1);
            assert_eq!(mask(), sigbit(libc::SIGHUP));
        }
    });
}

#[test]
fn frames_stacked_by_the_kernel_run_as_they_would() {
    run(|thread| {
        for signal in [USR1, USR2, RT] {
            register(signal, 0, 0);
        }
        let at_once = || {
            COUNT.store(0, SeqCst);
            sys::set_signal_mask(!PROTECTED_MASK);
            for signal in [USR1, USR2, RT] {
                send(signal);
            }
            sys::set_signal_mask(0);
        };
        at_once();
        let native = seen();
        assert_eq!(native.len(), 3);
        thread.enter();
        at_once();
        assert_eq!(signals(), []);
        assert_eq!(thread.aside.len(), 3);
        end(thread);
        assert_eq!(seen(), native);
        assert_eq!(mask(), 0);
    });
}

#[test]
fn a_mask_that_the_handler_leaves_is_in_force() {
    run(|thread| {
        register(USR1, 0, 0);
        ADD.store(sigbit(USR2) | sigbit(libc::SIGSEGV), SeqCst);
        thread.enter();
        send(USR1);
        end(thread);
        assert_eq!(signals(), [USR1]);
        assert_eq!(mask(), sigbit(USR2));
        assert_eq!(thread.blocked.load(SeqCst), sigbit(libc::SIGSEGV));
    });
}

#[test]
fn the_outermost_hit_ends_it() {
    run(|thread| {
        register(USR1, 0, 0);
        thread.enter();
        thread.enter();
        send(USR1);
        end(thread);
        assert_eq!(signals(), []);
        end(thread);
        assert_eq!(signals(), [USR1]);
    });
}

#[test]
fn our_own_signals_wait_too_when_sent() {
    run(|thread| {
        for signal in [libc::SIGSEGV, libc::SIGTRAP, USR1] {
            register(signal, 0, 0);
        }
        thread.enter();
        send(libc::SIGSEGV);
        send(libc::SIGTRAP);
        send(libc::SIGSEGV);
        assert_eq!(signals(), []);
        end(thread);
        // Let through together: the frame of the lower number is below.
        assert_eq!(signals(), [libc::SIGSEGV, libc::SIGTRAP]);
        COUNT.store(0, SeqCst);
        thread.enter();
        send(USR1);
        send(libc::SIGTRAP);
        end(thread);
        assert_eq!(signals(), [USR1, libc::SIGTRAP]);
        // One that the program blocks goes on waiting.
        thread.blocked.store(sigbit(libc::SIGTRAP), SeqCst);
        thread.enter();
        send(libc::SIGTRAP);
        end(thread);
        assert_eq!(seen().len(), 2);
        assert_ne!(thread.pending.load(SeqCst), 0);
    });
}

#[test]
fn the_alternate_stack_is_used_where_asked_for() {
    run(|thread| {
        let memory = sys::map_anonymous(ALTERNATE_SIZE as usize).unwrap_or(0);
        ALTERNATE.store(memory as u64, SeqCst);
        let stack = libc::stack_t { ss_sp: memory as *mut _, ss_flags: 0, ss_size: ALTERNATE_SIZE as usize };
        // SAFETY: memory of ours.
        assert_eq!(unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) }, 0);
        register(USR1, libc::SA_ONSTACK, 0);
        register(USR2, 0, 0);
        for signal in [USR1, USR2] {
            thread.enter();
            send(signal);
            end(thread);
        }
        assert_eq!(seen().iter().map(|s| s.on_alternate).collect::<Vec<_>>(), [true, false]);
    });
}

#[test]
fn a_handler_for_once_is_reset() {
    run(|thread| {
        register(USR1, libc::SA_RESETHAND, 0);
        thread.enter();
        send(USR1);
        assert_ne!(actions::believed(USR1).handler, libc::SIG_DFL);
        end(thread);
        assert_eq!(signals(), [USR1]);
        assert_eq!(actions::believed(USR1).handler, libc::SIG_DFL);
    });
}

#[test]
fn what_kills_kills_at_the_end_with_the_report_made() {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    TOLD.store(ends[1], SeqCst);
    let status = status(|thread| {
        register(USR1, 0, 0);
        thread.enter();
        send(libc::SIGTERM);
        send(USR1);
        tell(c"h");
        end(thread);
    });
    // SAFETY: our descriptors.
    let told = unsafe {
        libc::close(ends[1]);
        let mut told = [0_u8; 4];
        let read = libc::read(ends[0], told.as_mut_ptr().cast(), told.len());
        libc::close(ends[0]);
        told[..usize::try_from(read).unwrap_or(0)].to_vec()
    };
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGTERM, "{status:#x}");
    assert_eq!(told, b"hr");
}

#[test]
fn a_fork_child_has_the_mask_and_not_the_signal() {
    run(|thread| {
        register(USR1, 0, 0);
        thread.enter();
        send(USR1);
        // SAFETY: as in `status`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            process::check_fork();
            end(thread);
            let fine = signals().is_empty() && mask() == 0;
            send(USR1);
            sys::exit_group(i32::from(!fine || signals() != [USR1]));
        }
        let mut status = 0;
        // SAFETY: our child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
        end(thread);
        assert_eq!(signals(), [USR1]);
    });
}

#[test]
fn a_hit_that_ends_otherwise_gives_back() {
    run(|thread| {
        register(RT, 0, 0);
        thread.enter();
        queue(RT, 3);
        assert_eq!(give_back(thread), Some(0));
        thread.leave();
        assert_eq!(signals(), []);
        sys::set_signal_mask(0);
        assert_eq!(seen().iter().map(|s| (s.signal, s.value)).collect::<Vec<_>>(), [(RT, 3)]);
    });
}
