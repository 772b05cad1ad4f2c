//! The registers of a hit: what handlers see and may change, what fetch arguments read,
//! what an emulated instruction works on.

/// The general registers at a probe.
///
/// The order is that of the kernel's signal frame (`struct sigcontext`, `gregs` of
/// `ucontext_t`), so that at a trap this is a view of the frame, not a copy, and that of
/// `struct uprobe_regs` in `include/uprobe.h`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Regs {
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rsp: u64,
    pub rip: u64,
    pub rflags: u64,
}

/// Index into [`Regs`] seen as an array of eighteen words.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[allow(missing_docs)]
pub enum Reg {
    R8 = 0,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    Rdi,
    Rsi,
    Rbp,
    Rbx,
    Rdx,
    Rax,
    Rcx,
    Rsp,
    Rip,
    Rflags,
}

/// The registers that carry the first six integer arguments (System V ABI, 3.2.3).
pub const ARGUMENT_REGS: [Reg; 6] = [Reg::Rdi, Reg::Rsi, Reg::Rdx, Reg::Rcx, Reg::R8, Reg::R9];

impl Regs {
    /// The value of `reg`.
    #[inline]
    #[must_use]
    pub const fn get(&self, reg: Reg) -> u64 {
        match reg {
            Reg::R8 => self.r8,
            Reg::R9 => self.r9,
            Reg::R10 => self.r10,
            Reg::R11 => self.r11,
            Reg::R12 => self.r12,
            Reg::R13 => self.r13,
            Reg::R14 => self.r14,
            Reg::R15 => self.r15,
            Reg::Rdi => self.rdi,
            Reg::Rsi => self.rsi,
            Reg::Rbp => self.rbp,
            Reg::Rbx => self.rbx,
            Reg::Rdx => self.rdx,
            Reg::Rax => self.rax,
            Reg::Rcx => self.rcx,
            Reg::Rsp => self.rsp,
            Reg::Rip => self.rip,
            Reg::Rflags => self.rflags,
        }
    }

    /// A mutable reference to `reg`.
    #[inline]
    pub const fn get_mut(&mut self, reg: Reg) -> &mut u64 {
        match reg {
            Reg::R8 => &mut self.r8,
            Reg::R9 => &mut self.r9,
            Reg::R10 => &mut self.r10,
            Reg::R11 => &mut self.r11,
            Reg::R12 => &mut self.r12,
            Reg::R13 => &mut self.r13,
            Reg::R14 => &mut self.r14,
            Reg::R15 => &mut self.r15,
            Reg::Rdi => &mut self.rdi,
            Reg::Rsi => &mut self.rsi,
            Reg::Rbp => &mut self.rbp,
            Reg::Rbx => &mut self.rbx,
            Reg::Rdx => &mut self.rdx,
            Reg::Rax => &mut self.rax,
            Reg::Rcx => &mut self.rcx,
            Reg::Rsp => &mut self.rsp,
            Reg::Rip => &mut self.rip,
            Reg::Rflags => &mut self.rflags,
        }
    }
}

/// Memory as seen at a hit: reads and writes that fail instead of faulting.
///
/// At a hit the implementation recovers from the fault; in tests it is an array.
pub trait Memory {
    /// Copies up to `dst.len()` bytes from `addr`; returns how many before the first that
    /// can't be read.
    fn read(&self, addr: u64, dst: &mut [u8]) -> usize;

    /// Copies `src` to `addr`; returns how many bytes before the first that can't be written.
    fn write(&self, addr: u64, src: &[u8]) -> usize;

    /// Reads a little-endian word, or `None` where any byte of it can't be read.
    fn read_u64(&self, addr: u64) -> Option<u64> {
        let mut word = [0; 8];
        (self.read(addr, &mut word) == 8).then(|| u64::from_le_bytes(word))
    }
}
