//! Memory that the program's own limits forbid: where ours ended, the program did, which gets along with less.
//!
//! The kernel counts what is private and writable as data (RLIMIT_DATA), but not what may be a stack. And of address space
//! (RLIMIT_AS) there is more for a moment where the limit may be raised. Signal-safe.

use std::sync::atomic::{AtomicBool, Ordering::*};

use super::call::{map_inaccessible_not_data, protect, syscall4};

/// Zeroed memory of `len` bytes, for good.
pub fn map(len: usize) -> Option<usize> {
    map_not_data(len).or_else(|| with_more_address_space(|| map_not_data(len)))
}

/// The address space that the process may have, in bytes.
#[must_use]
pub fn address_space() -> usize {
    limits(None).map_or(usize::MAX, |[soft, _]| soft as usize)
}

fn map_not_data(len: usize) -> Option<usize> {
    let base = map_inaccessible_not_data(len).ok()?;
    protect(base, len, libc::PROT_READ | libc::PROT_WRITE).ok().map(|()| base)
}

fn limits(new: Option<[u64; 2]>) -> Option<[u64; 2]> {
    let mut old = [0_u64; 2];
    let new = new.as_ref().map_or(std::ptr::null(), |new| new.as_ptr());
    let to = old.as_mut_ptr() as usize;
    // SAFETY: two words each, the layout of struct rlimit64.
    unsafe { syscall4(libc::SYS_prlimit64, 0, libc::RLIMIT_AS as usize, new as usize, to) }.ok()?;
    Some(old)
}

/// Runs `work` while the limit is as high as we can set it, if that is any higher. Another thread of the program may get
/// memory meanwhile that it would have been refused.
fn with_more_address_space(work: impl FnOnce() -> Option<usize>) -> Option<usize> {
    /// The hard limit can't be raised.
    static IS_HARD: AtomicBool = AtomicBool::new(false);
    let [soft, hard] = limits(None)?;
    let raise = |most: u64| limits(Some([most, most]));
    let raised = if soft < hard { raise(hard) } else { None };
    if raised.is_none() && !IS_HARD.load(Relaxed) && raise(libc::RLIM_INFINITY).is_none() {
        IS_HARD.store(true, Relaxed);
    }
    let result = work();
    limits(Some([soft, hard]));
    result
}
