//! What is followed on a thread's own stack: a stack of instances, in chunks.

use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::*};

use super::{DOUBTFUL, ReturnInstance, bounds, foreign};
use crate::hit::{pool, stubs};

/// Bytes of a piece of a thread's stack of instances; a multiple of, and aligned to, itself.
pub(in crate::hit) const CHUNK: usize = 1024;
const CHUNK_CLASS: u8 = 4;
const SIZE: usize = size_of::<ReturnInstance>();

/// The head of a chunk, in place of its first instance.
#[repr(C, align(64))]
struct Chunk {
    /// Address of the chunk below; 0: the first.
    below: AtomicUsize,
    /// Of the one above, kept for the next time; 0: none yet.
    above: AtomicUsize,
}

/// A thread's own stack and what is followed there. Touched by its thread; by others when it is dead.
#[derive(Default)]
pub struct OwnStack {
    /// The newest instance, or the head of the first chunk; 0: no chunk yet.
    pub(super) top: AtomicUsize,
    /// The stack's lowest address; 0: not asked yet.
    low: AtomicU64,
    /// The first behind it. 0: not known, everything goes to the hash.
    high: AtomicU64,
    /// How many of this thread's are doubtful, and where.
    pub(super) doubtful: AtomicU32,
    doubtful_low: AtomicU64,
    doubtful_high: AtomicU64,
}

impl OwnStack {
    /// Whether `slot` is on it.
    #[inline]
    pub(super) fn contains(&self, slot: u64) -> bool {
        if self.low.load(Relaxed) == 0 {
            self.learn(slot);
        }
        self.low.load(Relaxed) <= slot && slot < self.high.load(Relaxed)
    }

    #[cold]
    fn learn(&self, slot: u64) {
        let (low, high) = bounds::of(slot).unwrap_or((1, 0));
        self.high.store(high, Relaxed);
        self.low.store(low, Relaxed);
    }

    /// Forgets whose it was: the state belongs to another thread now.
    pub fn reset(&self) {
        self.drop_all();
        self.low.store(0, Relaxed);
        self.high.store(0, Relaxed);
        self.doubtful.store(0, Relaxed);
    }

    /// The newest instance.
    #[inline]
    pub(super) fn newest(&self) -> Option<*mut ReturnInstance> {
        let top = self.top.load(Relaxed);
        (top & (CHUNK - 1) != 0).then_some(top as *mut ReturnInstance)
    }

    pub(super) fn push(&self, instance: &ReturnInstance) -> bool {
        let top = self.top.load(Relaxed);
        let mut place = top + SIZE;
        if top == 0 || place & (CHUNK - 1) == 0 {
            match above(top) {
                Some(chunk) => place = chunk + SIZE,
                None => return false,
            }
        }
        // SAFETY: inside a chunk of this thread's, above everything in use.
        unsafe { *(place as *mut ReturnInstance) = *instance };
        self.top.store(place, Release);
        true
    }

    /// Takes the newest off; it stays readable until the next push.
    #[inline]
    pub(super) fn pop(&self) {
        self.top.store(below(self.top.load(Relaxed)), Release);
    }

    /// Gives up whatever lies below `slot`, and, with `and_at`, at it: those frames are gone.
    pub(super) fn discard_below(&self, slot: u64, and_at: bool) {
        while let Some(newest) = self.newest() {
            // SAFETY: in use, and ours.
            let newest = unsafe { &mut *newest };
            if newest.slot > slot || (newest.slot == slot && !and_at) {
                return;
            }
            self.pop();
            self.give_up(newest);
        }
    }

    /// A frame that seems to be gone.
    pub(super) fn give_up(&self, instance: &mut ReturnInstance) {
        // SAFETY: on this thread's own stack, whose pages were in use. It may be aligned to nothing.
        let word = unsafe { std::ptr::read_volatile(instance.slot as *const [u8; 8]) };
        if !stubs::holds(u64::from_le_bytes(word), instance.stub) {
            instance.unwind();
            return;
        }
        instance.consumer().unwound();
        self.keep(instance, DOUBTFUL);
    }

