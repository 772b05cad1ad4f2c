//! What a five-byte jump at a place displaces, and where it may lead.
//!
//! ```text
//!           at                at+5
//!           |                 |
//! text      55 | 48 89 e5 | 41 57 | ...       push ; mov ; push
//! window    [------- displaced ----]           whole instructions, 5 bytes or more
//! inner        ^          ^                    boundaries 1 and 4: threads may stand there
//! ```
//!
//! The window says nothing of memory: [`Window::candidates`] gives the targets in order of
//! preference, and who has the memory takes the first that is to be had. Runs at registration.

use std::fmt;

use super::classify::{DisplacedInsn, Fixup, Way, classify};
use super::code::{CODE_CAPACITY, Code};
use super::decode::MAX_INSN_LEN;
use super::emulation::{Emulation, JumpTarget};
use super::pun::{Inner, InnerBoundary, JUMP_LEN, TargetRange};
use super::refusal::InsnRefusal;
use super::relocate::relocate;

/// Enough text for any window, in bytes: four of one byte, and a longest one.
pub const WINDOW_TEXT: usize = 32;

/// Text at the place of a jump.
#[derive(Clone, Copy, Debug)]
pub struct WindowText<'a> {
    /// The program's own bytes from the place on, [`WINDOW_TEXT`] of them or all there are.
    pub bytes: &'a [u8],
    /// The runtime address of the first.
    pub at: u64,
    /// How many bytes from the place on belong to its function.
    pub code_len: usize,
    /// How many there are up to what else may be reached: the next function. What lies between
    /// is used if it is padding.
    pub room: usize,
    /// Where direct branches, as far as they are known, lead into the window.
    pub targets: &'a [u64],
}

/// Why no jump can be put at a place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WindowRefusal {
    /// The function ends before, and no padding of five bytes follows.
    TooShort {
        /// Bytes there are.
        room: usize,
    },
    /// An instruction reaches over the end of the function.
    CutShort {
        /// Its address.
        at: u64,
    },
    /// An instruction that the jump displaces does not run elsewhere.
    NotRelocatable {
        /// Its address.
        at: u64,
        /// Why.
        why: InsnRefusal,
    },
    /// A branch leads into the middle of an instruction.
    BranchTarget {
        /// Where it leads.
        target: u64,
    },
}

impl fmt::Display for WindowRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { room } => write!(f, "a jump takes {JUMP_LEN} bytes, and there are {room}"),
            Self::CutShort { at } => write!(f, "the instruction at {at:#x} reaches over the function's end"),
            Self::NotRelocatable { at, why } => write!(f, "the instruction at {at:#x}: {why}"),
            Self::BranchTarget { target } => {
                write!(f, "a branch leads to {target:#x}, into an instruction that a jump would displace")
            }
        }
    }
}

impl std::error::Error for WindowRefusal {}

/// The instructions a jump displaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    at: u64,
    original: [u8; JUMP_LEN],
    insns: u8,
    len: u8,
    inner: [Option<InnerBoundary>; JUMP_LEN - 1],
    reach: (u64, u64),
}

/// The lowest address a program may map, as the kernel has it by default.
const LOWEST: u64 = 0x1_0000;
/// The end of the program's half of the address space, less a page that is never mapped.
const HIGHEST: u64 = 0x7fff_ffff_efff;

