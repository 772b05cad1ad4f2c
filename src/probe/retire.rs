//! Freeing what hits may be reading, and waiting for handlers.

use std::rc::Rc;
use std::sync::atomic::Ordering::*;

use crate::hit::consumer::Consumer;
use crate::hit::counters::Counters;
use crate::hit::listeners::ConsumerList;
use crate::hit::protocol::grace;
use crate::hit::thread::{self, StepRecord, ThreadState};
use crate::hit::{barrier, cells};
use crate::sys;

/// The hits under way at some time: whose, and where its sequence was.
type Hits = Rc<[(&'static ThreadState, u64)]>;

/// Something unpublished.
struct Retired {
    list: *mut ConsumerList,
    consumer: *mut Consumer,
    /// The hits under way at a later time; `None` until they were looked for.
    hits: Option<Hits>,
    /// Whether calls were under way when it was last looked at.
    has_calls: bool,
}

/// What waits to be freed.
#[derive(Default)]
pub struct Retirement {
    retired: Vec<Retired>,
    /// First cells of what was freed: [`Counters::RETURN_CELLS`] each.
    cells: Vec<u32>,
}

impl Retirement {
    /// Takes a list, a consumer, or both (null: none) that no new hit can find.
    pub fn retire(&mut self, list: *mut ConsumerList, consumer: *mut Consumer) {
        if list.is_null() && consumer.is_null() {
            return;
        }
        // SAFETY: null, or handed over just now.
        let has_calls = unsafe { consumer.as_ref() }.is_some_and(|consumer| consumer.follows_calls());
        self.retired.push(Retired { list, consumer, hits: None, has_calls });
    }

    /// Cells for a probe of the C API; 0: none are left.
    pub fn take_cells(&mut self) -> u32 {
        self.cells.pop().unwrap_or_else(|| cells::take_kept(Counters::RETURN_CELLS))
    }

    /// Looks for the hits that may have found what was retired since the last time: one barrier for all.
    fn look_for_hits(&mut self) {
        if self.retired.iter().all(|retired| retired.hits.is_some()) {
            return;
        }
        barrier::heavy();
        let hits: Hits =
            thread::all().filter_map(|state| Some((state, grace::under_way(&state.sequence)?))).collect();
        for retired in self.retired.iter_mut().filter(|retired| retired.hits.is_none()) {
            retired.hits = Some(Rc::clone(&hits));
        }
    }

    /// Frees what no hit can be reading any more.
    pub fn reclaim(&mut self) {
        self.free_unread();
        // Those whose last call came back a moment ago.
        self.free_unread();
        if self.retired.capacity() > 1024 && self.retired.is_empty() {
            self.retired = Vec::new();
        }
    }

    fn free_unread(&mut self) {
        self.look_for_hits();
        let Self { retired, cells } = self;
        // Many have the same hits: the last answer will do, as long as it is "none any more".
        let mut over: Option<Hits> = None;
        let mut is_over = |hits: &Option<Hits>| {
            let Some(hits) = hits else { return true };
            if over.as_ref().is_some_and(|known| Rc::ptr_eq(known, hits)) {
                return true;
            }
            let is = hits.iter().all(|(state, seen)| grace::is_over(&state.sequence, *seen));
            if is {
                over = Some(Rc::clone(hits));
            }
            is
        };
        let done: Vec<bool> = retired.iter().map(|retired| is_over(&retired.hits)).collect();
        // After that: a hit that is over has left its step behind.
        let steps: Vec<*mut ConsumerList> = thread::all().flat_map(steps_of).collect();
        // One that was called directly is in no hit that counts in a sequence.
        let running: Vec<*mut Consumer> = thread::all()
            .map(|state| state.run().consumer())
            .filter(|consumer| !consumer.is_null())
            .collect();
        let mut done = done.into_iter();
        retired.retain_mut(|retired| {
            // Without a list the consumer was in one that is retired too; steps hold lists, not consumers,
            // and a dead consumer in a held list is looked at: any step at all keeps it.
            let is_stepping =
                if retired.list.is_null() { !steps.is_empty() } else { steps.contains(&retired.list) };
            let is_running = running.contains(&retired.consumer);
            let is_read = !done.next().unwrap_or(false) || is_stepping || is_running;
            if is_read {
                return true;
            }
            let had_calls = std::mem::replace(&mut retired.has_calls, has_calls_under_way(retired.consumer));
            if had_calls || retired.has_calls {
                // The last call is counted as over by a hit that goes on with the consumer: once more.
                retired.hits = if retired.has_calls { retired.hits.take() } else { None };
                return true;
            }
            // SAFETY: unpublished, and every hit that could have seen it is over.
            unsafe {
                if !retired.list.is_null() {
                    drop(Box::from_raw(retired.list));
                }
                if !retired.consumer.is_null() {
                    if (*retired.consumer).has_kept_cells() {
                        cells.extend((&*retired.consumer).counters.free_return_cells());
                    }
                    drop(Box::from_raw(retired.consumer));
                }
            }
            false
        });
    }
}

/// Whether calls that a return probe follows have not come back: each has its consumer in its
/// shadow entry. One that never returns keeps it for ever.
fn has_calls_under_way(consumer: *const Consumer) -> bool {
    // SAFETY: null, or not freed before this says no.
    unsafe { consumer.as_ref() }.is_some_and(|consumer| consumer.outstanding() != 0)
}

/// What the displaced instructions hold that the thread of `state` has between their two traps.
fn steps_of(state: &'static ThreadState) -> impl Iterator<Item = *mut ConsumerList> {
    let is_taken = |step: &&StepRecord| step.slot.load(SeqCst) != 0;
    state
        .steps
        .iter()
        .filter(is_taken)
        .map(|step| step.listeners().map_or(std::ptr::null_mut(), |all| all.word()))
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
            .find(|other| other.run().consumer() == awaited && !other.waiting_for.load(SeqCst).is_null());
        let Some(holder) = holder else { return false };
        awaited = holder.waiting_for.load(SeqCst);
    }
    false
}

/// Waits until no thread runs a handler of any of `consumers`, which are not alive any more. The caller's own
/// handler, if that is where it calls from, does not count; nor does a thread that itself waits for
/// the caller's handler to end (handlers that unregister each other in a circle).
pub fn wait_until_idle(consumers: &[*const Consumer]) {
    if consumers.is_empty() {
        return;
    }
    barrier::heavy();
    for consumer in consumers {
        wait_for(*consumer);
    }
}

fn wait_for(consumer: *const Consumer) {
    let me = thread::current();
    let mine = me.map_or(std::ptr::null_mut(), |me| me.run().consumer());
    if let Some(me) = me {
        me.waiting_for.store(consumer.cast_mut(), SeqCst);
    }
    for state in thread::all() {
        if me.is_some_and(|me| std::ptr::eq(me, state)) {
            continue;
        }
        let mut rounds = 0_u32;
        while state.run().consumer().cast_const() == consumer || grace::runs(&state.missing, consumer) {
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
