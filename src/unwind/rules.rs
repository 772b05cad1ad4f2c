//! A caller's registers by the rules of `.eh_frame`.

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameOffset, Encoding, EndianSlice, Evaluation, EvaluationResult,
    EvaluationStorage, Format, LittleEndian, Piece, Reader, ReaderOffset, Register, RegisterRule,
    UnwindContext, UnwindContextStorage, UnwindExpression, UnwindSection, UnwindTableRow, Value,
};

use super::table::{self, Description};
use super::{Frame, REGISTERS, RIP, RSP};
use crate::regs::Memory;

/// What a description says of a frame's caller.
pub(super) enum Found {
    /// Its registers.
    Caller(Frame),
    /// There is none, or what is described is not there: going on would be guessing.
    End,
    /// No function is described here.
    Nothing,
}

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// gimli's working memory: on our stack, and small. What needs more is not unwound.
struct OnStack;

impl<T: ReaderOffset> UnwindContextStorage<T> for OnStack {
    /// 17 registers are all there are on this machine without the vector registers, which no ABI of ours saves.
    type Rules = [(Register, RegisterRule<T>); 18];
    /// The CIE's row (where it says more than one thing), the current one, and DW_CFA_remember_state's.
    type Stack = [UnwindTableRow<T, Self>; 3];
}

impl<R: Reader> EvaluationStorage<R> for OnStack {
    type Stack = [Value; 16];
    type ExpressionStack = [(R, R); 1];
    type Result = [Piece<R>; 1];
}

/// Operations in one expression: those in use have four to twelve.
const MOST_OPERATIONS: u32 = 256;

/// The caller of `frame` by the object whose `.eh_frame_hdr` is at `header`.
#[inline(never)]
pub(super) fn caller(frame: &Frame, header: u64, memory: &impl Memory) -> Found {
    let mut description = Description::new();
    match table::find(header, frame.covered(), memory, &mut description) {
        Some(()) => by_description(frame, &description, memory),
        None => Found::Nothing,
    }
}

fn by_description(frame: &Frame, description: &Description, memory: &impl Memory) -> Found {
    let mut section = EhFrame::new(description.bytes(), LittleEndian);
    section.set_address_size(8);
    let bases = BaseAddresses::default().set_eh_frame(description.address);
    let fde = section.fde_from_offset(
        &bases,
        EhFrameOffset(description.fde),
        EhFrame::<Slice<'_>>::cie_from_offset,
    );
    let Ok(fde) = fde else { return Found::Nothing };
    if !fde.contains(frame.covered()) {
        return Found::Nothing;
    }
    let mut context = UnwindContext::<usize, OnStack>::new_in();
    let Ok(row) = fde.unwind_info_for_address(&section, &bases, &mut context, frame.covered()) else {
        return Found::End;
    };
    let encoding = fde.cie().encoding();
    if encoding.address_size != 8 || usize::from(fde.cie().return_address_register().0) != RIP {
        return Found::End;
    }
    let rules = Rules { frame, section: &section, memory };
    match rules.apply(row) {
        Some(mut caller) => {
            caller.is_exact = fde.is_signal_trampoline();
            Found::Caller(caller)
        }
        None => Found::End,
    }
}

struct Rules<'a, M> {
    frame: &'a Frame,
    section: &'a EhFrame<Slice<'a>>,
    memory: &'a M,
}

impl<M: Memory> Rules<'_, M> {
    fn apply(&self, row: &UnwindTableRow<usize, OnStack>) -> Option<Frame> {
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                self.register(*register)?.wrapping_add_signed(*offset)
            }
            CfaRule::Expression(expression) => self.evaluate(expression, None)?,
        };
        let mut caller = *self.frame;
        caller.regs[RSP] = cfa;
        let mut returns = false;
        for (register, rule) in row.registers() {
            let number = usize::from(register.0);
            if number >= REGISTERS {
                continue;
            }
            let value = match rule {
                // Whatever is in it; for the return address: this is the outermost frame.
                RegisterRule::Undefined => continue,
                RegisterRule::SameValue => self.register(*register)?,
                RegisterRule::Offset(offset) => self.memory.read_u64(cfa.wrapping_add_signed(*offset))?,
                RegisterRule::ValOffset(offset) => cfa.wrapping_add_signed(*offset),
                RegisterRule::Register(other) => self.register(*other)?,
                RegisterRule::Expression(expression) => {
                    self.memory.read_u64(self.evaluate(expression, Some(cfa))?)?
                }
                RegisterRule::ValExpression(expression) => self.evaluate(expression, Some(cfa))?,
                RegisterRule::Constant(value) => *value,
                _ => return None,
            };
            returns |= number == RIP;
            caller.regs[number] = value;
        }
        returns.then_some(caller)
    }

    fn register(&self, register: Register) -> Option<u64> {
        self.frame.regs.get(usize::from(register.0)).copied()
    }

    fn evaluate(&self, expression: &UnwindExpression<usize>, cfa: Option<u64>) -> Option<u64> {
        let bytecode = expression.get(self.section).ok()?.0;
        let encoding = Encoding { address_size: 8, format: Format::Dwarf32, version: 4 };
        let mut evaluation = Evaluation::<Slice<'_>, OnStack>::new_in(bytecode, encoding);
        evaluation.set_max_iterations(MOST_OPERATIONS);
        if let Some(cfa) = cfa {
            evaluation.set_initial_value(cfa);
        }
        let mut state = evaluation.evaluate().ok()?;
        // Each turn is at least one operation, of which there are as many as counted above.
        loop {
            state = match state {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresMemory { address, size, .. } => {
                    let value = self.load(address, size)?;
                    evaluation.resume_with_memory(Value::Generic(value)).ok()?
                }
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = self.register(register)?;
                    evaluation.resume_with_register(Value::Generic(value)).ok()?
                }
                _ => return None,
            };
        }
        let [piece] = evaluation.as_result() else { return None };
        match piece.location {
            gimli::Location::Address { address } => Some(address),
            _ => None,
        }
    }

    /// `size` bytes, at most eight, as a number.
    fn load(&self, address: u64, size: u8) -> Option<u64> {
        let mut word = [0; 8];
        let part = word.get_mut(..usize::from(size))?;
        if self.memory.read(address, part) != part.len() {
            return None;
        }
        Some(u64::from_le_bytes(word))
    }
}
