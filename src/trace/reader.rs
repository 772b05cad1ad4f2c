//! Reads a binary trace; see `file` for what it looks like.
//!
//! The bytes may be anything: what can be read is read, and what can't be is told. Never panics; memory
//! and time are bounded by the length of the file.

use std::collections::HashMap;

use crate::fetch::Format;
use crate::trace::file::{
    AT_CHUNK_SIZE, AT_HEADER_SIZE, AT_LOST, AT_MONOTONIC, AT_NEXT, AT_PID, AT_PROGRAM, AT_REALTIME, AT_SIZE,
    AT_VERSION, CHUNK_HEAD, CHUNK_MAGIC, CPU_BITS, EVENT, EVENT_HEAD, HAS_ADDRESS, HAS_CALLER, HAS_LATENCY,
    HEADER_SIZE, Kind, MAGIC, PRINTS_LATENCY, PROBE, THREAD, VERSION, padded,
};
use crate::trace::record::{RecordBuf, RecordView};
use crate::trace::{Arguments, EventHead};

/// Most places that are told one by one.
const MOST_DAMAGE: usize = 20;
/// Two moments closer than this say less about the clock's rate than its calibration (ticks).
const LEAST_SPAN: u64 = 1 << 24;

/// Why it is no trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotATrace {
    /// It has no bytes.
    Empty,
    /// It begins otherwise.
    Magic,
    /// It ends in the header.
    Short,
    /// Another version wrote it.
    Version(u32),
    /// The header's numbers make no sense.
    Header,
}

impl std::fmt::Display for NotATrace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("the file is empty"),
            Self::Magic => f.write_str("this is no trace of uprobe's"),
            Self::Short => f.write_str("the file ends in its header"),
            Self::Version(version) => {
                write!(f, "the trace has version {version}, and this command reads {VERSION}")
            }
            Self::Header => f.write_str("the trace's header is damaged"),
        }
    }
}

/// A probe as the trace defines it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Probe {
    /// Its name.
    pub name: String,
    /// Its place, as the user wrote it.
    pub at: String,
    /// The address of the place.
    pub address: u64,
    /// Which side.
    pub kind: Kind,
    /// How many of the arguments, from the first, are of the entry.
    pub entry_args: usize,
    /// Names and formats.
    pub args: Vec<(String, Format)>,
    /// One of them is `$latency`.
    pub prints_latency: bool,
}

impl Arguments for Probe {
    fn arguments(&self) -> impl Iterator<Item = (&str, Format)> {
        self.args.iter().map(|(name, format)| (name.as_str(), *format))
    }

    fn prints_latency(&self) -> bool {
        self.prints_latency
    }
}

/// A thread; one that was renamed is another.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Thread {
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Name, up to a NUL.
    pub comm: [u8; 16],
}

/// An event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// CLOCK_MONOTONIC, ns.
    pub ns: u64,
    /// Index of its probe.
    pub probe: u32,
    /// Index of its thread.
    pub thread: u32,
    /// The processor.
    pub cpu: u16,
    /// The address of the place.
    pub address: u64,
    /// Of a return: where to.
    pub caller: Option<u64>,
    /// Of a call: its time.
    pub latency_ns: Option<u64>,
    /// The values lie from here in the file…
    values: usize,
    /// …to here.
    end: usize,
}

/// What could be read of a trace.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    bytes: Vec<u8>,
    /// The process that made the file.
    pub pid: u32,
    /// Its program.
    pub program: String,
    /// CLOCK_REALTIME less CLOCK_MONOTONIC when it was made, ns.
    pub realtime_offset_ns: u64,
    /// Events that found no room.
    pub lost: u64,
    /// In the order in which they were first hit.
    pub probes: Vec<Probe>,
    /// In the order in which they took their first chunks.
    pub threads: Vec<Thread>,
    /// By time; of one thread, in its order.
    pub events: Vec<Event>,
    /// What could not be read: a sentence each.
    pub damage: Vec<String>,
}

/// One moment, by the counter and by the clock.
type Moment = (u64, u64);

/// A chunk's clock.
#[derive(Clone, Copy)]
struct Clock {
    is_counter: bool,
    moment: Moment,
    mult: u64,
}

