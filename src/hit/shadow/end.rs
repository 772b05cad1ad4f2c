//! What becomes of followed calls where a process ends, or is forked.

use std::sync::atomic::Ordering::*;

use super::own::OwnStack;
use super::{DOUBTFUL, ReturnInstance, UNCOUNTED, foreign};
use crate::hit::consumer::Role;
use crate::hit::thread;
use crate::hit::{asm, process, stack, stubs};
use crate::regs::Regs;
use crate::sys;

/// At the end of the process: gives up what has certainly not returned and never will. `here` says where
/// the calling thread is.
pub fn sweep(here: &Regs) {
    let me = asm::thread_pointer().cast_const();
    for state in thread::all() {
        if std::ptr::eq(state, me) {
            sweep_own(&state.stack, here);
            continue;
        }
        let (pid, tid) = (process::pid(), state.tid.load(Acquire));
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
            // One that has not started is of the very hit that we are in (_exit's), whose frame shows no landing yet.
            if !instance.is(DOUBTFUL) && instance.started != 0 {
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
    stack::each_caller(here, |caller| {
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
        } else if matches!(instance.consumer().role(), Role::Event(_)) {
            instance.flags |= UNCOUNTED;
        }
    });
}

/// In a fork child, after the counts were reset: the calls under way are its own.
pub fn after_fork_count() {
    let count = |instance: &ReturnInstance| {
        if matches!(instance.consumer().role(), Role::Event(_)) && !instance.is(UNCOUNTED) {
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
