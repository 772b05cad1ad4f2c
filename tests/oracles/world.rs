//! A process that is not there: registers, and memory with holes in it.

use uprobe::fetch::HitInput;
use uprobe::regs::{Memory, Reg, Regs};

use super::bytes::Bytes;

/// First address of the readable stretches, and how long each is: of all sizes, one at the end of all
/// addresses, one that another follows at once.
const STRETCHES: [(u64, usize); 6] =
    [(0x1000, 1), (0x2000, 300), (0x3000, 4096), (0x4000, 64), (0x7fff_ffff_e000, 2048), (u64::MAX - 99, 99)];

/// Registers, memory, and the rest of what a hit offers.
pub struct World {
    pub regs: Regs,
    pub memory: Stretches,
    pub comm: [u8; 16],
    pub tid: u32,
    pub ts_ns: u64,
    pub latency_ns: u64,
}

/// Readable memory.
#[derive(Clone)]
pub struct Stretches(Vec<(u64, Vec<u8>)>);

impl Memory for Stretches {
    fn read(&self, addr: u64, dst: &mut [u8]) -> usize {
        for (index, to) in dst.iter_mut().enumerate() {
            match addr.checked_add(index as u64).and_then(|addr| self.byte(addr)) {
                Some(byte) => *to = byte,
                None => return index,
            }
        }
        dst.len()
    }

    fn write(&self, _: u64, _: &[u8]) -> usize {
        0
    }
}

impl Stretches {
    /// The byte there; `None`: it can't be read.
    pub fn byte(&self, addr: u64) -> Option<u8> {
        self.0.iter().find_map(|(start, bytes)| {
            let offset = addr.checked_sub(*start)?;
            bytes.get(usize::try_from(offset).ok()?).copied()
        })
    }
}

const REGS: [Reg; 18] = [
    Reg::R8,
    Reg::R9,
    Reg::R10,
    Reg::R11,
    Reg::R12,
    Reg::R13,
    Reg::R14,
    Reg::R15,
    Reg::Rdi,
    Reg::Rsi,
    Reg::Rbp,
    Reg::Rbx,
    Reg::Rdx,
    Reg::Rax,
    Reg::Rcx,
    Reg::Rsp,
    Reg::Rip,
    Reg::Rflags,
];

impl World {
    /// The world that a number stands for.
    pub fn new(seed: u64) -> Self {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d)
        };
        let address = |next: &mut dyn FnMut() -> u64| {
            let (start, len) = STRETCHES[(next() % STRETCHES.len() as u64) as usize];
            let offset = next() % (len as u64 + 8);
            start.wrapping_add(offset).wrapping_sub(next() % 4)
        };
        let memory = STRETCHES.map(|(start, len)| {
            let mut bytes = Vec::with_capacity(len);
            while bytes.len() < len {
                match next() % 8 {
                    0 => bytes.extend(address(&mut next).to_le_bytes()),
                    1 => bytes.extend(next().to_le_bytes()),
                    2 => bytes.push(0),
                    3 => bytes.extend(b"/etc/passwd"),
                    // Longer than any string that is kept.
                    4 if next() % 8 == 0 => bytes.extend([b'x'; 300]),
                    _ => bytes.extend((0..next() % 20).map(|n| b'a' + n as u8)),
                }
            }
            bytes.truncate(len);
            (start, bytes)
        });
        let mut regs = Regs::default();
        for reg in REGS {
            *regs.get_mut(reg) = match next() % 4 {
                0 => next(),
                1 => next() % 100,
                _ => address(&mut next),
            };
        }
        let mut comm = *b"a name\0of sixtee";
        let len = (next() % 17) as usize;
        comm.iter_mut().skip(len).for_each(|byte| *byte = 0);
        Self {
            regs,
            memory: Stretches(memory.into()),
            comm,
            tid: next() as u32 % 3000,
            ts_ns: next(),
            latency_ns: next() % 5000,
        }
    }

    /// Another world of the same thread: where the call returns to.
    pub fn later(&self, bytes: &Bytes<'_>) -> Self {
        let later = Self::new(bytes.seed() ^ 0x5bd1_e995);
        Self { comm: self.comm, tid: self.tid, ts_ns: self.ts_ns.wrapping_add(later.latency_ns), ..later }
    }

    pub fn input(&self) -> HitInput<'_> {
        HitInput {
            regs: &self.regs,
            memory: &self.memory,
            comm: &self.comm,
            tid: self.tid,
            ts_ns: self.ts_ns,
            latency_ns: self.latency_ns,
        }
    }

    /// What the thread is called, without the NULs.
    pub fn name(&self) -> &[u8] {
        let len = self.comm.iter().position(|byte| *byte == 0).unwrap_or(16);
        &self.comm[..len]
    }
}
