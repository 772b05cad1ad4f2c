//! From a decoded instruction to the fixed data that emulates it. Runs at registration.

use iced_x86::{ConditionCode, Instruction, Mnemonic, OpKind, Register};

use super::alu::{BinaryOp, UnaryOp};
use super::emulation::{Emulation, JumpTarget};
use super::operand::{Condition, EffectiveAddress, Source, SubReg, Width};
use crate::regs::Reg;

/// The emulation of `insn`; `None` when we have none for it.
///
/// The caller has refused branches with an operand size prefix or a segment.
pub(super) fn lift(insn: &Instruction) -> Option<Emulation> {
    branch(insn).or_else(|| stack(insn)).or_else(|| transfer(insn)).or_else(|| arithmetic(insn))
}

/// Everything that changes rip.
fn branch(insn: &Instruction) -> Option<Emulation> {
    use Mnemonic as M;
    let target = insn.near_branch_target();
    if insn.is_jcc_short_or_near() {
        return Some(Emulation::JumpIf { condition: condition(insn)?, target });
    }
    Some(match insn.mnemonic() {
        M::Jmp => Emulation::Jump { target: jump_target(insn)? },
        M::Call => Emulation::Call { target: jump_target(insn)? },
        M::Ret if insn.op_count() == 0 => Emulation::Return { extra: 0 },
        M::Ret => Emulation::Return { extra: insn.immediate16() },
        M::Jrcxz => Emulation::JumpIfZero { counter: SubReg::whole(Reg::Rcx), target },
        M::Jecxz => Emulation::JumpIfZero { counter: SubReg::low(Reg::Rcx, Width::Dword), target },
        M::Loop | M::Loope | M::Loopne => {
            let condition = match insn.mnemonic() {
                M::Loope => Some(Condition::E),
                M::Loopne => Some(Condition::Ne),
                _ => None,
            };
            Emulation::Loop { counter: loop_counter(insn)?, condition, target }
        }
        _ => return None,
    })
}

fn loop_counter(insn: &Instruction) -> Option<SubReg> {
    use iced_x86::Code as C;
    match insn.code() {
        C::Loop_rel8_64_RCX | C::Loope_rel8_64_RCX | C::Loopne_rel8_64_RCX => Some(SubReg::whole(Reg::Rcx)),
        C::Loop_rel8_64_ECX | C::Loope_rel8_64_ECX | C::Loopne_rel8_64_ECX => {
            Some(SubReg::low(Reg::Rcx, Width::Dword))
        }
        _ => None,
    }
}

fn jump_target(insn: &Instruction) -> Option<JumpTarget> {
    match insn.op0_kind() {
        OpKind::NearBranch64 => Some(JumpTarget::Address(insn.near_branch64())),
        OpKind::Register => {
            let SubReg { reg, width, .. } = sub_reg(insn.op0_register())?;
            (width == Width::Qword).then_some(JumpTarget::Reg(reg))
        }
        OpKind::Memory => Some(JumpTarget::Memory(effective_address(insn)?)),
        _ => None,
    }
}

fn stack(insn: &Instruction) -> Option<Emulation> {
    match insn.mnemonic() {
        Mnemonic::Push => {
            let src = source(insn, 0)?;
            let width = match insn.stack_pointer_increment() {
                -8 => Width::Qword,
                -2 => Width::Word,
                _ => return None,
            };
            Some(Emulation::Push { src, width })
        }
        Mnemonic::Pop => {
            let dst = register(insn, 0)?;
            matches!(dst.width, Width::Word | Width::Qword).then_some(Emulation::Pop { dst })
        }
        Mnemonic::Leave if insn.code() == iced_x86::Code::Leaveq => Some(Emulation::Leave),
        _ => None,
    }
}

/// What moves values, without touching flags.
fn transfer(insn: &Instruction) -> Option<Emulation> {
    use Mnemonic as M;
    let extend = |dst, src| {
        Some(Emulation::MoveSigned { dst: SubReg::low(Reg::Rax, dst), src: SubReg::low(Reg::Rax, src) })
    };
    match insn.mnemonic() {
        // pause is not here: with REX.B it is an xchg on some processors (Zen 4, measured).
        M::Nop | M::Endbr64 | M::Endbr32 => Some(Emulation::Nop),
        M::Mov | M::Movzx => Some(Emulation::Move { dst: register(insn, 0)?, src: source(insn, 1)? }),
        M::Movsx | M::Movsxd => {
            Some(Emulation::MoveSigned { dst: register(insn, 0)?, src: register(insn, 1)? })
        }
        M::Cbw => extend(Width::Word, Width::Byte),
        M::Cwde => extend(Width::Dword, Width::Word),
        M::Cdqe => extend(Width::Qword, Width::Dword),
        M::Cwd => Some(Emulation::SpreadSign { width: Width::Word }),
        M::Cdq => Some(Emulation::SpreadSign { width: Width::Dword }),
        M::Cqo => Some(Emulation::SpreadSign { width: Width::Qword }),
        M::Xchg => Some(Emulation::Exchange { a: register(insn, 0)?, b: register(insn, 1)? }),
        M::Lea => Some(Emulation::Lea { dst: register(insn, 0)?, address: effective_address(insn)? }),
        mnemonic if is_cmov(mnemonic) => Some(Emulation::MoveIf {
            condition: condition(insn)?,
            dst: register(insn, 0)?,
            src: register(insn, 1)?,
        }),
        mnemonic if is_set(mnemonic) => {
            Some(Emulation::SetIf { condition: condition(insn)?, dst: register(insn, 0)? })
        }
        _ => None,
    }
}

