//! The event log's and the report's files: names, opening, and who else writes there.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering::*};

use crate::hit::{output, process};
use crate::sys::{self, Fd};
use crate::trace::template::{TemplateVars, expand};

/// What names are made from, and where relative ones begin.
#[derive(Debug)]
pub struct Naming {
    /// The program's file name.
    pub program: String,
    /// When the process began to be traced.
    pub start_unix_secs: u64,
    /// The working directory then: the program may change it.
    pub directory: PathBuf,
}

impl Naming {
    /// The absolute path that `template` means in this process now.
    #[must_use]
    pub fn path(&self, template: &str) -> PathBuf {
        let vars = TemplateVars {
            pid: process::pid() as u32,
            program: &self.program,
            start_unix_secs: self.start_unix_secs,
        };
        self.directory.join(expand(template, &vars))
    }
}

/// As the kernel wants it; `None`: it holds a NUL.
pub(super) fn terminated(path: &std::path::Path) -> Option<CString> {
    CString::new(path.as_os_str().as_bytes()).ok()
}

/// Opens the event log for appending. It begins empty, unless another traced process is writing
/// to it now (a lock tells), or this process did before it executed another program.
///
/// # Errors
/// errno.
pub fn open_log(naming: &Naming, template: &str) -> Result<i32, i32> {
    let path = terminated(&naming.path(template)).ok_or(libc::EINVAL)?;
    let fd = Fd::open(&path, libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_NOCTTY, 0o666)?;
    let regular = fd.stat()?.st_mode & libc::S_IFMT == libc::S_IFREG;
    if regular && lock(&fd, libc::LOCK_EX | libc::LOCK_NB) {
        // Opened again (the program closed all it had) it goes on, whoever's events it begins with.
        if process::page().log_begun.swap(1, Relaxed) == 0 && !written_by_this_process(&path) {
            // SAFETY: no pointers.
            let _ = unsafe { sys::syscall3(libc::SYS_ftruncate, fd.raw() as usize, 0, 0) };
        }
        lock(&fd, libc::LOCK_SH | libc::LOCK_NB);
    } else {
        lock(&fd, libc::LOCK_SH | libc::LOCK_NB);
    }
    Ok(output::own(fd))
}

pub(super) fn lock(fd: &Fd, operation: i32) -> bool {
    // SAFETY: no pointers.
    unsafe { sys::syscall3(libc::SYS_flock, fd.raw() as usize, operation as usize, 0) }.is_ok()
}

/// A descriptor for the log on standard error.
#[must_use]
pub fn stderr_log() -> Option<i32> {
    output::duplicate_stderr()
}

/// The report's file of this process now. A report that this very process wrote before it executed another
/// program is kept: ours then gets a number behind its name.
fn report_name(naming: &Naming, template: &str) -> Result<CString, i32> {
    let path = naming.path(template);
    let numbered = |number: u32| {
        let mut name = path.clone().into_os_string();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        terminated(&PathBuf::from(name)).ok_or(libc::EINVAL)
    };
    // Where executing the other program failed, the report is written a second time, over the first.
    let mut number = LAST_REPORT.load(Relaxed);
    if number == NO_REPORT {
        number = 0;
        while number < MOST_REPORTS && written_by_this_process(&numbered(number)?) {
            number += 1;
        }
        LAST_REPORT.store(number, Relaxed);
    }
    numbered(number)
}

/// The flags of a file that is written anew.
const ANEW: i32 = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_NOCTTY;

/// Writes the report.
///
/// # Errors
/// errno.
pub fn write_report(naming: &Naming, template: &str, text: &[u8]) -> Result<(), i32> {
    let early = EARLY_REPORT.load(Acquire);
    if output::is_own(early) {
        // Where it is written a second time; a filter that forbids it allows no exec that could fail either.
        for call in [libc::SYS_lseek, libc::SYS_ftruncate] {
            // SAFETY: no pointers.
            let _ = unsafe { sys::syscall3(call, early as usize, 0, 0) };
        }
        return write_or_empty(early, text);
    }
    let fd = open_in_need(&report_name(naming, template)?, ANEW)?;
    write_or_empty(fd.raw(), text)
}

/// All of it, or nothing: half a report is none.
fn write_or_empty(fd: i32, text: &[u8]) -> Result<(), i32> {
    let result = output::write_all(fd, text);
    if result.is_err() {
        // SAFETY: no pointers.
        let _ = unsafe { sys::syscall3(libc::SYS_ftruncate, fd as usize, 0, 0) };
    }
    result
}

