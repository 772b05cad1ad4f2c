//! The binary trace, as it is written at a hit: into a file that is mapped, without a system call, a
//! lock or a word of text.
//!
//! ```text
//!  header.next ── fetch_add ──► a chunk, one thread's own ──► records, each committed by its first word
//! ```
//!
//! Whatever kills the process, the kernel keeps what was stored: processors of this kind make stores
//! visible in their order, so behind every word that is there its record is whole. What must be known
//! of a thread or a probe is a record as well, written by whoever needs it first: nobody waits for
//! anybody, and a fork child, which inherits the mapping, only needs chunks of its own.
//!
//! A page that the disk has no room for, or that somebody has cut off the file, raises SIGBUS when it is
//! touched. It is replaced by one of memory ([`patch`]), the store goes there, and the trace has ended:
//! that event and all later ones are lost, and counted.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};

use crate::hit::consumer::{self, Consumer, Role, Side};
use crate::hit::protocol::record;
use crate::hit::thread::{self, ThreadState};
use crate::hit::{asm, clock, process, ticks};
use crate::sys;
use crate::trace::Arguments;
use crate::trace::file::{
    AT_LOST, AT_NEXT, AT_PROBES, CHUNK_HEAD, CHUNK_MAGIC, CHUNK_SIZE, EVENT, EVENT_HEAD, HAS_ADDRESS,
    HAS_CALLER, HAS_LATENCY, Kind, MOST_PROBES, PRINTS_LATENCY, PROBE, ProbeWriter, THREAD, THREAD_SIZE,
    padded, rest, word,
};

pub use crate::hit::protocol::definition::Definition;

/// A mapped trace.
#[derive(Clone, Copy, Debug)]
pub struct Mapped {
    /// Where.
    pub base: usize,
    /// Bytes; a header and whole chunks.
    pub size: usize,
}

/// Opens and maps the file.
pub type Open = fn() -> Option<Mapped>;

static BASE: AtomicUsize = AtomicUsize::new(0);
static SIZE: AtomicUsize = AtomicUsize::new(0);
/// Set by [`patch`].
pub(super) static BROKEN: AtomicBool = AtomicBool::new(false);
/// What opens it; taken by whoever calls it.
static OPEN: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// Where a thread writes.
#[derive(Default)]
pub struct Cursor {
    /// Address of its next record; 0: it has no chunk.
    pub(super) at: AtomicUsize,
    /// End of the chunk.
    pub(super) end: AtomicUsize,
    /// The chunk says whose the next record is.
    pub(super) is_named: AtomicBool,
}

impl Cursor {
    /// The next record is another thread's, or one of the same under another name. The rest of the
    /// chunk is still good.
    pub fn rename(&self) {
        self.is_named.store(false, Relaxed);
    }

    /// The chunk is not this process's.
    pub fn leave(&self) {
        self.at.store(0, Relaxed);
        self.end.store(0, Relaxed);
        self.is_named.store(false, Relaxed);
    }
}

/// An event's word without the processor, of a consumer whose events all have `len` bytes.
fn word_of(len: usize, id: u32) -> u64 {
    word(len, EVENT, 0, rest(id, 0))
}

/// Of a consumer that was not defined.
#[must_use]
pub const fn undefined() -> Definition {
    Definition {
        id: AtomicU32::new(0),
        address: AtomicU64::new(0),
        len: AtomicUsize::new(0),
        word: AtomicU64::new(0),
    }
}

/// Events of the consumer from `address` will all have `len` bytes: where the word of such an event will
/// be found. `None`: it is defined with another address. Not at a hit.
#[must_use]
pub fn announce(definition: &'static Definition, address: u64, len: usize) -> Option<&'static AtomicU64> {
    definition.announce(address, len, word_of)
}

/// What an event says besides its values.
pub struct Happened<'a> {
    /// Whose.
    pub consumer: &'a Consumer,
    /// The address of the place.
    pub address: u64,
    /// By [`ticks::ticks`].
    pub ticks: u64,
    /// Of a return: where to.
    pub caller: Option<u64>,
    /// Of a call.
    pub latency_ns: Option<u64>,
}

