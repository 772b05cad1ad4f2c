//! Our five signals while they are pending: sent by somebody, and blocked in the program's eyes.
//!
//! The kernel never holds them back, so what arrives too early is kept here: by thread, or for the process,
//! where no thread takes it. It is delivered in the kernel's order: each pending signal that is let through
//! gets its frame, lowest number first, with its `sa_mask` upon those before; so the last one's handler runs
//! first, and sees the mask of the one below.

mod announced;

use std::cell::UnsafeCell;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, Ordering::*};

use crate::hit::actions::{self, Fate};
use crate::hit::frame::{SignalContext, SignalInfo};
use crate::hit::memory::SafeMemory;
use crate::hit::point::STEP_OFFSET;
use crate::hit::slots::{self, InSlot};
use crate::hit::thread::{self, PROTECTED, PROTECTED_MASK, ThreadState};
use crate::hit::{defer, masks, process};
use crate::insn::SlotPc;
use crate::regs::{Memory, Regs};
use crate::sys::{self, sigbit};

pub use announced::{adopt, is_announced, send, take_announced};

/// Delivers what is pending for the thread and not blocked by `mask`, on top of `context`, as the kernel does
/// before a system call returns: `mask` is in force, and the thread goes on with its own, which a call that
/// waited had replaced. Our hits end before: a handler may leave by longjmp. Whether anything was delivered: another
/// thread may take what is pending for the process.
///
/// # Safety
/// `context` is the frame of the signal being handled, complete but for this.
pub unsafe fn deliver(thread: &'static ThreadState, context: *mut SignalContext, mut mask: u64) -> bool {
    let mut any = false;
    // Inside a handler of a probe they wait for its end.
    while !thread.run().is_on() && mask_of(thread) & !mask != 0 {
        let depth = thread.suspend();
        // SAFETY: the caller's promise.
        let saved = unsafe { (*context).mask & !PROTECTED_MASK } | thread.blocked.load(Relaxed);
        // SAFETY: the caller's promise.
        let delivered = unsafe { deliver_upon(thread, context, saved, mask) };
        thread.resume(depth);
        match delivered {
            Delivered::Left(after) => (mask, any) = (after, true),
            Delivered::Nothing => break,
            Delivered::Dying => return true,
        }
    }
    any
}

enum Delivered {
    Nothing,
    /// The mask the thread goes on with, as the program sees it.
    Left(u64),
    Dying,
}

/// Delivers the first of what `mask` lets through, and before it those that its own mask lets through. `saved` is
/// the mask that its frame restores.
///
/// # Safety
/// As [`deliver`], outside of hits.
unsafe fn deliver_upon(
    thread: &'static ThreadState,
    context: *mut SignalContext,
    saved: u64,
    mask: u64,
) -> Delivered {
    let Some(mut info) = take(thread, !mask) else { return Delivered::Nothing };
    let signal = info.signal;
    // SAFETY: the caller's promise.
    let action = match unsafe { actions::fate(signal, &raw mut info, context) } {
        // SAFETY: the caller's promise.
        Fate::Ignored => return unsafe { deliver_upon(thread, context, saved, mask) },
        Fate::Dying => return Delivered::Dying,
        Fate::Handled(action) => action,
    };
    let during = mask | actions::mask_during(&action, signal);
    set_mask(thread, context, during);
    // SAFETY: the caller's promise.
    let during = match unsafe { deliver_upon(thread, context, during, during) } {
        Delivered::Nothing => during,
        Delivered::Left(after) => after,
        Delivered::Dying => return Delivered::Dying,
    };
    set_mask(thread, context, saved);
    // SAFETY: the caller's promise.
    let after =
        unsafe { actions::run_handler(&action, signal, &raw mut info, context, Some(thread), during) };
    Delivered::Left(after)
}

/// Forgets what is pending, not blocked by `mask`, and ignored: it ends no wait.
pub fn drop_ignored(thread: &ThreadState, mask: u64) {
    for signal in PROTECTED {
        let bit = sigbit(signal);
        if mask_of(thread) & !mask & bit != 0 && actions::is_ignored(signal) {
            let _ = take(thread, bit);
        }
    }
}

/// What whoever interrupts the thread at `context` sees as its mask.
fn set_mask(thread: &ThreadState, context: *mut SignalContext, mask: u64) {
    // SAFETY: the frame of the signal being handled; nobody else touches it.
    unsafe { (*context).mask = mask & !PROTECTED_MASK };
    thread.set_mask(mask);
}

