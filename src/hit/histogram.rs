//! `hist(NAME)`: how many of a probe's values there were of each power of two. Every thread counts in
//! cells of its own where it can.

use std::sync::atomic::{AtomicU64, Ordering::*};

use crate::hit::cells;
use crate::hit::thread::{self, ThreadState};
use crate::trace::histogram::{BUCKETS, Histogram, bucket};

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Measured {
    /// The argument at this index.
    Arg(u16),
    /// The time from entry to return.
    Latency,
}

impl Measured {
    /// The argument, where it is one.
    #[must_use]
    pub const fn arg(self) -> Option<u16> {
        match self {
            Self::Arg(index) => Some(index),
            Self::Latency => None,
        }
    }
}

/// The counts of one histogram.
pub struct HistogramCounts {
    name: String,
    /// Of what.
    pub measured: Measured,
    is_signed: bool,
    /// Index of the first of its cells; 0: none.
    first: u32,
    /// What threads without cells count. All start as zero.
    shared: [AtomicU64; BUCKETS],
}

impl HistogramCounts {
    /// How many cells it needs.
    pub const CELLS: u32 = BUCKETS as u32;

    /// With cells from `first` on; 0: with none.
    #[must_use]
    pub const fn new(name: String, measured: Measured, is_signed: bool, first: u32) -> Self {
        Self { name, measured, is_signed, first, shared: [const { AtomicU64::new(0) }; BUCKETS] }
    }

    /// Index of the first of its cells; `None`: it has none.
    #[must_use]
    pub const fn first(&self) -> Option<u32> {
        if self.first == 0 { None } else { Some(self.first) }
    }

    /// Counts a value, sign-extended where it has a sign, for the calling thread. Signal-safe.
    #[inline]
    pub fn add(&self, thread: &ThreadState, value: u64) {
        let bucket = bucket(value);
        match thread.cells.get::<BUCKETS>(self.first) {
            Some(row) => cells::add(&row[bucket], 1),
            None => {
                self.shared[bucket].fetch_add(1, Release);
            }
        }
    }

    /// Zeroes what a fork child has inherited; the kernel has zeroed its cells. Signal-safe.
    pub fn reset(&self) {
        for counter in &self.shared {
            counter.store(0, Relaxed);
        }
    }

    /// What there is so far, for the report.
    #[must_use]
    pub fn read(&self) -> Histogram<'_> {
        let mut total = [0_u64; BUCKETS];
        let rows = thread::all().filter_map(|thread| thread.cells.get::<BUCKETS>(self.first));
        for row in rows.chain([&self.shared]) {
            for (total, counter) in total.iter_mut().zip(row) {
                *total = total.wrapping_add(counter.load(Acquire));
            }
        }
        Histogram::new(self.name.as_str(), self.is_signed, &total)
    }
}
