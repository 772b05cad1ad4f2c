//! Probed places, and the table that finds them by address.
//!
//! A place is never freed: threads may sleep in its slot for hours, and the same place armed again
//! finds everything ready. The table only grows: entries are published by one store each, a larger
//! table by one store of its pointer, so a reader needs no protection at all.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::*};

use crate::hit::consumer::ConsumerList;
use crate::hit::detour::Detour;
use crate::insn::DisplacedInsn;
use crate::insn::slot::{Boost, Step};

/// One probed instruction.
pub struct ProbePoint {
    /// Its address in this process.
    pub at: u64,
    /// The instruction, and how it runs elsewhere.
    pub displaced: DisplacedInsn,
    /// Its slot: boost form first, step form at [`STEP_OFFSET`]. 0 where it is always emulated.
    pub slot: u64,
    /// Our int3 is in the text.
    pub armed: AtomicBool,
    /// Who is called; null is nobody.
    pub consumers: AtomicPtr<ConsumerList>,
    /// Its detour, where it ever had one; the last.
    pub detour: AtomicPtr<Detour>,
    /// The jump to the detour is in the text, or on its way into or out of it.
    pub optimized: AtomicBool,
    /// The point replaced by another at the same address (the object was unloaded).
    pub gone: AtomicBool,
}

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

    /// The original next instruction.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.at + self.displaced.len as u64
    }
}

struct Table {
    mask: usize,
    cells: Box<[AtomicPtr<ProbePoint>]>,
}

static TABLE: AtomicPtr<Table> = AtomicPtr::new(std::ptr::null_mut());
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn start_cell(at: u64, mask: usize) -> usize {
    (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize & mask
}

/// The place at `at`. Signal-safe.
#[inline]
#[must_use]
pub fn lookup(at: u64) -> Option<&'static ProbePoint> {
    // SAFETY: tables are never freed.
    let table = unsafe { TABLE.load(Acquire).as_ref() }?;
    let mut cell = start_cell(at, table.mask);
    loop {
        // SAFETY: points are never freed.
        let point = unsafe { table.cells[cell & table.mask].load(Acquire).as_ref() }?;
        if point.at == at {
            return Some(point);
        }
        cell += 1;
    }
}

/// Publishes a place; one with the same address is replaced. The registry's lock must be held.
pub fn insert(point: &'static ProbePoint) {
    // SAFETY: tables are never freed.
    let table = unsafe { TABLE.load(Acquire).as_ref() };
    let count = COUNT.load(Relaxed);
    let table = match table {
        Some(table) if (count + 1) * 2 <= table.cells.len() => table,
        old => grow(old, count),
    };
    if place(table, point) {
        COUNT.store(count + 1, Relaxed);
    }
}

/// Makes room for `more` places at once.
pub fn reserve(more: usize) {
    // SAFETY: tables are never freed.
    let table = unsafe { TABLE.load(Acquire).as_ref() };
    let wanted = COUNT.load(Relaxed) + more;
    if table.is_none_or(|table| wanted * 2 > table.cells.len()) {
        grow(table, wanted);
    }
}

/// Stores into the first cell that is empty (true) or holds the same address (false).
fn place(table: &Table, point: &'static ProbePoint) -> bool {
    let mut cell = start_cell(point.at, table.mask);
    loop {
        let slot = &table.cells[cell & table.mask];
        // SAFETY: points are never freed.
        match unsafe { slot.load(Acquire).as_ref() } {
            None => {
                slot.store(std::ptr::from_ref(point).cast_mut(), Release);
                return true;
            }
            Some(other) if other.at == point.at => {
                other.gone.store(true, Release);
                slot.store(std::ptr::from_ref(point).cast_mut(), Release);
                return false;
            }
            Some(_) => cell += 1,
        }
    }
}

/// A table of more than twice `count` cells, with everything the old one has. The old one stays:
/// a reader may be in it; all old ones together are no larger than the new one.
fn grow(old: Option<&'static Table>, count: usize) -> &'static Table {
    let size = (count.max(64) * 2 + 1).next_power_of_two();
    let cells = (0..size).map(|_| AtomicPtr::default()).collect();
    let table: &'static Table = Box::leak(Box::new(Table { mask: size - 1, cells }));
    for cell in old.iter().flat_map(|old| old.cells.iter()) {
        // SAFETY: points are never freed.
        if let Some(point) = unsafe { cell.load(Acquire).as_ref() } {
            place(table, point);
        }
    }
    TABLE.store(std::ptr::from_ref(table).cast_mut(), Release);
    table
}

/// Every place in the table, in no order.
pub fn all() -> impl Iterator<Item = &'static ProbePoint> {
    // SAFETY: tables are never freed.
    let table = unsafe { TABLE.load(Acquire).as_ref() };
    table.into_iter().flat_map(|table| table.cells.iter()).filter_map(|cell| {
        // SAFETY: points are never freed.
        unsafe { cell.load(Acquire).as_ref() }
    })
}
