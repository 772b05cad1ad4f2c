//! Memory that the program's own limits forbid: where ours ended, the program did, which gets along with less.
//!
//! The kernel counts what is private and writable as data (RLIMIT_DATA), but not what may be a stack. And of address space
//! (RLIMIT_AS) there is more for a moment where the limit may be raised. Signal-safe.

use super::call::{limits, map_reserved_not_data};

/// Zeroed memory of `len` bytes, for good.
pub fn map(len: usize) -> Option<usize> {
    let map = || map_reserved_not_data(len).ok();
    map().or_else(|| with_more_address_space(map))
}

/// Runs `work` while the limit is as high as we can set it, if that is any higher. Another thread of the program may get
/// memory meanwhile that it would have been refused.
fn with_more_address_space(work: impl FnOnce() -> Option<usize>) -> Option<usize> {
    let [soft, hard] = limits(libc::RLIMIT_AS, None)?;
    let most = if soft < hard { hard } else { libc::RLIM_INFINITY };
    limits(libc::RLIMIT_AS, Some([most, most]))?;
    let result = work();
    limits(libc::RLIMIT_AS, Some([soft, hard]));
    result
}
