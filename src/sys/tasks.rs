//! The threads of this process, as /proc shows them.

use std::ffi::{CStr, CString};

use super::call::syscall3;
use super::file::{Fd, read_whole};

const TASKS: &CStr = c"/proc/self/task";

/// The thread ids of this process; none without /proc.
#[must_use]
pub fn thread_ids() -> Vec<i32> {
    let mut ids = Vec::new();
    let Ok(dir) = Fd::open(TASKS, libc::O_RDONLY | libc::O_DIRECTORY, 0) else { return ids };
    let mut buffer = [0_u8; 4096];
    loop {
        // SAFETY: the buffer's length is passed.
        let got = unsafe {
            syscall3(libc::SYS_getdents64, dir.raw() as usize, buffer.as_mut_ptr() as usize, buffer.len())
        };
        let Ok(got @ 1..) = got else { return ids };
        ids.extend(
            names(&buffer[..got]).filter_map(|name| std::str::from_utf8(name).ok()?.parse::<i32>().ok()),
        );
    }
}

/// The names in a buffer of `struct linux_dirent64` (getdents64(2)).
fn names(mut entries: &[u8]) -> impl Iterator<Item = &[u8]> {
    const LENGTH: usize = 16;
    const NAME: usize = 19;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_le_bytes(entries.get(LENGTH..LENGTH + 2)?.try_into().ok()?));
        let name = entries.get(NAME..length)?;
        entries = &entries[length..];
        Some(name.split(|byte| *byte == 0).next().unwrap_or_default())
    })
}

/// The signals a thread blocks in the kernel's eyes; `None` where it is gone.
#[must_use]
pub fn blocked_signals(tid: i32) -> Option<u64> {
    let path = CString::new(format!("/proc/self/task/{tid}/status")).ok()?;
    let text = read_whole(&path).ok()?;
    let text = String::from_utf8_lossy(&text);
    let mask = text.lines().find_map(|line| line.strip_prefix("SigBlk:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// Whether the main thread has ended, while others go on: until the last of them ends it is a zombie,
/// and its id stays taken. False without /proc. Async-signal-safe.
#[must_use]
pub fn main_thread_has_ended() -> bool {
    let mut buffer = [0_u8; 256];
    let read = Fd::open(c"/proc/self/status", libc::O_RDONLY, 0).and_then(|fd| fd.read(&mut buffer));
    let mut lines = buffer[..read.unwrap_or(0)].split(|byte| *byte == b'\n');
    lines.any(|line| matches!(line.strip_prefix(b"State:\t"), Some([b'Z' | b'X', ..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_thread_is_listed_and_blocks_what_it_blocks() {
        let tid = super::super::gettid();
        assert!(thread_ids().contains(&tid));
        let bit = super::super::sigbit(libc::SIGUSR2);
        let old = super::super::set_signal_mask(bit);
        assert_eq!(blocked_signals(tid), Some(bit));
        super::super::set_signal_mask(old);
        assert_eq!(blocked_signals(tid).map(|mask| mask & bit), Some(old & bit));
        assert!(!main_thread_has_ended());
    }
}
