//! SIGSEGV, SIGBUS, SIGFPE, SIGILL: ours in a recoverable copy, a handler's crash, a displaced
//! instruction's fault, or the program's own.

use std::sync::atomic::Ordering::*;

use crate::hit::detour::{self, InDetour};
use crate::hit::frame::{SI_KERNEL, SignalContext, SignalInfo, VECTOR_UNDEFINED};
use crate::hit::listeners::Listeners;
use crate::hit::point::{ProbePoint, STEP_OFFSET};
use crate::hit::slots::{self, InSlot};
use crate::hit::thread::{self, CopyFault, PROTECTED_MASK, ThreadState};
use crate::hit::trap::{Hit, displace};
use crate::hit::{actions, asm, defer, direct, hidden, pending, process, ring, ticks, trap};
use crate::insn::slot::SlotPc;

/// The kernel calls this for the fault signals.
///
/// # Safety
/// As for any SA_SIGINFO handler.
pub unsafe extern "C-unwind" fn on_fault(signal: i32, info: *mut SignalInfo, context: *mut SignalContext) {
    process::check_fork();
    // SAFETY: the kernel's frame.
    let (synchronous, rip, code) = unsafe { ((*info).is_synchronous(), (*context).regs.rip, (*info).code) };
    if synchronous && let Some(next) = hidden::after_settling(rip) {
        if let (Some(thread), Some(lost)) = (thread::existing(), pending::take_announced(signal)) {
            pending::keep(thread, &lost);
        }
        // SAFETY: the kernel's frame.
        unsafe { (*context).regs.rip = next };
        return;
    }
    if synchronous {
        actions::let_in(PROTECTED_MASK);
    } else {
        actions::bound(signal);
    }
    // One that came as announced, when that had been seen already, has been handled.
    if !synchronous && pending::is_announced(signal) {
        // SAFETY: the kernel's information.
        let was_announced = unsafe { (*info).restore() };
        if was_announced && pending::take_announced(signal).is_none() {
            return;
        }
    }
    // A trap whose frame found no room on the stack: the kernel raises SIGSEGV in its place, on the
    // alternate stack where the program has one. The hit is handled here as well as there, and the
    // program goes on to the overflow that is its own.
    if signal == libc::SIGSEGV && code == SI_KERNEL {
        // SAFETY: the kernel's frame.
        hidden::settle(unsafe { &*context });
        // SAFETY: the kernel's frame.
        if unsafe { trap::take_breakpoint(context) } {
            return;
        }
    }
    /// A general-protection fault.
    const VECTOR_PROTECTION: u64 = 13;
    // SAFETY: the kernel's frame.
    if signal == libc::SIGSEGV && code == SI_KERNEL && unsafe { (*context).trap_number } == VECTOR_PROTECTION
    {
        // SAFETY: the kernel's frame, which nobody else touches.
        if ticks::emulate(unsafe { &mut (*context).regs }) {
            return;
        }
    }
    // A trap inside a jump, of whoever runs there: it is no fault, also of a user's handler.
    // SAFETY: the kernel's frame.
    let vector = unsafe { (*context).trap_number };
    // (With no room for the frame of the SIGILL it is a SIGSEGV, too.)
    let undefined = signal == libc::SIGILL
        || (signal == libc::SIGSEGV && code == SI_KERNEL && vector == VECTOR_UNDEFINED);
    if undefined
        && synchronous
        && let Some(copy) = detour::inner_undefined(rip)
    {
        // SAFETY: the kernel's frame.
        unsafe { (*context).regs.rip = copy };
        return;
    }
    // SAFETY: the kernel's frame.
    if synchronous && unsafe { recover(signal, info, context) } {
        return;
    }
    // SAFETY: the kernel's frame.
    if unsafe { pending::hold_back(signal, info, context) } {
        return;
    }
    if synchronous && let Some(found) = detour::locate(rip).filter(|found| found.displaced) {
        // SAFETY: the kernel's frame.
        return unsafe { relocated_faulted(found, signal, info, context) };
    }
    match slots::locate(rip) {
        // SAFETY: the kernel's frame.
        Some(found) if synchronous => unsafe { displaced_faulted(found, signal, info, context) },
        // SAFETY: the kernel's frame.
        _ => {
            // A stack that ends while a hit is handled faults in our own code, and the program's handler
            // may leave by longjmp: the hit is over then.
            let thread = thread::existing();
            let hit = thread.map(|thread| (thread, thread.suspend(), thread.run().suspend()));
            if let Some(mask) = thread.and_then(defer::give_back) {
                // SAFETY: the kernel's frame.
                unsafe { (*context).mask = mask };
            }
            // SAFETY: the kernel's frame.
            unsafe { actions::deliver(signal, info, context) };
            if let Some((thread, depth, running)) = hit {
                thread.run().resume(running);
                thread.resume(depth);
            }
        }
    }
}

