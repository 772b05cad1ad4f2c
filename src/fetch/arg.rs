//! A fetch argument as the user wrote it: `[NAME=]SOURCE[:TYPE]`, parsed and not yet compiled.

use crate::addr::FileOffset;
use crate::fetch::register::RegisterPart;

/// Most bytes of one fetch argument's text.
pub const MAX_TEXT: usize = 255;
/// Most bytes of an argument's name, as in ftrace.
pub const MAX_NAME: usize = 32;
/// Most `+N( )` around one source.
pub const MAX_DEREFS: usize = 16;
/// Most elements of `TYPE[N]`, as in ftrace.
pub const MAX_ARRAY: u64 = 64;
/// Highest N of `$argN`.
pub const MAX_ARGUMENT: u64 = 128;
/// Highest N of `$stackN`: 16 KiB of words, as in ftrace.
pub const MAX_STACK_WORD: u64 = 2048;

/// Where something stands in the text, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// First byte.
    pub at: usize,
    /// Length.
    pub len: usize,
}

/// One fetch argument.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchArg {
    /// Its name; empty until [`FetchArg::with_default_name`] where the user gave none.
    pub name: String,
    /// What is read.
    pub source: Source,
    /// As what.
    pub ty: Type,
    /// The text it was parsed from, as given: positions of later errors refer to it.
    pub text: String,
    pub(super) name_span: Span,
    pub(super) origin_span: Span,
    pub(super) type_span: Span,
}

/// What is read: an origin, and the dereferences around it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// The innermost part.
    pub origin: Origin,
    /// The offsets of `+N( )` and `-N( )`, innermost first.
    pub derefs: Vec<i64>,
}

/// The innermost part of a source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// `%reg`
    Register(RegisterPart),
    /// `$argN`, from 1.
    Argument(u32),
    /// `$retval`
    ReturnValue,
    /// `$stackN`: the Nth word from the stack pointer up.
    StackWord(u32),
    /// `$stack`: the stack pointer.
    Stack,
    /// `$comm`: the thread's name.
    Comm,
    /// `$tid`
    Tid,
    /// `$ts`: nanoseconds of CLOCK_MONOTONIC.
    Timestamp,
    /// `$latency`: nanoseconds since the entry.
    Latency,
    /// `$xmmN`
    Xmm(u8),
    /// `@ADDR`: memory at this address.
    Address(u64),
    /// `@+OFFSET`: memory where this place of the object's file is mapped.
    File(FileOffset),
    /// `\IMM`
    Immediate(u64),
    /// `\"text"`
    ImmediateText(Vec<u8>),
    /// A parameter's name, with fields and indices: `req->uri`, `buf.len`, `arr[1]`.
    Parameter(String),
}

/// Bytes of an integer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Width {
    W8 = 1,
    W16 = 2,
    W32 = 4,
    W64 = 8,
}

impl Width {
    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u8 {
        self as u8
    }

    /// In bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self as u32 * 8
    }
}

/// How the value is read and printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Type {
    /// Of one element.
    pub base: Base,
    /// `TYPE[N]`: how many; `None` is no array.
    pub count: Option<u8>,
}

/// The type of one element.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Base {
    /// `u8` to `u64`
    Unsigned(Width),
    /// `s8` to `s64`
    Signed(Width),
    /// `x8` to `x64`
    Hex(Width),
    /// `char`
    Char,
    /// `f32`
    F32,
    /// `f64`
    F64,
    /// `string`, `ustring` (which are the same in a process)
    Text,
    /// `symbol`: an address, to be printed as symbol+offset
    Symbol,
    /// `symstr`: the same, as a string
    SymbolText,
    /// `bW@O/S`: W bits from bit O of a word of S bits
    Bits {
        /// W, at least 1.
        bits: u8,
        /// O; O + W is at most S.
        shift: u8,
        /// S.
        container: Width,
    },
}

impl Type {
    /// What stands for no type: `x64`.
    pub const DEFAULT: Self = Self { base: Base::Hex(Width::W64), count: None };
}

impl FetchArg {
    /// The same argument, named `argN` with N = `index` + 1 where it has no name, as ftrace does.
    #[must_use]
    pub fn with_default_name(mut self, index: usize) -> Self {
        if self.name.is_empty() {
            self.name = format!("arg{}", index + 1);
        }
        self
    }

    /// What this version doesn't have yet, where the argument asks for such a thing.
    #[must_use]
    pub fn not_yet(&self) -> Option<&'static str> {
        match (&self.source.origin, self.ty.base) {
            (Origin::Xmm(_), _) => Some("$xmmN"),
            (Origin::Parameter(_), _) => Some("a parameter by its name"),
            (_, Base::F32) => Some("the type f32"),
            (_, Base::F64) => Some("the type f64"),
            (_, Base::SymbolText) => Some("the type symstr"),
            _ => None,
        }
    }
}