    /// Moves an instance into the hash.
    pub(super) fn keep(&self, instance: &mut ReturnInstance, flag: u8) {
        instance.flags |= flag;
        if flag == DOUBTFUL {
            instance.consumer().counters.doubtful.fetch_add(1, Relaxed);
        }
        if !foreign::insert(instance, true) {
            if flag == DOUBTFUL {
                instance.consumer().counters.doubtful.fetch_sub(1, Relaxed);
            }
            instance.release();
            return;
        }
        if self.doubtful.fetch_add(1, Relaxed) == 0 {
            self.doubtful_low.store(instance.slot, Relaxed);
            self.doubtful_high.store(instance.slot, Relaxed);
        } else {
            self.doubtful_low.fetch_min(instance.slot, Relaxed);
            self.doubtful_high.fetch_max(instance.slot, Relaxed);
        }
    }

    /// A new frame has its return address at `slot`: whatever doubtful one had, is gone.
    #[inline]
    pub(super) fn settle_doubt(&self, slot: u64) {
        if self.doubtful.load(Relaxed) == 0
            || slot < self.doubtful_low.load(Relaxed)
            || slot > self.doubtful_high.load(Relaxed)
        {
            return;
        }
        let settled = foreign::remove(slot, |instance| instance.is(DOUBTFUL));
        self.doubtful.store(self.doubtful.load(Relaxed).saturating_sub(settled), Relaxed);
    }

    /// The thread ends: what is left won't return.
    pub fn end(&self) {
        self.drop_all();
    }

    /// Everything unwound: the thread is dead, or about to be.
    pub(super) fn drop_all(&self) {
        while let Some(newest) = self.newest() {
            self.pop();
            // SAFETY: was in use; nobody else uses a dead thread's.
            unsafe { (*newest).unwind() };
        }
    }

    /// From the newest to the oldest.
    pub(super) fn iter(&self) -> impl Iterator<Item = *mut ReturnInstance> {
        let mut at = self.top.load(Acquire);
        std::iter::from_fn(move || {
            if at & (CHUNK - 1) == 0 {
                return None;
            }
            let found = at;
            at = below(at);
            Some(found as *mut ReturnInstance)
        })
    }
}

/// The chunk above the one that `top` (its last instance, or 0) is in.
#[cold]
fn above(top: usize) -> Option<usize> {
    let current = top & !(CHUNK - 1);
    if current != 0 {
        // SAFETY: a chunk's head.
        let kept = unsafe { (*(current as *const Chunk)).above.load(Relaxed) };
        if kept != 0 {
            return Some(kept);
        }
    }
    let chunk = pool::address(pool::take(CHUNK_CLASS)?);
    // SAFETY: a fresh block of CHUNK bytes.
    unsafe {
        (*(chunk as *const Chunk)).below.store(current, Relaxed);
        (*(chunk as *const Chunk)).above.store(0, Relaxed);
        if current != 0 {
            (*(current as *const Chunk)).above.store(chunk, Relaxed);
        }
    }
    Some(chunk)
}

/// The instance below the one at `place`; the head of the first chunk where there is none.
#[inline]
pub(super) fn below(place: usize) -> usize {
    let below = place - SIZE;
    if below & (CHUNK - 1) != 0 {
        return below;
    }
    // SAFETY: a chunk's head.
    match unsafe { (*(below as *const Chunk)).below.load(Relaxed) } {
        0 => below,
        chunk => chunk + CHUNK - SIZE,
    }
}

/// The instance above the one at `place`, which is not the newest.
#[inline]
pub(super) fn next_above(place: *mut ReturnInstance) -> *mut ReturnInstance {
    let above = place as usize + SIZE;
    if above & (CHUNK - 1) != 0 {
        return above as *mut ReturnInstance;
    }
    let chunk = (above - CHUNK) as *const Chunk;
    // SAFETY: not the newest, so there is a chunk above.
    (unsafe { (*chunk).above.load(Relaxed) } + SIZE) as *mut ReturnInstance
}

/// Where things are, for [`crate::hit::quick`].
pub(in crate::hit) const TOP: usize = offset_of!(OwnStack, top);
pub(in crate::hit) const LOW: usize = offset_of!(OwnStack, low);
pub(in crate::hit) const HIGH: usize = offset_of!(OwnStack, high);
pub(in crate::hit) const DOUBTS: usize = offset_of!(OwnStack, doubtful);
pub(in crate::hit) const CHUNK_BELOW: usize = offset_of!(Chunk, below);
