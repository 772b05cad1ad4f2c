//! `at`: where a probe goes, as the user wrote it (CONTRACT 2.1). Parsed here, resolved in `elf`.

/// Which loaded objects are meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ObjectPattern {
    /// `exe`, or nothing before the colon: the program itself.
    Exe,
    /// Contains a `/`: this file, by whatever path or link it is reached (compared by inode).
    Path(String),
    /// A file name, `libc.so.6`.
    Name(String),
    /// A file name or path with `*`, `?` or `[`.
    Glob(String),
}

/// Which symbols are meant. Each form matches the mangled and the demangled name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SymbolPattern {
    /// This name; `name@VERSION` and `name@@VERSION` name one version.
    Exact(String),
    /// `*`, `?`, `[a-z]`.
    Glob(String),
    /// `/regex/`, without the slashes.
    Regex(String),
}

/// The place inside the object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// `SYMBOL` or `SYMBOL+0x12`.
    Symbol {
        /// Which symbol or symbols.
        pattern: SymbolPattern,
        /// Byte offset from it.
        offset: u64,
    },
    /// An offset in the file.
    FileOffset(u64),
    /// A source line.
    Line {
        /// File name as in the debug information, or its end.
        file: String,
        /// Line number, from 1.
        line: u32,
    },
    /// A static marker.
    Usdt {
        /// Provider.
        provider: String,
        /// Name.
        name: String,
    },
}

/// A parsed `at`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Which objects.
    pub object: ObjectPattern,
    /// Which place in them.
    pub target: Target,
}
