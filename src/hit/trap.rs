//! SIGTRAP: a probe's first trap, a step's second, or the program's own.

use std::sync::atomic::Ordering::*;

use crate::fetch::HitInput;
use crate::hit::consumer::{Flow, Role};
use crate::hit::frame::{SI_KERNEL, SignalContext, SignalInfo, VECTOR_BREAKPOINT, VECTOR_DIVISION};
use crate::hit::hidden::Evidence;
use crate::hit::listeners::Listeners;
use crate::hit::memory::SafeMemory;
use crate::hit::point::{ProbePoint, STEP_OFFSET};
use crate::hit::returns::{self, Following};
use crate::hit::thread::{AfterCall, PROTECTED_MASK, ThreadState};
use crate::hit::{actions, asm, defer, detour, fault, hidden, pending, point, process, slots, thread};
use crate::insn::{SlotKind, Way};
use crate::regs::{Memory, Reg, Regs};
use crate::sys::sigbit;

/// One hit, while it is handled.
pub struct Hit<'a> {
    /// The registers; rip is the place.
    pub regs: &'a mut Regs,
    /// The signal frame they are in; null at a return, which has none.
    pub context: *mut SignalContext,
    /// The place.
    pub point: &'a ProbePoint,
    /// Set by a gate that has something to do after the system call: makes it a step.
    pub after: Option<AfterCall>,
    /// The same of one that has changed a register, which gets this value afterwards.
    pub changed: Option<(Reg, u64)>,
    /// Whether its return is followed.
    pub following: Following,
    /// Where the function goes on through a return stub; 0: where it is.
    pub target: u64,
    /// At a jump, where xmm0-15 are; else null.
    pub vectors: *const u8,
    /// The function at the place has returned.
    pub is_return: bool,
}

impl<'a> Hit<'a> {
    /// A trap at `point`.
    pub const fn at_trap(regs: &'a mut Regs, context: *mut SignalContext, point: &'a ProbePoint) -> Self {
        let (following, vectors) = (Following::NotLooked, std::ptr::null());
        Self {
            regs,
            context,
            point,
            after: None,
            changed: None,
            following,
            target: 0,
            vectors,
            is_return: false,
        }
    }

    /// A jump at `point`.
    pub const fn at_jump(regs: &'a mut Regs, point: &'a ProbePoint, vectors: *const u8) -> Self {
        let mut hit = Self::at_trap(regs, std::ptr::null_mut(), point);
        hit.vectors = vectors;
        hit
    }

    /// The return of the function at `point`.
    pub const fn at_return(regs: &'a mut Regs, point: &'a ProbePoint) -> Self {
        let mut hit = Self::at_trap(regs, std::ptr::null_mut(), point);
        hit.is_return = true;
        hit
    }

    /// Whether a signal frame holds what our own code may clobber.
    #[must_use]
    pub const fn is_trap(&self) -> bool {
        !self.context.is_null()
    }

    /// What fetch arguments and filters read.
    pub fn input<'b>(&'b self, thread: &'b ThreadState, ts_ns: u64, latency_ns: u64) -> HitInput<'b> {
        let tid = thread.tid.load(Relaxed) as u32;
        HitInput { regs: self.regs, memory: &SafeMemory, comm: thread.comm(), tid, ts_ns, latency_ns }
    }
}

/// The kernel calls this for SIGTRAP.
///
/// # Safety
/// As for any SA_SIGINFO handler.
pub unsafe extern "C-unwind" fn on_trap(signal: i32, info: *mut SignalInfo, context: *mut SignalContext) {
    process::check_fork();
    // SAFETY: the kernel's arguments.
    let (info, trapped) = unsafe { (&mut *info, hidden::trapped(context)) };
    // SAFETY: the kernel's frame, and nobody else touches it.
    let (evidence, has_kept) = pending::kept_by(libc::SIGFPE, || hidden::settle(unsafe { &*trapped }));
    let (was_announced, announced) = (info.restore(), pending::take_announced(libc::SIGTRAP));
    // Not this one: its own was lost to this, or is still to come.
    let lost = announced.as_ref().filter(|_| !was_announced);
    if let (Some(thread), Some(announced)) = (thread::existing(), lost) {
        pending::keep(thread, announced);
    }
    let thread = thread::existing().filter(|_| lost.is_some() || has_kept);
    // SAFETY: the kernel's frame and arguments, passed on.
    unsafe {
        if info.code == SI_KERNEL {
            actions::let_in(sigbit(libc::SIGTRAP));
            if !take_breakpoint(trapped) && !has_gone(trapped) {
                give(signal, info, context);
            }
        } else {
            // It came with an earlier trap.
            let is_seen = was_announced && announced.is_none();
            if !take_hidden(info, is_seen, trapped, evidence) && !is_seen {
                give(signal, info, context);
            }
        }
        if let Some(thread) = thread {
            pending::end_hit(thread, trapped);
        }
    }
}

