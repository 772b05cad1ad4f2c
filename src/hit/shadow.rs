//! Which calls are being followed, and in which frame: found again by the address of the slot that
//! holds (or held) the return address.
//!
//! A thread's own stack has a stack of instances, newest on top, slots falling. A frame that was left
//! by longjmp, by an exception or with the thread is noticed when the next call or return is made
//! above it. Every other stack (coroutines, alternate signal stacks) shares a hash keyed by the slot:
//! nothing there is compared across stacks, and a coroutine may go on in another thread.
//!
//! An instance is only ever given up for good when its slot holds something else by now. One whose
//! slot still holds our landing may be of a frame that is merely suspended, on a stack that lies
//! inside this one: it is counted as unwound and kept in the hash, and if it returns after all, that is
//! put right. So no order of frames loses an event; and no event, lost or not, ever decides where a
//! function returns to (see [`super::stubs`]).

use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::*};

use crate::hit::consumer::{Consumer, Role};
use crate::hit::memory::SafeMemory;
use crate::hit::point::ProbePoint;
use crate::hit::thread::{self, ThreadState};
use crate::hit::{asm, pool, stubs};
use crate::regs::{Memory, Regs};
use crate::sys;

/// One followed call of one consumer.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub struct ReturnInstance {
    /// Where the return address is on the stack.
    pub slot: u64,
    /// Whose.
    pub consumer: *const Consumer,
    /// The function.
    pub point: *const ProbePoint,
    /// When it was entered, in ticks.
    pub started: u64,
    /// Ticks spent in followed calls that this one made. Kept by the first of its frame.
    pub nested: u64,
    /// What it returns to.
    pub stub: u32,
    /// Its block of the pool: what was fetched at entry, or the user's instance. 0: none.
    pub block: u32,
    /// In the hash: the unit of the next.
    next: u32,
    /// Bytes used of the block.
    pub bytes: u16,
    /// Class of the block.
    pub class: u8,
    /// See below.
    flags: u8,
    /// Who was followed.
    tid: u32,
}

/// The first of those that one hit began: the others of the frame follow it.
pub(super) const FIRST: u8 = 1;
/// Counted as unwound; perhaps it isn't.
const DOUBTFUL: u8 = 2;
/// Waits for the second of two returns: whatever its slot holds meanwhile.
const PINNED: u8 = 4;
/// In a fork child: begun by a thread that is not there any more. No hit of this process, unless it returns
/// here after all (a coroutine that went on in another thread).
const UNCOUNTED: u8 = 8;
/// Made by [`super::quick`], and `next` is the index of its consumer's first cell.
pub(super) const QUICK: u8 = 16;
/// Its time is wanted.
pub(super) const TIMED: u8 = 32;

impl ReturnInstance {
    /// A new one, of the calling thread.
    #[must_use]
    pub fn new(consumer: &Consumer, point: &ProbePoint, slot: u64, stub: u32, is_first: bool) -> Self {
        Self {
            slot,
            consumer,
            point,
            started: 0,
            nested: 0,
            stub,
            block: 0,
            next: 0,
            bytes: 0,
            class: 0,
            flags: if is_first { FIRST } else { 0 },
            tid: 0,
        }
    }

    const fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn consumer(&self) -> &Consumer {
        // SAFETY: a consumer is freed only when nothing refers to it any more (Consumer::outstanding).
        unsafe { &*self.consumer }
    }

    /// Gives its block back.
    pub fn release(&mut self) {
        if self.block != 0 {
            pool::give(self.block, self.class);
            self.block = 0;
        }
    }

    /// It returns, after all where that was in doubt.
    fn comes_back(&mut self) {
        let counters = &self.consumer().counters;
        if self.is(UNCOUNTED) {
            counters.hits.add_shared(1);
        }
        if self.is(DOUBTFUL) {
            if self.is(UNCOUNTED) {
                counters.unwound.fetch_add(1, SeqCst);
            } else {
                counters.doubtful.fetch_sub(1, Relaxed);
            }
            self.consumer().wound_again();
        }
        self.flags &= !(DOUBTFUL | UNCOUNTED);
    }

