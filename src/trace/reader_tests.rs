//! Traces made here byte by byte, whole and damaged.

use super::file::{
    AT_LOST, AT_NEXT, CHUNK_HEAD, CHUNK_MAGIC, CHUNK_SIZE, EVENT, HAS_ADDRESS, HAS_CALLER, HAS_LATENCY,
    HEADER_SIZE, Header, Kind, PRINTS_LATENCY, PROBE, ProbeWriter, THREAD, padded, rest, whole_size, word,
};
use super::reader::{NotATrace, Trace};
use super::record::{RecordBuf, TextRead, Value};
use super::{Arguments, LineBuf, event_json, event_text};
use crate::fetch::{At, EventProgram, compile, parse_arg};

/// A file being written.
struct File {
    bytes: Vec<u8>,
    /// Where the next record goes.
    at: usize,
}

impl File {
    fn new() -> Self {
        let header = Header { pid: 7, size: 1 << 30, monotonic_ns: 1000, realtime_ns: 5000, program: "made" };
        Self { bytes: header.encode(), at: 0 }
    }

    fn chunk(&mut self, unit: u32, ticks: u64, ns: u64, mult: u64) {
        let at = HEADER_SIZE + (self.bytes.len() - HEADER_SIZE).next_multiple_of(CHUNK_SIZE);
        self.bytes.resize(at + CHUNK_SIZE, 0);
        self.put(at, &CHUNK_MAGIC.to_le_bytes());
        self.put(at + 4, &unit.to_le_bytes());
        for (n, number) in [ticks, ns, mult].into_iter().enumerate() {
            self.put(at + 8 + 8 * n, &number.to_le_bytes());
        }
        self.at = at + CHUNK_HEAD;
        let next = self.bytes.len() as u64;
        self.put(AT_NEXT, &next.to_le_bytes());
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn record(&mut self, tag: u8, flags: u8, rest: u32, body: &[u8]) -> usize {
        let (at, len) = (self.at, 8 + body.len());
        self.put(at, &word(len, tag, flags, rest).to_le_bytes());
        self.put(at + 8, body);
        self.at += padded(len);
        at
    }

    fn thread(&mut self, pid: u32, tid: u32, comm: &[u8]) {
        let mut body = [0; 24];
        body[..4].copy_from_slice(&pid.to_le_bytes());
        body[4..8].copy_from_slice(&tid.to_le_bytes());
        body[8..8 + comm.len()].copy_from_slice(comm);
        self.record(THREAD, 0, 0, &body);
    }

    fn probe(&mut self, id: u32, name: &str, kind: Kind, program: &EventProgram) {
        let mut body = [0; 4096];
        let mut to = ProbeWriter::new(&mut body);
        let flags = if program.prints_latency() { PRINTS_LATENCY } else { 0 };
        to.head(0x40_0000, kind, flags, program.entry_args(), program.args().len());
        to.names(name, "exe:place");
        program.arguments().for_each(|(name, format)| to.arg(format as u8, name));
        let len = to.finish().expect("room");
        self.record(PROBE, 0, rest(id, 0), &body[..len]);
    }

    fn event(&mut self, id: u32, ticks: u64, values: &[u8]) -> usize {
        let body = [&ticks.to_le_bytes(), values].concat();
        self.record(EVENT, 0, rest(id, 3), &body)
    }

    fn read(&self) -> Trace {
        Trace::read(self.bytes.clone()).expect("a trace")
    }
}

fn program(args: &[&str]) -> EventProgram {
    let args: Vec<_> = args.iter().map(|arg| parse_arg(arg).unwrap()).collect();
    compile(&args, &[], None, At::Entry).unwrap()
}

/// One probe without arguments, one thread, and clocks that agree.
fn simple() -> File {
    let mut file = File::new();
    file.chunk(0, 0, 0, 0);
    file.thread(7, 8, b"worker");
    file.probe(0, "hit", Kind::Entry, &program(&[]));
    file
}

#[test]
fn every_kind_of_value_comes_back_and_prints_as_it_would_have() {
    let program = program(&[
        "u=%di:u8",
        "s=%di:s16",
        "x=%di:x32",
        "c=%di:char",
        "p=%di:symbol",
        "t=+0(%di):string",
        "f=+0(%si)",
        "a=+0(%di):s32[3]",
        "long=+0(%di):string",
        "names=+0(%di):string[2]",
        "b=%di:b3@1/8",
    ]);
    let mut record = RecordBuf::new();
    let text = |bytes: &'static [u8]| {
        move |to: &mut [u8]| {
            to[..bytes.len()].copy_from_slice(bytes);
            TextRead::Whole(bytes.len())
        }
    };
    assert!(record.push(|w| w.push_int(200, 1)));
    assert!(record.push(|w| w.push_int(0xfffe, 2)));
    assert!(record.push(|w| w.push_int(0xdead_beef, 4)));
    assert!(record.push(|w| w.push_int(u64::from(b'\n'), 1)));
    assert!(record.push(|w| w.push_int(0x7f00_1234_5678, 8)));
    assert!(record.push(|w| w.push_text(text(b"a \"b\" \xff"))));
    assert!(record.push(|w| w.push_fault()));
    assert!(record.push(|w| w.push_array(3, |w, i| w.push_int(u64::from(u32::MAX - u32::from(i)), 4))));
    assert!(record.push(|w| w.push_text(|_| TextRead::Cut)));
    assert!(record.push(|w| w.push_array(2, |w, _| w.push_text(text(b"")))));
    assert!(record.push(|w| w.push_int(5, 1)));
    let mut file = File::new();
    file.chunk(0, 0, 0, 0);
    file.thread(7, 8, b"work er");
    file.probe(9, "n\u{e4}me", Kind::Call, &program);
    let body = [&5000_u64.to_le_bytes(), &0x1111_u64.to_le_bytes(), &77_u64.to_le_bytes(), record.as_bytes()];
    let body = body.concat();
    file.record(EVENT, HAS_CALLER | HAS_LATENCY, rest(9, 17), &body);
    let trace = file.read();
    assert_eq!(trace.damage, [""; 0]);
    let event = &trace.events[0];
    let head = trace.head(event).expect("a head");
    let probe = trace.probe(event).expect("a probe");
    assert_eq!((head.pid, head.tid, head.cpu, head.ts_ns), (7, 8, 17, 5000));
    assert_eq!((head.address, head.caller, head.latency_ns), (0x40_0000, Some(0x1111), Some(77)));
    let mut restored = RecordBuf::new();
    trace.restore(event, &mut restored);
    let (mut ours, mut theirs) = (LineBuf::new(), LineBuf::new());
    event_text::render(&mut ours, &head, &program, &record);
    event_text::render(&mut theirs, &head, probe, &restored);
    assert_eq!(ours.as_bytes(), theirs.as_bytes());
    event_json::render(&mut ours, &head, &program, &record);
    event_json::render(&mut theirs, &head, probe, &restored);
    assert_eq!(ours.as_bytes(), theirs.as_bytes());
    assert!(String::from_utf8_lossy(ours.as_bytes()).contains("\"s\":-2"));
}

