//! Which handler a thread runs: one line at the head of its cells, which compiled code sees without looking
//! for anything else.
//!
//! Whoever unregisters a consumer reads it of every thread ([`super::barrier`]), and so does whoever frees one.

use std::mem::offset_of;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering::*};

use crate::hit::consumer::Consumer;
use crate::hit::protocol::grace;

/// In [`Run::consumer`]: [`super::direct`] is about to count, as [`super::alone`] would say.
const COUNTING: usize = 1;

/// A thread's handler under way. Written by its thread only.
#[repr(C)]
#[derive(Default)]
pub struct Run {
    /// Whose handler; null: none. With [`COUNTING`].
    consumer: AtomicPtr<Consumer>,
    /// Where a crashing handler's rsp goes back to, and how: even, to [`super::direct`]; odd, and one less, to
    /// [`super::asm::uprobe_guarded_call`]. Means nothing where nothing runs; 0 outside handlers.
    recovery: AtomicU64,
    /// The program's errno, for [`super::direct`].
    errno: AtomicI32,
}

impl Run {
    /// 8-byte words it takes.
    pub const WORDS: u32 = 8;
    pub(super) const CONSUMER: usize = offset_of!(Self, consumer);
    pub(super) const RECOVERY: usize = offset_of!(Self, recovery);
    pub(super) const ERRNO: usize = offset_of!(Self, errno);

    /// The consumer whose handler runs now; null: none does.
    #[inline]
    #[must_use]
    pub fn consumer(&self) -> *mut Consumer {
        self.consumer.load(SeqCst).map_addr(|address| address & !COUNTING)
    }

    /// Whether a handler runs now.
    #[inline]
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.consumer.load(Relaxed).is_null()
    }

    /// Whether it is in the middle of counting.
    #[must_use]
    pub fn is_counting(&self) -> bool {
        self.consumer.load(Acquire).addr() & COUNTING != 0
    }

    /// That of `consumer` begins. `light`: see [`grace`].
    #[inline]
    pub fn begin(&self, consumer: &Consumer, light: impl FnOnce()) {
        self.recovery.store(0, Relaxed);
        grace::begin_run(&self.consumer, std::ptr::from_ref(consumer).cast_mut(), light);
    }

    /// It ends.
    #[inline]
    pub fn end(&self) {
        grace::end_run(&self.consumer);
    }

    /// As if none ran, until [`Run::resume`] gets what this gives back.
    pub fn suspend(&self) -> *mut Consumer {
        self.consumer.swap(std::ptr::null_mut(), SeqCst)
    }

    /// See [`Run::suspend`].
    pub fn resume(&self, consumer: *mut Consumer) {
        self.consumer.store(consumer, SeqCst);
    }

    /// Where a crash goes back to; `None`: nothing runs that could crash.
    #[must_use]
    pub fn recovery(&self) -> Option<u64> {
        Some(self.recovery.load(Relaxed)).filter(|recovery| *recovery != 0 && self.is_on())
    }

    /// Where it says so.
    pub const fn recovery_cell(&self) -> *mut u64 {
        self.recovery.as_ptr()
    }

    /// Forgets whatever was under way.
    pub fn reset(&self) {
        self.end();
        self.recovery.store(0, Relaxed);
    }
}

const _: () = assert!(size_of::<Run>() <= Run::WORDS as usize * 8);
const _: () = assert!(align_of::<Consumer>() > COUNTING);
