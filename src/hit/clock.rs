//! Time, and errno's place: found once, then used without a call that could be probed.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};

use crate::hit::asm;
use crate::sys;

/// The vDSO's clock_gettime, or 0.
static VDSO_CLOCK: AtomicUsize = AtomicUsize::new(0);
/// errno's offset from the thread pointer: the same in every thread, libc's TLS being static.
pub(super) static ERRNO_OFFSET: AtomicU64 = AtomicU64::new(0);

/// Remembers where the vDSO's clock is (0: not found) and where errno is. Called once at start.
pub fn start(vdso_clock: usize, errno_address: usize) {
    VDSO_CLOCK.store(vdso_clock, Relaxed);
    ERRNO_OFFSET.store((errno_address as u64).wrapping_sub(asm::thread_base()), Relaxed);
}

/// The last time that was known before the counter went; 0 while it is there.
static STOPPED: AtomicU64 = AtomicU64::new(0);

/// The time stamp counter can't be read any more, and so the vDSO's clock not called: the kernel is asked, and where
/// that is forbidden, too, time stands still.
pub fn lose_counter() {
    let now = now_ns();
    VDSO_CLOCK.store(0, Relaxed);
    STOPPED.store(now, Release);
}

/// CLOCK_MONOTONIC in nanoseconds, the clock of ftrace's `mono` and perf's `--clockid=mono`.
/// Signal-safe.
#[must_use]
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let clock = VDSO_CLOCK.load(Relaxed);
    if clock != 0 {
        type Clock = unsafe extern "C" fn(libc::clockid_t, *mut libc::timespec) -> i32;
        // SAFETY: the vDSO's function has this signature (vdso(7)).
        let status =
            unsafe { std::mem::transmute::<usize, Clock>(clock)(libc::CLOCK_MONOTONIC, &raw mut time) };
        if status == 0 {
            return time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
        }
    }
    // SAFETY: the kernel writes one timespec.
    let asked = unsafe {
        sys::syscall3(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC as usize, &raw mut time as usize, 0)
    };
    if asked.is_err() {
        return STOPPED.load(Acquire);
    }
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The calling thread's errno.
#[must_use]
pub fn errno_cell() -> *mut i32 {
    asm::thread_base().wrapping_add(ERRNO_OFFSET.load(Relaxed)) as *mut i32
}
