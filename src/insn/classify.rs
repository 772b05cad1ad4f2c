//! How an instruction runs when a breakpoint has taken its place. Runs at registration.

use iced_x86::{Code, ConstantOffsets, CpuidFeature, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::decode::{self, MAX_INSN_LEN};
use super::emulation::Emulation;
use super::lift;
use super::refusal::{InsnRefusal, Obstacle};

/// An instruction that a breakpoint displaces, and all that is needed to run it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DisplacedInsn {
    /// Its length in bytes, 1–15.
    pub len: u8,
    /// Its bytes, then zeros.
    pub bytes: [u8; MAX_INSN_LEN],
    /// Its runtime address.
    pub at: u64,
    /// How it runs.
    pub way: Way,
    pub(super) fixup: Fixup,
}

/// How a displaced instruction runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// By us, on the saved registers.
    Emulate(Emulation),
    /// By the processor, in a slot.
    Slot(SlotKind),
}

/// What running in a slot takes besides the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotKind {
    /// Nothing.
    Plain,
    /// `syscall`: may block, and leaves its own next address in rcx, which must become the
    /// original's.
    Syscall,
    /// May block for long like `syscall` (`int 0x80`), but leaves rcx alone: no second trap with
    /// signals held back.
    Blocking,
}

/// The field of the instruction that depends on its address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fixup {
    None,
    /// 32 bits at this byte, relative to the next instruction.
    Relative(u8),
    /// The same, and the sum is cut to 32 bits (prefix 67).
    RelativeLow32(u8),
    /// Depends on it in other ways: near branches and calls.
    NoCopy,
}

impl DisplacedInsn {
    /// The same at another place, of one whose [`Way`] does not depend on it.
    #[must_use]
    pub const fn at_other(&self, at: u64) -> Self {
        Self { at, ..*self }
    }

    /// Its bytes, no more.
    #[must_use]
    pub fn original(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Its bytes: legacy and REX prefixes, and the rest.
    pub(super) fn split_prefixes(&self) -> (&[u8], &[u8]) {
        let original = self.original();
        original.split_at(prefixes(original).len())
    }

    /// The runtime address of the instruction after it.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.at.wrapping_add(self.len as u64)
    }

    /// Whether a slot can hold it. True of all that don't run by emulation, and of the emulated
    /// ones but relative branches and calls: these may run in a slot where emulating met a fault.
    #[must_use]
    pub const fn can_run_in_slot(&self) -> bool {
        !matches!(self.fixup, Fixup::NoCopy)
    }

    /// It in gas syntax. Allocates: not at a hit.
    #[must_use]
    pub fn text(&self) -> String {
        decode::disassemble(self.original(), self.at)
    }
}

/// Decodes the instruction that starts `bytes` and says how it runs elsewhere.
///
/// `bytes` are the program's own, from the place on: 15 of them, or up to the end of the code.
/// `at` is the runtime address of the first.
///
/// # Errors
/// [`InsnRefusal::Breakpoint`] when an int3 is there, [`InsnRefusal::Undecodable`] when there is
/// no instruction, [`InsnRefusal::Obstructed`] when it can't be displaced.
pub fn classify(bytes: &[u8], at: u64) -> Result<DisplacedInsn, InsnRefusal> {
    const INT3: u8 = 0xcc;
    if bytes.first() == Some(&INT3) {
        return Err(InsnRefusal::Breakpoint);
    }
    let window = bytes.get(..MAX_INSN_LEN).unwrap_or(bytes);
    let undecodable = || InsnRefusal::Undecodable { bytes: window.to_vec() };
    let (insn, offsets) = decode::decode(window, at).ok_or_else(undecodable)?;
    let original = window.get(..insn.len()).ok_or_else(undecodable)?;

    let obstructed = |obstacle| InsnRefusal::Obstructed { insn: decode::text(&insn), obstacle };
    if let Some(obstacle) = obstacle(&insn, original) {
        return Err(obstructed(obstacle));
    }
    let way = match lift::lift(&insn) {
        Some(emulation) => Way::Emulate(emulation),
        None => Way::Slot(slot_kind(&insn).ok_or_else(|| obstructed(Obstacle::UnknownTransfer))?),
    };

    let mut padded = [0; MAX_INSN_LEN];
    padded.iter_mut().zip(original).for_each(|(to, from)| *to = *from);
    Ok(DisplacedInsn { len: insn.len() as u8, bytes: padded, at, way, fixup: fixup(&insn, offsets) })
}

