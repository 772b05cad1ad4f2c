//! Signal dispositions as the program believes them, and delivery to its handlers.
//!
//! Five signals are ours in the kernel's eyes: SIGTRAP and the four faults. What the program asked
//! for them is kept here and carried out here. Every other signal it handles goes through the shim
//! (`asm`), with the kernel's own flags and mask; and those that would kill it by default come to
//! [`on_fatal`], which lets the report be written and then dies exactly as the kernel would have it.
//!
//! Entries are read in signal handlers and written by sigaction calls of any thread: a sequence lock
//! per signal, whose writer runs with asynchronous signals blocked.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::*};

use crate::hit::frame::{SignalContext, SignalInfo};
use crate::hit::slots::{self, View};
use crate::hit::thread::{self, PROTECTED_MASK, ThreadState};
use crate::hit::{asm, fault, hidden, masks, pending, process, trap};
use crate::sys::{self, KernelSigaction, SA_RESTORER, sigbit};

mod call;
mod nesting;

pub use call::HandlerCall;
pub use nesting::{bound, forbid, let_in};

/// Signals are 1..=64.
pub const SIGNALS: usize = 65;
const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;

/// Where the shim jumps.
pub static HANDLERS: [AtomicUsize; SIGNALS] = [const { AtomicUsize::new(0) }; SIGNALS];

struct Entry {
    /// Odd while being written.
    version: AtomicU64,
    handler: AtomicUsize,
    flags: AtomicU64,
    restorer: AtomicUsize,
    mask: AtomicU64,
}

static BELIEVED: [Entry; SIGNALS] = [const {
    Entry {
        version: AtomicU64::new(0),
        handler: AtomicUsize::new(0),
        flags: AtomicU64::new(0),
        restorer: AtomicUsize::new(0),
        mask: AtomicU64::new(0),
    }
}; SIGNALS];

/// What writes the report; called when a fatal signal is about to kill the process.
static ON_DEATH: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());
/// See [`use_alternate_stacks`].
static ON_ALTERNATE: AtomicBool = AtomicBool::new(false);

/// Whether `signal` is one of ours.
#[must_use]
pub const fn is_protected(signal: i32) -> bool {
    signal > 0 && signal <= 64 && PROTECTED_MASK & sigbit(signal) != 0
}

/// What the program believes its disposition of `signal` to be.
#[must_use]
pub fn believed(signal: i32) -> KernelSigaction {
    let entry = &BELIEVED[signal as usize];
    loop {
        let version = entry.version.load(Acquire);
        let action = KernelSigaction {
            handler: entry.handler.load(Acquire),
            flags: entry.flags.load(Acquire),
            restorer: entry.restorer.load(Acquire),
            mask: entry.mask.load(Acquire),
        };
        if version.is_multiple_of(2) && entry.version.load(Acquire) == version {
            return action;
        }
        std::hint::spin_loop();
    }
}

/// Whether the program ignores `signal`.
#[must_use]
pub fn is_ignored(signal: i32) -> bool {
    believed(signal).handler == SIG_IGN
}

/// Replaces what the program believes; returns what it believed.
pub fn believe(signal: i32, action: &KernelSigaction) -> KernelSigaction {
    let entry = &BELIEVED[signal as usize];
    let version = loop {
        let version = entry.version.load(Relaxed);
        if version.is_multiple_of(2)
            && entry.version.compare_exchange_weak(version, version + 1, AcqRel, Relaxed).is_ok()
        {
            break version;
        }
        std::hint::spin_loop();
    };
    let old = KernelSigaction {
        handler: entry.handler.swap(action.handler, AcqRel),
        flags: entry.flags.swap(action.flags, AcqRel),
        restorer: entry.restorer.swap(action.restorer, AcqRel),
        mask: entry.mask.swap(action.mask, AcqRel),
    };
    entry.version.store(version + 2, Release);
    old
}

/// Whether the default action of `signal` ends the process (signal(7)).
#[must_use]
pub const fn is_fatal_by_default(signal: i32) -> bool {
    !matches!(
        signal,
        libc::SIGCHLD
            | libc::SIGCONT
            | libc::SIGURG
            | libc::SIGWINCH
            | libc::SIGSTOP
            | libc::SIGTSTP
            | libc::SIGTTIN
            | libc::SIGTTOU
            | libc::SIGKILL
    )
}

