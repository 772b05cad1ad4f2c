//! Stamps for latencies: the time stamp counter where it is a clock, CLOCK_MONOTONIC where it is not.
//!
//! ```text
//!   start()                calibrate()                              drift()
//!   (tsc, ns) ── >= 1 ms ── (tsc, ns) ────── latencies ──────────── (tsc, ns)
//!       └──── MULT / 2^32 ─────┘                                        │
//!       └──────────────── does it still hold over the whole run? ───────┘
//! ```
//!
//! Whether the counter can be trusted is found out by `runtime::timebase`, once, at start. Generated
//! code may read [`TICKS_ARE_TSC`], [`TICKS_MULT`] and [`TICKS_SHIFT`] itself.

use std::arch::x86_64::{_mm_lfence, _rdtsc};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use crate::hit::clock;
use crate::regs::Regs;

/// Nanoseconds of one tick are [`TICKS_MULT`] / 2^this.
pub const TICKS_SHIFT: u32 = 32;
/// The rate of a clock whose ticks are nanoseconds.
const ONE_NS: u64 = 1 << TICKS_SHIFT;
/// How far apart the two pairs of the calibration are at least: each is known to some tens of
/// nanoseconds, so the rate is to about a hundred parts in a million.
const CALIBRATION_NS: u64 = 1_000_000;
/// Tries for one pair, of which the tightest counts.
const TRIES: u32 = 16;
/// No processor's counter is slower (Hz)…
const SLOWEST: u64 = 100_000_000;
/// … so [`TICKS_MULT`] is no more than this (and what rounding adds).
pub const GREATEST_MULT: u64 = ONE_NS * (1_000_000_000 / SLOWEST) + 1;
/// …or faster.
const FASTEST: u64 = 20_000_000_000;

/// 1: [`ticks`] reads the time stamp counter. Changes (to 0) in [`calibrate`] at most.
pub static TICKS_ARE_TSC: AtomicU32 = AtomicU32::new(0);
/// Nanoseconds of 2^[`TICKS_SHIFT`] ticks.
pub static TICKS_MULT: AtomicU64 = AtomicU64::new(ONE_NS);

/// The first pair; zeros where ticks are nanoseconds.
static START: (AtomicU64, AtomicU64) = (AtomicU64::new(0), AtomicU64::new(0));
/// [`CALIBRATED`] once the rate is known.
static STATE: AtomicU32 = AtomicU32::new(UNKNOWN);
const UNKNOWN: u32 = 0;
const CALIBRATING: u32 = 1;
const CALIBRATED: u32 = 2;

/// One moment on both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pair {
    /// The counter.
    pub tsc: u64,
    /// CLOCK_MONOTONIC, ns.
    pub ns: u64,
}

/// How far the counter, at its calibrated rate, is from the clock by now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drift {
    /// Since [`start`] by the counter, ns.
    pub counted_ns: u64,
    /// Since [`start`] by CLOCK_MONOTONIC, ns.
    pub clock_ns: u64,
}

impl Drift {
    /// The difference in parts per million of the clock.
    #[must_use]
    pub fn ppm(&self) -> u64 {
        let difference = u128::from(self.counted_ns.abs_diff(self.clock_ns));
        let ppm = difference * 1_000_000 / u128::from(self.clock_ns.max(1));
        u64::try_from(ppm).unwrap_or(u64::MAX)
    }
}

/// A stamp; [`ticks_to_ns`] of the difference of two is the time between them. Not ordered with the
/// instructions around it (some ten nanoseconds). Signal-safe, no system call where the vDSO has a clock.
#[inline]
#[must_use]
pub fn ticks() -> u64 {
    if TICKS_ARE_TSC.load(Relaxed) != 0 {
        // SAFETY: every x86-64 processor has rdtsc; that this process may use it was checked at start.
        return unsafe { _rdtsc() };
    }
    clock::now_ns()
}

/// The nanoseconds of `delta` ticks, rounded down; u64::MAX where they are more. Meaningful after
/// [`calibrate`]. Signal-safe.
#[inline]
#[must_use]
pub fn ticks_to_ns(delta: u64) -> u64 {
    scale(delta, TICKS_MULT.load(Relaxed))
}

#[inline]
fn scale(delta: u64, mult: u64) -> u64 {
    let ns = (u128::from(delta) * u128::from(mult)) >> TICKS_SHIFT;
    if ns > u128::from(u64::MAX) { u64::MAX } else { ns as u64 }
}

