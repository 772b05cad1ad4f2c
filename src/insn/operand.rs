//! What emulated instructions work on: parts of registers, immediates, addresses, conditions.
//! Fixed data, evaluated at a hit.

use crate::regs::{Reg, Regs};

/// Operand size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// 1 byte.
    Byte,
    /// 2 bytes.
    Word,
    /// 4 bytes.
    Dword,
    /// 8 bytes.
    Qword,
}

impl Width {
    /// Size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
            Self::Qword => 8,
        }
    }

    /// All the bits of an operand of this size.
    #[must_use]
    pub const fn mask(self) -> u64 {
        match self {
            Self::Byte => 0xff,
            Self::Word => 0xffff,
            Self::Dword => 0xffff_ffff,
            Self::Qword => u64::MAX,
        }
    }

    /// The highest of them.
    #[must_use]
    pub const fn sign(self) -> u64 {
        self.mask() ^ (self.mask() >> 1)
    }

    /// `value`, of this size, with its sign spread over 64 bits.
    #[must_use]
    pub const fn sign_extend(self, value: u64) -> u64 {
        let value = value & self.mask();
        if value & self.sign() == 0 { value } else { value | !self.mask() }
    }
}

/// A general register or a part of it: `rax`, `eax`, `ax`, `al`, `ah`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubReg {
    /// The whole register.
    pub reg: Reg,
    /// How much of it.
    pub width: Width,
    /// Its second byte (`ah`), with `Width::Byte`.
    pub high: bool,
}

impl SubReg {
    /// All 64 bits of `reg`.
    #[must_use]
    pub const fn whole(reg: Reg) -> Self {
        Self { reg, width: Width::Qword, high: false }
    }

    /// The low part of `reg`.
    #[must_use]
    pub const fn low(reg: Reg, width: Width) -> Self {
        Self { reg, width, high: false }
    }

    const fn shift(self) -> u32 {
        if self.high { 8 } else { 0 }
    }

    /// Its value, zero-extended.
    #[must_use]
    pub const fn get(self, regs: &Regs) -> u64 {
        (regs.get(self.reg) >> self.shift()) & self.width.mask()
    }

    /// Writes the low bits of `value` as the processor does: 32 bits clear the upper half of the
    /// register, 8 and 16 leave the rest of it alone (SDM vol. 1, 3.4.1.1).
    pub const fn set(self, regs: &mut Regs, value: u64) {
        let value = value & self.width.mask();
        let whole = regs.get_mut(self.reg);
        *whole = match self.width {
            Width::Qword | Width::Dword => value,
            Width::Word | Width::Byte => {
                (*whole & !(self.width.mask() << self.shift())) | (value << self.shift())
            }
        };
    }
}

/// Where an operand comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A register.
    Reg(SubReg),
    /// The instruction, already sign-extended.
    Imm(u64),
}

impl Source {
    /// Its value.
    #[must_use]
    pub const fn get(self, regs: &Regs) -> u64 {
        match self {
            Self::Reg(reg) => reg.get(regs),
            Self::Imm(value) => value,
        }
    }
}

/// `base + index * scale + displacement`. A rip-relative operand is only a displacement: the
/// address of the instruction is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EffectiveAddress {
    /// The base register.
    pub base: Option<Reg>,
    /// The index register.
    pub index: Option<Reg>,
    /// Binary logarithm of the scale, 0–3.
    pub shift: u8,
    /// Cut to 32 bits (address size prefix, 67).
    pub narrow: bool,
    /// The displacement, sign-extended.
    pub displacement: u64,
}

impl EffectiveAddress {
    /// The address, without a segment's base.
    #[must_use]
    pub const fn get(&self, regs: &Regs) -> u64 {
        let mut sum = self.displacement;
        if let Some(base) = self.base {
            sum = sum.wrapping_add(regs.get(base));
        }
        if let Some(index) = self.index {
            sum = sum.wrapping_add(regs.get(index).wrapping_shl(self.shift as u32));
        }
        if self.narrow { sum & Width::Dword.mask() } else { sum }
    }
}

/// The sixteen conditions of jcc, setcc and cmovcc, in the order of their encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Condition {
    O,
    No,
    B,
    Ae,
    E,
    Ne,
    Be,
    A,
    S,
    Ns,
    P,
    Np,
    L,
    Ge,
    Le,
    G,
}

impl Condition {
    /// Whether it holds with these flags.
    #[must_use]
    pub const fn holds(self, rflags: u64) -> bool {
        use super::alu::{CF, OF, PF, SF, ZF};
        match self {
            Self::O => rflags & OF != 0,
            Self::No => rflags & OF == 0,
            Self::B => rflags & CF != 0,
            Self::Ae => rflags & CF == 0,
            Self::E => rflags & ZF != 0,
            Self::Ne => rflags & ZF == 0,
            Self::Be => rflags & (CF | ZF) != 0,
            Self::A => rflags & (CF | ZF) == 0,
            Self::S => rflags & SF != 0,
            Self::Ns => rflags & SF == 0,
            Self::P => rflags & PF != 0,
            Self::Np => rflags & PF == 0,
            Self::L => is_less(rflags),
            Self::Ge => !is_less(rflags),
            Self::Le => rflags & ZF != 0 || is_less(rflags),
            Self::G => rflags & ZF == 0 && !is_less(rflags),
        }
    }
}

/// Signed less: SF differs from OF.
const fn is_less(rflags: u64) -> bool {
    use super::alu::{OF, SF};
    (rflags & SF != 0) != (rflags & OF != 0)
}
