//! One symbol table (`.dynsym`, `.symtab`, a debug file's `.symtab`) with its strings and versions,
//! read in place, and an index by name that is built when the first name is looked up.

use std::sync::OnceLock;

use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{GnuHashTable, HashTable};

use super::layout::{Dynamic, Layout, Section, range, string_at, table};
use crate::addr::LinkAddr;

/// Longer names are taken for no name.
const NAME_MAX: usize = 32 << 10;
/// Names may share bytes of the string table, each being the end of another. So that a hostile table can't
/// make them long altogether, none may be longer than this many times the average share of the
/// table, but for short ones.
const SHARE_MAX: usize = 64;
const SHORT: usize = 1024;

const SYMBOL_SIZE: u64 = size_of::<elf::Sym64<LE>>() as u64;

/// What a symbol stands for (`st_type`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SymbolKind {
    /// A function.
    Func,
    /// A function that returns the address of the function that is meant.
    Ifunc,
    /// Not said: labels of assembly without `.type`.
    NoType,
    /// A variable.
    Object,
    /// A thread-local variable.
    Tls,
}

/// Where a symbol was found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SymbolSource {
    /// `.dynsym`.
    Dynsym,
    /// `.symtab`.
    Symtab,
    /// `.symtab` of the separate debug file.
    Debug,
}

/// A version of a name. `hidden`: `name@V`, only for programs linked long ago; else `name@@V`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Version<'a> {
    pub(super) name: &'a str,
    pub(super) hidden: bool,
}

/// A defined symbol.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbol<'a> {
    /// Without version.
    pub(super) name: &'a str,
    /// Where the name is in the string table.
    pub(super) name_at: u32,
    pub(super) version: Option<Version<'a>>,
    pub(super) link: LinkAddr,
    pub(super) size: u64,
    pub(super) kind: SymbolKind,
    pub(super) is_local: bool,
    pub(super) source: SymbolSource,
}

/// Where a table is in its file. All ranges were inside the file when it was parsed.
#[derive(Debug)]
pub(super) struct SymbolTable {
    source: SymbolSource,
    symbols: (u64, u64),
    strings: (u64, u64),
    versym: Option<(u64, u64)>,
    /// By version index, where the name is in the string table.
    versions: Vec<Option<u32>>,
    by_name: OnceLock<Box<[(u32, u32)]>>,
}

/// `name`, `name@VERSION` or `name@@VERSION` in its parts; the version with whether it is the default.
pub(super) fn split_version(name: &str) -> (&str, Option<(&str, bool)>) {
    match name.split_once('@') {
        Some((base, version)) if !base.is_empty() => match version.strip_prefix('@') {
            Some(version) => (base, Some((version, true))),
            None => (base, Some((version, false))),
        },
        _ => (name, None),
    }
}