/// The rate by two moments, or `None` where no processor has such a one.
fn rate(from: Pair, to: Pair) -> Option<u64> {
    let ticks = to.tsc.checked_sub(from.tsc).filter(|&ticks| ticks > 0)?;
    let ns = to.ns.checked_sub(from.ns).filter(|&ns| ns > 0)?;
    let hz = u128::from(ticks) * 1_000_000_000 / u128::from(ns);
    if !(u128::from(SLOWEST)..=u128::from(FASTEST)).contains(&hz) {
        return None;
    }
    // Rounded: over days half a unit is more than the calibration's own error, but not much.
    let mult = ((u128::from(ns) << TICKS_SHIFT) + u128::from(ticks / 2)) / u128::from(ticks);
    u64::try_from(mult).ok()
}

/// Both clocks now: the tightest of several reads, the counter's value in the middle of it.
fn pair() -> Pair {
    let mut best = Pair { tsc: 0, ns: 0 };
    let mut tightest = u64::MAX;
    for _ in 0..TRIES {
        let before = ordered_tsc();
        let ns = clock::now_ns();
        let width = ordered_tsc().wrapping_sub(before);
        if width < tightest {
            tightest = width;
            best = Pair { tsc: before.wrapping_add(width / 2), ns };
        }
    }
    best
}

fn ordered_tsc() -> u64 {
    // SAFETY: as in ticks(); SSE2 is part of x86-64.
    unsafe {
        _mm_lfence();
        let tsc = _rdtsc();
        _mm_lfence();
        tsc
    }
}

/// Takes the first pair, if the counter can be trusted. Called once at start, after [`clock::start`].
pub fn start(is_trusted: bool) {
    if !is_trusted {
        STATE.store(CALIBRATED, Release);
        return;
    }
    let first = pair();
    START.0.store(first.tsc, Relaxed);
    START.1.store(first.ns, Relaxed);
    TICKS_ARE_TSC.store(1, Release);
}

/// Finds the rate: called before the first stamp is taken, from any thread, any number of times; the first
/// call after [`start`] may spin for up to a millisecond. A counter that turns out to be none is given
/// up for CLOCK_MONOTONIC. Signal-safe.
pub fn calibrate() {
    match STATE.compare_exchange(UNKNOWN, CALIBRATING, AcqRel, Acquire) {
        Ok(_) => {}
        Err(CALIBRATED) => return,
        Err(_) => {
            // Another thread is at it. In a child forked in the middle of that nobody is: its own
            // attempt gives the same.
            let begun = clock::now_ns();
            while STATE.load(Acquire) != CALIBRATED
                && clock::now_ns().wrapping_sub(begun) < CALIBRATION_NS * 2
            {
                std::hint::spin_loop();
            }
            if STATE.load(Acquire) == CALIBRATED {
                return;
            }
        }
    }
    let first = first_pair();
    while clock::now_ns().wrapping_sub(first.ns) < CALIBRATION_NS {
        std::hint::spin_loop();
    }
    match rate(first, pair()) {
        Some(mult) => TICKS_MULT.store(mult, Release),
        None => TICKS_ARE_TSC.store(0, Release),
    }
    STATE.store(CALIBRATED, Release);
}

/// Where our own instructions are, once the counter may not be read any more.
static OWN: (AtomicU64, AtomicU64) = (AtomicU64::new(0), AtomicU64::new(0));

/// From now on the processor refuses to read the counter (prctl(PR_SET_TSC), SECCOMP_MODE_STRICT): in `low..high`, our
/// own code, [`emulate`] does.
pub fn lose_counter(low: u64, high: u64) {
    clock::lose_counter();
    OWN.0.store(low, Relaxed);
    OWN.1.store(high, Release);
}

