//! The event log and the engine's own messages: whole lines, one write each; or, of events, the
//! binary trace (`ring`).
//!
//! A descriptor of ours sits in the program's table, at a high number; the program may close it and
//! get the number for a file of its own. So every write is preceded by a look at what it is.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering::*};

use crate::fetch::EventProgram;
use crate::hit::consumer::{Consumer, EventRole};
use crate::hit::ring::{self, Happened};
use crate::hit::thread::ThreadState;
use crate::hit::trap::Hit;
use crate::hit::{asm, clock, defer, process, ticks};
use crate::sys;
use crate::trace::record::RecordBuf;
use crate::trace::{EventHead, event_json, event_text};

/// Where events go.
pub struct Sink {
    fd: AtomicI32,
    dev: AtomicU64,
    ino: AtomicU64,
    format: AtomicU8,
    /// Called when the descriptor is not ours any more: opens the file again, or says no.
    reopen: AtomicPtr<()>,
    reopening: AtomicU32,
}

static SINK: Sink = Sink {
    fd: AtomicI32::new(-1),
    dev: AtomicU64::new(0),
    ino: AtomicU64::new(0),
    format: AtomicU8::new(TEXT),
    reopen: AtomicPtr::new(std::ptr::null_mut()),
    reopening: AtomicU32::new(0),
};

/// In [`Sink::format`].
const TEXT: u8 = 0;
const JSON: u8 = 1;
const TRACE: u8 = 2;

/// When an event happened.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// By [`ticks::ticks`]; 0 where nobody asks.
    pub ticks: u64,
    /// CLOCK_MONOTONIC; 0 where nobody asks.
    pub ns: u64,
}

impl Stamp {
    /// Now, at an entry that is an event itself, as `event` needs it. Signal-safe.
    #[inline]
    #[must_use]
    pub fn at_entry(event: &EventRole) -> Self {
        let is_traced = event.log && is_trace();
        let ticks = if is_traced { ticks::ticks() } else { 0 };
        Self { ticks, ns: Self::now_ns(event, event.needs.entry_time) }
    }

    /// Now, at the return of a call, which the caller knows to be at `ticks`. Signal-safe.
    #[inline]
    #[must_use]
    pub fn at_return(event: &EventRole, ticks: u64) -> Self {
        Self { ticks, ns: Self::now_ns(event, event.needs.return_time) }
    }

    /// A line of the log says when; an event of the trace has its ticks.
    #[inline]
    fn now_ns(event: &EventRole, is_read: bool) -> u64 {
        if is_read || event.log && !is_trace() { clock::now_ns() } else { 0 }
    }
}

/// Whether events go to the binary trace.
#[inline]
#[must_use]
pub fn is_trace() -> bool {
    SINK.format.load(Relaxed) == TRACE
}

/// Events go to the binary trace, which `open` opens.
pub fn start_trace(open: ring::Open) {
    ring::start(open);
    SINK.format.store(TRACE, Release);
}

/// Sets the format, and what opens the log: a fresh descriptor of ours or nothing.
pub fn start(json: bool, reopen: fn() -> Option<i32>) {
    SINK.format.store(if json { JSON } else { TEXT }, Relaxed);
    SINK.reopen.store(reopen as *mut (), Release);
    adopt(reopen());
    rest();
}

/// Opens the log now, and not at the first event; whether it is there.
pub fn prepare() -> bool {
    if is_trace() {
        return ring::prepare();
    }
    let is_there = verified().is_some();
    rest();
    is_there
}

/// Set where descriptors are too few for us to keep one.
static SCARCE: AtomicBool = AtomicBool::new(false);

/// Whether a descriptor of ours must not stay open: the program needs its number. What is opened then is closed after
/// each use.
#[must_use]
pub fn is_scarce() -> bool {
    SCARCE.load(Relaxed)
}

/// After the log was used.
fn rest() {
    if is_scarce() {
        forget();
    }
}