/// Gives what is pending to the kernel, which keeps it while the program becomes another one: there the signals
/// are blocked in earnest, as they must be before this. Where exec fails they come back as they went.
pub fn hand_over(thread: &ThreadState, blocked: u64) {
    let (pid, tid) = (sys::getpid(), sys::gettid());
    thread.lend_if_borrowed();
    while let Some(info) = take(thread, blocked) {
        // SAFETY: a siginfo the kernel gave us, to the thread itself: the program begins with it.
        let _ = unsafe { sys::tgsigqueueinfo(pid, tid, info.signal, std::ptr::from_ref(&info).cast()) };
    }
}

/// The process dies of a signal: of what else is pending nothing comes any more, neither behind this one nor, sent
/// again, while the report is written.
pub fn end(thread: &ThreadState) {
    thread.lend_if_borrowed();
    while take(thread, !0).is_some() {}
}

/// The program ignores `signal` from now on: it is pending nowhere any more (sigaction(2)).
pub fn discard(signal: i32) {
    let Some(at) = PROTECTED.iter().position(|protected| *protected == signal) else { return };
    for thread in thread::all() {
        thread.pending.fetch_and(!(1 << at), AcqRel);
    }
    let _ = PROCESS_PENDING.take(sigbit(signal));
}

/// Whether the signal arrived in our own handler of a trap, but outside of a hit, while a system call waits: there it
/// would not end the wait. Behind the hit that lets the call wait, it is put off: it comes again when the handler has
/// returned, and is not let in before. In the trap behind the call it is pending, for [`finish_step`] to see. (It
/// must not be kept out there by the mask: this handler may have exceptions of its own to come.)
///
/// # Safety
/// `context` is the frame of this signal.
///
/// [`finish_step`]: super::trap
unsafe fn put_off(thread: &ThreadState, signal: i32, info: &SignalInfo, context: *mut SignalContext) -> bool {
    // SAFETY: the caller's promise; nobody else touches the frame.
    let (rip, mask) = unsafe { ((*context).regs.rip, &mut (*context).mask) };
    // The call itself is made in a slot.
    if thread.waiting_mask().is_none() || !ThreadState::is_all(*mask) || slots::locate(rip).is_some() {
        return false;
    }
    if !is_about_to_wait(thread) {
        pend(thread, signal, info);
        return true;
    }
    *mask |= sigbit(signal);
    // Until then nothing may let it in: sigreturn does.
    sys::set_signal_mask(!0);
    // SAFETY: a siginfo the kernel gave us, to the thread itself.
    let sent =
        unsafe { sys::tgsigqueueinfo(sys::getpid(), sys::gettid(), signal, std::ptr::from_ref(info).cast()) };
    sent.is_ok()
}

/// Whether the trap's frame that the thread is to go on with leads to a call that waits. The trap behind the call
/// has its frame in the same place.
fn is_about_to_wait(thread: &ThreadState) -> bool {
    const RIP: usize = offset_of!(SignalContext, regs) + offset_of!(Regs, rip);
    let frame = thread.leads_to_wait.load(Relaxed);
    if frame == 0 {
        return false;
    }
    // Of the stack it waits on: no fault, which this signal's handler would not let in.
    let found = SafeMemory.read_u64(frame.wrapping_add(RIP as u64)).and_then(slots::locate);
    found.is_some_and(|found| found.stepping && found.pc == SlotPc::Before)
}

/// Holds back a fault signal or SIGTRAP that somebody sent while our own code was at work in this
/// thread: like every other signal it is delivered when that is done. Whether it was such a one.
///
/// # Safety
/// `info` and `context` are this signal's.
pub unsafe fn hold_back(signal: i32, info: *mut SignalInfo, context: *mut SignalContext) -> bool {
    // SAFETY: the caller's promise.
    let info = unsafe { &mut *info };
    info.restore();
    match thread::existing() {
        Some(thread) if !info.is_synchronous() && thread.is_ours() => {
            pend(thread, signal, info);
            true
        }
        // SAFETY: the caller's promise.
        Some(thread) if !info.is_synchronous() => unsafe { put_off(thread, signal, info, context) },
        _ => false,
    }
}

/// Makes a signal pending for this thread: one that came together with something else, to be delivered behind that,
/// or that the program blocks and sends to itself.
pub fn keep(thread: &ThreadState, info: &SignalInfo) {
    pend(thread, info.signal, info);
}

/// Whether `signal` has become pending for the calling thread by `act`.
pub fn kept_by<T>(signal: i32, act: impl FnOnce() -> T) -> (T, bool) {
    let is_pending = || thread::existing().is_some_and(|thread| own_pending(thread) & sigbit(signal) != 0);
    let was_pending = is_pending();
    let result = act();
    (result, !was_pending && is_pending())
}

