//! Where a thread is that was interrupted in a jump or in a detour, as the program sees it.

use std::sync::atomic::{AtomicPtr, Ordering::*};

use super::{BACK, Detour, JUMP_LEN, UNFOLLOWED};
use crate::hit::emit::StackState;
use crate::hit::memory::SafeMemory;
use crate::hit::{point, slots, thread};
use crate::insn::{CODE_CAPACITY, RelocatedPc};
use crate::regs::{Memory, Regs};

/// Where a thread goes on that has trapped at `at`, inside the five bytes of a jump. Signal-safe.
#[must_use]
pub fn inner(at: u64) -> Option<u64> {
    (1..JUMP_LEN as u64).find_map(|offset| {
        // Where an object was unloaded, other code may trap.
        let point = point::lookup(at.wrapping_sub(offset)).filter(|point| !point.gone.load(Acquire))?;
        let detour = point.detour()?;
        if detour.traps & (1 << offset) == 0 {
            return None;
        }
        detour.relocated().new_address(offset as usize)
    })
}

/// The same for an undefined opcode at `at`, also where it has gone while the signal was on its way. (An
/// int3 that has gone is seen by its place: whoever trapped there runs the instruction again. Here it may be
/// undefined itself, and its copy tells.)
#[must_use]
pub fn inner_undefined(at: u64) -> Option<u64> {
    let gone = |offset: u64| {
        let point = point::lookup(at.wrapping_sub(offset)).filter(|point| !point.gone.load(Acquire))?;
        let detour = point.detour()?;
        let mut byte = [0];
        let is_original = SafeMemory.read(at, &mut byte) == 1 && byte[0] == detour.original[offset as usize];
        detour.relocated().new_address(offset as usize).filter(|_| is_original)
    };
    inner(at).or_else(|| (1..JUMP_LEN as u64).find_map(gone))
}

const PAGES: usize = 1 << 14;
const PAGE_BITS: u32 = 12;
const _: () = assert!(CODE_CAPACITY <= 1 << PAGE_BITS);
/// Detours by the page they begin in.
static BY_PAGE: [AtomicPtr<Detour>; PAGES] = [const { AtomicPtr::new(std::ptr::null_mut()) }; PAGES];

fn bucket(page: u64) -> &'static AtomicPtr<Detour> {
    &BY_PAGE[(page.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize % PAGES]
}

/// Makes a detour known to [`locate`], once, before anybody can be in it. The registry's lock must be
/// held.
pub fn publish(detour: &'static Detour) {
    slots::cover(detour.start(), detour.end());
    let head = bucket(detour.start() >> PAGE_BITS);
    detour.next.store(head.load(Acquire), Relaxed);
    head.store(std::ptr::from_ref(detour).cast_mut(), Release);
}

/// The detour in which `rip` is. Signal-safe.
fn containing(rip: u64) -> Option<&'static Detour> {
    let page = rip >> PAGE_BITS;
    // None is longer than a page: it begins in this one, or in the one before.
    [page, page.wrapping_sub(1)].into_iter().find_map(|page| {
        let mut detour = bucket(page).load(Acquire);
        // SAFETY: never freed.
        while let Some(found) = unsafe { detour.as_ref() } {
            if (found.start()..found.end()).contains(&rip) {
                return Some(found);
            }
            detour = found.next.load(Acquire);
        }
        None
    })
}

/// What a thread interrupted in a detour is doing, as the program sees it.
#[derive(Clone, Copy)]
pub struct InDetour {
    /// Which.
    pub detour: &'static Detour,
    /// The program's instruction.
    pub rip: u64,
    /// rsp is less than the program's by so much.
    pub below: u64,
    /// Where above rsp the program's rax is, when it is there.
    pub rax_above: Option<u64>,
    /// A system call is done: rcx becomes rip.
    pub fix_rcx: bool,
    /// The program's own instructions run: going back to `rip` would not go through the probe again, or
    /// is right even so.
    pub displaced: bool,
}

impl InDetour {
    /// Makes the registers those that the program would have at [`InDetour::rip`].
    pub fn show(&self, regs: &mut Regs) {
        if let Some(above) = self.rax_above
            && let Some(rax) = SafeMemory.read_u64(regs.rsp.wrapping_add(above))
        {
            regs.rax = rax;
        }
        regs.rip = self.rip;
        regs.rsp = regs.rsp.wrapping_add(self.below);
        if self.fix_rcx {
            regs.rcx = self.rip;
        }
    }
}

/// Resolves a rip. Signal-safe.
#[must_use]
pub fn locate(rip: u64) -> Option<InDetour> {
    let detour = containing(rip)?;
    let at = detour.point.at;
    let before =
        |below, rax_above| InDetour { detour, rip: at, below, rax_above, fix_rcx: false, displaced: false };
    let offset = rip - detour.start();
    let relocated = detour.relocated();
    if rip < relocated.new_at() {
        if let Some(compiled) = detour.compiled()
            && let Some(offset) = rip.checked_sub(detour.entry())
        {
            let StackState { below, rax } = compiled.stack_at(offset);
            return Some(before(below, rax.map(|depth| below - depth)));
        }
        return Some(match (offset, detour.follows) {
            (0, _) => before(0, None),
            (1..=BACK, _) => before(128, None),
            (_, true) if offset == 19 || offset == UNFOLLOWED => before(0_u64.wrapping_sub(8), None),
            _ => before(0, None),
        });
    }
    let mut here = rip;
    // A branch that was decided is led to its end.
    for _ in 0..3 {
        let inside = |rip, below, fix_rcx| {
            Some(InDetour { detour, rip, below, rax_above: None, fix_rcx, displaced: true })
        };
        match relocated.map(here) {
            Some(RelocatedPc::At(rip)) => return inside(rip, 0, false),
            Some(RelocatedPc::Pushed(rip)) => return inside(rip, 8, false),
            Some(RelocatedPc::Returned(rip)) => return inside(rip, 0, true),
            Some(RelocatedPc::Branching) => here = branch_target(here)?,
            // It has left the copies.
            None => return inside(here, 0, false),
        }
    }
    None
}

/// Where a thread that was interrupted at `rip` goes on, in case it was amid counting: what is left of that is
/// done. Called in that thread. Signal-safe.
#[must_use]
pub fn finish_counting(rip: u64) -> Option<u64> {
    let detour = containing(rip)?;
    let offset = rip.checked_sub(detour.entry())?;
    let goes_on = detour.compiled()?.finish_counting(offset, thread::existing()?)?;
    Some(detour.entry() + goes_on)
}

/// Where the jump at `rip`, one of those the relocator writes, leads.
fn branch_target(rip: u64) -> Option<u64> {
    let mut bytes = [0; 14];
    let n = SafeMemory.read(rip, &mut bytes);
    let word = |from: usize, len: usize| {
        bytes
            .get(from..from + len)
            .filter(|_| from + len <= n)
            .map(|bytes| bytes.iter().rev().fold(0_u64, |word, byte| word << 8 | u64::from(*byte)))
    };
    match bytes {
        [0xeb, distance, ..] => Some(rip.wrapping_add(2).wrapping_add_signed(i64::from(distance as i8))),
        [0xe9, ..] => Some(rip.wrapping_add(5).wrapping_add_signed(i64::from(word(1, 4)? as u32 as i32))),
        [0xff, 0x25, ..] => word(6, 8),
        _ => None,
    }
}
