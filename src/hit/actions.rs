//! Signal dispositions as the program believes them, and delivery to its handlers.
//!
//! Five signals are ours in the kernel's eyes: SIGTRAP and the four faults. What the program asked
//! for them is kept here and carried out here. Every other signal it handles goes through the shim
//! (`asm`), with the kernel's own flags and mask; and those that would kill it by default come to
//! [`on_fatal`], which lets the report be written and then dies exactly as the kernel would have it.
//!
//! Entries are read in signal handlers and written by sigaction calls of any thread: a sequence lock
//! per signal, whose writer runs with asynchronous signals blocked.

use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::*};

use crate::hit::frame::{SignalContext, SignalInfo};
use crate::hit::memory::SafeMemory;
use crate::hit::point::STEP_OFFSET;
use crate::hit::slots::{self, InSlot, View};
use crate::hit::thread::{self, PROTECTED_MASK, ThreadState};
use crate::hit::{asm, defer, fault, process, trap};
use crate::insn::SlotPc;
use crate::regs::Memory;
use crate::sys::{self, KernelSigaction, SA_RESTORER, sigbit};

mod call;
mod pending;

pub use call::HandlerCall;
use pending::{PROCESS_PENDING, pend};
pub use pending::{own_pending, pending_mask, take_pending};

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
/// is handled; our own come through, since a handler may hit a probe or crash.
fn protected_action(signal: i32, believed: &KernelSigaction) -> KernelSigaction {
    let entry =
        if signal == libc::SIGTRAP { trap::on_trap as *const () } else { fault::on_fault as *const () };
    // A trap never goes to the program's alternate stack: it may be too small for our frame, and
    // the interrupted code may be using it. Faults must: the stack itself may be what's wrong.
    let kept = if signal == libc::SIGTRAP { libc::SA_RESTART } else { libc::SA_RESTART | libc::SA_ONSTACK };
    KernelSigaction {
        handler: entry as usize,
        flags: (libc::SA_SIGINFO | libc::SA_NODEFER) as u64 | SA_RESTORER | (believed.flags & kept as u64),
        restorer: asm::uprobe_restorer as *const () as usize,
        mask: !PROTECTED_MASK,
    }
}

/// Takes the protected signals, and puts `on_death` before every default action that kills.
/// `on_death` gets the signal. Called once, before the first probe is armed.
pub fn start(on_death: fn(i32)) {
    ON_DEATH.store(on_death as *mut (), Release);
    unblock_protected();
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
        if signal == libc::SIGTRAP {
            learn_flags(&ours);
        }
    }
}

/// A program can be started with our signals blocked: it then believes so, and the kernel lets them
/// through. (Threads that exist already when the C API is first used keep what they have.)
fn unblock_protected() {
    let inherited = sys::set_signal_mask(!PROTECTED_MASK);
    if let Some(thread) = thread::current() {
        thread.blocked.store(inherited & PROTECTED_MASK, Relaxed);
    }
    sys::set_signal_mask(inherited & !PROTECTED_MASK);
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
    let cell = &HANDLERS[signal as usize];
    match wanted.handler {
        SIG_IGN => return action,
        SIG_DFL if !is_fatal_by_default(signal) => return action,
        SIG_DFL => {
            cell.store(on_fatal as *const () as usize, Release);
            // Nothing of the program's runs: nothing may interrupt the report but our own faults.
            action.mask = !PROTECTED_MASK;
        }
        _ if wanted.flags & libc::SA_RESETHAND as u64 != 0 => {
            cell.store(on_once as *const () as usize, Release);
            action.flags &= !(libc::SA_RESETHAND as u32 as u64);
        }
        handler => cell.store(handler, Release),
    }
    // A signal may have to be sent again as it was; without this the kernel does not say how it was.
    action.flags |= libc::SA_SIGINFO as u64;
    if action.flags & SA_RESTORER == 0 {
        action.flags |= SA_RESTORER;
        action.restorer = asm::uprobe_restorer as *const () as usize;
    }
    action.handler = asm::uprobe_signal_shim as *const () as usize;
    action
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
    if !process::is_borrowed() {
        let hook = ON_DEATH.load(Acquire);
        if !hook.is_null() {
            // SAFETY: stored from a fn(i32) in start().
            unsafe { std::mem::transmute::<*mut (), fn(i32)>(hook)(signal) };
        }
    }
    let default = KernelSigaction { flags: SA_RESTORER, ..KernelSigaction::default() };
    // SAFETY: SIG_DFL.
    let _ = unsafe { sys::sigaction(signal, Some(&default)) };
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
    let blocked = thread.map_or(0, ThreadState::blocked_now);
    let action = believed(signal);
    if blocked & bit != 0 {
        if synchronous {
            // SAFETY: the caller's promise. The kernel forces a blocked fault: the process dies.
            unsafe { die(signal, info, context) };
            return false;
        }
        if let Some(thread) = thread {
            // SAFETY: the caller's promise.
            unsafe { set_aside(thread, signal, &*info, context) };
        }
        return true;
    }
    // SAFETY: the caller's promise; a mask in force is the frame's, or that of a wait.
    let base = unsafe { (*context).mask } & !PROTECTED_MASK | blocked;
    // SAFETY: the caller's promise.
    unsafe { act(&action, signal, info, context, thread, base) }
}

