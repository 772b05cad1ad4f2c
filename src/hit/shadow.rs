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
use std::sync::atomic::Ordering::*;

use crate::hit::consumer::{Consumer, Role};
use crate::hit::point::ProbePoint;
use crate::hit::thread::ThreadState;
use crate::hit::{pool, quick};

mod bounds;
mod end;
mod foreign;
mod own;

pub use bounds::note_main_stack;
pub use end::{after_fork_count, after_fork_drop, sweep};
pub use own::OwnStack;
pub(super) use own::{CHUNK, CHUNK_BELOW, DOUBTS, HIGH, LOW, TOP};
use own::{below, next_above};

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
/// May end in [`super::quick`]: the only one of its call, and `next` is the index of its consumer's first cell.
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

    /// Lets [`super::quick`] end it, where that can.
    fn make_quick(&mut self) {
        let decided = match self.consumer().role() {
            Role::Event(event) => !event.program.has_filter() || event.program.filters_at_entry(),
            _ => false,
        };
        let first = quick::first_cell(self.consumer()).filter(|_| decided && self.block == 0);
        if let Some(first) = first {
            let timed = if self.consumer().latency.is_some() { TIMED } else { 0 };
            self.next = first;
            self.flags |= QUICK | timed;
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

    /// Sets when the newest `count` began, which are all of their call. `chained`: at a slot with others.
    #[inline]
    pub fn start(self, thread: &ThreadState, count: u32, chained: bool, now: u64) {
        if self.is_own {
            if let Some(newest) = thread.stack.newest().filter(|_| count == 1 && !chained) {
                // SAFETY: in use.
                unsafe { (*newest).make_quick() };
            }
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

/// Where things are, for [`super::quick`].
pub(super) const NEXT: usize = offset_of!(ReturnInstance, next);
pub(super) const BYTES: usize = offset_of!(ReturnInstance, bytes);
pub(super) const FLAGS: usize = offset_of!(ReturnInstance, flags);
pub(super) const TID: usize = offset_of!(ReturnInstance, tid);
