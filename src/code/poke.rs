//! Writing to text that may be executing: never through a writable mapping of it.
//!
//! /proc/self/mem ignores page protection, does not split mappings, and one byte of it is atomic. The
//! descriptor is opened at start (a process that is no longer dumpable can't), kept at a high number,
//! and verified before use: a program that closes all descriptors closes ours too, and one inherited
//! over fork would write the parent.

use std::ffi::CStr;

use crate::hit::memory::SafeMemory;
use crate::hit::output;
use crate::regs::Memory;
use crate::sys::{self, Fd};

/// Writes text.
#[derive(Debug, Default)]
pub struct Poker {
    memory: Option<(Fd, FdMark)>,
}

/// What tells our open /proc/self/mem from whatever else may have its number now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct FdMark {
    pid: i32,
    dev: u64,
    ino: u64,
}

const MEMORY: &CStr = c"/proc/self/mem";

/// Bytes for one place in text, of which one step writes some.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patch {
    /// Where the first is.
    pub at: u64,
    /// All of them.
    pub bytes: [u8; Patch::LEN],
    /// Bit k: byte k is written.
    pub mask: u8,
}

impl Patch {
    /// Those of a jump.
    pub const LEN: usize = 5;

    /// One byte.
    #[must_use]
    pub const fn byte(at: u64, byte: u8) -> Self {
        Self { at, bytes: [byte, 0, 0, 0, 0], mask: 1 }
    }

    /// Offsets and bytes that are written.
    fn written(&self) -> impl Iterator<Item = (usize, u8)> + '_ {
        self.bytes.iter().copied().enumerate().filter(|(offset, _)| self.mask >> offset & 1 == 1)
    }

    /// The address behind the last byte that is written.
    fn end(&self) -> u64 {
        self.at + 8 - u64::from(self.mask.leading_zeros())
    }
}

/// Places nearer to each other than this are written together.
const NEAR: u64 = 256;
const PAGE: u64 = 4096;

impl Poker {
    /// Opens /proc/self/mem where it can be.
    #[must_use]
    pub fn new() -> Self {
        let mut poker = Self::default();
        poker.open();
        poker.rest();
        poker
    }

    fn open(&mut self) {
        self.memory = None;
        let Ok(fd) = Fd::open(MEMORY, libc::O_RDWR, 0) else { return };
        let fd = Fd::from_raw(output::own(fd));
        if let Some(mark) = mark_of(&fd) {
            self.memory = Some((fd, mark));
        }
    }

    /// A descriptor that certainly is our own memory now.
    fn verified(&mut self) -> Option<&Fd> {
        let valid = self.memory.as_ref().is_some_and(|(fd, mark)| mark_of(fd) == Some(*mark));
        if !valid {
            if let Some((fd, mark)) = self.memory.take() {
                let mine = Some((mark.dev, mark.ino));
                // The number belongs to the program now, or to our parent's memory: an inherited
                // descriptor of ours is closed, somebody else's left alone.
                let inherited = mine == mark_of(&fd).map(|mark| (mark.dev, mark.ino));
                let raw = fd.into_raw();
                if inherited {
                    output::disown(raw);
                }
            }
            self.open();
        }
        self.memory.as_ref().map(|(fd, _)| fd)
    }

    /// Closes it again where the program needs the number.
    fn rest(&mut self) {
        if output::is_scarce()
            && let Some((fd, _)) = self.memory.take()
        {
            output::disown(fd.into_raw());
        }
    }

    /// Reads what is at `address`, whatever the protection there. False where not all of it is there, or can't
    /// be read.
    #[must_use]
    pub fn read(&mut self, address: u64, bytes: &mut [u8]) -> bool {
        SafeMemory.read(address, bytes) == bytes.len() || self.read_through_protection(address, bytes)
    }

    fn read_through_protection(&mut self, address: u64, bytes: &mut [u8]) -> bool {
        let len = bytes.len();
        let is_read = self.verified().is_some_and(|fd| fd.read_at(bytes, address).is_ok_and(|n| n == len));
        self.rest();
        is_read
    }

