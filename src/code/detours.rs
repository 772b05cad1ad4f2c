//! Memory for detours, where jumps can lead.
//!
//! A jump whose displacement is free goes anywhere within 2 GiB; one that must keep the instructions
//! inside it, or put traps in their place, has few targets, all over that stretch:
//!
//! ```text
//! window    ?? ?? ?? ??    anywhere                  dense blocks below the module
//!           ?? cc ?? ??    256 bytes in each 64 KiB  what others left there
//!           ?? ?? ?? cc    16 MiB somewhere          a block there, shared by its like
//!           48 89 e5 41    one address               a page, or a trap instead
//! ```
//!
//! What costs the threads least is preferred, and pages are mapped for it as long as detours have
//! taken little; then room in mapped pages is preferred, whatever it costs.
//!
//! Ordinary Rust, called with the registry's lock held. Pages are executable and never writable:
//! filled through [`Poker`]. They are never unmapped.
//!
//! What a detour has taken it keeps when its probe is gone, and has again when the same place is probed
//! again: what is taken is bounded by the places that were ever probed, in the few ways they were.
//! To give it back one would have to know that no thread is in it nor comes back to it, and that can't be known:
//!
//! - A thread that was switched out between the jump and the detour's call has announced nothing, and
//!   /proc/self/task/N/syscall says no more of it than that it is runnable.
//! - One that a signal has interrupted has its rip in the frame. Frames that our shim has seen could be noted;
//!   those of handlers installed by a system call of the program's own, and those that were copied and
//!   are gone back to by setcontext, could not.
//! - A task that shares the memory without being a thread (vfork, posix_spawn, CLONE_VM) is not in
//!   /proc/self/task, and runs probed functions of libc.
//!
//! Each of these is rare. A thread that was missed executes whatever comes next into the place.

mod gaps;
mod stretches;

use std::fmt;

use gaps::{Gaps, Limits, PAGE};
use stretches::{Fit, FreeSpace, LEAST, Stretches, Wanted};

use super::maps::read_obstacles;
use super::poke::Poker;
use crate::insn::{JUMP_LEN, TargetRange, Window};
use crate::sys::{self, FixedHashMap};

/// A detour leads back by a displacement of 32 bits, too: this much of their reach is not used.
const REACH: u64 = (1 << 31) - (64 << 10);
/// A program has 65,530 mappings (vm.max_map_count), and most are its own.
const MAX_MAPPINGS: usize = 4000;
/// Bytes that may be mapped to spare threads a trap. More would cost much and spare few: nine of ten
/// detours of a whole library need traps, whatever is mapped for them.
const COMFORT: u64 = 32 << 10;
/// Pages are mapped in blocks of at most so many bytes.
const MAX_BLOCK: u64 = 64 << 10;
/// Steps of one search through the pages there are, for one choice of what stands inside the jump.
const STEPS: u32 = 64;
/// Steps for all choices together, in the pages there are and for new ones.
const ALL_STEPS: u32 = 4096;
/// The maps are read anew so often at most because what looked free was not.
const MAX_SURPRISES: u32 = 4;

/// Memory that a jump leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Its first byte.
    pub at: u64,
    /// The five bytes of the jump.
    pub jump: [u8; JUMP_LEN],
    /// The offsets in the jump at which trap bytes stand, as [`TargetRange::traps`].
    pub traps: u8,
}

/// How much there is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    /// Bytes mapped for detours.
    pub mapped: u64,
    /// Bytes of these that detours take.
    pub used: u64,
    /// Stretches of them.
    pub mappings: usize,
    /// Detours.
    pub detours: usize,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mapped, used, mappings, detours } = self;
        write!(f, "{detours} detours take {used} bytes of {mapped} in {mappings} mappings")
    }
}

/// All memory for detours.
#[derive(Debug, Default)]
pub struct DetourSpace {
    free: FreeSpace,
    /// What is mapped.
    own: Stretches,
    /// Where there is room for more; `None`: to be looked up.
    gaps: Option<Gaps>,
    /// Where the last search of this kind ended: it need not start at the bottom each time.
    cursors: FixedHashMap<Kind, u64>,
    /// Where the code goes, where in `code` it is, and how long.
    queued: Vec<(u64, usize, usize)>,
    /// One after the other: blocks of their own would lie between what stays, and hold its pages.
    code: Vec<u8>,
    /// Words that the code of all detours in reach of them shares.
    tables: Vec<u64>,
    usage: Usage,
    /// The kernel refused memory: no more is asked for until [`DetourSpace::forget_maps`].
    is_exhausted: bool,
    /// Looks at a stretch, ever.
    steps: u64,
}

/// Searches that have much the same targets: free bits, highest byte, 64 MiB of places.
type Kind = (u32, u8, u64);