/// Not for tables an attacker fills: they are sorted, not hashed into buckets.
fn hash(name: &str) -> u32 {
    const K: u64 = 0x517c_c1b7_2722_0a95;
    let mut hash = name.len() as u64;
    let (words, rest) = name.as_bytes().as_chunks::<8>();
    for word in words {
        hash = (hash.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(K);
    }
    for &byte in rest {
        hash = (hash.rotate_left(5) ^ u64::from(byte)).wrapping_mul(K);
    }
    (hash >> 32) as u32
}

impl SymbolTable {
    /// Gives back the memory of the index by name.
    pub(super) fn release(&mut self) {
        self.by_name = OnceLock::new();
    }

    /// The dynamic symbols, by the section headers or, without them, by `PT_DYNAMIC`.
    pub(super) fn dynsym(layout: &Layout, bytes: &[u8]) -> Option<Self> {
        let mut table = Self::from_section(layout, bytes, elf::SHT_DYNSYM.0, SymbolSource::Dynsym)
            .or_else(|| Self::from_dynamic(layout, bytes, layout.dynamic.as_ref()?))?;
        let strings = range(bytes, table.strings.0, table.strings.1)?;
        table.versions = versions(verdef(layout, bytes), strings);
        Some(table)
    }

    /// The static symbols.
    pub(super) fn symtab(layout: &Layout, bytes: &[u8], source: SymbolSource) -> Option<Self> {
        Self::from_section(layout, bytes, elf::SHT_SYMTAB.0, source)
    }

    fn from_section(layout: &Layout, bytes: &[u8], kind: u32, source: SymbolSource) -> Option<Self> {
        let section = layout.section_of_kind(kind)?;
        let strings = layout.sections.get(section.linked as usize)?;
        let in_file = |s: &Section| !s.content(bytes).is_empty();
        if !in_file(section) || !in_file(strings) {
            return None;
        }
        let versym = match source {
            SymbolSource::Dynsym => layout.section_of_kind(elf::SHT_GNU_VERSYM.0).filter(|s| in_file(s)),
            SymbolSource::Symtab | SymbolSource::Debug => None,
        };
        Some(Self {
            source,
            symbols: (section.offset, section.size / SYMBOL_SIZE),
            strings: (strings.offset, strings.size),
            versym: versym.map(|s| (s.offset, s.size / 2)),
            versions: Vec::new(),
            by_name: OnceLock::new(),
        })
    }

    fn from_dynamic(layout: &Layout, bytes: &[u8], dynamic: &Dynamic) -> Option<Self> {
        let symbols = layout.offset_of(LinkAddr(dynamic.symtab))?.0;
        let strings = layout.offset_of(LinkAddr(dynamic.strtab))?.0;
        let there = layout.bytes_from(bytes, LinkAddr(dynamic.symtab)).len() as u64 / SYMBOL_SIZE;
        let count = dynamic_count(layout, bytes, dynamic)?.min(there);
        let strings_size =
            dynamic.strings_size.min(layout.bytes_from(bytes, LinkAddr(dynamic.strtab)).len() as u64);
        let versym = layout.offset_of(LinkAddr(dynamic.versym)).filter(|_| dynamic.versym != 0);
        let versym_there = layout.bytes_from(bytes, LinkAddr(dynamic.versym)).len() as u64 / 2;
        Some(Self {
            source: SymbolSource::Dynsym,
            symbols: (symbols, count),
            strings: (strings, strings_size),
            versym: versym.map(|at| (at.0, count.min(versym_there))),
            versions: Vec::new(),
            by_name: OnceLock::new(),
        })
    }

    /// The table over the bytes it was parsed from.
    pub(super) fn view<'a>(&'a self, bytes: &'a [u8]) -> SymbolView<'a> {
        let symbols: &[elf::Sym64<LE>] = table(bytes, self.symbols.0, self.symbols.1).unwrap_or(&[]);
        let strings = range(bytes, self.strings.0, self.strings.1).unwrap_or(&[]);
        let share = strings.len() / symbols.len().max(1);
        SymbolView {
            table: self,
            symbols,
            strings,
            name_max: share.saturating_mul(SHARE_MAX).clamp(SHORT, NAME_MAX),
            versym: self.versym.and_then(|(at, count)| table(bytes, at, count)).unwrap_or(&[]),
        }
    }
}

/// How many dynamic symbols there are, which nothing but the hash tables says.
fn dynamic_count(layout: &Layout, bytes: &[u8], dynamic: &Dynamic) -> Option<u64> {
    let at = |link: u64| layout.bytes_from(bytes, LinkAddr(link));
    if dynamic.hash != 0
        && let Ok(table) = HashTable::<elf::FileHeader64<LE>>::parse(LE, at(dynamic.hash))
    {
        return Some(u64::from(table.symbol_table_length()));
    }
    if dynamic.gnu_hash != 0
        && let Ok(table) = GnuHashTable::<elf::FileHeader64<LE>>::parse(LE, at(dynamic.gnu_hash))
        && let Some(count) = table.symbol_table_length(LE)
    {
        return Some(u64::from(count));
    }
    // Every linker puts the strings right behind the symbols.
    dynamic.strtab.checked_sub(dynamic.symtab).map(|size| size / SYMBOL_SIZE)
}

fn verdef<'a>(layout: &Layout, bytes: &'a [u8]) -> &'a [u8] {
    if let Some(section) = layout.section_of_kind(elf::SHT_GNU_VERDEF.0) {
        return section.content(bytes);
    }
    match &layout.dynamic {
        Some(dynamic) if dynamic.verdef != 0 => layout.bytes_from(bytes, LinkAddr(dynamic.verdef)),
        _ => &[],
    }
}

/// The names of the versions this object defines, by index.
fn versions(mut verdef: &[u8], strings: &[u8]) -> Vec<Option<u32>> {
    let mut names = Vec::new();
    while let Some([definition]) = table::<elf::Verdef<LE>>(verdef, 0, 1) {
        let index = usize::from(definition.vd_ndx.get(LE).0 & 0x7fff);
        if let Some([aux]) = table::<elf::Verdaux<LE>>(verdef, u64::from(definition.vd_aux.get(LE)), 1) {
            let name = aux.vda_name.get(LE);
            if names.len() <= index {
                names.resize(index + 1, None);
            }
            // The base version (1) names the file, not a version of a symbol.
            names[index] = (index > 1 && string_at(strings, u64::from(name)).is_some()).then_some(name);
        }
        let next = definition.vd_next.get(LE) as usize;
        match verdef.get(next..) {
            Some(rest) if next != 0 => verdef = rest,
            _ => break,
        }
    }
    names
}