/// At a general-protection fault: whether it is our own reading of the counter, which gets what the clock says.
/// Signal-safe.
pub fn emulate(regs: &mut Regs) -> bool {
    const RDTSC: [u8; 2] = [0x0F, 0x31];
    const RDTSCP: [u8; 3] = [0x0F, 0x01, 0xF9];
    if !(OWN.0.load(Relaxed)..OWN.1.load(Acquire)).contains(&regs.rip) {
        return false;
    }
    // SAFETY: our own code, and no instruction is its last.
    let code = unsafe { std::slice::from_raw_parts(regs.rip as *const u8, RDTSCP.len()) };
    let len = if code.starts_with(&RDTSC) {
        RDTSC.len()
    } else if code == RDTSCP {
        regs.rcx = 0;
        RDTSCP.len()
    } else {
        return false;
    };
    let (first, mult) = (first_pair(), TICKS_MULT.load(Relaxed).max(1));
    let ns = u128::from(clock::now_ns().saturating_sub(first.ns));
    let ticks = first.tsc.wrapping_add(((ns << TICKS_SHIFT) / u128::from(mult)) as u64);
    (regs.rax, regs.rdx) = (ticks & 0xFFFF_FFFF, ticks >> 32);
    regs.rip += len as u64;
    true
}

fn first_pair() -> Pair {
    Pair { tsc: START.0.load(Relaxed), ns: START.1.load(Relaxed) }
}

/// The counter against the clock since [`start`]; `None` where no stamp of the counter can have been taken.
#[must_use]
pub fn drift() -> Option<Drift> {
    if STATE.load(Acquire) != CALIBRATED || TICKS_ARE_TSC.load(Acquire) == 0 {
        return None;
    }
    let (first, now) = (first_pair(), pair());
    Some(Drift {
        // A counter that was set back (resume from suspend) is as far off as can be.
        counted_ns: now.tsc.checked_sub(first.tsc).map_or(0, ticks_to_ns),
        clock_ns: now.ns.saturating_sub(first.ns),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const DAY: u64 = 86_400 * SECOND;

    fn mult(hz: u64) -> u64 {
        let (from, to) = (Pair { tsc: 7, ns: 9 }, Pair { tsc: 7 + hz, ns: 9 + SECOND });
        rate(from, to).expect("a processor's rate")
    }

    #[test]
    fn scale_is_exact_for_nanosecond_ticks() {
        for delta in [0, 1, 999, SECOND, DAY * 365, u64::MAX] {
            assert_eq!(scale(delta, ONE_NS), delta);
        }
    }

    #[test]
    fn scale_holds_for_days_at_every_rate() {
        for hz in [SLOWEST, 999_999_999, 2_445_406_000, 3_000_000_001, 5_700_000_000, FASTEST] {
            let mult = mult(hz);
            for seconds in [1, 60, 86_400, 86_400 * 30, 86_400 * 365] {
                let (ns, right) = (scale(hz * seconds, mult), seconds * SECOND);
                // 2^-32 of a nanosecond per tick, for 20 GHz at most: five in a hundred million.
                assert!(ns.abs_diff(right) <= right / 10_000_000 + 1, "{hz} Hz, {seconds} s: {ns}");
            }
        }
    }

    #[test]
    fn scale_is_monotonic_and_saturates() {
        let mult = mult(SLOWEST);
        assert_eq!(scale(u64::MAX, mult), u64::MAX);
        assert_eq!(scale(u64::MAX / 10, mult), u64::MAX - 5);
        for delta in 0..1000 {
            assert!(scale(delta, mult) <= scale(delta + 1, mult));
        }
    }

    #[test]
    fn rate_refuses_what_is_no_clock() {
        let first = Pair { tsc: 1000, ns: 1000 };
        for (tsc, ns) in [
            (1000, SECOND),                        // stands still
            (999, SECOND),                         // runs backward
            (1_000_000, 1000),                     // the clock stands still
            (1_000_000, 999),                      // the clock runs backward
            (SLOWEST / 2, SECOND),                 // too slow
            (FASTEST + FASTEST / 100, SECOND + 1), // too fast
            (u64::MAX, 1001),                      // beyond 64 bits of Hz
        ] {
            assert_eq!(rate(first, Pair { tsc, ns }), None, "{tsc} {ns}");
        }
    }

    #[test]
    fn drift_is_told_in_ppm_of_the_clock() {
        for (counted_ns, clock_ns, ppm) in [
            (SECOND, SECOND, 0),
            (SECOND + 5_000_000, SECOND, 5000),
            (SECOND - 5_000_000, SECOND, 5000),
            (0, DAY, 1_000_000),
            (1, 0, 1_000_000),
            (u64::MAX, 1, u64::MAX),
        ] {
            assert_eq!(Drift { counted_ns, clock_ns }.ppm(), ppm, "{counted_ns} {clock_ns}");
        }
    }
}