/// What is in the way of displacing it, if anything known is.
fn obstacle(insn: &Instruction, bytes: &[u8]) -> Option<Obstacle> {
    use Mnemonic as M;
    let obstacle = match insn.code() {
        Code::Call_m1616 | Code::Call_m1632 | Code::Call_m1664 => Obstacle::FarTransfer,
        Code::Jmp_m1616 | Code::Jmp_m1632 | Code::Jmp_m1664 => Obstacle::FarTransfer,
        Code::Xbegin_rel16 => Obstacle::ShortTransaction,
        _ => match insn.mnemonic() {
            M::Retf => Obstacle::FarTransfer,
            M::Iret | M::Iretd | M::Iretq => Obstacle::InterruptReturn,
            M::Sysenter | M::Sysexit | M::Sysexitq | M::Sysret | M::Sysretq => Obstacle::SystemTransfer,
            M::Int3 | M::Int1 => Obstacle::TrapOfTheProgram,
            M::Int if insn.immediate8() == 3 => Obstacle::TrapOfTheProgram,
            M::Lss => Obstacle::StackSegment,
            M::Mov if insn.op0_register() == Register::SS => Obstacle::StackSegment,
            M::Enclu => Obstacle::Enclave,
            M::Enqcmd | M::Enqcmds => Obstacle::Enqueue,
            _ if insn.cpuid_features().contains(&CpuidFeature::UINTR) => Obstacle::UserInterrupts,
            M::Loope | M::Loopne if has_repeat(bytes) => Obstacle::RepeatedLoop,
            _ if is_near_branch(insn) => return branch_obstacle(bytes),
            _ => return None,
        },
    };
    Some(obstacle)
}

/// Prefixes that make a near branch mean something else.
fn branch_obstacle(bytes: &[u8]) -> Option<Obstacle> {
    let prefixes = prefixes(bytes);
    // REX.W wins over 66: `66 66 48 e8` is how compilers pad a call of __tls_get_addr.
    let is_wide = prefixes.last().is_some_and(|last| last & 0xf8 == 0x48);
    if prefixes.contains(&0x66) && !is_wide {
        Some(Obstacle::BranchOperandSize)
    } else if prefixes.iter().any(|&prefix| matches!(prefix, 0x64 | 0x65)) && is_ff(bytes, prefixes.len()) {
        Some(Obstacle::SegmentedBranch)
    } else {
        None
    }
}

/// f2 or f3 on loope and loopne: AMD's Zen 4 lets f2 reverse what loope asks of ZF (measured).
fn has_repeat(bytes: &[u8]) -> bool {
    prefixes(bytes).iter().any(|prefix| matches!(prefix, 0xf2 | 0xf3))
}

/// jmp or call through memory, opcode ff; through a register the segment means nothing.
fn is_ff(bytes: &[u8], opcode: usize) -> bool {
    matches!(bytes.get(opcode..), Some([0xff, modrm, ..]) if modrm >> 6 != 3)
}

/// The legacy and REX prefixes that start `bytes`.
fn prefixes(bytes: &[u8]) -> &[u8] {
    let is_prefix = |byte: &u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
    let count = bytes.iter().take_while(|byte| is_prefix(byte)).count();
    bytes.get(..count).unwrap_or_default()
}

/// Near jumps, calls and returns: all that is emulated because it can't run elsewhere.
fn is_near_branch(insn: &Instruction) -> bool {
    match insn.flow_control() {
        FlowControl::UnconditionalBranch
        | FlowControl::IndirectBranch
        | FlowControl::ConditionalBranch
        | FlowControl::IndirectCall => true,
        FlowControl::Call => insn.mnemonic() == Mnemonic::Call,
        FlowControl::Return => insn.mnemonic() == Mnemonic::Ret,
        _ => false,
    }
}

/// What it needs in a slot; `None` when it changes rip.
fn slot_kind(insn: &Instruction) -> Option<SlotKind> {
    use Mnemonic as M;
    let kind = match insn.mnemonic() {
        M::Syscall => SlotKind::Syscall,
        M::Int if insn.immediate8() == 0x80 => SlotKind::Blocking,
        // Traps and faults: the kernel reports the slot's rip, which the handler maps back.
        M::Int | M::Ud0 | M::Ud1 | M::Ud2 => SlotKind::Plain,
        M::Xbegin | M::Xend | M::Xabort => SlotKind::Plain,
        // Fault outside of a hypervisor's kernel, or go on with the next instruction.
        _ if insn.is_privileged() => SlotKind::Plain,
        M::Vmcall | M::Vmmcall => SlotKind::Plain,
        _ if insn.flow_control() == FlowControl::Next => SlotKind::Plain,
        _ => return None,
    };
    Some(kind)
}

/// Which bytes of it change with its address.
fn fixup(insn: &Instruction, offsets: ConstantOffsets) -> Fixup {
    if insn.code() == Code::Xbegin_rel32 {
        return Fixup::Relative(offsets.immediate_offset() as u8);
    }
    if insn.is_ip_rel_memory_operand() {
        let field = offsets.displacement_offset() as u8;
        let is_call = insn.mnemonic() == Mnemonic::Call;
        return match insn.memory_base() {
            _ if is_call => Fixup::NoCopy,
            Register::EIP => Fixup::RelativeLow32(field),
            _ => Fixup::Relative(field),
        };
    }
    let is_relative = insn.op0_kind() == OpKind::NearBranch64;
    if is_relative || insn.mnemonic() == Mnemonic::Call { Fixup::NoCopy } else { Fixup::None }
}
