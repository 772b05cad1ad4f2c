//! Runs code that may fault: the fault ends the run as a pad does, and says where it was.

use std::cell::UnsafeCell;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::SeqCst};

use super::{Native, State, insn_native_exit};

/// A signal that the code raised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    pub signal: i32,
    /// Where the processor was: for a trap, behind the instruction.
    pub rip: u64,
}

impl Fault {
    /// Code that is still running after a fifth of a second of the processor's time.
    pub const ENDLESS: i32 = libc::SIGVTALRM;
}

const SIGNALS: [i32; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, Fault::ENDLESS];

static IS_RUNNING: AtomicBool = AtomicBool::new(false);
static SIGNAL: AtomicI32 = AtomicI32::new(0);
static RIP: AtomicU64 = AtomicU64::new(0);
static INSTALL: Once = Once::new();

struct Old(UnsafeCell<[Option<libc::sigaction>; SIGNALS.len()]>);

// SAFETY: written once, before any handler that reads it is installed.
unsafe impl Sync for Old {}

static OLD: Old = Old(UnsafeCell::new([None; SIGNALS.len()]));

impl Native {
    /// As [`Native::run`], for code that may fault. Asynchronous signals wait meanwhile, since there is
    /// no stack.
    pub fn run_caught(&mut self, start: u64, state: &State) -> (State, Option<Fault>) {
        INSTALL.call_once(install);
        SIGNAL.store(0, SeqCst);
        let all = full_set();
        let mut before = full_set();
        // SAFETY: both sets are ours.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &all, &mut before) };
        IS_RUNNING.store(true, SeqCst);
        limit(200_000);
        let mut after = self.run(start, state);
        limit(0);
        IS_RUNNING.store(false, SeqCst);
        // SAFETY: as above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
        let signal = SIGNAL.load(SeqCst);
        let fault = (signal != 0).then(|| Fault { signal, rip: RIP.load(SeqCst) });
        if let Some(fault) = fault {
            after.regs.rip = fault.rip;
        }
        (after, fault)
    }
}

/// Every signal but those that code raises by itself.
fn full_set() -> libc::sigset_t {
    // SAFETY: the set is initialised by sigfillset.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&mut set);
        SIGNALS.iter().for_each(|signal| {
            libc::sigdelset(&mut set, *signal);
        });
        set
    }
}

thread_local! {
    /// Of this thread's time, and its signal comes to it: other tests of the process are at work, too.
    static TIMER: libc::timer_t = own_timer();
}

fn own_timer() -> libc::timer_t {
    let mut timer = std::ptr::null_mut();
    // SAFETY: the event is initialised, and is read now.
    unsafe {
        let mut event: libc::sigevent = std::mem::zeroed();
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = Fault::ENDLESS;
        event.sigev_notify_thread_id = libc::gettid();
        assert_eq!(libc::timer_create(libc::CLOCK_THREAD_CPUTIME_ID, &mut event, &mut timer), 0);
    }
    timer
}

/// [`Fault::ENDLESS`] after so many microseconds; 0: no more.
fn limit(microseconds: i64) {
    let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let limit = libc::itimerspec {
        it_interval: none,
        it_value: libc::timespec { tv_sec: 0, tv_nsec: microseconds * 1000 },
    };
    // SAFETY: the value is ours, and so is the timer.
    TIMER.with(|timer| unsafe { libc::timer_settime(*timer, 0, &limit, std::ptr::null_mut()) });
}

fn install() {
    const STACK: usize = 256 << 10;
    let stack = Box::leak(vec![0_u8; STACK].into_boxed_slice());
    let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: STACK };
    // SAFETY: the stack is leaked; the handler touches atomics and its own frame only.
    unsafe {
        assert_eq!(libc::sigaltstack(&stack, std::ptr::null_mut()), 0);
        for (index, signal) in SIGNALS.into_iter().enumerate() {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            let mut old: libc::sigaction = std::mem::zeroed();
            assert_eq!(libc::sigaction(signal, &action, &mut old), 0);
            (*OLD.0.get())[index] = Some(old);
        }
    }
}

extern "C" fn on_fault(signal: i32, _: *mut libc::siginfo_t, context: *mut libc::ucontext_t) {
    if IS_RUNNING.load(SeqCst) {
        // SAFETY: the frame of this signal. Control goes on where all registers are noted.
        let rip = unsafe { &mut (*context).uc_mcontext.gregs[libc::REG_RIP as usize] };
        RIP.store(*rip as u64, SeqCst);
        SIGNAL.store(signal, SeqCst);
        *rip = insn_native_exit as *const () as i64;
        return;
    }
    if signal == Fault::ENDLESS {
        return;
    }
    // Not ours: as it was, and again.
    let index = SIGNALS.iter().position(|known| *known == signal).unwrap_or(0);
    // SAFETY: stored before this handler was installed.
    unsafe {
        if let Some(old) = (*OLD.0.get())[index] {
            libc::sigaction(signal, &old, std::ptr::null_mut());
        }
    }
}
