//! Files by raw calls: an owned descriptor, a read-only mapping, whole small files.

use std::ffi::CStr;

use super::call::{map_anonymous, mmap, munmap, syscall3, syscall4};

/// An open file description of ours, closed when dropped.
#[derive(Debug)]
pub struct Fd(i32);

/// Device and inode: what makes two names one file. An inode's number may be another file's later, and a file's
/// content may be another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FileId {
    /// st_dev.
    pub dev: u64,
    /// st_ino.
    pub ino: u64,
    /// st_size.
    pub size: u64,
    /// st_mtime, in nanoseconds.
    pub modified_ns: i64,
}

impl From<&libc::stat> for FileId {
    fn from(stat: &libc::stat) -> Self {
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: stat.st_size as u64,
            modified_ns: stat.st_mtime.wrapping_mul(1_000_000_000).wrapping_add(stat.st_mtime_nsec),
        }
    }
}

impl Fd {
    /// openat(2) relative to the working directory; always with O_CLOEXEC.
    pub fn open(path: &CStr, flags: i32, mode: u32) -> Result<Self, i32> {
        // SAFETY: path is terminated.
        let fd = unsafe {
            syscall4(
                libc::SYS_openat,
                libc::AT_FDCWD as usize,
                path.as_ptr() as usize,
                (flags | libc::O_CLOEXEC) as usize,
                mode as usize,
            )
        }?;
        Ok(Self(fd as i32))
    }

    /// Takes over a descriptor number.
    #[must_use]
    pub const fn from_raw(fd: i32) -> Self {
        Self(fd)
    }

    /// A duplicate, close-on-exec, numbered `from` or higher.
    pub fn duplicate(raw: i32, from: i32) -> Result<Self, i32> {
        // SAFETY: no pointers.
        let fd = unsafe {
            syscall3(libc::SYS_fcntl, raw as usize, libc::F_DUPFD_CLOEXEC as usize, from as usize)
        }?;
        Ok(Self(fd as i32))
    }

    /// The number.
    #[must_use]
    pub const fn raw(&self) -> i32 {
        self.0
    }

    /// Gives up ownership without closing.
    #[must_use]
    pub fn into_raw(self) -> i32 {
        let raw = self.0;
        std::mem::forget(self);
        raw
    }

    /// fstat(2).
    pub fn stat(&self) -> Result<libc::stat, i32> {
        stat_raw(self.0)
    }

    /// read(2).
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, i32> {
        // SAFETY: the buffer's length is passed.
        unsafe { syscall3(libc::SYS_read, self.0 as usize, buffer.as_mut_ptr() as usize, buffer.len()) }
    }

    /// pread(2).
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, i32> {
        // SAFETY: the buffer's length is passed.
        unsafe {
            syscall4(
                libc::SYS_pread64,
                self.0 as usize,
                buffer.as_mut_ptr() as usize,
                buffer.len(),
                offset as usize,
            )
        }
    }

    /// pwrite(2).
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize, i32> {
        // SAFETY: the buffer's length is passed.
        unsafe {
            syscall4(
                libc::SYS_pwrite64,
                self.0 as usize,
                bytes.as_ptr() as usize,
                bytes.len(),
                offset as usize,
            )
        }
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: ours.
        let _ = unsafe { syscall3(libc::SYS_close, self.0 as usize, 0, 0) };
    }
}

/// fstat(2) of a descriptor number.
pub fn stat_raw(fd: i32) -> Result<libc::stat, i32> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the kernel writes a struct stat.
    unsafe { syscall3(libc::SYS_fstat, fd as usize, stat.as_mut_ptr() as usize, 0) }?;
    // SAFETY: zeroed is a valid stat, and the kernel filled it.
    Ok(unsafe { stat.assume_init() })
}

/// write(2) to a descriptor number.
pub fn write_raw(fd: i32, bytes: &[u8]) -> Result<usize, i32> {
    // SAFETY: the buffer's length is passed.
    unsafe { syscall3(libc::SYS_write, fd as usize, bytes.as_ptr() as usize, bytes.len()) }
}

/// The identity of the file at `path`, following links.
pub fn file_id(path: &CStr) -> Result<FileId, i32> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: path is terminated, the kernel writes a struct stat.
    unsafe { syscall3(libc::SYS_stat, path.as_ptr() as usize, stat.as_mut_ptr() as usize, 0) }?;
    // SAFETY: zeroed is a valid stat, and the kernel filled it.
    let stat = unsafe { stat.assume_init() };
    Ok(FileId::from(&stat))
}

/// A file mapped read-only and private; unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    address: usize,
    len: usize,
    /// Which file it is.
    pub id: FileId,
}

impl Mapping {
    /// Maps the whole regular file at `path`. Empty files map to nothing.
    pub fn open(path: &CStr) -> Result<Self, i32> {
        let fd = Fd::open(path, libc::O_RDONLY | libc::O_NONBLOCK, 0)?;
        let stat = fd.stat()?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(libc::EACCES);
        }
        let id = FileId::from(&stat);
        let len = stat.st_size as usize;
        if len == 0 {
            return Ok(Self { address: 0, len: 0, id });
        }
        // SAFETY: a fresh mapping chosen by the kernel.
        let address = unsafe { mmap(0, len, libc::PROT_READ, libc::MAP_PRIVATE, fd.raw(), 0) }?;
        Ok(Self { address, len, id })
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: mapped readable for `len` bytes while self lives. (A file truncated meanwhile
        // raises SIGBUS, as with every mapped file.)
        unsafe { std::slice::from_raw_parts(self.address as *const u8, self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.len != 0 {
            // SAFETY: ours alone.
            let _ = unsafe { munmap(self.address, self.len) };
        }
    }
}

/// A whole file whose size isn't known beforehand (procfs, configs).
pub fn read_whole(path: &CStr) -> Result<Vec<u8>, i32> {
    let fd = Fd::open(path, libc::O_RDONLY, 0)?;
    let mut bytes = Vec::new();
    let mut chunk = vec![0_u8; 64 * 1024];
    loop {
        match fd.read(&mut chunk) {
            Ok(0) => return Ok(bytes),
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(libc::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// A stack of `len` bytes for [`crate::hit`]'s service work, with a guard page below.
pub fn map_stack(len: usize) -> Result<usize, i32> {
    let base = map_anonymous(len + 4096)?;
    // SAFETY: our own fresh mapping.
    let _ = unsafe { syscall3(libc::SYS_mprotect, base, 4096, libc::PROT_NONE as usize) };
    Ok(base + 4096 + len)
}
