//! Integer arithmetic with the exact flags, as the processor leaves them. Runs at a hit.
//!
//! AF is undefined by the manuals after and, or, xor and test; AMD and Intel processors clear it
//! (measured by the differential test), and so do we.

use super::operand::Width;

pub(super) const CF: u64 = 1;
pub(super) const PF: u64 = 1 << 2;
pub(super) const AF: u64 = 1 << 4;
pub(super) const ZF: u64 = 1 << 6;
pub(super) const SF: u64 = 1 << 7;
pub(super) const OF: u64 = 1 << 11;
const STATUS: u64 = CF | PF | AF | ZF | SF | OF;

/// Operations on two operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum BinaryOp {
    Add,
    Adc,
    Sub,
    Sbb,
    And,
    Or,
    Xor,
    /// `Sub` that keeps only the flags.
    Cmp,
    /// `And` that keeps only the flags.
    Test,
}

impl BinaryOp {
    /// Whether the result goes into the first operand.
    #[must_use]
    pub const fn writes(self) -> bool {
        !matches!(self, Self::Cmp | Self::Test)
    }

    /// The result, cut to `width`, and the new rflags.
    #[must_use]
    pub const fn apply(self, width: Width, a: u64, b: u64, rflags: u64) -> (u64, u64) {
        let (a, b) = (a & width.mask(), b & width.mask());
        let carry = rflags & CF;
        match self {
            Self::Add => add(width, a, b, 0, rflags),
            Self::Adc => add(width, a, b, carry, rflags),
            Self::Sub | Self::Cmp => sub(width, a, b, 0, rflags),
            Self::Sbb => sub(width, a, b, carry, rflags),
            Self::And | Self::Test => (a & b, status(width, a & b, 0, rflags)),
            Self::Or => (a | b, status(width, a | b, 0, rflags)),
            Self::Xor => (a ^ b, status(width, a ^ b, 0, rflags)),
        }
    }
}

/// Operations on one operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum UnaryOp {
    Inc,
    Dec,
    Neg,
    Not,
}

impl UnaryOp {
    /// The result, cut to `width`, and the new rflags.
    #[must_use]
    pub const fn apply(self, width: Width, a: u64, rflags: u64) -> (u64, u64) {
        let a = a & width.mask();
        let carry = rflags & CF;
        match self {
            Self::Inc => {
                let (result, flags) = add(width, a, 1, 0, rflags);
                (result, flags & !CF | carry)
            }
            Self::Dec => {
                let (result, flags) = sub(width, a, 1, 0, rflags);
                (result, flags & !CF | carry)
            }
            Self::Neg => sub(width, 0, a, 0, rflags),
            Self::Not => (!a & width.mask(), rflags),
        }
    }
}

const fn add(width: Width, a: u64, b: u64, carry: u64, rflags: u64) -> (u64, u64) {
    let result = a.wrapping_add(b).wrapping_add(carry) & width.mask();
    let carries = (a & b) | ((a | b) & !result);
    let overflows = (a ^ result) & (b ^ result);
    (result, status(width, result, carried(width, carries, overflows, a ^ b ^ result), rflags))
}

const fn sub(width: Width, a: u64, b: u64, borrow: u64, rflags: u64) -> (u64, u64) {
    let result = a.wrapping_sub(b).wrapping_sub(borrow) & width.mask();
    let borrows = (!a & b) | ((!a | b) & result);
    let overflows = (a ^ b) & (a ^ result);
    (result, status(width, result, carried(width, borrows, overflows, a ^ b ^ result), rflags))
}

/// CF, OF and AF from the carry out of every bit, the overflow at every bit, and the carry into
/// every bit.
const fn carried(width: Width, carries: u64, overflows: u64, carries_in: u64) -> u64 {
    let mut flags = carries_in & AF;
    if carries & width.sign() != 0 {
        flags |= CF;
    }
    if overflows & width.sign() != 0 {
        flags |= OF;
    }
    flags
}

/// rflags with the six status flags replaced: those in `carried`, and ZF, SF, PF of `result`.
const fn status(width: Width, result: u64, carried: u64, rflags: u64) -> u64 {
    let mut flags = rflags & !STATUS | carried;
    if result == 0 {
        flags |= ZF;
    }
    if result & width.sign() != 0 {
        flags |= SF;
    }
    if (result & 0xff).count_ones().is_multiple_of(2) {
        flags |= PF;
    }
    flags
}
