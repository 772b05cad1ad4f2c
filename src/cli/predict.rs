//! How a probe would be made, from the bytes in the file. The library decides the same from
//! the bytes in memory, with the same code.

use crate::addr::LinkAddr;
use crate::elf::{Bounds, ElfFile, Resolved, boundary};
use crate::error::Refusal;
use crate::insn::{self, MAX_INSN_LEN, Way};
use crate::trace::summary::Method;

/// How the instruction that starts `bytes`, at the address `at`, would run once a breakpoint
/// has taken its place.
///
/// # Errors
/// Why it can't.
pub fn method(bytes: &[u8], at: u64) -> Result<Method, Refusal> {
    let insn = insn::classify(bytes, at)?;
    Ok(match insn.way {
        Way::Emulate(_) => Method::Emulate,
        // Nothing in a config asks for a second trap.
        Way::Slot(_) => Method::Boost,
    })
}

/// The same for a place in a file, which must be the first byte of an instruction of the function
/// whose `bounds` are given.
///
/// # Errors
/// Why there can be no probe.
pub fn method_at(file: &ElfFile, link: LinkAddr, bounds: &Bounds) -> Result<Method, Refusal> {
    boundary::check(file, link, bounds)?;
    method(file.bytes_at(link, MAX_INSN_LEN), link.0)
}

/// The same for a place found by its name or offset.
///
/// # Errors
/// Why there can be no probe, or not before the object is loaded (an IFUNC).
pub fn method_of(file: &ElfFile, place: &Resolved) -> Result<Method, Refusal> {
    match &place.bounds {
        _ if place.ifunc => Err(Refusal::IfuncNotReady),
        Some(bounds) => method_at(file, place.link, bounds),
        None => Err(Refusal::NotExecutable { offset: place.offset.0 }),
    }
}

/// For people: what stands in the text, and the way in brackets.
pub const fn word(method: Method) -> &'static str {
    match method {
        Method::Jump => "jump",
        Method::Emulate => "int3 (emulate)",
        Method::Boost => "int3 (boost)",
        Method::Step => "int3 (step)",
    }
}