impl Trace {
    /// How many bytes of the file are in use, by the beginning of it.
    #[must_use]
    pub fn used(head: &[u8]) -> Option<u64> {
        let next = u64_at(head, AT_NEXT)?;
        Some(next.min(u64_at(head, AT_SIZE)?).max(HEADER_SIZE as u64))
    }

    /// How many bytes the file has, by the beginning of it.
    #[must_use]
    pub fn size(head: &[u8]) -> Option<u64> {
        u64_at(head, AT_SIZE)
    }

    /// Reads the file's bytes, of which those that are not in use may be left out.
    ///
    /// # Errors
    /// It is none, or the header can't be read.
    pub fn read(bytes: Vec<u8>) -> Result<Self, NotATrace> {
        if bytes.is_empty() {
            return Err(NotATrace::Empty);
        }
        if !bytes.starts_with(&MAGIC) {
            return Err(NotATrace::Magic);
        }
        let version = u32_at(&bytes, AT_VERSION).ok_or(NotATrace::Short)?;
        if version != VERSION {
            return Err(NotATrace::Version(version));
        }
        if bytes.len() < HEADER_SIZE {
            return Err(NotATrace::Short);
        }
        let number = |at| u64_at(&bytes, at).unwrap_or_default();
        let chunk_size = u32_at(&bytes, AT_CHUNK_SIZE).unwrap_or_default() as usize;
        let is_sane = u32_at(&bytes, AT_HEADER_SIZE) == Some(HEADER_SIZE as u32)
            && chunk_size.is_power_of_two()
            && (1 << 12..=1 << 26).contains(&chunk_size);
        if !is_sane {
            return Err(NotATrace::Header);
        }
        let mut trace = Self {
            pid: u32_at(&bytes, AT_PID).unwrap_or_default(),
            program: text_at(&bytes, AT_PROGRAM).map_or_else(String::new, |(text, _)| text),
            realtime_offset_ns: number(AT_REALTIME).saturating_sub(number(AT_MONOTONIC)),
            lost: number(AT_LOST),
            ..Self::default()
        };
        let used = Self::used(&bytes).unwrap_or_default();
        if used > bytes.len() as u64 {
            let missing = used - bytes.len() as u64;
            trace.damage.push(format!("the file is truncated: {missing} bytes are missing"));
        }
        let end = usize::try_from(used).unwrap_or(usize::MAX).min(bytes.len());
        trace.read_chunks(bytes.get(..end).unwrap_or_default(), chunk_size);
        trace.bytes = bytes;
        Ok(trace)
    }

