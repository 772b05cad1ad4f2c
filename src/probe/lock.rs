//! The registry's lock, and the stack its work is done on.
//!
//! Taken from constructors, API calls, the dynamic linker's hook, handlers at a hit, and exit paths.
//! While it is held: asynchronous signals wait (a handler of the program's that registers a probe
//! would wait for itself), hits of this thread are our own and count nowhere, and a stack of ours is
//! used (the thread's own may have a few kilobytes left). The lock word lies in the page that a fork
//! child finds wiped.
//!
//! Whoever changes something also keeps objects from being unmapped, by libc's lock on their list, and takes that
//! first. It can't be the other way round: the program calls us with that lock held, from a callback of
//! dl_iterate_phdr. And dlopen calls us with another one held, which therefore nobody here may take (dlsym does).
//!
//! `dlopen's ─► the list's ─► (start's ─►) ours`
//!
//! A child forked while we hold the list's would find it held for ever. So a fork, before it takes ours, waits
//! for the thread that has the list's, and keeps others from taking it: they let it go again and wait outside.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};

use crate::hit::thread::{LibrarySection, PROTECTED_MASK};
use crate::hit::{asm, clock, pending, process};
use crate::probe::Registry;
use crate::probe::modules::with_objects_held;
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
    /// The engine was never started: nothing is registered.
    NotStarted,
    /// A fork happened in the middle of a change.
    Unusable,
    /// Another thread held it for too long.
    Timeout,
    /// Our own code panicked.
    Panicked,
}

/// Makes the registry. Called once, inside [`holding_objects`].
pub fn start(registry: Registry) {
    if let Ok(top) = sys::map_stack(SERVICE_STACK) {
        SERVICE_STACK_TOP.store(top, Release);
    }
    let _ = hold(u32::MAX, || {
        // SAFETY: the lock is held.
        unsafe { *REGISTRY.0.get() = Some(registry) };
    });
}

/// Runs `work` on the registry, alone, with unmapping held back. Any context but a hit's own rules:
/// allocates, makes system calls. `errno` is preserved.
///
/// # Errors
/// See [`Busy`].
pub fn with<R>(work: impl FnOnce(&mut Registry) -> R) -> Result<R, Busy> {
    holding_objects(|| with_patience(u32::MAX, work)).ok_or(Busy::Panicked)?
}

/// Runs `work` while no object can be unmapped. `None` where it panicked.
pub fn holding_objects<R>(work: impl FnOnce() -> R) -> Option<R> {
    let errno = clock::errno_cell();
    // SAFETY: the thread's own errno.
    let saved = unsafe { *errno };
    let result = undisturbed(|| hold_objects(work));
    // SAFETY: as above.
    unsafe { *errno = saved };
    result
}

/// Runs `work` as our own code: its hits count nowhere, and a handler of the program's, which might wait for this
/// very thread, comes after it.
fn undisturbed<R>(work: impl FnOnce() -> R) -> R {
    process::check_fork();
    let mask = sys::set_signal_mask(!PROTECTED_MASK);
    let result = {
        let _section = LibrarySection::enter();
        work()
    };
    sys::set_signal_mask(mask);
    pending::send_held_back();
    result
}

fn hold_objects<R>(work: impl FnOnce() -> R) -> Option<R> {
    let page = process::page();
    let me = sys::gettid() as u32;
    if page.objects_held.load(Relaxed) == me || process::is_lone_child() {
        return Some(work());
    }
    let mut work = Some(work);
    loop {
        wait_for_fork(me);
        let done = with_objects_held(|| {
            let _held = Held::by(me);
            let forker = page.forking.load(SeqCst);
            if forker == 0 || forker == me { work.take().map(|work| work()) } else { None }
        })?;
        if done.is_some() || work.is_none() {
            return done;
        }
    }
}

/// Runs `work`, which begins with [`crate::hit::process::start`], before anything else of ours is there, while no
/// object can be unmapped.
pub fn holding_objects_first<R>(work: impl FnOnce() -> R) -> Option<R> {
    with_objects_held(|| {
        let _held = Held;
        work()
    })
}

/// In [`holding_objects_first`]: the page is there.
pub fn note_objects_held() {
    process::page().objects_held.store(sys::gettid() as u32, SeqCst);
}

/// Who has libc's lock on the list of objects, told to those who fork.
struct Held;

impl Held {
    fn by(thread: u32) -> Self {
        process::page().objects_held.store(thread, SeqCst);
        Self
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let word = &process::page().objects_held;
        word.store(0, SeqCst);
        sys::futex_wake(word);
    }
}

fn wait_for_fork(me: u32) {
    let forking = &process::page().forking;
    loop {
        let forker = forking.load(SeqCst);
        if forker == 0 || forker == me {
            return;
        }
        sys::futex_wait(forking, forker);
    }
}

/// The same as [`with`] for exit paths, which don't wait for ever, look at no object and write no text.
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
            None => Err(Busy::NotStarted),
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
    undisturbed(|| {
        acquire(rounds)?;
        let result = work();
        release();
        Ok(result)
    })
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

/// pthread_atfork: no change is cut in two by a fork. First of two: no thread of ours has libc's lock on the list of
/// objects.
pub fn before_fork() {
    let _section = LibrarySection::enter();
    let page = process::page();
    let me = sys::gettid() as u32;
    // Of several that fork at once, one after the other.
    for _ in 0..PATIENCE {
        match page.forking.compare_exchange(0, me, SeqCst, Relaxed) {
            Ok(_) => break,
            Err(other) => sys::futex_wait(&page.forking, other),
        }
    }
    for _ in 0..PATIENCE {
        let holder = page.objects_held.load(SeqCst);
        if holder == 0 || holder == me {
            break;
        }
        sys::futex_wait(&page.objects_held, holder);
    }
}

/// Second: nobody is in the registry.
pub fn before_fork_change() {
    let _section = LibrarySection::enter();
    let _ = acquire(PATIENCE);
}

/// pthread_atfork, in the parent and in the child (whose page was wiped: released already).
pub fn after_fork() {
    // Now, not at the child's first hit: that may be in a child of its own that borrows its memory.
    process::check_fork();
    let page = process::page();
    let me = sys::gettid() as u32;
    if page.registry_lock.load(Relaxed) == me {
        release();
    }
    if page.forking.compare_exchange(me, 0, SeqCst, Relaxed).is_ok() {
        sys::futex_wake(&page.forking);
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
        // The kernel tells by rsp whether a thread is on its alternate stack. If it came here from there, the
        // frame of a fault would be put at that stack's top, over the frames of those who called us.
        let taken = sys::disable_alternate_stack();
        // SAFETY: the pointer made just below, alive until the call returns.
        unsafe { (*work)() };
        if let Some(stack) = taken {
            sys::set_alternate_stack(&stack);
        }
    }
    let work: *mut &mut dyn FnMut() = &raw mut work;
    // SAFETY: the stack is ours while the lock is held, and `run` has the signature that is called.
    unsafe { asm::uprobe_call_on_stack(top, run as *const () as usize, work as usize, 0, 0) };
}
