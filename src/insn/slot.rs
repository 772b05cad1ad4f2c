//! Permanent out-of-line code: a displaced instruction at another address, and the way back.
//!
//! ```text
//! boost   | insn, 1..15 | (syscall: mov rcx, next, 10) | jmp next, 5 (14 beyond 2 GiB) | int3 ... | 32 bytes
//! step    | insn, 1..15 | int3 ...                                                              | 16 bytes
//! ```
//!
//! The instruction keeps its bytes, redundant prefixes too, but for the 32-bit field that is
//! relative to its address. Nothing in a slot changes after it has become executable.
//!
//! Two things differ from the original and can't be helped: the x87 instruction pointer (read by
//! fnstenv) is the slot's, and so is rip in a signal frame until [`boost_map`] puts it right.
//!
//! `build` runs at registration, the maps in signal handlers.

use super::classify::{DisplacedInsn, Fixup, SlotKind, Way};
use super::decode::MAX_INSN_LEN;
use super::refusal::InsnRefusal;

/// Room for either form, in bytes.
pub const SLOT_SIZE: usize = 32;

const INT3: u8 = 0xcc;
const MOV_RCX_LEN: usize = 10;
const JMP_REL32_LEN: usize = 5;

/// The bytes of a slot, before they are written to their place. Unused bytes are int3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotBytes {
    bytes: [u8; SLOT_SIZE],
    len: usize,
}

impl Default for SlotBytes {
    fn default() -> Self {
        Self { bytes: [INT3; SLOT_SIZE], len: 0 }
    }
}

impl SlotBytes {
    /// An empty slot.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was built, without the padding.
    #[must_use]
    pub fn code(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The whole slot of a form, padding included: `Boost::SIZE` or `Step::SIZE` bytes of this.
    #[must_use]
    pub const fn padded(&self) -> &[u8; SLOT_SIZE] {
        &self.bytes
    }

    /// Appends; `None` when the slot is full.
    fn append(&mut self, code: &[u8]) -> Option<()> {
        self.bytes.get_mut(self.len..self.len + code.len())?.copy_from_slice(code);
        self.len += code.len();
        Some(())
    }
}

/// The form that jumps back by itself.
#[derive(Clone, Copy, Debug)]
pub struct Boost;

/// The form that ends in a second breakpoint. For `syscall` the handler of that trap puts the
/// original next address into rcx.
#[derive(Clone, Copy, Debug)]
pub struct Step;

impl Boost {
    /// Bytes a slot of this form takes.
    pub const SIZE: usize = SLOT_SIZE;

    /// Writes into `out` the code that runs `insn` at the runtime address `slot_at` and goes on
    /// after the original.
    ///
    /// # Errors
    /// [`InsnRefusal::EmulatedOnly`] for relative branches and calls,
    /// [`InsnRefusal::OutOfReach`] when a rip-relative operand is.
    pub fn build(insn: &DisplacedInsn, slot_at: u64, out: &mut SlotBytes) -> Result<(), InsnRefusal> {
        *out = SlotBytes::new();
        let out_of_reach = || InsnRefusal::OutOfReach { target: insn.next(), slot: slot_at };
        relocate(insn, slot_at, out)?;
        if is_syscall(insn) {
            let mut mov_rcx = [0x48, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0];
            mov_rcx[2..].copy_from_slice(&insn.next().to_le_bytes());
            out.append(&mov_rcx).ok_or_else(out_of_reach)?;
        }
        let after_jmp = slot_at.wrapping_add((out.len + JMP_REL32_LEN) as u64);
        let jmp = match relative32(insn.next(), after_jmp) {
            Some(rel) => out.append(&[&[0xe9], &rel[..]].concat()),
            // jmp *0(%rip), and the address: 14 bytes.
            None => out.append(&[&[0xff, 0x25, 0, 0, 0, 0], &insn.next().to_le_bytes()[..]].concat()),
        };
        jmp.ok_or_else(out_of_reach)
    }
}

impl Step {
    /// Bytes a slot of this form takes.
    pub const SIZE: usize = 16;

    /// Writes into `out` the code that runs `insn` at the runtime address `slot_at` and traps
    /// after it. Fills the first `Step::SIZE` bytes of `out`.
    ///
    /// # Errors
    /// As [`Boost::build`].
    pub fn build(insn: &DisplacedInsn, slot_at: u64, out: &mut SlotBytes) -> Result<(), InsnRefusal> {
        *out = SlotBytes::new();
        relocate(insn, slot_at, out)?;
        out.append(&[INT3]).ok_or(InsnRefusal::OutOfReach { target: insn.next(), slot: slot_at })
    }
}

/// What a rip inside a slot means for the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotPc {
    /// The instruction has not been executed, or not to its end: the original rip is `insn.at`.
    Before,
    /// It has been: the original rip is `insn.next()`.
    After {
        /// It was a `syscall`, and rcx still holds the slot's address: it must become `insn.next()`.
        fix_rcx: bool,
    },
}

