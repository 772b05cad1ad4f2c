//! Where a slot's instructions come from: rip in a slot ⇄ rip in the program.
//!
//! A slot holds its place's instruction, written once and then immutable, shared by all threads.
//! Whoever looks at a thread there (a signal handler, a fault) must see the original place.

use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::*};

use crate::hit::frame::SignalContext;
use crate::hit::point::{ProbePoint, SLOT_SIZE, STEP_OFFSET};
use crate::hit::{asm, detour};
use crate::insn::slot::{SlotPc, boost_map, step_map};

/// Most arenas: one or two for each 2 GiB neighbourhood of probed code.
const MAX_ARENAS: usize = 64;

/// A mapping of slots.
pub struct Arena {
    /// First byte.
    pub base: u64,
    /// How many slots.
    pub slots: usize,
    /// Whose each slot is.
    pub owners: Box<[AtomicPtr<ProbePoint>]>,
}

static ARENAS: [AtomicPtr<Arena>; MAX_ARENAS] = [const { AtomicPtr::new(std::ptr::null_mut()) }; MAX_ARENAS];
static ARENA_COUNT: AtomicUsize = AtomicUsize::new(0);
/// Envelope of all arenas, for the quick "no" of the signal shim.
pub static LOW: AtomicU64 = AtomicU64::new(u64::MAX);
/// Its length.
pub static SPAN: AtomicU64 = AtomicU64::new(0);

/// Publishes an arena; false where there are too many. The registry's lock must be held.
#[must_use]
pub fn publish(arena: &'static Arena) -> bool {
    let count = ARENA_COUNT.load(Relaxed);
    if count == MAX_ARENAS {
        return false;
    }
    ARENAS[count].store(std::ptr::from_ref(arena).cast_mut(), Release);
    ARENA_COUNT.store(count + 1, Release);
    cover(arena.base, arena.base + (arena.slots * SLOT_SIZE) as u64);
    true
}

/// Makes the shim look at whoever is interrupted in `start..end`. The registry's lock must be held.
pub fn cover(start: u64, end: u64) {
    let low = LOW.load(Relaxed);
    let high = if SPAN.load(Relaxed) == 0 { end } else { low + SPAN.load(Relaxed) };
    let (new_low, new_high) = (low.min(start), high.max(end));
    // Readers load LOW first. Whatever they get of the two, it covers what was covered before: too much is
    // a look in vain, too little would be a trap of ours that nobody knows.
    SPAN.store(new_high - new_low, SeqCst);
    LOW.store(new_low, SeqCst);
}

/// Every arena. Signal-safe.
pub fn arenas() -> impl Iterator<Item = &'static Arena> {
    ARENAS[..ARENA_COUNT.load(Acquire)].iter().filter_map(|arena| {
        // SAFETY: arenas are never freed.
        unsafe { arena.load(Acquire).as_ref() }
    })
}

/// In a slot's number, which arena, above which slot of it.
const ARENA_SHIFT: u32 = 16;

/// The number of the slot at `slot`, from 1 on; 0: there is none. The registry's lock must be held.
#[must_use]
pub fn number(slot: u64) -> u32 {
    let of_arena = |(index, arena): (usize, &Arena)| {
        let within = slot.wrapping_sub(arena.base) as usize / SLOT_SIZE;
        (slot >= arena.base && within < arena.slots).then_some(1 + (index << ARENA_SHIFT | within) as u32)
    };
    arenas().enumerate().find_map(of_arena).unwrap_or(0)
}

/// Where the slot of this number is; 0: there is none. Signal-safe.
#[must_use]
pub fn address(number: u32) -> u64 {
    let Some(number) = number.checked_sub(1) else { return 0 };
    let (arena, slot) = (number >> ARENA_SHIFT, number & ((1 << ARENA_SHIFT) - 1));
    let arena = ARENAS.get(arena as usize).map(|arena| arena.load(Acquire));
    // SAFETY: arenas are never freed.
    let arena = arena.and_then(|arena| unsafe { arena.as_ref() });
    arena.map_or(0, |arena| arena.base + u64::from(slot) * SLOT_SIZE as u64)
}

