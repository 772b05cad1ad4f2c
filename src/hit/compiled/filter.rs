//! Comparisons of registers with constants, and how many binary digits a value has, as instructions.

use crate::fetch::{Comparison, Condition, Next, RegisterValue, Relation};
use crate::hit::emit::{Branch, ConditionCode, Emitter, NOT_ZERO, Span, ZERO, number};

/// Most comparisons of a filter that is compiled.
pub(super) const MOST_COMPARISONS: usize = 8;

/// Branches to one end of a filter.
pub(super) struct Rejects([Option<Branch>; MOST_COMPARISONS]);

impl Rejects {
    /// They lead here.
    pub(super) fn link(self, code: &mut Emitter) {
        for branch in self.0.into_iter().flatten() {
            code.link(branch);
        }
    }
}

/// The comparisons. What is accepted goes on behind them.
pub(super) fn emit_filter(code: &mut Emitter, comparisons: &[Comparison]) -> Option<Rejects> {
    if comparisons.len() > MOST_COMPARISONS {
        return None;
    }
    let mut rejects = Rejects([None; MOST_COMPARISONS]);
    // Of each comparison the branches that leave it, at most two, with where they lead.
    let mut leaving: [[Option<(Branch, Next)>; 2]; MOST_COMPARISONS] = [[None; 2]; MOST_COMPARISONS];
    for (index, comparison) in comparisons.iter().enumerate() {
        for (branch, next) in leaving.iter().flatten().flatten() {
            if *next == Next::Step(index as u16) {
                code.link(*branch);
            }
        }
        let condition = emit_comparison(code, comparison)?;
        let behind = match index + 1 {
            end if end == comparisons.len() => Next::Accept,
            next => Next::Step(next as u16),
        };
        let (if_true, if_false) = (comparison.if_true, comparison.if_false);
        let branches = leaving.get_mut(index)?;
        if if_true == behind {
            branches[0] = Some((code.branch(Some(condition ^ 1), Span::Near), if_false));
        } else {
            branches[0] = Some((code.branch(Some(condition), Span::Near), if_true));
            if if_false != behind {
                branches[1] = Some((code.branch(None, Span::Near), if_false));
            }
        }
    }
    for (index, branches) in leaving.iter().enumerate() {
        for (branch, next) in branches.iter().flatten() {
            match next {
                Next::Accept => code.link(*branch),
                // One that has both ways is none of ours.
                Next::Reject => match rejects.0.get_mut(index)? {
                    Some(_) => return None,
                    reject => *reject = Some(*branch),
                },
                Next::Step(_) => {}
            }
        }
    }
    Some(rejects)
}

/// Compares; the condition code that is true where it holds. `None`: there is no code for it.
pub(super) fn emit_comparison(code: &mut Emitter, comparison: &Comparison) -> Option<ConditionCode> {
    let value = &comparison.value;
    match comparison.condition {
        Condition::Unsigned(relation, constant) => {
            let operand = Operand::load(code, value, constant <= HALF)?;
            operand.emit(code, Operation::Compare, constant, false)?;
            Some(relation_code(relation, false))
        }
        Condition::Signed(relation, constant) => {
            let operand = Operand::load(code, value, false)?;
            operand.emit(code, Operation::Compare, constant as u64, true)?;
            Some(relation_code(relation, true))
        }
        Condition::AnyBit(bits) => {
            let value = RegisterValue { signed_bits: None, ..*value };
            let operand = Operand::load(code, &value, true)?;
            operand.emit(code, Operation::Test, bits & value.mask, false)?;
            Some(NOT_ZERO)
        }
    }
}

/// The condition code that is true where `cmp value, constant` finds the relation.
const fn relation_code(relation: Relation, signed: bool) -> ConditionCode {
    use Relation::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    match (relation, signed) {
        (Equal, _) => ZERO,
        (NotEqual, _) => NOT_ZERO,
        (Less, false) => 0x2,
        (GreaterOrEqual, false) => 0x3,
        (LessOrEqual, false) => 0x6,
        (Greater, false) => 0x7,
        (Less, true) => 0xc,
        (GreaterOrEqual, true) => 0xd,
        (LessOrEqual, true) => 0xe,
        (Greater, true) => 0xf,
    }
}

