//! Compiled actions: code in a detour, in front of the displaced instructions, that counts a hit without
//! a call.

use crate::fetch::{Predicate, RegisterTest, Relation};
use crate::hit::asm;
use crate::regs::Reg;

/// `count`, compiled: one instruction adds to a cell of the thread's own, where it may.
///
/// ```text
/// entry:  [lea rsp, [rsp - 128]]        inside a function: the red zone
///         push rax
///         [lahf; seto al; push rax]     where the flags may matter
///         mov rax, fs:[cells]; test rax, rax; jz slow
///         cmp qword ptr [rax], 0; jne slow        inside a handler
///         [cmp reg, constant; jcc no]   the filter
///         inc qword ptr [rax + 8 * cell]
///         [pop rax; add al, 127; sahf]
///         pop rax
///         [lea rsp, [rsp + 128]]
///         displaced instructions ...
/// [no:    inc qword ptr [rax + 8 * filtered]
///         the same restored, then the displaced instructions]
/// slow:   the same restored, then the call
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counting {
    /// What is counted where.
    pub counted: Counted,
    /// Not a function's first instruction.
    pub red_zone: bool,
    /// The flags may matter.
    pub flags: bool,
}

/// What compiled code counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counted {
    /// Index of the cell.
    pub cell: u32,
    /// Only what this accepts; the rest in the other cell.
    pub filter: Option<(RegisterTest, u32)>,
}

impl Counted {
    /// Whether code can be compiled for this filter: it uses rax itself, and moves the stack pointer.
    #[must_use]
    pub const fn can_test(test: &RegisterTest) -> bool {
        number(test.reg).is_some()
    }
}

/// A register's number in an instruction; of those that still hold the program's value.
const fn number(reg: Reg) -> Option<u8> {
    Some(match reg {
        Reg::Rcx => 1,
        Reg::Rdx => 2,
        Reg::Rbx => 3,
        Reg::Rbp => 5,
        Reg::Rsi => 6,
        Reg::Rdi => 7,
        Reg::R8 => 8,
        Reg::R9 => 9,
        Reg::R10 => 10,
        Reg::R11 => 11,
        Reg::R12 => 12,
        Reg::R13 => 13,
        Reg::R14 => 14,
        Reg::R15 => 15,
        Reg::Rax | Reg::Rsp | Reg::Rip | Reg::Rflags => return None,
    })
}

/// The low half of the `jcc` that is taken where the comparison holds (SDM vol. 2, B.1.4.7).
const fn condition(predicate: Predicate) -> u8 {
    use Relation::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    match predicate {
        Predicate::Compare(Equal, _) | Predicate::NoBit => 0x4,
        Predicate::Compare(NotEqual, _) | Predicate::AnyBit => 0x5,
        Predicate::Compare(Less, false) => 0x2,
        Predicate::Compare(GreaterOrEqual, false) => 0x3,
        Predicate::Compare(LessOrEqual, false) => 0x6,
        Predicate::Compare(Greater, false) => 0x7,
        Predicate::Compare(Less, true) => 0xc,
        Predicate::Compare(GreaterOrEqual, true) => 0xd,
        Predicate::Compare(LessOrEqual, true) => 0xe,
        Predicate::Compare(Greater, true) => 0xf,
    }
}

/// `cmp reg, constant` or `test reg, constant`, always with a REX prefix: 7 bytes.
fn comparison(test: &RegisterTest) -> [u8; 7] {
    let reg = number(test.reg).unwrap_or(0);
    let rex = 0x40 | u8::from(test.wide) << 3 | reg >> 3;
    let [a, b, c, d] = test.constant.to_le_bytes();
    match test.predicate {
        Predicate::AnyBit | Predicate::NoBit => [rex, 0xf7, 0xc0 | reg & 7, a, b, c, d],
        Predicate::Compare(..) => [rex, 0x81, 0xf8 | reg & 7, a, b, c, d],
    }
}

/// Code of at most this length.
const MAX: usize = 120;

/// Bytes of code, appended one after the other.
struct Bytes {
    code: [u8; MAX],
    len: usize,
}

impl Bytes {
    /// Appends; the length so far. What does not fit is not there, and not run: the code is too long
    /// for its caller then.
    fn push(&mut self, bytes: &[u8]) -> usize {
        if let Some(to) = self.code.get_mut(self.len..self.len + bytes.len()) {
            to.copy_from_slice(bytes);
        }
        self.len += bytes.len();
        self.len
    }

