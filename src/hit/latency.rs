//! The times of a probe's calls, counted as they return. Any number of threads may be at it.

use std::sync::atomic::{AtomicU64, Ordering::*};

use crate::trace::latency::{BUCKETS, Latency};

/// Sums and a histogram of powers of two, in nanoseconds.
pub struct LatencyCounts {
    count: AtomicU64,
    sum: AtomicU64,
    min: AtomicU64,
    max: AtomicU64,
    own: AtomicU64,
    log2: [AtomicU64; BUCKETS],
}

impl Default for LatencyCounts {
    fn default() -> Self {
        Self {
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::new(0),
            own: AtomicU64::new(0),
            log2: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }
}

impl LatencyCounts {
    /// A call that took `ns`, of which `own_ns` were not spent in followed calls of its own.
    /// Signal-safe.
    #[inline]
    pub fn add(&self, ns: u64, own_ns: u64) {
        self.count.fetch_add(1, Relaxed);
        self.sum.fetch_add(ns, Relaxed);
        self.own.fetch_add(own_ns, Relaxed);
        // Rarely true: a load instead of an exclusive instruction.
        if ns < self.min.load(Relaxed) {
            self.min.fetch_min(ns, Relaxed);
        }
        if ns > self.max.load(Relaxed) {
            self.max.fetch_max(ns, Relaxed);
        }
        let bucket = (u64::BITS - ns.leading_zeros()) as usize;
        self.log2[bucket.min(BUCKETS - 1)].fetch_add(1, Relaxed);
    }

    /// Zeroes them.
    pub fn reset(&self) {
        for counter in [&self.count, &self.sum, &self.max, &self.own].into_iter().chain(&self.log2) {
            counter.store(0, Relaxed);
        }
        self.min.store(u64::MAX, Relaxed);
    }

    /// What there is so far, for the report.
    #[must_use]
    pub fn read(&self) -> Latency {
        let [count, sum, min, max, own] =
            [&self.count, &self.sum, &self.min, &self.max, &self.own].map(|counter| counter.load(Relaxed));
        let log2 = std::array::from_fn(|bucket| self.log2[bucket].load(Relaxed));
        Latency::from_buckets(count, sum, if count == 0 { 0 } else { min }, max, own, &log2)
    }
}
