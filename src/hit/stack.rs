//! The stack at a hit: [`crate::unwind`] in this process.

use crate::hit::memory::SafeMemory;
use crate::hit::{objects, slots, stubs};
use crate::insn::slot::SlotPc;
use crate::regs::{Memory, Regs};
use crate::unwind::{self, World};

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
