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

impl Poker {
    /// Opens /proc/self/mem where it can be.
    #[must_use]
    pub fn new() -> Self {
        let mut poker = Self::default();
        poker.open();
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

    /// Reads what is at `address`, whatever the protection there. False where not all of it is there, or can't
    /// be read.
    #[must_use]
    pub fn read(&mut self, address: u64, bytes: &mut [u8]) -> bool {
        if SafeMemory.read(address, bytes) == bytes.len() {
            return true;
        }
        let len = bytes.len();
        self.verified().is_some_and(|fd| fd.read_at(bytes, address).is_ok_and(|n| n == len))
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
        match written {
            Ok(n) if n == bytes.len() => Ok(()),
            Ok(_) => Err(libc::EIO),
            Err(_) => write_through_protection(address, bytes),
        }
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
    let _guard =
        unsafe { region::protect_with_handle(target, bytes.len(), region::Protection::READ_WRITE_EXECUTE) }
            .map_err(|error| match error {
            region::Error::SystemCall(error) => error.raw_os_error().unwrap_or(libc::EACCES),
            _ => libc::EACCES,
        })?;
    for (offset, byte) in bytes.iter().enumerate() {
        // SAFETY: just made writable; one byte at a time is atomic.
        unsafe { std::ptr::write_volatile((address as usize + offset) as *mut u8, *byte) };
    }
    Ok(())
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
        let found: Vec<u8> = (0..12).map(|i| byte_at(page + i)).collect();
        assert_eq!(found, [0xC3, 0xC3, 0xC3, 0xC3, 0xC3, 0xCC, 0xC3, 0xC3, 0xC3, 0xCC, 0x90, 0xC3]);
        // SAFETY: our own page.
        unsafe { region::protect(page as *const u8, 4096, region::Protection::NONE) }.expect("mprotect");
        let mut read = [0; 3];
        assert!(with_memory.read(page + 8, &mut read), "what can be written can be read");
        assert_eq!(read, [0xC3, 0xCC, 0x90]);
        // SAFETY: our own page.
        unsafe { region::protect(page as *const u8, 4096, region::Protection::READ_EXECUTE) }
            .expect("mprotect");
        let maps = read_maps().expect("/proc");
        let map = mapping_at(&maps, page).expect("mapped");
        assert!(map.executable && !map.writable, "{map:?}");
    }

    #[test]
    fn memory_that_is_not_there_is_an_error() {
        assert!(Poker::new().write(0x10, &[0xCC]).is_err());
    }
}