impl DetourSpace {
    /// Memory for `len` bytes such that a jump over `window` can lead to the one at `head`.
    /// Executable and not writable; filled by [`DetourSpace::queue`] and [`DetourSpace::flush`].
    /// `None`: no room in reach, or the process may not map more.
    pub fn take(&mut self, window: &Window, head: usize, len: usize) -> Option<Placed> {
        let (head, len) = (head as u64, (len as u64).max(LEAST));
        let (low, high) = window.reach();
        let low = low.max(window.at().saturating_sub(REACH));
        let high = high.min(window.at().saturating_add(REACH)).saturating_add(1);
        let reach = (low, high);

        let mut steps = ALL_STEPS;
        let mut placed = None;
        for range in window.candidates() {
            let wanted = Wanted { range: &range, head, len };
            if steps == 0 {
                break;
            }
            placed = self.find(&wanted, reach, window.at(), &mut steps);
            if placed.is_none() && self.usage.mapped < COMFORT {
                placed = self.map(&wanted, reach, window.at(), false, &mut steps);
            }
            if placed.is_some() {
                break;
            }
        }
        self.steps += u64::from(ALL_STEPS - steps);
        // Now any pages, those first that others are likely to use too.
        let passes = [(true, false), (false, false), (false, true)];
        let placed = placed.or_else(|| {
            passes.into_iter().find_map(|(only_shared, last_resort)| {
                let mut steps = ALL_STEPS;
                let ranges = window.candidates().take(ALL_STEPS as usize);
                let placed = ranges.filter(|range| !only_shared || is_shared(range)).find_map(|range| {
                    let wanted = Wanted { range: &range, head, len };
                    self.map(&wanted, reach, window.at(), last_resort, &mut steps)
                });
                self.steps += u64::from(ALL_STEPS - steps);
                placed
            })
        })?;
        let (start, end) = FreeSpace::granules(placed.at, len);
        self.free.remove(start, end);
        self.usage.used += end - start;
        self.usage.detours += 1;
        Some(placed)
    }

    /// The table that a detour at `at` shares with others, if there is one.
    #[must_use]
    pub fn table_of(&self, at: u64) -> Option<u64> {
        self.tables.iter().copied().find(|table| table.abs_diff(at) < REACH)
    }

    /// The same, or a new one of these words, for a detour of `window`. `None`: no room in reach.
    pub fn table(&mut self, window: &Window, at: u64, words: &[u64]) -> Option<u64> {
        if let Some(table) = self.table_of(at) {
            return Some(table);
        }
        // With room to align it.
        let taken = (8 * words.len() as u64 + 8).max(LEAST);
        let is_near = |(start, end): &(u64, u64)| start.abs_diff(at) < REACH && end - start >= taken;
        let free = self.free.useful().iter().find(is_near).map(|(start, _)| start);
        let start = match free {
            Some(start) => {
                self.free.remove(start, start + taken);
                self.usage.used += taken;
                start
            }
            None => {
                let placed = self.take(window, 0, taken as usize)?;
                self.usage.detours -= 1;
                Some(placed.at).filter(|placed| placed.abs_diff(at) < REACH)?
            }
        };
        let table = start.next_multiple_of(8);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.queue(table, &bytes);
        self.tables.push(table);
        Some(table)
    }

    /// `bytes` will be at `at`, which was taken, after [`DetourSpace::flush`].
    pub fn queue(&mut self, at: u64, bytes: &[u8]) {
        self.queued.push((at, self.code.len(), bytes.len()));
        self.code.extend_from_slice(bytes);
    }

    /// Writes what is queued, neighbours together.
    ///
    /// # Errors
    /// errno; then some of it may not be written, and none of it is queued any more.
    pub fn flush(&mut self, poker: &mut Poker) -> Result<(), i32> {
        let written = self.write_queued(poker);
        if written.is_err() {
            // Some may not be there. What has called by one that is goes on to do so.
            self.tables.clear();
        }
        written
    }

    fn write_queued(&mut self, poker: &mut Poker) -> Result<(), i32> {
        let mut queued = std::mem::take(&mut self.queued);
        let code = std::mem::take(&mut self.code);
        let code = |from: usize, len: usize| code.get(from..from + len).unwrap_or_default();
        queued.sort_unstable();
        let mut queued = queued.into_iter().peekable();
        let mut bytes = Vec::new();
        while let Some((start, from, len)) = queued.next() {
            bytes.clear();
            bytes.extend_from_slice(code(from, len));
            while let Some((at, from, len)) =
                queued.next_if(|(at, ..)| self.are_neighbours(start + bytes.len() as u64, *at))
            {
                bytes.resize((at - start) as usize, INT3);
                bytes.extend_from_slice(code(from, len));
            }
            poker.write(start, &bytes)?;
        }
        Ok(())
    }

    /// Whether nobody has what lies between, and little does: filling it is cheaper than another call.
    fn are_neighbours(&self, end: u64, next: u64) -> bool {
        const FAR: u64 = 256;
        if next < end || next - end > FAR {
            return false;
        }
        let (_, from) = FreeSpace::granules(end, 0);
        let (to, _) = FreeSpace::granules(next, 0);
        to < from + LEAST || self.free.useful().contains(from, to)
    }

