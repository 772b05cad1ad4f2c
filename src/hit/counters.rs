//! What is counted of a consumer.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering::*};

use crate::hit::cells;
use crate::hit::thread::{self, ThreadState};

/// A count that every thread keeps for itself where it can. Any sum of additions and subtractions.
#[derive(Default)]
pub struct Count {
    /// Index of its cells; 0: none. Not changed once hits count.
    cell: u32,
    /// What is counted by threads without cells, or for no thread.
    shared: AtomicU64,
}

impl Count {
    const fn new() -> Self {
        Self { cell: 0, shared: AtomicU64::new(0) }
    }

    /// Index of its cell in every thread's array; `None`: it has none.
    #[must_use]
    pub const fn cell(&self) -> Option<u32> {
        if self.cell == 0 { None } else { Some(self.cell) }
    }

    /// Counts `n` at a hit of `thread`, the calling one. Signal-safe.
    #[inline]
    pub fn add(&self, thread: &ThreadState, n: u64) {
        match thread.cells.get::<1>(self.cell) {
            Some([cell]) => cells::add(cell, n),
            None => self.add_shared(n),
        }
    }

    /// Takes one back. Signal-safe.
    #[inline]
    pub fn take_back(&self, thread: &ThreadState) {
        self.add(thread, 1_u64.wrapping_neg());
    }

    /// Counts `n` outside hits.
    pub fn add_shared(&self, n: u64) {
        self.shared.fetch_add(n, Release);
    }

    /// All of it.
    #[must_use]
    pub fn read(&self) -> u64 {
        let cells = thread::all().filter_map(|thread| thread.cells.get::<1>(self.cell));
        cells.fold(self.shared.load(Acquire), |sum, [cell]| sum.wrapping_add(cell.load(Acquire)))
    }

    /// Zeroes it where no thread counts: its cells are free afterwards.
    fn clear(&self) {
        for [cell] in thread::all().filter_map(|thread| thread.cells.get::<1>(self.cell)) {
            if cell.load(Relaxed) != 0 {
                cell.store(0, Relaxed);
            }
        }
    }
}

/// The exact counts of the summary: those that every probe has, and by [`Deref`] the others.
#[derive(Default)]
pub struct Counters {
    /// The handler ran.
    pub hits: Count,
    /// It did not run: a hit inside a handler of the same thread.
    pub nmissed: AtomicU64,
    /// Ran, but its event could not be written.
    pub lost: AtomicU64,
    others: Option<Box<Others>>,
}

/// The counts of probes that filter, sample or follow calls.
#[derive(Default)]
pub struct Others {
    /// Followed calls that came back. `hits` counts those that were followed.
    pub returns: Count,
    /// The filter said no.
    pub filtered: Count,
    /// Not the Nth, or beyond the limit.
    pub sampled_out: AtomicU64,
    /// Followed calls that were left by longjmp, by an exception, with their thread.
    pub unwound: AtomicU64,
    /// Those of the unwound that may yet return (see `shadow`).
    pub doubtful: AtomicU64,
}

/// Those of all who have none: nobody counts there.
static NO_OTHERS: Others = Others {
    returns: Count::new(),
    filtered: Count::new(),
    sampled_out: AtomicU64::new(0),
    unwound: AtomicU64::new(0),
    doubtful: AtomicU64::new(0),
};

impl Deref for Counters {
    type Target = Others;

    #[inline]
    fn deref(&self) -> &Others {
        self.others.as_deref().unwrap_or(&NO_OTHERS)
    }
}

impl Counters {
    /// All zero; without the others.
    #[must_use]
    pub const fn new() -> Self {
        Self { hits: Count::new(), nmissed: AtomicU64::new(0), lost: AtomicU64::new(0), others: None }
    }

    /// The others, too. Before the first hit.
    pub fn use_others(&mut self) -> &mut Others {
        self.others.get_or_insert_default()
    }

    /// How many cells `hits` and `returns` have, and with `filtered`.
    pub const RETURN_CELLS: u32 = 2;
    /// See [`Counters::RETURN_CELLS`].
    pub const EVENT_CELLS: u32 = 3;

    /// Counts in [`Counters::EVENT_CELLS`] cells from `first` on; 0: in none. Before the first hit.
    pub fn use_event_cells(&mut self, first: u32) {
        self.use_return_cells(first);
        self.use_others().filtered.cell = if first == 0 { 0 } else { first + 2 };
    }

    /// Of a probe that follows no calls: counts in so many cells from `first` on; 0: in none. Before the first hit.
    pub fn use_entry_cells(&mut self, first: u32, has_filter: bool) {
        self.hits.cell = first;
        if has_filter {
            self.use_others().filtered.cell = if first == 0 { 0 } else { first + 1 };
        }
    }

    /// Counts in [`Counters::RETURN_CELLS`] cells from `first` on; 0: in none. Before the first hit.
    pub fn use_return_cells(&mut self, first: u32) {
        self.hits.cell = first;
        self.use_others().returns.cell = if first == 0 { 0 } else { first + 1 };
    }

    /// Gives its [`Counters::RETURN_CELLS`] cells back, zeroed: where they begin. Nothing hits any more.
    #[must_use]
    pub fn free_return_cells(&self) -> Option<u32> {
        self.hits.clear();
        self.returns.clear();
        self.hits.cell()
    }

    /// Zeroes what a fork child has inherited; the kernel has zeroed its cells.
    pub fn reset(&self) {
        let shared = [&self.hits.shared, &self.returns.shared, &self.filtered.shared];
        let events = [&self.nmissed, &self.sampled_out, &self.lost, &self.unwound, &self.doubtful];
        for counter in shared.into_iter().chain(events) {
            counter.store(0, Relaxed);
        }
    }

    /// Whether anything was counted that an execution of the place is.
    #[must_use]
    pub fn has_executions(&self) -> bool {
        self.hits.read() != 0
            || self.filtered.read() != 0
            || self.nmissed.load(Relaxed) != 0
            || self.sampled_out.load(Relaxed) != 0
    }

    /// Calls followed that have neither returned nor been unwound for good.
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        let (hits, returns) = (self.hits.read(), self.returns.read());
        let (unwound, doubtful) = (self.unwound.load(SeqCst), self.doubtful.load(SeqCst));
        hits.wrapping_sub(returns).wrapping_sub(unwound).wrapping_add(doubtful)
    }
}
