//! Reading ELF files: symbols, functions and their bounds, and what a [`Place`](crate::place::Place)
//! means in one file.
//!
//! Pure: bytes in, values out, and no file is opened but through the given [`FileSource`]. Runs
//! inside other people's programs, in the constructor and when objects are loaded, never at a hit;
//! allocates in proportion to the file at most. A panic on any bytes is a bug.

/// Bytes of stack that resolving may use when names have to be demangled (measured: 160 KiB, for hostile
/// names; 64 KiB for those of libLLVM). An exact name that is found as it is needs less than 16 KiB.
pub const STACK_NEEDED: usize = 192 << 10;

pub mod boundary;
mod debugfile;
mod demangle;
mod error;
mod extent;
mod file;
mod frame;
mod functions;
mod layout;
mod nearest;
pub mod pattern;
mod resolve;
mod source;
mod symtab;
mod walked;

pub use demangle::demangle;
pub use error::ElfError;
pub use extent::Extent;
pub use file::{Bounds, BoundsFrom, ElfFile};
pub use functions::Function;
pub use layout::{ElfKind, Segment};
pub use resolve::{Resolved, resolve};
pub use source::{FileBytes, FileId, FileSource, NoFiles, StdFiles};
pub use symtab::{SymbolKind, SymbolSource};
pub use walked::Walked;
