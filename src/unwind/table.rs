//! Finding a function's description: the sorted table of `.eh_frame_hdr`, then the FDE and its CIE,
//! copied out.
//!
//! The format is that of the Linux Standard Base, Core specification, chapter 10.6 ("Exception Frames").

use crate::regs::Memory;

/// `.eh_frame_hdr` as every linker writes it: version 1, pointer pcrel sdata4, count udata4, table datarel
/// sdata4.
const HEADER: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
/// Offset of the table in it.
const ENTRIES: u64 = 12;
/// Bytes of an entry: start of the function, address of its FDE, both relative to the header.
const ENTRY_SIZE: u64 = 8;
/// Longest CIE that is read. (They are of 20 to 28 bytes.)
const LONGEST_CIE: usize = 128;
/// Longest FDE: the longest of glibc, Python, libcrypto and libstdc++ is of 756 bytes.
const LONGEST_FDE: usize = 1024;

/// A CIE and behind it an FDE that belongs to it: a section of two entries.
pub(super) struct Description {
    bytes: [u8; LONGEST_CIE + LONGEST_FDE],
    len: usize,
    /// Offset of the FDE.
    pub(super) fde: usize,
    /// Where the section would have to be for pc-relative values in the FDE to be right.
    pub(super) address: u64,
}

impl Description {
    /// None yet. Filled where it is, for want of stack.
    pub(super) const fn new() -> Self {
        Self { bytes: [0; LONGEST_CIE + LONGEST_FDE], len: 0, fde: 0, address: 0 }
    }

    /// The section.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Fills `found` with the description of the last function that begins at or before `pc`; it may end before it.
pub(super) fn find(header: u64, pc: u64, memory: &impl Memory, found: &mut Description) -> Option<()> {
    copy(fde_at(header, pc, memory)?, memory, found)
}

/// What the description that [`find`] finds has besides: the first bytes of its augmentation string.
pub(super) fn augmentation(header: u64, pc: u64, memory: &impl Memory) -> Option<[u8; 8]> {
    let cie = cie_of(fde_at(header, pc, memory)?, memory)?;
    let mut found = [0; 8];
    // Behind length, id and version.
    (memory.read(cie.wrapping_add(9), &mut found) == found.len()).then_some(found)
}

fn fde_at(header: u64, pc: u64, memory: &impl Memory) -> Option<u64> {
    let mut head = [0; ENTRIES as usize];
    if memory.read(header, &mut head) != head.len() || head[..4] != HEADER {
        return None;
    }
    let count = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    let entry = |index: u32| {
        let words = memory.read_u64(header.wrapping_add(ENTRIES + ENTRY_SIZE * u64::from(index)))?;
        let relative = |word: u64| header.wrapping_add_signed(i64::from(word as u32 as i32));
        Some((relative(words), relative(words >> 32)))
    };
    // The first `low` begin at or before pc, none from `high` on.
    let (mut low, mut high) = (0, count);
    let mut last = None;
    while low < high {
        let middle = low + (high - low) / 2;
        let (start, fde) = entry(middle)?;
        if start <= pc {
            low = middle + 1;
            last = Some(fde);
        } else {
            high = middle;
        }
    }
    last
}

/// The second word of an FDE is the distance from itself back to its CIE.
fn cie_of(fde: u64, memory: &impl Memory) -> Option<u64> {
    let back = read_u32(fde.wrapping_add(4), memory)?;
    Some(fde.wrapping_add(4).wrapping_sub(u64::from(back)))
}

fn read_u32(address: u64, memory: &impl Memory) -> Option<u32> {
    let mut word = [0; 4];
    (memory.read(address, &mut word) == 4).then(|| u32::from_le_bytes(word))
}

/// Size of the entry at `address` with its length field. The 64-bit form, for entries beyond 4 GiB, is one
/// of those that are too long.
fn entry_size(address: u64, most: usize, memory: &impl Memory) -> Option<usize> {
    let size = (read_u32(address, memory)? as usize).checked_add(4)?;
    (size > 8 && size <= most).then_some(size)
}

fn copy(fde: u64, memory: &impl Memory, found: &mut Description) -> Option<()> {
    let cie = cie_of(fde, memory)?;
    let cie_size = entry_size(cie, LONGEST_CIE, memory)?;
    let fde_size = entry_size(fde, LONGEST_FDE, memory)?;
    found.len = cie_size + fde_size;
    found.fde = cie_size;
    found.address = fde.wrapping_sub(cie_size as u64);
    let (first, second) = found.bytes.get_mut(..found.len)?.split_at_mut_checked(cie_size)?;
    if memory.read(cie, first) != cie_size || memory.read(fde, second) != fde_size {
        return None;
    }
    second.get_mut(4..8)?.copy_from_slice(&(cie_size as u32 + 4).to_le_bytes());
    Some(())
}
