//! Where a thread's own stack is.

use std::sync::atomic::{AtomicU64, Ordering::*};

use crate::hit::asm;
use crate::hit::memory::SafeMemory;
use crate::regs::Memory;
use crate::sys;

static MAIN_LOW: AtomicU64 = AtomicU64::new(0);
static MAIN_HIGH: AtomicU64 = AtomicU64::new(0);

/// Remembers the main thread's stack.
pub fn note_main_stack(low: u64, high: u64) {
    MAIN_LOW.store(low, Release);
    MAIN_HIGH.store(high, Release);
}

/// The bounds of the calling thread's own stack, where `slot` is on it and they can be told without a
/// call: the main thread's, as noted at start; another's lie in its `struct pthread`, as glibc's
/// stackblock and stackblock_size, which no other two words there can be taken for.
pub(super) fn of(slot: u64) -> Option<(u64, u64)> {
    let main = (MAIN_LOW.load(Acquire), MAIN_HIGH.load(Acquire));
    if main.0 <= slot && slot < main.1 {
        return (sys::gettid() == sys::getpid()).then_some(main);
    }
    /// Not less than the size of any glibc's struct pthread.
    const DESCRIPTOR: usize = 0xC00;
    /// From the descriptor to the end of the block: the descriptor, and alignment.
    const TAIL: u64 = 0x1_0000;
    let base = asm::thread_base();
    let mut window = [0_u8; 256 + 8];
    for from in (0..DESCRIPTOR).step_by(256) {
        let n = SafeMemory.read(base + from as u64, &mut window);
        let word = |at: usize| {
            window
                .get(at..at + 8)
                .filter(|_| at + 8 <= n)
                .map(|bytes| bytes.iter().rev().fold(0_u64, |word, byte| word << 8 | u64::from(*byte)))
        };
        for at in (0..256).step_by(8) {
            let (Some(low), Some(size)) = (word(at), word(at + 8)) else { break };
            let Some(end) = low.checked_add(size) else { continue };
            if low <= slot && slot < base && base < end && end - base < TAIL && low > 0xFFFF {
                return Some((low, base));
            }
        }
    }
    None
}