    /// The short jump that ends at `from` leads to `to`.
    fn link(&mut self, from: usize, to: usize) {
        if let Some(distance) = self.code.get_mut(from - 1) {
            *distance = (to - from) as u8;
        }
    }
}

impl Counting {
    /// The code, at `entry`, with the way out to `generic`, both in one detour; then where it ends. The
    /// displaced instructions come behind all of it.
    #[must_use]
    pub fn code(&self, entry: u64, generic: u64) -> ([u8; MAX], usize) {
        let mut bytes = Bytes { code: [0xCC; MAX], len: 0 };
        if self.red_zone {
            bytes.push(&[0x48, 0x8d, 0x64, 0x24, 0x80]);
        }
        bytes.push(&[0x50]);
        if self.flags {
            bytes.push(&[0x9f, 0x0f, 0x90, 0xc0, 0x50]);
        }
        bytes.push(&[0x64, 0x48, 0x8b, 0x04, 0x25]);
        bytes.push(&asm::cells_offset().to_le_bytes());
        bytes.push(&[0x48, 0x85, 0xc0]);
        let no_cells = bytes.push(&[0x74, 0]);
        bytes.push(&[0x48, 0x83, 0x38, 0]);
        let in_handler = bytes.push(&[0x75, 0]);
        let no = self.counted.filter.map(|(test, _)| {
            bytes.push(&comparison(&test));
            bytes.push(&[0x70 | condition(test.predicate) ^ 1, 0])
        });
        let yes_end = self.count(&mut bytes, self.counted.cell);
        let no_end = no.zip(self.counted.filter).map(|(no, (_, filtered))| {
            let here = bytes.len;
            bytes.link(no, here);
            self.count(&mut bytes, filtered)
        });
        let here = bytes.len;
        bytes.link(no_cells, here);
        bytes.link(in_handler, here);
        self.restore(&mut bytes);
        let end = bytes.push(&[0xe9]) + 4;
        bytes.push(&((generic.wrapping_sub(entry + end as u64)) as u32).to_le_bytes());
        for from in [Some(yes_end), no_end].into_iter().flatten() {
            bytes.link(from, end);
        }
        (bytes.code, end)
    }

    /// Counts and goes on; where its jump to the end ends.
    fn count(&self, bytes: &mut Bytes, cell: u32) -> usize {
        bytes.push(&[0x48, 0xff, 0x80]);
        bytes.push(&(cell * 8).to_le_bytes());
        self.restore(bytes);
        bytes.push(&[0xeb, 0])
    }

    fn restore(&self, bytes: &mut Bytes) {
        if self.flags {
            bytes.push(&[0x58, 0x04, 0x7f, 0x9e]);
        }
        bytes.push(&[0x58]);
        if self.red_zone {
            bytes.push(&[0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0]);
        }
    }

    /// By how much rsp is less than the program's at `offset` from the entry, and how far above it the
    /// program's rax lies, where that is on the stack. Signal-safe.
    #[must_use]
    pub fn stack_at(&self, offset: u64) -> (u64, Option<u64>) {
        let (code, end) = self.code(0, 0);
        let (mut below, mut rax, mut at) = (0_u64, None, 0_usize);
        while (at as u64) < offset && at < end {
            // The few instructions above, by their bytes.
            let rest = code.get(at..).unwrap_or_default();
            let len = match rest {
                [0x48, 0x8d, 0x64, ..] => {
                    below += 128;
                    5
                }
                [0x48, 0x8d, 0xa4, ..] => {
                    below -= 128;
                    8
                }
                [0x50, ..] => {
                    below += 8;
                    rax = rax.or(Some(below));
                    1
                }
                [0x58, ..] => {
                    if rax == Some(below) {
                        rax = None;
                    }
                    below -= 8;
                    1
                }
                [0x64, ..] => 9,
                [0x40..=0x4f, 0x81 | 0xf7, ..] | [0x48, 0xff, ..] => 7,
                [0x48, 0x83, ..] => 4,
                [0x0f, ..] | [0x48, 0x85, ..] => 3,
                [0x70..=0x7f | 0x04, ..] => 2,
                // The end of one way: the next begins with the stack as it was at the branch.
                [0xeb, ..] => {
                    let flags = u64::from(self.flags) * 8;
                    below = 8 + flags + u64::from(self.red_zone) * 128;
                    rax = Some(below - flags);
                    2
                }
                [0xe9, ..] => 5,
                _ => 1,
            };
            at += len;
        }
        (below, rax.map(|depth| below - depth))
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions, Mnemonic, Register};

