//! Instructions whose effect is computed on the saved registers, without running them.
//!
//! [`Emulation`] is fixed data, made by `lift` at registration. [`Emulation::run`] runs in the
//! trap handler: no allocation, no lock, no panic.

use super::alu::{BinaryOp, UnaryOp};
use super::operand::{Condition, EffectiveAddress, Source, SubReg, Width};
use crate::regs::{Memory, Reg, Regs};

/// An instruction we can do ourselves.
///
/// What changes rip must be here, since it can't run in a slot: a branch would go elsewhere, a
/// call would push the slot's address. The others are here because no slot and no way back from
/// it is cheaper. Data loads and stores are not: only the stack and branch targets in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Emulation {
    /// No effect: nops of every length, endbr64.
    Nop,
    /// mov, movzx: the source zero-extended to the destination's size.
    Move {
        /// Written.
        dst: SubReg,
        /// Read.
        src: Source,
    },
    /// movsx, movsxd, cbw, cwde, cdqe.
    MoveSigned {
        /// Written.
        dst: SubReg,
        /// Read, and sign-extended from its own size.
        src: SubReg,
    },
    /// cmovcc.
    MoveIf {
        /// When.
        condition: Condition,
        /// Written; with 32 bits its upper half is cleared even when the condition fails.
        dst: SubReg,
        /// Read.
        src: SubReg,
    },
    /// setcc.
    SetIf {
        /// When 1, else 0.
        condition: Condition,
        /// Written.
        dst: SubReg,
    },
    /// cwd, cdq, cqo: rdx becomes the sign of rax.
    SpreadSign {
        /// Of both.
        width: Width,
    },
    /// xchg of two registers.
    Exchange {
        /// One; written last.
        a: SubReg,
        /// The other.
        b: SubReg,
    },
    /// lea.
    Lea {
        /// Written.
        dst: SubReg,
        /// What is written; segments don't count.
        address: EffectiveAddress,
    },
    /// add, adc, sub, sbb, and, or, xor, cmp, test.
    Binary {
        /// Which.
        op: BinaryOp,
        /// First operand, and where the result goes.
        dst: SubReg,
        /// Second operand.
        src: Source,
    },
    /// inc, dec, neg, not.
    Unary {
        /// Which.
        op: UnaryOp,
        /// The operand.
        dst: SubReg,
    },
    /// push of a register or an immediate.
    Push {
        /// What; `push rsp` pushes the value before.
        src: Source,
        /// Word or Qword.
        width: Width,
    },
    /// pop into a register; `pop rsp` ends with the value popped.
    Pop {
        /// Word or Qword.
        dst: SubReg,
    },
    /// leave.
    Leave,
    /// jmp.
    Jump {
        /// Where to.
        target: JumpTarget,
    },
    /// jcc.
    JumpIf {
        /// When.
        condition: Condition,
        /// Where to.
        target: u64,
    },
    /// jrcxz, jecxz.
    JumpIfZero {
        /// rcx or ecx.
        counter: SubReg,
        /// Where to.
        target: u64,
    },
    /// loop, loope, loopne.
    Loop {
        /// rcx or ecx; with ecx the upper half is cleared.
        counter: SubReg,
        /// What must hold besides a counter that is not zero.
        condition: Option<Condition>,
        /// Where to.
        target: u64,
    },
    /// call: pushes the address of the original's next instruction.
    Call {
        /// Where to.
        target: JumpTarget,
    },
    /// ret, also with an immediate.
    Return {
        /// Bytes taken off the stack besides the return address.
        extra: u16,
    },
}

/// Where a jump or call goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JumpTarget {
    /// A relative branch: this runtime address.
    Address(u64),
    /// The register's value.
    Reg(Reg),
    /// What is in memory at this address.
    Memory(EffectiveAddress),
}

/// Memory that the instruction would have faulted on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EmulationFault {
    /// The first byte that could not be accessed.
    pub address: u64,
    /// It was written to.
    pub write: bool,
}

