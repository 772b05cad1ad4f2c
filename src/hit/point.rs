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