/// Forgets the descriptor; the next event opens the log anew. For fork children with files of
/// their own.
pub fn forget() {
    if let Some(fd) = current() {
        disown(fd);
    }
    SINK.fd.store(-1, Release);
}

/// The log's descriptor, if it is the log.
fn current() -> Option<i32> {
    let fd = SINK.fd.load(Acquire);
    is_file(fd, &SINK.dev, &SINK.ino).then_some(fd)
}

/// Whether a descriptor is this file. Where the kernel may not be asked (seccomp), one of ours is believed to be what
/// it was: its number is beyond the program's, or gated.
fn is_file(fd: i32, dev: &AtomicU64, ino: &AtomicU64) -> bool {
    if fd < 0 {
        return false;
    }
    match sys::stat_raw(fd) {
        Ok(stat) => stat.st_dev == dev.load(Relaxed) && stat.st_ino == ino.load(Relaxed),
        Err(libc::EBADF) => false,
        Err(_) => GUARDS.iter().any(|guard| guard.fd.load(Acquire) == fd),
    }
}

/// Whether a descriptor is one of those kept by [`own`], and still the file it was.
#[must_use]
pub fn is_own(fd: i32) -> bool {
    GUARDS.iter().any(|guard| fd >= 0 && guard.fd.load(Acquire) == fd && is_file(fd, &guard.dev, &guard.ino))
}

fn adopt(fd: Option<i32>) -> bool {
    let Some((fd, stat)) = fd.and_then(|fd| Some((fd, sys::stat_raw(fd).ok()?))) else { return false };
    SINK.dev.store(stat.st_dev, Relaxed);
    SINK.ino.store(stat.st_ino, Relaxed);
    SINK.fd.store(fd, Release);
    true
}

/// The descriptor, certainly ours now.
fn verified() -> Option<i32> {
    if let Some(fd) = current() {
        return Some(fd);
    }
    let reopen = SINK.reopen.load(Acquire);
    if reopen.is_null() || SINK.reopening.swap(1, Acquire) == 1 {
        return None;
    }
    // SAFETY: stored from a fn() -> Option<i32> in start().
    let opened = adopt(unsafe { std::mem::transmute::<*mut (), fn() -> Option<i32>>(reopen)() });
    SINK.reopening.store(0, Release);
    opened.then(|| SINK.fd.load(Acquire))
}

/// Writes one event. False: it is lost. Signal-safe.
#[must_use]
pub fn event(
    consumer: &Consumer,
    program: &EventProgram,
    record: &RecordBuf,
    hit: &Hit<'_>,
    thread: &'static ThreadState,
    stamp: Stamp,
    latency_ns: Option<u64>,
) -> bool {
    // At a return, where it goes.
    let caller = hit.is_return.then_some(hit.regs.rip);
    let format = SINK.format.load(Relaxed);
    if format == TRACE {
        let happened = Happened { consumer, address: hit.point.at, ticks: stamp.ticks, caller, latency_ns };
        return ring::event(&happened, record.as_bytes(), thread);
    }
    let head = EventHead {
        name: consumer.name,
        at: consumer.at(),
        address: hit.point.at,
        pid: process::pid() as u32,
        tid: thread.tid.load(Relaxed) as u32,
        comm: thread.comm(),
        cpu: asm::cpu_number(),
        ts_ns: stamp.ns,
        caller,
        latency_ns,
    };
    // SAFETY: this thread's own cell; events never nest.
    let line = unsafe { &mut *thread.line.get() };
    line.clear();
    if format == JSON {
        event_json::render(line, &head, program, record);
    } else {
        event_text::render(line, &head, program, record);
    }
    let written = verified().is_some_and(|fd| write_all(fd, line.as_bytes()).is_ok());
    rest();
    written
}

/// A descriptor of ours, to be left open when the program closes all it has; see [`guarded`].
struct Guard {
    fd: AtomicI32,
    /// The program could get its number, were it closed.
    reachable: AtomicBool,
    dev: AtomicU64,
    ino: AtomicU64,
}