#[test]
fn a_full_record_stays_full() {
    let mut file = simple();
    file.probe(1, "two", Kind::Entry, &program(&["a=%di:u8", "b=%di:u8"]));
    file.event(1, 10, &[2, 7, 0]);
    let trace = file.read();
    let mut record = RecordBuf::new();
    trace.restore(&trace.events[0], &mut record);
    assert!(record.view().is_full());
    assert_eq!(record.view().collect::<Vec<_>>(), [Value::Int { raw: 7, width: 1 }]);
}

#[test]
fn threads_and_processes_are_merged_by_time() {
    let mut file = simple();
    file.event(0, 30, &[]);
    file.event(0, 50, &[]);
    file.thread(7, 8, b"renamed");
    file.event(0, 70, &[]);
    file.chunk(0, 0, 0, 0);
    file.thread(9, 9, b"child");
    // Defined in another chunk.
    file.event(0, 40, &[]);
    let trace = file.read();
    let told: Vec<_> = trace
        .events
        .iter()
        .map(|event| {
            let head = trace.head(event).expect("a head");
            let comm = String::from_utf8_lossy(head.comm).trim_end_matches('\0').to_owned();
            (head.ts_ns, head.pid, comm)
        })
        .collect();
    let expected = [(30, 7, "worker"), (40, 9, "child"), (50, 7, "worker"), (70, 7, "renamed")];
    assert_eq!(told, expected.map(|(ns, pid, comm)| (ns, pid, comm.to_owned())));
}

