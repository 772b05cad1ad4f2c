//! Memory for what a followed call needs between its entry and its return: blocks of fixed sizes out
//! of one mapping that is reserved at the first registration of a return probe. At a hit nothing is
//! mapped: a block comes off a free list, or off the untouched end, and pages cost only when touched.
//!
//! ```text
//! unit 0 (never handed out) | blocks of 64 << class bytes, each aligned to its size ... | untouched
//! ```
//!
//! The free lists are those of [`super::protocol::free_list`], of unit numbers.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::*};

use crate::hit::protocol::free_list;
use crate::sys;

/// Bytes of a unit, and of the smallest block.
pub const UNIT: usize = 64;
/// Bytes of the largest block.
pub const LARGEST: usize = UNIT << (CLASSES - 1);
const CLASSES: usize = 8;
/// Address space to reserve, and the least that will do (under RLIMIT_AS).
const MOST: usize = 64 << 20;
const LEAST: usize = 1 << 20;

static BASE: AtomicUsize = AtomicUsize::new(0);
static UNITS: AtomicU32 = AtomicU32::new(0);
/// First unit never handed out yet.
static FRESH: AtomicU32 = AtomicU32::new(1);
/// Unit number in the low half, tag in the high one; unit 0 is "none".
static FREE: [AtomicU64; CLASSES] = [const { AtomicU64::new(0) }; CLASSES];

/// Reserves the memory, where that has not happened yet. Not at a hit. False: there is none.
pub fn start() -> bool {
    if BASE.load(Acquire) != 0 {
        return true;
    }
    // Of what a limit leaves, most is for others.
    let mut size = (sys::soft_limit(libc::RLIMIT_AS) as usize / 8).clamp(LEAST, MOST);
    while size >= LEAST {
        if let Ok(base) = sys::map_reserved_not_data(size) {
            UNITS.store((size / UNIT) as u32, Release);
            BASE.store(base, Release);
            return true;
        }
        size /= 2;
    }
    false
}

/// The class of blocks that hold `bytes`; `None` where no block does.
#[must_use]
pub const fn class_of(bytes: usize) -> Option<u8> {
    if bytes > LARGEST {
        return None;
    }
    let units = bytes.div_ceil(UNIT);
    Some(if units <= 1 { 0 } else { units.next_power_of_two().trailing_zeros() as u8 })
}

/// Where the block that begins at `unit` is.
#[inline]
#[must_use]
pub fn address(unit: u32) -> usize {
    BASE.load(Relaxed) + unit as usize * UNIT
}

/// The unit of an address inside the pool.
#[inline]
#[must_use]
pub fn unit_of(address: usize) -> u32 {
    ((address - BASE.load(Relaxed)) / UNIT) as u32
}

/// Where a free block has the number of the next one.
fn link(unit: u32) -> &'static AtomicU32 {
    // SAFETY: blocks are never unmapped, and aligned to more than a word.
    unsafe { &*(address(unit) as *const AtomicU32) }
}

/// A block of `class`, holding whatever its last user left. `None`: none is left. Signal-safe.
#[must_use]
pub fn take(class: u8) -> Option<u32> {
    let free = FREE.get(usize::from(class))?;
    // Alignment leaves gaps of units between fresh ones; they are not missed.
    free_list::pop(free, link).or_else(|| free_list::carve(&FRESH, 1 << class, UNITS.load(Acquire)))
}

/// Gives a block back. Signal-safe.
pub fn give(unit: u32, class: u8) {
    if let Some(free) = FREE.get(usize::from(class)) {
        free_list::push(free, unit, link);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_they_are_asked_for() {
        let expected = [(0, 0), (1, 0), (64, 0), (65, 1), (128, 1), (129, 2), (4096, 6), (8192, 7)];
        for (bytes, class) in expected {
            assert_eq!(class_of(bytes), Some(class), "{bytes}");
        }
        assert_eq!(class_of(8193), None);
    }

    #[test]
    fn blocks_are_aligned_distinct_and_reused() {
        assert!(start());
        let mut taken = std::collections::BTreeMap::new();
        for round in 0..2000 {
            let class = (round % CLASSES) as u8;
            let unit = take(class).expect("memory");
            let size = UNIT << class;
            assert_eq!(address(unit) % size.min(4096), 0);
            let before = taken.range(..=unit).next_back();
            assert!(before.is_none_or(|(at, class)| at + (1_u32 << class) <= unit), "overlap");
            taken.insert(unit, class);
        }
        for (unit, class) in taken {
            give(unit, class);
        }
    }

    #[test]
    fn threads_never_share_a_block() {
        assert!(start());
        std::thread::scope(|scope| {
            for mark in 1..=3_u64 {
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        let (Some(a), Some(b)) = (take(0), take(0)) else { panic!("memory") };
                        for unit in [a, b] {
                            // SAFETY: our own block, 64 bytes.
                            unsafe { *(address(unit) as *mut u64).add(1) = mark + u64::from(unit) };
                        }
                        std::thread::yield_now();
                        for unit in [a, b] {
                            // SAFETY: as above.
                            let found = unsafe { *(address(unit) as *mut u64).add(1) };
                            assert_eq!(found, mark + u64::from(unit));
                            give(unit, 0);
                        }
                    }
                });
            }
        });
    }
}