static GUARDS: [Guard; 8] = [const {
    Guard {
        fd: AtomicI32::new(-1),
        reachable: AtomicBool::new(false),
        dev: AtomicU64::new(0),
        ino: AtomicU64::new(0),
    }
}; 8];

/// Keeps a descriptor for good, at a number the program can't get or that [`guarded`] knows.
pub fn own(fd: sys::Fd) -> i32 {
    let (fd, out_of_reach) = sys::move_out_of_reach(fd);
    let raw = fd.into_raw();
    if let Ok(stat) = sys::stat_raw(raw)
        && let Some(guard) = GUARDS.iter().find(|guard| guard.fd.load(Relaxed) < 0)
    {
        guard.reachable.store(!out_of_reach, Relaxed);
        guard.dev.store(stat.st_dev, Relaxed);
        guard.ino.store(stat.st_ino, Relaxed);
        guard.fd.store(raw, Release);
    }
    raw
}

/// Closes one of them.
pub fn disown(fd: i32) {
    for guard in &GUARDS {
        let _ = guard.fd.compare_exchange(fd, -1, AcqRel, Relaxed);
    }
    drop(sys::Fd::from_raw(fd));
}

/// Whether closing must be gated: some number of ours is one the program could get.
#[must_use]
pub fn has_guarded() -> bool {
    GUARDS.iter().any(|guard| guard.fd.load(Acquire) >= 0 && guard.reachable.load(Relaxed))
}

/// The lowest guarded descriptor in a range of numbers. Where the program got the number all the same
/// (by a system call of its own making) it is the program's.
#[must_use]
pub fn guarded(range: std::ops::RangeInclusive<i32>) -> Option<i32> {
    GUARDS
        .iter()
        .filter(|guard| {
            let fd = guard.fd.load(Acquire);
            range.contains(&fd) && is_file(fd, &guard.dev, &guard.ino)
        })
        .map(|guard| guard.fd.load(Acquire))
        .min()
}

/// The program wants the number `fd` for itself: what we have there goes elsewhere.
pub fn give_up(fd: i32) {
    for guard in &GUARDS {
        if guard.fd.load(Acquire) != fd {
            continue;
        }
        let elsewhere = sys::Fd::duplicate(fd, fd + 1).or_else(|_| sys::Fd::duplicate(fd, 200));
        let elsewhere = elsewhere.map_or(-1, sys::Fd::into_raw);
        for user in [&SINK.fd, &STDERR] {
            let _ = user.compare_exchange(fd, elsewhere, AcqRel, Relaxed);
        }
        guard.fd.store(elsewhere, Release);
    }
}

/// Makes room in a descriptor table that is full, by giving up our copy of standard error.
pub fn make_room() {
    let kept = STDERR.swap(-1, AcqRel);
    if is_stderr(kept) {
        disown(kept);
    }
}

/// Our own copy of the program's standard error, as it was at start.
static STDERR: AtomicI32 = AtomicI32::new(-1);
static STDERR_DEV: AtomicU64 = AtomicU64::new(0);
static STDERR_INO: AtomicU64 = AtomicU64::new(0);

/// Remembers what standard error is.
pub fn note_stderr() {
    SCARCE.store(sys::descriptors_are_scarce(), Relaxed);
    let Ok(stat) = sys::stat_raw(2) else { return };
    STDERR_DEV.store(stat.st_dev, Relaxed);
    STDERR_INO.store(stat.st_ino, Relaxed);
}

/// Keeps a copy of it at a high number, for a report that is to go there at the end.
pub fn keep_stderr() {
    if is_scarce() {
        return;
    }
    if let Some(fd) = duplicate_stderr() {
        STDERR.store(fd, Release);
    }
}

