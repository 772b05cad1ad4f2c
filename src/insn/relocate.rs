//! A run of instructions made runnable at another address, with the same effect.
//!
//! Used for the code that a jump over a place displaces, and for reaching a probed function past
//! its probe. What is not here keeps its bytes, but for a 32-bit field relative to rip:
//!
//! ```text
//! jmp T           jmp T
//! jcc T           jcc T                         beyond 2 GiB: j!cc +14 | jmp *0(%rip) | T
//! loop, jrcxz T   loop +2 | jmp +5 | jmp T
//! call T          push next | jmp T | next:
//! call *reg       push next | jmp *reg | next:
//! call *mem       push mem | lea 8(%rsp),%rsp | push next | jmp *mem | next:
//! syscall         syscall | mov $next,%rcx
//! ```
//!
//! - A call pushes the original next address (`next`, eight bytes of data behind the jump), so
//!   unwinders see the program's own code, and the callee returns to it.
//! - `push mem` touches the pointer before anything has changed: a fault there finds the state of
//!   the original. `push next` writes over what it pushed.
//! - A branch to the first displaced instruction goes to its original, where the probe is; one to
//!   another goes to its copy, the original of which may be no more.
//!
//! No register and no flag is changed that the original leaves alone, and no memory. What differs:
//! the x87 instruction pointer, the processor's prediction of returns (a call here has none), and
//! rip between the instructions of one copy, which [`Relocated::map`] explains. Assumed: shadow
//! stacks are off, and no call goes through a pointer in the eight dead bytes below rsp by way
//! of another register. By way of rsp it is refused.
//!
//! Runs at registration.

use super::classify::{DisplacedInsn, Fixup, SlotKind, Way, classify};
use super::code::{Code, CodeFull};
use super::emulation::{Emulation, JumpTarget};
use super::refusal::{InsnRefusal, Obstacle};
use super::relocated::{Form, InsnCopy, PUSH_NEXT_LEN, Relocated};
use super::slot::{self, relative32};
use crate::regs::Reg;

/// Most instructions of one run.
pub const MAX_RELOCATED: usize = 16;

/// Appends to `out` the `count` instructions that start `bytes`, made runnable there.
///
/// `bytes` are the program's own and lie at the runtime address `at`. Control that passes the
/// last of them falls off the end of what was appended: append a jump to [`Relocated::next`].
///
/// # Errors
/// Those of [`classify`]; [`InsnRefusal::OutOfReach`] when a rip-relative operand is more than
/// 2 GiB from its new place; [`InsnRefusal::Obstructed`] for what has no exact form elsewhere, and
/// for more than [`MAX_RELOCATED`] instructions. `out` is then unchanged.
pub fn relocate(bytes: &[u8], at: u64, count: usize, out: &mut Code) -> Result<Relocated, InsnRefusal> {
    let mut insns = [None; MAX_RELOCATED];
    let mut rest = bytes;
    let mut here = at;
    for index in 0..count {
        let insn = classify(rest, here)?;
        let no_room = || obstructed(&insn, Obstacle::NoRoom);
        *insns.get_mut(index).ok_or_else(no_room)? = Some(insn);
        rest = rest.get(usize::from(insn.len)..).unwrap_or_default();
        here = insn.next();
    }
    // Where the copies lie is known after a first pass, and does not change in the second: only
    // branches among them do, and these have one length.
    let mut mover = Mover { at, end: here, insns: &insns, layout: Relocated::new(at, out.here(), here) };
    mover.layout = mover.pass(&mut out.clone())?;
    let mut finished = out.clone();
    let layout = mover.pass(&mut finished)?;
    debug_assert!(layout == mover.layout);
    *out = finished;
    Ok(layout)
}

/// A pass over the instructions.
struct Mover<'a> {
    at: u64,
    end: u64,
    insns: &'a [Option<DisplacedInsn>; MAX_RELOCATED],
    /// From the pass before; empty in the first.
    layout: Relocated,
}

/// Why an instruction is not moved, before its name is known.
enum Failure {
    Obstacle(Obstacle),
    Refusal(InsnRefusal),
}

impl From<CodeFull> for Failure {
    fn from(_: CodeFull) -> Self {
        Self::Obstacle(Obstacle::NoRoom)
    }
}