/// Signals 32 and 33 belong to libc's threads.
#[must_use]
pub const fn is_libc_internal(signal: i32) -> bool {
    signal == 32 || signal == 33
}

/// Our registration with the kernel of a protected signal. All asynchronous signals wait while a hit
/// is handled; our own come through, since a handler may hit a probe or crash (but see [`nesting`]).
fn protected_action(signal: i32, believed: &KernelSigaction) -> KernelSigaction {
    let entry =
        if signal == libc::SIGTRAP { trap::on_trap as *const () } else { fault::on_fault as *const () };
    // A trap never goes to the program's alternate stack: it may be too small for our frame, and
    // the interrupted code may be using it. Faults must: the stack itself may be what's wrong.
    // But see `use_alternate_stacks`.
    let (kept, forced) = match signal {
        libc::SIGTRAP if ON_ALTERNATE.load(Relaxed) => (libc::SA_RESTART, libc::SA_ONSTACK),
        libc::SIGTRAP => (libc::SA_RESTART, 0),
        _ => (libc::SA_RESTART | libc::SA_ONSTACK, 0),
    };
    let own = libc::SA_SIGINFO | nesting::flags(signal) | forced;
    KernelSigaction {
        handler: entry as usize,
        flags: own as u64 | SA_RESTORER | (believed.flags & kept as u64),
        restorer: asm::uprobe_restorer as *const () as usize,
        mask: !PROTECTED_MASK,
    }
}

/// From now on traps go to the alternate stacks of threads that have one: where code is probed that runs on stacks
/// with no room for a signal's frame, and no guard page behind them. Such a runtime (Go's) gives each of its
/// threads a large alternate stack. The registry's lock must be held.
pub fn use_alternate_stacks() {
    let has_begun = !ON_DEATH.load(Acquire).is_null();
    if !ON_ALTERNATE.swap(true, SeqCst) && has_begun {
        refresh_protected(libc::SIGTRAP);
    }
}

/// Takes the protected signals, and puts `on_death` before every default action that kills.
/// `on_death` gets the signal. Called once, before the first probe is armed.
pub fn start(on_death: fn(i32)) {
    ON_DEATH.store(on_death as *mut (), Release);
    let inherited = block_all();
    let is_init = sys::getpid() == 1;
    for signal in 1..SIGNALS as i32 {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        // SAFETY: only asks.
        let Ok(found) = (unsafe { sys::sigaction(signal, None) }) else { continue };
        believe(signal, &found);
        HANDLERS[signal as usize].store(on_fatal as *const () as usize, Release);
        let ours = if is_protected(signal) {
            protected_action(signal, &found)
        } else if is_libc_internal(signal) && found.handler == SIG_DFL {
            continue;
        } else {
            // Process 1 survives what kills others (pid_namespaces(7)): leave it alone.
            let wanted = kernel_action(signal, &found);
            if wanted == found || (found.handler == SIG_DFL && is_init) {
                continue;
            }
            wanted
        };
        // SAFETY: our handlers are fit for any thread at any instruction.
        let _ = unsafe { sys::sigaction(signal, Some(&ours)) };
        if is_protected(signal) && found.handler != SIG_DFL {
            bound(signal);
        }
        if signal == libc::SIGTRAP {
            if found.handler != SIG_DFL {
                hidden::expect();
            }
            learn_flags(&protected_action(signal, &found));
        }
    }
    // What was pending when the program was executed comes now, and is kept as blocked.
    sys::set_signal_mask(inherited & !PROTECTED_MASK);
}

/// A program can be started with our signals blocked: it then believes so, and the kernel will let them
/// through. (Threads that exist already when the C API is first used keep what they have.) The mask it was
/// started with; all signals wait meanwhile.
fn block_all() -> u64 {
    let inherited = sys::set_signal_mask(!0);
    if let Some(thread) = thread::current() {
        thread.set_mask(inherited);
    }
    inherited
}

