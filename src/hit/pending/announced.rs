//! Signals that one thread sends to another, told to it beforehand.
//!
//! The kernel keeps one SIGTRAP for a thread at a time, and forgets the one that is sent where an int3's is under way; and
//! one SIGFPE, where that of [`hidden`](crate::hit::hidden) is. So these are announced before they are sent, and
//! whatever SIGTRAP comes, or division of ours, looks for that.

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::*};

use super::PendingCell;
use crate::hit::frame::SignalInfo;
use crate::hit::process;
use crate::hit::thread::{self, ThreadState};
use crate::sys::{self, SysResult};

/// Sends one of our five to the thread `tid` of this process. `None`: it should be announced, and there is no room for that;
/// nothing is sent.
///
/// # Errors
/// errno of rt_tgsigqueueinfo(2).
pub fn send(tid: i32, signal: i32, info: &SignalInfo) -> Option<SysResult> {
    if tid <= 0 {
        return Some(Err(libc::EINVAL));
    }
    let announced = if is_announced(signal) { announce(tid, info)? } else { None };
    let mut sent = *info;
    sent.disguise();
    // SAFETY: a siginfo of the kernel's form.
    let result = unsafe { sys::tgsigqueueinfo(process::pid(), tid, signal, (&raw const sent).cast()) };
    if result.is_err()
        && let Some(announced) = announced
    {
        let _ = announced.take();
    }
    Some(result)
}

/// Where a signal that is announced is.
fn announcement(thread: &ThreadState, signal: i32) -> Option<&PendingCell> {
    match signal {
        libc::SIGTRAP => Some(&thread.announced),
        libc::SIGFPE => Some(&thread.announced_division),
        _ => None,
    }
}

/// Whether [`send`] announces it.
#[must_use]
pub const fn is_announced(signal: i32) -> bool {
    matches!(signal, libc::SIGTRAP | libc::SIGFPE)
}

/// Says it to the thread: where, if it hadn't been said already. `None`: there is no room.
fn announce(tid: i32, info: &SignalInfo) -> Option<Option<&'static PendingCell>> {
    let known = || thread::all().find(|other| other.tid.load(SeqCst) == tid);
    let tell = |to: &'static ThreadState| announcement(to, info.signal).filter(|cell| cell.put(info));
    if let Some(to) = known() {
        return Some(tell(to));
    }
    // It has not hit anything yet, and may just now do so for the first time.
    let stranger = Stranger::put(tid, info)?;
    // It looks there when it is known; and we, whether it is, when it is there.
    match known() {
        Some(to) if stranger.cell.take().is_some() => {
            stranger.free(tid);
            Some(tell(to))
        }
        _ => Some(Some(&stranger.cell)),
    }
}

/// What another thread has announced to the calling one, which it sees by this. Whoever comes as announced, but later,
/// has been seen then.
#[inline]
pub fn take_announced(signal: i32) -> Option<SignalInfo> {
    let thread = if STRANGERS_TOLD.load(SeqCst) == 0 { thread::existing() } else { thread::current() }?;
    let announced = announcement(thread, signal)?;
    if announced.is_empty() || thread.tid.load(Relaxed) != sys::gettid() {
        return None;
    }
    announced.take()
}

/// A thread that has no state yet, and what it is told.
struct Stranger {
    /// 0: nobody.
    tid: AtomicI32,
    cell: PendingCell,
}

static STRANGERS: [Stranger; 32] =
    [const { Stranger { tid: AtomicI32::new(0), cell: PendingCell::new() } }; 32];
/// How many there are.
static STRANGERS_TOLD: AtomicU32 = AtomicU32::new(0);

impl Stranger {
    fn put(tid: i32, info: &SignalInfo) -> Option<&'static Self> {
        let is_free = |stranger: &&Self| {
            let owner = stranger.tid.load(Relaxed);
            // Who ended without a hit has not been told.
            (owner == 0 || (owner != HELD && !sys::thread_exists(process::pid(), owner)))
                && stranger.tid.compare_exchange(owner, HELD, SeqCst, Relaxed).is_ok_and(|_| {
                    if owner != 0 {
                        stranger.cell.clear();
                        STRANGERS_TOLD.fetch_sub(1, SeqCst);
                    }
                    true
                })
        };
        let stranger = STRANGERS.iter().find(is_free)?;
        STRANGERS_TOLD.fetch_add(1, SeqCst);
        stranger.cell.put(info);
        stranger.tid.store(tid, SeqCst);
        Some(stranger)
    }

    fn free(&self, tid: i32) {
        if self.tid.compare_exchange(tid, 0, SeqCst, Relaxed).is_ok() {
            STRANGERS_TOLD.fetch_sub(1, SeqCst);
        }
    }
}

/// In [`Stranger::tid`]: somebody is at it.
const HELD: i32 = -1;

/// The thread `tid` has `state` from now on: what it was told before is there.
pub fn adopt(tid: i32, state: &ThreadState) {
    if STRANGERS_TOLD.load(SeqCst) == 0 {
        return;
    }
    for stranger in STRANGERS.iter().filter(|stranger| stranger.tid.load(SeqCst) == tid) {
        if let Some(info) = stranger.cell.take() {
            announcement(state, info.signal).map(|cell| cell.put(&info));
        }
        stranger.free(tid);
    }
}

/// In a fork child: nobody was told anything.
pub(super) fn after_fork() {
    for stranger in &STRANGERS {
        stranger.cell.clear();
        stranger.tid.store(0, Relaxed);
    }
    STRANGERS_TOLD.store(0, Relaxed);
}