/// A SIGTRAP that is the program's.
///
/// # Safety
/// As [`on_trap`].
unsafe fn give(signal: i32, info: *mut SignalInfo, context: *mut SignalContext) {
    // SAFETY: the caller's promise.
    unsafe {
        if !pending::hold_back(signal, info, context) {
            actions::deliver(signal, info, context);
        }
    }
}

/// Whether the int3 was disarmed between the trap and here: the instruction is whole again, and executed.
///
/// # Safety
/// As [`take_breakpoint`].
unsafe fn has_gone(context: *mut SignalContext) -> bool {
    // SAFETY: the caller's promise.
    let (trap_number, rip) = unsafe { ((*context).trap_number, &mut (*context).regs.rip) };
    let at = rip.wrapping_sub(1);
    let gone = trap_number == VECTOR_BREAKPOINT && is_not_breakpoint(at) && !is_two_byte_breakpoint(at);
    if gone {
        *rip = at;
    }
    gone
}

/// Handles an int3 of ours that `info`, which somebody sent, has hidden; that follows, unless it was seen before.
/// Whether there is one.
///
/// # Safety
/// `context` is the frame of the code that SIGTRAP came to.
unsafe fn take_hidden(
    info: &SignalInfo,
    is_seen: bool,
    context: *mut SignalContext,
    evidence: Evidence,
) -> bool {
    if info.code <= 0 {
        hidden::expect();
        actions::bound(info.signal);
    }
    // SAFETY: the caller's promise; nobody else touches the frame.
    if !hidden::is_hidden(unsafe { &*context }, evidence) {
        return false;
    }
    let Some(thread) = thread::current() else { return false };
    if !is_seen {
        pending::keep(thread, info);
    }
    actions::let_in(PROTECTED_MASK);
    // SAFETY: the caller's promise.
    unsafe {
        if !take_breakpoint(context) {
            // An instruction inside a jump that has gone.
            (*context).regs.rip -= 1;
        }
        // Another may come to the frame on it (see `trapped`) before that one's handler has begun.
        (*context).trap_number = VECTOR_DIVISION;
        pending::end_hit(thread, context);
    }
    true
}

/// Handles an int3 of ours: a probe's, the one behind a stepped instruction, or the one that ends a hit
/// without a trap. False: it is none of them.
///
/// # Safety
/// `context` is the frame of this signal, and the kernel raised it.
pub unsafe fn take_breakpoint(context: *mut SignalContext) -> bool {
    // SAFETY: the kernel's frame.
    let (trap_number, rip) = unsafe { ((*context).trap_number, (*context).regs.rip) };
    if trap_number != VECTOR_BREAKPOINT {
        return false;
    }
    if rip == asm::deliver_site() {
        // SAFETY: the kernel's frame; the site is reached outside hits only.
        unsafe { defer::deliver(context) };
        return true;
    }
    // SAFETY: the kernel's frame.
    if unsafe { detour::resume(context) } {
        return true;
    }
    let at = rip.wrapping_sub(1);
    if let Some(found) = point::lookup(at)
        // SAFETY: the kernel's frame.
        && unsafe { take(found, context) }
    {
        return true;
    }
    if let Some(copy) = detour::inner(at) {
        // SAFETY: the kernel's frame.
        unsafe { (*context).regs.rip = copy };
        return true;
    }
    if let Some(found) = slots::owner(at)
        && at >= found.slot() + STEP_OFFSET
    {
        // SAFETY: the kernel's frame.
        unsafe { finish_step(found, context) };
        return true;
    }
    false
}

/// Whether the byte at `at` can be read and is no int3 any more.
pub fn is_not_breakpoint(at: u64) -> bool {
    let mut byte = [0];
    SafeMemory.read(at, &mut byte) == 1 && byte[0] != 0xCC
}

/// Whether `at` is the end of the program's own `int 3` of two bytes, and never was a place of ours.
fn is_two_byte_breakpoint(at: u64) -> bool {
    const INT_3: [u8; 2] = [0xCD, 3];
    let mut bytes = [0; 2];
    SafeMemory.read(at.wrapping_sub(1), &mut bytes) == 2 && bytes == INT_3 && point::lookup(at).is_none()
}

/// A trap at a known place. False: it is not ours.
///
/// # Safety
/// `context` is the frame of this signal.
unsafe fn take(found: &'static ProbePoint, context: *mut SignalContext) -> bool {
    if !found.armed.load(Acquire) {
        if is_not_breakpoint(found.at) {
            // SAFETY: the caller's promise.
            unsafe { (*context).regs.rip = found.at };
            return true;
        }
        // Ours is there only while `armed` says so: this one is somebody else's, unless it was armed
        // in this moment.
        if found.gone.load(Acquire) || !found.armed.load(Acquire) {
            return false;
        }
    }
    // SAFETY: the caller's promise; nobody else touches the frame.
    let regs = unsafe { &mut (*context).regs };
    regs.rip = found.at;
    let mut hit = Hit::at_trap(regs, context, found);
    let Some(thread) = thread::current() else {
        displace(&mut hit, None, None);
        return true;
    };
    thread.enter();
    let listeners = found.consumers.load();
    let handled = listeners.map_or(Flow::Continue, |listeners| run_all(&listeners, &mut hit, thread));
    returns::follow(&mut hit, thread, handled);
    if handled == Flow::Continue {
        let nested = thread.run().is_on() || thread.library.load(Relaxed) > 0;
        displace(&mut hit, Some(thread), listeners.filter(|listeners| !nested && listeners.wants_post()));
    }
    thread.leave();
    // SAFETY: the caller's promise.
    unsafe { pending::end_hit(thread, context) };
    true
}