/// Flags that kernels before 5.11 store and show as they were given, and later ones clear.
const UNKNOWN_FLAGS: u64 = 0x2000_0400;
static CLEARED_FLAGS: AtomicU64 = AtomicU64::new(0);

/// The action as the kernel would show it after storing it.
#[must_use]
pub fn as_stored(mut action: KernelSigaction) -> KernelSigaction {
    action.mask &= !(sigbit(libc::SIGKILL) | sigbit(libc::SIGSTOP));
    action.flags &= !CLEARED_FLAGS.load(Relaxed);
    action
}

/// Asks the kernel which flags it clears.
fn learn_flags(ours: &KernelSigaction) {
    let mut asked = *ours;
    asked.flags |= UNKNOWN_FLAGS;
    // SAFETY: our own handler, with flags that mean nothing.
    let shown = unsafe {
        sys::sigaction(libc::SIGTRAP, Some(&asked)).and_then(|_| sys::sigaction(libc::SIGTRAP, Some(ours)))
    };
    if let Ok(shown) = shown {
        CLEARED_FLAGS.store(UNKNOWN_FLAGS & !shown.flags, Relaxed);
    }
}

/// What the kernel is told for an unprotected signal, with HANDLERS made ready for it first.
pub fn kernel_action(signal: i32, wanted: &KernelSigaction) -> KernelSigaction {
    let mut action = *wanted;
    action.mask &= !PROTECTED_MASK;
    if masks::note(signal, if wanted.handler > SIG_IGN { wanted.mask } else { 0 }) {
        // Until ours are in force, too (see `masks::prepare`).
        action.mask = !PROTECTED_MASK;
    }
    let cell = &HANDLERS[signal as usize];
    match wanted.handler {
        SIG_IGN => return action,
        SIG_DFL if !is_fatal_by_default(signal) => return action,
        SIG_DFL => {
            cell.store(on_fatal as *const () as usize, Release);
            // Nothing of the program's runs: nothing may interrupt the report but our own faults.
            action.mask = !PROTECTED_MASK;
            // Also no probe of the program's restorer.
            action.flags |= SA_RESTORER;
            action.restorer = asm::uprobe_restorer as *const () as usize;
        }
        _ if wanted.flags & libc::SA_RESETHAND as u64 != 0 => {
            cell.store(on_once as *const () as usize, Release);
            action.flags &= !(libc::SA_RESETHAND as u32 as u64);
        }
        handler => cell.store(handler, Release),
    }
    // A signal may have to be sent again as it was; without this the kernel does not say how it was.
    action.flags |= libc::SA_SIGINFO as u64;
    // Without one of its own the kernel would refuse to call the handler (x86-64 has no other way back).
    if action.flags & SA_RESTORER == 0 {
        action.flags |= SA_RESTORER;
        action.restorer = masks::uprobe_handler_restorer as *const () as usize;
    }
    action.handler = asm::uprobe_signal_shim as *const () as usize;
    action
}

/// A handler of ours could not take itself away any more: signals that would kill get their default back, but for those
/// that we need. Where `no_return`, no handler returns either, and only SIGTRAP is left, for the process's end.
pub fn give_back_defaults(no_return: bool) {
    for signal in
        (1..SIGNALS as i32).filter(|signal| !matches!(*signal, libc::SIGKILL | libc::SIGSTOP | libc::SIGTRAP))
    {
        let is_ours = if is_protected(signal) { no_return } else { is_fatal_by_default(signal) };
        if believed(signal).handler == SIG_DFL && is_ours {
            let default = KernelSigaction { flags: SA_RESTORER, ..KernelSigaction::default() };
            // SAFETY: SIG_DFL.
            let _ = unsafe { sys::sigaction(signal, Some(&default)) };
        }
    }
}

/// The kernel's registration of a protected signal follows the program's flags.
pub fn refresh_protected(signal: i32) {
    let ours = protected_action(signal, &believed(signal));
    // SAFETY: our handlers are fit for any thread at any instruction.
    let _ = unsafe { sys::sigaction(signal, Some(&ours)) };
}