impl Window {
    /// Plans a jump at the place.
    ///
    /// # Errors
    /// [`WindowRefusal`].
    pub fn plan(text: &WindowText<'_>) -> Result<Self, WindowRefusal> {
        if text.room < JUMP_LEN {
            return Err(WindowRefusal::TooShort { room: text.room });
        }
        let too_short = WindowRefusal::TooShort { room: text.code_len.min(text.bytes.len()) };
        let Some(Ok(original)) = text.bytes.get(..JUMP_LEN).map(<[u8; JUMP_LEN]>::try_from) else {
            return Err(too_short);
        };
        let mut window = Self {
            at: text.at,
            original,
            insns: 0,
            len: 0,
            inner: [None; JUMP_LEN - 1],
            reach: (LOWEST, HIGHEST),
        };
        let mut before: Option<DisplacedInsn> = None;
        while window.displaced_len() < JUMP_LEN {
            let offset = window.displaced_len();
            let rest = text.bytes.get(offset..).unwrap_or_default();
            let is_padding = offset >= text.code_len;
            let ends = before.as_ref().is_some_and(|insn| !falls_through(insn));
            if is_padding && ends && is_int3(rest.get(..JUMP_LEN - offset)) {
                break;
            }
            let at = text.at.wrapping_add(offset as u64);
            let insn = match classify(rest, at) {
                Ok(insn) if !is_padding || is_nop(&insn) => insn,
                Err(why) if !is_padding => return Err(WindowRefusal::NotRelocatable { at, why }),
                _ => return Err(too_short),
            };
            let end = offset + usize::from(insn.len);
            if !is_padding && end > text.code_len {
                return Err(WindowRefusal::CutShort { at });
            }
            // Nobody comes to padding; it is displaced because a function may run through it.
            if !is_padding {
                window.add_boundary(offset, &insn, before.as_ref(), text.targets);
            }
            window.narrow_reach(&insn);
            window.insns += 1;
            window.len = end as u8;
            before = Some(insn);
        }
        window.check(text)?;
        Ok(window)
    }

    fn add_boundary(
        &mut self,
        offset: usize,
        insn: &DisplacedInsn,
        before: Option<&DisplacedInsn>,
        targets: &[u64],
    ) {
        let Some(place) = offset.checked_sub(1).and_then(|index| self.inner.get_mut(index)) else { return };
        // The callee returns to the original, each time.
        let after_call = before.is_some_and(|insn| matches!(insn.way, Way::Emulate(Emulation::Call { .. })));
        *place = Some(InnerBoundary {
            offset: offset as u8,
            len: insn.len,
            must_keep: after_call || targets.contains(&insn.at),
            is_fetched: insn.at % PAGE <= PAGE - MAX_INSN_LEN as u64,
        });
    }

    /// A rip-relative operand must stay within 2 GiB.
    fn narrow_reach(&mut self, insn: &DisplacedInsn) {
        /// Detours are longer than what is displaced, but not by more.
        const SLACK: u64 = 4 * CODE_CAPACITY as u64;
        const REACH: u64 = 1 << 31;
        if let Some(operand) = relative_operand(insn) {
            let (low, high) = self.reach;
            self.reach = (
                low.max(operand.saturating_sub(REACH - SLACK)),
                high.min(operand.saturating_add(REACH - SLACK)),
            );
        }
    }

    fn check(&self, text: &WindowText<'_>) -> Result<(), WindowRefusal> {
        let inside = |target: &&u64| (1..self.displaced_len() as u64).contains(&target.wrapping_sub(self.at));
        for target in text.targets.iter().filter(inside) {
            let offset = target.wrapping_sub(self.at) as usize;
            // Beyond the five bytes nothing changes.
            if offset < JUMP_LEN && !self.inner().any(|boundary| usize::from(boundary.offset) == offset) {
                return Err(WindowRefusal::BranchTarget { target: *target });
            }
        }
        // At the place itself everything is in reach.
        let relocated = relocate(text.bytes, self.at, self.insn_count(), &mut Code::new(self.at));
        relocated.map_err(|why| WindowRefusal::NotRelocatable { at: self.at, why })?;
        Ok(())
    }

    /// The place.
    #[must_use]
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// How many instructions are displaced.
    #[must_use]
    pub const fn insn_count(&self) -> usize {
        self.insns as usize
    }

    /// How many bytes they take. Less than [`JUMP_LEN`] where int3s pad a short function.
    #[must_use]
    pub const fn displaced_len(&self) -> usize {
        self.len as usize
    }

    /// What the jump overwrites.
    #[must_use]
    pub const fn original(&self) -> [u8; JUMP_LEN] {
        self.original
    }

