//! Compiled actions: code in a detour, in front of the displaced instructions, that decides whether a hit counts,
//! and counts it or its value, without a call.
//!
//! ```text
//! entry:  [lea rsp, [rsp - 128]]        inside a function: the red zone
//!         push rax
//!         [lahf; seto al; push rax]     where the flags may matter
//!         [cmp reg, constant; jcc ...]  the filter: one or a few of these for each comparison
//! yes:    mov rax, fs:[cells]; test rax, rax; jz slow; cmp qword ptr [rax], 0; jne slow
//!         [the value's bucket; inc qword ptr fs:[cells][first + bucket]]
//!         inc qword ptr [rax + 8 * hits]
//!         restored: [pop rax; add al, 127; sahf]; pop rax; [lea rsp, [rsp + 128]]
//!         jmp end
//! [no:    the same two
//!         inc qword ptr [rax + 8 * filtered]
//!         restored; jmp end]
//! slow:   restored; the call
//! end:    displaced instructions ...
//! ```
//!
//! What else is to be done where the filter says yes is done by the call; then `slow` calls the general code, which
//! asks the filter itself.
//! The cells are none inside a hit, and before the thread's first; what they begin with tells of a handler.

mod filter;

use std::sync::atomic::AtomicBool;

use filter::{emit_bucket, emit_filter};

use crate::fetch::{Comparison, RegisterValue};
use crate::hit::asm;
use crate::hit::emit::{Branch, Emitter, MOST_CODE, NOT_ZERO, Span, StackState, ZERO};
use crate::hit::run::Run;
use crate::hit::thread::ThreadState;
use crate::hit::{cells, detour};

/// What is compiled into a detour, and around what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compiled {
    /// What is done.
    pub action: Action,
    /// Not a function's first instruction.
    pub red_zone: bool,
    /// The flags may matter.
    pub flags: bool,
}

/// What compiled code does for a place's only consumer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Action {
    /// First of all.
    pub filter: Option<Box<Filter>>,
    /// Then, where it says yes.
    pub then: Then,
}

/// What is filtered out is counted, and nothing else is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    /// Not empty.
    pub comparisons: Box<[Comparison]>,
    /// Index of the cell of what it says no to.
    pub cell: u32,
    /// Where set, only while this is true; it lives for ever.
    pub alive: Option<*const AtomicBool>,
}

/// What is done with a hit that counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Then {
    /// It is counted in this cell.
    Count(u32),
    /// And its value.
    Histogram(Box<Measure>),
    /// The call does it.
    Call,
}

/// A value that is counted by its binary digits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Measure {
    /// What.
    pub value: RegisterValue,
    /// Index of the first of its cells.
    pub first: u32,
    /// That of the hits.
    pub hits: u32,
}

// SAFETY: the pointer is to what lives for ever, and is only written as an address.
unsafe impl Send for Filter {}
// SAFETY: as above.
unsafe impl Sync for Filter {}

/// Where a detour's own parts are.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The first byte of this code.
    pub entry: u64,
    /// The call.
    pub call: u64,
}

/// Code, ready.
pub struct Built {
    code: Emitter,
    /// After the value was counted: the first instruction of those that count the hit, and where that is done.
    halves: (usize, usize),
}

impl Built {
    /// The code.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.code.finish().unwrap_or_default()
    }
}

impl Action {
    /// Whether that is all: then the code is so short that its jumps are, too. There may be very many of these.
    #[must_use]
    pub const fn only_counts(&self) -> bool {
        self.filter.is_none() && matches!(self.then, Then::Count(_))
    }
}

impl Compiled {
    /// The code. The displaced instructions come behind it. `None`: there is no code for it.
    #[must_use]
    pub fn build(&self, place: Place) -> Option<Built> {
        self.emit(place, usize::MAX)
    }

    /// What the stack is like at `offset` from the entry. Signal-safe.
    #[must_use]
    pub fn stack_at(&self, offset: u64) -> StackState {
        let built = self.emit(Place { entry: 0, call: 0 }, offset as usize);
        built.map_or(StackState::default(), |built| built.code.found())
    }

    /// Where the thread was interrupted at `offset` when it had counted a value and not yet the hit: counts it,
    /// and returns the offset where the thread goes on. Else they would differ for ever, should it be led
    /// elsewhere. Signal-safe.
    #[must_use]
    pub fn finish_counting(&self, offset: u64, thread: &ThreadState) -> Option<u64> {
        let Then::Histogram(measure) = &self.action.then else { return None };
        let (from, to) = self.build(Place { entry: 0, call: 0 })?.halves;
        if !(from as u64..to as u64).contains(&offset) {
            return None;
        }
        let [hits] = thread.cells.get::<1>(measure.hits)?;
        cells::add(hits, 1);
        Some(to as u64)
    }