fn arithmetic(insn: &Instruction) -> Option<Emulation> {
    use Mnemonic as M;
    let binary = |op| Some(Emulation::Binary { op, dst: register(insn, 0)?, src: source(insn, 1)? });
    let unary = |op| Some(Emulation::Unary { op, dst: register(insn, 0)? });
    match insn.mnemonic() {
        M::Add => binary(BinaryOp::Add),
        M::Adc => binary(BinaryOp::Adc),
        M::Sub => binary(BinaryOp::Sub),
        M::Sbb => binary(BinaryOp::Sbb),
        M::And => binary(BinaryOp::And),
        M::Or => binary(BinaryOp::Or),
        M::Xor => binary(BinaryOp::Xor),
        M::Cmp => binary(BinaryOp::Cmp),
        M::Test => binary(BinaryOp::Test),
        M::Inc => unary(UnaryOp::Inc),
        M::Dec => unary(UnaryOp::Dec),
        M::Neg => unary(UnaryOp::Neg),
        M::Not => unary(UnaryOp::Not),
        _ => None,
    }
}

const fn is_cmov(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Cmovo | M::Cmovno | M::Cmovb | M::Cmovae | M::Cmove | M::Cmovne | M::Cmovbe | M::Cmova | M::Cmovs
    ) || matches!(mnemonic, M::Cmovns | M::Cmovp | M::Cmovnp | M::Cmovl | M::Cmovge | M::Cmovle | M::Cmovg)
}

const fn is_set(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Seto | M::Setno | M::Setb | M::Setae | M::Sete | M::Setne | M::Setbe | M::Seta | M::Sets
    ) || matches!(mnemonic, M::Setns | M::Setp | M::Setnp | M::Setl | M::Setge | M::Setle | M::Setg)
}

fn condition(insn: &Instruction) -> Option<Condition> {
    Some(match insn.condition_code() {
        ConditionCode::o => Condition::O,
        ConditionCode::no => Condition::No,
        ConditionCode::b => Condition::B,
        ConditionCode::ae => Condition::Ae,
        ConditionCode::e => Condition::E,
        ConditionCode::ne => Condition::Ne,
        ConditionCode::be => Condition::Be,
        ConditionCode::a => Condition::A,
        ConditionCode::s => Condition::S,
        ConditionCode::ns => Condition::Ns,
        ConditionCode::p => Condition::P,
        ConditionCode::np => Condition::Np,
        ConditionCode::l => Condition::L,
        ConditionCode::ge => Condition::Ge,
        ConditionCode::le => Condition::Le,
        ConditionCode::g => Condition::G,
        _ => return None,
    })
}

/// Operand `index` when it is a general register.
fn register(insn: &Instruction, index: u32) -> Option<SubReg> {
    if index >= insn.op_count() || insn.op_kind(index) != OpKind::Register {
        return None;
    }
    sub_reg(insn.op_register(index))
}

/// Operand `index` when it is a general register or an immediate.
fn source(insn: &Instruction, index: u32) -> Option<Source> {
    if let Some(reg) = register(insn, index) {
        return Some(Source::Reg(reg));
    }
    insn.try_immediate(index).ok().map(Source::Imm)
}

fn sub_reg(register: Register) -> Option<SubReg> {
    let reg = whole_reg(register.full_register())?;
    let high = matches!(register, Register::AH | Register::BH | Register::CH | Register::DH);
    let width = match register.size() {
        1 => Width::Byte,
        2 => Width::Word,
        4 => Width::Dword,
        8 => Width::Qword,
        _ => return None,
    };
    Some(SubReg { reg, width, high })
}

const fn whole_reg(register: Register) -> Option<Reg> {
    Some(match register {
        Register::RAX => Reg::Rax,
        Register::RBX => Reg::Rbx,
        Register::RCX => Reg::Rcx,
        Register::RDX => Reg::Rdx,
        Register::RSI => Reg::Rsi,
        Register::RDI => Reg::Rdi,
        Register::RBP => Reg::Rbp,
        Register::RSP => Reg::Rsp,
        Register::R8 => Reg::R8,
        Register::R9 => Reg::R9,
        Register::R10 => Reg::R10,
        Register::R11 => Reg::R11,
        Register::R12 => Reg::R12,
        Register::R13 => Reg::R13,
        Register::R14 => Reg::R14,
        Register::R15 => Reg::R15,
        _ => return None,
    })
}

/// The memory operand's address; `None` where it needs what is no general register.
fn effective_address(insn: &Instruction) -> Option<EffectiveAddress> {
    let (base, index) = (insn.memory_base(), insn.memory_index());
    if insn.is_ip_rel_memory_operand() {
        return Some(EffectiveAddress {
            base: None,
            index: None,
            shift: 0,
            narrow: base == Register::EIP,
            displacement: insn.ip_rel_memory_address(),
        });
    }
    let general = |register: Register| match register {
        Register::None => Some(None),
        register => sub_reg(register).map(|sub| Some(sub.reg)),
    };
    let address_size = [base, index].into_iter().find(|register| *register != Register::None);
    Some(EffectiveAddress {
        base: general(base)?,
        index: general(index)?,
        shift: insn.memory_index_scale().trailing_zeros() as u8,
        narrow: match address_size {
            Some(register) => register.size() == 4,
            None => insn.memory_displ_size() == 4,
        },
        displacement: insn.memory_displacement64(),
    })
}
