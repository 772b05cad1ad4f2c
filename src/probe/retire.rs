//! Freeing what hits may be reading, and waiting for handlers.

use std::sync::atomic::Ordering::*;

use crate::hit::consumer::{Consumer, ConsumerList};
use crate::hit::thread::{self, ThreadState};
use crate::sys;

/// Something unpublished, and the hits that were under way then.
struct Retired {
    list: *mut ConsumerList,
    consumer: *mut Consumer,
    hits: Vec<(&'static ThreadState, u64)>,
}

/// What waits to be freed.
#[derive(Default)]
pub struct Retirement(Vec<Retired>);

impl Retirement {
    /// Takes a list, a consumer, or both (null: none) that no new hit can find.
    pub fn retire(&mut self, list: *mut ConsumerList, consumer: *mut Consumer) {
        if list.is_null() && consumer.is_null() {
            return;
        }
        let hits = thread::all()
            .map(|state| (state, state.sequence.load(SeqCst)))
            .filter(|(_, sequence)| !sequence.is_multiple_of(2))
            .collect();
        self.0.push(Retired { list, consumer, hits });
    }

    /// Frees what no hit can be reading any more.
    pub fn reclaim(&mut self) {
        self.0.retain(|retired| {
            let read = retired.hits.iter().any(|(state, sequence)| state.sequence.load(Acquire) == *sequence)
                || thread::all().any(|state| holds_in_step(state, retired.list))
                || has_calls_under_way(retired.consumer);
            if !read {
                // SAFETY: unpublished, and every hit that could have seen it is over.
                unsafe {
                    if !retired.list.is_null() {
                        drop(Box::from_raw(retired.list));
                    }
                    if !retired.consumer.is_null() {
                        drop(Box::from_raw(retired.consumer));
                    }
                }
            }
            read
        });
    }
}

/// Whether calls that a return probe follows have not come back: each has its consumer in its
/// shadow entry. One that never returns keeps it for ever.
fn has_calls_under_way(consumer: *const Consumer) -> bool {
    // SAFETY: null, or not freed before this says no.
    unsafe { consumer.as_ref() }.is_some_and(|consumer| consumer.outstanding() != 0)
}

fn holds_in_step(state: &ThreadState, list: *mut ConsumerList) -> bool {
    // Without a list the consumer was in one that is retired too; steps hold lists, not consumers,
    // and a dead consumer in a held list is looked at: any step at all keeps it.
    state
        .steps
        .iter()
        .any(|step| step.slot.load(SeqCst) != 0 && (list.is_null() || step.consumers.load(Acquire) == list))
}

/// Whether the thread of `state` waits, itself or through others that wait in their handlers, for the
/// handler of `consumer` to end.
fn leads_to(state: &ThreadState, consumer: *mut Consumer) -> bool {
    /// Longest circle that is seen: more handlers than this never wait for each other in practice.
    const LONGEST: usize = 64;
    let mut awaited = state.waiting_for.load(SeqCst);
    for _ in 0..LONGEST {
        if awaited.is_null() || awaited == consumer {
            return awaited == consumer;
        }
        let holder = thread::all()
            .find(|other| other.running.load(SeqCst) == awaited && !other.waiting_for.load(SeqCst).is_null());
        let Some(holder) = holder else { return false };
        awaited = holder.waiting_for.load(SeqCst);
    }
    false
}

/// Waits until no thread runs a handler of `consumer`, which is not alive any more. The caller's own
/// handler, if that is where it calls from, does not count; nor does a thread that itself waits for
/// the caller's handler to end (handlers that unregister each other in a circle).
pub fn wait_until_idle(consumer: *const Consumer) {
    let me = thread::current();
    let mine = me.map_or(std::ptr::null_mut(), |me| me.running.load(Relaxed));
    if let Some(me) = me {
        me.waiting_for.store(consumer.cast_mut(), SeqCst);
    }
    for state in thread::all() {
        if me.is_some_and(|me| std::ptr::eq(me, state)) {
            continue;
        }
        let mut rounds = 0_u32;
        while state.running.load(SeqCst).cast_const() == consumer
            || state.missing.load(SeqCst).cast_const() == consumer
        {
            let circle = !mine.is_null() && leads_to(state, mine);
            if circle
                || (rounds > 1000 && !sys::thread_exists(crate::hit::process::pid(), state.tid.load(Relaxed)))
            {
                break;
            }
            rounds = rounds.saturating_add(1);
            sys::yield_now();
        }
    }
    if let Some(me) = me {
        me.waiting_for.store(std::ptr::null_mut(), SeqCst);
    }
}