    /// Writes `bytes` at `address`, whatever the protection there.
    ///
    /// # Errors
    /// errno of the last way tried.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), i32> {
        let written = match self.verified() {
            Some(fd) => fd.write_at(bytes, address),
            None => Err(libc::EACCES),
        };
        self.rest();
        match written {
            Ok(n) if n == bytes.len() => Ok(()),
            Ok(_) => Err(libc::EIO),
            Err(_) => write_through_protection(address, bytes),
        }
    }
}

impl Poker {
    /// Writes patches, which are in the order of their addresses. Neighbours in a page go by one call,
    /// with what lies between as it is: a call takes longer than the bytes. Of those that several threads
    /// may execute meanwhile each sees every byte either as it was or as it will be, since what does not change
    /// is written with its own value. Returns the indices of those that could not be written.
    pub fn write_all(&mut self, patches: &[Patch]) -> Vec<usize> {
        let mut failed = Vec::new();
        let mut from = 0;
        while let Some(first) = patches.get(from) {
            let is_near = |pair: &[Patch]| {
                pair[1].end().saturating_sub(pair[0].end()) <= NEAR
                    && pair[1].end() <= (first.at | (PAGE - 1))
            };
            let more = patches[from..].windows(2).take_while(|pair| is_near(pair)).count();
            let run = &patches[from..=from + more];
            if run.len() == 1 || self.write_run(run).is_err() {
                let is_written = |patch: &Patch| self.write_one(patch).is_ok();
                let not = run.iter().map(is_written).enumerate().filter(|(_, written)| !written);
                failed.extend(not.map(|(index, _)| from + index));
            }
            from += run.len();
        }
        failed
    }

    /// Together with what lies between.
    fn write_run(&mut self, run: &[Patch]) -> Result<(), i32> {
        let Some(first) = run.first() else { return Ok(()) };
        if run.iter().all(|patch| patch.mask == 0) {
            return Ok(());
        }
        let end = run.iter().map(Patch::end).fold(first.at, u64::max);
        let mut memory = [0; PAGE as usize];
        let len = (end - first.at) as usize;
        let bytes = memory.get_mut(..len).ok_or(libc::EINVAL)?;
        // Read here and not before: nobody else's change is lost that is older than a moment.
        if SafeMemory.read(first.at, bytes) != len {
            return Err(libc::EFAULT);
        }
        for patch in run {
            let at = (patch.at - first.at) as usize;
            patch.written().for_each(|(offset, byte)| bytes[at + offset] = byte);
        }
        self.write(first.at, bytes)
    }

    /// Alone: runs of its bytes.
    fn write_one(&mut self, patch: &Patch) -> Result<(), i32> {
        let mut from = 0;
        while from < Patch::LEN {
            let run = (from..Patch::LEN).take_while(|offset| patch.mask >> offset & 1 == 1).count();
            if run > 0 {
                self.write(patch.at + from as u64, &patch.bytes[from..from + run])?;
            }
            from += run.max(1);
        }
        Ok(())
    }
}

fn mark_of(fd: &Fd) -> Option<FdMark> {
    let stat = fd.stat().ok()?;
    Some(FdMark { pid: sys::getpid(), dev: stat.st_dev, ino: stat.st_ino })
}

/// The fallback: the pages made writable, execute kept, for the moment of the write.
fn write_through_protection(address: u64, bytes: &[u8]) -> Result<(), i32> {
    let target = address as *const u8;
    // SAFETY: execute stays allowed, so threads in these pages go on; the protection is restored.
    let changed =
        unsafe { region::protect_with_handle(target, bytes.len(), region::Protection::READ_WRITE_EXECUTE) };
    match changed {
        Ok(_guard) => {
            store(address, bytes);
            Ok(())
        }
        // It asks /proc what the protection was.
        Err(_) => write_through_protection_of_text(address, bytes),
    }
}

