//! Slots for displaced instructions, within reach of what they refer to.
//!
//! Executable and never writable: slots are filled through [`Poker`] before anybody runs in them.
//! Slots are never given back (a thread may sleep in one for hours), but the same instruction at the
//! same address finds its old slot.

use std::sync::atomic::{AtomicPtr, Ordering::*};

use super::maps::{free_gaps, read_obstacles};
use super::poke::Poker;
use crate::hit::point::{self, ProbePoint, SLOT_SIZE, STEP_OFFSET};
use crate::hit::slots::{self, Arena};
use crate::insn::slot::{Boost, SlotBytes, Step};
use crate::insn::{Code, DisplacedInsn, relocate};
use crate::sys::{self, FixedHashMap};

/// Bytes of one arena.
const ARENA_SIZE: usize = 1 << 20;
const _: () = assert!(ARENA_SIZE / SLOT_SIZE < 1 << 16);
/// How far a 32-bit displacement reaches, less room for the instruction and the slot.
const REACH: u64 = 0x7fff_0000;
/// Distance kept from other mappings: stacks and brk heaps grow.
const CLEARANCE: u64 = 0x1_0000;

/// The stretch of memory that slots must reach: a module, from its first to its last byte.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Neighbourhood {
    /// First byte.
    pub low: u64,
    /// First byte behind.
    pub high: u64,
}

struct Space {
    arena: &'static Arena,
    used: usize,
}

/// All slots.
#[derive(Default)]
pub struct Arenas {
    spaces: Vec<Space>,
    /// Slots of instructions that are not those of the places now at their addresses.
    known: FixedHashMap<(u64, [u8; 15]), u64>,
    /// Slots filled but not yet written.
    queued: Vec<(u64, [u8; SLOT_SIZE])>,
}

impl Arenas {
    /// A slot for `insn`, whose memory operands lie in `near`. `None`: no room in reach. The slot's
    /// code is in place after [`Arenas::flush`].
    pub fn take(&mut self, insn: &DisplacedInsn, near: Neighbourhood) -> Option<u64> {
        // Nearly always there is none: nothing is kept of an instruction that no other takes the place of.
        let before = point::lookup(insn.at);
        if let Some(before) = before.filter(|before| before.slot_number != 0) {
            self.known.insert((before.at, before.insn.bytes), before.slot());
        }
        if let Some(slot) = self.known.get(&(insn.at, insn.bytes)) {
            return Some(*slot);
        }
        let slot = self.fresh(near)?;
        let mut code = [0xCC; SLOT_SIZE];
        let mut form = SlotBytes::default();
        Boost::build(insn, slot, &mut form).ok()?;
        code[..Boost::SIZE].copy_from_slice(form.padded());
        Step::build(insn, slot + STEP_OFFSET, &mut form).ok()?;
        code[Boost::SIZE..].copy_from_slice(&form.padded()[..Step::SIZE]);
        self.queued.push((slot, code));
        if before.is_some() {
            self.known.insert((insn.at, insn.bytes), slot);
        }
        Some(slot)
    }

    /// As [`Arenas::take`] for what no slot can hold as it is: branches and calls, in the form they have
    /// elsewhere. It has no step form, and whoever looks at a thread there sees these instructions.
    pub fn take_relocated(&mut self, insn: &DisplacedInsn, near: Neighbourhood) -> Option<u64> {
        if let Some(slot) = self.known.get(&(insn.at, insn.bytes)) {
            return Some(*slot);
        }
        let slot = self.fresh(near)?;
        let mut form = Code::new(slot);
        let moved = relocate(insn.original(), insn.at, 1, &mut form).ok()?;
        form.append_jump(moved.next()).ok()?;
        let mut code = [0xCC; SLOT_SIZE];
        code.get_mut(..form.len())?.copy_from_slice(form.bytes());
        self.queued.push((slot, code));
        self.known.insert((insn.at, insn.bytes), slot);
        Some(slot)
    }

    /// Records whose slot it is, before anybody can be in it.
    pub fn own(&self, slot: u64, point: &'static ProbePoint) {
        for space in &self.spaces {
            let index = slot.wrapping_sub(space.arena.base) as usize / SLOT_SIZE;
            if slot >= space.arena.base && index < space.arena.slots {
                space.arena.owners[index].store(std::ptr::from_ref(point).cast_mut(), Release);
            }
        }
    }