/// It is not pending for the thread any more.
pub fn forget(thread: &ThreadState, signal: i32) {
    if let Some(at) = PROTECTED.iter().position(|protected| *protected == signal) {
        thread.pending.fetch_and(!(1 << at), AcqRel);
    }
}

/// A blocked signal that somebody sent. To this thread: it is pending for it. To the process: the
/// kernel, which knows of nothing blocked, chose this thread; one that waits for the signal or lets it
/// through gets it, or it is pending for all.
///
/// # Safety
/// `context` is this signal's frame.
pub unsafe fn set_aside(thread: &ThreadState, signal: i32, info: &SignalInfo, context: *mut SignalContext) {
    // SAFETY: the caller's promise.
    let waits = unsafe { wait_again(thread, signal, context) };
    let borrowed = thread.lend_if_borrowed();
    if waits || info.is_for_thread() || borrowed {
        pend(thread, signal, info);
    } else {
        give_to_process(thread, signal, info);
    }
}

/// A signal of the process that this thread blocks.
fn give_to_process(thread: &ThreadState, signal: i32, info: &SignalInfo) {
    /// A thread that is dead, as far as can be seen, lets it through all the time.
    const TRIES: u32 = 16;
    let bit = sigbit(signal);
    let mut info = *info;
    for _ in 0..TRIES {
        if forward(thread, signal, &info) {
            return;
        }
        PROCESS_PENDING.put(signal, &info);
        // A thread that began to wait for it or to let it through just now saw nothing pending; we see it. While it is
        // taken back another may find nothing, or the same one, which looks once more.
        let taken = someone_takes(thread, bit).then(|| PROCESS_PENDING.take(bit)).flatten();
        let Some(back) = taken else { return };
        info = back;
    }
    PROCESS_PENDING.put(signal, &info);
}

