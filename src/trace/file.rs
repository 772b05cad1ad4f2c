//! The binary trace: the layout of its file.
//!
//! The file is mapped by the traced processes while they write, and never closed properly: whatever
//! kills them, it holds what was committed. Numbers are little-endian.
//!
//! ```text
//! 0     header   HEADER_SIZE bytes, see the AT_ constants
//! 4096  chunk    CHUNK_SIZE bytes: one thread's, taken by adding to the header's `next`
//!       chunk    ...
//!
//! chunk  := magic:u32 unit:u32 ticks:u64 ns:u64 mult:u64 record* zeros
//!           one moment by both clocks; `mult` / 2^32 ns are a tick (unit 1: of the time stamp
//!           counter; unit 0: a tick is a nanosecond of CLOCK_MONOTONIC)
//! record := word:u64 body, filled up to 8 bytes
//! word   := len:u16 tag:u8 flags:u8 rest:u32    of the whole record, without what fills it up
//!
//! THREAD   pid:u32 tid:u32 comm:16              whose the records behind it are
//! PROBE    address:u64 kind:u8 flags:u8 entry_args:u16 args:u16 name:text at:text arg*
//!          arg := format:u8 name:text           text := len:u16 byte*
//! EVENT    ticks:u64 [caller:u64] [latency_ns:u64] [address:u64] value*     as in `record`
//! ```
//!
//! `rest` of a probe and of an event is the probe's id, and, in the low 12 bits, the processor. An id is
//! unique in the file; the definition may stand in any chunk. A record's word is written last: one
//! that is 0 ends the chunk, and so does a word that the process did not live to write.

/// First bytes of the file.
pub const MAGIC: [u8; 8] = *b"UPROBETR";
/// Of the layout.
pub const VERSION: u32 = 1;
/// Bytes before the first chunk.
pub const HEADER_SIZE: usize = 4096;
/// Bytes of a chunk.
pub const CHUNK_SIZE: usize = 64 << 10;
/// First bytes of a chunk.
pub const CHUNK_MAGIC: u32 = u32::from_le_bytes(*b"UCHK");
/// Bytes of a chunk's head.
pub const CHUNK_HEAD: usize = 32;
/// Least bytes of a file: room for a few threads.
pub const LEAST_SIZE: u64 = 128 << 10;
/// Bytes of a file where nothing is said.
pub const DEFAULT_SIZE: u64 = 64 << 20;

/// u32: [`VERSION`].
pub const AT_VERSION: usize = 8;
/// u32: [`HEADER_SIZE`].
pub const AT_HEADER_SIZE: usize = 12;
/// u32: [`CHUNK_SIZE`].
pub const AT_CHUNK_SIZE: usize = 16;
/// u32: the process that made the file.
pub const AT_PID: usize = 20;
/// u64: bytes of the file.
pub const AT_SIZE: usize = 24;
/// u64: CLOCK_MONOTONIC when it was made, ns.
pub const AT_MONOTONIC: usize = 32;
/// u64: CLOCK_REALTIME then, ns since 1970.
pub const AT_REALTIME: usize = 40;
/// u64, atomic: first byte that is in no chunk yet.
pub const AT_NEXT: usize = 128;
/// u32, atomic: how many ids were handed out.
pub const AT_PROBES: usize = 192;
/// u64, atomic: events that found no room.
pub const AT_LOST: usize = 200;
/// Text: the program's name.
pub const AT_PROGRAM: usize = 256;

/// Tag of an event.
pub const EVENT: u8 = 1;
/// Tag of a thread.
pub const THREAD: u8 = 2;
/// Tag of a probe's definition.
pub const PROBE: u8 = 3;

/// An event's flag: it has a caller.
pub const HAS_CALLER: u8 = 1;
/// An event's flag: it has a latency.
pub const HAS_LATENCY: u8 = 2;
/// An event's flag: its address is not the definition's.
pub const HAS_ADDRESS: u8 = 4;

/// A probe's flag: `$latency` is one of its arguments.
pub const PRINTS_LATENCY: u8 = 1;

/// Bytes of a thread's record.
pub const THREAD_SIZE: usize = 32;
/// Bytes of an event's record before what may be left out.
pub const EVENT_HEAD: usize = 16;
/// Bits of the processor in a word's `rest`.
pub const CPU_BITS: u32 = 12;
/// Ids are less than this.
pub const MOST_PROBES: u32 = 1 << (32 - CPU_BITS);
/// Most bytes of a probe's name and of its place: a line of text has no more.
const MOST_TEXT: usize = 8192;

