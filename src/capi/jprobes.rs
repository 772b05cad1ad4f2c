//! jprobes: register, unregister, and the way out.

use super::register::{guard, register_all, slice, unregister_all};
use crate::hit::c_structs::{CUjprobe, CUprobe};
use crate::hit::jprobe;
use crate::probe::ApiProbe;

/// Registers one jprobe.
///
/// # Safety
/// `jp` is null or points to a struct ujprobe that stays unchanged while registered, and whose function
/// has the probed one's signature.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn register_ujprobe(jp: *mut CUjprobe) -> libc::c_int {
    // SAFETY: the caller's promise.
    guard(|| unsafe { register_all(&[ApiProbe::Jump(jp.cast())]) })
}

/// Takes a jprobe out; when it returns, its function is not called any more.
///
/// # Safety
/// `jp` is null or points to a struct ujprobe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unregister_ujprobe(jp: *mut CUjprobe) -> libc::c_int {
    // SAFETY: the caller's promise.
    guard(|| unsafe { unregister_all(&[jp.cast()]) })
}

/// Registers all, or none.
///
/// # Safety
/// As [`register_ujprobe`], for each of the `n` pointers at `jps`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn register_ujprobes(jps: *mut *mut CUjprobe, n: libc::c_int) -> libc::c_int {
    // SAFETY: the caller's promise.
    guard(|| unsafe {
        let probes: Vec<_> = slice(jps, n)?.iter().map(|jp| ApiProbe::Jump(jp.cast())).collect();
        register_all(&probes)
    })
}

/// Takes several out.
///
/// # Safety
/// As [`unregister_ujprobe`], for each of the `n` pointers at `jps`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unregister_ujprobes(jps: *mut *mut CUjprobe, n: libc::c_int) -> libc::c_int {
    // SAFETY: the caller's promise; each struct begins with a struct uprobe.
    guard(|| unsafe { unregister_all(slice(jps.cast::<*mut CUprobe>(), n)?) })
}

/// Ends a jprobe's function, from any depth of its calls. Anywhere else it returns and has done nothing.
///
/// # Safety
/// The caller's frames, up to the jprobe's function, need no unwinding.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ujprobe_return() {
    // SAFETY: the caller's promise.
    unsafe { jprobe::leave() };
}
