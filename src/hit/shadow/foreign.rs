//! The hash of instances on stacks that are not their thread's own, keyed by the slot.
//!
//! A shard's lock is held for some ten instructions, in a thread whose signals are blocked or set
//! aside; a fork child finds all locks open.

use std::sync::atomic::{AtomicU32, Ordering::*};

use super::{DOUBTFUL, FIRST, PINNED, ReturnInstance};
use crate::hit::memory::SafeMemory;
use crate::hit::thread::ThreadState;
use crate::hit::{pool, stubs};
use crate::regs::Memory;
use crate::sys;

const SHARDS: usize = 256;
const BUCKETS: usize = 128;
/// Class of a block that holds an instance.
const CLASS: u8 = 0;

struct Shard {
    lock: AtomicU32,
    /// Unit of each bucket's newest instance.
    heads: [AtomicU32; BUCKETS],
}

static HASH: [Shard; SHARDS] =
    [const { Shard { lock: AtomicU32::new(0), heads: [const { AtomicU32::new(0) }; BUCKETS] } }; SHARDS];

/// A bucket, locked until dropped.
struct Bucket {
    shard: &'static Shard,
    head: &'static AtomicU32,
}

impl Bucket {
    fn of(slot: u64) -> Self {
        let hash = (slot >> 3).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        let shard = &HASH[hash as usize % SHARDS];
        shard.lock();
        Self { shard, head: &shard.heads[hash as usize / SHARDS % BUCKETS] }
    }

    /// Takes out every instance that `test` chooses, newest first, into a list; its head.
    fn detach(&self, mut test: impl FnMut(&ReturnInstance) -> bool) -> u32 {
        let (mut link, mut taken, mut last) = (Link::Head(self.head), 0, 0);
        loop {
            let unit = link.get();
            if unit == 0 {
                return taken;
            }
            let instance = instance(unit);
            if !test(instance) {
                link = Link::After(unit);
                continue;
            }
            link.set(instance.next);
            instance.next = 0;
            if last == 0 {
                taken = unit;
            } else {
                self::instance(last).next = unit;
            }
            last = unit;
        }
    }

    fn iter(&self) -> impl Iterator<Item = &'static mut ReturnInstance> {
        list(self.head.load(Relaxed)).map(|(_, instance)| instance)
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.shard.lock.store(0, Release);
    }
}

impl Shard {
    fn lock(&self) {
        let mut rounds = 0_u32;
        while self.lock.compare_exchange_weak(0, 1, Acquire, Relaxed).is_err() {
            rounds += 1;
            if rounds.is_multiple_of(256) {
                sys::yield_now();
            }
            std::hint::spin_loop();
        }
    }
}

/// What points to an instance.
#[derive(Clone, Copy)]
enum Link {
    Head(&'static AtomicU32),
    After(u32),
}

impl Link {
    fn get(self) -> u32 {
        match self {
            Self::Head(head) => head.load(Relaxed),
            Self::After(unit) => instance(unit).next,
        }
    }

    fn set(self, unit: u32) {
        match self {
            Self::Head(head) => head.store(unit, Relaxed),
            Self::After(before) => instance(before).next = unit,
        }
    }
}

fn instance(unit: u32) -> &'static mut ReturnInstance {
    // SAFETY: a block that holds an instance; the shard's lock, or having detached it, makes it ours.
    unsafe { &mut *(pool::address(unit) as *mut ReturnInstance) }
}

/// Walks a list; the next is read before the current is given out, which may free it.
fn list(head: u32) -> impl Iterator<Item = (u32, &'static mut ReturnInstance)> {
    let mut next = head;
    std::iter::from_fn(move || {
        if next == 0 {
            return None;
        }
        let unit = next;
        let found = instance(unit);
        next = found.next;
        Some((unit, found))
    })
}

/// Adds an instance as the newest. Moved from a stack's top to the hash newest first, so a frame's are
/// in reverse: `last` puts it behind those of the same slot. False: no memory.
pub fn insert(new: &ReturnInstance, last: bool) -> bool {
    let Some(unit) = pool::take(CLASS) else { return false };
    let bucket = Bucket::of(new.slot);
    *instance(unit) = *new;
    let mut link = Link::Head(bucket.head);
    if last {
        let mut at = bucket.head.load(Relaxed);
        while at != 0 {
            if instance(at).slot == new.slot {
                link = Link::After(at);
            }
            at = instance(at).next;
        }
    }
    instance(unit).next = link.get();
    link.set(unit);
    true
}