/// Sets what opens the file. It is called at the first event of this process, or by [`prepare`].
pub fn start(open: Open) {
    ticks::calibrate();
    OPEN.store(open as *mut (), Release);
}

/// Opens the file now; whether it is there.
pub fn prepare() -> bool {
    if BASE.load(Acquire) != 0 {
        return true;
    }
    let open = OPEN.swap(std::ptr::null_mut(), AcqRel);
    if open.is_null() {
        return false;
    }
    // SAFETY: stored from an Open in start().
    let mapped = unsafe { std::mem::transmute::<*mut (), Open>(open)() };
    if let Some(mapped) = mapped {
        SIZE.store(mapped.size, Relaxed);
        BASE.store(mapped.base, Release);
    }
    mapped.is_some()
}

/// Leaves the parent's file for one of our own: in a fork child, before its first hit.
pub fn forget(open: Open) {
    let base = BASE.swap(0, AcqRel);
    if base != 0 {
        // SAFETY: the child's only thread is here, and every cursor was cleared.
        let _ = unsafe { sys::munmap(base, SIZE.load(Relaxed)) };
    }
    BROKEN.store(false, Relaxed);
    consumer::all_counted(|consumer| {
        consumer.definition.id.store(0, Relaxed);
        consumer.definition.word.store(0, Relaxed);
    });
    OPEN.store(open as *mut (), Release);
}

/// Puts memory where a page of the trace can't be had; false: `address` is not in the trace. Called
/// for SIGBUS. Signal-safe.
pub fn patch(address: u64) -> bool {
    const PAGE: usize = 4096;
    let (base, address) = (BASE.load(Acquire), address as usize);
    if base == 0 || !(base..base + SIZE.load(Relaxed)).contains(&address) {
        return false;
    }
    BROKEN.store(true, SeqCst);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: a page of our own mapping, which has nothing that could be read.
    unsafe { sys::mmap(address & !(PAGE - 1), PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) }
        .is_ok()
}

/// The header's number at `at`.
fn header(at: usize) -> Option<&'static AtomicU64> {
    let base = BASE.load(Acquire);
    // SAFETY: mapped, as long as hits are handled; the AT_ constants are aligned.
    (base != 0).then(|| unsafe { &*((base + at) as *const AtomicU64) })
}

/// Writes an event whose encoded values are `values`. False: it is lost. Signal-safe; no system call but
/// at the first event of a process, and where a thread's name is not known yet.
#[inline]
#[must_use]
pub fn event(event: &Happened<'_>, values: &[u8], thread: &ThreadState) -> bool {
    let cursor = &thread.cursor;
    let definition = &event.consumer.definition;
    let mut id = definition.id.load(Acquire);
    // A renamed thread has no known name.
    let is_known = id != 0 && cursor.is_named.load(Relaxed) && thread.comm_known.load(Relaxed);
    let len = EVENT_HEAD + values.len() + 3 * size_of::<u64>();
    if !is_known || cursor.at.load(Relaxed) + padded(len) > cursor.end.load(Relaxed) {
        match make_ready(event, thread, len) {
            Some(found) => id = found + 1,
            None => return lose(),
        }
    }
    let at = cursor.at.load(Relaxed);
    let start = at as *mut u64;
    // SAFETY: room for the largest event was made sure of; the chunk is this thread's.
    unsafe { start.add(1).write(event.ticks) };
    let mut flags = 0;
    // SAFETY: as above.
    let mut to = unsafe { start.add(2) };
    let other = (event.address != definition.address.load(Relaxed)).then_some(event.address);
    let parts = [(HAS_CALLER, event.caller), (HAS_LATENCY, event.latency_ns), (HAS_ADDRESS, other)];
    for (flag, part) in parts {
        if let Some(part) = part {
            flags |= flag;
            // SAFETY: as above.
            unsafe { to.write(part) };
            // SAFETY: as above.
            to = unsafe { to.add(1) };
        }
    }
    // SAFETY: as above; the record is not in the chunk.
    unsafe { to.cast::<u8>().copy_from_nonoverlapping(values.as_ptr(), values.len()) };
    let len = to as usize + values.len() - at;
    let word = word(len, EVENT, flags, rest(id - 1, asm::cpu_number()));
    commit(cursor, at, len, word)
}