/// A symbol table with the bytes it is in.
#[derive(Clone, Copy)]
pub(super) struct SymbolView<'a> {
    table: &'a SymbolTable,
    symbols: &'a [elf::Sym64<LE>],
    strings: &'a [u8],
    name_max: usize,
    versym: &'a [object::U16<LE>],
}

impl<'a> SymbolView<'a> {
    /// All defined symbols with a name, in the table's order.
    pub(super) fn iter(self) -> impl Iterator<Item = Symbol<'a>> {
        (0..self.symbols.len()).filter_map(move |index| self.symbol(index))
    }

    /// Those whose names' bytes `is_meant` likes: it is given all that follows the name, too. Fast where it likes few.
    pub(super) fn iter_where(self, is_meant: impl Fn(&[u8]) -> bool) -> impl Iterator<Item = Symbol<'a>> {
        let begins = move |raw: &elf::Sym64<LE>| {
            self.strings.get(raw.st_name.get(LE) as usize..).is_some_and(&is_meant)
        };
        let chosen = self.symbols.iter().enumerate().filter(move |(_, raw)| begins(raw));
        chosen.filter_map(move |(index, _)| self.symbol(index))
    }

    /// All defined symbols with exactly this name (any version).
    pub(super) fn named(self, name: &str) -> impl Iterator<Item = Symbol<'a>> {
        let index = self.table.by_name.get_or_init(|| self.index());
        let wanted = hash(name);
        let first = index.partition_point(|&(hash, _)| hash < wanted);
        index[first..]
            .iter()
            .take_while(move |&&(hash, _)| hash == wanted)
            .filter_map(move |&(_, at)| self.symbol(at as usize))
            .filter(move |symbol| symbol.name == name)
    }

    fn index(self) -> Box<[(u32, u32)]> {
        let mut index = Vec::with_capacity(self.symbols.len());
        for at in 0..self.symbols.len() {
            if let (Some(symbol), Ok(at)) = (self.symbol(at), u32::try_from(at)) {
                index.push((hash(symbol.name), at));
            }
        }
        index.sort_unstable();
        index.into_boxed_slice()
    }

    /// The name at `name_at`, as stored.
    pub(super) fn name(self, name_at: u32) -> Option<&'a str> {
        let from = self.strings.get(name_at as usize..)?;
        let from = &from[..from.len().min(self.name_max)];
        let name = &from[..memchr::memchr(0, from)?];
        if name.is_empty() { None } else { std::str::from_utf8(name).ok() }
    }

    fn symbol(self, index: usize) -> Option<Symbol<'a>> {
        let raw = self.symbols.get(index)?;
        let section = raw.st_shndx.get(LE).0;
        if section == elf::SHN_UNDEF.0 || section == elf::SHN_COMMON.0 || section == elf::SHN_ABS.0 {
            return None;
        }
        let kind = match raw.st_type() {
            elf::STT_FUNC => SymbolKind::Func,
            elf::STT_GNU_IFUNC => SymbolKind::Ifunc,
            elf::STT_NOTYPE => SymbolKind::NoType,
            elf::STT_OBJECT => SymbolKind::Object,
            elf::STT_TLS => SymbolKind::Tls,
            _ => return None,
        };
        let name_at = raw.st_name.get(LE);
        let name = self.name(name_at)?;
        let (name, version) = match self.table.source {
            SymbolSource::Dynsym => (name, self.version(index)),
            // Linkers write the version into the name there.
            SymbolSource::Symtab | SymbolSource::Debug => match split_version(name) {
                (base, Some((version, default))) => (base, Some(Version { name: version, hidden: !default })),
                (base, None) => (base, None),
            },
        };
        Some(Symbol {
            name,
            name_at,
            version,
            link: LinkAddr(raw.st_value.get(LE)),
            size: raw.st_size.get(LE),
            kind,
            is_local: raw.st_bind() == elf::STB_LOCAL,
            source: self.table.source,
        })
    }

    fn version(self, index: usize) -> Option<Version<'a>> {
        let raw = self.versym.get(index)?.get(LE);
        let name_at = (*self.table.versions.get(usize::from(raw & 0x7fff))?)?;
        Some(Version { name: self.name(name_at)?, hidden: raw & 0x8000 != 0 })
    }
}