/// Holds back a fault signal or SIGTRAP that somebody sent while our own code was at work in this
/// thread: like every other signal it is delivered when that is done. Whether it was such a one.
///
/// # Safety
/// `info` and `context` are this signal's.
pub unsafe fn hold_back(signal: i32, info: *mut SignalInfo) -> bool {
    // SAFETY: the caller's promise.
    let info = unsafe { &mut *info };
    info.restore();
    match thread::existing() {
        Some(thread) if !info.is_synchronous() && thread.is_ours() => {
            pend(thread, signal, info);
            true
        }
        _ => false,
    }
}

/// A blocked signal that somebody sent. To this thread: it is pending for it. To the process: the
/// kernel, which knows of nothing blocked, chose this thread; one that waits for the signal or lets it
/// through gets it, or it is pending for all.
///
/// # Safety
/// `context` is this signal's frame.
unsafe fn set_aside(thread: &ThreadState, signal: i32, info: &SignalInfo, context: *mut SignalContext) {
    let bit = sigbit(signal);
    // SAFETY: the caller's promise.
    let waits = unsafe { wait_again(thread, signal, context) };
    if waits || info.code == libc::SI_TKILL || process::is_borrowed() {
        pend(thread, signal, info);
    } else if !forward(thread, signal, info) {
        PROCESS_PENDING.put(signal, info);
        // A thread that began to wait for it or to let it through just now saw nothing pending; we see it.
        if let Some(info) = someone_takes(thread, bit).then(|| PROCESS_PENDING.take(bit)).flatten()
            && !forward(thread, signal, &info)
        {
            PROCESS_PENDING.put(signal, &info);
        }
    }
}

/// Whether the thread was about to wait for `signal`, its system call not yet made. Then it goes
/// through the gate again, which finds the signal pending.
///
/// # Safety
/// `context` is the frame of a signal that arrived in the thread.
unsafe fn wait_again(thread: &ThreadState, signal: i32, context: *mut SignalContext) -> bool {
    // SAFETY: the caller's promise.
    let regs = unsafe { &mut (*context).regs };
    let Some(InSlot { point, stepping: true, pc: SlotPc::Before }) = slots::locate(regs.rip) else {
        return false;
    };
    let waits = regs.rax == libc::SYS_rt_sigtimedwait as u64
        && SafeMemory.read_u64(regs.rdi).is_some_and(|set| set & sigbit(signal) != 0);
    if waits {
        regs.rip = point.at;
        thread.drop_step(point.slot + STEP_OFFSET);
    }
    waits
}

fn others(thread: &ThreadState) -> impl Iterator<Item = &'static ThreadState> {
    thread::all().filter(move |other| other.tid.load(Relaxed) > 0 && !std::ptr::eq(*other, thread))
}

fn someone_takes(thread: &ThreadState, bit: u64) -> bool {
    others(thread).any(|other| other.accepts.load(SeqCst) & bit != 0 || other.blocked_now() & bit == 0)
}

/// Sends a signal of the process to a thread that takes it. Each waiting thread is asked once for
/// each wait, so that nothing goes in circles.
fn forward(thread: &ThreadState, signal: i32, info: &SignalInfo) -> bool {
    let bit = sigbit(signal);
    let waiting = others(thread).filter(|other| other.accepts.fetch_and(!bit, SeqCst) & bit != 0);
    let open = others(thread).filter(|other| other.blocked_now() & bit == 0);
    let pid = process::pid();
    let mut info = *info;
    info.disguise();
    waiting.chain(open).any(|other| {
        let tid = other.tid.load(Relaxed);
        // SAFETY: a siginfo the kernel gave us.
        unsafe { sys::tgsigqueueinfo(pid, tid, signal, (&raw const info).cast()) }.is_ok()
    })
}