/// Which side of a call a probe's events are about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Before the instruction.
    Entry = 0,
    /// At the return.
    Return = 1,
    /// At the return, with the time since the entry.
    Call = 2,
}

/// A record's word.
#[inline]
#[must_use]
pub const fn word(len: usize, tag: u8, flags: u8, rest: u32) -> u64 {
    len as u64 | (tag as u64) << 16 | (flags as u64) << 24 | (rest as u64) << 32
}

/// `rest` of an event.
#[inline]
#[must_use]
pub const fn rest(id: u32, cpu: u32) -> u32 {
    id << CPU_BITS | (cpu & ((1 << CPU_BITS) - 1))
}

/// Bytes that a record of `len` takes.
#[inline]
#[must_use]
pub const fn padded(len: usize) -> usize {
    (len + 7) & !7
}

/// What the header says that does not change.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// The process that made the file.
    pub pid: u32,
    /// Bytes of the file.
    pub size: u64,
    /// CLOCK_MONOTONIC, ns.
    pub monotonic_ns: u64,
    /// CLOCK_REALTIME, ns.
    pub realtime_ns: u64,
    /// The program's name.
    pub program: &'a str,
}

impl Header<'_> {
    /// The header of a new file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_SIZE];
        let mut put = |at: usize, value: &[u8]| {
            if let Some(to) = bytes.get_mut(at..at.saturating_add(value.len())) {
                to.copy_from_slice(value);
            }
        };
        put(0, &MAGIC);
        put(AT_VERSION, &VERSION.to_le_bytes());
        put(AT_HEADER_SIZE, &(HEADER_SIZE as u32).to_le_bytes());
        put(AT_CHUNK_SIZE, &(CHUNK_SIZE as u32).to_le_bytes());
        put(AT_PID, &self.pid.to_le_bytes());
        put(AT_SIZE, &self.size.to_le_bytes());
        put(AT_MONOTONIC, &self.monotonic_ns.to_le_bytes());
        put(AT_REALTIME, &self.realtime_ns.to_le_bytes());
        put(AT_NEXT, &(HEADER_SIZE as u64).to_le_bytes());
        let program = cut(self.program.as_bytes(), 1024);
        put(AT_PROGRAM, &(program.len() as u16).to_le_bytes());
        put(AT_PROGRAM + 2, program);
        bytes
    }
}

/// Bytes of a file that holds whole chunks and is at most `size`, but for the least there can be.
#[must_use]
pub const fn whole_size(size: u64) -> u64 {
    let size = if size < LEAST_SIZE { LEAST_SIZE } else { size };
    let chunks = (size - HEADER_SIZE as u64) / CHUNK_SIZE as u64;
    HEADER_SIZE as u64 + chunks * CHUNK_SIZE as u64
}

fn cut(bytes: &[u8], most: usize) -> &[u8] {
    bytes.get(..most).unwrap_or(bytes)
}

/// Writes what follows a probe's word. Runs at a hit: no allocation, no panic.
pub struct ProbeWriter<'a> {
    to: &'a mut [u8],
    len: usize,
}

impl<'a> ProbeWriter<'a> {
    /// Into `to`, which begins behind the word.
    #[must_use]
    pub fn new(to: &'a mut [u8]) -> Self {
        Self { to, len: 0 }
    }

    /// How many bytes were written; `None`: not all of it fits.
    #[must_use]
    pub fn finish(self) -> Option<usize> {
        (self.len <= self.to.len()).then_some(self.len)
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        if let Some(to) = self.to.get_mut(self.len..end) {
            to.copy_from_slice(bytes);
        }
        self.len = end;
    }

    fn text(&mut self, text: &str) {
        let text = cut(text.as_bytes(), MOST_TEXT);
        self.push(&(text.len() as u16).to_le_bytes());
        self.push(text);
    }

    /// All but the arguments.
    pub fn head(&mut self, address: u64, kind: Kind, flags: u8, entry_args: usize, args: usize) {
        self.push(&address.to_le_bytes());
        self.push(&[kind as u8, flags]);
        self.push(&(entry_args as u16).to_le_bytes());
        self.push(&(args as u16).to_le_bytes());
    }

    /// Its name and its place.
    pub fn names(&mut self, name: &str, at: &str) {
        self.text(name);
        self.text(at);
    }

    /// One argument, in order.
    pub fn arg(&mut self, format: u8, name: &str) {
        self.push(&[format]);
        self.text(name);
    }
}