    /// The event's head, for the renderers.
    #[must_use]
    pub fn head(&self, event: &Event) -> Option<EventHead<'_>> {
        let probe = self.probes.get(event.probe as usize)?;
        let thread = self.threads.get(event.thread as usize)?;
        Some(EventHead {
            name: &probe.name,
            at: &probe.at,
            address: event.address,
            pid: thread.pid,
            tid: thread.tid,
            comm: &thread.comm,
            cpu: event.cpu.into(),
            ts_ns: event.ns,
            caller: event.caller,
            latency_ns: event.latency_ns,
        })
    }

    /// The event's probe.
    #[must_use]
    pub fn probe(&self, event: &Event) -> Option<&Probe> {
        self.probes.get(event.probe as usize)
    }

    /// The event's values, in place of what `record` holds.
    pub fn restore(&self, event: &Event, record: &mut RecordBuf) {
        record.restore(self.bytes.get(event.values..event.end).unwrap_or_default());
    }

    fn damaged(&mut self, what: impl FnOnce() -> String) {
        match self.damage.len() {
            n if n < MOST_DAMAGE => self.damage.push(what()),
            MOST_DAMAGE => self.damage.push("and more".to_owned()),
            _ => {}
        }
    }

    fn read_chunks(&mut self, bytes: &[u8], chunk_size: usize) {
        let body = bytes.get(HEADER_SIZE..).unwrap_or_default();
        let chunks =
            || body.chunks(chunk_size).enumerate().map(|(n, chunk)| (HEADER_SIZE + n * chunk_size, chunk));
        let mut ids = HashMap::new();
        let mut indices: HashMap<Probe, u32> = HashMap::new();
        let mut moments: Vec<Moment> = Vec::new();
        // A definition may stand behind the events that refer to it.
        for (_, chunk) in chunks() {
            let Some(clock) = clock_of(chunk) else { continue };
            if clock.is_counter {
                moments.push(clock.moment);
            }
            for (word, _, body) in Records::new(chunk) {
                if tag(word) == PROBE
                    && let Some(probe) = probe_of(body)
                {
                    // The same may be defined more than once.
                    let index = *indices.entry(probe).or_insert_with_key(|probe| {
                        self.probes.push(probe.clone());
                        self.probes.len() as u32 - 1
                    });
                    ids.insert(id(word), index);
                }
            }
        }
        // Each process has made sure that its own clock does not run backward.
        moments.sort_unstable();
        moments.dedup_by(|later, earlier| later.1 <= earlier.1 || later.0 - earlier.0 < LEAST_SPAN);
        let mut threads = HashMap::new();
        for (at, chunk) in chunks() {
            match clock_of(chunk) {
                Some(clock) => self.read_chunk(at, chunk, &clock, &moments, &ids, &mut threads),
                // Taken, and not begun.
                None if chunk.iter().take(CHUNK_HEAD).all(|&byte| byte == 0) => {}
                None => self.damaged(|| format!("the chunk at {at:#x} is damaged")),
            }
        }
        self.events.sort_by_key(|event| event.ns);
    }

    fn read_chunk(
        &mut self,
        at: usize,
        chunk: &[u8],
        clock: &Clock,
        moments: &[Moment],
        ids: &HashMap<u32, u32>,
        threads: &mut HashMap<Thread, u32>,
    ) {
        let mut thread = None;
        let mut records = Records::new(chunk);
        for (word, offset, body) in records.by_ref() {
            let place = at + offset;
            match tag(word) {
                THREAD => match thread_of(body) {
                    Some(found) => {
                        let known = self.threads.len() as u32;
                        let index = *threads.entry(found.clone()).or_insert(known);
                        if index == known {
                            self.threads.push(found);
                        }
                        thread = Some(index);
                    }
                    None => self.damaged(|| format!("the record at {place:#x} is no thread")),
                },
                PROBE => {
                    if !ids.contains_key(&id(word)) {
                        self.damaged(|| format!("the record at {place:#x} is no probe"));
                    }
                }
                EVENT => {
                    let event = event_of(word, body, place + 8, clock, moments);
                    let probe = ids.get(&id(word)).copied();
                    match (event, probe, thread) {
                        (Some(mut event), Some(probe), Some(thread)) => {
                            event.probe = probe;
                            event.thread = thread;
                            if flags(word) & HAS_ADDRESS == 0 {
                                event.address =
                                    self.probes.get(probe as usize).map_or(0, |probe| probe.address);
                            }
                            self.events.push(event);
                        }
                        (None, ..) => self.damaged(|| format!("the event at {place:#x} is damaged")),
                        (_, None, _) => {
                            self.damaged(|| format!("the event at {place:#x} is of an unknown probe"));
                        }
                        (.., None) => {
                            self.damaged(|| format!("the event at {place:#x} is of an unknown thread"));
                        }
                    }
                }
                tag => self.damaged(|| format!("the record at {place:#x} has the unknown tag {tag}")),
            }
        }
        if let Some(offset) = records.damaged_at {
            self.damaged(|| format!("the chunk at {at:#x} is damaged from {:#x} on", at + offset));
        }
    }
}

/// The records of a chunk: word, offset, body.
struct Records<'a> {
    chunk: &'a [u8],
    at: usize,
    /// Where a length makes no sense.
    damaged_at: Option<usize>,
}

