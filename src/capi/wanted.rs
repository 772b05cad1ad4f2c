//! Where a caller's struct wants to be.

use std::ffi::CStr;

use super::register::Errno;
use crate::error::Refusal;
use crate::hit::c_structs::CUprobe;
use crate::place::{ObjectPattern, Place, SymbolPattern, Target};
use crate::probe::Registry;

/// Where a struct wants to be.
pub(super) enum Wanted {
    /// An address.
    Address(u64),
    /// What the fields say, and the same as a text.
    Place(Place, String),
}

impl Wanted {
    /// As messages name it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Address(at) => format!("{at:#x}"),
            Self::Place(_, name) => name.clone(),
        }
    }

    /// An address is a file offset in the object that contains it.
    pub(super) fn place(&self, registry: &mut Registry) -> Result<Place, Refusal> {
        match self {
            Self::Place(place, _) => Ok(place.clone()),
            Self::Address(at) => registry.place_of(*at),
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
        (!pointer.is_null()).then(|| CStr::from_ptr(pointer).to_str().map(str::to_owned))
    };
    let pathname = text(pathname).transpose().map_err(|_| -libc::EINVAL)?;
    let symbol = text(symbol).transpose().map_err(|_| -libc::EINVAL)?;
    if symbol.as_deref() == Some("") || pathname.as_deref() == Some("") {
        return Err(-libc::EINVAL);
    }
    let object_text = pathname.clone().unwrap_or_else(|| "exe".to_owned());
    let object = match pathname {
        None => ObjectPattern::Exe,
        Some(path) if path.contains('/') => ObjectPattern::Path(path),
        Some(name) if name == "exe" => ObjectPattern::Exe,
        Some(name) => ObjectPattern::Name(name),
    };
    let (target, tail) = match symbol {
        Some(name) => {
            let tail = if offset == 0 { name.clone() } else { format!("{name}+{:#x}", offset) };
            (Target::Symbol { pattern: SymbolPattern::Exact(name), offset }, tail)
        }
        None => (Target::FileOffset(offset), format!("{:#x}", offset)),
    };
    Ok(Wanted::Place(Place { object, target }, format!("{object_text}:{tail}")))
}
