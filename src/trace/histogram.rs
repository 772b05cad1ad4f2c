//! Histograms of values: how many there were of each power of two.

use std::borrow::Cow;

/// Buckets of a histogram: bucket `i` counts the values of `i` binary digits, so bucket 0 the zeros,
/// bucket 1 the ones, bucket 2 the twos and threes. A negative value, as a word of 64 bits, has 64 digits: of
/// values with a sign the last bucket counts the negative ones, and nothing else.
pub const BUCKETS: usize = 65;
/// The last bucket.
pub const LAST: usize = BUCKETS - 1;

/// Which bucket counts `value`; one with a sign is sign-extended. Signal-safe.
#[inline]
#[must_use]
pub const fn bucket(value: u64) -> usize {
    (u64::BITS - value.leading_zeros()) as usize
}

/// The values a bucket counts, where they have no sign or aren't negative: from, and to (not included).
#[must_use]
pub(super) const fn bucket_range(index: usize) -> (u128, u128) {
    match index {
        0 => (0, 1),
        1..BUCKETS => (1 << (index - 1), 1 << index),
        _ => (1 << LAST, 1 << LAST),
    }
}

/// A distribution of values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Histogram<'a> {
    /// What the value is called.
    pub name: Cow<'a, str>,
    /// It has a sign: the last of [`BUCKETS`] is for negative values.
    pub is_signed: bool,
    /// Bucket `i` counts the values of `i` binary digits. Without the empty ones at the end.
    pub log2: Vec<u64>,
}

impl<'a> Histogram<'a> {
    /// Of these counts.
    #[must_use]
    pub fn new(name: impl Into<Cow<'a, str>>, is_signed: bool, log2: &[u64; BUCKETS]) -> Self {
        let used = log2.iter().rposition(|n| *n > 0).map_or(0, |last| last + 1);
        Self { name: name.into(), is_signed, log2: log2.iter().take(used).copied().collect() }
    }

    /// How many values are negative.
    pub(super) fn negative(&self) -> u64 {
        if self.is_signed { self.log2.get(LAST).copied().unwrap_or(0) } else { 0 }
    }

    /// The counts of the others.
    pub(super) fn others(&self) -> &[u64] {
        let most = if self.is_signed { LAST } else { BUCKETS };
        self.log2.get(..most).unwrap_or(&self.log2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_range_of_its_bucket() {
        for value in [0, 1, 2, 3, 4, 7, 8, 1 << 20, (1 << 62) - 1, 1 << 62, (1 << 63) - 1, 1 << 63, u64::MAX]
        {
            let (from, to) = bucket_range(bucket(value));
            assert!((from..to).contains(&u128::from(value)), "{value}: {from} {to}");
        }
        assert_eq!((bucket(0), bucket(1), bucket(2), bucket(u64::MAX)), (0, 1, 2, LAST));
    }

    #[test]
    fn negative_values_have_a_bucket_of_their_own() {
        for negative in [-1_i64, -2, i64::MIN] {
            assert_eq!(bucket(negative as u64), LAST);
        }
        assert_eq!(bucket(i64::MAX as u64), LAST - 1);
        let mut log2 = [0; BUCKETS];
        (log2[0], log2[3], log2[LAST]) = (1, 2, 3);
        let signed = Histogram::new("a", true, &log2);
        assert_eq!((signed.negative(), signed.others().len()), (3, LAST));
        let unsigned = Histogram::new("a", false, &log2);
        assert_eq!((unsigned.negative(), unsigned.others().len()), (0, BUCKETS));
    }

    #[test]
    fn buckets_are_cut_after_the_last_used() {
        let mut log2 = [0; BUCKETS];
        assert!(Histogram::new("a", false, &log2).log2.is_empty());
        log2[2] = 1;
        assert_eq!(Histogram::new("a", true, &log2).log2, [0, 0, 1]);
    }
}