impl From<InsnRefusal> for Failure {
    fn from(refusal: InsnRefusal) -> Self {
        Self::Refusal(refusal)
    }
}

fn obstructed(insn: &DisplacedInsn, obstacle: Obstacle) -> InsnRefusal {
    InsnRefusal::Obstructed { insn: insn.text(), obstacle }
}

impl Mover<'_> {
    fn pass(&self, out: &mut Code) -> Result<Relocated, InsnRefusal> {
        let start = out.here();
        let mut relocated = Relocated::new(self.at, start, self.end);
        for insn in self.insns.iter().flatten() {
            let new = out.here().wrapping_sub(start) as u16;
            let original = insn.at.wrapping_sub(self.at) as u8;
            let form = self.append(insn, out).map_err(|failure| match failure {
                Failure::Obstacle(obstacle) => obstructed(insn, obstacle),
                Failure::Refusal(refusal) => refusal,
            })?;
            relocated.push(InsnCopy { original, len: insn.len, new, form });
        }
        relocated.finish(out.here().wrapping_sub(start) as u16);
        Ok(relocated)
    }

    fn append(&self, insn: &DisplacedInsn, out: &mut Code) -> Result<Form, Failure> {
        match insn.way {
            Way::Emulate(Emulation::Jump { target: JumpTarget::Address(target) }) => {
                out.append_jump(self.goal(target)?)?;
                Ok(Form::Single)
            }
            Way::Emulate(Emulation::JumpIf { target, .. }) => append_jump_if(insn, self.goal(target)?, out),
            Way::Emulate(Emulation::JumpIfZero { target, .. } | Emulation::Loop { target, .. }) => {
                append_loop(insn, self.goal(target)?, out)
            }
            Way::Emulate(Emulation::Call { target: JumpTarget::Address(target) }) => {
                append_call(insn, self.goal(target)?, out)
            }
            Way::Emulate(Emulation::Call { target: JumpTarget::Reg(reg) }) => append_call_reg(insn, reg, out),
            Way::Emulate(Emulation::Call { target: JumpTarget::Memory(address) }) => {
                let relative = is_rip_relative(insn);
                let on_stack = address.base == Some(Reg::Rsp) && !relative;
                // -15..=-1: the pointer shares a byte with the return address.
                let shared = (-15..=-1).contains(&(address.displacement as i64));
                if on_stack && address.index.is_none() && shared {
                    return Err(Failure::Obstacle(Obstacle::CallThroughStack));
                }
                append_call_memory(insn, on_stack, address.narrow, out)
            }
            Way::Slot(SlotKind::Syscall) => {
                append_moved(insn, out)?;
                let mut mov_rcx = [0x48, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0];
                mov_rcx[2..].copy_from_slice(&insn.next().to_le_bytes());
                out.append(&mov_rcx)?;
                Ok(Form::Syscall)
            }
            Way::Slot(SlotKind::Blocking) => {
                append_moved(insn, out)?;
                Ok(Form::Blocking)
            }
            _ => match xbegin_field(insn) {
                Some(field) => self.append_xbegin(insn, field, out),
                None => append_moved(insn, out),
            },
        }
    }

    /// Where a branch to `target` goes from the copies.
    fn goal(&self, target: u64) -> Result<u64, Failure> {
        let offset = target.wrapping_sub(self.at);
        if offset == 0 || offset >= self.end.wrapping_sub(self.at) {
            return Ok(target);
        }
        let Some(insn) = self.insns.iter().flatten().find(|insn| insn.at == target) else {
            return Err(Failure::Obstacle(Obstacle::BranchIntoItself));
        };
        let known = self.layout.new_address(insn.at.wrapping_sub(self.at) as usize);
        // In the first pass any address near by.
        Ok(known.unwrap_or(self.layout.new_at()))
    }

    /// xbegin: its abort target is a branch like others.
    fn append_xbegin(&self, insn: &DisplacedInsn, field: usize, out: &mut Code) -> Result<Form, Failure> {
        let mut bytes = insn.bytes;
        let out_of_reach = |target| InsnRefusal::OutOfReach { target, slot: out.here() };
        let place = bytes.get_mut(field..field + 4).ok_or(Failure::Obstacle(Obstacle::UnknownTransfer))?;
        let mut old = [0; 4];
        old.copy_from_slice(place);
        let target = insn.next().wrapping_add(i32::from_le_bytes(old) as u64);
        let goal = self.goal(target)?;
        let next = out.here().wrapping_add(u64::from(insn.len));
        place.copy_from_slice(&relative32(goal, next).ok_or_else(|| out_of_reach(target))?);
        out.append(bytes.get(..usize::from(insn.len)).unwrap_or_default())?;
        Ok(Form::Single)
    }
}

