//! A few instructions as bytes, with what the stack is like at each of them.
//!
//! Code in a detour uses one register, rax, which it has pushed before. Who is interrupted there must be
//! seen with the program's own rsp and rax: the same emitter, run again, tells how both were at any of its
//! instructions, so that nothing has to be kept for it.

use crate::regs::Reg;

/// Code of at most this length.
pub const MOST_CODE: usize = 512;

/// The stack at an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StackState {
    /// rsp is less than the program's by so much.
    pub below: u64,
    /// So far below the program's rsp its rax is, where that is on the stack and not in rax.
    pub rax: Option<u64>,
}

/// The low half of the opcode of a `jcc` (SDM vol. 2, B.1.4.7).
pub type ConditionCode = u8;
/// `jz`
pub const ZERO: ConditionCode = 0x4;
/// `jnz`
pub const NOT_ZERO: ConditionCode = 0x5;

/// How far a branch may lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Span {
    /// 127 bytes.
    Short,
    /// Anywhere.
    Near,
}

/// A branch whose target is not known yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Branch {
    end: usize,
    span: Span,
}

/// Instructions, appended one after the other.
pub struct Emitter {
    code: [u8; MOST_CODE],
    len: usize,
    state: StackState,
    /// The instruction of which the stack is wanted: where it begins, and what was found.
    wanted: usize,
    found: StackState,
}

impl Emitter {
    /// Nothing yet. The stack at the instruction that begins at `wanted` is [`Emitter::found`].
    #[must_use]
    pub const fn new(wanted: usize) -> Self {
        let nothing = StackState { below: 0, rax: None };
        Self { code: [0xCC; MOST_CODE], len: 0, state: nothing, wanted, found: nothing }
    }

    /// One instruction of these pieces; what does not fit is not there, and [`Emitter::finish`] says so.
    pub fn insn(&mut self, pieces: &[&[u8]]) {
        if self.len == self.wanted {
            self.found = self.state;
        }
        for piece in pieces {
            if let Some(to) = self.code.get_mut(self.len..self.len + piece.len()) {
                to.copy_from_slice(piece);
            }
            self.len += piece.len();
        }
    }

    /// What is no instruction.
    pub fn data(&mut self, bytes: &[u8]) {
        self.insn(&[bytes]);
    }

    /// Where the next instruction begins.
    #[must_use]
    pub const fn here(&self) -> usize {
        self.len
    }

    /// The stack there.
    #[must_use]
    pub const fn state(&self) -> StackState {
        self.state
    }

    /// The same, where it is reached by a branch only.
    pub const fn set_state(&mut self, state: StackState) {
        self.state = state;
    }

    /// The stack at the instruction that was asked for.
    #[must_use]
    pub const fn found(&self) -> StackState {
        self.found
    }

    /// The code; `None`: it was too much.
    #[must_use]
    pub fn finish(&self) -> Option<&[u8]> {
        self.code.get(..self.len)
    }

    /// `lea rsp, [rsp - 128]`
    pub fn skip_red_zone(&mut self) {
        self.insn(&[&[0x48, 0x8d, 0x64, 0x24, 0x80]]);
        self.state.below += 128;
    }

    /// `lea rsp, [rsp + 128]`
    pub fn unskip_red_zone(&mut self) {
        self.insn(&[&[0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0]]);
        self.state.below -= 128;
    }

    /// `push rax`: the first time, the program's.
    pub fn push_rax(&mut self) {
        self.insn(&[&[0x50]]);
        self.state.below += 8;
        self.state.rax = self.state.rax.or(Some(self.state.below));
    }

    /// `pop rax`
    pub fn pop_rax(&mut self) {
        self.insn(&[&[0x58]]);
        self.state.rax = self.state.rax.filter(|depth| *depth != self.state.below);
        self.state.below -= 8;
    }

    /// `jcc`, or without a condition `jmp`, to somewhere further on.
    pub fn branch(&mut self, condition: Option<ConditionCode>, span: Span) -> Branch {
        match (condition, span) {
            (Some(condition), Span::Short) => self.insn(&[&[0x70 | condition, 0]]),
            (None, Span::Short) => self.insn(&[&[0xeb, 0]]),
            (Some(condition), Span::Near) => self.insn(&[&[0x0f, 0x80 | condition, 0, 0, 0, 0]]),
            (None, Span::Near) => self.insn(&[&[0xe9, 0, 0, 0, 0]]),
        }
        Branch { end: self.len, span }
    }

    /// The branch leads here.
    pub fn link(&mut self, branch: Branch) {
        let distance = ((self.len - branch.end) as u32).to_le_bytes();
        let size = match branch.span {
            Span::Short => 1,
            Span::Near => 4,
        };
        if let (Some(to), Some(distance)) =
            (self.code.get_mut(branch.end - size..branch.end), distance.get(..size))
        {
            to.copy_from_slice(distance);
        }
    }

    /// `mov rax, imm64`
    pub fn load_constant(&mut self, constant: u64) {
        self.insn(&[&[0x48, 0xb8], &constant.to_le_bytes()]);
    }

    /// `mov rax, fs:[offset]`
    pub fn load_thread_word(&mut self, offset: i32) {
        self.insn(&[&[0x64, 0x48, 0x8b, 0x04, 0x25], &offset.to_le_bytes()]);
    }

    /// `add rax, fs:[offset]`
    pub fn add_thread_word(&mut self, offset: i32) {
        self.insn(&[&[0x64, 0x48, 0x03, 0x04, 0x25], &offset.to_le_bytes()]);
    }

    /// `test rax, rax`
    pub fn test_rax(&mut self) {
        self.insn(&[&[0x48, 0x85, 0xc0]]);
    }

    /// `inc qword ptr [rax + offset]`
    pub fn increment(&mut self, offset: u32) {
        self.insn(&[&[0x48, 0xff, 0x80], &offset.to_le_bytes()]);
    }

    /// The program's `reg` into rax. `None`: there is no code for it, as of rip and the flags.
    pub fn load_register(&mut self, reg: Reg) -> Option<()> {
        match (reg, number(reg), self.state) {
            (Reg::Rax, _, StackState { below, rax: Some(depth) }) => {
                self.insn(&[&[0x48, 0x8b, 0x84, 0x24], &((below - depth) as u32).to_le_bytes()]);
            }
            (Reg::Rsp, _, StackState { below, .. }) => {
                self.insn(&[&[0x48, 0x8d, 0x84, 0x24], &(below as u32).to_le_bytes()]);
            }
            (_, Some(number), _) => self.insn(&[&[0x48 | number >> 3, 0x8b, 0xc0 | number & 7]]),
            _ => return None,
        }
        Some(())
    }
}

/// A register's number in an instruction, of those that hold the program's value: all but rax and rsp.
#[must_use]
pub const fn number(reg: Reg) -> Option<u8> {
    Some(match reg {
        Reg::Rcx => 1,
        Reg::Rdx => 2,
        Reg::Rbx => 3,
        Reg::Rbp => 5,
        Reg::Rsi => 6,
        Reg::Rdi => 7,
        Reg::R8 => 8,
        Reg::R9 => 9,
        Reg::R10 => 10,
        Reg::R11 => 11,
        Reg::R12 => 12,
        Reg::R13 => 13,
        Reg::R14 => 14,
        Reg::R15 => 15,
        Reg::Rax | Reg::Rsp | Reg::Rip | Reg::Rflags => return None,
    })
}
