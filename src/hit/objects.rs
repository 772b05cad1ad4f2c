//! Which object an address is in, and where its unwind table is: a sorted list that changes while it
//! is read.
//!
//! Two lists take turns. A writer fills the one that is not in use and makes it current by counting the
//! version up; a reader who finds the version unchanged afterwards has read one list and not two halves.
//! Only a reader who is overtaken twice has to begin again, and no reader ever waits for a writer: it may be
//! the handler of a thread that is in the middle of writing.

use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::*, fence};

/// How often a reader begins again; more would be a dlopen every few nanoseconds.
const TRIES: u32 = 16;

/// A loaded object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Object {
    /// First byte.
    pub low: u64,
    /// First byte behind.
    pub high: u64,
    /// Address of its `.eh_frame_hdr`.
    pub frame_header: u64,
}

/// An [`Object`] in a list.
#[derive(Default)]
pub struct Cell {
    low: AtomicU64,
    high: AtomicU64,
    frame_header: AtomicU64,
}

/// Room for a list.
pub struct List {
    /// How many are in it.
    pub count: AtomicUsize,
    /// As many as there is room for.
    pub cells: Box<[Cell]>,
}

static LISTS: [AtomicPtr<List>; 2] = [const { AtomicPtr::new(std::ptr::null_mut()) }; 2];
/// The current list is that of its lowest bit.
static VERSION: AtomicU64 = AtomicU64::new(0);

/// Replaces the list; `objects` are sorted by `low`. `make_room` gives a list that lives for ever for at least
/// so many; it is asked when what there is does not do, and what it replaces stays, for whoever reads it.
/// The registry's lock must be held.
pub fn publish(objects: &[Object], make_room: impl FnOnce(usize) -> &'static List) {
    let version = VERSION.load(Relaxed) + 1;
    let slot = &LISTS[(version & 1) as usize];
    // What is written below is not seen before the version that made this list the other one.
    fence(SeqCst);
    // SAFETY: lists live for ever.
    let list = match unsafe { slot.load(Relaxed).as_ref() } {
        Some(list) if list.cells.len() >= objects.len() => list,
        _ => {
            let list = make_room(objects.len());
            slot.store(std::ptr::from_ref(list).cast_mut(), Release);
            list
        }
    };
    let mut count = 0;
    for (cell, object) in list.cells.iter().zip(objects) {
        cell.low.store(object.low, Relaxed);
        cell.high.store(object.high, Relaxed);
        cell.frame_header.store(object.frame_header, Relaxed);
        count += 1;
    }
    list.count.store(count, Relaxed);
    VERSION.store(version, Release);
}

/// The object whose memory contains `at`. Signal-safe.
#[must_use]
pub fn containing(at: u64) -> Option<Object> {
    for _ in 0..TRIES {
        let version = VERSION.load(Acquire);
        // SAFETY: lists live for ever.
        let list = unsafe { LISTS[(version & 1) as usize].load(Acquire).as_ref() }?;
        let found = search(list, at);
        fence(Acquire);
        if VERSION.load(Relaxed) == version {
            return found;
        }
    }
    None
}

fn search(list: &List, at: u64) -> Option<Object> {
    let cells = list.cells.get(..list.count.load(Relaxed))?;
    let after = cells.partition_point(|cell| cell.low.load(Relaxed) <= at);
    let cell = cells.get(after.checked_sub(1)?)?;
    let object = Object {
        low: cell.low.load(Relaxed),
        high: cell.high.load(Relaxed),
        frame_header: cell.frame_header.load(Relaxed),
    };
    (object.low <= at && at < object.high).then_some(object)
}
