//! Which random instructions may run in this very process, and what their operands must be made to be.

use iced_x86::{
    FlowControl, Instruction, InstructionInfoFactory, MemorySize, Mnemonic, OpAccess, OpKind, Register,
};
use uprobe::regs::{Reg, Regs};

use crate::insn_native::{CODE_AT, DATA_AT, MEMORY_AT, MEMORY_LEN};

/// Where nothing is mapped.
pub const HOLE: u64 = 0x3000_0000;
const HOLE_LEN: u64 = 0x1000_0000;

/// Not the same twice, or with an effect that outlasts the run.
const FORBIDDEN: &[Mnemonic] = {
    use Mnemonic as M;
    &[
        M::Syscall,
        M::Sysenter,
        M::Sysexit,
        M::Sysret,
        M::Int,
        M::Int1,
        M::Int3,
        M::Into,
        M::Iret,
        M::Iretd,
        M::Iretq,
        M::Vmcall,
        M::Vmmcall,
        M::Vmfunc,
        M::Cpuid,
        M::Rdtsc,
        M::Rdtscp,
        M::Rdrand,
        M::Rdseed,
        M::Rdpid,
        M::Rdpmc,
        M::Rdpru,
        M::Sgdt,
        M::Sidt,
        M::Sldt,
        M::Str,
        M::Smsw,
        M::Wrfsbase,
        M::Wrgsbase,
        M::Rdfsbase,
        M::Rdgsbase,
        M::Wrpkru,
        M::Rdpkru,
        M::Xbegin,
        M::Xend,
        M::Xabort,
        M::Xtest,
        M::Umwait,
        M::Tpause,
        M::Umonitor,
        M::Monitorx,
        M::Mwaitx,
        M::Lfs,
        M::Lgs,
        M::Lss,
        // They note where the last x87 instruction was.
        M::Fnstenv,
        M::Fstenv,
        M::Fnsave,
        M::Fsave,
        M::Fldenv,
        M::Frstor,
        M::Fxsave,
        M::Fxsave64,
        M::Fxrstor,
        M::Fxrstor64,
        M::Xsave,
        M::Xsave64,
        M::Xsavec,
        M::Xsavec64,
        M::Xsaveopt,
        M::Xsaveopt64,
        M::Xsaves,
        M::Xsaves64,
        M::Xrstor,
        M::Xrstor64,
        M::Xrstors,
        M::Xrstors64,
        M::Enter,
        M::Enqcmd,
        M::Enqcmds,
        M::Movdir64b,
        M::Clzero,
        M::Uiret,
        M::Senduipi,
        M::Stui,
        M::Clui,
        M::Testui,
        M::Enclu,
        M::Ldtilecfg,
        M::Sttilecfg,
        M::Tilerelease,
        M::Loadiwkey,
    ]
};

