//! Descriptors of ours are not there for the program.

use crate::hit::consumer::Flow;
use crate::hit::gates::skip;
use crate::hit::trap::Hit;
use crate::hit::{output, process};
use crate::sys;

/// Descriptors of ours are not there for the program.
pub(super) fn close(hit: &mut Hit<'_>, fd: u64) -> Flow {
    let fd = fd as i32;
    if output::guarded(fd..=fd).is_none() || process::is_borrowed() {
        return Flow::Continue;
    }
    skip(hit, Err(libc::EBADF))
}

/// Nor when it looks which of its numbers are open.
pub(super) fn look(hit: &mut Hit<'_>, fd: u64) -> Flow {
    let fd = fd as i32;
    match output::guarded(fd..=fd) {
        Some(_) => skip(hit, Err(libc::EBADF)),
        None => Flow::Continue,
    }
}

/// The same for a range: around ours.
pub(super) fn close_range(hit: &mut Hit<'_>, [first, last, flags, ..]: [u64; 6]) -> Flow {
    let (mut first, last) = (first as u32, last as u32);
    if first > last || output::guarded(to_fd(first)..=to_fd(last)).is_none() || process::is_borrowed() {
        return Flow::Continue;
    }
    loop {
        let ours = if first > last { None } else { output::guarded(to_fd(first)..=to_fd(last)) };
        let end = ours.map_or(last, |fd| (fd as u32).wrapping_sub(1));
        if first <= end && end <= last {
            // SAFETY: the program's own call, less our descriptors.
            let result =
                unsafe { sys::syscall3(libc::SYS_close_range, first as usize, end as usize, flags as usize) };
            if result.is_err() {
                return skip(hit, result);
            }
        }
        match ours {
            Some(fd) => first = fd as u32 + 1,
            None => return skip(hit, Ok(0)),
        }
    }
}

fn to_fd(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