/// Writes the word of the record at `at`; false: the trace has ended.
#[inline]
fn commit(cursor: &Cursor, at: usize, len: usize, word: u64) -> bool {
    let next = at + padded(len);
    // SAFETY: inside this thread's chunk, and aligned.
    let word_at = |at: usize| unsafe { &*(at as *const AtomicU64) };
    let behind = (next + size_of::<u64>() <= cursor.end.load(Relaxed)).then(|| word_at(next));
    if !record::commit(word_at(at), behind, word, &BROKEN) {
        return false;
    }
    cursor.at.store(next, Relaxed);
    true
}

#[cold]
fn lose() -> bool {
    if let Some(lost) = header(AT_LOST).filter(|_| !BROKEN.load(Relaxed)) {
        lost.fetch_add(1, Relaxed);
    }
    false
}

/// Makes sure that an event of at most `len` bytes can be written: a chunk with room, which says whose it is,
/// and a definition of the probe, whose id is given back. `None`: there is no room.
#[cold]
fn make_ready(event: &Happened<'_>, thread: &ThreadState, len: usize) -> Option<u32> {
    if !prepare() || BROKEN.load(Relaxed) {
        return None;
    }
    let cursor = &thread.cursor;
    let wanted = THREAD_SIZE + padded(len);
    if cursor.end.load(Relaxed) == 0 {
        inherit(cursor);
    }
    if !has_room(cursor, wanted) {
        take_chunk(cursor)?;
    }
    if !cursor.is_named.load(Relaxed) || !thread.comm_known.load(Relaxed) {
        name(cursor, thread)?;
    }
    let id = match event.consumer.definition.id.load(Acquire) {
        0 => define(event, thread)?,
        id => id - 1,
    };
    if !has_room(cursor, padded(len)) {
        // The definition has taken it.
        take_chunk(cursor)?;
        name(cursor, thread)?;
    }
    Some(id)
}

fn has_room(cursor: &Cursor, len: usize) -> bool {
    cursor.at.load(Relaxed) + len <= cursor.end.load(Relaxed)
}

/// What a dead thread has left of its chunk: else many short threads would fill the file.
fn inherit(cursor: &Cursor) {
    /// The kernel is asked about so many threads.
    const MOST: usize = 64;
    let has_rest = |state: &&ThreadState| has_room(&state.cursor, CHUNK_SIZE / 8);
    let rest = thread::all().filter(has_rest).take(MOST).find_map(|state| {
        thread::with_dead(state, |state| {
            let rest = (state.cursor.at.load(Relaxed), state.cursor.end.load(Relaxed));
            state.cursor.leave();
            rest
        })
    });
    let Some((at, end)) = rest else { return };
    cursor.at.store(at, Relaxed);
    cursor.end.store(end, Relaxed);
    cursor.is_named.store(false, Relaxed);
}