/// Carries out the program's disposition of a signal that is not blocked. `base` is the mask in force.
/// False: the process is dying.
unsafe fn act(
    action: &KernelSigaction,
    signal: i32,
    info: *mut SignalInfo,
    context: *mut SignalContext,
    thread: Option<&'static ThreadState>,
    base: u64,
) -> bool {
    // SAFETY: the caller's promise (deliver).
    let synchronous = unsafe { (*info).is_synchronous() };
    match action.handler {
        SIG_IGN if !synchronous => return true,
        SIG_DFL | SIG_IGN => {
            // SAFETY: the caller's promise.
            unsafe { die(signal, info, context) };
            return false;
        }
        _ => {}
    }
    if action.flags & libc::SA_RESETHAND as u32 as u64 != 0 && !process::is_borrowed() {
        let reset = KernelSigaction { handler: SIG_DFL, ..*action };
        believe(signal, &reset);
    }
    // SAFETY: the caller's promise.
    unsafe { run_handler(action, signal, info, context, thread, base) };
    true
}

/// Delivers what is pending for the thread and not blocked any more, on top of `context`, as the
/// kernel does before a system call returns. Our hits end before: a handler may leave by longjmp.
///
/// # Safety
/// `context` is the frame of the signal being handled, complete but for this.
pub unsafe fn deliver_pending(thread: &'static ThreadState, context: *mut SignalContext, mask: u64) {
    // Inside a handler of a probe they wait for its end.
    while !thread.run().is_on()
        && let Some(mut info) = take_pending(thread, !mask)
    {
        let action = believed(info.signal);
        let depth = thread.suspend();
        // SAFETY: the caller's promise.
        let alive = unsafe { act(&action, info.signal, &raw mut info, context, Some(thread), mask) };
        thread.resume(depth);
        if !alive {
            return;
        }
    }
}

/// Calls the program's handler with the mask, the stack and the context the kernel would give it.
unsafe fn run_handler(
    action: &KernelSigaction,
    signal: i32,
    info: *mut SignalInfo,
    context: *mut SignalContext,
    thread: Option<&'static ThreadState>,
    base: u64,
) {
    let mut view = View::default();
    // SAFETY: the caller's promise (deliver).
    let viewed = unsafe { slots::enter_view(context, &raw mut view) } != 0;
    let own = if action.flags & libc::SA_NODEFER as u64 == 0 { sigbit(signal) } else { 0 };
    // The kernel switches stacks for the other signals itself.
    let on_alternate = signal == libc::SIGTRAP && action.flags & libc::SA_ONSTACK as u64 != 0;
    let call = HandlerCall { handler: action.handler, on_alternate, during: base | action.mask | own };
    // SAFETY: the caller's promise (deliver).
    let after = unsafe { call.make(signal, info, context, thread) };
    if viewed {
        // SAFETY: as enter_view.
        unsafe { slots::leave_view(context, &raw mut view) };
    }
    if let Some(thread) = thread {
        // SAFETY: the caller's promise (deliver).
        unsafe { deliver_pending(thread, context, after) };
    }
}

/// At the end of a hit: delivers what was held back meanwhile.
///
/// # Safety
/// `context` is the frame of the signal being handled, complete but for this.
pub unsafe fn end_hit(thread: &'static ThreadState, context: *mut SignalContext) {
    if thread.pending.load(Relaxed) == 0 || thread.is_ours() {
        return;
    }
    // Only where a handler of a probe let signals through that the trap had blocked.
    let _ = defer::give_back(thread);
    // SAFETY: the caller's promise.
    let (rip, mask) = unsafe { ((*context).regs.rip, (*context).mask) };
    // Between two traps the second one does it, with the mask that is the program's.
    if !slots::locate(rip).is_some_and(|found| found.stepping) {
        let mask = (mask & !PROTECTED_MASK) | thread.blocked_now();
        // SAFETY: the caller's promise.
        unsafe { deliver_pending(thread, context, mask) };
    }
}

/// The same outside of hits: sends it again.
pub fn send_held_back() {
    let Some(thread) = thread::existing() else { return };
    if thread.pending.load(Relaxed) == 0 || thread.is_ours() || process::is_borrowed() {
        return;
    }
    while own_pending(thread) & !thread.blocked_now() != 0 {
        let Some(info) = take_pending(thread, !thread.blocked_now()) else { return };
        // SAFETY: a siginfo the kernel gave us.
        let _ = unsafe {
            sys::tgsigqueueinfo(process::pid(), sys::gettid(), info.signal, std::ptr::from_ref(&info).cast())
        };
    }
}

/// In a fork child: nothing is pending, and no other thread is in the middle of a change.
pub fn after_fork() {
    for entry in &BELIEVED {
        let version = entry.version.load(Relaxed);
        entry.version.store(version.next_multiple_of(2), Relaxed);
    }
    PROCESS_PENDING.clear();
}