/// Every consumer, in order; the engine's own last.
pub fn run_all(listeners: &Listeners, hit: &mut Hit<'_>, thread: &'static ThreadState) -> Flow {
    let mut flow = Flow::Continue;
    let ours = thread.library.load(Relaxed) > 0;
    let nested = thread.run().is_on();
    for consumer in listeners.all() {
        // SAFETY: listed, so not freed before this hit ends.
        let consumer = unsafe { &**consumer };
        if let Role::Internal(run) = consumer.role() {
            if flow == Flow::Continue && run(hit) == Flow::RipChanged {
                flow = Flow::RipChanged;
            }
            continue;
        }
        if let Role::Replace(to) = consumer.role() {
            if flow == Flow::Continue && consumer.alive.load(Acquire) {
                hit.regs.rip = to;
                flow = Flow::Replaced;
            }
            continue;
        }
        if ours {
            continue;
        }
        if nested {
            thread.miss(consumer);
            continue;
        }
        thread.begin_run(consumer);
        if consumer.alive.load(Acquire) && consumer.run(hit, thread) == Flow::RipChanged {
            flow = Flow::RipChanged;
        }
        thread.end_run();
    }
    flow
}

/// Runs the displaced instruction: now, or by sending the thread into the slot. `post`: whose post_handlers
/// run after it.
pub fn displace(hit: &mut Hit<'_>, thread: Option<&'static ThreadState>, post: Option<Listeners>) {
    let point = hit.point;
    match &point.insn.way {
        Way::Emulate(emulation) => match emulation.run(hit.regs, &SafeMemory, point.next()) {
            Ok(()) => {
                if let Some(thread) = thread {
                    thread.resumes_at(hit.regs);
                }
                if let (Some(thread), Some(post)) = (thread, post) {
                    run_posts(&post, hit, thread);
                }
            }
            Err(_) => fault::emulation_faulted(hit, thread),
        },
        Way::Slot(kind) => match thread {
            Some(thread) if post.is_some() || hit.after.is_some() || hit.changed.is_some() => {
                let slot = point.slot() + STEP_OFFSET;
                // SAFETY: the frame of this signal.
                let mask = unsafe { &mut (*hit.context).mask };
                thread.begin_step(slot, *mask, post.as_ref(), hit.after, hit.changed);
                // A system call must stay interruptible; see `slots` for signals that arrive there.
                if matches!(kind, SlotKind::Plain) {
                    *mask = !PROTECTED_MASK;
                }
                hit.regs.rip = slot;
            }
            _ => hit.regs.rip = point.slot(),
        },
    }
}

/// The int3 behind a stepped instruction.
///
/// # Safety
/// `context` is the frame of this signal.
unsafe fn finish_step(found: &'static ProbePoint, context: *mut SignalContext) {
    // SAFETY: the caller's promise; nobody else touches the frame.
    let (regs, mask) = unsafe { (&mut (*context).regs, &mut (*context).mask) };
    regs.rip = found.next();
    if matches!(found.insn.way, Way::Slot(SlotKind::Syscall)) {
        regs.rcx = found.next();
    }
    let Some(thread) = thread::current() else { return };
    let Some(record) = thread.step(found.slot() + STEP_OFFSET) else { return };
    if matches!(found.insn.way, Way::Slot(SlotKind::Plain)) {
        *mask = record.mask.load(Relaxed);
    }
    record.restore(regs);
    let after = record.after.load(Relaxed);
    // SAFETY: stored from an AfterCall by begin_step.
    if !after.is_null() && !unsafe { std::mem::transmute::<*mut (), AfterCall>(after)(thread, record, regs) }
    {
        return;
    }
    thread.enter();
    let post = record.listeners();
    let mut hit = Hit::at_trap(regs, context, found);
    if let Some(post) = post {
        run_posts(&post, &mut hit, thread);
    }
    record.slot.store(0, Release);
    thread.leave();
    // SAFETY: the caller's promise.
    unsafe { pending::end_hit(thread, context) };
}

/// The post_handlers of those that the step record, or the hit we are in, keeps.
fn run_posts(listeners: &Listeners, hit: &mut Hit<'_>, thread: &'static ThreadState) {
    for consumer in listeners.all() {
        // SAFETY: listed, so not freed before.
        let consumer = unsafe { &**consumer };
        if !matches!(consumer.role(), Role::Handlers(_)) {
            continue;
        }
        thread.begin_run(consumer);
        if consumer.alive.load(Acquire) {
            consumer.run_post(hit, thread);
        }
        thread.end_run();
    }
}