/// A signal whose default action kills.
///
/// # Safety
/// The kernel's own arguments of a handler.
pub unsafe extern "C-unwind" fn on_fatal(signal: i32, info: *mut SignalInfo, context: *mut SignalContext) {
    process::check_fork();
    // SAFETY: the kernel's frame and information.
    unsafe { die(signal, info, context) };
}

/// A handler with SA_RESETHAND: the default is restored first, with the report in front of it.
unsafe extern "C-unwind" fn on_once(signal: i32, info: *mut SignalInfo, context: *mut SignalContext) {
    let mut action = believed(signal);
    let handler = action.handler;
    action.handler = SIG_DFL;
    if !process::is_borrowed() {
        believe(signal, &action);
        let ours = kernel_action(signal, &action);
        // SAFETY: our handlers are fit for any thread at any instruction.
        let _ = unsafe { sys::sigaction(signal, Some(&ours)) };
    }
    if handler > SIG_IGN {
        // SAFETY: the program's own handler, with the kernel's arguments.
        unsafe { call_handler(handler, signal, info, context) };
    }
}

/// Calls a handler of the program's.
///
/// # Safety
/// `handler` is one, and the rest are its arguments.
pub unsafe fn call_handler(handler: usize, signal: i32, info: *mut SignalInfo, context: *mut SignalContext) {
    type Handler = unsafe extern "C-unwind" fn(i32, *mut SignalInfo, *mut SignalContext);
    // SAFETY: a function the program registered for signals.
    unsafe { std::mem::transmute::<usize, Handler>(handler)(signal, info, context) };
}

/// Ends the process by `signal` when our handler returns: the report, the default disposition, and
/// the same signal again with the same siginfo. The core then shows the program's own frame.
unsafe fn die(signal: i32, info: *mut SignalInfo, context: *mut SignalContext) {
    // The report calls libc, where probes may be.
    let_in(PROTECTED_MASK);
    if let Some(thread) = thread::existing() {
        pending::end(thread);
    }
    if !process::is_borrowed() {
        let hook = ON_DEATH.load(Acquire);
        if !hook.is_null() {
            // SAFETY: stored from a fn(i32) in start().
            unsafe { std::mem::transmute::<*mut (), fn(i32)>(hook)(signal) };
        }
    }
    let default = KernelSigaction { flags: SA_RESTORER, ..KernelSigaction::default() };
    // SAFETY: SIG_DFL.
    let reset = unsafe { sys::sigaction(signal, Some(&default)) };
    // SAFETY: the caller's promise.
    if reset.is_err() && unsafe { (*info).is_synchronous() } {
        // A filter forbids it. A fault that is blocked when it happens again kills, handler or not.
        // SAFETY: the caller's frame.
        unsafe { (*context).mask |= sigbit(signal) };
        return;
    }
    // SAFETY: the caller's frame.
    unsafe { (*context).mask &= !sigbit(signal) };
    // Not here: when our handler returns, at the program's own instruction.
    sys::set_signal_mask(!0);
    let tid = sys::gettid();
    // The kernel numbers threads per process; in a borrowed child pid and tid are the child's.
    let pid = sys::getpid();
    // SAFETY: the kernel's siginfo, sent back unchanged.
    if unsafe { sys::tgsigqueueinfo(pid, tid, signal, info.cast()) }.is_err() {
        let _ = sys::tgkill(pid, tid, signal);
    }
}

