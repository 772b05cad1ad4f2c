//! The stack at a hit: [`crate::unwind`] in this process.

use std::sync::atomic::{AtomicPtr, Ordering::*};

use crate::hit::memory::SafeMemory;
use crate::hit::{objects, slots};
use crate::insn::slot::SlotPc;
use crate::regs::{Memory, Regs};
use crate::unwind::{self, World};

/// Says where a return goes whose address was replaced.
pub type StubResolver = fn(u64) -> Option<u64>;

static STUB_RESOLVER: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// Lets `resolver`, which is signal-safe, tell the landings of return probes from other addresses.
pub fn set_stub_resolver(resolver: StubResolver) {
    STUB_RESOLVER.store(resolver as *mut (), Release);
}

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
        let resolver = STUB_RESOLVER.load(Acquire);
        if resolver.is_null() {
            return None;
        }
        // SAFETY: stored from a StubResolver.
        let resolver = unsafe { std::mem::transmute::<*mut (), StubResolver>(resolver) };
        resolver(pc)
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