/// The instruction itself, its field relative to rip put right.
fn append_moved(insn: &DisplacedInsn, out: &mut Code) -> Result<Form, Failure> {
    let moved = slot::moved(insn, out.here())?;
    out.append(moved.get(..usize::from(insn.len)).unwrap_or_default())?;
    Ok(Form::Single)
}

fn append_jump_if(insn: &DisplacedInsn, goal: u64, out: &mut Code) -> Result<Form, Failure> {
    const NEAR_LEN: u64 = 6;
    // 7x rel8, or 0f 8x rel32, behind prefixes that are hints at most.
    let (_, opcode) = insn.split_prefixes();
    let condition = match opcode {
        [0x0f, second, ..] => second & 0xf,
        [first, ..] => first & 0xf,
        [] => return Err(Failure::Obstacle(Obstacle::UnknownTransfer)),
    };
    if let Some([a, b, c, d]) = relative32(goal, out.here().wrapping_add(NEAR_LEN)) {
        out.append(&[0x0f, 0x80 | condition, a, b, c, d])?;
        return Ok(Form::Single);
    }
    let skipped = out.jump_len(2, goal) as u8;
    out.append(&[0x70 | (condition ^ 1), skipped])?;
    out.append_jump(goal)?;
    Ok(Form::Branch)
}

fn append_loop(insn: &DisplacedInsn, goal: u64, out: &mut Code) -> Result<Form, Failure> {
    const SHORT_JUMP_LEN: u8 = 2;
    let mut bytes = insn.bytes;
    let len = usize::from(insn.len);
    let unknown = Failure::Obstacle(Obstacle::UnknownTransfer);
    *len.checked_sub(1).and_then(|last| bytes.get_mut(last)).ok_or(unknown)? = SHORT_JUMP_LEN;
    out.append(bytes.get(..len).unwrap_or_default())?;
    let skipped = out.jump_len(usize::from(SHORT_JUMP_LEN), goal) as u8;
    out.append(&[0xeb, skipped])?;
    out.append_jump(goal)?;
    Ok(Form::Loop)
}

/// Appends the push of what lies `distance` bytes behind it.
fn append_push_next(distance: usize, out: &mut Code) -> Result<(), CodeFull> {
    let [a, b, c, d] = (distance as u32).to_le_bytes();
    out.append(&[0xff, 0x35, a, b, c, d])
}

fn append_call(insn: &DisplacedInsn, goal: u64, out: &mut Code) -> Result<Form, Failure> {
    append_push_next(out.jump_len(PUSH_NEXT_LEN, goal), out)?;
    out.append_jump(goal)?;
    out.append(&insn.next().to_le_bytes())?;
    Ok(Form::Call)
}

fn append_call_reg(insn: &DisplacedInsn, reg: Reg, out: &mut Code) -> Result<Form, Failure> {
    if reg == Reg::Rsp {
        return Err(Failure::Obstacle(Obstacle::CallThroughStack));
    }
    let jump = Indirect::of(insn)?.with_extension(Indirect::JMP);
    append_push_next(jump.len, out)?;
    out.append(jump.bytes())?;
    out.append(&insn.next().to_le_bytes())?;
    Ok(Form::Call)
}