#[test]
fn an_address_of_its_own() {
    let mut file = simple();
    let body = [1_u64.to_le_bytes(), 0x1234_u64.to_le_bytes()].concat();
    file.record(EVENT, HAS_ADDRESS, rest(0, 0), &body);
    file.event(0, 2, &[]);
    let trace = file.read();
    assert_eq!(trace.events.iter().map(|event| event.address).collect::<Vec<_>>(), [0x1234, 0x40_0000]);
}

/// Between two moments by both of them, whatever the calibration says; beyond the last by that.
#[test]
fn stamps_of_the_counter_become_nanoseconds() {
    const RATE: u64 = 1 << 31; // half a nanosecond a tick
    let second = 1 << 30;
    let mut file = File::new();
    file.chunk(1, second, 1_000_000, RATE);
    file.thread(7, 8, b"t");
    file.probe(0, "hit", Kind::Entry, &program(&[]));
    file.event(0, second, &[]);
    file.event(0, second + 1000, &[]);
    file.event(0, second * 2 + 2000, &[]);
    // A second chunk a while later: the counter was a little slower than the calibration said.
    file.chunk(1, second * 2, 1_000_000 + second / 2 + second / 1024, RATE);
    let trace = file.read();
    let ns: Vec<u64> = trace.events.iter().map(|event| event.ns - 1_000_000).collect();
    assert_eq!(ns, [0, 500, second / 2 + second / 1024 + 1000]);
}

#[test]
fn what_was_not_committed_ends_a_chunk_and_is_no_damage() {
    let mut file = simple();
    file.event(0, 1, &[]);
    // A record that was begun: all but its word.
    file.put(file.at + 8, &[0xaa; 40]);
    // A chunk that was taken, and not begun.
    let len = file.bytes.len() + CHUNK_SIZE;
    file.bytes.resize(len, 0);
    file.put(AT_NEXT, &(len as u64).to_le_bytes());
    let trace = file.read();
    assert_eq!((trace.events.len(), trace.damage), (1, vec![]));
}

#[test]
fn what_is_no_trace_is_refused() {
    let whole = simple().bytes;
    let with = |at: usize, bytes: &[u8]| {
        let mut other = whole.clone();
        other[at..at + bytes.len()].copy_from_slice(bytes);
        other
    };
    for (bytes, why) in [
        (vec![], NotATrace::Empty),
        (b"{\"ts\":1}".to_vec(), NotATrace::Magic),
        (b"UPROBETR".to_vec(), NotATrace::Short),
        (whole[..HEADER_SIZE - 1].to_vec(), NotATrace::Short),
        (with(8, &[2, 0, 0, 0]), NotATrace::Version(2)),
        (with(12, &[0, 0, 0, 0]), NotATrace::Header),
        (with(16, &[0, 0, 0, 0]), NotATrace::Header),
        (with(16, &[1, 0, 1, 0]), NotATrace::Header),
    ] {
        assert_eq!(Trace::read(bytes).err(), Some(why));
    }
}