/// The same where nobody tells what the protection was: what we write to is text, readable and executable.
fn write_through_protection_of_text(address: u64, bytes: &[u8]) -> Result<(), i32> {
    const PAGE: usize = 4096;
    let from = address as usize & !(PAGE - 1);
    let len = (address as usize + bytes.len()).next_multiple_of(PAGE) - from;
    let text = libc::PROT_READ | libc::PROT_EXEC;
    sys::protect(from, len, text | libc::PROT_WRITE)?;
    store(address, bytes);
    sys::protect(from, len, text)
}

/// To pages just made writable; one byte at a time is atomic.
fn store(address: u64, bytes: &[u8]) {
    for (offset, byte) in bytes.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::write_volatile((address as usize + offset) as *mut u8, *byte) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::{mapping_at, read_maps};

    /// A page of code: `ret` everywhere.
    fn page_of_code() -> u64 {
        let page = sys::map_anonymous(4096).expect("memory");
        // SAFETY: our own fresh page.
        unsafe { std::ptr::write_bytes(page as *mut u8, 0xC3, 4096) };
        // SAFETY: our own page.
        unsafe { region::protect(page as *const u8, 4096, region::Protection::READ_EXECUTE) }
            .expect("mprotect");
        page as u64
    }

    fn byte_at(address: u64) -> u8 {
        // SAFETY: inside our own readable page.
        unsafe { std::ptr::read_volatile(address as *const u8) }
    }

    #[test]
    fn both_ways_write_text_and_leave_its_protection_alone() {
        let mut with_memory = Poker::new();
        assert!(with_memory.verified().is_some(), "/proc/self/mem can't be opened here");
        let page = page_of_code();
        with_memory.write(page + 5, &[0xCC]).expect("through /proc/self/mem");
        write_through_protection(page + 9, &[0xCC, 0x90]).expect("through mprotect");
        write_through_protection_of_text(page + 11, &[0x90]).expect("through mprotect");
        let found: Vec<u8> = (0..12).map(|i| byte_at(page + i)).collect();
        assert_eq!(found, [0xC3, 0xC3, 0xC3, 0xC3, 0xC3, 0xCC, 0xC3, 0xC3, 0xC3, 0xCC, 0x90, 0x90]);
        // SAFETY: our own page.
        unsafe { region::protect(page as *const u8, 4096, region::Protection::NONE) }.expect("mprotect");
        let mut read = [0; 3];
        assert!(with_memory.read_through_protection(page + 8, &mut read), "what can be written can be read");
        assert_eq!(read, [0xC3, 0xCC, 0x90]);
        // SAFETY: our own page.
        unsafe { region::protect(page as *const u8, 4096, region::Protection::READ_EXECUTE) }
            .expect("mprotect");
        let maps = read_maps().expect("/proc");
        let map = mapping_at(&maps, page).expect("mapped");
        assert!(map.executable && !map.writable, "{map:?}");
    }

    #[test]
    fn patches_change_their_bytes_and_nothing_between() {
        let page = page_of_code();
        let bytes = [1, 2, 3, 4, 5];
        let patches = [
            Patch::byte(0x10, 9),
            Patch { at: page + 1, bytes, mask: 0b1_0010 },
            Patch::byte(page + 6, 6),
            Patch { at: page + 100, bytes, mask: 0b1_1111 },
            Patch { at: page + 1000, bytes, mask: 0b0_0101 },
            Patch { at: page + 4090, bytes, mask: 0b0_0001 },
        ];
        assert_eq!(Poker::new().write_all(&patches), [0], "nothing is mapped at the first");
        let mut expected = [0xC3; 4096];
        for patch in &patches[1..] {
            patch.written().for_each(|(offset, byte)| expected[(patch.at - page) as usize + offset] = byte);
        }
        assert_eq!(expected[1..12], [0xC3, 2, 0xC3, 0xC3, 5, 6, 0xC3, 0xC3, 0xC3, 0xC3, 0xC3]);
        assert!((0..4096).all(|i| byte_at(page + i) == expected[i as usize]));
        assert!(Poker::new().write_all(&[]).is_empty());
    }

    #[test]
    fn memory_that_is_not_there_is_an_error() {
        assert!(Poker::new().write(0x10, &[0xCC]).is_err());
    }
}
