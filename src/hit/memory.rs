//! The program's memory as seen at a hit: a read that faults returns what it got.

use crate::hit::asm::{uprobe_safe_copy, uprobe_safe_load, uprobe_safe_store};
use crate::regs::Memory;

/// Reads and writes through [`uprobe_safe_copy`]; needs our SIGSEGV and SIGBUS handlers in place.
pub struct SafeMemory;

impl Memory for SafeMemory {
    fn read(&self, addr: u64, dst: &mut [u8]) -> usize {
        // SAFETY: the destination is ours; the source may fault, which the fault handler turns into
        // a short count.
        unsafe { uprobe_safe_copy(dst.as_mut_ptr() as usize, addr as usize, dst.len()) }
    }

    fn write(&self, addr: u64, src: &[u8]) -> usize {
        // SAFETY: the source is ours; a fault in the destination becomes a short count. What is
        // written is what the program's own instruction, or the user's action, would write.
        unsafe { uprobe_safe_copy(addr as usize, src.as_ptr() as usize, src.len()) }
    }

    fn read_u64(&self, addr: u64) -> Option<u64> {
        // SAFETY: a fault becomes "not done".
        let word = unsafe { uprobe_safe_load(addr as usize) };
        (word.done != 0).then_some(word.value)
    }
}

impl SafeMemory {
    /// Writes a word; false where it can't be written.
    #[must_use]
    pub fn write_u64(&self, addr: u64, word: u64) -> bool {
        // SAFETY: a fault becomes "not done"; what is written is what the caller is to answer for.
        unsafe { uprobe_safe_store(addr as usize, word) != 0 }
    }
}
