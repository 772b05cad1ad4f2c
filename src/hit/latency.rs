//! The times of a probe's calls, counted as they return. Every thread counts in cells of its own
//! where it can.

use std::sync::atomic::{AtomicU64, Ordering::*};

use crate::hit::cells;
use crate::hit::thread::{self, ThreadState};
use crate::trace::latency::{BUCKETS, Latency};

/// Sums and a histogram of powers of two, in nanoseconds.
pub struct LatencyCounts {
    /// Index of the first of its cells; 0: none.
    first: u32,
    /// What threads without cells count.
    shared: Row,
}

/// All start as zero.
type Row = [AtomicU64; LatencyCounts::CELLS as usize];

pub(super) const COUNT: usize = 0;
pub(super) const SUM: usize = 1;
pub(super) const OWN: usize = 2;
pub(super) const MAX: usize = 3;
/// The complement of the shortest, so that it is the larger the shorter that is.
pub(super) const NOT_MIN: usize = 4;
/// Where the last call fell, for [`super::quick`]: a guess, of no other meaning.
pub(super) const LAST: usize = 5;
pub(super) const LOG2: usize = 6;

impl LatencyCounts {
    /// How many cells it needs.
    pub const CELLS: u32 = (LOG2 + BUCKETS) as u32;

    /// With cells from `first` on; 0: with none.
    #[must_use]
    pub fn new(first: u32) -> Self {
        Self { first, shared: [const { AtomicU64::new(0) }; Self::CELLS as usize] }
    }

    /// Index of the first of its cells; 0: none.
    #[must_use]
    pub const fn first(&self) -> u32 {
        self.first
    }

    /// A call that took `ns`, of which `own_ns` were not spent in followed calls of its own. Counted for
    /// the calling thread. Signal-safe.
    #[inline]
    pub fn add(&self, thread: &ThreadState, ns: u64, own_ns: u64) {
        let bucket = LOG2 + ((u64::BITS - ns.leading_zeros()) as usize).min(BUCKETS - 1);
        let sums = [(COUNT, 1), (SUM, ns), (OWN, own_ns), (bucket, 1)];
        let extremes = [(MAX, ns), (NOT_MIN, !ns)];
        if let Some(row) = thread.cells.get::<{ Self::CELLS as usize }>(self.first) {
            for (at, n) in sums {
                cells::add(&row[at], n);
            }
            for (at, extreme) in extremes {
                if extreme > row[at].load(Relaxed) {
                    row[at].store(extreme, Relaxed);
                }
            }
        } else {
            for (at, n) in sums {
                self.shared[at].fetch_add(n, Relaxed);
            }
            for (at, extreme) in extremes {
                self.shared[at].fetch_max(extreme, Relaxed);
            }
        }
    }

    /// Zeroes what a fork child has inherited; the kernel has zeroed its cells.
    pub fn reset(&self) {
        for counter in &self.shared {
            counter.store(0, Relaxed);
        }
    }

    /// What there is so far, for the report.
    #[must_use]
    pub fn read(&self) -> Latency {
        let mut total = [0_u64; Self::CELLS as usize];
        let rows = thread::all().filter_map(|thread| thread.cells.get(self.first));
        for row in rows.chain([&self.shared]) {
            for (at, (total, counter)) in total.iter_mut().zip(row).enumerate() {
                let n = counter.load(Acquire);
                *total = if matches!(at, MAX | NOT_MIN) { n.max(*total) } else { total.wrapping_add(n) };
            }
        }
        let [count, sum, own, max, not_min, _last, log2 @ ..] = total;
        Latency::from_buckets(count, sum, if count == 0 { 0 } else { !not_min }, max, own, &log2)
    }
}
