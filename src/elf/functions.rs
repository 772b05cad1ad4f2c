//! All functions of a file by address: the symbol tables merged, aliases grouped.

use super::layout::Layout;
use super::symtab::{Symbol, SymbolKind, SymbolSource, SymbolView, split_version};
use crate::addr::LinkAddr;

/// A place in the code that has a name, or several. The names are had from
/// [`ElfFile::names`](super::ElfFile::names).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function {
    /// Its first byte.
    pub link: LinkAddr,
    /// Bytes; 0: no symbol says.
    pub size: u64,
    /// `Func`, `Ifunc` (then `link` is the resolver) or, only where nothing better is known, `NoType`.
    pub kind: SymbolKind,
    /// Where it was found first.
    pub source: SymbolSource,
    /// No symbol that other files see: `static`.
    pub is_local: bool,
    first_name: u32,
    name_count: u32,
}

/// At most this many functions within another are passed over to find it.
const COVERING_MAX: usize = 512;

/// One name: where it stands.
#[derive(Clone, Copy, Debug)]
struct NameRef {
    source: SymbolSource,
    at: u32,
}

/// Functions in address order.
#[derive(Debug, Default)]
pub(super) struct FunctionIndex {
    functions: Vec<Function>,
    names: Vec<NameRef>,
    /// For each function, the furthest end of all up to it: ends the search for one that covers an address.
    reach: Vec<u64>,
}

struct Entry<'a> {
    symbol: Symbol<'a>,
}

impl Entry<'_> {
    /// The nicest name of a place first: global before static, `open` before `__open`.
    fn rank(&self) -> (bool, usize, usize, &str) {
        let name = self.symbol.name;
        let underscores = name.len() - name.trim_start_matches('_').len();
        let underscores = if name.starts_with("_Z") || name.starts_with("_R") { 0 } else { underscores };
        (self.symbol.is_local, underscores, name.len(), name)
    }
}

/// Whether a probe can go on what this symbol names.
pub(super) fn is_function(symbol: &Symbol<'_>, layout: &Layout) -> bool {
    match symbol.kind {
        SymbolKind::Func | SymbolKind::Ifunc | SymbolKind::NoType => layout.is_code(symbol.link),
        SymbolKind::Object | SymbolKind::Tls => false,
    }
}

impl FunctionIndex {
    /// Merges the tables.
    pub(super) fn build<'a>(layout: &Layout, tables: impl Iterator<Item = SymbolView<'a>>) -> Self {
        let mut entries: Vec<Entry<'a>> = Vec::new();
        for table in tables {
            entries.extend(table.iter().filter(|s| is_function(s, layout)).map(|symbol| Entry { symbol }));
        }
        entries.sort_unstable_by_key(|e| (e.symbol.link, e.symbol.source));
        let mut index = Self::default();
        for group in entries.chunk_by_mut(|a, b| a.symbol.link == b.symbol.link) {
            index.push(layout, group);
        }
        index
    }

    fn push(&mut self, layout: &Layout, group: &mut [Entry<'_>]) {
        let source = group[0].symbol.source;
        let kind = group.iter().map(|e| e.symbol.kind).min().unwrap_or(SymbolKind::NoType);
        let kind =
            if group.iter().any(|e| e.symbol.kind == SymbolKind::Ifunc) { SymbolKind::Ifunc } else { kind };
        let size = group.iter().map(|e| e.symbol.size).max().unwrap_or(0);
        let link = group[0].symbol.link;
        if group.len() > 1 {
            group
                .sort_unstable_by(|a, b| a.rank().cmp(&b.rank()).then(a.symbol.source.cmp(&b.symbol.source)));
        }
        let first_name = self.names.len();
        let mut last = "";
        for entry in &*group {
            if entry.symbol.name != last {
                last = entry.symbol.name;
                self.names.push(NameRef { source: entry.symbol.source, at: entry.symbol.name_at });
            }
        }
        let end = layout.segment_at(link).map_or(link.0, |s| s.file_end().min(link.0.saturating_add(size)));
        self.functions.push(Function {
            link,
            size: end - link.0,
            kind,
            source,
            is_local: group.iter().all(|e| e.symbol.is_local),
            first_name: u32::try_from(first_name).unwrap_or(u32::MAX),
            name_count: u32::try_from(self.names.len() - first_name).unwrap_or(0),
        });
        self.reach.push(end.max(self.reach.last().copied().unwrap_or(0)));
    }

    /// In address order.
    pub(super) fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// The names of `function`, the nicest first, without versions.
    pub(super) fn names<'a>(
        &'a self,
        function: &Function,
        view: impl Fn(SymbolSource) -> Option<SymbolView<'a>> + 'a,
    ) -> impl Iterator<Item = &'a str> + 'a {
        let first = function.first_name as usize;
        let names = self.names.get(first..first.saturating_add(function.name_count as usize)).unwrap_or(&[]);
        names.iter().filter_map(move |name| {
            let text = view(name.source)?.name(name.at)?;
            match name.source {
                SymbolSource::Dynsym => Some(text),
                SymbolSource::Symtab | SymbolSource::Debug => Some(split_version(text).0),
            }
        })
    }

    /// The innermost function with a known size that covers `at`.
    pub(super) fn covering(&self, at: LinkAddr) -> Option<&Function> {
        let end = self.functions.partition_point(|f| f.link <= at);
        for (function, reach) in self.functions[..end].iter().zip(&self.reach[..end]).rev().take(COVERING_MAX)
        {
            if *reach <= at.0 {
                return None;
            }
            if at.0 - function.link.0 < function.size {
                return Some(function);
            }
        }
        None
    }

    /// The function at or before `at`, whatever its size, and the first one after it.
    pub(super) fn around(&self, at: LinkAddr) -> (Option<&Function>, Option<&Function>) {
        let after = self.functions.partition_point(|f| f.link <= at);
        (after.checked_sub(1).map(|i| &self.functions[i]), self.functions.get(after))
    }
}