impl Emulation {
    /// Does what the instruction does, and leaves rip where it would have.
    ///
    /// `next` is the runtime address of the instruction after the original.
    ///
    /// A target that is no canonical address is left in rip as it is; the kernel reports it when
    /// the handler returns.
    ///
    /// Context: the trap handler.
    ///
    /// # Errors
    /// When the stack or the target in memory can't be accessed. No register has changed then,
    /// and the real instruction would fault at the same address. A push across the end of the
    /// writable memory may have stored its first bytes below rsp.
    pub fn run(&self, regs: &mut Regs, memory: &dyn Memory, next: u64) -> Result<(), EmulationFault> {
        regs.rip = match *self {
            Self::Push { src, width } => {
                let value = src.get(regs);
                push(regs, memory, width, value)?;
                next
            }
            Self::Pop { dst } => {
                let value = load(memory, regs.rsp, dst.width)?;
                regs.rsp = regs.rsp.wrapping_add(dst.width.bytes());
                dst.set(regs, value);
                next
            }
            Self::Leave => {
                let rbp = load(memory, regs.rbp, Width::Qword)?;
                regs.rsp = regs.rbp.wrapping_add(8);
                regs.rbp = rbp;
                next
            }
            Self::Jump { target } => target.get(regs, memory)?,
            Self::Call { target } => {
                let target = target.get(regs, memory)?;
                push(regs, memory, Width::Qword, next)?;
                target
            }
            Self::Return { extra } => {
                let target = load(memory, regs.rsp, Width::Qword)?;
                regs.rsp = regs.rsp.wrapping_add(8).wrapping_add(u64::from(extra));
                target
            }
            Self::JumpIf { condition, target } if condition.holds(regs.rflags) => target,
            Self::JumpIfZero { counter, target } if counter.get(regs) == 0 => target,
            Self::Loop { counter, condition, target } => {
                let count = counter.get(regs).wrapping_sub(1) & counter.width.mask();
                counter.set(regs, count);
                let holds = match condition {
                    Some(condition) => condition.holds(regs.rflags),
                    None => true,
                };
                if count != 0 && holds { target } else { next }
            }
            Self::JumpIf { .. } | Self::JumpIfZero { .. } => next,
            compute => {
                compute.run_on_registers(regs);
                next
            }
        };
        Ok(())
    }

    /// Those that touch neither memory nor rip.
    #[inline]
    fn run_on_registers(self, regs: &mut Regs) {
        match self {
            Self::Move { dst, src } => dst.set(regs, src.get(regs)),
            Self::MoveSigned { dst, src } => dst.set(regs, src.width.sign_extend(src.get(regs))),
            Self::MoveIf { condition, dst, src } => {
                let from = if condition.holds(regs.rflags) { src } else { dst };
                dst.set(regs, from.get(regs));
            }
            Self::SetIf { condition, dst } => dst.set(regs, u64::from(condition.holds(regs.rflags))),
            Self::SpreadSign { width } => {
                let negative = SubReg::low(Reg::Rax, width).get(regs) & width.sign() != 0;
                SubReg::low(Reg::Rdx, width).set(regs, if negative { u64::MAX } else { 0 });
            }
            Self::Exchange { a, b } => {
                let (old_a, old_b) = (a.get(regs), b.get(regs));
                b.set(regs, old_a);
                a.set(regs, old_b);
            }
            Self::Lea { dst, address } => dst.set(regs, address.get(regs)),
            Self::Binary { op, dst, src } => {
                let (result, rflags) = op.apply(dst.width, dst.get(regs), src.get(regs), regs.rflags);
                if op.writes() {
                    dst.set(regs, result);
                }
                regs.rflags = rflags;
            }
            Self::Unary { op, dst } => {
                let (result, rflags) = op.apply(dst.width, dst.get(regs), regs.rflags);
                dst.set(regs, result);
                regs.rflags = rflags;
            }
            Self::Nop
            | Self::Push { .. }
            | Self::Pop { .. }
            | Self::Leave
            | Self::Jump { .. }
            | Self::JumpIf { .. }
            | Self::JumpIfZero { .. }
            | Self::Loop { .. }
            | Self::Call { .. }
            | Self::Return { .. } => {}
        }
    }
}

impl JumpTarget {
    fn get(self, regs: &Regs, memory: &dyn Memory) -> Result<u64, EmulationFault> {
        match self {
            Self::Address(address) => Ok(address),
            Self::Reg(reg) => Ok(regs.get(reg)),
            Self::Memory(address) => load(memory, address.get(regs), Width::Qword),
        }
    }
}

fn load(memory: &dyn Memory, address: u64, width: Width) -> Result<u64, EmulationFault> {
    let mut word = [0; 8];
    let dst = if width == Width::Word { &mut word[..2] } else { &mut word[..] };
    let len = dst.len();
    match memory.read(address, dst) {
        done if done == len => Ok(u64::from_le_bytes(word)),
        done => Err(EmulationFault { address: address.wrapping_add(done as u64), write: false }),
    }
}

/// Stores below rsp, then moves rsp: on a fault nothing has changed.
fn push(regs: &mut Regs, memory: &dyn Memory, width: Width, value: u64) -> Result<(), EmulationFault> {
    let word = value.to_le_bytes();
    let src = if width == Width::Word { &word[..2] } else { &word[..] };
    let rsp = regs.rsp.wrapping_sub(src.len() as u64);
    match memory.write(rsp, src) {
        done if done == src.len() => {
            regs.rsp = rsp;
            Ok(())
        }
        done => Err(EmulationFault { address: rsp.wrapping_add(done as u64), write: true }),
    }
}
