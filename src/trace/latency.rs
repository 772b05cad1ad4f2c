//! The times of a probe's calls: a histogram of powers of two, and what is said of it.

/// Buckets of a histogram: bucket `i` counts the times below `2^i` ns that no earlier bucket
/// counts, so bucket 0 the times of 0 ns; the last counts all the rest too.
pub const BUCKETS: usize = 64;

/// A distribution of times.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// All of them together.
    pub sum_ns: u64,
    /// The shortest; 0 where there is none.
    pub min_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// The median, estimated from the buckets.
    pub p50_ns: u64,
    /// What 99 of 100 don't exceed, estimated from the buckets.
    pub p99_ns: u64,
    /// All of them together, without the time of probed calls made from within.
    pub self_ns: u64,
    /// Bucket `i` counts the times below `2^i` ns that no earlier bucket counts. Without the empty
    /// ones at the end.
    pub log2: Vec<u64>,
}

impl Latency {
    /// What is known of `count` times from their sum, extremes and histogram ([`BUCKETS`]).
    ///
    /// The numbers may be of a process that still counts, so that they needn't agree: the percentiles
    /// are those of the histogram, within the extremes.
    #[must_use]
    pub fn from_buckets(
        count: u64,
        sum_ns: u64,
        min_ns: u64,
        max_ns: u64,
        self_ns: u64,
        log2: &[u64; BUCKETS],
    ) -> Self {
        if count == 0 {
            return Self::default();
        }
        let used = log2.iter().rposition(|n| *n > 0).map_or(0, |last| last + 1);
        let log2 = log2.iter().take(used).copied().collect::<Vec<_>>();
        let max_ns = max_ns.max(min_ns);
        let at = |percent| percentile(&log2, percent, min_ns, max_ns);
        let (p50_ns, p99_ns) = (at(50), at(99));
        Self { count, sum_ns, min_ns, max_ns, p50_ns, p99_ns, self_ns, log2 }
    }
}

/// The times a bucket counts: from, and to (not included; of the last one, as far as there is).
pub(super) const fn bucket_range(index: usize) -> (u64, u64) {
    match index {
        0 => (0, 1),
        1..63 => (1 << (index - 1), 1 << index),
        _ => (1 << 62, u64::MAX),
    }
}

/// The time that `percent` of the times don't exceed, if those of a bucket lie evenly between its
/// ends, or the extremes where these are nearer.
fn percentile(log2: &[u64], percent: u64, min_ns: u64, max_ns: u64) -> u64 {
    let total: u128 = log2.iter().map(|n| u128::from(*n)).sum();
    let rank = (total * u128::from(percent)).div_ceil(100);
    let mut before = 0;
    for (index, n) in log2.iter().enumerate() {
        let n = u128::from(*n);
        if n > 0 && before + n >= rank {
            let (from, to) = bucket_range(index);
            let (from, to) = (from.max(min_ns), to.min(max_ns));
            let width = u128::from(to.saturating_sub(from));
            let part = width * (rank - before) / n;
            return from.saturating_add(u64::try_from(part).unwrap_or(u64::MAX)).clamp(min_ns, max_ns);
        }
        before += n;
    }
    min_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The histogram of these times.
    fn of(times: &[u64]) -> Latency {
        let mut log2 = [0; BUCKETS];
        for time in times {
            log2[(u64::BITS - time.leading_zeros()).min(63) as usize] += 1;
        }
        let sum = times.iter().fold(0u64, |sum, time| sum.saturating_add(*time));
        let (min, max) = (times.iter().min().copied(), times.iter().max().copied());
        Latency::from_buckets(
            times.len() as u64,
            sum,
            min.unwrap_or(u64::MAX),
            max.unwrap_or(0),
            sum / 2,
            &log2,
        )
    }

    #[test]
    fn of_none() {
        assert_eq!(of(&[]), Latency::default());
    }

    #[test]
    fn of_equal_times_every_percentile_is_that_time() {
        for time in [0, 1, 2, 1000, 1024, u64::MAX / 2, u64::MAX] {
            let latency = of(&[time; 7]);
            assert_eq!([latency.min_ns, latency.p50_ns, latency.p99_ns, latency.max_ns], [time; 4]);
        }
    }

    #[test]
    fn buckets_are_cut_after_the_last_used() {
        assert_eq!(of(&[0]).log2, [1]);
        assert_eq!(of(&[0, 1, 1, 3, 4]).log2, [1, 2, 1, 1]);
        assert_eq!(of(&[u64::MAX]).log2.len(), BUCKETS);
    }

    #[test]
    fn percentiles_lie_in_the_right_bucket() {
        let times: Vec<u64> = (1..=1000).collect();
        let latency = of(&times);
        // Evenly spread times are what the estimate assumes: it is exact but for the rounding.
        assert!((495..=505).contains(&latency.p50_ns), "{latency:?}");
        assert!((985..=995).contains(&latency.p99_ns), "{latency:?}");
        assert_eq!((latency.min_ns, latency.max_ns, latency.sum_ns), (1, 1000, 500_500));
        // One in a hundred is beyond the 99th percentile, two are not.
        let mut slow = vec![10; 99];
        slow.push(1_000_000);
        assert!(of(&slow).p99_ns <= 16, "{:?}", of(&slow));
        slow.push(1_000_000);
        assert!(of(&slow).p99_ns >= 1 << 19, "{:?}", of(&slow));
    }

    #[test]
    fn counters_that_disagree_give_a_number_within_the_extremes() {
        let mut log2 = [0; BUCKETS];
        assert_eq!(Latency::from_buckets(3, 9, 2, 4, 9, &log2).p50_ns, 2);
        log2[63] = u64::MAX;
        log2[1] = u64::MAX;
        for (min, max) in [(2, 4), (u64::MAX, 0), (0, u64::MAX)] {
            let latency = Latency::from_buckets(1, 9, min, max, 9, &log2);
            assert!(latency.min_ns <= latency.p50_ns && latency.p50_ns <= latency.p99_ns);
            assert!(latency.p99_ns <= latency.max_ns);
        }
    }

    #[test]
    fn every_time_is_in_the_range_of_its_bucket() {
        for time in [0, 1, 2, 3, 4, 1 << 20, (1 << 62) - 1, 1 << 62, u64::MAX - 1] {
            let (from, to) = bucket_range((u64::BITS - u64::leading_zeros(time)).min(63) as usize);
            assert!((from..to).contains(&time), "{time}: {from} {to}");
        }
    }
}
