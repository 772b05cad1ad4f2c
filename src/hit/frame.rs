//! The kernel's signal frame, seen as what we need of it.
//! Source: arch/x86/include/uapi/asm/sigcontext.h, ucontext.h; signal(7).

use crate::regs::Regs;

/// `ucontext_t` as the kernel lays it out (the part before `fpregs`' target).
#[repr(C)]
pub struct SignalContext {
    flags: u64,
    link: usize,
    /// uc_stack: address, flags, size.
    stack: [u64; 3],
    /// gregs 0..=17: the same order as [`Regs`].
    pub regs: Regs,
    /// cs, gs, fs, ss.
    pub segments: u64,
    /// Page-fault error code.
    pub error: u64,
    /// Vector of the last exception.
    pub trap_number: u64,
    old_mask: u64,
    /// Address of the last page fault.
    pub cr2: u64,
    /// Address of the vector and x87 registers in the form of fxsave; 0: not saved.
    pub fpregs: usize,
    reserved: [u64; 8],
    /// The mask sigreturn restores; bit n-1 is signal n.
    pub mask: u64,
}

impl SignalContext {
    /// Bytes of the thread's alternate stack, where it has one (sigaltstack(2)).
    #[must_use]
    pub const fn alternate_stack_size(&self) -> Option<u64> {
        const FLAGS: u64 = u32::MAX as u64;
        let [_, flags, size] = self.stack;
        if flags & FLAGS & libc::SS_DISABLE as u64 == 0 { Some(size) } else { None }
    }
}

/// `siginfo_t`, 128 bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SignalInfo {
    /// si_signo.
    pub signal: i32,
    /// si_errno.
    pub errno: i32,
    /// si_code.
    pub code: i32,
    /// Nothing in the kernel's; not 0: see [`SignalInfo::is_for_thread`].
    for_thread: i32,
    /// si_addr for faults; si_pid and si_uid for kill.
    pub address: u64,
    rest: [u64; 13],
}

/// Exception vector of a division by zero.
pub const VECTOR_DIVISION: u64 = 0;
/// Exception vector of int3.
pub const VECTOR_BREAKPOINT: u64 = 3;
/// Exception vector of an undefined opcode.
pub const VECTOR_UNDEFINED: u64 = 6;
/// si_code of an int3 (and of a general protection fault).
pub const SI_KERNEL: i32 = 0x80;

impl SignalInfo {
    /// All zero.
    #[must_use]
    pub const fn new() -> Self {
        Self { signal: 0, errno: 0, code: 0, for_thread: 0, address: 0, rest: [0; 13] }
    }

    /// Whether the processor raised it at this very instruction, and not somebody's kill.
    #[must_use]
    pub const fn is_synchronous(&self) -> bool {
        self.code > 0
    }
}

/// In si_errno, which no sender of a signal uses: si_code is not what it says (see [`SignalInfo::disguise`]).
const DISGUISED: i32 = 0x7570_0000;
/// The same of one that was sent to a thread with the code of sigqueue(): alone that says nothing.
const DISGUISED_FOR_THREAD: i32 = 0x7571_0000;
const ORIGINAL_CODE: i32 = 0xFFFF;

impl SignalInfo {
    /// Makes it one that the kernel lets a thread send to another one (it keeps the codes of kill() and
    /// tgkill() for itself), and that is known to be ours. The code goes into si_errno.
    pub fn disguise(&mut self) {
        let mark = if self.for_thread == 0 { DISGUISED } else { DISGUISED_FOR_THREAD };
        self.errno = mark | (self.code & ORIGINAL_CODE);
        self.code = libc::SI_QUEUE;
        self.for_thread = 0;
    }

    /// It is for the thread that gets it, whatever its code says.
    pub fn mark_for_thread(&mut self) {
        self.for_thread = 1;
    }

    /// Whether it was sent to this thread, as far as that is known, and not to the process.
    #[must_use]
    pub const fn is_for_thread(&self) -> bool {
        self.code == libc::SI_TKILL || self.for_thread != 0
    }

    /// As the program may see it.
    pub fn show(&mut self) {
        self.for_thread = 0;
    }

    /// Undoes [`SignalInfo::disguise`], where it was done. Whether it was.
    pub fn restore(&mut self) -> bool {
        let mark = self.errno & !ORIGINAL_CODE;
        let disguised = self.code == libc::SI_QUEUE && matches!(mark, DISGUISED | DISGUISED_FOR_THREAD);
        if disguised {
            self.for_thread = i32::from(mark == DISGUISED_FOR_THREAD);
            self.code = i32::from((self.errno & ORIGINAL_CODE) as i16);
            self.errno = 0;
        }
        disguised
    }
}

impl Default for SignalInfo {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    #[test]
    fn a_disguised_signal_is_restored() {
        for code in [libc::SI_USER, libc::SI_TKILL, libc::SI_QUEUE, libc::SI_TIMER] {
            for is_marked in [false, true] {
                let mut info = SignalInfo { code, ..SignalInfo::new() };
                if is_marked {
                    info.mark_for_thread();
                }
                info.disguise();
                assert!(info.code < 0 && info.code != libc::SI_TKILL && info.for_thread == 0);
                assert!(info.restore());
                assert_eq!((info.code, info.errno), (code, 0));
                assert_eq!(info.is_for_thread(), is_marked || code == libc::SI_TKILL);
            }
        }
    }

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(offset_of!(SignalContext, regs), 40);
        assert_eq!(offset_of!(SignalContext, mask), 296);
        assert_eq!(offset_of!(SignalContext, trap_number), 40 + 20 * 8);
        assert_eq!(size_of::<SignalInfo>(), 128);
        assert_eq!(offset_of!(SignalInfo, address), 16);
        assert_eq!(size_of::<Regs>(), 144);
    }
}
