//! Counting in the caller's own structs (`nhit`, `nmissed`), where the caller reads one word.
//!
//! While one thread has ever met a probe, it adds by an ordinary instruction. The second one to come
//! ends that for good, before it counts anything itself:
//!
//! ```text
//!   the only thread                            the second, in its first hit
//!   counting = true                            PHASE = ENDING
//!   light()                                    heavy()
//!   PHASE == ALONE ? add : locked add          wait while anybody's counting is true
//!   counting = false                           PHASE = SHARED
//! ```
//!
//! By [`super::barrier`], a thread that still found ALONE is seen to be counting, and is waited for: a
//! few instructions in which nothing of the program's runs. So no ordinary addition is under way when
//! the first addition of another thread is made, and none comes after it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use crate::hit::barrier;
use crate::hit::protocol::only_thread;
use crate::hit::thread::{self, ThreadState};
use crate::sys;

pub(super) use crate::hit::protocol::only_thread::ALONE;

pub(super) static PHASE: AtomicU32 = AtomicU32::new(only_thread::NOBODY);

/// A thread that has met no probe before is about to. Signal-safe.
pub fn arrive() {
    only_thread::arrive(&PHASE, barrier::heavy, || {
        for state in thread::all() {
            // One that does not get out of it in a second is stopped there, or was killed there: a vfork
            // child on its parent's state.
            let mut rounds = 0_u32;
            while (state.counting.load(Acquire) || state.run().is_counting()) && rounds < 2000 {
                rounds += 1;
                if rounds < 1000 {
                    sys::yield_now();
                } else {
                    sys::sleep_ms(1);
                }
            }
        }
    });
    // `fence` came a moment ago, and found nobody.
    if barrier::is_fenced() {
        fence();
    }
}

/// Hits must fence themselves from now on. Whoever is alone does not ([`super::direct`]), so nobody is.
pub(super) fn fence() {
    only_thread::end(&PHASE);
}

/// Adds `n` (wrapping) to `word`, which all threads count in. The caller is inside a hit. Signal-safe.
#[inline]
pub fn add(thread: &ThreadState, word: &AtomicU64, n: u64) {
    only_thread::add(&PHASE, &thread.counting, word, n, barrier::light);
}
