//! Where a caller's struct wants to be.

use std::ffi::CStr;

use super::register::Errno;
use crate::error::Refusal;
use crate::hit::c_structs::CUprobe;
use crate::place::Label;
use crate::probe::Registry;

/// Where a struct wants to be.
pub(super) enum Wanted {
    /// An address.
    Address(u64),
    /// What the fields say.
    Place(Label),
}

impl Wanted {
    /// An address is a file offset in the object that contains it.
    pub(super) fn label(self, registry: &mut Registry) -> Result<Label, Refusal> {
        match self {
            Self::Place(label) => Ok(label),
            Self::Address(at) => registry.label_of(at),
        }
    }
}

/// Reads the struct's first fields.
///
/// # Safety
/// The strings are null or terminated.
pub(super) unsafe fn describe(up: &CUprobe) -> Result<Wanted, Errno> {
    if up.symbol_name.is_null() && up.pathname.is_null() && !up.addr.is_null() {
        return Ok(Wanted::Address(up.addr as u64));
    }
    // SAFETY: the caller's promise.
    unsafe { describe_place(up.pathname, up.symbol_name, up.offset) }
}

/// The place that an object (null: the program), a symbol (null: none) and an offset mean.
///
/// # Safety
/// As [`describe`].
pub(super) unsafe fn describe_place(
    pathname: *const libc::c_char,
    symbol: *const libc::c_char,
    offset: u64,
) -> Result<Wanted, Errno> {
    // SAFETY: the caller's promise.
    let text = |pointer: *const libc::c_char| unsafe {
        (!pointer.is_null()).then(|| CStr::from_ptr(pointer).to_str())
    };
    let pathname = text(pathname).transpose().map_err(|_| -libc::EINVAL)?;
    let symbol = text(symbol).transpose().map_err(|_| -libc::EINVAL)?;
    if symbol == Some("") || pathname == Some("") {
        return Err(-libc::EINVAL);
    }
    Ok(Wanted::Place(Label::new(pathname, symbol, offset)))
}
