//! Where a five-byte jump may lead, when some bytes of its displacement must have certain values.
//!
//! An instruction that begins inside the five bytes may be reached by a thread. What stands there
//! must then be the instruction itself, or a one-byte trap:
//!
//! ```text
//! text      48 89 e5   41 57      mov %rsp,%rbp ; push %r15
//! jump      e9 ?? ??   cc ??      jmp, any target whose displacement has cc in its third byte
//! kept      e9 ?? ??   41 57      jmp, and push still works for who comes there
//! ```
//!
//! This is instruction punning (Chamith et al., LiteInst, PLDI 2017; Duck et al., E9Patch, PLDI
//! 2020). All of it is arithmetic on values: signal-safe, no allocation.

/// Length in bytes of `jmp rel32`.
pub const JUMP_LEN: usize = 5;

const JMP_REL32: u8 = 0xe9;
const INT3: u8 = 0xcc;

/// Opcodes of one byte that are #UD in 64-bit mode, whatever follows (each was run, alone at the
/// end of a page and with random bytes behind it). Most have the top bit clear: as the highest byte
/// they lead upwards. Not d5, c4, c5, 62: prefixes, on some processors at least; not f1; not 82, the
/// distance of which leaves nothing of the reach of rip-relative operands.
const UNDEFINED: [u8; 15] =
    [0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0xce, 0xd6];

/// The same, when all bytes the processor would fetch for an instruction can be fetched.
const UNDEFINED_IF_FETCHED: [u8; 3] = [0x9a, 0xd4, 0xea];

/// What stands at an inner boundary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inner {
    /// The original instruction.
    Kept,
    /// int3: SIGTRAP, rip one further.
    Int3,
    /// This opcode: SIGILL, rip at it.
    Undefined(u8),
}

/// An instruction that begins inside the five bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InnerBoundary {
    /// In bytes from the jump: 1–4.
    pub offset: u8,
    /// Of the instruction, in bytes.
    pub len: u8,
    /// Threads are known to come here: only [`Inner::Kept`] will do.
    pub must_keep: bool,
    /// The instruction fetch from here stays in its page.
    pub(super) is_fetched: bool,
}

impl InnerBoundary {
    /// The choices for it, best first: what costs nothing, then what needs no second signal.
    #[must_use]
    pub fn choice(&self, rank: usize) -> Option<Inner> {
        match rank {
            0 => Some(Inner::Kept),
            _ if self.must_keep => None,
            1 => Some(Inner::Int3),
            _ => {
                let opcode = UNDEFINED.get(rank - 2).or_else(|| {
                    let rest = UNDEFINED_IF_FETCHED.get(rank - 2 - UNDEFINED.len());
                    rest.filter(|_| self.is_fetched)
                })?;
                Some(Inner::Undefined(*opcode))
            }
        }
    }
}

/// Addresses that differ only in free bits of their distance from a place: the targets a jump there
/// can have, given what stands at its inner boundaries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TargetRange {
    /// The address after the jump.
    next: u64,
    fixed: u32,
    free: u32,
    traps: u8,
}

/// Flips the order of signed numbers to that of unsigned ones.
const SIGN: u32 = 0x8000_0000;

impl TargetRange {
    /// The range for the jump at `at`, whose five bytes are `original` now, with `choices` made.
    pub(super) fn new(
        at: u64,
        original: [u8; JUMP_LEN],
        choices: impl Iterator<Item = (InnerBoundary, Inner)>,
    ) -> Self {
        let (mut bytes, mut free, mut traps) = ([0; 4], [0xff_u8; 4], 0);
        for (boundary, inner) in choices {
            let offset = usize::from(boundary.offset);
            let fixed = match inner {
                Inner::Kept => usize::from(boundary.len),
                Inner::Int3 | Inner::Undefined(_) => 1,
            };
            for place in offset..(offset + fixed).min(JUMP_LEN) {
                let value = match inner {
                    Inner::Kept => original.get(place).copied().unwrap_or_default(),
                    Inner::Int3 => INT3,
                    Inner::Undefined(opcode) => opcode,
                };
                if let (Some(byte), Some(mask)) = (bytes.get_mut(place - 1), free.get_mut(place - 1)) {
                    (*byte, *mask) = (value, 0);
                }
            }
            traps |= u8::from(inner != Inner::Kept) << boundary.offset;
        }
        let next = at.wrapping_add(JUMP_LEN as u64);
        Self { next, fixed: u32::from_le_bytes(bytes), free: u32::from_le_bytes(free), traps }
    }

    /// The bits of the displacement that can be anything.
    #[must_use]
    pub const fn free(&self) -> u32 {
        self.free
    }

    /// The bits of the displacement that can't; those that can are zero.
    #[must_use]
    pub const fn fixed(&self) -> u32 {
        self.fixed
    }

    /// The offsets (bit 1 to bit 4) at which a trap byte stands, to be written before the others.
    #[must_use]
    pub const fn traps(&self) -> u8 {
        self.traps
    }