    use super::*;

    const ENTRY: u64 = 0x1000;
    const GENERIC: u64 = 0x900;

    fn tests() -> Vec<Option<(RegisterTest, u32)>> {
        let mut all = vec![None];
        for reg in [Reg::Rdi, Reg::R8, Reg::Rcx, Reg::R13] {
            for (predicate, constant) in
                [(Predicate::Compare(Relation::Greater, false), 5), (Predicate::NoBit, 0x50_9e58)]
            {
                for wide in [false, true] {
                    all.push(Some((RegisterTest { reg, wide, predicate, constant }, 4711)));
                }
            }
        }
        all
    }

    /// Walks every way through the code with a decoder, and compares what it says of the stack at each
    /// instruction with `stack_at`.
    #[test]
    fn the_stack_is_known_at_every_instruction() {
        for filter in tests() {
            for (red_zone, flags) in [(false, false), (true, false), (false, true), (true, true)] {
                let counting = Counting { counted: Counted { cell: 4709, filter }, red_zone, flags };
                let (code, len) = counting.code(ENTRY, GENERIC);
                assert!(len <= MAX);
                let end = ENTRY + len as u64;
                let mut ways = vec![(ENTRY, 0_u64, None)];
                let (mut ends, mut outs) = (0, 0);
                while let Some((mut at, mut below, mut rax)) = ways.pop() {
                    loop {
                        if at == end || at == GENERIC {
                            assert_eq!((below, rax), (0, None), "at the end");
                            *(if at == end { &mut ends } else { &mut outs }) += 1;
                            break;
                        }
                        let known = (below, rax.map(|depth: u64| below - depth));
                        assert_eq!(
                            counting.stack_at(at - ENTRY),
                            known,
                            "{filter:?} {red_zone} {flags} {at:x}"
                        );
                        let rest = &code[(at - ENTRY) as usize..len];
                        let insn = Decoder::with_ip(64, rest, at, DecoderOptions::NONE).decode();
                        match insn.mnemonic() {
                            Mnemonic::Push => {
                                below += 8;
                                rax = rax.or(Some(below));
                            }
                            Mnemonic::Pop => {
                                rax = rax.filter(|depth| *depth != below);
                                below -= 8;
                            }
                            Mnemonic::Lea => {
                                below = below.wrapping_sub(insn.memory_displacement64());
                            }
                            Mnemonic::Jmp => {
                                at = insn.near_branch_target();
                                continue;
                            }
                            _ if insn.is_jcc_short_or_near() => {
                                ways.push((insn.near_branch_target(), below, rax));
                            }
                            Mnemonic::Cmp if insn.memory_base() == Register::RAX => {}
                            Mnemonic::Cmp | Mnemonic::Test if insn.op1_register() == Register::None => {
                                let (test, _) = filter.expect("a filter");
                                assert_eq!(insn.immediate(1), i64::from(test.constant) as u64);
                            }
                            Mnemonic::INVALID => panic!("{filter:?} {at:x}"),
                            _ => {}
                        }
                        at = insn.next_ip();
                    }
                }
                assert_eq!((ends, outs), (1 + u32::from(filter.is_some()), 2));
            }
        }
    }

    #[test]
    fn comparisons_are_encoded_as_they_read() {
        let compare = |relation, signed| Predicate::Compare(relation, signed);
        for (reg, wide, predicate, constant, expected) in [
            (Reg::Rdi, true, compare(Relation::Greater, false), 5, "cmp $5,%rdi"),
            (Reg::Rsi, false, compare(Relation::Less, true), -5, "cmp $0xFFFFFFFB,%esi"),
            (Reg::R9, true, compare(Relation::Equal, true), -1, "cmp $0xFFFFFFFFFFFFFFFF,%r9"),
            (Reg::Rdx, true, Predicate::AnyBit, 0x10, "test $0x10,%rdx"),
            (Reg::R12, false, Predicate::NoBit, 0x7f, "test $0x7F,%r12d"),
        ] {
            let bytes = comparison(&RegisterTest { reg, wide, predicate, constant });
            let insn = Decoder::new(64, &bytes, DecoderOptions::NONE).decode();
            assert_eq!((insn.len(), insn.to_string().as_str()), (7, expected));
        }
    }
}
