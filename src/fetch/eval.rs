//! Evaluates fetch arguments.
//!
//! Runs at a hit, in the probed thread, under the rules of a signal handler: nothing here
//! allocates, locks, formats or panics. Bounded: at most 128 arguments of 64 elements, each
//! at most 18 reads of a word or one string of 255 bytes. Arithmetic wraps as the processor's does.

use crate::fetch::program::{ArgProgram, EventProgram, Format, Start, Store};
use crate::regs::{Memory, Reg, Regs};
use crate::trace::record::{RecordBuf, TextRead, Value, ValueWriter, comm_bytes, sign_extend};

/// What a hit offers to its fetch arguments and its filter.
#[derive(Clone, Copy)]
pub struct HitInput<'a> {
    /// The registers at the place.
    pub regs: &'a Regs,
    /// The process's memory.
    pub memory: &'a dyn Memory,
    /// The thread's name, up to a NUL.
    pub comm: &'a [u8; 16],
    /// The thread.
    pub tid: u32,
    /// CLOCK_MONOTONIC in nanoseconds.
    pub ts_ns: u64,
    /// Nanoseconds from the call's entry to its return; 0 at the entry.
    pub latency_ns: u64,
}

/// Where the value of an argument is.
enum Located<'a> {
    /// This is it.
    Value(u64),
    /// At this address.
    Memory(u64),
    /// These bytes, up to a NUL or the end.
    Bytes(&'a [u8]),
}

impl EventProgram {
    /// Reads every argument of the entry side (of an entry probe, all) into `record`, which is
    /// cleared first. Those that don't fit any more are left out, and the record says so.
    pub fn fetch(&self, input: &HitInput<'_>, record: &mut RecordBuf) {
        record.clear();
        fetch_into(self.args.get(..self.entry_args).unwrap_or_default(), input, record);
    }

    /// The integer that argument `index` is, sign-extended where its type has a sign: as `record` has
    /// it, or, where it hasn't, as it is now. `None`: it can't be read, or is no integer; or it is one of the
    /// entry, this is the return (`is_return`), and the record was full.
    #[inline]
    #[must_use]
    pub fn integer(
        &self,
        index: u16,
        record: &RecordBuf,
        input: &HitInput<'_>,
        is_return: bool,
    ) -> Option<u64> {
        let arg = self.args.get(usize::from(index))?;
        let (raw, width) = match record.view().nth(usize::from(index)) {
            Some(Value::Int { raw, width }) => (raw, width),
            Some(_) => return None,
            None if is_return && usize::from(index) < self.entry_args => return None,
            None => arg.integer(input)?,
        };
        Some(if arg.format == Format::Signed { sign_extend(raw, width) as u64 } else { raw })
    }

    /// Appends every argument of the return side to `record`, which holds what
    /// [`EventProgram::fetch`] wrote at the entry of this call. Where that was full already,
    /// nothing is appended.
    pub fn fetch_return(&self, input: &HitInput<'_>, record: &mut RecordBuf) {
        fetch_into(self.args.get(self.entry_args..).unwrap_or_default(), input, record);
    }
}

fn fetch_into(args: &[ArgProgram], input: &HitInput<'_>, record: &mut RecordBuf) {
    for arg in args {
        if !record.push(|writer| arg.encode(input, writer)) {
            break;
        }
    }
}

impl ArgProgram {
    /// What is kept of an integer, without its sign, and its bytes; `None` where it can't be read.
    #[inline]
    pub(super) fn integer(&self, input: &HitInput<'_>) -> Option<(u64, u8)> {
        let Store::Int { width, shift, mask } = self.store else { return None };
        // What most filters are about: no pointer, no memory.
        if let (Start::Register { reg, shift: from, mask: part }, [], None) =
            (&self.start, &*self.loads, self.place)
        {
            let value = input.regs.get(*reg).wrapping_shr(*from) & part;
            return Some((value.wrapping_shr(shift) & mask, width));
        }
        let value = match self.locate(input)? {
            Located::Value(value) => value,
            Located::Memory(addr) if self.count.is_none() => read_int(input.memory, addr, width)?,
            Located::Memory(_) | Located::Bytes(_) => return None,
        };
        Some((value.wrapping_shr(shift) & mask, width))
    }

    /// Appends the value; false where it doesn't fit.
    pub(super) fn encode(&self, input: &HitInput<'_>, writer: &mut ValueWriter<'_>) -> bool {
        let Some(located) = self.locate(input) else { return writer.push_fault() };
        match self.count {
            Some(count) => self.encode_array(located, count, input.memory, writer),
            None => self.encode_one(located, input.memory, writer),
        }
    }