/// What is done with a value and a constant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    /// `cmp`
    Compare,
    /// `test`
    Test,
}

/// A value where an instruction finds it.
#[derive(Clone, Copy)]
struct Operand {
    /// The register's number; 0: rax.
    number: u8,
    /// All of it; else its low 32 bits.
    wide: bool,
    /// All of it is as good as its low 32 bits, without a sign.
    is_half: bool,
}

pub(super) const HALF: u64 = 0xffff_ffff;

impl Operand {
    /// The register itself, where that is the value; else rax, with the value made there. Whether its low
    /// half alone will do, `half_will_do`, is said of a value that has no other.
    fn load(code: &mut Emitter, value: &RegisterValue, half_will_do: bool) -> Option<Self> {
        if let (Some(number), 0) = (number(value.reg), value.shift) {
            match (value.mask, value.signed_bits) {
                (u64::MAX, None) => return Some(Self { number, wide: true, is_half: false }),
                (HALF, Some(32)) => return Some(Self { number, wide: false, is_half: false }),
                (HALF, None) if half_will_do => return Some(Self { number, wide: false, is_half: true }),
                _ => {}
            }
        }
        emit_value(code, value)?;
        let is_half = value.mask <= HALF && value.signed_bits.is_none();
        Some(Self { number: 0, wide: true, is_half })
    }

    /// The operation with the constant. `None`: it is no operand.
    fn emit(self, code: &mut Emitter, operation: Operation, constant: u64, signed: bool) -> Option<()> {
        let (wide, constant) = match (i32::try_from(constant.cast_signed()), self) {
            // Sign-extended by the processor.
            (Ok(constant), _) => (self.wide, constant),
            (Err(_), Self { is_half: true, .. }) if !signed && constant <= HALF => (false, constant as i32),
            (Err(_), Self { number: 1.., wide: true, .. }) => {
                code.load_constant(constant);
                let opcode = if operation == Operation::Compare { 0x39 } else { 0x85 };
                code.insn(&[&[0x48 | self.number >> 3, opcode, 0xc0 | self.number & 7]]);
                return Some(());
            }
            // It is beyond what the value can be.
            (Err(_), _) => return None,
        };
        let rex = 0x40 | u8::from(wide) << 3 | self.number >> 3;
        let (opcode, extension) = match operation {
            Operation::Compare => (0x81, 0xf8),
            Operation::Test => (0xf7, 0xc0),
        };
        code.insn(&[&[rex, opcode, extension | self.number & 7], &constant.to_le_bytes()]);
        Some(())
    }
}

/// The value, in rax, with its sign extended. `None`: there is no code for it.
fn emit_value(code: &mut Emitter, value: &RegisterValue) -> Option<()> {
    code.load_register(value.reg)?;
    if value.shift > 0 {
        code.insn(&[&[0x48, 0xc1, 0xe8, value.shift]]);
    }
    match value.mask {
        mask if mask == u64::MAX >> value.shift => {}
        HALF => code.insn(&[&[0x89, 0xc0]]),
        0xffff => code.insn(&[&[0x0f, 0xb7, 0xc0]]),
        0xff => code.insn(&[&[0x0f, 0xb6, 0xc0]]),
        mask => code.insn(&[&[0x25], &u32::try_from(mask).ok()?.to_le_bytes()]),
    }
    match value.signed_bits {
        None => {}
        Some(32) => code.insn(&[&[0x48, 0x63, 0xc0]]),
        Some(16) => code.insn(&[&[0x48, 0x0f, 0xbf, 0xc0]]),
        Some(8) => code.insn(&[&[0x48, 0x0f, 0xbe, 0xc0]]),
        Some(_) => return None,
    }
    Some(())
}

/// Eight times how many binary digits the value has, in rax.
pub(super) fn emit_bucket(code: &mut Emitter, value: &RegisterValue) -> Option<()> {
    emit_value(code, value)?;
    code.test_rax();
    let zero = code.branch(Some(ZERO), Span::Short);
    // bsr rax, rax; inc eax
    code.insn(&[&[0x48, 0x0f, 0xbd, 0xc0]]);
    code.insn(&[&[0xff, 0xc0]]);
    code.link(zero);
    // shl eax, 3
    code.insn(&[&[0xc1, 0xe0, 3]]);
    Some(())
}