/// At the end of a hit: what came meanwhile, is the process's and blocked here, is for whoever lets it through.
pub fn give_back(thread: &ThreadState) {
    let blocked = own_pending(thread) & thread.blocked_now();
    if blocked == 0 || is_lent(thread) {
        return;
    }
    for (at, signal) in PROTECTED.into_iter().enumerate().filter(|(_, signal)| blocked & sigbit(*signal) != 0)
    {
        // SAFETY: this thread's own cell.
        let info = unsafe { (&*thread.pending_info.get())[at] };
        if !info.is_for_thread() && thread.pending.fetch_and(!(1 << at), AcqRel) & (1 << at) != 0 {
            give_to_process(thread, signal, &info);
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
    // The gate has just read the set.
    let waits = regs.rax == libc::SYS_rt_sigtimedwait as u64
        && SafeMemory.read_u64(regs.rdi).is_some_and(|set| set & sigbit(signal) != 0);
    if waits {
        regs.rip = point.at;
        thread.drop_step(point.slot() + STEP_OFFSET);
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
    let mut takers = waiting.chain(open);
    takers.any(|other| send(other.tid.load(Relaxed), signal, info).is_some_and(|sent| sent.is_ok()))
}

/// Remembers a blocked signal; like the kernel's, one of each.
fn pend(thread: &ThreadState, signal: i32, info: &SignalInfo) {
    let Some(at) = PROTECTED.iter().position(|protected| *protected == signal) else { return };
    // Not among what a child that is gone had pending.
    thread.settle_borrower();
    if thread.pending.load(Acquire) & (1 << at) == 0 {
        // Whole before it is said to be there: another of the five may come here meanwhile, and be told of it.
        // SAFETY: this thread's own cell.
        unsafe { (&mut *thread.pending_info.get())[at] = *info };
        thread.pending.fetch_or(1 << at, AcqRel);
    }
}

/// Which protected signals are pending for the thread or the process, as a kernel mask.
#[must_use]
pub fn mask_of(thread: &ThreadState) -> u64 {
    own_pending(thread) | if is_lent(thread) { 0 } else { PROCESS_PENDING.mask() }
}

/// Whether a vfork child is at work on the thread's state: what is pending for the process is not its.
fn is_lent(thread: &ThreadState) -> bool {
    thread.borrower.load(Relaxed) != 0
}

/// Those pending for the thread itself.
#[must_use]
pub fn own_pending(thread: &ThreadState) -> u64 {
    let pending = thread.pending.load(Acquire);
    PROTECTED
        .iter()
        .enumerate()
        .filter(|(at, _)| pending & (1 << at) != 0)
        .fold(0, |mask, (_, s)| mask | sigbit(*s))
}

/// Takes one pending signal out of `set`, for sigwait and its kin.
#[must_use]
pub fn take(thread: &ThreadState, set: u64) -> Option<SignalInfo> {
    loop {
        let own = own_pending(thread);
        let Some(at) = PROTECTED.iter().position(|signal| set & own & sigbit(*signal) != 0) else {
            return if is_lent(thread) { None } else { PROCESS_PENDING.take(set) };
        };
        // SAFETY: this thread's own cell.
        let mut info = unsafe { (&*thread.pending_info.get())[at] };
        info.show();
        // A handler that came here meanwhile may have taken it.
        if thread.pending.fetch_and(!(1 << at), AcqRel) & (1 << at) != 0 {
            return Some(info);
        }
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
    give_back(thread);
    // Only where a handler of a probe let signals through that the trap had blocked.
    let _ = defer::give_back(thread);
    // SAFETY: the caller's promise.
    let (rip, mask) = unsafe { ((*context).regs.rip, (*context).mask) };
    // Between two traps the second one does it, with the mask that is the program's. But before a system call that
    // waits: that goes through its gate again, which finds something pending.
    if slots::locate(rip).is_some_and(|found| found.stepping) {
        if own_pending(thread) & !thread.blocked_now() != 0 {
            // SAFETY: the caller's promise; nobody else touches the frame.
            masks::wait_anew(thread, unsafe { &mut *context });
        }
    } else {
        let mask = (mask & !PROTECTED_MASK) | thread.blocked_now();
        // SAFETY: the caller's promise.
        unsafe { deliver(thread, context, mask) };
    }
}

/// The same outside of hits: sends it again.
pub fn send_held_back() {
    let Some(thread) = thread::existing() else { return };
    if thread.pending.load(Relaxed) == 0 || thread.is_ours() || process::is_borrowed() {
        return;
    }
    while own_pending(thread) & !thread.blocked_now() != 0 {
        let Some(info) = take(thread, !thread.blocked_now()) else { return };
        // SAFETY: a siginfo the kernel gave us.
        let _ = unsafe {
            sys::tgsigqueueinfo(process::pid(), sys::gettid(), info.signal, std::ptr::from_ref(&info).cast())
        };
    }
}

/// In a fork child: nothing is pending.
pub fn after_fork() {
    PROCESS_PENDING.0.iter().for_each(PendingCell::clear);
    announced::after_fork();
}

/// Signals of the process that no thread takes.
struct ProcessPending([PendingCell; PROTECTED.len()]);

/// One pending signal, which any thread may put there and take. Zeros are an empty one.
pub struct PendingCell {
    state: AtomicU32,
    info: UnsafeCell<SignalInfo>,
}

const EMPTY: u32 = 0;
const CHANGING: u32 = 1;
const FULL: u32 = 2;

// SAFETY: a cell is touched only by whoever set its state to CHANGING.
unsafe impl Sync for PendingCell {}

impl PendingCell {
    /// An empty one.
    const fn new() -> Self {
        Self { state: AtomicU32::new(EMPTY), info: UnsafeCell::new(SignalInfo::new()) }
    }

    /// Whether there was room.
    fn put(&self, info: &SignalInfo) -> bool {
        let is_ours = self.state.compare_exchange(EMPTY, CHANGING, SeqCst, Relaxed).is_ok();
        if is_ours {
            // SAFETY: ours while CHANGING.
            unsafe { *self.info.get() = *info };
            self.state.store(FULL, SeqCst);
        }
        is_ours
    }

    fn take(&self) -> Option<SignalInfo> {
        self.state.compare_exchange(FULL, CHANGING, SeqCst, Relaxed).ok()?;
        // SAFETY: ours while CHANGING.
        let info = unsafe { *self.info.get() };
        self.state.store(EMPTY, SeqCst);
        Some(info)
    }

    fn is_empty(&self) -> bool {
        self.state.load(SeqCst) == EMPTY
    }

    /// Forgets it; no other thread may be at it.
    pub fn clear(&self) {
        self.state.store(EMPTY, Relaxed);
    }
}

static PROCESS_PENDING: ProcessPending = ProcessPending([const { PendingCell::new() }; PROTECTED.len()]);

impl ProcessPending {
    fn put(&self, signal: i32, info: &SignalInfo) {
        let Some(at) = PROTECTED.iter().position(|protected| *protected == signal) else { return };
        self.0[at].put(info);
    }

    fn take(&self, set: u64) -> Option<SignalInfo> {
        let of_set = self.0.iter().zip(PROTECTED).filter(|(_, signal)| set & sigbit(*signal) != 0);
        of_set.map(|(cell, _)| cell).find_map(PendingCell::take)
    }

    fn mask(&self) -> u64 {
        let full = self.0.iter().zip(PROTECTED).filter(|(cell, _)| cell.state.load(SeqCst) == FULL);
        full.fold(0, |mask, (_, signal)| mask | sigbit(signal))
    }
}