/// Whose slot `rip` is in. Signal-safe.
#[must_use]
pub fn owner(rip: u64) -> Option<&'static ProbePoint> {
    if rip.wrapping_sub(LOW.load(Acquire)) >= SPAN.load(Relaxed) {
        return None;
    }
    let arena = arenas().find(|arena| rip.wrapping_sub(arena.base) < (arena.slots * SLOT_SIZE) as u64)?;
    let slot = (rip - arena.base) as usize / SLOT_SIZE;
    // SAFETY: points are never freed.
    unsafe { arena.owners.get(slot)?.load(Acquire).as_ref() }
}

/// What a thread interrupted at `rip` was doing, where `rip` is in a slot.
#[derive(Clone, Copy)]
pub struct InSlot {
    /// Whose slot.
    pub point: &'static ProbePoint,
    /// In the step form.
    pub stepping: bool,
    /// Before or after the instruction.
    pub pc: SlotPc,
}

/// Resolves a rip. Signal-safe.
#[must_use]
pub fn locate(rip: u64) -> Option<InSlot> {
    let point = owner(rip)?;
    let stepping = rip >= point.slot() + STEP_OFFSET;
    let pc = if stepping {
        step_map(&point.displaced(), point.slot() + STEP_OFFSET, rip)
    } else {
        boost_map(&point.displaced(), point.slot(), rip)
    }?;
    Some(InSlot { point, stepping, pc })
}

/// What [`leave_view`] puts back.
#[repr(C)]
#[derive(Default)]
pub struct View {
    /// 0: nothing.
    real_rip: u64,
    shown_rip: u64,
    /// What was added to rsp.
    raised: u64,
    real_rax: u64,
    shown_rax: u64,
}

/// Room for a [`View`] that the shim makes.
pub const VIEW_SIZE: usize = 48;
const _: () = assert!(size_of::<View>() <= VIEW_SIZE);

/// Before the program's handler for an asynchronous signal that arrived in a slot or a detour: shows it
/// the original instruction. Called by the shim in `asm`. Returns whether [`leave_view`] must follow.
///
/// # Safety
/// `context` is the frame of the signal being delivered, `view` the shim's scratch.
pub unsafe extern "C" fn enter_view(context: *mut SignalContext, view: *mut View) -> i32 {
    // SAFETY: the caller's promise.
    let (context, view) = unsafe { (&mut *lowest(context), &mut *view) };
    let regs = &mut context.regs;
    if let Some(rip) = detour::finish_counting(regs.rip) {
        regs.rip = rip;
    }
    *view = View { real_rip: regs.rip, real_rax: regs.rax, ..View::default() };
    if let Some(found) = detour::locate(regs.rip) {
        let rsp = regs.rsp;
        found.show(regs);
        view.raised = regs.rsp.wrapping_sub(rsp);
    } else if let Some(found) = locate(regs.rip) {
        match found.pc {
            SlotPc::Before => regs.rip = found.point.at,
            SlotPc::After { fix_rcx } => {
                regs.rip = found.point.next();
                if fix_rcx {
                    regs.rcx = found.point.next();
                }
                if !found.stepping {
                    // Executed, nothing left to do but the jump: this is where the thread goes on.
                    view.real_rip = 0;
                    return 0;
                }
            }
        }
    } else {
        view.real_rip = 0;
        return 0;
    }
    view.shown_rip = regs.rip;
    view.shown_rax = regs.rax;
    1
}

/// The frame of the interrupted code. Where the kernel delivers several signals at once, each but the first
/// interrupts the beginning of a handler, and the one it runs upon is below.
///
/// # Safety
/// `context` is the frame of a signal being delivered.
unsafe fn lowest(mut context: *mut SignalContext) -> *mut SignalContext {
    // SAFETY: the caller's promise; the shim begins with its own frame in rdx.
    while let regs = unsafe { &(*context).regs }
        && asm::is_in_shim(regs.rip)
    {
        context = regs.rdx as *mut SignalContext;
    }
    context
}

/// After the handler: back into the slot, unless the handler moved the thread elsewhere. Going
/// through the place instead would be a second hit of one execution.
///
/// # Safety
/// As [`enter_view`].
pub unsafe extern "C" fn leave_view(context: *mut SignalContext, view: *mut View) {
    // SAFETY: the caller's promise.
    let (context, view) = unsafe { (&mut *lowest(context), &*view) };
    let regs = &mut context.regs;
    if view.real_rip != 0 && regs.rip == view.shown_rip {
        regs.rip = view.real_rip;
        regs.rsp = regs.rsp.wrapping_sub(view.raised);
        if regs.rax == view.shown_rax {
            regs.rax = view.real_rax;
        }
    }
}
