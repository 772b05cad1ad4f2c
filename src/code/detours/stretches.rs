//! Stretches of addresses, and the first of them where a jump may lead.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;

use crate::insn::TargetRange;

/// What is sought: `len` bytes of which the one at `head` is in `range`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// Where the jump may lead.
    pub range: &'a TargetRange,
    /// Bytes before the jump's target.
    pub head: u64,
    /// Bytes in all.
    pub len: u64,
}

/// How a search ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fit {
    /// The first byte.
    At(u64),
    /// There is none.
    None,
    /// It was given up; the rest begins here.
    GivenUp(u64),
}

/// Disjoint stretches `[start, end)` that never touch.
#[derive(Debug, Default)]
pub(super) struct Stretches(BTreeMap<u64, u64>);

impl Stretches {
    /// In address order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().map(|(start, end)| (*start, *end))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The one that contains `at`, or else the first behind it.
    pub(super) fn from(&self, at: u64) -> Option<(u64, u64)> {
        let containing = self.0.range(..=at).next_back().filter(|(_, end)| **end > at);
        containing.or_else(|| self.0.range(at..).next()).map(|(start, end)| (*start, *end))
    }

    /// The one that ends at `at`.
    fn ending(&self, at: u64) -> Option<u64> {
        let (start, end) = self.0.range(..at).next_back()?;
        (*end == at).then_some(*start)
    }

    /// Adds what is not in it, one with its neighbours.
    pub(super) fn add(&mut self, start: u64, end: u64) {
        let first = self.ending(start).unwrap_or(start);
        let last = self.0.remove(&end).unwrap_or(end);
        self.0.insert(first, last);
    }

    /// Takes away what is in it wholly, partly or not at all.
    pub(super) fn remove(&mut self, start: u64, end: u64) {
        while let Some((low, high)) = self.from(start).filter(|(low, _)| *low < end) {
            self.0.remove(&low);
            if low < start {
                self.0.insert(low, start);
            }
            if high > end {
                self.0.insert(end, high);
            }
        }
    }

    /// The lowest fit inside `[low, high)`. `steps` counts down; at zero the search is given up.
    pub(super) fn first_fit(&self, wanted: &Wanted<'_>, low: u64, high: u64, steps: &mut u32) -> Fit {
        let mut from = low;
        let mut walk = Walk { all: self, ahead: None };
        loop {
            let Some(target) = wanted.range.first_from(from + wanted.head) else { return Fit::None };
            let at = target - wanted.head;
            if at + wanted.len > high {
                return Fit::None;
            }
            if *steps == 0 {
                return Fit::GivenUp(from);
            }
            *steps -= 1;
            let Some((start, end)) = walk.from(at) else { return Fit::None };
            if start <= at && at + wanted.len <= end {
                return Fit::At(at);
            }
            from = if start > at { start } else { end };
        }
    }
}

/// Looks at stretches one after the other, upwards.
struct Walk<'a> {
    all: &'a Stretches,
    /// The last one, and those behind it.
    ahead: Option<((u64, u64), Range<'a, u64, u64>)>,
}

impl Walk<'_> {
    /// As [`Stretches::from`]. What is sought is mostly one of the next: going there takes less than a search.
    fn from(&mut self, at: u64) -> Option<(u64, u64)> {
        const NEXT: usize = 8;
        if let Some((last, rest)) = &mut self.ahead {
            for _ in 0..NEXT {
                if last.1 > at {
                    return Some(*last);
                }
                let (start, end) = rest.next()?;
                *last = (*start, *end);
            }
        }
        let found = self.all.from(at)?;
        self.ahead = Some((found, self.all.0.range(found.1..)));
        Some(found)
    }
}

/// Addresses are rounded to these. Jumps with traps inside have few targets, often some in each 256 bytes: it tells
/// how many detours find room there.
const GRANULE: u64 = 4;
/// No detour takes less, nor a table.
pub(super) const LEAST: u64 = 32;
/// Shorter stretches hold few detours, and each search would pass them: they are forgotten. There would be more to
/// remember than they are worth.
const USEFUL: u64 = 64;

/// Memory nobody uses, in granules.
#[derive(Debug, Default)]
pub(super) struct FreeSpace(Stretches);

impl FreeSpace {
    /// The granules that `len` bytes at `at` lie in.
    pub(super) const fn granules(at: u64, len: u64) -> (u64, u64) {
        (at & !(GRANULE - 1), (at + len + GRANULE - 1) & !(GRANULE - 1))
    }

    /// New granules.
    pub(super) fn add(&mut self, start: u64, end: u64) {
        self.0.add(start, end);
    }

    /// Takes granules that are free.
    pub(super) fn remove(&mut self, start: u64, end: u64) {
        let Some((low, high)) = self.0.from(start).filter(|(low, _)| *low <= start) else { return };
        self.0.0.remove(&low);
        for (from, to) in [(low, start), (end, high)] {
            if to.saturating_sub(from) >= USEFUL {
                self.0.0.insert(from, to);
            }
        }
    }

    /// What can hold a detour.
    pub(super) const fn useful(&self) -> &Stretches {
        &self.0
    }
}

impl Stretches {
    /// Whether all of it lies in one stretch.
    pub(super) fn contains(&self, start: u64, end: u64) -> bool {
        self.from(start).is_some_and(|(low, high)| low <= start && end <= high)
    }
}
