//! Reads that can't fault. Safe in handlers.

use crate::hit::memory::SafeMemory;
use crate::regs::Memory;
use crate::runtime::start;

/// Copies up to `n` bytes; how many before the first that can't be read.
///
/// # Safety
/// `dst` has room for `n` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn uprobe_read(
    dst: *mut libc::c_void,
    src: *const libc::c_void,
    n: usize,
) -> libc::c_long {
    if dst.is_null() || n == 0 {
        return 0;
    }
    if start::base().is_err() {
        return 0;
    }
    // SAFETY: the caller's promise.
    let dst = unsafe { std::slice::from_raw_parts_mut(dst.cast::<u8>(), n) };
    SafeMemory.read(src as u64, dst) as libc::c_long
}

/// Copies a string with its NUL, at most `n` bytes with it; its length, or -EFAULT.
///
/// # Safety
/// `dst` has room for `n` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn uprobe_read_string(
    dst: *mut libc::c_char,
    src: *const libc::c_void,
    n: usize,
) -> libc::c_long {
    if dst.is_null() || n == 0 {
        return -libc::c_long::from(libc::EINVAL);
    }
    if start::base().is_err() {
        return -libc::c_long::from(libc::EFAULT);
    }
    // SAFETY: the caller's promise.
    let dst = unsafe { std::slice::from_raw_parts_mut(dst.cast::<u8>(), n) };
    let mut len = 0;
    // A piece never crosses a line of 64 bytes: nothing beyond the string's own page is touched.
    while len < n - 1 {
        let from = (src as u64).wrapping_add(len as u64);
        let piece = (64 - (from as usize & 63)).min(n - 1 - len);
        let got = SafeMemory.read(from, &mut dst[len..len + piece]);
        if let Some(end) = dst[len..len + got].iter().position(|byte| *byte == 0) {
            return (len + end) as libc::c_long;
        }
        len += got;
        if got < piece {
            if len == 0 {
                dst[0] = 0;
                return -libc::c_long::from(libc::EFAULT);
            }
            break;
        }
    }
    dst[len] = 0;
    len as libc::c_long
}
