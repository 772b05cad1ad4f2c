//! Memory set aside for the time when the kernel gives no more: the report is still to be made then.
//!
//! One stretch of addresses without access, so that it costs nothing, not even where all memory is
//! locked; what is taken of it is made accessible, which no limit forbids, and never given back. Signal-safe.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};

use super::beyond;
use super::call::{map_anonymous, map_inaccessible_not_data, protect};

/// Least size of it that is worth having.
const LEAST: usize = 1 << 20;
const PAGE: usize = 4096;

static BASE: AtomicUsize = AtomicUsize::new(0);
static END: AtomicUsize = AtomicUsize::new(0);
static NEXT: AtomicUsize = AtomicUsize::new(0);
/// All of it has access already.
static IS_OPEN: AtomicBool = AtomicBool::new(false);

/// Sets aside `len` bytes, or what can be had of them; once. To be called with the registry's lock held.
pub fn provide(len: usize) {
    let mut len = len.next_multiple_of(PAGE);
    while END.load(Acquire) == 0 && len >= LEAST {
        if let Ok(base) = map_inaccessible_not_data(len) {
            BASE.store(base, SeqCst);
            NEXT.store(base, SeqCst);
            END.store(base + len, SeqCst);
        }
        len /= 2;
    }
}

/// Makes all that is left accessible now: later the kernel may not be asked.
pub fn open() {
    let (from, end) = (NEXT.load(Acquire), END.load(Acquire));
    if from < end && protect(from, end - from, libc::PROT_READ | libc::PROT_WRITE).is_ok() {
        IS_OPEN.store(true, Release);
    }
}

/// Whether `address` was taken from it.
#[must_use]
pub fn contains(address: usize) -> bool {
    (BASE.load(Relaxed)..END.load(Relaxed)).contains(&address)
}

/// How much is left.
#[must_use]
pub fn left() -> usize {
    END.load(Acquire) - NEXT.load(Acquire)
}

/// Zeroed memory of `len` bytes, aligned to `align`, a power of two of at least a page.
pub fn take(len: usize, align: usize) -> Option<usize> {
    let mut next = NEXT.load(Acquire);
    loop {
        let start = next.checked_next_multiple_of(align)?;
        let end = start.checked_add(len.next_multiple_of(PAGE)).filter(|end| *end <= END.load(Acquire))?;
        match NEXT.compare_exchange(next, end, AcqRel, Acquire) {
            Err(now) => next = now,
            Ok(_) if IS_OPEN.load(Acquire) => return Some(start),
            Ok(_) => {
                return protect(start, end - start, libc::PROT_READ | libc::PROT_WRITE).ok().map(|()| start);
            }
        }
    }
}

/// Memory for good, from the kernel or, where it gives none at all, from here.
pub fn map(len: usize) -> Option<usize> {
    map_anonymous(len).ok().or_else(|| beyond::map(len)).or_else(|| take(len, PAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_distinct_aligned_and_usable_to_the_end() {
        assert_eq!(take(1, PAGE), None, "nothing was set aside");
        provide(2 << 20);
        let (small, aligned) = (take(5000, PAGE).expect("room"), take(PAGE, 1 << 20).expect("room"));
        assert!(contains(small) && contains(aligned) && !contains(small - 1));
        assert_eq!(aligned % (1 << 20), 0);
        assert!(aligned >= small + 2 * PAGE);
        for piece in [small, aligned] {
            // SAFETY: just taken.
            unsafe { std::ptr::write_bytes(piece as *mut u8, 7, PAGE) };
        }
        assert_eq!(take(3 << 20, PAGE), None);
        open();
        let rest = take(PAGE, PAGE).expect("room");
        // SAFETY: just taken.
        assert_eq!(unsafe { *(rest as *const u8) }, 0);
    }
}
