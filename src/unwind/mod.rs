//! A thread's stack from its registers: the return addresses, innermost first.
//!
//! ```text
//!   Frame ─ signal::interrupted   the code a signal handler returns to: registers from the kernel's frame
//!         ├ table + rules         .eh_frame: what compilers write about every function (gimli)
//!         └ plain::caller         no description: what looks like a return address, or rbp's chain
//!         = Frame of the caller
//! ```
//!
//! Fit for a signal handler of somebody else's program: no allocation, no lock, no thread-local storage,
//! some seven kilobytes of stack. Everything is read through [`Memory`], whose reads fail instead of faulting:
//! the unwind tables too, whose object may be unloaded meanwhile. Registers, stacks and tables may hold
//! anything: the walk then ends early.

mod plain;
mod rules;
mod signal;
mod table;
#[cfg(test)]
mod tests;

use crate::regs::{Memory, Regs};

/// What a walk has to know of the process. All signal-safe.
pub trait World: Memory {
    /// Address of the `.eh_frame_hdr` of the object whose memory contains `pc`.
    fn frame_header(&self, pc: u64) -> Option<u64>;
    /// Where a return goes in truth, where `pc` is the landing of a return probe.
    fn real_return(&self, pc: u64) -> Option<u64>;
    /// The place in the program that code at `pc` stands for: another one only in an out-of-line slot.
    fn original(&self, pc: u64) -> u64;
}

/// Number of rsp in DWARF (System V ABI, figure 3.36).
const RSP: usize = 7;
/// Number of rbp.
const RBP: usize = 6;
/// Number of the return address: the caller's rip.
const RIP: usize = 16;
/// How many registers are followed.
const REGISTERS: usize = 17;

/// A function's registers, by DWARF's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Frame {
    regs: [u64; REGISTERS],
    /// rip is where the thread was, not the return address of a call. That one may lie behind the
    /// function's end: the call before it is what its description covers.
    is_exact: bool,
}

impl Frame {
    fn new(regs: &Regs) -> Self {
        let Regs {
            rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15, rip, ..
        } = *regs;
        Self {
            regs: [rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15, rip],
            is_exact: true,
        }
    }

    fn rip(&self) -> u64 {
        self.regs[RIP]
    }

    fn rsp(&self) -> u64 {
        self.regs[RSP]
    }

    /// The address to look descriptions up with.
    fn covered(&self) -> u64 {
        self.rip().wrapping_sub(u64::from(!self.is_exact))
    }
}

/// Fills `out` with the address the code at `regs.rip` returns to, the one that its caller returns to, and
/// so on; how many they are. A signal handler's is the restorer, and behind it comes the interrupted
/// instruction. Signal-safe.
pub fn walk(regs: &Regs, world: &impl World, out: &mut [u64]) -> usize {
    let mut frame = Frame::new(regs);
    let mut count = 0;
    match world.real_return(frame.rip()) {
        // The function has returned already, to the probe: its caller's frame is the current one.
        Some(real) => {
            frame.regs[RIP] = real;
            frame.is_exact = false;
            if let Some(first) = out.first_mut() {
                *first = real;
                count = 1;
            }
        }
        None => frame.regs[RIP] = world.original(frame.rip()),
    }
    each_caller(frame, world, |caller| {
        let Some(cell) = out.get_mut(count) else { return false };
        *cell = caller.rip;
        count += 1;
        true
    });
    count
}

/// Whether the function that a call returns to at `ra` may find by its stack's address what an exception is to do: it has
/// a personality routine, which is given no table (`P` and no `L` in the augmentation). Signal-safe.
#[must_use]
pub fn catches_by_address(ra: u64, world: &impl World) -> bool {
    let call = ra.wrapping_sub(1);
    let augmentation = world.frame_header(call).and_then(|header| table::augmentation(header, call, world));
    augmentation.is_some_and(|bytes| {
        let mut letters = bytes.iter().take_while(|byte| **byte != 0);
        letters.clone().any(|letter| *letter == b'P') && letters.all(|letter| *letter != b'L')
    })
}

/// A frame that a walk comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// Where it goes on, in the program.
    pub rip: u64,
    /// The same as it stands on the stack, where a return probe may have changed it.
    pub found: u64,
    /// Its rsp: a call's return address is the word below.
    pub rsp: u64,
}

/// Gives the frames that `regs` were called from to `visit`, innermost first, as long as it says so.
/// Signal-safe.
pub fn each(regs: &Regs, world: &impl World, visit: impl FnMut(Caller) -> bool) {
    each_caller(Frame::new(regs), world, visit);
}

fn each_caller(mut frame: Frame, world: &impl World, mut visit: impl FnMut(Caller) -> bool) {
    while let Some(mut caller) = caller(&frame, world) {
        let found = caller.rip();
        caller.regs[RIP] = match world.real_return(found) {
            Some(real) if !caller.is_exact => real,
            _ => world.original(found),
        };
        // A frame that is its own caller is no frame.
        if caller.rip() == 0 || (caller.rip(), caller.rsp()) == (frame.rip(), frame.rsp()) {
            return;
        }
        if !visit(Caller { rip: caller.rip(), found, rsp: caller.rsp() }) {
            return;
        }
        frame = caller;
    }
}

fn caller(frame: &Frame, world: &impl World) -> Option<Frame> {
    if let Some(interrupted) = signal::interrupted(frame, world) {
        return Some(interrupted);
    }
    let described = world
        .frame_header(frame.covered())
        .map_or(rules::Found::Nothing, |header| rules::caller(frame, header, world));
    match described {
        rules::Found::Caller(caller) => Some(caller),
        rules::Found::End => None,
        rules::Found::Nothing => plain::caller(frame, world),
    }
}