/// Gives up those at `slot` that `test` chooses; how many.
pub fn remove(slot: u64, test: impl Fn(&ReturnInstance) -> bool) -> u32 {
    let taken = Bucket::of(slot).detach(|instance| instance.slot == slot && test(instance));
    let mut count = 0;
    for (unit, instance) in list(taken) {
        instance.unwind();
        pool::give(unit, CLASS);
        count += 1;
    }
    count
}

/// How many frames are at `slot`.
pub fn count(slot: u64) -> usize {
    Bucket::of(slot).iter().filter(|instance| instance.slot == slot && instance.is(FIRST)).count()
}

/// Whether `test` holds for any at `slot`.
pub fn any(slot: u64, test: &mut impl FnMut(&ReturnInstance) -> bool) -> bool {
    Bucket::of(slot).iter().any(|instance| instance.slot == slot && test(instance))
}

/// Takes the newest at `slot` off again.
pub fn undo(slot: u64, undo: &mut impl FnMut(&mut ReturnInstance)) {
    let mut found = false;
    let taken = Bucket::of(slot).detach(|instance| {
        let wanted = instance.slot == slot && !found;
        found |= wanted;
        wanted
    });
    for (unit, instance) in list(taken) {
        undo(instance);
        instance.release();
        pool::give(unit, CLASS);
    }
}

/// Sets when the newest `count` at `slot` began.
pub fn start(slot: u64, count: u32, now: u64) {
    let bucket = Bucket::of(slot);
    for instance in bucket.iter().filter(|instance| instance.slot == slot).take(count as usize) {
        instance.started = now;
    }
}

/// They wait for a second return.
pub fn pin(slot: u64) {
    let bucket = Bucket::of(slot);
    for instance in bucket.iter().filter(|instance| instance.slot == slot) {
        instance.flags |= PINNED;
    }
}

/// See [`super::Frame::land`].
pub fn land(thread: &ThreadState, slot: u64, stub: u32, fire: &mut impl FnMut(&mut ReturnInstance, u64)) {
    let mut rest = Bucket::of(slot).detach(|instance| instance.slot == slot && instance.stub == stub);
    while rest != 0 {
        // The newest frame's, turned round into the order of registration.
        let mut frame = 0;
        while rest != 0 {
            let unit = rest;
            let current = instance(unit);
            rest = current.next;
            current.next = frame;
            frame = unit;
            if current.is(FIRST) {
                break;
            }
        }
        let nested = instance(frame).nested;
        for (unit, current) in list(frame) {
            let was_doubtful = current.is(DOUBTFUL);
            current.comes_back();
            if was_doubtful {
                let doubtful = &thread.stack.doubtful;
                doubtful.store(doubtful.load(Relaxed).saturating_sub(1), Relaxed);
            }
            fire(current, nested);
            pool::give(unit, CLASS);
        }
    }
}

/// Gives up those whose slot holds something else by now, or is gone.
pub fn sweep() {
    for shard in &HASH {
        for head in &shard.heads {
            if head.load(Acquire) == 0 {
                continue;
            }
            shard.lock();
            let taken = Bucket { shard, head }.detach(|instance| {
                let word = SafeMemory.read_u64(instance.slot);
                !instance.is(PINNED) && !word.is_some_and(|word| stubs::holds(word, instance.stub))
            });
            for (unit, instance) in list(taken) {
                instance.unwind();
                pool::give(unit, CLASS);
            }
        }
    }
}

/// Every instance; nobody else may be at work.
pub fn each(mut visit: impl FnMut(&mut ReturnInstance)) {
    for head in HASH.iter().flat_map(|shard| &shard.heads) {
        for (_, instance) in list(head.load(Relaxed)) {
            visit(instance);
        }
    }
}

/// In a fork child.
pub fn unlock_all() {
    for shard in &HASH {
        shard.lock.store(0, Relaxed);
    }
}