impl<'a> Records<'a> {
    const fn new(chunk: &'a [u8]) -> Self {
        Self { chunk, at: CHUNK_HEAD, damaged_at: None }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (u64, usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.at;
        // Less than a word is left: nothing was written there.
        let word = u64_at(self.chunk, offset).filter(|&word| word != 0)?;
        let len = (word & 0xFFFF) as usize;
        let Some(body) = self.chunk.get(offset + 8..offset + len.max(8)).filter(|_| len >= 8) else {
            self.damaged_at = Some(offset);
            self.at = self.chunk.len();
            return None;
        };
        self.at = offset + padded(len);
        Some((word, offset, body))
    }
}

const fn tag(word: u64) -> u8 {
    (word >> 16) as u8
}

const fn flags(word: u64) -> u8 {
    (word >> 24) as u8
}

const fn id(word: u64) -> u32 {
    (word >> 32) as u32 >> CPU_BITS
}

fn clock_of(chunk: &[u8]) -> Option<Clock> {
    let unit = u32_at(chunk, 4).filter(|_| u32_at(chunk, 0) == Some(CHUNK_MAGIC))?;
    let clock = Clock {
        is_counter: unit == 1,
        moment: (u64_at(chunk, 8)?, u64_at(chunk, 16)?),
        mult: u64_at(chunk, 24)?,
    };
    (unit <= 1).then_some(clock)
}

fn thread_of(body: &[u8]) -> Option<Thread> {
    Some(Thread { pid: u32_at(body, 0)?, tid: u32_at(body, 4)?, comm: body.get(8..24)?.try_into().ok()? })
}

fn probe_of(body: &[u8]) -> Option<Probe> {
    let kind = match body.get(8)? {
        0 => Kind::Entry,
        1 => Kind::Return,
        2 => Kind::Call,
        _ => return None,
    };
    let flags = *body.get(9)?;
    let count = usize::from(u16_at(body, 12)?);
    let (name, at) = text_at(body, 14)?;
    let (place, mut at) = text_at(body, at)?;
    let mut args = Vec::new();
    for _ in 0..count {
        let format = Format::from_number(*body.get(at)?)?;
        let (name, end) = text_at(body, at + 1)?;
        args.push((name, format));
        at = end;
    }
    Some(Probe {
        name,
        at: place,
        address: u64_at(body, 0)?,
        kind,
        entry_args: usize::from(u16_at(body, 10)?),
        args,
        prints_latency: flags & PRINTS_LATENCY != 0,
    })
}

/// All but probe and thread. `at` is where the body stands in the file.
fn event_of(word: u64, body: &[u8], at: usize, clock: &Clock, moments: &[Moment]) -> Option<Event> {
    let ticks = u64_at(body, 0)?;
    let mut offset = EVENT_HEAD - 8;
    let mut optional = |flag: u8| {
        if flags(word) & flag == 0 {
            return Some(None);
        }
        let number = u64_at(body, offset)?;
        offset += 8;
        Some(Some(number))
    };
    let (caller, latency_ns, address) =
        (optional(HAS_CALLER)?, optional(HAS_LATENCY)?, optional(HAS_ADDRESS)?);
    let values = body.get(offset..)?;
    if !is_record(values) {
        return None;
    }
    Some(Event {
        ns: clock.ns(ticks, moments),
        probe: 0,
        thread: 0,
        cpu: ((word >> 32) & ((1 << CPU_BITS) - 1)) as u16,
        address: address.unwrap_or_default(),
        caller,
        latency_ns,
        values: at + offset,
        end: at + body.len(),
    })
}

/// Whether all of the bytes are values.
fn is_record(values: &[u8]) -> bool {
    let mut rest = RecordView::new(values);
    while rest.next().is_some() {}
    matches!(rest.rest(), [] | [0])
}

impl Clock {
    /// CLOCK_MONOTONIC of a stamp. Between two moments that are known, by both; else by the nearest and
    /// the calibrated rate.
    fn ns(&self, ticks: u64, moments: &[Moment]) -> u64 {
        if !self.is_counter {
            return ticks;
        }
        let after = moments.partition_point(|moment| moment.0 <= ticks);
        let before = after.checked_sub(1).and_then(|at| moments.get(at)).copied();
        match (before, moments.get(after)) {
            (Some(from), Some(to)) => {
                let part = u128::from(ticks - from.0) * u128::from(to.1 - from.1) / u128::from(to.0 - from.0);
                from.1.saturating_add(u64::try_from(part).unwrap_or(u64::MAX))
            }
            (Some(from), None) => from.1.saturating_add(self.scale(ticks - from.0)),
            (None, Some(to)) => to.1.saturating_sub(self.scale(to.0 - ticks)),
            (None, None) => self.moment.1,
        }
    }

    fn scale(&self, ticks: u64) -> u64 {
        u64::try_from((u128::from(ticks) * u128::from(self.mult)) >> 32).unwrap_or(u64::MAX)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// A text, and where it ends.
fn text_at(bytes: &[u8], at: usize) -> Option<(String, usize)> {
    let start = at.checked_add(2)?;
    let end = start.checked_add(usize::from(u16_at(bytes, at)?))?;
    Some((String::from_utf8_lossy(bytes.get(start..end)?).into_owned(), end))
}
