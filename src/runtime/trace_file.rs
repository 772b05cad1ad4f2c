//! The binary trace's file: made, or joined where another traced process is writing to it now.

use crate::hit::ring::Mapped;
use crate::hit::{clock, process};
use crate::runtime::files::{self, Naming, lock, process_start_ns, realtime_ns, terminated};
use crate::sys::{self, Fd};
use crate::trace::file::{self, AT_MONOTONIC, AT_REALTIME, CHUNK_HEAD, HEADER_SIZE, Header, THREAD};
use crate::trace::reader::{NotATrace, Trace};

/// How often, at intervals of a millisecond, a file is looked at that another process is making.
const PATIENCE: u32 = 200;

/// Why there is no trace.
#[derive(Debug)]
pub enum Failure {
    /// The system says no.
    Errno(i32),
    /// It is no file that can be mapped: a pipe, a device.
    NotAFile,
    /// Another process is writing something else to it.
    Busy(NotATrace),
    /// The file may not be large enough (RLIMIT_FSIZE).
    Limit(u64),
}

impl From<i32> for Failure {
    fn from(errno: i32) -> Self {
        Self::Errno(errno)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Errno(errno) => std::io::Error::from_raw_os_error(*errno).fmt(f),
            Self::NotAFile => f.write_str("it is no regular file, which a trace must be"),
            Self::Busy(why) => write!(f, "another process is writing to it: {why}"),
            Self::Limit(limit) => write!(f, "files may have {limit} bytes at most (RLIMIT_FSIZE)"),
        }
    }
}

/// Opens and maps it; no descriptor stays open. It begins empty, unless another traced process is writing
/// to it now, or this one did before it executed another program: those of one file share its room.
///
/// # Errors
/// See there.
pub fn open(naming: &Naming, template: &str, size: u64) -> Result<Mapped, Failure> {
    let path = naming.path(template);
    // One that is no file (a pipe) must not be waited for.
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_NOCTTY | libc::O_NONBLOCK;
    let fd = files::open_in_need(&terminated(&path).ok_or(libc::EINVAL)?, flags)?;
    if fd.stat()?.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(Failure::NotAFile);
    }
    // The mapping holds the lock when the descriptor is closed: to its end, or the process's.
    if lock(&fd, libc::LOCK_EX | libc::LOCK_NB) {
        let mapped = match join(&fd) {
            Ok(mapped) if was_begun_here(&mapped) => Ok(mapped),
            other => {
                if let Ok(mapped) = other {
                    // SAFETY: nobody knows of it.
                    let _ = unsafe { sys::munmap(mapped.base, mapped.size) };
                }
                make(&fd, naming, size)
            }
        };
        lock(&fd, libc::LOCK_SH | libc::LOCK_NB);
        return mapped;
    }
    for _ in 0..PATIENCE {
        if lock(&fd, libc::LOCK_SH | libc::LOCK_NB) {
            return join(&fd);
        }
        sys::sleep_ms(1);
    }
    Err(Failure::Errno(libc::EWOULDBLOCK))
}

/// What the limits of this process leave of `size`.
fn allowed(size: u64) -> Result<u64, Failure> {
    // Beyond the first there is a signal; of the second the program wants the most for itself.
    let files = sys::soft_limit(libc::RLIMIT_FSIZE);
    if files < file::LEAST_SIZE {
        return Err(Failure::Limit(files));
    }
    Ok(file::whole_size(size.min(files).min(sys::soft_limit(libc::RLIMIT_AS) / 8)))
}

/// Makes the file anew. It takes no room on the disk before it is written to.
fn make(fd: &Fd, naming: &Naming, size: u64) -> Result<Mapped, Failure> {
    let size = allowed(size)?;
    for len in [0, size as usize] {
        // SAFETY: no pointers.
        unsafe { sys::syscall3(libc::SYS_ftruncate, fd.raw() as usize, len, 0) }?;
    }
    let header = Header {
        pid: process::pid() as u32,
        size,
        monotonic_ns: clock::now_ns(),
        realtime_ns: realtime_ns().unwrap_or_default(),
        program: &naming.program,
    };
    let header = header.encode();
    if fd.write_at(&header, 0)? != header.len() {
        return Err(Failure::Errno(libc::ENOSPC));
    }
    map(fd, size)
}

/// Maps a file that is a trace already.
fn join(fd: &Fd) -> Result<Mapped, Failure> {
    let len = fd.stat()?.st_size as u64;
    let mapped = map(fd, len.max(1))?;
    // SAFETY: mapped, and nobody makes a trace shorter.
    let bytes = unsafe { std::slice::from_raw_parts(mapped.base as *const u8, len as usize) };
    let head = bytes.get(..HEADER_SIZE).unwrap_or_default().to_vec();
    let size = Trace::size(&head);
    let why = match Trace::read(head) {
        Err(why) => why,
        Ok(_) if size == Some(len) && len == file::whole_size(len) => return Ok(mapped),
        Ok(_) => NotATrace::Header,
    };
    // SAFETY: nobody knows of it.
    let _ = unsafe { sys::munmap(mapped.base, mapped.size) };
    Err(Failure::Busy(why))
}

fn map(fd: &Fd, size: u64) -> Result<Mapped, Failure> {
    let size = size as usize;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: no MAP_FIXED: no existing mapping changes.
    let base = unsafe { sys::mmap(0, size, protection, libc::MAP_SHARED, fd.raw(), 0) }?;
    Ok(Mapped { base, size })
}

/// Whether this very process has written to it, before it executed another program: a chunk of its
/// number is not older than it is.
fn was_begun_here(mapped: &Mapped) -> bool {
    /// The kernel counts process starts in hundredths of a second.
    const SLACK_NS: i128 = 20_000_000;
    let Some(start) = process_start_ns() else { return false };
    // SAFETY: mapped, and nobody else writes to it: the lock is ours.
    let bytes = unsafe { std::slice::from_raw_parts(mapped.base as *const u8, mapped.size) };
    let number = |at: usize| {
        let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
        word.map_or(0, u64::from_le_bytes)
    };
    let offset = i128::from(number(AT_REALTIME)) - i128::from(number(AT_MONOTONIC));
    let used = Trace::used(bytes).unwrap_or_default().min(mapped.size as u64) as usize;
    (HEADER_SIZE..used).step_by(file::CHUNK_SIZE).any(|chunk| {
        let record = number(chunk + CHUNK_HEAD);
        let is_mine =
            (record >> 16) as u8 == THREAD && number(chunk + CHUNK_HEAD + 8) as u32 == process::pid() as u32;
        is_mine && i128::from(number(chunk + 16)) + offset + SLACK_NS >= start
    })
}
