//! Probed places, and the table that finds them by address.
//!
//! A place is never freed: threads may sleep in its slot for hours, and the same place armed again
//! finds everything ready. The table only grows: entries are published by one store each, a larger
//! table by one store of its pointer, so a reader needs no protection at all.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::*};

use crate::hit::detour::Detour;
use crate::hit::listeners::ListenerCell;
use crate::hit::protocol::address_table::{AddressTable, Placed};
use crate::hit::slots;
use crate::insn::DisplacedInsn;
use crate::insn::slot::{Boost, Step};

/// One probed instruction.
#[repr(C)]
pub struct ProbePoint {
    /// Its address in this process.
    pub at: u64,
    /// The instruction, and how it runs elsewhere. Most functions begin with one of a few: all places where it is the
    /// same share this, which is at no place (see [`ProbePoint::displaced`]).
    pub insn: &'static DisplacedInsn,
    /// Who is called; null is nobody.
    pub consumers: ListenerCell,
    /// Its detour, where it ever had one; the last.
    pub detour: AtomicPtr<Detour>,
    /// Its slot: see [`ProbePoint::slot`].
    pub slot_number: u32,
    /// Our int3 is in the text.
    pub armed: AtomicBool,
    /// The jump to the detour is in the text, or on its way into or out of it.
    pub optimized: AtomicBool,
    /// The point replaced by another at the same address (the object was unloaded).
    pub gone: AtomicBool,
}

const _: () = assert!(size_of::<ProbePoint>() == 40);

/// Bytes of one slot: the boost form, then the step form.
pub const SLOT_SIZE: usize = Boost::SIZE + Step::SIZE;
/// Where the step form begins in a slot.
pub const STEP_OFFSET: u64 = Boost::SIZE as u64;

impl ProbePoint {
    /// Its detour, where it ever had one.
    #[must_use]
    pub fn detour(&self) -> Option<&'static Detour> {
        // SAFETY: never freed.
        unsafe { self.detour.load(Acquire).as_ref() }
    }

    /// Its slot: boost form first, step form at [`STEP_OFFSET`]. 0 where it is always emulated. Signal-safe.
    #[must_use]
    pub fn slot(&self) -> u64 {
        slots::address(self.slot_number)
    }

    /// The instruction at its place. Signal-safe.
    #[must_use]
    pub const fn displaced(&self) -> DisplacedInsn {
        self.insn.at_other(self.at)
    }

    /// The original next instruction.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.at + self.insn.len as u64
    }
}

impl Placed for ProbePoint {
    fn address(&self) -> u64 {
        self.at
    }

    fn replaced(&self) {
        self.gone.store(true, Release);
    }
}

static TABLE: AddressTable<ProbePoint> =
    AddressTable { cells: AtomicPtr::new(std::ptr::null_mut()), count: AtomicUsize::new(0), least: 64 };

/// The place at `at`. Signal-safe.
#[inline]
#[must_use]
pub fn lookup(at: u64) -> Option<&'static ProbePoint> {
    TABLE.lookup(at)
}

/// Publishes a place; one with the same address is replaced. The registry's lock must be held.
pub fn insert(point: &'static ProbePoint) {
    TABLE.insert(point);
}

/// Makes room for `more` places at once. The registry's lock must be held.
pub fn reserve(more: usize) {
    TABLE.reserve(more);
}

/// Every place in the table, in no order.
pub fn all() -> impl Iterator<Item = &'static ProbePoint> {
    TABLE.all()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Entry {
        at: u64,
        is_replaced: AtomicBool,
    }

    impl Placed for Entry {
        fn address(&self) -> u64 {
            self.at
        }

        fn replaced(&self) {
            self.is_replaced.store(true, Relaxed);
        }
    }

    fn entry(at: u64) -> &'static Entry {
        Box::leak(Box::new(Entry { at, is_replaced: AtomicBool::new(false) }))
    }

    /// Addresses as functions have them, one after the other; and such that have the same tag, whose searches
    /// begin at few cells.
    fn addresses() -> impl Iterator<Item = u64> {
        (0..2000).map(|n| 0x5555_5555_4000 + n * 16).chain((1..2000).map(|n| 0x1000 + (n << 32)))
    }

    #[test]
    fn whatever_was_added_is_found_and_nothing_else() {
        for at_once in [1, 2, 64, 5000] {
            let table = AddressTable { cells: AtomicPtr::default(), count: AtomicUsize::new(0), least: 1 };
            let mut added: Vec<&'static Entry> = Vec::new();
            for (n, at) in addresses().enumerate() {
                if n % at_once == 0 {
                    table.reserve(at_once);
                }
                assert!(table.lookup(at).is_none());
                added.push(entry(at));
                table.insert(added[n]);
                assert!(table.lookup(at).is_some_and(|found| std::ptr::eq(found, added[n])));
            }
            for old in &added {
                assert!(table.lookup(old.at).is_some_and(|found| std::ptr::eq(found, *old)));
                assert!(table.lookup(old.at + 1).is_none() && !old.is_replaced.load(Relaxed));
            }
            assert_eq!((table.all().count(), table.count.load(Relaxed)), (added.len(), added.len()));
            let new = entry(added[7].at);
            table.insert(new);
            assert!(added[7].is_replaced.load(Relaxed));
            assert!(table.lookup(new.at).is_some_and(|found| std::ptr::eq(found, new)));
            assert_eq!((table.all().count(), table.count.load(Relaxed)), (added.len(), added.len()));
        }
    }
}