/// Faults of our own copies and of users' handlers: whether it was one.
///
/// # Safety
/// `info` and `context` are this signal's.
pub unsafe fn recover(signal: i32, info: *const SignalInfo, context: *mut SignalContext) -> bool {
    // SAFETY: the caller's promise.
    let regs = unsafe { &raw mut (*context).regs };
    // SAFETY: as above.
    let regs = unsafe { &mut *regs };
    // SAFETY: the caller's promise.
    if signal == libc::SIGBUS && ring::patch(unsafe { (*info).address }) {
        return true;
    }
    if let Some(done) = asm::safe_access_recovery(regs.rip) {
        if let Some(thread) = thread::existing() {
            // SAFETY: this thread's own cell.
            let (error, trap_number, cr2) =
                unsafe { ((*context).error, (*context).trap_number, (*context).cr2) };
            // SAFETY: this thread's own cell.
            unsafe { *thread.copy_fault.get() = CopyFault { info: *info, error, trap_number, cr2 } };
        }
        regs.rip = done;
        return true;
    }
    let Some(thread) = thread::existing() else { return false };
    let Some(recovery) = thread.run().recovery() else { return false };
    thread.fault_signal.store(signal, Relaxed);
    thread.fault_address.store(regs.rip, Relaxed);
    (regs.rsp, regs.rip) =
        if recovery & 1 != 0 { (recovery - 1, asm::guarded_fault()) } else { (recovery, direct::fault()) };
    true
}

/// A fault of an instruction in its slot. Everybody sees it at the original place.
///
/// # Safety
/// `info` and `context` are this signal's.
unsafe fn displaced_faulted(found: InSlot, signal: i32, info: *mut SignalInfo, context: *mut SignalContext) {
    let point = found.point;
    let thread = thread::current();
    // SAFETY: the caller's promise.
    let (regs, mask, info) = unsafe { (&mut (*context).regs, &mut (*context).mask, &mut *info) };
    if info.address == regs.rip {
        info.address = point.at;
    }
    let post = match (found.stepping, thread.and_then(|t| t.step(point.slot() + STEP_OFFSET))) {
        (true, Some(record)) => {
            *mask = record.mask.load(Relaxed);
            let post = record.listeners();
            // The program's handler may leave by longjmp: nothing of this step stays behind.
            record.slot.store(0, Release);
            post
        }
        _ => None,
    };
    regs.rip = match found.pc {
        SlotPc::Before => point.at,
        SlotPc::After { .. } => point.next(),
    };
    let mut hit = Hit::at_trap(regs, context, point);
    report(&mut hit, thread, post, signal, info);
}

