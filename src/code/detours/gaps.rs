//! Where there is room for pages of detours, with regard for what grows.
//!
//! ```text
//!  0      lowest                                                        the end
//!  |  null  |   room   | 64K | module | heap .. spare | last resort | room | 64K | lib | .. stack room | stack |
//! ```
//!
//! Pure: what is mapped comes in, rooms go out.

use super::stretches::{Fit, Stretches, Wanted};
use crate::code::maps::MapEntry;

pub(super) const PAGE: u64 = 4096;
/// Distance kept from what others have mapped.
const CLEARANCE: u64 = 64 << 10;
/// The heap is left this much at least.
const HEAP_ROOM: u64 = 64 << 20;
/// This much behind its end is taken only where nothing else is left: malloc goes on by mmap when
/// brk fails, but not each program's own allocator does.
const HEAP_SPARE: u64 = 512 << 20;
/// The kernel leaves as much for the main stack, whatever its limit (`mmap_base` in arch/x86/mm/mmap.c).
const STACK_ROOM: (u64, u64) = (128 << 20, 4 << 30);
/// Stacks don't grow closer than this to other mappings (`stack_guard_gap` in mm/mmap.c).
const STACK_GUARD: u64 = 1 << 20;
/// A program's null pointers with an offset go on faulting, whatever the kernel would allow.
const LOWEST: u64 = 0x11_0000;
/// The end of the program's half of the address space, less a guard.
const HIGHEST: u64 = 0x7fff_ffff_0000;

/// What the maps don't show.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// `vm.mmap_min_addr`.
    pub lowest: u64,
    /// Where the heap ends, as of brk(2); 0: not known.
    pub heap_end: u64,
    /// How large the main stack may become, in bytes.
    pub stack: u64,
}

/// Where detours may be mapped.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    pub(super) good: Stretches,
    pub(super) last_resort: Stretches,
}

/// How near the place is tried first, in bytes.
const NEAR: [u64; 5] = [4 << 20, 64 << 20, 256 << 20, 1 << 30, 2 << 30];

impl Gaps {
    /// The room around `maps`, `own` of which are pages of detours: they need no distance.
    pub(super) fn around(maps: &[MapEntry], own: &Stretches, limits: &Limits) -> Self {
        let floor = limits.lowest.max(LOWEST).next_multiple_of(PAGE);
        let mut good = Stretches::default();
        good.add(floor, HIGHEST);
        let mut heap_end = limits.heap_end;
        for map in maps.iter().filter(|map| map.start < HIGHEST) {
            let below = if map.name.starts_with("[stack") {
                limits.stack.clamp(STACK_ROOM.0, STACK_ROOM.1).next_multiple_of(PAGE) + STACK_GUARD
            } else {
                CLEARANCE
            };
            if map.name == "[heap]" {
                heap_end = heap_end.max(map.end);
            }
            // The kernel shows neighbours as one: what is not ours of it keeps its distance.
            let mut from = map.start;
            while from < map.end {
                let (start, end) =
                    own.from(from).filter(|(start, _)| *start < map.end).unwrap_or((map.end, map.end));
                if start > from {
                    good.remove(from.saturating_sub(below), start.saturating_add(CLEARANCE));
                }
                from = end;
            }
        }
        let mut last_resort = Stretches::default();
        if heap_end > 0 {
            let heap_end = heap_end.next_multiple_of(PAGE);
            good.remove(heap_end, heap_end + HEAP_ROOM);
            let spare = (heap_end + HEAP_ROOM, heap_end + HEAP_SPARE);
            let mut from = spare.0;
            while let Some((start, end)) = good.from(from).filter(|(start, _)| *start < spare.1) {
                last_resort.add(start.max(spare.0), end.min(spare.1));
                from = end;
            }
            good.remove(spare.0, spare.1);
        }
        for (start, end) in own.iter() {
            good.remove(start, end);
            last_resort.remove(start, end);
        }
        Self { good, last_resort }
    }

    /// Where there is room for what is wanted inside `[low, high)`: below `near` first, as near as
    /// there is any, then above.
    pub(super) fn find(
        &self,
        wanted: &Wanted<'_>,
        (low, high): (u64, u64),
        near: u64,
        use_last_resort: bool,
        steps: &mut u32,
    ) -> Option<u64> {
        let rooms = if use_last_resort { &self.last_resort } else { &self.good };
        if !matches!(rooms.first_fit(wanted, low, high, steps), Fit::At(_)) {
            return None;
        }
        let below = NEAR.iter().map(|distance| (near.saturating_sub(*distance).max(low), near.min(high)));
        below.chain([(near.max(low), high)]).find_map(|(low, high)| {
            match rooms.first_fit(wanted, low, high, steps) {
                Fit::At(at) => Some(at),
                Fit::None | Fit::GivenUp(_) => None,
            }
        })
    }

    /// The pages to map for the bytes `[at, end)`, which lie in a room: `size` bytes (a power of two) around
    /// them, as far as the room goes.
    pub(super) fn pages(&self, at: u64, end: u64, size: u64) -> Option<(u64, u64)> {
        let room = |rooms: &Stretches| rooms.from(at).filter(|(start, last)| *start <= at && end <= *last);
        let (low, high) = room(&self.good).or_else(|| room(&self.last_resort))?;
        let start = at & !(size - 1);
        Some((start.max(low), (start + size).max(end.next_multiple_of(PAGE)).min(high)))
    }

    /// No room any more: it is mapped now, or can't be.
    pub(super) fn remove(&mut self, start: u64, end: u64) {
        self.good.remove(start, end);
        self.last_resort.remove(start, end);
    }
}