    /// The lowest target that is not below `from`.
    #[must_use]
    pub fn first_from(&self, from: u64) -> Option<u64> {
        let distance = i128::from(from) - i128::from(self.next);
        let from = match i32::try_from(distance) {
            Ok(distance) => distance as u32 ^ SIGN,
            Err(_) if distance < 0 => 0,
            Err(_) => return None,
        };
        let mut order = self.at_least(from)?;
        // A displacement that leads below zero is none.
        loop {
            let target = self.next.checked_add_signed(i64::from((order ^ SIGN) as i32));
            if target.is_some() {
                return target;
            }
            let above_zero = (self.next as i64).checked_neg().and_then(|zero| i32::try_from(zero).ok())?;
            let from = (above_zero as u32 ^ SIGN).max(order.checked_add(1)?);
            order = self.at_least(from)?;
        }
    }

    /// Whether a jump can lead to `target`.
    #[must_use]
    pub fn contains(&self, target: u64) -> bool {
        self.first_from(target) == Some(target)
    }

    /// The five bytes of the jump to `target`; `None` where it can't lead.
    #[must_use]
    pub fn jump_to(&self, target: u64) -> Option<[u8; JUMP_LEN]> {
        if !self.contains(target) {
            return None;
        }
        let [a, b, c, d] = (target.wrapping_sub(self.next) as u32).to_le_bytes();
        Some([JMP_REL32, a, b, c, d])
    }

    /// The smallest displacement not below `from`, both in the order of unsigned numbers.
    fn at_least(&self, from: u32) -> Option<u32> {
        let fixed = self.fixed ^ (SIGN & !self.free);
        let differing = (from ^ fixed) & !self.free;
        if differing == 0 {
            return Some(from);
        }
        // All bits above this one are as they must be, or free.
        let wrong = 31 - differing.leading_zeros();
        let through = |bit: u32| u32::MAX >> (31 - bit);
        if fixed >> wrong & 1 == 1 {
            return Some(from & !through(wrong) | fixed & through(wrong));
        }
        // Too high there: count up among the free bits above.
        let up = (wrong + 1..32).find(|bit| self.free >> bit & 1 == 1 && from >> bit & 1 == 0)?;
        Some(from & !through(up) | 1 << up | fixed & through(up))
    }
}

#[cfg(test)]
mod tests {
    use super::{Inner, InnerBoundary, TargetRange};

    const AT: u64 = 0x5555_5555_4321;

    fn boundary(offset: u8, len: u8) -> InnerBoundary {
        InnerBoundary { offset, len, must_keep: false, is_fetched: true }
    }

    #[test]
    fn choices_are_the_instruction_int3_and_18_undefined_opcodes() {
        let count = |boundary: InnerBoundary| (0..40).map_while(|rank| boundary.choice(rank)).count();
        let any = boundary(1, 2);
        assert_eq!(count(any), 20);
        assert_eq!(count(InnerBoundary { is_fetched: false, ..any }), 17);
        assert_eq!(count(InnerBoundary { must_keep: true, ..any }), 1);
        assert_eq!(any.choice(0), Some(Inner::Kept));
        assert_eq!(any.choice(1), Some(Inner::Int3));
        assert_eq!(any.choice(19), Some(Inner::Undefined(0xea)));
    }

    #[test]
    fn a_kept_instruction_fixes_all_its_bytes_inside() {
        let original = [0x48, 0x89, 0xe5, 0x41, 0x57];
        let kept = TargetRange::new(AT, original, [(boundary(3, 2), Inner::Kept)].into_iter());
        assert_eq!((kept.fixed(), kept.free(), kept.traps()), (0x5741_0000, 0xffff, 0));
        let long = TargetRange::new(AT, original, [(boundary(3, 9), Inner::Kept)].into_iter());
        assert_eq!(long, kept);
        let trap = TargetRange::new(AT, original, [(boundary(3, 2), Inner::Int3)].into_iter());
        assert_eq!((trap.fixed(), trap.free(), trap.traps()), (0xcc_0000, 0xff00_ffff, 0b1000));
        let target = AT + 5 + 0x5741_1234;
        assert_eq!(kept.jump_to(target), Some([0xe9, 0x34, 0x12, 0x41, 0x57]));
        assert_eq!(trap.jump_to(target), None);
    }

    /// Against a search through all displacements with 16 relevant bits.
    #[test]
    fn first_from_is_the_lowest() {
        let cases: [(u32, u32); 7] = [
            (0xcc00_0000, 0x00ff_0000),
            (0x0600_0000, 0x00ff_0000),
            (0x00cc_0000, 0xff00_0000),
            (0x1234_0000, 0),
            (0, 0xffff_0000),
            (0x0016_0000, 0xff00_0000),
            (0xce37_0000, 0),
        ];
        for (fixed, free) in cases {
            for next in [AT, 0x40_0000, 0x7fff_0000, 0x7fff_ffff_f000] {
                let range = TargetRange { next, fixed, free, traps: 0 };
                let mut all: Vec<u64> = (0..=0xffff_u32)
                    .filter(|high| (high << 16) & !free == fixed)
                    .filter_map(|high| next.checked_add_signed(i64::from((high << 16) as i32)))
                    .collect();
                all.sort_unstable();
                let mut found = Vec::new();
                let mut from = 0;
                while let Some(target) = range.first_from(from) {
                    found.push(target);
                    assert!(range.contains(target) && (range.free & 1 == 1 || !range.contains(target + 1)));
                    from = target + 1;
                }
                assert!(found == all, "{fixed:#x} {free:#x} {next:#x}: {} {}", found.len(), all.len());
                for (&low, &high) in all.iter().zip(&all[1.min(all.len())..]) {
                    assert_eq!(range.first_from(low + (high - low) / 2), Some(high));
                }
            }
        }
    }
}