/// The same of an instruction in a detour.
///
/// # Safety
/// As [`displaced_faulted`].
unsafe fn relocated_faulted(
    found: InDetour,
    signal: i32,
    info: *mut SignalInfo,
    context: *mut SignalContext,
) {
    let thread = thread::current();
    // SAFETY: the caller's promise.
    let (regs, info) = unsafe { (&mut (*context).regs, &mut *info) };
    if info.address == regs.rip {
        info.address = found.rip;
    }
    found.show(regs);
    let point = found.detour.point;
    // An instruction behind the first is nobody's: no fault_handler is asked.
    let is_first = found.rip == point.at;
    let mut hit = Hit::at_trap(regs, context, point);
    let handled = is_first && ask_fault_handlers(&mut hit, thread, signal);
    if !handled && !give_to_program(&hit, thread, signal, info) {
        return;
    }
    if hit.regs.rip == found.rip
        && let Some(copy) = found.detour.relocated().new_address((found.rip - point.at) as usize)
    {
        // The same execution, not a second hit.
        hit.regs.rip = copy;
    }
}

/// An emulated push, call, ret or indirect jump could not reach its memory.
pub fn emulation_faulted(hit: &mut Hit<'_>, thread: Option<&'static ThreadState>) {
    let Some(thread) = thread else { return };
    // SAFETY: this thread's own cell, filled by `recover` during the emulation just now.
    let CopyFault { mut info, error, trap_number, cr2 } = unsafe { *thread.copy_fault.get() };
    hit.regs.rip = hit.point.at;
    // A handler of the program's tells reads from writes by these.
    // SAFETY: the frame of this signal.
    unsafe {
        (*hit.context).error = error;
        (*hit.context).trap_number = trap_number;
        (*hit.context).cr2 = cr2;
    }
    let signal = info.signal;
    report(hit, Some(thread), None, signal, &mut info);
}

/// fault_handlers first, the program second; then, if rip still is the place, the instruction again:
/// that is the same execution, not a second hit.
fn report(
    hit: &mut Hit<'_>,
    thread: Option<&'static ThreadState>,
    post: Option<Listeners>,
    signal: i32,
    info: &mut SignalInfo,
) {
    if !ask_fault_handlers(hit, thread, signal) && !give_to_program(hit, thread, signal, info) {
        return;
    }
    if hit.regs.rip != hit.point.at || !is_still_displaced(hit.point) {
        return;
    }
    let Some(thread) = thread else { return displace(hit, None, None) };
    // The list may have been freed while the program's handler ran: the one of now, or none.
    thread.enter();
    let now = hit.point.consumers.load().filter(|now| post.is_some() && now.wants_post());
    displace(hit, Some(thread), now);
    thread.leave();
}

fn ask_fault_handlers(hit: &mut Hit<'_>, thread: Option<&'static ThreadState>, signal: i32) -> bool {
    thread.is_some_and(|thread| {
        thread.enter();
        let handled = run_fault_handlers(hit, thread, signal);
        thread.leave();
        handled
    })
}

/// False: the process is dying.
fn give_to_program(
    hit: &Hit<'_>,
    thread: Option<&'static ThreadState>,
    signal: i32,
    info: &mut SignalInfo,
) -> bool {
    // While the program's handler runs, this hit is over: it may be left by longjmp.
    let depth = thread.map(ThreadState::suspend);
    // SAFETY: this signal's frame and information.
    let alive = unsafe { actions::deliver(signal, info, hit.context) };
    if let (Some(thread), Some(depth)) = (thread, depth) {
        thread.resume(depth);
    }
    alive
}

fn is_still_displaced(point: &ProbePoint) -> bool {
    point.armed.load(Acquire)
}

fn run_fault_handlers(hit: &mut Hit<'_>, thread: &'static ThreadState, signal: i32) -> bool {
    let Some(listeners) = hit.point.consumers.load() else { return false };
    if thread.run().is_on() || thread.library.load(Relaxed) > 0 {
        return false;
    }
    let mut handled = false;
    for consumer in listeners.all() {
        // SAFETY: listed, so not freed before this hit ends.
        let consumer = unsafe { &**consumer };
        thread.begin_run(consumer);
        if consumer.alive.load(Acquire) && consumer.run_fault(hit, thread, signal) {
            handled = true;
        }
        thread.end_run();
    }
    handled
}