/// The whole of a general register; `None` for others.
pub fn whole(register: Register) -> Option<Reg> {
    Some(match register.full_register() {
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

/// What is known of a run of instructions while it grows.
#[derive(Default)]
pub struct Run {
    /// Bits of the registers that hold what can't be foretold.
    written: u32,
    /// And of those that were given a value, or are in use as an address.
    settled: u32,
    stored: bool,
    /// Of direct branches.
    pub targets: Vec<u64>,
}

const fn bit(reg: Reg) -> u32 {
    1 << reg as u32
}

impl Run {
    /// Makes `insn`, the next of the run, harmless by setting registers; false where that can't be.
    /// `target` is where indirect branches are to lead; `in_hole`: memory operands are to fault.
    pub fn admit(&mut self, insn: &Instruction, regs: &mut Regs, target: u64, in_hole: bool) -> bool {
        if insn.is_invalid() || FORBIDDEN.contains(&insn.mnemonic()) || insn.is_vsib() {
            return false;
        }
        let segments = (0..insn.op_count())
            .any(|op| insn.op_kind(op) == OpKind::Register && insn.op_register(op).is_segment_register());
        let bit_string =
            matches!(insn.mnemonic(), Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc)
                && insn.op0_kind() == OpKind::Memory
                && insn.op1_kind() == OpKind::Register;
        if segments || bit_string || !self.admits_flow(insn, regs, target) {
            return false;
        }
        let mut factory = InstructionInfoFactory::new();
        let info = factory.info(insn);
        let harmless = self.admits_memory(insn, info.used_memory(), regs, in_hole);
        for used in info.used_registers() {
            let writes =
                !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess);
            if let Some(reg) = whole(used.register()).filter(|_| writes) {
                // Pushes and pops move it by little.
                if reg != Reg::Rsp || insn.stack_pointer_increment().abs() == 0 || is_op(insn, Register::RSP)
                {
                    self.written |= bit(reg);
                }
            }
        }
        self.stored |= info.used_memory().iter().any(|memory| memory.access() != OpAccess::Read);
        harmless
    }

    /// Gives a register a value that nothing else has asked for.
    fn settle(&mut self, reg: Reg, value: u64, regs: &mut Regs) -> bool {
        if (self.written | self.settled) & bit(reg) != 0 || reg == Reg::Rsp {
            return regs.get(reg) == value && self.written & bit(reg) == 0;
        }
        self.settled |= bit(reg);
        *regs.get_mut(reg) = value;
        true
    }

    fn admits_flow(&mut self, insn: &Instruction, regs: &mut Regs, target: u64) -> bool {
        match insn.flow_control() {
            FlowControl::Next | FlowControl::Exception => true,
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch | FlowControl::Call => {
                let to = insn.near_branch_target();
                self.targets.push(to);
                let is_near = matches!(insn.op0_kind(), OpKind::NearBranch64);
                // Forwards, or to where there are traps only.
                is_near
                    && (to >= insn.next_ip() || to < CODE_AT + 0x800)
                    && (CODE_AT..CODE_AT + 0x17f0).contains(&to)
            }
            FlowControl::IndirectBranch | FlowControl::IndirectCall => match insn.op0_kind() {
                OpKind::Register if insn.op0_register().is_gpr64() => {
                    whole(insn.op0_register()).is_some_and(|reg| self.settle(reg, target, regs))
                }
                // The caller has put it there.
                OpKind::Memory => !self.stored && insn.memory_size() == MemorySize::QwordOffset,
                _ => false,
            },
            FlowControl::Return => {
                let near = matches!(insn.mnemonic(), Mnemonic::Ret);
                near && !self.stored && self.written == 0
            }
            _ => false,
        }
    }

    fn admits_memory(
        &mut self,
        insn: &Instruction,
        used: &[iced_x86::UsedMemory],
        regs: &mut Regs,
        in_hole: bool,
    ) -> bool {
        const MARGIN: u64 = 0x280;
        for memory in used {
            if matches!(memory.segment(), Register::FS | Register::GS) {
                return false;
            }
            let parts = [memory.base(), memory.index()];
            if parts
                .iter()
                .any(|part| *part != Register::None && whole(*part).is_none() && *part != Register::RIP)
            {
                return false;
            }
            let known = |part: Register| whole(part).is_none_or(|reg| self.written & bit(reg) == 0);
            if !parts.into_iter().all(known) {
                return false;
            }
            let is_operand = insn.memory_base() == memory.base() && insn.memory_index() == memory.index();
            if let (true, Some(base)) = (is_operand, whole(memory.base()))
                && base != Reg::Rsp
                && memory.base().is_gpr64()
            {
                let spread = regs.get(Reg::R11) % 0x800;
                let wanted = if in_hole { HOLE + 0x80_0000 } else { DATA_AT + 0x800 } + (spread & !63);
                let offset = address(memory, regs).wrapping_sub(regs.get(base));
                let _ = self.settle(base, wanted.wrapping_sub(offset), regs);
            }
            let at = address(memory, regs);
            let in_memory = (MEMORY_AT + MARGIN..MEMORY_AT + MEMORY_LEN as u64 - MARGIN).contains(&at);
            if !in_memory && !(HOLE + 0x1000..HOLE + HOLE_LEN - 0x1000).contains(&at) {
                return false;
            }
            for part in parts {
                self.settled |= whole(part).map_or(0, bit);
            }
        }
        true
    }
}

/// Whether the register is written as an operand.
fn is_op(insn: &Instruction, register: Register) -> bool {
    (0..insn.op_count())
        .any(|op| insn.op_kind(op) == OpKind::Register && insn.op_register(op).full_register() == register)
        || matches!(insn.mnemonic(), Mnemonic::Leave)
}

fn address(memory: &iced_x86::UsedMemory, regs: &Regs) -> u64 {
    let value = |register: Register| {
        let all = whole(register).map_or(0, |reg| regs.get(reg));
        match register.size() {
            8 => all,
            4 => all & 0xffff_ffff,
            2 => all & 0xffff,
            1 => all & 0xff,
            _ => 0,
        }
    };
    let sum = value(memory.base())
        .wrapping_add(value(memory.index()).wrapping_mul(memory.scale() as u64))
        .wrapping_add(memory.displacement());
    match memory.address_size() {
        iced_x86::CodeSize::Code32 => sum & 0xffff_ffff,
        _ => sum,
    }
}
