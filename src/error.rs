//! Why a place is not probed. A refusal is a normal result: it has a stable short code, which
//! scripts compare, and a sentence for people. `check`, `list` and the summary print the same.

use std::fmt;

use crate::insn::{InsnRefusal, WindowRefusal};

/// Why a probe can't be armed (`state = "refused"`), or waits (`pending`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No loaded object matches.
    ObjectNotLoaded {
        /// As the user wrote it.
        object: String,
    },
    /// The object has no such symbol.
    NoSymbol {
        /// As the user wrote it.
        symbol: String,
        /// Path of the object.
        object: String,
        /// The nearest name it does have.
        nearest: Option<String>,
    },
    /// Several different places carry this name.
    AmbiguousSymbol {
        /// As the user wrote it.
        symbol: String,
        /// Each candidate, as the user could write it.
        candidates: Vec<String>,
    },
    /// The symbol is a variable, a constant, thread-local.
    NotAFunction {
        /// Its name.
        symbol: String,
    },
    /// The place lies beyond the function's end.
    OutsideFunction {
        /// Its name.
        symbol: String,
        /// What was asked.
        offset: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// The file offset is in no executable segment.
    NotExecutable {
        /// The offset in the file.
        offset: u64,
    },
    /// Not the first byte of an instruction.
    NotABoundary {
        /// The offset asked for, in the file.
        offset: u64,
        /// The start of the instruction that contains it.
        insn: u64,
    },
    /// Decoding the function meets bytes that are no instruction before the place: data in text.
    DataInText {
        /// Where the decoding failed, in the file.
        offset: u64,
    },
    /// The bytes at the place are no instruction we can decode.
    Undecodable {
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Decodes, but can be run neither elsewhere nor by us.
    InsnNotRelocatable {
        /// The instruction, disassembled.
        insn: String,
        /// What is in the way.
        why: &'static str,
    },
    /// Somebody else's int3 is there.
    ForeignBreakpoint,
    /// The text in memory is not what the file says.
    TextChanged {
        /// Expected.
        file: Vec<u8>,
        /// Found.
        memory: Vec<u8>,
    },
    /// Our own code.
    OwnCode,
    /// A trap there can't be survived.
    Denied {
        /// The reason.
        why: &'static str,
    },
    /// Its return can't be followed; an entry probe works.
    ReturnDenied {
        /// The reason.
        why: &'static str,
    },
    /// A return probe goes to a function's first instruction.
    NotFunctionEntry {
        /// Bytes from the function's first instruction.
        offset: u64,
    },
    /// No memory within two GiB of the code for the displaced instruction.
    NoSlotInReach,
    /// The text can't be written.
    TextNotWritable {
        /// errno.
        errno: i32,
    },
    /// A seccomp filter of the program's forbids what a breakpoint ends with.
    NoSigreturn,
    /// The file can't be opened or is no ELF file we can use.
    BadObject {
        /// Path.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// An IFUNC whose implementation isn't known before the object is relocated.
    IfuncNotReady,
    /// This version doesn't have it yet.
    NotYet {
        /// What.
        what: &'static str,
    },
    /// A fetch argument or filter that can't be compiled for this place.
    BadFetch {
        /// What is wrong with it.
        why: String,
    },
    /// A plugin's object or function can't be had.
    BadPlugin {
        /// What is wrong with it.
        why: String,
    },
    /// A handler of the probe crashed; the probe was disabled.
    HandlerFault {
        /// The signal.
        signal: i32,
        /// Where.
        address: u64,
    },
    /// No memory.
    OutOfMemory,
}

impl Refusal {
    /// The stable short code, as it stands before the colon in `reason`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ObjectNotLoaded { .. } => "object-not-loaded",
            Self::NoSymbol { .. } => "no-symbol",
            Self::AmbiguousSymbol { .. } => "ambiguous-symbol",
            Self::NotAFunction { .. } => "not-a-function",
            Self::OutsideFunction { .. } => "outside-function",
            Self::NotExecutable { .. } => "not-executable",
            Self::NotABoundary { .. } => "not-a-boundary",
            Self::DataInText { .. } => "data-in-text",
            Self::Undecodable { .. } => "undecodable",
            Self::InsnNotRelocatable { .. } => "insn-not-relocatable",
            Self::ForeignBreakpoint => "foreign-breakpoint",
            Self::TextChanged { .. } => "text-changed",
            Self::OwnCode => "own-code",
            Self::Denied { .. } => "denied",
            Self::ReturnDenied { .. } => "return-denied",
            Self::NotFunctionEntry { .. } => "not-function-entry",
            Self::NoSlotInReach => "no-slot-in-reach",
            Self::TextNotWritable { .. } => "text-not-writable",
            Self::NoSigreturn => "no-sigreturn",
            Self::BadObject { .. } => "bad-object",
            Self::IfuncNotReady => "ifunc-not-ready",
            Self::NotYet { .. } => "not-yet",
            Self::BadFetch { .. } => "bad-fetch",
            Self::BadPlugin { .. } => "bad-plugin",
            Self::HandlerFault { .. } => "handler-fault",
            Self::OutOfMemory => "out-of-memory",
        }
    }

    /// The negative errno the C API returns for it.
    #[must_use]
    pub const fn errno(&self) -> i32 {
        match self {
            Self::ObjectNotLoaded { .. } | Self::NoSymbol { .. } | Self::BadPlugin { .. } => -libc::ENOENT,
            Self::AmbiguousSymbol { .. } => -libc::EADDRNOTAVAIL,
            Self::OutsideFunction { .. } => -libc::ERANGE,
            Self::NotABoundary { .. }
            | Self::DataInText { .. }
            | Self::Undecodable { .. }
            | Self::InsnNotRelocatable { .. }
            | Self::TextChanged { .. } => -libc::EILSEQ,
            Self::ForeignBreakpoint => -libc::EBUSY,
            Self::NotAFunction { .. }
            | Self::NotExecutable { .. }
            | Self::OwnCode
            | Self::Denied { .. }
            | Self::ReturnDenied { .. }
            | Self::NotFunctionEntry { .. }
            | Self::BadFetch { .. } => -libc::EINVAL,
            Self::NoSlotInReach | Self::OutOfMemory => -libc::ENOMEM,
            Self::TextNotWritable { .. } | Self::NoSigreturn => -libc::EACCES,
            Self::BadObject { .. } => -libc::ENOEXEC,
            Self::IfuncNotReady => -libc::EAGAIN,
            Self::NotYet { .. } => -libc::EOPNOTSUPP,
            Self::HandlerFault { .. } => -libc::EFAULT,
        }
    }

    /// Whether the probe waits for something that may still come, rather than being refused.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        matches!(self, Self::ObjectNotLoaded { .. } | Self::IfuncNotReady)
    }
}

