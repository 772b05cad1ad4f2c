//! Signals that arrive while a hit is handled without a trap.
//!
//! At a trap the kernel keeps asynchronous signals away while we work. On the way back from a probed
//! function there is no trap, and the program's handler must not run on top of us all the same: what
//! it executes would hit probes inside a hit, and find records half made. So it waits for the end.
//!
//! ```text
//!   our code              kernel              here
//!   enter()
//!     …  ◄─────────────── signal ───────────► shim: set_aside(): kept in the thread's state,
//!     …  ◄─────────────── sigreturn ◄────────        all others blocked from now on
//!   leave(), finish()
//!   int3 at deliver_site ─► SIGTRAP ────────► on_trap: deliver(): the program's handler,
//!   next  ◄────────────── sigreturn ◄────────          with the mask it would have had
//! ```
//!
//! The signal is delivered before the mask is opened again, and not sent once more: that keeps
//! realtime signals in their order, and siginfo what it was. More than one is kept only where the
//! kernel had begun to deliver several at once, their frames stacked upon each other: the last one's
//! handler would have run first, and does.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, Ordering::*, compiler_fence};

use crate::hit::actions::{self, HANDLERS, HandlerCall};
use crate::hit::frame::{SignalContext, SignalInfo};
use crate::hit::thread::{self, PROTECTED_MASK, ThreadState};
use crate::hit::{asm, masks, pending, process};
use crate::sys;

/// As many as there are signals: each blocks itself while its frame stands. Those with SA_NODEFER do
/// not; more of them than this are sent again.
const ROOM: usize = 64;

/// A bit of [`ThreadState::pending`]: something is set aside. One load tells [`finish`] of both.
pub const ASIDE: u32 = 1 << 31;

/// A signal the kernel has delivered, and the program has not seen yet.
#[derive(Clone, Copy)]
struct Record {
    info: SignalInfo,
    /// 0: nothing is to be delivered, only the mask restored.
    signal: i32,
    /// Who got it: a vfork child uses its parent's state, and may die.
    tid: i32,
    /// What the kernel would have called: the program's handler, or ours in its place.
    handler: usize,
    on_alternate: bool,
    /// The mask of the interrupted code, as the program sees it.
    saved: u64,
    /// The mask for the handler.
    during: u64,
}

/// What is set aside in one thread, in the order in which the handlers are to run.
pub struct Aside {
    count: AtomicU32,
    records: UnsafeCell<[Record; ROOM]>,
}

impl Aside {
    /// Whether there is room for one more, and there it is.
    fn push(&self, record: &Record) -> bool {
        let count = self.count.load(Relaxed) as usize;
        // SAFETY: the owning thread's cell, signals blocked.
        let records = unsafe { &mut *self.records.get() };
        let Some(place) = records.get_mut(count) else { return false };
        *place = *record;
        self.count.store(count as u32 + 1, Relaxed);
        true
    }

    fn get(&self, at: usize) -> Option<Record> {
        // SAFETY: the owning thread's cell, signals blocked.
        unsafe { &*self.records.get() }.get(at).copied()
    }

    fn len(&self) -> usize {
        self.count.load(Relaxed) as usize
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.count.store(0, Relaxed);
    }
}

