//! A hash table that is read while it grows. Entries are never freed: each is published by one store, a
//! larger table by one store of its pointer, so a reader needs no protection at all.

use crate::sys::atomic::{AtomicPtr, AtomicUsize, Ordering::*};

/// What is found by an address.
pub trait Placed {
    /// Its address.
    fn address(&self) -> u64;
    /// Another has come in its place.
    fn replaced(&self);
}

/// Cells, one for each entry and at least as many empty ones.
pub struct Cells<T: 'static> {
    mask: usize,
    cells: Box<[AtomicPtr<T>]>,
}

/// The table.
pub struct AddressTable<T: 'static> {
    /// Null: nothing was ever added.
    pub cells: AtomicPtr<Cells<T>>,
    /// How many are in it.
    pub count: AtomicUsize,
    /// Entries there is room for from the beginning.
    pub least: usize,
}

fn start_cell(at: u64, mask: usize) -> usize {
    (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize & mask
}

impl<T: Placed> AddressTable<T> {
    fn current(&self) -> Option<&'static Cells<T>> {
        // SAFETY: tables are never freed.
        unsafe { self.cells.load(Acquire).as_ref() }
    }

    /// The entry at `at`. Signal-safe.
    #[inline]
    #[must_use]
    pub fn lookup(&self, at: u64) -> Option<&'static T> {
        let table = self.current()?;
        let mut cell = start_cell(at, table.mask);
        loop {
            // SAFETY: entries are never freed.
            let entry = unsafe { table.cells[cell & table.mask].load(Acquire).as_ref() }?;
            if entry.address() == at {
                return Some(entry);
            }
            cell += 1;
        }
    }

    /// Publishes an entry; one with the same address is replaced. One thread at a time.
    pub fn insert(&self, entry: &'static T) {
        let count = self.count.load(Relaxed);
        let table = match self.current() {
            Some(table) if (count + 1) * 2 <= table.cells.len() => table,
            old => self.grow(old, count),
        };
        if place(table, entry) {
            self.count.store(count + 1, Relaxed);
        }
    }

    /// Makes room for `more` entries at once. One thread at a time.
    pub fn reserve(&self, more: usize) {
        let wanted = self.count.load(Relaxed) + more;
        let table = self.current();
        if table.is_none_or(|table| wanted * 2 > table.cells.len()) {
            self.grow(table, wanted);
        }
    }

    /// A table of more than twice `count` cells, with everything the old one has. The old one stays:
    /// a reader may be in it; all old ones together are no larger than the new one.
    fn grow(&self, old: Option<&'static Cells<T>>, count: usize) -> &'static Cells<T> {
        let size = (count.max(self.least) * 2 + 1).next_power_of_two();
        let cells = (0..size).map(|_| AtomicPtr::default()).collect();
        let table: &'static Cells<T> = Box::leak(Box::new(Cells { mask: size - 1, cells }));
        for cell in old.iter().flat_map(|old| old.cells.iter()) {
            // SAFETY: entries are never freed.
            if let Some(entry) = unsafe { cell.load(Acquire).as_ref() } {
                place(table, entry);
            }
        }
        self.cells.store(std::ptr::from_ref(table).cast_mut(), Release);
        table
    }

    /// Every entry, in no order.
    pub fn all(&self) -> impl Iterator<Item = &'static T> + use<T> {
        self.current().into_iter().flat_map(|table| table.cells.iter()).filter_map(|cell| {
            // SAFETY: entries are never freed.
            unsafe { cell.load(Acquire).as_ref() }
        })
    }
}

/// Stores into the first cell that is empty (true) or holds the same address (false).
fn place<T: Placed>(table: &Cells<T>, entry: &'static T) -> bool {
    let mut cell = start_cell(entry.address(), table.mask);
    loop {
        let slot = &table.cells[cell & table.mask];
        // SAFETY: entries are never freed.
        match unsafe { slot.load(Acquire).as_ref() } {
            None => {
                slot.store(std::ptr::from_ref(entry).cast_mut(), Release);
                return true;
            }
            Some(other) if other.address() == entry.address() => {
                other.replaced();
                slot.store(std::ptr::from_ref(entry).cast_mut(), Release);
                return false;
            }
            Some(_) => cell += 1,
        }
    }
}
