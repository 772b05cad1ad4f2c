//! The compiled form of a probe's fetch arguments and filter: what is read at a hit.
//!
//! Made by `compile`, by ordinary code; at a hit it is only read (`eval`, `filter_eval`).

use crate::addr::{FileOffset, RuntimeAddr};
use crate::regs::Reg;
use crate::trace::record::{MAX_STRING, RECORD_CAPACITY, TEXT_HEAD};

/// How a value is printed. The numbers are those of a binary trace.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Format {
    /// Decimal.
    Unsigned = 0,
    /// Decimal, with its sign.
    Signed = 1,
    /// Hexadecimal.
    Hex = 2,
    /// A character.
    Char = 3,
    /// A string.
    Text = 4,
    /// An address, printed in hexadecimal until there is somebody to look symbols up.
    Symbol = 5,
}

impl Format {
    /// The one with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Unsigned,
            1 => Self::Signed,
            2 => Self::Hex,
            3 => Self::Char,
            4 => Self::Text,
            5 => Self::Symbol,
            _ => return None,
        })
    }
}

/// Where a value begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Start {
    /// `(reg >> shift) & mask`
    Register { reg: Reg, shift: u32, mask: u64 },
    /// The word at `[rsp + displacement]`.
    StackWord { displacement: u64 },
    /// A constant, which is an address where something is loaded from it.
    Immediate(u64),
    /// The place of the object's file, as a constant; `None` until it is bound.
    File { offset: FileOffset, address: Option<RuntimeAddr> },
    /// The thread.
    Tid,
    /// The time.
    Timestamp,
    /// The time from entry to return.
    Latency,
    /// The thread's name.
    Comm,
    /// A constant string.
    Text(Box<[u8]>),
}

/// What is kept of the value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Store {
    /// `(value >> shift) & mask`, of a word of `width` bytes.
    Int { width: u8, shift: u32, mask: u64 },
    /// The string there.
    Text,
}

/// One compiled fetch argument.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ArgProgram {
    pub(super) name: Box<str>,
    pub(super) start: Start,
    /// Loads of a pointer from `value + offset`, in order.
    pub(super) loads: Box<[i64]>,
    /// Where set, the value itself lies in memory, at `value + offset`.
    pub(super) place: Option<i64>,
    pub(super) store: Store,
    pub(super) format: Format,
    /// `TYPE[N]`.
    pub(super) count: Option<u8>,
}

impl ArgProgram {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is printed; for an array, each element.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether it is one integer, not a string and not an array.
    #[must_use]
    pub const fn is_integer(&self) -> bool {
        matches!((self.store, self.count), (Store::Int { .. }, None))
    }

    /// Whether it is `$latency` itself.
    fn is_latency(&self) -> bool {
        matches!(self.start, Start::Latency) && self.loads.is_empty() && self.place.is_none()
    }

    /// Where it is the low bytes of a register and nothing else: which, and how many.
    fn as_register(&self) -> Option<(Reg, u8)> {
        let (Start::Register { reg, shift: 0, mask: from }, Store::Int { width, shift: 0, mask }) =
            (&self.start, self.store)
        else {
            return None;
        };
        let kept = u64::MAX >> (64 - 8 * u32::from(width).clamp(1, 8));
        let is_plain = self.loads.is_empty() && self.place.is_none() && self.count.is_none();
        (is_plain && from & mask & kept == kept).then_some((*reg, width))
    }

    /// Most bytes of its encoded value.
    fn most_bytes(&self) -> usize {
        let one = match (self.store, &self.start) {
            (Store::Int { width, .. }, _) => 1 + usize::from(width),
            (Store::Text, Start::Comm) => TEXT_HEAD + 16,
            (Store::Text, Start::Text(text)) => TEXT_HEAD + text.len().min(MAX_STRING),
            (Store::Text, _) => TEXT_HEAD + MAX_STRING,
        };
        // An array's tag and count.
        self.count.map_or(one, |count| 2 + usize::from(count) * one)
    }
}

/// What a comparison of the filter reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operand {
    /// The argument at this index.
    Arg(u16),
    Tid,
    Timestamp,
    Latency,
    Comm,
}