    /// It will not return.
    fn unwind(&mut self) {
        match (self.is(DOUBTFUL), self.is(UNCOUNTED)) {
            (true, true) => {}
            (true, false) => {
                self.consumer().counters.doubtful.fetch_sub(1, Relaxed);
            }
            (false, uncounted) => {
                self.consumer().unwound();
                self.consumer().counters.unwound.fetch_sub(u64::from(uncounted), SeqCst);
            }
        }
        self.release();
    }
}

/// Bytes of a piece of a thread's stack of instances; a multiple of, and aligned to, itself.
pub(super) const CHUNK: usize = 1024;
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
    top: AtomicUsize,
    /// The stack's lowest address; 0: not asked yet.
    low: AtomicU64,
    /// The first behind it. 0: not known, everything goes to the hash.
    high: AtomicU64,
    /// How many of this thread's are doubtful, and where.
    doubtful: AtomicU32,
    doubtful_low: AtomicU64,
    doubtful_high: AtomicU64,
}

impl OwnStack {
    /// Whether `slot` is on it.
    #[inline]
    fn contains(&self, slot: u64) -> bool {
        if self.low.load(Relaxed) == 0 {
            self.learn(slot);
        }
        self.low.load(Relaxed) <= slot && slot < self.high.load(Relaxed)
    }