fn hex(bytes: &[u8]) -> String {
    let words: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    words.join(" ")
}

impl fmt::Display for Refusal {
    /// `code: sentence`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.code())?;
        match self {
            Self::ObjectNotLoaded { object } => {
                write!(f, "no object matching '{object}' is loaded")
            }
            Self::NoSymbol { symbol, object, nearest } => {
                write!(f, "'{object}' has no function '{symbol}'")?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean '{nearest}'?"),
                    None => Ok(()),
                }
            }
            Self::AmbiguousSymbol { symbol, candidates } => {
                write!(f, "'{symbol}' names {} different places: {}", candidates.len(), candidates.join(", "))
            }
            Self::NotAFunction { symbol } => write!(f, "'{symbol}' is data, not code"),
            Self::OutsideFunction { symbol, offset, size } => {
                write!(f, "offset {offset:#x} lies outside '{symbol}', which has {size:#x} bytes")
            }
            Self::NotExecutable { offset } => {
                write!(f, "file offset {offset:#x} is not in an executable segment")
            }
            Self::NotABoundary { offset, insn } => {
                write!(f, "file offset {offset:#x} is inside the instruction that begins at {insn:#x}")
            }
            Self::DataInText { offset } => {
                write!(f, "file offset {offset:#x}, before the place, holds data and not an instruction")
            }
            Self::Undecodable { bytes } => write!(f, "the bytes {} are no known instruction", hex(bytes)),
            Self::InsnNotRelocatable { insn, why } => write!(f, "'{insn}' can't be displaced: {why}"),
            Self::ForeignBreakpoint => {
                write!(
                    f,
                    "there is an int3 already that is not ours (a debugger's, another tracer's, or the program's own)"
                )
            }
            Self::TextChanged { file, memory } => {
                write!(f, "the text in memory ({}) differs from the file ({})", hex(memory), hex(file))
            }
            Self::OwnCode => write!(f, "the place is in libuprobe itself"),
            Self::Denied { why } | Self::ReturnDenied { why } => write!(f, "{why}"),
            Self::NotFunctionEntry { offset } => {
                write!(
                    f,
                    "a return probe goes to a function's first instruction, which is {offset:#x} bytes before this place"
                )
            }
            Self::NoSlotInReach => {
                write!(f, "no free memory within 2 GiB of the place for the displaced instruction")
            }
            Self::TextNotWritable { errno } => {
                write!(f, "the text can't be written: {}", std::io::Error::from_raw_os_error(*errno))
            }
            Self::NoSigreturn => {
                write!(f, "a seccomp filter of the program forbids rt_sigreturn, which a breakpoint needs")
            }
            Self::BadObject { path, why } => write!(f, "'{path}': {why}"),
            Self::IfuncNotReady => {
                write!(f, "the implementation of this IFUNC is chosen when the object is relocated")
            }
            Self::NotYet { what } => write!(f, "{what} is not in this version yet"),
            Self::BadFetch { why } | Self::BadPlugin { why } => write!(f, "{why}"),
            Self::HandlerFault { signal, address } => {
                write!(f, "its handler raised signal {signal} at {address:#x}; the probe was disabled")
            }
            Self::OutOfMemory => write!(f, "no memory"),
        }
    }
}

