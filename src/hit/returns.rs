//! Following a call: at its entry the return address is replaced by a stub's; where the stub is
//! landed on, whoever asked for the return is called.
//!
//! ```text
//!  int3 at the function ── each consumer in order: Role::Return, kind = "return" or "call"
//!                            look:   [rsp] is code ─► its stub           else nmissed
//!                            push:   an instance for the slot            else nmissed
//!                          follow:   [rsp] = stub + 6
//!  the function runs, returns ─► stub ─► on_return: the slot's instances, handlers, the real address
//! ```
//!
//! The entry side runs in the SIGTRAP handler. The return side runs without a trap, on the thread's own
//! stack: no system call but for an event's write, no AVX, and asynchronous signals are set aside while
//! it runs.

use std::sync::atomic::{AtomicBool, Ordering::*};

use crate::hit::consumer::{Consumer, Flow};
use crate::hit::memory::SafeMemory;
use crate::hit::point::ProbePoint;
use crate::hit::shadow::{Frame, ReturnInstance};
use crate::hit::thread::ThreadState;
use crate::hit::ticks::ticks;
use crate::hit::trap::Hit;
use crate::hit::{defer, pool, process, stubs, thread};
use crate::regs::{Memory, Regs};

/// Most calls at one slot: a chain of tail calls among followed functions has no other bound.
const LONGEST_CHAIN: usize = 64;

/// Whether any function is followed that returns twice, see [`Consumer::returns_twice`].
static TWICE_FOLLOWED: AtomicBool = AtomicBool::new(false);

/// What one hit knows of the frame it may follow.
#[derive(Clone, Copy, Default)]
pub enum Following {
    /// Nobody has asked.
    #[default]
    NotLooked,
    /// It can't be.
    Refused,
    /// It can.
    Frame {
        /// The frame.
        frame: Frame,
        /// What it returns to.
        stub: u32,
        /// It returns to a stub already: a tail call.
        chained: bool,
        /// How many consumers follow it.
        count: u32,
    },
}

/// Makes what return probes need; not at a hit. False: no memory.
#[must_use]
pub fn prepare() -> bool {
    pool::start()
}

/// A function is going to be followed that returns twice. Not at a hit.
pub fn expect_second_returns() {
    TWICE_FOLLOWED.store(true, Release);
}

/// The frame of this hit, where its return can be followed.
fn look(hit: &mut Hit<'_>, thread: &ThreadState) -> Following {
    let Following::NotLooked = hit.following else { return hit.following };
    hit.following = Following::Refused;
    let slot = hit.regs.rsp;
    let Some(ra) = SafeMemory.read_u64(slot) else { return Following::Refused };
    let frame = Frame::at(thread, slot);
    let (stub, chained) = match stubs::containing(ra) {
        None => (stubs::find(ra, hit.target), false),
        Some(_) => (stubs::of_landing(ra), true),
    };
    let Some(stub) = stub else { return Following::Refused };
    frame.begin(thread, chained);
    if chained && frame.chained(thread) >= LONGEST_CHAIN {
        return Following::Refused;
    }
    hit.following = Following::Frame { frame, stub, chained, count: 0 };
    hit.following
}

/// A new instance of `consumer` for this hit's call, not yet pushed. `None`: it can't be followed.
#[must_use]
pub fn instance(consumer: &Consumer, hit: &mut Hit<'_>, thread: &ThreadState) -> Option<ReturnInstance> {
    match look(hit, thread) {
        Following::Frame { frame, stub, count, .. } => {
            Some(ReturnInstance::new(consumer, hit.point, frame.slot, stub, count == 0))
        }
        _ => None,
    }
}

/// Begins to follow it; false where there is no memory.
pub fn push(hit: &mut Hit<'_>, thread: &ThreadState, instance: &mut ReturnInstance) -> bool {
    let Following::Frame { frame, count, .. } = &mut hit.following else { return false };
    let pushed = frame.push(thread, instance);
    *count += u32::from(pushed);
    pushed
}

/// After all consumers of a hit, of which `flow` is what they want. At a jump whose detour goes through
/// the stub: where it must go.
pub fn follow(hit: &mut Hit<'_>, thread: &ThreadState, flow: Flow) -> Option<u64> {
    let Following::Frame { frame, stub, chained, count } = hit.following else { return None };
    if count == 0 {
        return None;
    }
    // The address in the slot: what unwinders look at until the stub's call has written it again.
    let runs = flow != Flow::RipChanged;
    if runs && (chained || SafeMemory.write_u64(frame.slot, stubs::landing(stub))) {
        frame.start(thread, count, chained, ticks());
        let through = !chained && hit.target != 0 && flow == Flow::Continue;
        return through.then(|| stubs::start(stub));
    }
    frame.undo(thread, count, |instance| {
        // SAFETY: pushed by this very hit, which keeps it.
        unsafe { (*instance.consumer).not_followed(thread) };
    });
    None
}

/// Where every stub leads. `regs` is the register image `uprobe_ret_common` restores: rip is the address
/// inside the stub, and becomes where to go on; rsp is as after the return.
///
/// # Safety
/// Called by `uprobe_ret_common` only.
pub unsafe extern "C-unwind" fn on_return(image: *mut Regs) {
    if image.is_aligned() {
        // SAFETY: the caller's own image.
        return returned(unsafe { &mut *image });
    }
    // The program's stack is aligned to nothing.
    // SAFETY: as above.
    let mut regs = unsafe { image.read_unaligned() };
    returned(&mut regs);
    // SAFETY: as above.
    unsafe { image.write_unaligned(regs) };
}

fn returned(regs: &mut Regs) {
    let now = ticks();
    let stub = stubs::landed(regs.rip);
    regs.rip = stubs::real(stub);
    process::check_fork();
    let Some(thread) = thread::current() else { return };
    thread.enter();
    land(regs, stub, thread, now);
    thread.leave();
    defer::finish(thread);
}

fn land(regs: &mut Regs, stub: u32, thread: &'static ThreadState, now: u64) {
    let frame = Frame::at(thread, regs.rsp.wrapping_sub(8));
    if TWICE_FOLLOWED.load(Relaxed) {
        // SAFETY: an instance's consumer is not freed before it is done.
        let returns_twice = |instance: &ReturnInstance| unsafe { (&*instance.consumer).returns_twice };
        if frame.any(thread, returns_twice) && process::is_borrowed() {
            // vfork, in the child: the parent's return is the one that counts.
            frame.pin(thread);
            return;
        }
    }
    frame.land(thread, stub, now, |instance, nested| {
        // SAFETY: as above.
        let consumer: &'static Consumer = unsafe { &*instance.consumer };
        let taken = now.saturating_sub(instance.started);
        // SAFETY: points are never freed.
        let point: &'static ProbePoint = unsafe { &*instance.point };
        let mut hit = Hit::at_return(regs, point);
        thread.begin_run(consumer);
        consumer.returned(thread);
        if consumer.alive.load(Acquire) {
            consumer.run_return(&mut hit, thread, instance, taken, taken.saturating_sub(nested));
        }
        thread.end_run();
        instance.release();
    });
}
