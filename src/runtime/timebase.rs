//! Which clock latencies are measured with: found once at start, checked at the report.

use std::arch::x86_64::__cpuid;

use crate::hit::ticks;
use crate::runtime::messages::{Level, say};
use crate::sys;

/// What the kernel keeps time with (Documentation/ABI/testing/sysfs-devices-system-clocksource).
const CLOCK_SOURCE: &std::ffi::CStr = c"/sys/devices/system/clocksource/clocksource0/current_clocksource";
/// Leaf of the advanced power management features (AMD APM volume 3, E.4.8; Intel SDM volume 2A, CPUID).
const POWER_MANAGEMENT: u32 = 0x8000_0007;
/// In its EDX: the counter runs at one rate in all states of the processor.
const INVARIANT_TSC: u32 = 1 << 8;
/// A difference worth a word: half a percent.
const NOTABLE_PPM: u64 = 5000;
/// In a shorter run the two pairs' own errors show.
const SHORTEST_NS: u64 = 10_000_000;

/// Decides, and takes the first pair of the calibration. Called once at start, after the clock's.
pub fn start() {
    ticks::start(is_invariant() && is_trusted_by_kernel() && is_allowed());
}

fn is_invariant() -> bool {
    let last = __cpuid(0x8000_0000).eax;
    last >= POWER_MANAGEMENT && __cpuid(POWER_MANAGEMENT).edx & INVARIANT_TSC != 0
}

/// Linux compares the counters of all processors with each other and with another clock, at boot and
/// later, and takes `tsc` for its clock only while they agree. Nothing else will do: kvm-clock and Hyper-V's
/// page are counters too, but those whose rate and offset may change under the machine (migration), and
/// the program would not be told.
fn is_trusted_by_kernel() -> bool {
    sys::read_whole(CLOCK_SOURCE).is_ok_and(|name| name.trim_ascii() == b"tsc")
}

/// rdtsc raises SIGSEGV in a process that asked for it (PR_SET_TSC; inherited over execve).
fn is_allowed() -> bool {
    sys::tsc_mode() == Some(libc::PR_TSC_ENABLE)
}

/// Says so where latencies can't be right: the counter was changed under us (suspend, a migrated or
/// paused virtual machine).
pub fn warn_of_drift() {
    let Some(drift) = ticks::drift().filter(|drift| drift.clock_ns >= SHORTEST_NS) else { return };
    let ppm = drift.ppm();
    if ppm > NOTABLE_PPM {
        say(
            Level::Warn,
            &format!(
                "the processor's time stamp counter is {}.{} % off the clock after {} ms: latencies may be \
                 wrong, counts are not",
                ppm / 10_000,
                ppm % 10_000 / 1000,
                drift.clock_ns / 1_000_000
            ),
        );
    }
}
