//! Threads in the very first calls, told to a child that is forked meanwhile.
//!
//! Nothing of ours waits for a fork yet, so it may come while a thread holds libc's lock on the list of objects, or fills a
//! cell. The child, where that thread is not, would wait for it for ever.

use std::sync::atomic::{AtomicU32, Ordering::*};

use crate::sys;

/// Their numbers; 0: nobody. In ordinary memory, which the child has a copy of.
static STARTERS: [AtomicU32; 64] = [const { AtomicU32::new(0) }; 64];

/// The calling thread is one of them, until this is dropped.
pub struct Starter(Option<&'static AtomicU32>);

impl Starter {
    /// `None` in a child that was forked while another thread was one.
    pub fn enter() -> Option<Self> {
        let me = sys::gettid() as u32;
        let is_cut_off = |other: u32| other != 0 && !sys::thread_exists(sys::getpid(), other as i32);
        if STARTERS.iter().any(|starter| is_cut_off(starter.load(SeqCst))) {
            return None;
        }
        let free = |starter: &&AtomicU32| starter.compare_exchange(0, me, SeqCst, Relaxed).is_ok();
        Some(Self(STARTERS.iter().find(free)))
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        if let Some(starter) = self.0 {
            starter.store(0, SeqCst);
        }
    }
}
