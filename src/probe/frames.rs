//! Where the unwind tables of the loaded objects are, for [`crate::hit::objects`].

use std::rc::Rc;
use std::sync::atomic::AtomicUsize;

use crate::hit::memory::SafeMemory;
use crate::hit::objects::{self, Cell, List, Object};
use crate::probe::modules::Module;
use crate::regs::Memory;

/// `PT_LOAD` and `PT_GNU_EH_FRAME` (elf.h).
const PT_LOAD: u32 = 1;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
/// `PF_W`.
const PF_W: u8 = 2;
/// `sizeof(Elf64_Phdr)`.
const HEADER_SIZE: usize = 56;
/// Lists grow by steps of this.
const ROOM: usize = 64;

/// Makes the unwind tables of exactly these objects, and the vDSO's, known to hits. The registry's lock must be
/// held.
pub(super) fn publish(modules: &[Rc<Module>]) {
    let mut found: Vec<Object> = modules
        .iter()
        .filter_map(|module| {
            let headers = ProgramHeaders::read(module.low)?;
            Some(Object { low: module.low, high: module.high, frame_header: headers.frame_header()? })
        })
        .collect();
    found.extend(vdso());
    found.sort_unstable_by_key(|object| object.low);
    objects::publish(&found, |len| {
        let cells = (0..len.next_multiple_of(ROOM)).map(|_| Cell::default()).collect();
        Box::leak(Box::new(List { count: AtomicUsize::new(0), cells }))
    });
}

fn vdso() -> Option<Object> {
    // SAFETY: reads the auxiliary vector.
    let low = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
    let headers = ProgramHeaders::read(low).filter(|_| low != 0)?;
    Some(Object { low, high: low.wrapping_add(headers.extent()?), frame_header: headers.frame_header()? })
}

/// The program headers of an object in memory: they are in its first page, mapped wherever its first
/// segment begins at the file's start, which is so for all that linkers make.
pub(super) struct ProgramHeaders {
    low: u64,
    bytes: Vec<u8>,
}

impl ProgramHeaders {
    pub(super) fn read(low: u64) -> Option<Self> {
        let mut start = [0; 64];
        let is_elf = SafeMemory.read(low, &mut start) == start.len() && start.starts_with(b"\x7fELF\x02\x01");
        if !is_elf {
            return None;
        }
        let offset = u64::from_le_bytes(start[32..40].try_into().ok()?);
        let count = usize::from(u16::from_le_bytes([start[56], start[57]]));
        let mut bytes = vec![0; count * HEADER_SIZE];
        let is_read = SafeMemory.read(low.checked_add(offset)?, &mut bytes) == bytes.len();
        is_read.then_some(Self { low, bytes })
    }

    /// Type, link address and size in memory of each.
    fn each(&self) -> impl Iterator<Item = (u32, u64, u64)> {
        let word = |header: &[u8; HEADER_SIZE], at: usize| {
            header.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
        };
        let headers = self.bytes.as_chunks::<HEADER_SIZE>().0.iter();
        headers.map(move |header| (word(header, 0) as u32, word(header, 16), word(header, 40)))
    }

    /// Where the segments are that nobody writes to: first byte, and first behind.
    pub(super) fn read_only(&self) -> impl Iterator<Item = (u64, u64)> {
        let first = self.first().unwrap_or_default();
        let flags = self.bytes.as_chunks::<HEADER_SIZE>().0.iter().map(|header| header[4]);
        self.each().zip(flags).filter(|((kind, ..), flags)| *kind == PT_LOAD && flags & PF_W == 0).map(
            move |((_, link, size), _)| {
                let start = self.low.wrapping_add(link.wrapping_sub(first));
                (start, start.wrapping_add(size))
            },
        )
    }

    /// Link address that is at `low`: the first segment's, rounded to its page.
    fn first(&self) -> Option<u64> {
        self.each().filter(|(kind, ..)| *kind == PT_LOAD).map(|(_, link, _)| link & !0xfff).min()
    }

    fn extent(&self) -> Option<u64> {
        let ends = self.each().filter(|(kind, ..)| *kind == PT_LOAD).map(|(_, link, size)| link + size);
        ends.max()?.checked_sub(self.first()?)
    }

    fn frame_header(&self) -> Option<u64> {
        let link = self.each().find(|(kind, ..)| *kind == PT_GNU_EH_FRAME)?.1;
        Some(self.low.wrapping_add(link.wrapping_sub(self.first()?)))
    }
}
