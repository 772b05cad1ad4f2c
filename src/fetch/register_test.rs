//! The simplest filter, for which code can be compiled: one comparison of an integer that is a register, or
//! its low half, with a constant.

use crate::fetch::program::{ACCEPT, EventProgram, Operand, REJECT, Relation, Start, Step, Store, Test};
use crate::regs::Reg;

/// What a hit is accepted by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegisterTest {
    /// Whose value.
    pub reg: Reg,
    /// All of it; else its low 32 bits.
    pub wide: bool,
    /// What must hold.
    pub predicate: Predicate,
    /// The other operand, sign-extended where the register is `wide`, as the processor does.
    pub constant: i32,
}

/// What must hold between a register and a constant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Predicate {
    /// This relation, of values with a sign (true) or without.
    Compare(Relation, bool),
    /// They share a bit.
    AnyBit,
    /// They share none.
    NoBit,
}

impl Relation {
    const fn negated(self) -> Self {
        match self {
            Self::Equal => Self::NotEqual,
            Self::NotEqual => Self::Equal,
            Self::Less => Self::GreaterOrEqual,
            Self::GreaterOrEqual => Self::Less,
            Self::LessOrEqual => Self::Greater,
            Self::Greater => Self::LessOrEqual,
        }
    }
}

impl Predicate {
    const fn negated(self) -> Self {
        match self {
            Self::Compare(relation, is_signed) => Self::Compare(relation.negated(), is_signed),
            Self::AnyBit => Self::NoBit,
            Self::NoBit => Self::AnyBit,
        }
    }
}

impl EventProgram {
    /// The filter, where it is no more than that.
    #[must_use]
    pub fn register_test(&self) -> Option<RegisterTest> {
        let [Step { operand: Operand::Arg(index), test, if_true, if_false }] = &*self.filter else {
            return None;
        };
        let arg = self.args.get(usize::from(*index))?;
        let (Start::Register { reg, shift: 0, mask }, Store::Int { width, shift: 0, mask: kept }) =
            (&arg.start, arg.store)
        else {
            return None;
        };
        if !arg.loads.is_empty() || arg.place.is_some() || arg.count.is_some() {
            return None;
        }
        let (wide, mask) = match (width, mask & kept) {
            (8, u64::MAX) => (true, u64::MAX),
            (4 | 8, 0xffff_ffff) => (false, 0xffff_ffff),
            _ => return None,
        };
        let (predicate, constant) = match test {
            Test::Unsigned(relation, constant) => {
                (Predicate::Compare(*relation, false), unsigned(*constant, wide)?)
            }
            // A type with a sign is as wide as what is compared, or its sign is none of the register's.
            Test::Signed(relation, constant) if wide || width == 4 => {
                (Predicate::Compare(*relation, true), i32::try_from(*constant).ok()?)
            }
            Test::Signed(..) => return None,
            Test::Bits(bits) => (Predicate::AnyBit, unsigned(bits & mask, wide)?),
            Test::Text(..) | Test::Glob(_) => return None,
        };
        let predicate = match (*if_true, *if_false) {
            (ACCEPT, REJECT) => predicate,
            (REJECT, ACCEPT) => predicate.negated(),
            _ => return None,
        };
        Some(RegisterTest { reg: *reg, wide, predicate, constant })
    }
}

/// The 32 bits from which the processor makes this operand.
fn unsigned(constant: u64, wide: bool) -> Option<i32> {
    if wide { i32::try_from(constant as i64).ok() } else { u32::try_from(constant).ok().map(|n| n as i32) }
}