/// What `rip` means in the boost slot of `insn` at `slot_at`; `None` where no thread can be.
#[must_use]
pub const fn boost_map(insn: &DisplacedInsn, slot_at: u64, rip: u64) -> Option<SlotPc> {
    let offset = rip.wrapping_sub(slot_at);
    let moved = insn.len as u64 + MOV_RCX_LEN as u64;
    if is_syscall(insn) && offset == moved {
        return Some(SlotPc::After { fix_rcx: false });
    }
    map(insn, offset)
}

/// What `rip` means in the step slot of `insn` at `slot_at`; `None` where no thread can be.
/// The address after the second int3, as the trap reports it, counts as after the instruction.
#[must_use]
pub const fn step_map(insn: &DisplacedInsn, slot_at: u64, rip: u64) -> Option<SlotPc> {
    let offset = rip.wrapping_sub(slot_at);
    if offset == insn.len as u64 + 1 {
        return Some(SlotPc::After { fix_rcx: is_syscall(insn) });
    }
    map(insn, offset)
}

const fn map(insn: &DisplacedInsn, offset: u64) -> Option<SlotPc> {
    /// The kernel restarts an interrupted system call at rip - 2, whatever prefixes it has.
    const RESTART: u64 = 2;
    let len = insn.len as u64;
    let restarts = matches!(insn.way, Way::Slot(SlotKind::Syscall | SlotKind::Blocking));
    if offset == 0 || (restarts && offset == len.wrapping_sub(RESTART)) {
        Some(SlotPc::Before)
    } else if offset == len {
        Some(SlotPc::After { fix_rcx: is_syscall(insn) })
    } else {
        None
    }
}

const fn is_syscall(insn: &DisplacedInsn) -> bool {
    matches!(insn.way, Way::Slot(SlotKind::Syscall))
}

/// Appends the instruction as it must be at `slot_at` to have the effect it has at `insn.at`.
fn relocate(insn: &DisplacedInsn, slot_at: u64, out: &mut SlotBytes) -> Result<(), InsnRefusal> {
    let moved = moved(insn, slot_at)?;
    let emulated_only = || InsnRefusal::EmulatedOnly { insn: insn.text() };
    out.append(moved.get(..usize::from(insn.len)).unwrap_or_default()).ok_or_else(emulated_only)
}

/// The instruction as it must be at `slot_at` to have the effect it has at `insn.at`, then zeros.
pub(super) fn moved(insn: &DisplacedInsn, slot_at: u64) -> Result<[u8; MAX_INSN_LEN], InsnRefusal> {
    let emulated_only = || InsnRefusal::EmulatedOnly { insn: insn.text() };
    let mut bytes = insn.bytes;
    let (field, cut) = match insn.fixup {
        Fixup::None => return Ok(bytes),
        Fixup::NoCopy => return Err(emulated_only()),
        Fixup::Relative(field) => (usize::from(field), false),
        Fixup::RelativeLow32(field) => (usize::from(field), true),
    };
    let field = bytes.get_mut(field..field + 4).ok_or_else(emulated_only)?;
    move_field(field, insn.at, slot_at, insn.next(), cut)?;
    Ok(bytes)
}

/// Changes the four bytes of a displacement that is relative to `next`, so that it refers to the
/// same from the instruction moved from `at` to `slot_at`; `cut` when the sum is cut to 32 bits,
/// so that any distance will do.
pub(super) fn move_field(
    field: &mut [u8],
    at: u64,
    slot_at: u64,
    next: u64,
    cut: bool,
) -> Result<(), InsnRefusal> {
    let mut old = [0; 4];
    old.iter_mut().zip(&*field).for_each(|(to, from)| *to = *from);
    let old = i64::from(i32::from_le_bytes(old));
    let relative = old.wrapping_add(at.wrapping_sub(slot_at) as i64);
    let new = match i32::try_from(relative) {
        Ok(relative) => relative,
        Err(_) if cut => relative as i32,
        Err(_) => {
            return Err(InsnRefusal::OutOfReach { target: next.wrapping_add(old as u64), slot: slot_at });
        }
    };
    field.iter_mut().zip(new.to_le_bytes()).for_each(|(to, from)| *to = from);
    Ok(())
}

/// `target` as a 32-bit field relative to `next`; `None` beyond 2 GiB.
pub(super) fn relative32(target: u64, next: u64) -> Option<[u8; 4]> {
    i32::try_from(target.wrapping_sub(next) as i64).ok().map(i32::to_le_bytes)
}
