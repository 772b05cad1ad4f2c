//! Why a file is no object we can use.

use std::fmt;
use std::path::Path;

use crate::error::Refusal;

/// What is wrong with a file. Each condition carries the value it was found in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ElfError {
    /// The file can't be opened or read.
    Unreadable,
    /// Doesn't begin with `\x7fELF`.
    NotElf,
    /// Not a 64-bit file (`e_ident[EI_CLASS]`): i386, or the x32 ABI.
    Not64Bit {
        /// The class found.
        class: u8,
    },
    /// Big-endian, or neither (`e_ident[EI_DATA]`).
    NotLittleEndian {
        /// The encoding found.
        encoding: u8,
    },
    /// For another processor (`e_machine`).
    WrongMachine {
        /// The machine found.
        machine: u16,
    },
    /// Neither a program nor a shared object (`e_type`): a `.o` file, a core.
    NotLoadable {
        /// The type found.
        file_type: u16,
    },
    /// A part that must be there lies beyond the end of the file.
    Truncated {
        /// Which part.
        what: &'static str,
        /// Where it should be, an offset in the file.
        offset: u64,
    },
    /// More program headers than the kernel takes.
    TooManySegments {
        /// How many.
        count: u64,
    },
    /// No `PT_LOAD` segment: nothing of it is ever mapped.
    NoSegments,
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable => write!(f, "the file can't be read"),
            Self::NotElf => write!(f, "this is no ELF file"),
            Self::Not64Bit { class: 1 } => write!(f, "this is a 32-bit ELF file"),
            Self::Not64Bit { class } => write!(f, "the ELF class {class} is unknown"),
            Self::NotLittleEndian { encoding } => {
                write!(f, "this is not a little-endian ELF file (its encoding is {encoding})")
            }
            Self::WrongMachine { machine } => {
                write!(f, "this is an ELF file for another processor (machine {machine})")
            }
            Self::NotLoadable { file_type: 1 } => write!(f, "this is an object file that is not linked yet"),
            Self::NotLoadable { file_type: 4 } => write!(f, "this is a core file"),
            Self::NotLoadable { file_type } => {
                write!(f, "this is neither a program nor a shared object (ELF type {file_type})")
            }
            Self::Truncated { what, offset } => {
                write!(f, "the file is cut off: its {what} at {offset:#x} lie beyond the end")
            }
            Self::TooManySegments { count } => {
                write!(f, "the file has {count} program headers, too many to load")
            }
            Self::NoSegments => write!(f, "the file has no segment to load"),
        }
    }
}

impl std::error::Error for ElfError {}

impl ElfError {
    /// The refusal of a place in the file at `path`.
    #[must_use]
    pub fn refusal(self, path: &Path) -> Refusal {
        Refusal::BadObject { path: path.display().to_string(), why: self.to_string() }
    }
}
