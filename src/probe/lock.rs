//! The registry's lock, and the stack its work is done on.
//!
//! Taken from constructors, API calls, the dynamic linker's hook, handlers at a hit, and exit paths.
//! While it is held: asynchronous signals wait (a handler of the program's that registers a probe
//! would wait for itself), hits of this thread are our own and count nowhere, and a stack of ours is
//! used (the thread's own may have a few kilobytes left). The lock word lies in the page that a fork
//! child finds wiped.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};

use crate::hit::thread::{LibrarySection, PROTECTED_MASK};
use crate::hit::{asm, clock, pending, process};
use crate::probe::Registry;
use crate::sys;

/// Bytes of the service stack; touched only as far as used.
const SERVICE_STACK: usize = 4 << 20;
/// How long an exit path waits for the lock, in rounds of about a millisecond.
const PATIENCE: u32 = 2000;

static SERVICE_STACK_TOP: AtomicUsize = AtomicUsize::new(0);
/// In ordinary memory: a fork child finds it set where the fork cut another thread's work in two.
static CHANGING: AtomicBool = AtomicBool::new(false);

struct Cell(UnsafeCell<Option<Registry>>);
// SAFETY: reached only with the lock held.
unsafe impl Sync for Cell {}
static REGISTRY: Cell = Cell(UnsafeCell::new(None));

/// Why the registry can't be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Busy {
    /// This very thread holds it.
    HeldByCaller,
    /// The engine was never started, or a fork happened in the middle of a change.
    Unusable,
    /// Another thread held it for too long.
    Timeout,
    /// Our own code panicked.
    Panicked,
}

/// Makes the registry. Called once.
pub fn start(registry: Registry) {
    if let Ok(top) = sys::map_stack(SERVICE_STACK) {
        SERVICE_STACK_TOP.store(top, Release);
    }
    let _ = hold(u32::MAX, || {
        // SAFETY: the lock is held.
        unsafe { *REGISTRY.0.get() = Some(registry) };
    });
}

/// Runs `work` on the registry, alone. Any context but a hit's own rules: allocates, makes system
/// calls. `errno` is preserved.
///
/// # Errors
/// See [`Busy`].
pub fn with<R>(work: impl FnOnce(&mut Registry) -> R) -> Result<R, Busy> {
    with_patience(u32::MAX, work)
}

/// The same for exit paths, which don't wait for ever.
///
/// # Errors
/// See [`Busy`].
pub fn with_some_patience<R>(work: impl FnOnce(&mut Registry) -> R) -> Result<R, Busy> {
    with_patience(PATIENCE, work)
}

fn with_patience<R>(rounds: u32, work: impl FnOnce(&mut Registry) -> R) -> Result<R, Busy> {
    let errno = clock::errno_cell();
    // SAFETY: the thread's own errno.
    let saved = unsafe { *errno };
    let result = hold(rounds, || {
        if CHANGING.swap(true, Acquire) {
            return Err(Busy::Unusable);
        }
        // SAFETY: the lock is held.
        let registry = unsafe { (*REGISTRY.0.get()).as_mut() };
        let result = match registry {
            None => Err(Busy::Unusable),
            Some(registry) => on_service_stack(|| work(registry)).ok_or(Busy::Panicked),
        };
        CHANGING.store(false, Release);
        result
    })
    .and_then(|result| result);
    // SAFETY: as above.
    unsafe { *errno = saved };
    result
}

/// Takes the lock around `work`.
fn hold<R>(rounds: u32, work: impl FnOnce() -> R) -> Result<R, Busy> {
    process::check_fork();
    let mask = sys::set_signal_mask(!PROTECTED_MASK);
    let result = {
        let _section = LibrarySection::enter();
        acquire(rounds).map(|()| {
            let result = work();
            release();
            result
        })
    };
    sys::set_signal_mask(mask);
    pending::send_held_back();
    result
}

fn acquire(mut rounds: u32) -> Result<(), Busy> {
    let word = &process::page().registry_lock;
    let me = sys::gettid() as u32;
    loop {
        match word.compare_exchange(0, me, Acquire, Relaxed) {
            Ok(_) => return Ok(()),
            Err(owner) if owner == me => return Err(Busy::HeldByCaller),
            Err(owner) => {
                rounds = rounds.checked_sub(1).ok_or(Busy::Timeout)?;
                // Wakes by itself after a millisecond: no wakeup can be missed for long.
                sys::futex_wait(word, owner);
            }
        }
    }
}

fn release() {
    let word = &process::page().registry_lock;
    word.store(0, Release);
    sys::futex_wake(word);
}

/// pthread_atfork: no change is cut in two by a fork.
pub extern "C" fn before_fork() {
    let _section = LibrarySection::enter();
    let _ = acquire(PATIENCE);
}

/// pthread_atfork, in the parent and in the child (whose page was wiped: released already).
pub extern "C" fn after_fork() {
    // Now, not at the child's first hit: that may be in a child of its own that borrows its memory.
    process::check_fork();
    let word = &process::page().registry_lock;
    if word.load(Relaxed) == sys::gettid() as u32 {
        release();
    }
}

/// Calls `work` on the service stack; `None` where it panicked.
fn on_service_stack<R>(work: impl FnOnce() -> R) -> Option<R> {
    let top = SERVICE_STACK_TOP.load(Acquire);
    let mut result = None;
    let mut call = Some(|| result = catch_unwind(AssertUnwindSafe(work)).ok());
    if top == 0 {
        call.take()?();
        return result;
    }
    enter(top, &mut || {
        if let Some(call) = call.take() {
            call();
        }
    });
    result
}

fn enter(top: usize, mut work: &mut dyn FnMut()) {
    extern "C-unwind" fn run(work: *mut &mut dyn FnMut(), _: usize, _: usize) {
        // SAFETY: the pointer made just below, alive until the call returns.
        unsafe { (*work)() };
    }
    let work: *mut &mut dyn FnMut() = &raw mut work;
    // SAFETY: the stack is ours while the lock is held, and `run` has the signature that is called.
    unsafe { asm::uprobe_call_on_stack(top, run as *const () as usize, work as usize, 0, 0) };
}