/// Called by the shim for a signal of a thread that is inside a hit.
///
/// # Safety
/// The kernel's own arguments of a handler.
pub unsafe extern "C-unwind" fn set_aside(signal: i32, info: *mut SignalInfo, context: *mut SignalContext) {
    // SAFETY: the kernel's information.
    let info = unsafe { &mut *info };
    let Some(thread) = thread::existing() else { return };
    if signal == libc::SIGSYS && info.is_synchronous() {
        // SAFETY: the kernel's arguments, passed on.
        return unsafe { emulate_system_call(thread, signal, info, context) };
    }
    // Frames of other signals may stand below and above this one, but no more of them come.
    let during = sys::set_signal_mask(!PROTECTED_MASK);
    process::check_fork();
    // SAFETY: the kernel's frame.
    let mask = unsafe { &mut (*context).mask };
    let believed = actions::believed(signal);
    let blocked = thread.blocked.load(Relaxed);
    // What the kernel was told to block meanwhile is more than what the program wants (see `masks`).
    let during = if masks::holds(signal) { *mask | actions::mask_during(&believed, signal) } else { during };
    let record = Record {
        info: *info,
        signal,
        tid: sys::gettid(),
        handler: HANDLERS[signal as usize].load(Acquire),
        on_alternate: believed.flags & libc::SA_ONSTACK as u64 != 0,
        saved: (*mask & !PROTECTED_MASK) | blocked,
        during: (during & !PROTECTED_MASK) | blocked | (believed.mask & PROTECTED_MASK),
    };
    if thread.aside.push(&record) {
        thread.pending.fetch_or(ASIDE, Relaxed);
    } else {
        send_again(&record);
    }
    *mask = !PROTECTED_MASK;
}

/// A system call made here that the program's seccomp filter gives to the program's handler: it
/// makes the call's result, so it can't wait. What it hits meanwhile is our own.
unsafe fn emulate_system_call(
    thread: &ThreadState,
    signal: i32,
    info: *mut SignalInfo,
    context: *mut SignalContext,
) {
    let handler = HANDLERS[signal as usize].load(Acquire);
    thread.library.fetch_add(1, Relaxed);
    // SAFETY: what the shim would call, with the kernel's arguments.
    unsafe { actions::call_handler(handler, signal, info, context) };
    thread.library.fetch_sub(1, Relaxed);
}

/// To be called after [`ThreadState::leave`] wherever a hit was handled without a trap: delivers what
/// arrived meanwhile. The program's handlers run in here, and may not come back.
#[inline]
pub fn finish(thread: &ThreadState) {
    // A signal that is seen here at last came before the depth was 0; a later one is not set aside.
    compiler_fence(SeqCst);
    if thread.pending.load(Relaxed) != 0 {
        finish_slowly(thread);
    }
}

#[cold]
fn finish_slowly(thread: &ThreadState) {
    // Inside a handler they wait for its end: also at the end of a hit that it makes.
    let is_over = thread.depth.load(Relaxed) == 0 && !thread.run().is_on();
    if !thread.is_ours() {
        pending::give_back(thread);
    }
    let aside = is_over && thread.pending.load(Relaxed) & ASIDE != 0;
    let sent = !thread.is_ours() && pending::own_pending(thread) & !thread.blocked_now() != 0;
    if aside || sent {
        // SAFETY: `deliver` takes the trap.
        unsafe { asm::uprobe_deliver() };
    }
}

/// The trap of [`finish`]: what was set aside, and which of our five signals somebody sent. `context`
/// goes on with the mask the handlers leave.
///
/// # Safety
/// `context` is the frame of a SIGTRAP of a thread that is inside no hit.
pub unsafe fn deliver(context: *mut SignalContext) {
    let Some(thread) = thread::existing() else { return };
    thread.settle_borrower();
    // SAFETY: the caller's promise.
    let mask = match unsafe { deliver_up_to(thread, context, thread.aside.len()) } {
        Delivered::Nothing => {
            // SAFETY: the caller's promise.
            unsafe { (*context).mask & !PROTECTED_MASK | thread.blocked_now() }
        }
        Delivered::Left(mask) => mask,
        Delivered::Dying => return,
    };
    // SAFETY: the caller's promise.
    unsafe { pending::deliver(thread, context, mask) };
}

enum Delivered {
    Nothing,
    /// The mask the thread goes on with, as the program sees it.
    Left(u64),
    Dying,
}