fn append_call_memory(
    insn: &DisplacedInsn,
    on_stack: bool,
    narrow: bool,
    out: &mut Code,
) -> Result<Form, Failure> {
    let call = Indirect::of(insn)?;
    let relative = is_rip_relative(insn);
    // The operand relative to rip is that of the call: as if it had moved to there, and had
    // another length.
    let settle = |mut copy: Indirect, out: &Code| {
        if relative {
            let field = copy.bytes.get_mut(copy.len - 4..copy.len).unwrap_or_default();
            let end = out.here().wrapping_add(copy.len as u64);
            slot::move_field(field, insn.next(), end, insn.next(), narrow)?;
        }
        Ok::<_, InsnRefusal>(copy)
    };
    let push = settle(call.with_extension(Indirect::PUSH), out)?;
    out.append(push.bytes())?;
    out.append(&[0x48, 0x8d, 0x64, 0x24, 0x08])?;
    let mut jump = call.with_extension(Indirect::JMP);
    if on_stack {
        jump = jump.above_pushed_word().ok_or(Failure::Obstacle(Obstacle::CallThroughStack))?;
    }
    append_push_next(jump.len, out)?;
    let jump = settle(jump, out)?;
    out.append(jump.bytes())?;
    out.append(&insn.next().to_le_bytes())?;
    Ok(Form::CallMemory { push_len: push.len as u8 })
}

/// The offset of the 32-bit field of an xbegin: `c7 f8 rel32`.
fn xbegin_field(insn: &DisplacedInsn) -> Option<usize> {
    let Fixup::Relative(field) = insn.fixup else { return None };
    let field = usize::from(field);
    // The byte before a displacement relative to rip is ModRM with rm 5.
    (insn.bytes.get(field.checked_sub(2)?..field)? == [0xc7, 0xf8]).then_some(field)
}

/// Whether the operand of an indirect call is: ModRM with mod 0, rm 5.
fn is_rip_relative(insn: &DisplacedInsn) -> bool {
    matches!(insn.split_prefixes().1, [0xff, modrm, ..] if modrm & 0xc7 == 5)
}

/// `ff /n` with an operand of 64 bits: call, jmp, push.
#[derive(Clone, Copy)]
struct Indirect {
    bytes: [u8; 20],
    len: usize,
    modrm: usize,
}

impl Indirect {
    const JMP: u8 = 4;
    const PUSH: u8 = 6;

    /// The call `insn`, without the prefixes that mean nothing to it but might to a push: all
    /// but 67, 3e (notrack) and a REX that counts.
    fn of(insn: &DisplacedInsn) -> Result<Self, Failure> {
        let (prefixes, opcode) = insn.split_prefixes();
        let mut copy = Self { bytes: [0; 20], len: 0, modrm: 0 };
        let rex = prefixes.last().filter(|last| **last & 0xf0 == 0x40);
        let kept = prefixes.iter().filter(|prefix| matches!(prefix, 0x67 | 0x3e)).chain(rex);
        for byte in kept.chain(opcode) {
            let unknown = Failure::Obstacle(Obstacle::UnknownTransfer);
            *copy.bytes.get_mut(copy.len).ok_or(unknown)? = *byte;
            copy.len += 1;
        }
        copy.modrm = copy.len - opcode.len() + 1;
        Ok(copy)
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn with_extension(mut self, extension: u8) -> Self {
        if let Some(modrm) = self.bytes.get_mut(self.modrm) {
            *modrm = *modrm & !0x38 | extension << 3;
        }
        self
    }

    /// The same memory operand, with base rsp, after a push; `None` where its displacement does
    /// not fit. It becomes one of 32 bits unless it is one of 8 and stays so.
    fn above_pushed_word(mut self) -> Option<Self> {
        const WORD: i32 = 8;
        let field = self.modrm + 2;
        let modrm = self.bytes.get_mut(self.modrm)?;
        let old = match *modrm >> 6 {
            0 => 0,
            1 => i32::from(*self.bytes.get(field)? as i8),
            _ => {
                let bytes = self.bytes.get(field..field + 4)?;
                i32::from_le_bytes(bytes.try_into().ok()?)
            }
        };
        let new = old.checked_add(WORD)?;
        let modrm = self.bytes.get_mut(self.modrm)?;
        if let (Ok(short), true) = (i8::try_from(new), *modrm >> 6 != 2) {
            *modrm = *modrm & 0x3f | 0x40;
            *self.bytes.get_mut(field)? = short as u8;
            self.len = field + 1;
        } else {
            *modrm = *modrm & 0x3f | 0x80;
            self.bytes.get_mut(field..field + 4)?.copy_from_slice(&new.to_le_bytes());
            self.len = field + 4;
        }
        Some(self)
    }
}
