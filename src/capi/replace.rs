//! A function's calls go elsewhere.

use super::register::{Errno, guard, locked};
use super::wanted::describe_place;
use crate::hit::memory::SafeMemory;
use crate::regs::Memory;
use crate::runtime::start;

/// Sends calls of `symbol` in `pathname` to `replacement`, or, where that is null, to the function again.
/// An address that calls the function itself is stored at `original`, unless that is null.
///
/// # Safety
/// `pathname` and `symbol` are null or strings; `replacement` has the function's signature.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn uprobe_replace(
    pathname: *const libc::c_char,
    symbol: *const libc::c_char,
    replacement: *mut libc::c_void,
    original: *mut *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the caller's promise.
    guard(|| unsafe { replace(pathname, symbol, replacement as u64, original as u64) })
}

unsafe fn replace(
    pathname: *const libc::c_char,
    symbol: *const libc::c_char,
    replacement: u64,
    original: u64,
) -> Result<(), Errno> {
    if symbol.is_null() {
        return Err(-libc::EINVAL);
    }
    // SAFETY: the caller's promise.
    let wanted = unsafe { describe_place(pathname, symbol, 0) }?;
    start::engine()?;
    let store = |address: u64| match original {
        0 => Ok(()),
        to if SafeMemory.write(to, &address.to_le_bytes()) == 8 => Ok(()),
        _ => Err(-libc::EFAULT),
    };
    locked(|registry| {
        let label = wanted.label(registry).map_err(|refusal| refusal.errno())?;
        match replacement {
            0 => registry.end_replacement(label),
            to => registry.replace(label, to, store),
        }
    })?
}
