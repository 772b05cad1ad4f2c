//! A Treiber stack of numbers, each with a link word of its own; a tag beside the head, larger with each
//! change, makes the pop safe against a head that was taken and put back meanwhile.

use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering::*};

/// Takes the number on top. 0 is none, in the low half of `head` as in a link. Signal-safe.
#[inline]
pub fn pop<'a>(head: &AtomicU64, link: impl Fn(u32) -> &'a AtomicU32) -> Option<u32> {
    let mut top = head.load(Acquire);
    while top as u32 != 0 {
        // Of a number taken meanwhile it may be anything: then the exchange fails.
        let next = link(top as u32).load(Relaxed);
        match head.compare_exchange_weak(top, retag(top, next), AcqRel, Acquire) {
            Ok(_) => return Some(top as u32),
            Err(now) => top = now,
        }
    }
    None
}

/// Puts the caller's own number on top. Signal-safe.
#[inline]
pub fn push<'a>(head: &AtomicU64, number: u32, link: impl Fn(u32) -> &'a AtomicU32) {
    let mut top = head.load(Acquire);
    loop {
        link(number).store(top as u32, Relaxed);
        match head.compare_exchange_weak(top, retag(top, number), AcqRel, Acquire) {
            Ok(_) => return,
            Err(now) => top = now,
        }
    }
}

const fn retag(head: u64, number: u32) -> u64 {
    ((head >> 32).wrapping_add(1) << 32) | number as u64
}

/// Takes `size` numbers in a row that nobody ever had, the first a multiple of `size`, all below `end`.
pub fn carve(fresh: &AtomicU32, size: u32, end: u32) -> Option<u32> {
    let mut from = fresh.load(Relaxed);
    loop {
        let first = from.next_multiple_of(size);
        let behind = first.checked_add(size).filter(|behind| *behind <= end)?;
        match fresh.compare_exchange_weak(from, behind, AcqRel, Relaxed) {
            Ok(_) => return Some(first),
            Err(now) => from = now,
        }
    }
}
