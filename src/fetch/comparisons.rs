//! Filters and values for which code can be compiled: integers that are registers or parts of registers, and
//! comparisons of these with constants. What has to be read from memory, asked for, or is text, is none of them.

use crate::fetch::program::{
    ACCEPT, ArgProgram, EventProgram, Format, Operand, REJECT, Relation, Start, Step, Store, Test,
};
use crate::regs::Reg;

/// An integer that is `(reg >> shift) & mask`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegisterValue {
    /// Where it is.
    pub reg: Reg,
    /// Less than 64.
    pub shift: u8,
    /// Of what is left after the shift.
    pub mask: u64,
    /// It has a sign, which is bit N - 1 of it.
    pub signed_bits: Option<u8>,
}

/// What must hold of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// This relation to the constant, of words without a sign.
    Unsigned(Relation, u64),
    /// The same of words with a sign.
    Signed(Relation, i64),
    /// One of these bits is set in what is in the register.
    AnyBit(u64),
}

/// Where a filter goes on after a comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// At this comparison: one further on.
    Step(u16),
    /// Nowhere: the hit counts.
    Accept,
    /// Nowhere: the hit is filtered out.
    Reject,
}

/// One comparison of a filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Comparison {
    /// Of what.
    pub value: RegisterValue,
    /// What must hold.
    pub condition: Condition,
    /// Where it holds.
    pub if_true: Next,
    /// Where not.
    pub if_false: Next,
}

impl EventProgram {
    /// The filter, where it is nothing but comparisons of registers at the entry. `None` also without a filter.
    #[must_use]
    pub fn comparisons(&self) -> Option<Box<[Comparison]>> {
        let decides_at_entry = self.has_filter() && self.filters_at_entry();
        decides_at_entry.then(|| self.filter.iter().map(|step| self.comparison(step)).collect())?
    }

    fn comparison(&self, step: &Step) -> Option<Comparison> {
        let Operand::Arg(index) = step.operand else { return None };
        let condition = match step.test {
            Test::Unsigned(relation, constant) => Condition::Unsigned(relation, constant),
            Test::Signed(relation, constant) => Condition::Signed(relation, constant),
            Test::Bits(bits) => Condition::AnyBit(bits),
            Test::Text(..) | Test::Glob(_) => return None,
        };
        Some(Comparison {
            value: self.register_value(index)?,
            condition,
            if_true: Next::from(step.if_true),
            if_false: Next::from(step.if_false),
        })
    }

    /// The argument at this index, where it is an integer out of a register.
    #[must_use]
    pub fn register_value(&self, index: u16) -> Option<RegisterValue> {
        self.args.get(usize::from(index))?.register_value()
    }
}

impl ArgProgram {
    fn register_value(&self) -> Option<RegisterValue> {
        let (Start::Register { reg, shift: from, mask: part }, Store::Int { width, shift, mask }) =
            (&self.start, self.store)
        else {
            return None;
        };
        if !self.loads.is_empty() || self.place.is_some() || self.count.is_some() {
            return None;
        }
        let total = from.checked_add(shift).filter(|total| *total < u64::BITS)?;
        let kept = (part >> shift) & mask & (u64::MAX >> total);
        let bits = width * 8;
        let has_sign = self.format == Format::Signed && bits < 64 && kept >> (bits - 1) & 1 == 1;
        let signed_bits = has_sign.then_some(bits);
        Some(RegisterValue { reg: *reg, shift: total as u8, mask: kept, signed_bits })
    }
}

impl From<u16> for Next {
    fn from(step: u16) -> Self {
        match step {
            ACCEPT => Self::Accept,
            REJECT => Self::Reject,
            index => Self::Step(index),
        }
    }
}