/// A copy of standard error at a high number, if it still is what it was at start.
#[must_use]
pub fn duplicate_stderr() -> Option<i32> {
    if !is_stderr(2) {
        return None;
    }
    Some(own(sys::Fd::duplicate(2, 3).ok()?))
}

fn is_stderr(fd: i32) -> bool {
    STDERR_INO.load(Relaxed) != 0 && is_file(fd, &STDERR_DEV, &STDERR_INO)
}

/// Writes to what was standard error at start, by whichever descriptor still leads there; nowhere
/// else. Signal-safe.
pub fn write_stderr(bytes: &[u8]) {
    let kept = STDERR.load(Acquire);
    if let Some(fd) = [kept, 2].into_iter().find(|fd| is_stderr(*fd)) {
        let _ = write_all(fd, bytes);
    }
}

/// Writes a whole line; a full pipe is waited for. A broken one raises no SIGPIPE in the program, nor a file that
/// would become too large (RLIMIT_FSIZE) a SIGXFSZ.
///
/// # Errors
/// errno.
pub fn write_all(fd: i32, mut bytes: &[u8]) -> Result<(), i32> {
    let aside = defer::count();
    let mut denials = 0;
    while !bytes.is_empty() {
        match sys::write_raw(fd, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(libc::EINTR) => {}
            Err(libc::EAGAIN) if denials < MOST_DENIALS => denials += u32::from(!wait_writable(fd)),
            Err(errno) => {
                match errno {
                    libc::EPIPE => swallow(libc::SIGPIPE, aside),
                    libc::EFBIG => swallow(libc::SIGXFSZ, aside),
                    _ => {}
                }
                return Err(errno);
            }
        }
    }
    Ok(())
}

/// How often a full pipe is tried again where nobody can say when there is room (poll is forbidden).
const MOST_DENIALS: u32 = 1000;

/// False: it could not be waited for.
fn wait_writable(fd: i32) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one pollfd.
    unsafe { sys::syscall3(libc::SYS_poll, &raw mut poll as usize, 1, 100) }.is_ok()
}

/// Takes back the signal that our own write raised: at a jump it was set aside, at a trap it is blocked, as it is
/// where others had been set aside before.
fn swallow(signal: i32, aside: usize) {
    if defer::drop_since(aside, signal) {
        return;
    }
    let set = sys::sigbit(signal);
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: one mask, no siginfo, one timespec.
    let _ = unsafe {
        sys::syscall4(
            libc::SYS_rt_sigtimedwait,
            &raw const set as usize,
            0,
            &raw const now as usize,
            sys::SIGSET_SIZE,
        )
    };
}

/// Says on standard error that a handler crashed and its probe is off now. Signal-safe.
pub fn handler_crashed(consumer: &Consumer, signal: i32, address: u64) {
    let mut text = [0_u8; 256];
    let mut len = 0;
    let mut push = |bytes: &[u8]| {
        let n = bytes.len().min(text.len() - 1 - len);
        text[len..len + n].copy_from_slice(&bytes[..n]);
        len += n;
    };
    let digit = |number: u64, nibble: u32| b"0123456789abcdef"[(number >> (4 * nibble) & 15) as usize];
    push(b"uprobe: error: the handler of probe '");
    if let Some(label) = consumer.label() {
        let (object, symbol, number) = label.written();
        push(object.as_bytes());
        push(b":");
        push(symbol.as_bytes());
        if let Some((between, number)) = number {
            push(between.as_bytes());
            let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1);
            (0..digits).rev().for_each(|nibble| push(&[digit(number, nibble)]));
        }
    } else {
        push(consumer.name.as_bytes());
    }
    push(b"' raised signal ");
    push(&[b'0' + (signal / 10 % 10) as u8, b'0' + (signal % 10) as u8]);
    push(b" at 0x");
    (0..16).rev().for_each(|nibble| push(&[digit(address, nibble)]));
    push(b"; the probe is disabled, the program goes on");
    text[len] = b'\n';
    write_stderr(&text[..=len]);
}