/// Gives a protected signal to the program as POSIX says: its handler, its death, its pending set.
/// False: the process is dying.
///
/// # Safety
/// `info` and `context` are this signal's.
pub unsafe fn deliver(signal: i32, info: *mut SignalInfo, context: *mut SignalContext) -> bool {
    // SAFETY: the caller's promise.
    let synchronous = unsafe { (*info).is_synchronous() };
    // SAFETY: the caller's promise.
    if synchronous && unsafe { fault::recover(signal, info, context) } {
        return true;
    }
    let thread = thread::current();
    let bit = sigbit(signal);
    if let Some(thread) = thread {
        thread.settle_borrower();
    }
    if let Some(thread) = thread {
        // SAFETY: the caller's promise.
        masks::wait_anew(thread, unsafe { &mut *context });
        // SAFETY: the caller's promise.
        thread.reconcile(unsafe { (*context).mask });
    }
    let blocked = thread.map_or(0, ThreadState::blocked_now);
    if blocked & bit != 0 {
        if synchronous {
            // SAFETY: the caller's promise. The kernel forces a blocked fault: the process dies.
            unsafe { die(signal, info, context) };
            return false;
        }
        if let Some(thread) = thread {
            // SAFETY: the caller's promise.
            unsafe { pending::set_aside(thread, signal, &*info, context) };
        }
        return true;
    }
    // SAFETY: the caller's promise.
    unsafe { (*info).show() };
    // SAFETY: the caller's promise.
    let action = match unsafe { fate(signal, info, context) } {
        Fate::Ignored => return true,
        Fate::Dying => return false,
        Fate::Handled(action) => action,
    };
    // SAFETY: the caller's promise; the mask in force is the frame's, or that of a wait.
    let own = unsafe { (*context).mask } & !PROTECTED_MASK | blocked;
    let base = thread.and_then(ThreadState::waiting_mask).unwrap_or(own);
    let during = base | mask_during(&action, signal);
    // SAFETY: the caller's promise.
    let after = unsafe { run_handler(&action, signal, info, context, thread, during) };
    if let Some(thread) = thread {
        // SAFETY: the caller's promise.
        unsafe { pending::deliver(thread, context, after) };
    }
    true
}

/// What becomes of a signal that is not blocked.
pub enum Fate {
    /// Nothing.
    Ignored,
    /// It kills the process, when our handler returns.
    Dying,
    /// A handler of the program's is to be called, by [`run_handler`].
    Handled(KernelSigaction),
}

/// The program's disposition of a signal that is delivered now; its end has begun where that is death.
///
/// # Safety
/// `info` and `context` are this signal's.
pub unsafe fn fate(signal: i32, info: *mut SignalInfo, context: *mut SignalContext) -> Fate {
    let action = believed(signal);
    // SAFETY: the caller's promise.
    let synchronous = unsafe { (*info).is_synchronous() };
    match action.handler {
        SIG_IGN if !synchronous => return Fate::Ignored,
        SIG_DFL | SIG_IGN => {
            // SAFETY: the caller's promise.
            unsafe { die(signal, info, context) };
            return Fate::Dying;
        }
        _ => {}
    }
    if action.flags & libc::SA_RESETHAND as u32 as u64 != 0 && !process::is_borrowed() {
        let reset = KernelSigaction { handler: SIG_DFL, ..action };
        believe(signal, &reset);
    }
    Fate::Handled(action)
}

/// What a handler's call adds to the mask.
#[must_use]
pub const fn mask_during(action: &KernelSigaction, signal: i32) -> u64 {
    let own = if action.flags & libc::SA_NODEFER as u64 == 0 { sigbit(signal) } else { 0 };
    action.mask | own
}

/// Calls the program's handler with the mask, the stack and the context the kernel would give it. The mask
/// that it leaves, as the program sees it.
///
/// # Safety
/// `info` and `context` are this signal's.
pub unsafe fn run_handler(
    action: &KernelSigaction,
    signal: i32,
    info: *mut SignalInfo,
    context: *mut SignalContext,
    thread: Option<&'static ThreadState>,
    during: u64,
) -> u64 {
    let mut view = View::default();
    // SAFETY: the caller's promise.
    let viewed = unsafe { slots::enter_view(context, &raw mut view) } != 0;
    // Where the kernel has switched stacks itself, it says so when asked for the alternate one.
    let on_alternate = action.flags & libc::SA_ONSTACK as u64 != 0;
    let call = HandlerCall { handler: action.handler, on_alternate, during };
    // SAFETY: the caller's promise.
    let after = unsafe { call.make(signal, info, context, thread) };
    if viewed {
        // SAFETY: as enter_view.
        unsafe { slots::leave_view(context, &raw mut view) };
    }
    after
}

/// In a fork child: no other thread is in the middle of a change.
pub fn after_fork() {
    for entry in &BELIEVED {
        let version = entry.version.load(Relaxed);
        entry.version.store(version.next_multiple_of(2), Relaxed);
    }
}
