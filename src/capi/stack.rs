//! The stack. Safe in handlers.

use crate::hit::stack;
use crate::regs::Regs;
use crate::runtime::start;

/// Fills `buf` with up to `n` return addresses of the code at `regs`, innermost first; how many they are,
/// or -EINVAL where a pointer is null.
///
/// # Safety
/// `regs` points to a struct uprobe_regs, `buf` has room for `n` pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn uprobe_stack(
    regs: *const Regs,
    buf: *mut *mut libc::c_void,
    n: usize,
) -> libc::c_long {
    if regs.is_null() || buf.is_null() {
        return -libc::c_long::from(libc::EINVAL);
    }
    if start::base().is_err() {
        return 0;
    }
    let n = n.min(isize::MAX as usize / size_of::<u64>());
    // SAFETY: the caller's promise; a pointer is a word.
    let out = unsafe { std::slice::from_raw_parts_mut(buf.cast::<u64>(), n) };
    // SAFETY: the caller's promise.
    let regs = unsafe { *regs };
    stack::callers(&regs, out) as libc::c_long
}
