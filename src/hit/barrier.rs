//! Who is in the middle of using something, and who may take it away: ordered at the expense of the
//! latter.
//!
//! A hit announces itself, then looks at what is shared; a change of the shared takes something away,
//! then looks at the announcements:
//!
//! ```text
//!   a hit                                        a change
//!   sequence = odd   | running = consumer        consumers = without it | alive = false
//!   light()                                      heavy()
//!   read consumers   | read alive                read every sequence    | every running, missing
//! ```
//!
//! Each side writes one word and then reads the other's: at least one must see what the other wrote.
//! For this a processor must not let the read overtake its own write, which is still in its store
//! buffer. A fence on both sides would do it; but hits are many and changes are few, so [`heavy`] makes
//! the kernel put the fence into every running thread of the process (membarrier(2)), at an
//! instruction that nobody chose, and [`light`] only keeps the compiler from swapping the two. Either
//! that instruction comes after the hit's write: then the write is in memory, and the change, which
//! reads after [`heavy`], sees it. Or it comes before or at it: then the hit's read comes later than the
//! fence, and sees what the change wrote before [`heavy`]. A thread that does not run now has passed
//! a full fence when it was switched out, or will when it is switched in.
//!
//! The end of a hit needs none of this: whoever reads it (Acquire) sees all that came before (Release).
//!
//! Where the kernel has no membarrier, or a filter forbids it, [`light`] is a fence.

use std::sync::atomic::{AtomicBool, Ordering::*, compiler_fence, fence};

use crate::hit::alone;
use crate::sys;

/// Whether hits fence themselves. A thread that finds it still true only does too much.
pub(super) static FENCED: AtomicBool = AtomicBool::new(true);

/// Makes [`light`] cheap where that can be. Called once at start, before the first hit: for a process
/// of one thread it takes microseconds, of several milliseconds. A fork child inherits it.
pub fn start() {
    if sys::membarrier(sys::MEMBARRIER_REGISTER).is_ok() {
        FENCED.store(false, SeqCst);
    }
    // For those who change code; they find out themselves where there is none.
    let _ = sys::membarrier(sys::MEMBARRIER_REGISTER_SYNC_CORE);
}

/// Whether they do.
pub(super) fn is_fenced() -> bool {
    FENCED.load(SeqCst)
}

/// Between a hit's announcement and its look at what is shared. Signal-safe.
#[inline]
pub fn light() {
    if FENCED.load(Relaxed) {
        fence(SeqCst);
    }
    compiler_fence(SeqCst);
}

/// Between a change and its look at the announcements. One system call.
pub fn heavy() {
    fence(SeqCst);
    if !FENCED.load(Relaxed) && sys::membarrier(sys::MEMBARRIER).is_err() {
        forbidden();
    }
    fence(SeqCst);
}

/// A seccomp filter of the program's that came after us forbids it. From now on hits fence
/// themselves; those under way have a store buffer that empties within microseconds.
#[cold]
fn forbidden() {
    FENCED.store(true, SeqCst);
    alone::fence();
    sys::sleep_ms(2);
}