    /// Writes the queued slots, neighbours together.
    ///
    /// # Errors
    /// errno.
    pub fn flush(&mut self, poker: &mut Poker) -> Result<(), i32> {
        let mut queued = std::mem::take(&mut self.queued);
        queued.sort_unstable_by_key(|(slot, _)| *slot);
        let mut from = 0;
        while from < queued.len() {
            let mut bytes = Vec::new();
            let start = queued[from].0;
            while from < queued.len() && queued[from].0 == start + bytes.len() as u64 {
                bytes.extend_from_slice(&queued[from].1);
                from += 1;
            }
            poker.write(start, &bytes)?;
        }
        Ok(())
    }

    fn fresh(&mut self, near: Neighbourhood) -> Option<u64> {
        let low = near.high.saturating_sub(REACH);
        let high = near.low.saturating_add(REACH);
        let fits = |space: &&mut Space| {
            let end = space.arena.base + ARENA_SIZE as u64;
            space.used < space.arena.slots && space.arena.base >= low && end <= high
        };
        if self.spaces.iter_mut().find(fits).is_none() {
            let arena = map_arena(low, high, near)?;
            self.spaces.push(Space { arena, used: 0 });
        }
        let space = self.spaces.iter_mut().find(fits)?;
        let slot = space.arena.base + (space.used * SLOT_SIZE) as u64;
        space.used += 1;
        Some(slot)
    }
}

/// Maps an arena inside `low..high`, as near as there is room: below the module first, since a heap
/// grows above the program.
fn map_arena(low: u64, high: u64, near: Neighbourhood) -> Option<&'static Arena> {
    let maps = read_obstacles();
    let size = ARENA_SIZE as u64;
    let mut candidates: Vec<u64> = free_gaps(&maps, low, high)
        .into_iter()
        .filter(|(start, end)| end - start >= size + 2 * CLEARANCE)
        .flat_map(|(start, end)| [(end - CLEARANCE - size) & !0xFFFF, (start + CLEARANCE + 0xFFFF) & !0xFFFF])
        .collect();
    // Below: the nearest. Above: the farthest, out of the way of brk.
    candidates.sort_by_key(|base| if *base < near.low { near.low - base } else { u64::MAX - base });
    candidates.into_iter().find_map(try_map).and_then(|base| {
        let slots = ARENA_SIZE / SLOT_SIZE;
        let owners = (0..slots).map(|_| AtomicPtr::default()).collect();
        let arena: &'static Arena = Box::leak(Box::new(Arena { base, slots, owners }));
        slots::publish(arena).then_some(arena)
    })
}

fn try_map(base: u64) -> Option<u64> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: NOREPLACE: an existing mapping makes the call fail.
    let got =
        unsafe { sys::mmap(base as usize, ARENA_SIZE, libc::PROT_READ | libc::PROT_EXEC, flags, -1, 0) }
            .ok()?;
    if got as u64 == base {
        return Some(base);
    }
    // A kernel before 4.17 takes the address for a hint.
    // SAFETY: our own fresh mapping.
    let _ = unsafe { sys::munmap(got, ARENA_SIZE) };
    None
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::hit::listeners::ListenerCell;
    use crate::insn::classify;

    /// As when an object is unloaded and another comes in its place, for ever.
    #[test]
    fn an_instruction_that_comes_back_has_its_old_slot() {
        static PLACE: u8 = 0;
        let at = std::ptr::from_ref(&PLACE).addr() as u64;
        let near = Neighbourhood { low: at, high: at + 1 };
        let all = [&[0x48, 0x89, 0xf8][..], &[0x48, 0x01, 0xf0], &[0x48, 0x29, 0xf0]]
            .map(|bytes| classify(bytes, at).expect("an instruction"));
        let mut arenas = Arenas::default();
        let mut taken: Vec<u64> = Vec::new();
        for n in 0..9 {
            let insn: &'static DisplacedInsn = Box::leak(Box::new(all[n % all.len()]));
            let slot = arenas.take(insn, near).expect("room");
            taken.push(slot);
            point::insert(Box::leak(Box::new(ProbePoint {
                at,
                insn,
                consumers: ListenerCell::default(),
                detour: AtomicPtr::default(),
                slot_number: slots::number(slot),
                armed: AtomicBool::new(false),
                optimized: AtomicBool::new(false),
                gone: AtomicBool::new(false),
            })));
        }
        assert!(taken[0] != taken[1] && taken[1] != taken[2] && taken[2] != taken[0]);
        assert_eq!((&taken[3..6], &taken[6..]), (&taken[..3], &taken[..3]));
        assert!(point::lookup(at).is_some_and(|now| now.slot() == taken[8]));
    }
}
