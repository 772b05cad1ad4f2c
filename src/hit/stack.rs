//! The stack at a hit: [`crate::unwind`] in this process.

use crate::hit::memory::SafeMemory;
use crate::hit::{objects, slots, stubs};
use crate::insn::slot::SlotPc;
use crate::regs::{Memory, Regs};
use crate::unwind::{self, Caller, World};

struct Process;

impl Memory for Process {
    fn read(&self, addr: u64, dst: &mut [u8]) -> usize {
        SafeMemory.read(addr, dst)
    }

    fn write(&self, _addr: u64, _src: &[u8]) -> usize {
        0
    }
}

impl World for Process {
    fn frame_header(&self, pc: u64) -> Option<u64> {
        objects::containing(pc).map(|object| object.frame_header)
    }

    fn real_return(&self, pc: u64) -> Option<u64> {
        stubs::real_return(pc)
    }

    fn original(&self, pc: u64) -> u64 {
        match slots::locate(pc) {
            None => pc,
            Some(found) => match found.pc {
                SlotPc::Before => found.point.at,
                SlotPc::After { .. } => found.point.next(),
            },
        }
    }
}

/// The return addresses of the code at `regs`, innermost first; how many were found. Signal-safe.
pub fn callers(regs: &Regs, out: &mut [u64]) -> usize {
    unwind::walk(regs, &Process, out)
}

/// Gives the frames that `regs` were called from to `visit`, innermost first. Signal-safe.
pub fn each_caller(regs: &Regs, visit: impl FnMut(Caller) -> bool) {
    unwind::each(regs, &Process, visit);
}

/// Whether the function at the return address `ra` must find its stack where it left it when an exception comes through
/// (see [`unwind::catches_by_address`]). Signal-safe.
#[must_use]
pub fn catches_by_address(ra: u64) -> bool {
    unwind::catches_by_address(ra, &Process)
}

/// The registers that tell where the calling function's caller is.
#[inline(always)]
#[must_use]
pub fn here() -> Regs {
    let mut regs = Regs::default();
    // SAFETY: reads registers.
    unsafe {
        std::arch::asm!(
            "lea {0}, [rip]",
            "mov [{1} + 128], {0}",
            "mov [{1} + 120], rsp",
            "mov [{1} + 80], rbp",
            "mov [{1} + 88], rbx",
            "mov [{1} + 32], r12",
            "mov [{1} + 40], r13",
            "mov [{1} + 48], r14",
            "mov [{1} + 56], r15",
            out(reg) _,
            in(reg) &raw mut regs,
            options(nostack, preserves_flags)
        );
    }
    regs
}