    #[cold]
    fn learn(&self, slot: u64) {
        let (low, high) = own_bounds(slot).unwrap_or((1, 0));
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
    fn newest(&self) -> Option<*mut ReturnInstance> {
        let top = self.top.load(Relaxed);
        (top & (CHUNK - 1) != 0).then_some(top as *mut ReturnInstance)
    }

    fn push(&self, instance: &ReturnInstance) -> bool {
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
    fn pop(&self) {
        self.top.store(below(self.top.load(Relaxed)), Release);
    }

    /// Gives up whatever lies below `slot`, and, with `and_at`, at it: those frames are gone.
    fn discard_below(&self, slot: u64, and_at: bool) {
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
    fn give_up(&self, instance: &mut ReturnInstance) {
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
    fn keep(&self, instance: &mut ReturnInstance, flag: u8) {
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
    fn settle_doubt(&self, slot: u64) {
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
    fn drop_all(&self) {
        while let Some(newest) = self.newest() {
            self.pop();
            // SAFETY: was in use; nobody else uses a dead thread's.
            unsafe { (*newest).unwind() };
        }
    }

    /// From the newest to the oldest.
    fn iter(&self) -> impl Iterator<Item = *mut ReturnInstance> {
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
fn below(place: usize) -> usize {
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
fn next_above(place: *mut ReturnInstance) -> *mut ReturnInstance {
    let above = place as usize + SIZE;
    if above & (CHUNK - 1) != 0 {
        return above as *mut ReturnInstance;
    }
    let chunk = (above - CHUNK) as *const Chunk;
    // SAFETY: not the newest, so there is a chunk above.
    (unsafe { (*chunk).above.load(Relaxed) } + SIZE) as *mut ReturnInstance
}

static MAIN_LOW: AtomicU64 = AtomicU64::new(0);
static MAIN_HIGH: AtomicU64 = AtomicU64::new(0);

/// Remembers the main thread's stack.
pub fn note_main_stack(low: u64, high: u64) {
    MAIN_LOW.store(low, Release);
    MAIN_HIGH.store(high, Release);
}

/// The bounds of the calling thread's own stack, where `slot` is on it and they can be told without a
/// call: the main thread's, as noted at start; another's lie in its `struct pthread`, as glibc's
/// stackblock and stackblock_size, which no other two words there can be taken for.
fn own_bounds(slot: u64) -> Option<(u64, u64)> {
    let main = (MAIN_LOW.load(Acquire), MAIN_HIGH.load(Acquire));
    if main.0 <= slot && slot < main.1 {
        return (sys::gettid() == sys::getpid()).then_some(main);
    }
    /// Not less than the size of any glibc's struct pthread.
    const DESCRIPTOR: usize = 0xC00;
    /// From the descriptor to the end of the block: the descriptor, and alignment.
    const TAIL: u64 = 0x1_0000;
    let base = asm::thread_base();
    let mut window = [0_u8; 256 + 8];
    for from in (0..DESCRIPTOR).step_by(256) {
        let n = SafeMemory.read(base + from as u64, &mut window);
        let word = |at: usize| {
            window
                .get(at..at + 8)
                .filter(|_| at + 8 <= n)
                .map(|bytes| bytes.iter().rev().fold(0_u64, |word, byte| word << 8 | u64::from(*byte)))
        };
        for at in (0..256).step_by(8) {
            let (Some(low), Some(size)) = (word(at), word(at + 8)) else { break };
            let Some(end) = low.checked_add(size) else { continue };
            if low <= slot && slot < base && base < end && end - base < TAIL && low > 0xFFFF {
                return Some((low, base));
            }
        }
    }
    None
}

/// The instances of one place where frames are followed.
#[derive(Clone, Copy)]
pub struct Frame {
    /// Where the return address is.
    pub slot: u64,
    is_own: bool,
}

impl Frame {
    /// The frame whose return address is at `slot`.
    #[inline]
    #[must_use]
    pub fn at(thread: &ThreadState, slot: u64) -> Self {
        Self { slot, is_own: thread.stack.contains(slot) }
    }

    /// Before the first instance of a new frame: gives up what was below. `chained`: what is at the slot
    /// goes on (a tail call).
    pub fn begin(self, thread: &ThreadState, chained: bool) {
        if self.is_own {
            thread.stack.discard_below(self.slot, !chained);
            thread.stack.settle_doubt(self.slot);
        } else if !chained {
            foreign::remove(self.slot, |instance| !instance.is(PINNED));
        }
    }

    /// How many calls are chained at the slot.
    #[must_use]
    pub fn chained(self, thread: &ThreadState) -> usize {
        if self.is_own {
            let here = thread.stack.iter().map_while(|instance| {
                // SAFETY: in use.
                let instance = unsafe { &*instance };
                (instance.slot == self.slot).then_some(instance.is(FIRST))
            });
            here.filter(|first| *first).count()
        } else {
            foreign::count(self.slot)
        }
    }

    /// Adds an instance; false where there is no memory.
    pub fn push(self, thread: &ThreadState, instance: &mut ReturnInstance) -> bool {
        instance.tid = thread.tid.load(Relaxed) as u32;
        if self.is_own { thread.stack.push(instance) } else { foreign::insert(instance, false) }
    }

    /// Takes the newest `count` off again: the call is not followed after all. Each is given to `undo`.
    pub fn undo(self, thread: &ThreadState, count: u32, mut undo: impl FnMut(&mut ReturnInstance)) {
        for _ in 0..count {
            if self.is_own {
                let Some(newest) = thread.stack.newest() else { return };
                thread.stack.pop();
                // SAFETY: was in use just now.
                undo(unsafe { &mut *newest });
                // SAFETY: as above.
                unsafe { (*newest).release() };
            } else {
                foreign::undo(self.slot, &mut undo);
            }
        }
    }

    /// Sets when the newest `count` began.
    #[inline]
    pub fn start(self, thread: &ThreadState, count: u32, now: u64) {
        if self.is_own {
            for instance in thread.stack.iter().take(count as usize) {
                // SAFETY: in use.
                unsafe { (*instance).started = now };
            }
        } else {
            foreign::start(self.slot, count, now);
        }
    }

    /// The function at the slot returned to `stub`, at `now`: gives each instance of the frame to `fire`,
    /// with the ticks of its call that were not spent in other followed calls. They are off the stack
    /// by then. Of a chain of tail calls the last comes first; of one function's the order is that of
    /// registration.
    #[inline]
    pub fn land(
        self,
        thread: &ThreadState,
        stub: u32,
        now: u64,
        mut fire: impl FnMut(&mut ReturnInstance, u64),
    ) {
        if self.is_own && land_own(thread, self.slot, stub, now, &mut fire) {
            return;
        }
        foreign::land(thread, self.slot, stub, &mut fire);
    }

    /// The first of two returns: the instances wait for the second.
    pub fn pin(self, thread: &ThreadState) {
        if !self.is_own {
            foreign::pin(self.slot);
            return;
        }
        while let Some(newest) = thread.stack.newest() {
            // SAFETY: in use.
            let newest = unsafe { &mut *newest };
            if newest.slot != self.slot {
                return;
            }
            thread.stack.pop();
            thread.stack.keep(newest, PINNED);
        }
    }

    /// Whether any instance at the slot satisfies `test`.
    pub fn any(self, thread: &ThreadState, mut test: impl FnMut(&ReturnInstance) -> bool) -> bool {
        if !self.is_own {
            return foreign::any(self.slot, &mut test);
        }
        let here = thread.stack.iter().map_while(|instance| {
            // SAFETY: in use.
            let instance = unsafe { &*instance };
            (instance.slot == self.slot).then_some(instance)
        });
        here.into_iter().any(test)
    }
}

/// Whether there was anything at the slot.
fn land_own(
    thread: &ThreadState,
    slot: u64,
    stub: u32,
    now: u64,
    fire: &mut impl FnMut(&mut ReturnInstance, u64),
) -> bool {
    let stack = &thread.stack;
    let mut found = false;
    let slot = slot_of_return(stack, slot, stub);
    while let Some(newest) = stack.newest() {
        // SAFETY: in use.
        let (at, to) = unsafe { ((*newest).slot, (*newest).stub) };
        if at > slot {
            break;
        }
        if at < slot || to != stub {
            stack.pop();
            // SAFETY: was in use just now.
            stack.give_up(unsafe { &mut *newest });
            continue;
        }
        // Down to the first of its frame, off with them, and up again.
        let mut first = newest;
        // SAFETY: in use, as all down to the first.
        while !unsafe { (*first).is(FIRST) } {
            let under = below(first as usize);
            if under & (CHUNK - 1) == 0 {
                break;
            }
            first = under as *mut ReturnInstance;
        }
        stack.top.store(below(first as usize), Release);
        // SAFETY: nothing is pushed before they have been fired: they stay as they are.
        let (nested, started) = unsafe { ((*first).nested, (*first).started) };
        if let Some(caller) = stack.newest() {
            // One without a time is charged with what its own calls took.
            let took = if is_timed(first, newest) { now.saturating_sub(started) } else { nested };
            charge(stack, caller, took);
        }
        let mut current = first;
        loop {
            // SAFETY: as above.
            let instance = unsafe { &mut *current };
            instance.comes_back();
            fire(instance, nested);
            if std::ptr::eq(current, newest) {
                break;
            }
            current = next_above(current);
        }
        found = true;
    }
    found
}

/// The slot of the frame that returned to `stub`: `below_rsp`, the one below where rsp is now; but a
/// function that takes arguments off the stack (`ret 16`) has left rsp further up.
fn slot_of_return(stack: &OwnStack, below_rsp: u64, stub: u32) -> u64 {
    let mut nearest = below_rsp;
    for instance in stack.iter() {
        // SAFETY: in use.
        let (at, to) = unsafe { ((*instance).slot, (*instance).stub) };
        if at > below_rsp || (at == below_rsp && to == stub) {
            return if at == below_rsp { at } else { nearest };
        }
        if to == stub {
            nearest = at;
        }
    }
    nearest
}

/// Whether anybody wants the time of the frame whose instances are those from `first` to `last`.
fn is_timed(first: *mut ReturnInstance, last: *mut ReturnInstance) -> bool {
    let mut current = first;
    loop {
        // SAFETY: not overwritten yet.
        if unsafe { (*current).consumer() }.latency.is_some() {
            return true;
        }
        if std::ptr::eq(current, last) {
            return false;
        }
        current = next_above(current);
    }
}

/// The frame of `newest` called what took `ticks`.
fn charge(stack: &OwnStack, newest: *mut ReturnInstance, ticks: u64) {
    let mut below_newest = stack.iter();
    let mut first = newest;
    // SAFETY: in use.
    while !unsafe { (*first).is(FIRST) } {
        match below_newest.next() {
            Some(instance) => first = instance,
            None => return,
        }
    }
    // SAFETY: in use.
    unsafe { (*first).nested += ticks };
}

/// At the end of the process: gives up what has certainly not returned and never will. `here` says where
/// the calling thread is.
pub fn sweep(here: &Regs) {
    let me = asm::thread_pointer().cast_const();
    for state in thread::all() {
        if std::ptr::eq(state, me) {
            sweep_own(&state.stack, here);
            continue;
        }
        let (pid, tid) = (super::process::pid(), state.tid.load(Acquire));
        let has_ended = !sys::thread_exists(pid, tid) || (tid == pid && sys::main_thread_has_ended());
        if tid > 0 && has_ended {
            state.stack.drop_all();
        }
    }
    foreign::sweep();
}

/// Those whose frame is not among those the thread is in. Both go up the stack: the newest instance
/// and the innermost frame first.
fn sweep_own(stack: &OwnStack, here: &Regs) {
    let mut instances = stack.iter().peekable();
    let mut give_up_below = |slot: u64| {
        // SAFETY: in use, and ours.
        while let Some(instance) = instances.next_if(|instance| unsafe { (**instance).slot } < slot) {
            // SAFETY: as above.
            let instance = unsafe { &mut *instance };
            if !instance.is(DOUBTFUL) {
                instance.unwind();
                // It stays in its place; what was done must not be done again.
                instance.consumer().counters.doubtful.fetch_add(1, Relaxed);
                instance.flags |= DOUBTFUL;
            }
        }
        // SAFETY: as above.
        while instances.next_if(|instance| unsafe { (**instance).slot } == slot).is_some() {}
        instances.peek().is_some()
    };
    give_up_below(here.rsp);
    let mut reached = here.rsp;
    super::stack::each_caller(here, |caller| {
        // A frame of another stack (a handler's, a coroutine's) says nothing about this one.
        if !stack.contains(caller.rsp) {
            return true;
        }
        reached = caller.rsp;
        // Between two frames nothing is alive; what a landing stands for is.
        stubs::containing(caller.found).is_none() || give_up_below(caller.rsp.wrapping_sub(8))
    });
    // Where the walk ended early, what lies above may be alive.
    give_up_below(reached.wrapping_sub(8));
}

/// In a fork child, before the counts are reset: other threads are not there any more, and nobody is
/// in the middle of a change.
pub fn after_fork_drop() {
    let me = asm::thread_pointer().cast_const();
    foreign::unlock_all();
    let (mut tid_before, tid_now) = (0, sys::gettid() as u32);
    for state in thread::all() {
        if !std::ptr::eq(state, me) {
            state.stack.drop_all();
            continue;
        }
        tid_before = state.tid.load(Relaxed) as u32;
        for instance in state.stack.iter() {
            // SAFETY: in use.
            unsafe { (*instance).tid = tid_now };
        }
    }
    foreign::each(|instance| {
        if instance.tid == tid_before {
            instance.tid = tid_now;
        } else if matches!(instance.consumer().role, Role::Event(_)) {
            instance.flags |= UNCOUNTED;
        }
    });
}

/// In a fork child, after the counts were reset: the calls under way are its own.
pub fn after_fork_count() {
    let count = |instance: &ReturnInstance| {
        if matches!(instance.consumer().role, Role::Event(_)) && !instance.is(UNCOUNTED) {
            let counters = &instance.consumer().counters;
            counters.hits.add_shared(1);
            if instance.is(DOUBTFUL) {
                counters.unwound.fetch_add(1, Relaxed);
                counters.doubtful.fetch_add(1, Relaxed);
            }
        }
    };
    if let Some(thread) = thread::existing() {
        for instance in thread.stack.iter() {
            // SAFETY: in use.
            count(unsafe { &*instance });
        }
    }
    foreign::each(|instance| count(instance));
}

mod foreign;

/// Where things are, for [`super::quick`].
pub(super) const TOP: usize = offset_of!(OwnStack, top);
pub(super) const LOW: usize = offset_of!(OwnStack, low);
pub(super) const HIGH: usize = offset_of!(OwnStack, high);
pub(super) const DOUBTS: usize = offset_of!(OwnStack, doubtful);
pub(super) const CHUNK_BELOW: usize = offset_of!(Chunk, below);
pub(super) const NEXT: usize = offset_of!(ReturnInstance, next);
pub(super) const BYTES: usize = offset_of!(ReturnInstance, bytes);
pub(super) const FLAGS: usize = offset_of!(ReturnInstance, flags);
pub(super) const TID: usize = offset_of!(ReturnInstance, tid);