    fn emit(&self, place: Place, wanted: usize) -> Option<Built> {
        let mut code = Emitter::new(wanted);
        let mut halves = (0, 0);
        self.save(&mut code);
        let inside = code.state();
        let rejects = match &self.action.filter {
            Some(filter) => Some(emit_filter(&mut code, &filter.comparisons)?),
            None => None,
        };
        // Where there is no filter all is short; with one, what it takes is of no importance.
        let span = if rejects.is_some() { Span::Near } else { Span::Short };
        let mut slow: [Option<[Branch; 2]>; 2] = [None; 2];
        let mut ends: [Option<Branch>; 3] = [None; 3];
        match &self.action.then {
            Then::Count(hits) => {
                slow[0] = Some(emit_cells(&mut code, span));
                code.increment(hits * 8);
                ends[0] = Some(self.leave(&mut code, span));
            }
            Then::Histogram(measure) => {
                slow[0] = Some(emit_cells(&mut code, span));
                emit_bucket(&mut code, &measure.value)?;
                code.add_thread_word(asm::cells_offset());
                code.increment(measure.first * 8);
                halves.0 = code.here();
                code.load_thread_word(asm::cells_offset());
                code.increment(measure.hits * 8);
                halves.1 = code.here();
                ends[0] = Some(self.leave(&mut code, span));
            }
            Then::Call => {
                self.restore(&mut code);
                emit_jump(&mut code, place, place.call);
            }
        }
        if let (Some(filter), Some(rejects)) = (&self.action.filter, rejects) {
            code.set_state(inside);
            rejects.link(&mut code);
            slow[1] = Some(emit_cells(&mut code, span));
            let dead = filter.alive.map(|alive| {
                code.load_constant(alive as u64);
                // cmp byte ptr [rax], 0
                code.insn(&[&[0x80, 0x38, 0]]);
                let dead = code.branch(Some(ZERO), span);
                code.load_thread_word(asm::cells_offset());
                dead
            });
            code.increment(filter.cell * 8);
            if let Some(dead) = dead {
                code.link(dead);
            }
            ends[1] = Some(self.leave(&mut code, span));
        }
        code.set_state(inside);
        for slow in slow.into_iter().flatten().flatten() {
            code.link(slow);
        }
        self.restore(&mut code);
        if self.action.then == Then::Call {
            emit_common_call(&mut code, place);
        } else if self.action.only_counts() {
            emit_short_jump(&mut code, place, place.call)?;
        } else {
            emit_jump(&mut code, place, place.call);
        }
        for end in ends.into_iter().flatten() {
            code.link(end);
        }
        code.finish()?;
        Some(Built { code, halves })
    }

    fn save(&self, code: &mut Emitter) {
        if self.red_zone {
            code.skip_red_zone();
        }
        code.push_rax();
        if self.flags {
            // lahf; seto al
            code.insn(&[&[0x9f]]);
            code.insn(&[&[0x0f, 0x90, 0xc0]]);
            code.push_rax();
        }
    }

    fn restore(&self, code: &mut Emitter) {
        if self.flags {
            code.pop_rax();
            // add al, 127; sahf
            code.insn(&[&[0x04, 0x7f]]);
            code.insn(&[&[0x9e]]);
        }
        code.pop_rax();
        if self.red_zone {
            code.unskip_red_zone();
        }
    }

    /// Restores, and goes on behind all of it.
    fn leave(&self, code: &mut Emitter, span: Span) -> Branch {
        self.restore(code);
        code.branch(None, span)
    }
}

/// The thread's cells, in rax; the branches for where there are none, and for where it runs a handler ([`Run`]).
fn emit_cells(code: &mut Emitter, span: Span) -> [Branch; 2] {
    code.load_thread_word(asm::cells_offset());
    code.test_rax();
    let none = code.branch(Some(ZERO), span);
    // cmp qword ptr [rax], 0
    code.insn(&[&[0x48, 0x83, 0x38, 0]]);
    [none, code.branch(Some(NOT_ZERO), span)]
}

const _: () = assert!(Run::CONSUMER == 0);

/// `jmp target`, which is in the same detour.
fn emit_jump(code: &mut Emitter, place: Place, target: u64) {
    let next = place.entry.wrapping_add(code.here() as u64 + 5);
    code.insn(&[&[0xe9], &(target.wrapping_sub(next) as u32).to_le_bytes()]);
}

/// The same where it is near: back to the call, from code that only counts. `None`: it is not.
fn emit_short_jump(code: &mut Emitter, place: Place, target: u64) -> Option<()> {
    let next = place.entry.wrapping_add(code.here() as u64 + 2);
    let distance = i8::try_from(target.wrapping_sub(next).cast_signed()).ok()?;
    code.insn(&[&[0xeb, distance as u8]]);
    Some(())
}

/// The detour's call as it were, but to the general code: where it was not decided whether the hit counts, what the
/// detour calls else, [`super::quick`] or [`super::quick_log`], must not take it for one that does.
///
/// ```text
/// lea rsp, [rsp - 128]; push rax; lea rax, [back]; xchg [rsp], rax; jmp [rip + 0]; address
/// ```
fn emit_common_call(code: &mut Emitter, place: Place) {
    code.skip_red_zone();
    code.push_rax();
    let next = place.entry.wrapping_add(code.here() as u64 + 7);
    let back = place.call.wrapping_add(detour::BACK).wrapping_sub(next) as u32;
    code.insn(&[&[0x48, 0x8d, 0x05], &back.to_le_bytes()]);
    code.insn(&[&[0x48, 0x87, 0x04, 0x24]]);
    code.set_state(StackState { rax: None, ..code.state() });
    code.insn(&[&[0xff, 0x25, 0, 0, 0, 0]]);
    code.data(&(detour::common() as u64).to_le_bytes());
}

const _: () = assert!(MOST_CODE + 256 < crate::insn::CODE_CAPACITY);

#[cfg(test)]
mod tests;
