//! The process we are in, as known without a system call.
//!
//! One page with MADV_WIPEONFORK: a child with memory of its own finds zeroes there, whatever way
//! it was made (fork, _Fork, raw clone); a child that shares our memory (vfork, posix_spawn) finds
//! the parent's page, and differs only in getpid().

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering::*};

use crate::hit::thread::PROTECTED_MASK;
use crate::sys;

/// What belongs to one process and must not be inherited.
#[repr(C)]
pub struct ProcessPage {
    pub(super) pid: AtomicI32,
    /// 1: the report was written. [`SILENT`]: there will be none.
    pub finished: AtomicU32,
    /// The registry's lock word.
    pub registry_lock: AtomicU32,
    /// The thread of ours that keeps objects from being unmapped (see `probe::lock`).
    pub objects_held: AtomicU32,
    /// The thread that is about to fork: nobody else of ours begins to.
    pub forking: AtomicU32,
    /// The event log was opened by this process: from now on it is continued.
    pub log_begun: AtomicU32,
    /// Clock when the process began to be traced, ns.
    pub start_ns: AtomicU64,
}

/// [`ProcessPage::finished`] of a child that is not followed.
pub const SILENT: u32 = 2;

pub(super) static PAGE: AtomicPtr<ProcessPage> = AtomicPtr::new(std::ptr::null_mut());
static FALLBACK: ProcessPage = ProcessPage {
    pid: AtomicI32::new(0),
    finished: AtomicU32::new(0),
    registry_lock: AtomicU32::new(0),
    objects_held: AtomicU32::new(0),
    forking: AtomicU32::new(0),
    log_begun: AtomicU32::new(0),
    start_ns: AtomicU64::new(0),
};

/// Called once in a fork child, by its first hit or call of ours, before anything else.
static ON_FORK_CHILD: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// In ordinary memory, which a fork child inherits.
static IS_FORK_CHILD: AtomicBool = AtomicBool::new(false);

/// Makes the page. Called once at start, single-threaded or under the start lock.
pub fn start(on_fork_child: fn()) {
    ON_FORK_CHILD.store(on_fork_child as *mut (), Release);
    let page = match sys::map_anonymous(4096) {
        Ok(address) => {
            // SAFETY: our own page.
            let _ = unsafe { sys::madvise(address, 4096, libc::MADV_WIPEONFORK) };
            address as *mut ProcessPage
        }
        Err(_) => (&raw const FALLBACK).cast_mut(),
    };
    // SAFETY: either a zeroed page or the static.
    unsafe { (*page).pid.store(sys::getpid(), Relaxed) };
    PAGE.store(page, Release);
}

/// The page of this process. Signal-safe.
#[inline]
#[must_use]
pub fn page() -> &'static ProcessPage {
    let page = PAGE.load(Acquire);
    if page.is_null() {
        return &FALLBACK;
    }
    // SAFETY: never unmapped.
    unsafe { &*page }
}

/// Makes a fork child's state its own where that has not happened yet. Signal-safe; every way into
/// the engine calls it first.
#[inline]
pub fn check_fork() {
    if page().pid.load(Relaxed) == 0 {
        fork_child();
    }
}

#[cold]
fn fork_child() {
    // Not always in a trap: a handler of the program's would find the state half made.
    let mask = sys::set_signal_mask(!PROTECTED_MASK);
    let page = page();
    if page.pid.compare_exchange(0, sys::getpid(), AcqRel, Relaxed).is_ok() {
        IS_FORK_CHILD.store(true, Relaxed);
        call_fork_hook();
    }
    sys::set_signal_mask(mask);
}

fn call_fork_hook() {
    let hook = ON_FORK_CHILD.load(Acquire);
    if !hook.is_null() {
        // SAFETY: stored from a fn() in start().
        unsafe { std::mem::transmute::<*mut (), fn()>(hook)() };
    }
}

/// The process id, without a system call. In a vfork child: the parent's.
#[inline]
#[must_use]
pub fn pid() -> i32 {
    page().pid.load(Relaxed)
}

/// Whether this is a fork child with one thread. A lock of libc's that another thread of the parent held is
/// held for ever here, and nobody is there whom it would keep away. Allocates, and reads /proc.
#[must_use]
pub fn is_lone_child() -> bool {
    IS_FORK_CHILD.load(Relaxed) && sys::thread_ids().len() == 1
}

/// Whether the caller is a child that borrows our memory (vfork, posix_spawn, CLONE_VM): what it
/// does to its own signals and files must not touch our tables. One system call.
#[must_use]
pub fn is_borrowed() -> bool {
    sys::getpid() != pid()
}
