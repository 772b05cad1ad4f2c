//! Tables of what parses, what doesn't and where the caret goes, what is fetched, and which hits pass.

mod fetched;
mod filtered;
mod hit_rules;
mod mistakes;
mod noise;
mod parsed;
mod returned;

use super::{At, EventProgram, FetchArg, HitInput, compile, filter, parse_arg};
use crate::regs::{Memory, Regs};
use crate::trace::record::RecordBuf;
use crate::trace::{EventHead, LineBuf, event_json, event_text};

/// Where the memory of the tests begins.
const BASE: u64 = 0x1000;

/// Bytes at `base`; nothing else can be read.
struct Bytes {
    base: u64,
    bytes: Vec<u8>,
}

impl Memory for Bytes {
    fn read(&self, addr: u64, dst: &mut [u8]) -> usize {
        let mut read = 0;
        for (i, to) in dst.iter_mut().enumerate() {
            let at = addr.wrapping_add(i as u64).wrapping_sub(self.base);
            let Some(byte) = usize::try_from(at).ok().and_then(|at| self.bytes.get(at)) else { break };
            *to = *byte;
            read += 1;
        }
        read
    }

    fn write(&self, _: u64, _: &[u8]) -> usize {
        0
    }
}

/// The process at the hit.
struct World {
    regs: Regs,
    memory: Bytes,
    comm: [u8; 16],
}

impl World {
    /// Registers with values one can tell apart, and this memory:
    ///
    /// ```text
    /// 1000  the stack: 16 words, 0xa0 0xa1 … 0xaf; rsp is here
    /// 1080  "/etc/passwd\0"
    /// 1090  pointers to: "/etc/passwd", "", unreadable memory, "passwd"
    /// 10b0  -1 as s32, 0x12345678, 300 as u16, 'A', '\n'
    /// 10c0  pointer to 10c8, which points to 1080
    /// 10d0  0x80 'b' "'" NUL
    /// 10e0  300 times 'x', NUL
    /// 1210  255 times 'y', NUL
    /// 1310  "end" without a NUL, and the end of what is readable
    /// ```
    fn new() -> Self {
        let mut bytes: Vec<u8> = (0xa0u64..0xb0).flat_map(u64::to_le_bytes).collect();
        let mut put = |at: u64, new: &[u8]| {
            bytes.resize((at - BASE) as usize, 0);
            bytes.extend_from_slice(new);
        };
        put(0x1080, b"/etc/passwd\0");
        let pointers = [0x1080u64, 0x108b, 0xdead_0000, 0x1085].map(u64::to_le_bytes);
        put(0x1090, pointers.as_flattened());
        put(0x10b0, b"\xff\xff\xff\xff\x78\x56\x34\x12\x2c\x01A\n");
        put(0x10c0, [0x10c8u64, 0x1080].map(u64::to_le_bytes).as_flattened());
        put(0x10d0, b"\x80b'\0");
        put(0x10e0, &[&b"x".repeat(300)[..], b"\0"].concat());
        put(0x1210, &[&b"y".repeat(255)[..], b"\0"].concat());
        put(0x1310, b"end");
        let regs = Regs {
            rax: 0xffff_ffff_ffff_fffe,
            rbx: 0x1122_3344_5566_7788,
            rcx: 4,
            rdx: 3,
            rsi: 0x1080,
            rdi: 1,
            rbp: 0xb,
            rsp: BASE,
            r8: 5,
            r9: 6,
            r10: 0x1090,
            r11: 0x10b0,
            r12: 0x10c0,
            r13: 0x10d0,
            r14: 0x10e0,
            r15: 0x1210,
            rip: 0x40_1000,
            rflags: 0x246,
        };
        let mut comm = [0; 16];
        comm[..3].copy_from_slice(b"cat");
        Self { regs, memory: Bytes { base: BASE, bytes }, comm }
    }

    fn input(&self) -> HitInput<'_> {
        HitInput {
            regs: &self.regs,
            memory: &self.memory,
            comm: &self.comm,
            tid: 5543,
            ts_ns: 12_345_678_900,
            latency_ns: 0,
        }
    }

    /// The arguments of the event in text, behind the address, and in JSON.
    fn print(&self, program: &EventProgram) -> (String, String) {
        let head = EventHead {
            name: "open",
            at: "libc.so.6:openat",
            address: 0x7f00_dead_beef,
            pid: 5500,
            tid: 5543,
            comm: &self.comm,
            cpu: 1,
            ts_ns: 12_345_678_900,
            caller: None,
            latency_ns: None,
        };
        let mut record = RecordBuf::new();
        program.fetch(&self.input(), &mut record);
        program.fetch_return(&self.input(), &mut record);
        let mut line = LineBuf::new();
        event_text::render(&mut line, &head, program, &record);
        let text = String::from_utf8(line.as_bytes().to_vec()).unwrap();
        event_json::render(&mut line, &head, program, &record);
        let json = String::from_utf8(line.as_bytes().to_vec()).unwrap();
        let text = text.strip_suffix('\n').unwrap().split_once("(0x7f00deadbeef)").unwrap().1.trim_start();
        let json = json.strip_suffix("}\n").unwrap().split_once("\"args\":").unwrap().1;
        (text.to_owned(), json.to_owned())
    }
}

/// A program of these arguments, which belong to the return where there is one.
fn program(args: &[&str], filter_text: Option<&str>, at: At) -> EventProgram {
    let args: Vec<_> =
        args.iter().map(|arg| parse_arg(arg).unwrap_or_else(|e| panic!("{arg}: {e}"))).collect();
    let filter = filter_text.map(|text| filter::parse(text).unwrap_or_else(|e| panic!("{text}: {e}")));
    let (args, ret) = sides(&args, at);
    compile(args, ret, filter.as_ref(), at).unwrap_or_else(|e| panic!("{args:?} {filter_text:?}: {e}"))
}

/// `args` and `ret` of a probe whose arguments belong to the return where there is one.
fn sides(args: &[FetchArg], at: At) -> (&[FetchArg], &[FetchArg]) {
    match at {
        At::Entry | At::Inside => (args, &[]),
        At::Return | At::Call => (&[], args),
    }
}

/// A small generator (xorshift64*), so that a failure can be run again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }
}