impl std::error::Error for Refusal {}

/// Why an armed place stays at int3.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotOptimized {
    /// `method = "int3"`.
    AskedFor,
    /// A post_handler wants to look after the instruction.
    PostHandler,
    /// The engine's own business: a system call it stands before.
    Internal,
    /// `uprobe_replace`: its `original` runs the function's own instructions.
    Replaced,
    /// Go's code, whose stacks have no room for what a jump leads to.
    SmallStack,
    /// No jump can be put there.
    Window(WindowRefusal),
    /// An instruction it would displace runs nowhere else.
    Relocate(InsnRefusal),
    /// Another probe lies inside what it would displace.
    AnotherProbe {
        /// Where.
        at: u64,
    },
    /// No memory where such a jump could lead.
    NoRoom,
    /// The kernel has no membarrier(2) of the kind that makes changed code safe.
    NoBarriers,
}

impl NotOptimized {
    /// The stable short code, as it stands before the colon in `reason`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::AskedFor => "method-int3",
            Self::PostHandler => "post-handler",
            Self::Internal => "internal",
            Self::Replaced => "replaced",
            Self::SmallStack => "small-stack",
            Self::Window(WindowRefusal::TooShort { .. }) => "too-short",
            Self::Window(_) => "no-window",
            Self::Relocate(_) => "insn-not-relocatable",
            Self::AnotherProbe { .. } => "another-probe",
            Self::NoRoom => "no-detour-in-reach",
            Self::NoBarriers => "no-membarrier",
        }
    }
}

impl fmt::Display for NotOptimized {
    /// `code: sentence`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.code())?;
        match self {
            Self::AskedFor => write!(f, "method = \"int3\" keeps the breakpoint"),
            Self::PostHandler => {
                write!(f, "a post_handler runs after the instruction, which takes a second trap")
            }
            Self::Internal => write!(f, "libuprobe itself stands there"),
            Self::Replaced => {
                write!(f, "the function is replaced, and its original runs the instructions of its beginning")
            }
            Self::SmallStack => {
                write!(
                    f,
                    "Go's code runs on small stacks; a breakpoint's handler runs on the thread's alternate one"
                )
            }
            Self::Window(why) => write!(f, "{why}"),
            Self::Relocate(why) => write!(f, "{why}"),
            Self::AnotherProbe { at } => {
                write!(f, "a jump would displace the instruction at {at:#x}, which is probed, too")
            }
            Self::NoRoom => write!(f, "no free memory where a jump that is safe there could lead"),
            Self::NoBarriers => write!(
                f,
                "the kernel refuses membarrier(2), without which code can't be changed under running threads"
            ),
        }
    }
}