/// Delivers the first `count` records. Each is on the stack and none in the thread's state when the
/// first handler runs: one that leaves by longjmp leaves nothing behind, as where the kernel stacks
/// the frames.
unsafe fn deliver_up_to(
    thread: &'static ThreadState,
    context: *mut SignalContext,
    count: usize,
) -> Delivered {
    let Some(mut record) = count.checked_sub(1).and_then(|last| thread.aside.get(last)) else {
        forget(thread);
        return Delivered::Nothing;
    };
    // SAFETY: the caller's promise.
    let during = match unsafe { deliver_up_to(thread, context, count - 1) } {
        Delivered::Nothing => record.during,
        // The frame of the one before stood on this one's: its end is this one's beginning.
        Delivered::Left(mask) => mask | (record.during & PROTECTED_MASK),
        Delivered::Dying => return Delivered::Dying,
    };
    if record.tid != sys::gettid() {
        return Delivered::Nothing;
    }
    // SAFETY: the caller's promise.
    unsafe { (*context).mask = record.saved & !PROTECTED_MASK };
    thread.set_mask(record.saved);
    if record.signal == 0 {
        return Delivered::Left(record.saved);
    }
    let call = HandlerCall { handler: record.handler, on_alternate: record.on_alternate, during };
    let is_fatal = record.handler == actions::on_fatal as *const () as usize;
    // SAFETY: what the kernel would have called, with what it gave us.
    let after = unsafe { call.make(record.signal, &raw mut record.info, context, Some(thread)) };
    if is_fatal { Delivered::Dying } else { Delivered::Left(after) }
}

fn forget(thread: &ThreadState) {
    thread.aside.clear();
    thread.pending.fetch_and(!ASIDE, Relaxed);
}

/// How many are set aside for the calling thread now. Signal-safe.
#[must_use]
pub fn count() -> usize {
    thread::existing().map_or(0, |thread| thread.aside.len())
}

/// Drops what of `signal` was set aside for the calling thread since there were `before`: a call of our own has
/// raised it. The mask that was in force then comes back with it all the same. False: there is none.
pub fn drop_since(before: usize, signal: i32) -> bool {
    let Some(thread) = thread::existing() else { return false };
    let tid = sys::gettid();
    let mut found = false;
    // Signals are blocked since the first was set aside; where there is none, nothing is done.
    for at in before..thread.aside.len() {
        // SAFETY: the owning thread's cell, signals blocked.
        let records = unsafe { &mut *thread.aside.records.get() };
        if let Some(record) = records.get_mut(at)
            && (record.signal, record.tid) == (signal, tid)
        {
            record.signal = 0;
            found = true;
        }
    }
    found
}

/// Where a hit ends in another way than by [`finish`]: sends again what was set aside. Asynchronous
/// signals must be blocked. The mask of the code that was interrupted first; `None` where nothing was.
pub fn give_back(thread: &ThreadState) -> Option<u64> {
    if thread.pending.load(Relaxed) & ASIDE == 0 {
        return None;
    }
    let mut mask = None;
    for record in (0..thread.aside.len()).filter_map(|at| thread.aside.get(at)) {
        if record.tid == sys::gettid() {
            send_again(&record);
            mask = Some(record.saved & !PROTECTED_MASK);
        }
    }
    forget(thread);
    mask
}

fn send_again(record: &Record) {
    if record.signal == 0 {
        return;
    }
    let (pid, tid) = (sys::getpid(), sys::gettid());
    let info = (&raw const record.info).cast();
    // SAFETY: a siginfo the kernel gave us.
    if unsafe { sys::tgsigqueueinfo(pid, tid, record.signal, info) }.is_err() {
        let _ = sys::tgkill(pid, tid, record.signal);
    }
}

/// In a fork child, for the thread that forked: what was set aside is the parent's to deliver; the
/// mask is the child's, too.
pub fn after_fork(thread: &ThreadState) {
    for at in 0..thread.aside.len() {
        // SAFETY: the child's only thread.
        let records = unsafe { &mut *thread.aside.records.get() };
        if let Some(record) = records.get_mut(at) {
            record.signal = 0;
            record.tid = sys::gettid();
        }
    }
}

#[cfg(test)]
mod tests;