/// The order a value stands in to the constant it is compared with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Relation {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What a comparison tests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Test {
    Unsigned(Relation, u64),
    Signed(Relation, i64),
    /// Any of these bits set.
    Bits(u64),
    /// Equal to this string, or, where the flag is false, not equal.
    Text(bool, Box<[u8]>),
    Glob(Box<[u8]>),
}

/// A comparison of the filter, and the index of the next for either result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Step {
    pub(super) operand: Operand,
    pub(super) test: Test,
    pub(super) if_true: u16,
    pub(super) if_false: u16,
}

/// In place of a step's index: the hit counts.
pub(super) const ACCEPT: u16 = u16::MAX;
/// In place of a step's index: the hit is filtered out.
pub(super) const REJECT: u16 = u16::MAX - 1;

/// The compiled fetch arguments and filter of a probe at one place: first the arguments fetched
/// at the entry (of an entry probe, all), then those fetched at the return.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EventProgram {
    pub(super) args: Box<[ArgProgram]>,
    /// How many of them are fetched at the entry.
    pub(super) entry_args: usize,
    /// Jumps go forward only. Empty: no filter.
    pub(super) filter: Box<[Step]>,
}

impl EventProgram {
    /// The arguments, in the order of a record's values.
    #[must_use]
    pub fn args(&self) -> &[ArgProgram] {
        &self.args
    }

    /// How many of the arguments, from the first, are fetched at the entry.
    #[must_use]
    pub fn entry_args(&self) -> usize {
        self.entry_args
    }

    /// Most bytes of a record after [`EventProgram::fetch`]: what must be kept of a call until it
    /// returns. At most [`RECORD_CAPACITY`]; 0 where nothing is fetched at the entry.
    #[must_use]
    pub fn most_entry_bytes(&self) -> usize {
        let all: usize = self.args.iter().take(self.entry_args).map(ArgProgram::most_bytes).sum();
        // Beyond it the record may be full, and say so in its last byte.
        all.min(RECORD_CAPACITY)
    }

    /// Whether one of the arguments is `$latency`, so that it needn't be printed besides.
    #[must_use]
    pub fn prints_latency(&self) -> bool {
        self.args.iter().any(ArgProgram::is_latency)
    }

    /// Whether the filter can be decided at the entry, since all it compares is known there:
    /// arguments fetched at the entry, `$tid`, `$comm`, `$ts`. True without a filter.
    #[must_use]
    pub fn filters_at_entry(&self) -> bool {
        self.filter.iter().all(|step| match step.operand {
            Operand::Arg(index) => usize::from(index) < self.entry_args,
            Operand::Latency => false,
            Operand::Tid | Operand::Timestamp | Operand::Comm => true,
        })
    }

    /// The arguments as registers, each with the bytes that are kept of it; `None` where that is not all
    /// there is to them.
    #[must_use]
    pub fn registers(&self) -> Option<impl Iterator<Item = (Reg, u8)>> {
        let all: Option<Vec<_>> = self.args.iter().map(ArgProgram::as_register).collect();
        Some(all?.into_iter())
    }

    /// Whether there is a filter.
    #[must_use]
    pub const fn has_filter(&self) -> bool {
        !self.filter.is_empty()
    }

    /// Whether there is neither an argument nor a filter: nothing to do at a hit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.args.is_empty() && self.filter.is_empty()
    }

    /// Whether any argument is a `@+FILEOFFSET`, which yields `(fault)` until [`Self::bind`].
    #[must_use]
    pub fn needs_binding(&self) -> bool {
        self.args.iter().any(|arg| matches!(arg.start, Start::File { .. }))
    }

    /// Gives each `@+FILEOFFSET` its address, by `f`. To be called anew when the object is
    /// mapped anew, and not while the program may run.
    ///
    /// # Errors
    /// The first offset that `f` has no address for; it yields `(fault)`, the others are bound.
    pub fn bind(&mut self, f: &dyn Fn(FileOffset) -> Option<RuntimeAddr>) -> Result<(), FileOffset> {
        let mut unbound = None;
        for arg in &mut self.args {
            if let Start::File { offset, address } = &mut arg.start {
                *address = f(*offset);
                if address.is_none() {
                    unbound = unbound.or(Some(*offset));
                }
            }
        }
        unbound.map_or(Ok(()), Err)
    }
}
