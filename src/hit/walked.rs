//! The code of runtimes that walk their own stacks by the return addresses on them, and end the program at one that they
//! don't know: its calls are not followed.
//!
//! Written when objects are loaded and unloaded, read for each call that has no stub. A range that stays is never
//! written again, so no reader misses it. One who reads a range that is being replaced may take either's first byte
//! with the other's last: a call more or less is followed at the moment at which a library is loaded, none of it the new
//! one's, whose code nobody runs yet.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};

use crate::hit::objects;

/// How many there may be: OCaml's programs have two, and each library that one loads has one.
pub const RANGES: usize = 64;

struct Range {
    start: AtomicU64,
    /// First byte behind; 0: none is here.
    end: AtomicU64,
}

static FOUND: [Range; RANGES] =
    [const { Range { start: AtomicU64::new(0), end: AtomicU64::new(0) } }; RANGES];
/// All beyond are empty.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Whether a runtime is loaded that makes such code as it runs.
static GENERATED: AtomicBool = AtomicBool::new(false);

/// Whether the call that returns to `ra` is made by such code. Signal-safe.
#[must_use]
pub fn contains(ra: u64) -> bool {
    // The last instruction may be a call.
    let call = ra.wrapping_sub(1);
    let is_in = |range: &Range| {
        let end = range.end.load(Acquire);
        call < end && range.start.load(Acquire) <= call
    };
    FOUND.iter().take(COUNT.load(Acquire)).any(is_in)
        || GENERATED.load(Acquire) && objects::containing(call).is_none()
}

/// Replaces what is known: the ranges, first byte and first behind, of which those beyond [`RANGES`] are not taken; and
/// whether all code is meant that is in no object. The registry's lock must be held.
pub fn publish(ranges: &[(u64, u64)], generated: bool) {
    let ranges = ranges.get(..RANGES).unwrap_or(ranges);
    let of = |range: &Range| (range.start.load(Relaxed), range.end.load(Relaxed));
    for range in FOUND.iter().filter(|range| !ranges.contains(&of(range))) {
        range.end.store(0, Release);
    }
    for wanted in ranges {
        if FOUND.iter().any(|range| of(range) == *wanted) {
            continue;
        }
        if let Some(free) = FOUND.iter().find(|range| range.end.load(Relaxed) == 0) {
            free.start.store(wanted.0, Release);
            free.end.store(wanted.1, Release);
        }
    }
    let used = FOUND.iter().rposition(|range| range.end.load(Relaxed) != 0);
    COUNT.store(used.map_or(0, |last| last + 1), Release);
    GENERATED.store(generated, Release);
}
