//! Whose the states are: taken at a thread's first hit, from those that nobody has or whose owner is dead; and what
//! becomes of them where the process forks.

use std::sync::atomic::{AtomicPtr, Ordering::*};

use super::{PROTECTED_MASK, ThreadState, WAITING, current, existing};
use crate::hit::{alone, asm, defer, pending};
use crate::sys;

/// States per mapping.
const CHUNK_STATES: usize = 32;

#[repr(C)]
struct Chunk {
    next: AtomicPtr<Chunk>,
    states: [ThreadState; CHUNK_STATES],
}

static CHUNKS: AtomicPtr<Chunk> = AtomicPtr::new(std::ptr::null_mut());

/// Every state there is, of living and of dead threads. Signal-safe.
pub fn all() -> impl Iterator<Item = &'static ThreadState> {
    let mut chunk = CHUNKS.load(Acquire);
    std::iter::from_fn(move || {
        // SAFETY: chunks are never unmapped.
        let current = unsafe { chunk.as_ref() }?;
        chunk = current.next.load(Acquire);
        Some(current.states.iter())
    })
    .flatten()
}

/// A state for the calling thread, which has none. Signal-safe.
#[cold]
pub fn claim() -> Option<&'static ThreadState> {
    // Not everywhere is this inside a trap: a handler of the program's must not claim one meanwhile. Nor may one
    // of our five be let through that the program was started with blocked, and pending.
    let mask = sys::set_signal_mask(!0);
    let state = existing().or_else(claim_alone);
    sys::set_signal_mask(mask);
    state
}

fn claim_alone() -> Option<&'static ThreadState> {
    let state = take_any(sys::gettid())?;
    asm::set_thread_pointer(std::ptr::from_ref(state).cast_mut());
    Some(state)
}

/// A state for a task whose thread-local storage leads to another one's.
#[cold]
pub fn claim_for_task() -> Option<&'static ThreadState> {
    let mask = sys::set_signal_mask(!PROTECTED_MASK);
    let state = take_any(sys::gettid());
    if let Some(state) = state {
        state.is_shared.store(true, Relaxed);
    }
    sys::set_signal_mask(mask);
    state
}

/// A state that is nobody's, for `tid`.
fn take_any(tid: i32) -> Option<&'static ThreadState> {
    // A state that carries our number is a dead thread's: ours has none yet.
    let state = all()
        .find(|state| take(state, tid, HELD))
        .or_else(|| all().find(|state| take(state, 0, HELD)))
        .or_else(|| {
            all().find(|state| {
                let owner = state.tid.load(Relaxed);
                owner > 0 && !state.is_of_living(owner) && take(state, owner, HELD)
            })
        });
    let state = match state {
        Some(state) => state,
        None => {
            grow()?;
            all().find(|state| take(state, 0, HELD))?
        }
    };
    state.reset();
    state.cells.prepare();
    // Not before: by its number it is found, and what others then announce in it must stay.
    state.tid.store(tid, SeqCst);
    pending::adopt(tid, state);
    alone::arrive();
    Some(state)
}

/// In [`ThreadState::tid`]: somebody is at a state of nobody's, or of a dead thread's.
const HELD: i32 = -1;

/// Runs `work` with the state of a thread that is dead, unless the state has a new one meanwhile. Asks
/// the kernel. Signal-safe.
pub fn with_dead<R>(state: &ThreadState, work: impl FnOnce(&ThreadState) -> R) -> Option<R> {
    let owner = state.tid.load(Relaxed);
    if owner <= 0 || state.is_of_living(owner) || !take(state, owner, HELD) {
        return None;
    }
    let result = work(state);
    state.tid.store(owner, Release);
    Some(result)
}

fn take(state: &ThreadState, from: i32, to: i32) -> bool {
    state.tid.load(Relaxed) == from && state.tid.compare_exchange(from, to, AcqRel, Relaxed).is_ok()
}

/// Makes states for threads that are still to come: later there may be no memory. Signal-safe.
pub fn provide() {
    const WANTED: usize = 64;
    let is_free = |state: &&ThreadState| state.tid.load(Relaxed) == 0;
    while all().filter(is_free).count() < WANTED && grow().is_some() {}
    all().filter(is_free).for_each(|state| state.cells.prepare());
}

fn grow() -> Option<()> {
    let chunk = sys::map_anonymous(std::mem::size_of::<Chunk>()).ok()? as *mut Chunk;
    let mut head = CHUNKS.load(Acquire);
    loop {
        // SAFETY: fresh zeroed memory is a valid Chunk of free states.
        unsafe { (*chunk).next.store(head, Relaxed) };
        match CHUNKS.compare_exchange(head, chunk, AcqRel, Acquire) {
            Ok(_) => return Some(()),
            Err(now) => head = now,
        }
    }
}

/// What the thread has of ours while it forks it gives back behind that: a handler of the program's, which might leave
/// by longjmp (that of SIGCHLD, the child being quick), comes before or after.
pub fn begin_fork() {
    if let Some(state) = current() {
        state.mask_before_fork.store(sys::set_signal_mask(!PROTECTED_MASK) | WAITING, Relaxed);
    }
}

/// In the parent and in the child.
pub fn end_fork() {
    let before = current().map_or(0, |state| state.mask_before_fork.swap(0, Relaxed));
    if before != 0 {
        sys::set_signal_mask(before & !WAITING);
    }
}

/// After fork: the child has one thread, and its number is new. Signal-safe.
pub fn after_fork() {
    let mine = asm::thread_pointer();
    for state in all() {
        state.cursor.leave();
        if std::ptr::eq(state, mine) {
            state.tid.store(sys::gettid(), Relaxed);
            state.comm_known.store(false, Relaxed);
            state.dispatch.clear();
            state.pending.fetch_and(defer::ASIDE, Relaxed);
            state.announced.clear();
            state.announced_division.clear();
            defer::after_fork(state);
        } else {
            state.reset();
            state.tid.store(0, Release);
        }
    }
}