/// Opens the report's file now: the program is about to lose the right to it. What goes wrong is said at the end.
pub fn open_report_early(naming: &Naming, template: &str) {
    if output::is_own(EARLY_REPORT.load(Acquire)) {
        return;
    }
    let Ok(name) = report_name(naming, template) else { return };
    let is_new = sys::file_id(&name).is_err();
    if let Ok(fd) = Fd::open(&name, ANEW, 0o666) {
        EARLY_REPORT.store(output::own(fd), Release);
        MADE_EARLY.store(is_new, Release);
    }
}

/// There will be no report: a file that was made for it goes, where we still may.
pub fn take_back_report() {
    let early = EARLY_REPORT.swap(NO_FD, AcqRel);
    if !output::is_own(early) {
        return;
    }
    let mut name = [0_u8; 4096];
    let link = CString::new(format!("/proc/self/fd/{early}")).unwrap_or_default();
    if MADE_EARLY.load(Acquire)
        && let Ok(name) = sys::readlink(&link, &mut name)
        && let Ok(name) = CString::new(name)
    {
        // SAFETY: a terminated name.
        let _ = unsafe { sys::syscall3(libc::SYS_unlink, name.as_ptr() as usize, 0, 0) };
    }
    output::disown(early);
}

/// Opens a file for a moment, also where the program has taken every number: one above the limit, or one
/// of ours has to go.
pub(super) fn open_in_need(path: &std::ffi::CStr, flags: i32) -> Result<Fd, i32> {
    let open = || Fd::open(path, flags, 0o666);
    open().or_else(|errno| match errno {
        libc::EMFILE => match sys::with_more_descriptors(|_| open()) {
            Some(Ok(fd)) => Ok(fd),
            _ => {
                output::make_room();
                open()
            }
        },
        _ => Err(errno),
    })
}

/// The number of the report this program wrote already.
static LAST_REPORT: AtomicU32 = AtomicU32::new(NO_REPORT);
const NO_REPORT: u32 = u32::MAX;
/// A process that executes more programs than this in a row overwrites the last report.
const MOST_REPORTS: u32 = 100;

/// The report's file, where it was opened before it was needed; and whether it was not there before.
static EARLY_REPORT: AtomicI32 = AtomicI32::new(NO_FD);
static MADE_EARLY: AtomicBool = AtomicBool::new(false);
const NO_FD: i32 = -1;

/// A fork child has written none.
pub fn forget_report() {
    LAST_REPORT.store(NO_REPORT, Relaxed);
    let early = EARLY_REPORT.swap(NO_FD, AcqRel);
    if output::is_own(early) {
        output::disown(early);
    }
}

/// Whether the file was written by this process: it names our pid, and is not older than the process.
fn written_by_this_process(path: &std::ffi::CStr) -> bool {
    /// The kernel counts process starts in hundredths of a second.
    const SLACK_NS: i128 = 20_000_000;
    let Ok(fd) = Fd::open(path, libc::O_RDONLY | libc::O_NONBLOCK, 0) else { return false };
    let Ok(stat) = fd.stat() else { return false };
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG || stat.st_size == 0 {
        return false;
    }
    let mut head = [0_u8; 4096];
    let n = fd.read(&mut head).unwrap_or(0);
    let text = String::from_utf8_lossy(&head[..n]);
    let pid = process::pid();
    let marks = [format!("\"pid\":{pid},"), format!("(pid {pid})"), format!("-{pid} ")];
    if !marks.iter().any(|mark| text.contains(mark.as_str())) {
        return false;
    }
    let modified = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    process_start_ns().is_some_and(|start| modified + SLACK_NS >= start)
}

/// When the process was started, ns since the epoch (proc(5), field 22 of /proc/self/stat).
pub(super) fn process_start_ns() -> Option<i128> {
    let stat = sys::read_whole(c"/proc/self/stat").ok()?;
    let text = String::from_utf8_lossy(&stat);
    let ticks: i128 = text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let (real, boot) = (clock_ns(libc::CLOCK_REALTIME)?, clock_ns(libc::CLOCK_BOOTTIME)?);
    Some(real - boot + ticks * 10_000_000)
}

/// CLOCK_REALTIME, ns since the epoch.
pub(super) fn realtime_ns() -> Option<u64> {
    clock_ns(libc::CLOCK_REALTIME).and_then(|ns| u64::try_from(ns).ok())
}

fn clock_ns(clock: libc::clockid_t) -> Option<i128> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    unsafe { sys::syscall3(libc::SYS_clock_gettime, clock as usize, &raw mut time as usize, 0) }.ok()?;
    Some(i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec))
}