#[test]
fn damage_is_told_and_the_rest_is_read() {
    let whole = {
        let mut file = simple();
        file.event(0, 1, &[]);
        file
    };
    let damaged = |change: &dyn Fn(&mut File)| {
        let mut file = File { bytes: whole.bytes.clone(), at: whole.at };
        change(&mut file);
        let trace = file.read();
        (trace.events.len(), trace.damage)
    };
    let tells = |change: &dyn Fn(&mut File), events: usize, what: &str| {
        let (found, damage) = damaged(change);
        assert_eq!(found, events, "{what}: {damage:?}");
        assert!(damage.len() == 1 && damage[0].contains(what), "{what}: {damage:?}");
    };
    tells(&|file| file.bytes.truncate(HEADER_SIZE + 256), 1, "truncated");
    tells(&|file| file.put(HEADER_SIZE, b"X"), 0, "the chunk at 0x1000 is damaged");
    tells(&|file| file.put(file.at, &[3]), 1, "is damaged from");
    tells(
        &|file| {
            file.record(9, 0, 0, &[]);
            file.event(0, 2, &[]);
        },
        2,
        "unknown tag 9",
    );
    tells(
        &|file| {
            file.event(44, 2, &[]);
            file.event(0, 3, &[]);
        },
        2,
        "unknown probe",
    );
    tells(
        &|file| {
            file.event(0, 2, &[200, 200]);
        },
        1,
        "is damaged",
    );
    tells(
        &|file| {
            file.record(EVENT, HAS_CALLER, 0, &[0; 8]);
        },
        1,
        "is damaged",
    );
    tells(
        &|file| {
            file.chunk(0, 0, 0, 0);
            file.event(0, 1, &[]);
        },
        1,
        "unknown thread",
    );
    let (_, many) = damaged(&|file| {
        (0..100).for_each(|_| {
            file.record(9, 0, 0, &[]);
        })
    });
    assert_eq!((many.len(), many.last().map(String::as_str)), (21, Some("and more")));
}

#[test]
fn what_was_lost_is_told() {
    let mut file = simple();
    file.put(AT_LOST, &99_u64.to_le_bytes());
    assert_eq!(file.read().lost, 99);
}

/// Whatever the bytes: no panic, no endless loop, and every event that is found can be printed.
#[test]
fn noise_does_no_harm() {
    let mut file = simple();
    file.probe(1, "args", Kind::Call, &program(&["a=%di", "s=+0(%si):string", "v=+0(%di):u8[4]"]));
    let values = [&[5, 1, 2, 3, 4, 5, 6, 7, 8][..], &[6, 2, 0, b'o', b'k'], &[8, 2, 2, 1, 2, 2]].concat();
    for ticks in 0..40 {
        file.event(ticks as u32 % 2, ticks, if ticks % 2 == 0 { &[] } else { &values });
    }
    let end = file.at;
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let (mut line, mut record) = (LineBuf::new(), RecordBuf::new());
    for round in 0..3000 {
        let mut bytes = file.bytes[..end + 64].to_vec();
        for _ in 0..1 + random() % 8 {
            // The header's beginning is kept in most rounds: else nothing else is read.
            let from = if round % 10 == 0 { 0 } else { AT_NEXT };
            let at = from + random() as usize % (bytes.len() - from);
            // Most of the header is unused.
            let at = if at < HEADER_SIZE && random() % 4 > 0 {
                HEADER_SIZE + at % (end - HEADER_SIZE)
            } else {
                at
            };
            bytes[at] = random() as u8;
        }
        if random() % 4 == 0 {
            bytes.truncate(random() as usize % bytes.len());
        }
        let Ok(trace) = Trace::read(bytes) else { continue };
        for event in &trace.events {
            let (head, probe) = (trace.head(event).expect("a head"), trace.probe(event).expect("a probe"));
            trace.restore(event, &mut record);
            event_text::render(&mut line, &head, probe, &record);
            event_json::render(&mut line, &head, probe, &record);
        }
    }
}

#[test]
fn sizes_are_whole_chunks() {
    for (size, chunks) in [(0, 1), (128 << 10, 1), (HEADER_SIZE as u64 + (64 << 10) * 3, 3), (64 << 20, 1023)]
    {
        assert_eq!(whole_size(size), HEADER_SIZE as u64 + chunks * CHUNK_SIZE as u64, "{size}");
    }
}
