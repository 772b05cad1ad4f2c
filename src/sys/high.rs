//! Descriptor numbers that the program can't get.
//!
//! A number at or above the soft RLIMIT_NOFILE is never given out by open or dup, nor accepted by
//! dup2: where the hard limit leaves room, ours go there, and a program that closes all it has can't
//! find one of its own files under our number afterwards. Otherwise they go as high as the limit
//! allows, and the caller guards them (see `hit::gates`).

use super::call::limits;
use super::file::Fd;

/// Room asked for above the soft limit.
const ABOVE: u64 = 64;
/// Not below this number, the usual limit, where there is room: files that a process was given, or opened before it
/// lowered its own limit, may have numbers above that.
const LOWEST: u64 = 1024;

/// Runs `work`, which gets the first of a few numbers at or above the soft limit, while those may be used; `None` where
/// the limit can't be raised (the hard one too, where we may; both are put back).
pub fn with_more_descriptors<R>(work: impl FnOnce(u64) -> R) -> Option<R> {
    let [soft, hard] = limits(libc::RLIMIT_NOFILE, None)?;
    if soft >= i32::MAX as u64 - ABOVE {
        return None;
    }
    let raised = |first: u64| {
        limits(libc::RLIMIT_NOFILE, Some([first + ABOVE, hard.max(first + ABOVE)])).map(|_| first)
    };
    let first = raised(soft.max(LOWEST)).or_else(|| raised(soft))?;
    let result = work(first);
    limits(libc::RLIMIT_NOFILE, Some([soft, hard]));
    Some(result)
}

/// Whether the program may have so few descriptors open that it needs each of them, with none beyond for us.
#[must_use]
pub fn descriptors_are_scarce() -> bool {
    const FEW: u64 = 64;
    limits(libc::RLIMIT_NOFILE, None).is_some_and(|[soft, _]| soft <= FEW)
        && with_more_descriptors(|_| ()).is_none()
}

/// Moves a descriptor out of the program's numbers, or, second best, to a high one. Says whether the
/// program can't get the number.
#[must_use]
pub fn move_out_of_reach(fd: Fd) -> (Fd, bool) {
    let Some([soft, _]) = limits(libc::RLIMIT_NOFILE, None) else { return (fd, false) };
    if let Some(Ok(moved)) = with_more_descriptors(|first| Fd::duplicate(fd.raw(), first as i32)) {
        return (moved, true);
    }
    for from in [soft.saturating_sub(ABOVE).min(0xF_0000) as i32, 900, 200] {
        if let Ok(moved) = Fd::duplicate(fd.raw(), from) {
            return (moved, false);
        }
    }
    (fd, false)
}