    /// Gives back the memory of what makes the next search faster.
    pub fn release(&mut self) {
        self.gaps = None;
        self.queued = Vec::new();
    }

    /// How much there is.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage { mappings: self.own.len(), ..self.usage }
    }

    /// Objects came or went: what is mapped is looked up when it is needed next.
    pub fn forget_maps(&mut self) {
        self.gaps = None;
        self.is_exhausted = false;
    }

    /// Looks through the pages there are.
    fn find(
        &mut self,
        wanted: &Wanted<'_>,
        (low, high): (u64, u64),
        near: u64,
        steps: &mut u32,
    ) -> Option<Placed> {
        // Few stretches are ours: most choices lead to none of them, which is seen at once.
        let mut few = STEPS;
        if self.own.first_fit(wanted, low, high, &mut few) == Fit::None {
            return None;
        }
        let highest = (wanted.range.fixed() >> 24) as u8;
        let kind = (wanted.range.free(), highest, near >> 26);
        let cursor = self.cursors.get(&kind).copied().unwrap_or(low).clamp(low, high);
        let mut few = STEPS.min(*steps);
        let before = few;
        let free = self.free.useful();
        let mut fit = free.first_fit(wanted, cursor, high, &mut few);
        if fit == Fit::None && cursor > low {
            fit = free.first_fit(wanted, low, high.min(cursor + wanted.len), &mut few);
        }
        *steps -= before - few;
        match fit {
            Fit::At(at) => {
                self.cursors.insert(kind, at);
                placed(wanted, at)
            }
            Fit::GivenUp(from) => {
                self.cursors.insert(kind, from);
                None
            }
            Fit::None => None,
        }
    }

    /// Maps pages.
    fn map(
        &mut self,
        wanted: &Wanted<'_>,
        reach: (u64, u64),
        near: u64,
        use_last_resort: bool,
        steps: &mut u32,
    ) -> Option<Placed> {
        for _ in 0..MAX_SURPRISES {
            if self.is_exhausted || self.own.len() >= MAX_MAPPINGS {
                return None;
            }
            let size = self.block_size(wanted.range);
            if self.gaps.is_none() {
                self.gaps = Some(Gaps::around(&read_obstacles(), &self.own, &Limits::of_process()));
            }
            let gaps = self.gaps.as_mut()?;
            let at = gaps.find(wanted, reach, near, use_last_resort, steps)?;
            let (start, end) = gaps.pages(at, at + wanted.len, size)?;
            match map_pages(start, end) {
                Ok(()) => {
                    gaps.remove(start, end);
                    self.own.add(start, end);
                    self.free.add(start, end);
                    self.usage.mapped += end - start;
                    return placed(wanted, at);
                }
                // Somebody was faster, or removed something.
                Err(libc::EEXIST) => self.gaps = None,
                Err(_) => self.is_exhausted = true,
            }
        }
        None
    }

    /// Blocks grow with what there is, where jumps with other constraints can lead too.
    fn block_size(&self, range: &TargetRange) -> u64 {
        let share = (self.usage.used / 64).next_power_of_two();
        if is_shared(range) { share.clamp(PAGE, MAX_BLOCK) } else { PAGE }
    }
}

/// Whether jumps of many other windows can lead to where these targets are: the highest byte says in which
/// 16 MiB, and it is a trap like that of others, or free.
fn is_shared(range: &TargetRange) -> bool {
    range.free() >> 24 != 0 || range.traps() >> (JUMP_LEN - 1) & 1 != 0
}

const INT3: u8 = 0xcc;

fn placed(wanted: &Wanted<'_>, at: u64) -> Option<Placed> {
    let jump = wanted.range.jump_to(at + wanted.head)?;
    Some(Placed { at, jump, traps: wanted.range.traps() })
}

impl Limits {
    fn of_process() -> Self {
        let text = sys::read_whole(c"/proc/sys/vm/mmap_min_addr").unwrap_or_default();
        let lowest = String::from_utf8_lossy(&text).trim().parse().unwrap_or(0);
        Self { lowest, heap_end: sys::heap_end(), stack: sys::stack_limit() }
    }
}

fn map_pages(start: u64, end: u64) -> Result<(), i32> {
    let len = (end - start) as usize;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let access = libc::PROT_READ | libc::PROT_EXEC;
    // SAFETY: NOREPLACE: an existing mapping makes the call fail.
    let got = unsafe { sys::mmap(start as usize, len, access, flags, -1, 0) }?;
    if got as u64 == start {
        return Ok(());
    }
    // A kernel before 4.17 takes the address for a hint.
    // SAFETY: our own fresh mapping.
    let _ = unsafe { sys::munmap(got, len) };
    Err(libc::EEXIST)
}

#[cfg(test)]
mod tests;
