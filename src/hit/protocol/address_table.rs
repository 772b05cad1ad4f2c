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

/// Cells, one for each entry and at least half as many empty ones.
pub struct Cells<T: 'static>(Box<[AtomicPtr<T>]>);

/// The table.
pub struct AddressTable<T: 'static> {
    /// Null: nothing was ever added.
    pub cells: AtomicPtr<Cells<T>>,
    /// How many are in it.
    pub count: AtomicUsize,
    /// Entries there is room for from the beginning.
    pub least: usize,
}

/// Spreads addresses: the fraction of the golden ratio.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
/// Our memory is below this (SDM vol. 1, 3.3.7.1: what a process has without asking for more). Above the address, a
/// cell has some bits of the hash: other entries on the way are passed without a look at them.
const TAG_SHIFT: u32 = 48;

fn tag(at: u64) -> usize {
    usize::from((at.wrapping_mul(SPREAD) >> 16) as u16)
}

fn tagged<T: Placed>(entry: &'static T) -> *mut T {
    std::ptr::from_ref(entry).cast_mut().map_addr(|address| address | tag(entry.address()) << TAG_SHIFT)
}

/// The entry of a cell; `None` where it is empty.
fn entry_of<T>(cell: *mut T) -> Option<&'static T> {
    // SAFETY: null, or an entry and its tag; entries are never freed.
    unsafe { cell.map_addr(|word| word & ((1 << TAG_SHIFT) - 1)).as_ref() }
}

/// Entries for which so many cells are enough.
const fn room(cells: usize) -> usize {
    cells / 3 * 2
}

impl<T> Cells<T> {
    /// The cell where the search for `at` begins.
    fn first(&self, at: u64) -> usize {
        let hash = at.wrapping_mul(SPREAD) >> 32;
        ((hash * self.0.len() as u64) >> 32) as usize
    }

    /// The one after `cell`.
    fn after(&self, cell: usize) -> usize {
        if cell + 1 == self.0.len() { 0 } else { cell + 1 }
    }
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
        let mut cell = table.first(at);
        let wanted = tag(at);
        loop {
            let word = table.0[cell].load(Acquire);
            if word.is_null() {
                return None;
            }
            if word.addr() >> TAG_SHIFT == wanted {
                let entry = entry_of(word).filter(|entry| entry.address() == at);
                if entry.is_some() {
                    return entry;
                }
            }
            cell = table.after(cell);
        }
    }

    /// Publishes an entry; one with the same address is replaced. One thread at a time.
    pub fn insert(&self, entry: &'static T) {
        let count = self.count.load(Relaxed);
        let table = match self.current() {
            Some(table) if count < room(table.0.len()) => table,
            None => self.grow(None, self.least),
            old => self.grow(old, (count + 1) * 2),
        };
        if place(table, entry) {
            self.count.store(count + 1, Relaxed);
        }
    }

    /// Makes room for `more` entries at once. One thread at a time.
    pub fn reserve(&self, more: usize) {
        let wanted = self.count.load(Relaxed) + more;
        let table = self.current();
        if table.is_none_or(|table| wanted > room(table.0.len())) {
            // Of as many at once as there were before, just what they need and a little.
            let more = if more >= self.count.load(Relaxed) { wanted / 32 } else { wanted / 2 };
            self.grow(table, (wanted + more).max(self.least));
        }
    }

    /// A table for `count` entries, with everything the old one has. The old one stays: a reader may be in it; all
    /// old ones together are no larger than two new ones.
    fn grow(&self, old: Option<&'static Cells<T>>, count: usize) -> &'static Cells<T> {
        let size = (count + 2) / 2 * 3;
        let cells = (0..size).map(|_| AtomicPtr::default()).collect();
        let table: &'static Cells<T> = Box::leak(Box::new(Cells(cells)));
        for cell in old.iter().flat_map(|old| old.0.iter()) {
            if let Some(entry) = entry_of(cell.load(Acquire)) {
                place(table, entry);
            }
        }
        self.cells.store(std::ptr::from_ref(table).cast_mut(), Release);
        table
    }

    /// Every entry, in no order.
    pub fn all(&self) -> impl Iterator<Item = &'static T> + use<T> {
        self.current()
            .into_iter()
            .flat_map(|table| table.0.iter())
            .filter_map(|cell| entry_of(cell.load(Acquire)))
    }
}

/// Stores into the first cell that is empty (true) or holds the same address (false).
fn place<T: Placed>(table: &Cells<T>, entry: &'static T) -> bool {
    let mut cell = table.first(entry.address());
    loop {
        let slot = &table.0[cell];
        match entry_of(slot.load(Acquire)) {
            None => {
                slot.store(tagged(entry), Release);
                return true;
            }
            Some(other) if other.address() == entry.address() => {
                other.replaced();
                slot.store(tagged(entry), Release);
                return false;
            }
            Some(_) => cell = table.after(cell),
        }
    }
}