/// A new chunk for a thread; the rest of the one it has stays as it is.
fn take_chunk(cursor: &Cursor) -> Option<()> {
    let next = header(AT_NEXT)?;
    let (base, size) = (BASE.load(Relaxed), SIZE.load(Relaxed) as u64);
    let offset = record::take_chunk(next, CHUNK_SIZE as u64, size)?;
    let at = base + offset as usize;
    let head = at as *mut u64;
    let is_counter = ticks::TICKS_ARE_TSC.load(Relaxed);
    let moment = [ticks::ticks(), clock::now_ns(), ticks::TICKS_MULT.load(Relaxed)];
    for (index, word) in moment.into_iter().enumerate() {
        // SAFETY: a fresh chunk of our own.
        unsafe { head.add(1 + index).write(word) };
    }
    let word = u64::from(CHUNK_MAGIC) | u64::from(is_counter) << 32;
    // SAFETY: as above.
    unsafe { &*(at as *const AtomicU64) }.store(word, Release);
    cursor.at.store(at + CHUNK_HEAD, Relaxed);
    cursor.end.store(at + CHUNK_SIZE, Relaxed);
    cursor.is_named.store(false, Relaxed);
    Some(())
}

/// Writes whose the next records are.
fn name(cursor: &Cursor, thread: &ThreadState) -> Option<()> {
    if !has_room(cursor, THREAD_SIZE) {
        take_chunk(cursor)?;
    }
    let comm = u128::from_le_bytes(*thread.comm());
    let ids = process::pid() as u32 as u64 | u64::from(thread.tid.load(Relaxed) as u32) << 32;
    let at = cursor.at.load(Relaxed);
    for (index, word) in [ids, comm as u64, (comm >> 64) as u64].into_iter().enumerate() {
        // SAFETY: there is room in this thread's chunk.
        unsafe { (at as *mut u64).add(1 + index).write(word) };
    }
    if !commit(cursor, at, THREAD_SIZE, word(THREAD_SIZE, THREAD, 0, 0)) {
        return None;
    }
    cursor.is_named.store(true, Relaxed);
    Some(())
}

/// Writes what the event's probe is; its id.
fn define(event: &Happened<'_>, thread: &ThreadState) -> Option<u32> {
    let cursor = &thread.cursor;
    let definition = &event.consumer.definition;
    // Whoever comes at the same time writes the same, under an id of its own.
    let _ = definition.address.compare_exchange(0, event.address, AcqRel, Relaxed);
    let address = definition.address.load(Relaxed);
    let base = BASE.load(Relaxed);
    // SAFETY: as in header().
    let ids = unsafe { &*((base + AT_PROBES) as *const AtomicU32) };
    let id = ids.fetch_add(1, Relaxed);
    if id >= MOST_PROBES {
        ids.store(MOST_PROBES, Relaxed);
        return None;
    }
    let mut written = write_definition(event.consumer, address, cursor);
    if written.is_none() {
        take_chunk(cursor)?;
        name(cursor, thread)?;
        written = write_definition(event.consumer, address, cursor);
    }
    let (at, len) = (cursor.at.load(Relaxed), 8 + written?);
    if !commit(cursor, at, len, word(len, PROBE, 0, rest(id, 0))) {
        return None;
    }
    definition.define(id, word_of);
    Some(id)
}

/// Its bytes behind the word; `None`: they don't fit.
fn write_definition(consumer: &Consumer, address: u64, cursor: &Cursor) -> Option<usize> {
    let Role::Event(role) = consumer.role() else { return None };
    let (at, end) = (cursor.at.load(Relaxed) + 8, cursor.end.load(Relaxed));
    let room = end.checked_sub(at)?;
    // SAFETY: the rest of this thread's chunk.
    let mut to = ProbeWriter::new(unsafe { std::slice::from_raw_parts_mut(at as *mut u8, room) });
    let kind = match role.side {
        Side::Entry => Kind::Entry,
        Side::Return => Kind::Return,
        Side::Call => Kind::Call,
    };
    let program = &role.program;
    let flags = if program.prints_latency() { PRINTS_LATENCY } else { 0 };
    to.head(address, kind, flags, program.entry_args(), program.args().len());
    to.names(consumer.name, role.at);
    for (name, format) in program.arguments() {
        to.arg(format as u8, name);
    }
    to.finish()
}
