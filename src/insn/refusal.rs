//! Why an instruction is not displaced. Made at registration.

use std::fmt;

use crate::error::Refusal;

/// Why an instruction can't be displaced, or not into this slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InsnRefusal {
    /// The bytes are no instruction we know, or are cut short.
    Undecodable {
        /// The bytes, at most 15.
        bytes: Vec<u8>,
    },
    /// A breakpoint is there already.
    Breakpoint,
    /// Decodes, but neither runs elsewhere nor by our hand.
    Obstructed {
        /// The instruction, disassembled.
        insn: String,
        /// What is in the way.
        obstacle: Obstacle,
    },
    /// Has no form that runs in a slot: it is emulated, never copied.
    EmulatedOnly {
        /// The instruction, disassembled.
        insn: String,
    },
    /// The slot lies further than 2 GiB from what the instruction, or its way back, refers to.
    OutOfReach {
        /// The address referred to.
        target: u64,
        /// The slot's address.
        slot: u64,
    },
}

/// What is in the way of displacing an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Obstacle {
    /// jmp, call or ret far.
    FarTransfer,
    /// iret.
    InterruptReturn,
    /// sysenter, sysexit, sysret.
    SystemTransfer,
    /// `int 3` as two bytes, int1, int3 with prefixes.
    TrapOfTheProgram,
    /// mov to ss, lss: the next instruction belongs to it.
    StackSegment,
    /// A near branch with prefix 66: Intel and AMD differ, even in its length.
    BranchOperandSize,
    /// loope or loopne with prefix f2 or f3: not every processor ignores it.
    RepeatedLoop,
    /// A branch through memory relative to fs or gs.
    SegmentedBranch,
    /// User interrupts: uiret, senduipi and the rest.
    UserInterrupts,
    /// enclu: saves the address after it.
    Enclave,
    /// enqcmd, enqcmds.
    Enqueue,
    /// xbegin with a 16-bit target.
    ShortTransaction,
    /// Changes rip in a way we don't know.
    UnknownTransfer,
    /// A branch of the displaced code into the middle of one of its instructions.
    BranchIntoItself,
    /// call through rsp, or through the stack word that its return address takes.
    CallThroughStack,
    /// Its form elsewhere is longer than the room there.
    NoRoom,
}

impl Obstacle {
    /// The sentence for people.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::FarTransfer => "a far transfer loads the code segment",
            Self::InterruptReturn => "a return from an interrupt loads every part of the processor's state",
            Self::SystemTransfer => "it enters or leaves the kernel by an address of its own",
            Self::TrapOfTheProgram => "it is a breakpoint of the program's own",
            Self::StackSegment => "loading ss holds off traps until the next instruction is done",
            Self::BranchOperandSize => "processors disagree on a branch with an operand size prefix",
            Self::RepeatedLoop => "processors disagree on a conditional loop with a repeat prefix",
            Self::SegmentedBranch => "a branch through fs or gs needs the segment's base",
            Self::UserInterrupts => "user interrupts are not supported",
            Self::Enclave => "entering an enclave saves the address of the next instruction",
            Self::Enqueue => "enqueuing to a device is not supported",
            Self::ShortTransaction => "its abort target is cut to 16 bits",
            Self::UnknownTransfer => "it changes the instruction pointer in a way that is not supported",
            Self::BranchIntoItself => "it branches into the middle of an instruction displaced with it",
            Self::CallThroughStack => "its target lies where its return address goes",
            Self::NoRoom => "its form elsewhere does not fit",
        }
    }
}

impl From<InsnRefusal> for Refusal {
    fn from(refusal: InsnRefusal) -> Self {
        match refusal {
            InsnRefusal::Undecodable { bytes } => Self::Undecodable { bytes },
            InsnRefusal::Breakpoint => Self::ForeignBreakpoint,
            InsnRefusal::Obstructed { insn, obstacle } => {
                Self::InsnNotRelocatable { insn, why: obstacle.why() }
            }
            InsnRefusal::EmulatedOnly { insn } => {
                Self::InsnNotRelocatable { insn, why: "a branch or call can't run from a slot" }
            }
            InsnRefusal::OutOfReach { .. } => Self::NoSlotInReach,
        }
    }
}

impl fmt::Display for InsnRefusal {
    /// As [`Refusal`] says it; out of reach with its addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfReach { target, slot } => {
                write!(f, "no-slot-in-reach: {target:#x} is more than 2 GiB from the slot at {slot:#x}")
            }
            other => Refusal::from(other.clone()).fmt(f),
        }
    }
}

impl std::error::Error for InsnRefusal {}
