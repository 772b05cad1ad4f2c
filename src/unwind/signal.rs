//! Across the kernel's signal frame.

use super::Frame;
use crate::regs::{Memory, Regs};
use crate::sys::SIGNAL_RETURN;

/// From `ucontext_t` to `uc_mcontext.gregs` (sys/ucontext.h), which begins like [`Regs`].
const GREGS: u64 = 40;

/// The frame a signal interrupted, where `frame` is at the restorer: rsp is then at the `ucontext_t`.
pub(super) fn interrupted(frame: &Frame, memory: &impl Memory) -> Option<Frame> {
    let mut code = [0; SIGNAL_RETURN.len()];
    if memory.read(frame.rip(), &mut code) != code.len() || code != SIGNAL_RETURN {
        return None;
    }
    let mut words = [0_u8; 17 * 8];
    if memory.read(frame.rsp().wrapping_add(GREGS), &mut words) != words.len() {
        return None;
    }
    let mut next = words.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
    let mut word = || next.next().unwrap_or(0);
    // In the order of the kernel's frame: the fields are evaluated as they are written.
    let regs = Regs {
        r8: word(),
        r9: word(),
        r10: word(),
        r11: word(),
        r12: word(),
        r13: word(),
        r14: word(),
        r15: word(),
        rdi: word(),
        rsi: word(),
        rbp: word(),
        rbx: word(),
        rdx: word(),
        rax: word(),
        rcx: word(),
        rsp: word(),
        rip: word(),
        rflags: 0,
    };
    Some(Frame::new(&regs))
}
