//! The names of registers, as ftrace and perf write them after `%`.

use crate::regs::Reg;

/// A register or a part of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegisterPart {
    /// The register.
    pub reg: Reg,
    /// First bit: 0, or 8 for `ah`.
    pub shift: u8,
    /// How many bits: 8, 16, 32 or 64.
    pub bits: u8,
}

const fn part(reg: Reg, shift: u8, bits: u8) -> RegisterPart {
    RegisterPart { reg, shift, bits }
}

macro_rules! legacy {
    ($reg:ident: $whole:literal $ftrace:literal $dword:literal $low:literal) => {
        [
            ($ftrace, part(Reg::$reg, 0, 64)),
            ($whole, part(Reg::$reg, 0, 64)),
            ($dword, part(Reg::$reg, 0, 32)),
            ($low, part(Reg::$reg, 0, 8)),
        ]
    };
}

macro_rules! numbered {
    ($reg:ident: $whole:literal) => {
        [
            ($whole, part(Reg::$reg, 0, 64)),
            (concat!($whole, "d"), part(Reg::$reg, 0, 32)),
            (concat!($whole, "w"), part(Reg::$reg, 0, 16)),
            (concat!($whole, "b"), part(Reg::$reg, 0, 8)),
        ]
    };
}

type Name = (&'static str, RegisterPart);

/// `%ax` is ftrace's name of the whole register (`regs_query_register_offset`), not its low 16 bits.
const NAMES: [&[Name]; 17] = [
    &legacy!(Rax: "rax" "ax" "eax" "al"),
    &legacy!(Rbx: "rbx" "bx" "ebx" "bl"),
    &legacy!(Rcx: "rcx" "cx" "ecx" "cl"),
    &legacy!(Rdx: "rdx" "dx" "edx" "dl"),
    &legacy!(Rsi: "rsi" "si" "esi" "sil"),
    &legacy!(Rdi: "rdi" "di" "edi" "dil"),
    &legacy!(Rbp: "rbp" "bp" "ebp" "bpl"),
    &legacy!(Rsp: "rsp" "sp" "esp" "spl"),
    &numbered!(R8: "r8"),
    &numbered!(R9: "r9"),
    &numbered!(R10: "r10"),
    &numbered!(R11: "r11"),
    &numbered!(R12: "r12"),
    &numbered!(R13: "r13"),
    &numbered!(R14: "r14"),
    &numbered!(R15: "r15"),
    &[
        ("ah", part(Reg::Rax, 8, 8)),
        ("bh", part(Reg::Rbx, 8, 8)),
        ("ch", part(Reg::Rcx, 8, 8)),
        ("dh", part(Reg::Rdx, 8, 8)),
        ("ip", part(Reg::Rip, 0, 64)),
        ("rip", part(Reg::Rip, 0, 64)),
        ("flags", part(Reg::Rflags, 0, 64)),
        ("eflags", part(Reg::Rflags, 0, 32)),
        ("rflags", part(Reg::Rflags, 0, 64)),
    ],
];

/// The register of this name, without the `%`.
pub(super) fn by_name(name: &str) -> Option<RegisterPart> {
    NAMES.iter().flat_map(|names| names.iter()).find(|(known, _)| *known == name).map(|(_, part)| *part)
}

/// Every name.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().flat_map(|names| names.iter()).map(|(name, _)| *name)
}