    /// The instructions that begin inside the five bytes, in order.
    pub fn inner(&self) -> impl Iterator<Item = InnerBoundary> + '_ {
        self.inner.iter().flatten().copied()
    }

    /// Whether no instruction begins inside the five bytes: no thread can be among them.
    #[must_use]
    pub fn is_single_insn(&self) -> bool {
        self.inner().next().is_none()
    }

    /// Whether the five bytes lie in eight aligned ones: one store writes them all.
    #[must_use]
    pub const fn fits_aligned_8(&self) -> bool {
        self.at % 8 <= 8 - JUMP_LEN as u64
    }

    /// The addresses, both included, where the detour can lie so that the displaced instructions
    /// reach what they refer to.
    #[must_use]
    pub const fn reach(&self) -> (u64, u64) {
        self.reach
    }

    /// Where the jump can lead, best first: inner instructions kept, then int3, then undefined
    /// opcodes; the lower boundaries change last. Each has a target in [`Window::reach`].
    pub fn candidates(&self) -> impl Iterator<Item = TargetRange> + '_ {
        let all = Candidates { window: self, ranks: Some([0; JUMP_LEN - 1]) };
        all.filter(|range| range.first_from(self.reach.0).is_some_and(|lowest| lowest <= self.reach.1))
    }
}

const PAGE: u64 = 4096;

/// Counts through the choices of all boundaries, the highest fastest.
struct Candidates<'a> {
    window: &'a Window,
    ranks: Option<[usize; JUMP_LEN - 1]>,
}

impl Iterator for Candidates<'_> {
    type Item = TargetRange;

    fn next(&mut self) -> Option<TargetRange> {
        let ranks = self.ranks?;
        let window = self.window;
        let choice = |(boundary, rank): (&Option<InnerBoundary>, usize)| -> Option<(InnerBoundary, Inner)> {
            let boundary = (*boundary)?;
            Some((boundary, boundary.choice(rank)?))
        };
        let choices = window.inner.iter().zip(ranks).filter_map(choice);
        let range = TargetRange::new(window.at, window.original, choices);

        self.ranks = None;
        for index in (0..ranks.len()).rev() {
            let Some(Some(boundary)) = window.inner.get(index) else { continue };
            let mut next = ranks;
            if let Some(rank) = next.get_mut(index) {
                *rank += 1;
                if boundary.choice(*rank).is_some() {
                    next.iter_mut().skip(index + 1).for_each(|rank| *rank = 0);
                    self.ranks = Some(next);
                    break;
                }
            }
        }
        Some(range)
    }
}

/// Whether control can come to the instruction after it.
const fn falls_through(insn: &DisplacedInsn) -> bool {
    !matches!(insn.way, Way::Emulate(Emulation::Jump { .. } | Emulation::Return { .. }))
        && !is_undefined(insn)
}

/// ud2, where functions end that can't.
const fn is_undefined(insn: &DisplacedInsn) -> bool {
    matches!(insn.bytes, [0x0f, 0x0b, ..])
}

fn is_int3(bytes: Option<&[u8]>) -> bool {
    bytes.is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0xcc))
}

/// A nop, and not endbr64, which begins functions.
fn is_nop(insn: &DisplacedInsn) -> bool {
    let is_endbr = matches!(insn.bytes, [0xf3, 0x0f, 0x1e, 0xfa | 0xfb, ..]);
    insn.way == Way::Emulate(Emulation::Nop) && !is_endbr
}

/// What its rip-relative operand refers to, if it has one that must be within reach.
fn relative_operand(insn: &DisplacedInsn) -> Option<u64> {
    if let Fixup::Relative(field) = insn.fixup {
        let field = insn.bytes.get(usize::from(field)..)?.first_chunk()?;
        return Some(insn.next().wrapping_add_signed(i64::from(i32::from_le_bytes(*field))));
    }
    match insn.way {
        Way::Emulate(Emulation::Call { target: JumpTarget::Memory(operand) }) => {
            let absolute = operand.base.is_none() && operand.index.is_none() && !operand.narrow;
            absolute.then_some(operand.displacement)
        }
        _ => None,
    }
}
