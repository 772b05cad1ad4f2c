//! Where detours go.

use super::maps::{free_gaps, read_maps};
use super::poke::Poker;
use crate::insn::Window;
use crate::sys;

/// Memory for detours.
#[derive(Default)]
pub struct DetourSpace {
    queued: Vec<(u64, Vec<u8>)>,
}

/// A place for a detour.
pub struct Placed {
    /// First byte of the memory.
    pub at: u64,
    /// The jump that leads to it.
    pub jump: [u8; 5],
    /// Bit k: at offset k it has a byte that traps.
    pub traps: u8,
}

impl DetourSpace {
    /// Memory for `len` bytes, of which the jump leads to `head`.
    pub fn take(&mut self, window: &Window, head: usize, len: usize) -> Option<Placed> {
        let maps = read_maps()?;
        let (low, high) = window.reach();
        let gaps = free_gaps(&maps, low, high);
        for range in window.candidates() {
            for (start, end) in &gaps {
                let Some(target) = range.first_from(start + head as u64 + 65536) else { continue };
                let at = target - head as u64;
                if at + len as u64 + 65536 > *end {
                    continue;
                }
                let page = at & !4095;
                let size = (at + len as u64 - page).next_multiple_of(4096) as usize;
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
                // SAFETY: NOREPLACE.
                let got = unsafe {
                    sys::mmap(page as usize, size, libc::PROT_READ | libc::PROT_EXEC, flags, -1, 0)
                };
                if got == Ok(page as usize) {
                    return Some(Placed { at, jump: range.jump_to(target)?, traps: range.traps() });
                }
            }
        }
        None
    }

    /// Fills it at the next flush.
    pub fn queue(&mut self, at: u64, bytes: Vec<u8>) {
        self.queued.push((at, bytes));
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// errno.
    pub fn flush(&mut self, poker: &mut Poker) -> Result<(), i32> {
        for (at, bytes) in self.queued.drain(..) {
            poker.write(at, &bytes)?;
        }
        Ok(())
    }
}
