//! Return probes: register, unregister.

use super::register::{guard, register_all, slice, unregister_all};
use crate::hit::c_structs::{CUprobe, CUretprobe};
use crate::probe::ApiProbe;

/// Registers one return probe.
///
/// # Safety
/// `rp` is null or points to a struct uretprobe that stays unchanged while registered.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn register_uretprobe(rp: *mut CUretprobe) -> libc::c_int {
    // SAFETY: the caller's promise.
    guard(|| unsafe { register_all(&[ApiProbe::Return(rp.cast())]) })
}

/// Takes a return probe out; when it returns, no handler of it runs or will run. Calls under way
/// return unseen.
///
/// # Safety
/// `rp` is null or points to a struct uretprobe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unregister_uretprobe(rp: *mut CUretprobe) -> libc::c_int {
    // SAFETY: the caller's promise.
    guard(|| unsafe { unregister_all(&[rp.cast()]) })
}

/// Registers all, or none.
///
/// # Safety
/// As [`register_uretprobe`], for each of the `n` pointers at `rps`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn register_uretprobes(rps: *mut *mut CUretprobe, n: libc::c_int) -> libc::c_int {
    // SAFETY: the caller's promise.
    guard(|| unsafe {
        let probes: Vec<_> = slice(rps, n)?.iter().map(|rp| ApiProbe::Return(rp.cast())).collect();
        register_all(&probes)
    })
}

/// Takes several out.
///
/// # Safety
/// As [`unregister_uretprobe`], for each of the `n` pointers at `rps`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unregister_uretprobes(rps: *mut *mut CUretprobe, n: libc::c_int) -> libc::c_int {
    // SAFETY: the caller's promise; each struct begins with a struct uprobe.
    guard(|| unsafe { unregister_all(slice(rps.cast::<*mut CUprobe>(), n)?) })
}