    /// Walks from the start through the pointers; `None` where one can't be read.
    fn locate<'a>(&'a self, input: &HitInput<'a>) -> Option<Located<'a>> {
        let mut value = match &self.start {
            Start::Register { reg, shift, mask } => input.regs.get(*reg).wrapping_shr(*shift) & mask,
            Start::StackWord { displacement } => {
                input.memory.read_u64(input.regs.get(Reg::Rsp).wrapping_add(*displacement))?
            }
            Start::Immediate(value) => *value,
            Start::File { address, .. } => (*address)?.0,
            Start::Tid => u64::from(input.tid),
            Start::Timestamp => input.ts_ns,
            Start::Latency => input.latency_ns,
            Start::Comm => return Some(Located::Bytes(comm_bytes(input.comm))),
            Start::Text(text) => return Some(Located::Bytes(text)),
        };
        for &offset in &self.loads {
            value = input.memory.read_u64(value.wrapping_add_signed(offset))?;
        }
        Some(match (self.place, self.store) {
            (Some(offset), _) => Located::Memory(value.wrapping_add_signed(offset)),
            // A string's value is its address.
            (None, Store::Text) => Located::Memory(value),
            (None, Store::Int { .. }) => Located::Value(value),
        })
    }

    fn encode_one(&self, located: Located<'_>, memory: &dyn Memory, writer: &mut ValueWriter<'_>) -> bool {
        match (self.store, located) {
            (Store::Text, Located::Memory(addr)) => writer.push_text(|to| read_text(memory, addr, to)),
            (Store::Text, Located::Bytes(bytes)) => writer.push_text(|to| copy_text(bytes, to)),
            (Store::Int { width, shift, mask }, Located::Value(value)) => {
                writer.push_int(value.wrapping_shr(shift) & mask, width)
            }
            (Store::Int { width, shift, mask }, Located::Memory(addr)) => {
                match read_int(memory, addr, width) {
                    Some(value) => writer.push_int(value.wrapping_shr(shift) & mask, width),
                    None => writer.push_fault(),
                }
            }
            // The compiler makes neither.
            (Store::Text, Located::Value(_)) | (Store::Int { .. }, Located::Bytes(_)) => writer.push_fault(),
        }
    }

    /// The elements of an array of integers lie there; of an array of strings, the pointers.
    fn encode_array(
        &self,
        located: Located<'_>,
        count: u8,
        memory: &dyn Memory,
        writer: &mut ValueWriter<'_>,
    ) -> bool {
        let Located::Memory(base) = located else { return writer.push_fault() };
        writer.push_array(count, |writer, index| {
            let index = u64::from(index);
            match self.store {
                Store::Int { width, .. } => {
                    let addr = base.wrapping_add(index.wrapping_mul(u64::from(width)));
                    self.encode_one(Located::Memory(addr), memory, writer)
                }
                Store::Text => match memory.read_u64(base.wrapping_add(index.wrapping_mul(8))) {
                    Some(addr) => self.encode_one(Located::Memory(addr), memory, writer),
                    None => writer.push_fault(),
                },
            }
        })
    }
}

/// A little-endian integer of `width` bytes.
fn read_int(memory: &dyn Memory, addr: u64, width: u8) -> Option<u64> {
    let mut word = [0; 8];
    let to = word.get_mut(..usize::from(width))?;
    (memory.read(addr, to) == usize::from(width)).then_some(u64::from_le_bytes(word))
}

/// Reads a string up to its NUL, in pieces that don't cross a line of 64 bytes: so nothing is
/// touched beyond the page the NUL is in.
fn read_text(memory: &dyn Memory, addr: u64, to: &mut [u8]) -> TextRead {
    const LINE: u64 = 64;
    let mut len = 0;
    while len < to.len() {
        let from = addr.wrapping_add(len as u64);
        let to_line_end = (LINE - from % LINE) as usize;
        let end = len.saturating_add(to_line_end).min(to.len());
        let Some(piece) = to.get_mut(len..end) else { break };
        let wanted = piece.len();
        let got = memory.read(from, piece).min(wanted);
        if let Some(nul) = piece.iter().take(got).position(|&byte| byte == 0) {
            return TextRead::Whole(len.saturating_add(nul));
        }
        if got < wanted {
            return TextRead::Fault;
        }
        len = end;
    }
    let mut next = [0];
    match memory.read(addr.wrapping_add(len as u64), &mut next) {
        1 if next == [0] => TextRead::Whole(len),
        1 => TextRead::Cut,
        _ => TextRead::Fault,
    }
}

fn copy_text(bytes: &[u8], to: &mut [u8]) -> TextRead {
    match to.get_mut(..bytes.len()) {
        Some(to) => {
            to.copy_from_slice(bytes);
            TextRead::Whole(bytes.len())
        }
        None => {
            for (to, byte) in to.iter_mut().zip(bytes) {
                *to = *byte;
            }
            TextRead::Cut
        }
    }
}
