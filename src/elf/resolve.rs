//! What a place means in one file: names to addresses.

use super::demangle::{Demangler, Prefilter};
use super::file::{Bounds, BoundsFrom, ElfFile};
use super::functions::is_function;
use super::nearest::nearest;
use super::pattern::SymbolMatcher;
use super::source::FileSource;
use super::symtab::{Symbol, SymbolKind, SymbolSource, SymbolView, split_version};
use crate::addr::{FileOffset, LinkAddr};
use crate::error::Refusal;
use crate::place::{Place, SymbolPattern, Target};

/// At most this many names are demangled to find the one that was probably meant.
const NEAREST_DEMANGLED: usize = 2000;

/// One place in the code of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolved {
    /// Its address; of an IFUNC, that of the resolver.
    pub link: LinkAddr,
    /// Where `link` is in the file.
    pub offset: FileOffset,
    /// The name without version: the one asked for, or of the function a file offset is in.
    pub symbol: Option<String>,
    /// Distance of the place from the symbol.
    pub symbol_offset: u64,
    /// The place is `symbol_offset` bytes into the function that calling `link` returns.
    pub ifunc: bool,
    /// The function it is in; unknown for an IFUNC.
    pub bounds: Option<Bounds>,
}

/// All places in `file` that `place` means, one for each address, in address order. The object part of
/// `place` is not looked at. Whether the places are instruction boundaries is for
/// [`boundary::check`](super::boundary::check).
///
/// # Errors
/// The refusal that says why there is none.
pub fn resolve(place: &Place, file: &ElfFile, files: &dyn FileSource) -> Result<Vec<Resolved>, Refusal> {
    let resolver = Resolver { file, files };
    match &place.target {
        Target::Symbol { pattern: SymbolPattern::Exact(name), offset } => resolver.exact(name, *offset),
        Target::Symbol { pattern: SymbolPattern::Glob(glob), offset } => {
            resolver.matching(&SymbolMatcher::glob(glob), glob, *offset)
        }
        Target::Symbol { pattern: SymbolPattern::Regex(regex), offset } => {
            match SymbolMatcher::regex(regex) {
                Ok(matcher) => resolver.matching(&matcher, &format!("/{regex}/"), *offset),
                Err(_) => Err(Refusal::Denied { why: "the regular expression is wrong or too large" }),
            }
        }
        Target::FileOffset(offset) => resolver.at_offset(FileOffset(*offset)).map(|place| vec![place]),
        Target::Line { .. } => Err(Refusal::NotYet { what: "a probe at a source line" }),
        Target::Usdt { .. } => Err(Refusal::NotYet { what: "a probe at a static marker" }),
    }
}

/// What a table knows about a name.
enum Lookup<'a> {
    Functions(Vec<Symbol<'a>>),
    OnlyData,
    Nothing,
}

struct Resolver<'f> {
    file: &'f ElfFile,
    files: &'f dyn FileSource,
}

impl<'f> Resolver<'f> {
    /// The tables to search in order; the debug file is opened only when the others have been searched.
    fn tables(&self) -> impl Iterator<Item = SymbolView<'f>> {
        let (file, files) = (self.file, self.files);
        let own =
            [SymbolSource::Dynsym, SymbolSource::Symtab].into_iter().filter_map(|source| file.table(source));
        own.chain(std::iter::once_with(move || file.debug_table(files)).flatten())
    }

    fn own_tables(&self) -> impl Iterator<Item = SymbolView<'f>> {
        [SymbolSource::Dynsym, SymbolSource::Symtab].into_iter().filter_map(|source| self.file.table(source))
    }

    fn exact(&self, asked: &str, offset: u64) -> Result<Vec<Resolved>, Refusal> {
        let (name, version) = split_version(asked);
        // No mangled name has any of these, so no need to look for one as it is.
        let is_demangled = name.contains("::") || name.contains(['<', '(', ' ']);
        if !is_demangled {
            for table in self.tables() {
                match self.lookup(table, asked, name, version)? {
                    Lookup::Functions(symbols) => return self.places(&symbols, |_| name.to_owned(), offset),
                    Lookup::OnlyData => return Err(Refusal::NotAFunction { symbol: asked.to_owned() }),
                    Lookup::Nothing => {}
                }
            }
        }
        let prefilter = Prefilter::new(std::iter::once(name));
        for table in self.tables() {
            let symbols = self.demangled(table, &prefilter, name, version);
            if !symbols.is_empty() {
                let several = symbols.iter().any(|s| s.link != symbols[0].link);
                let label = |symbol: &Symbol<'_>| {
                    let full = Demangler::parse(symbol.name).filter(|_| several).and_then(|d| d.full());
                    full.unwrap_or_else(|| name.to_owned())
                };
                return self.places(&symbols, label, offset);
            }
        }
        Err(Refusal::NoSymbol {
            symbol: asked.to_owned(),
            object: self.file.path().display().to_string(),
            nearest: if is_demangled { self.nearest_demangled(name) } else { self.nearest(name) },
        })
    }

    /// The functions of one table that have this name, by the rules of versions: without a version the
    /// default one is meant, or the only one.
    fn lookup(
        &self,
        table: SymbolView<'f>,
        asked: &str,
        name: &str,
        version: Option<(&str, bool)>,
    ) -> Result<Lookup<'f>, Refusal> {
        let mut functions = Vec::new();
        let mut found = false;
        for symbol in table.named(name).filter(|s| has_version(s, version)) {
            found = true;
            if is_function(&symbol, self.file.layout()) {
                functions.push(symbol);
            }
        }
        if functions.is_empty() {
            return Ok(if found { Lookup::OnlyData } else { Lookup::Nothing });
        }
        if functions.iter().any(|s| !s.is_local) {
            functions.retain(|s| !s.is_local);
        }
        let is_hidden = |s: &Symbol<'_>| s.version.is_some_and(|v| v.hidden);
        if version.is_none() && functions.iter().any(is_hidden) {
            if functions.iter().any(|s| !is_hidden(s)) {
                functions.retain(|s| !is_hidden(s));
            } else if functions.iter().any(|s| s.link != functions[0].link) {
                let mut candidates: Vec<String> = functions.iter().map(written).collect();
                candidates.sort_unstable();
                candidates.dedup();
                return Err(Refusal::AmbiguousSymbol { symbol: asked.to_owned(), candidates });
            }
        }
        Ok(Lookup::Functions(functions))
    }

    /// The functions of one table whose demangled name this is: all overloads.
    fn demangled(
        &self,
        table: SymbolView<'f>,
        prefilter: &Prefilter,
        name: &str,
        version: Option<(&str, bool)>,
    ) -> Vec<Symbol<'f>> {
        table
            .iter()
            .filter(|s| prefilter.accepts(s.name) && has_version(s, version))
            .filter(|s| is_function(s, self.file.layout()))
            .filter(|s| Demangler::parse(s.name).is_some_and(|d| d.is_called(name)))
            .collect()
    }

    fn matching(&self, matcher: &SymbolMatcher, asked: &str, offset: u64) -> Result<Vec<Resolved>, Refusal> {
        let mut places = Vec::new();
        let mut refused = None;
        for function in self.file.functions(self.files) {
            // Local labels of assembly code may be anything.
            if function.kind == SymbolKind::NoType && function.is_local {
                continue;
            }
            let Some(label) = self.file.names(function).find_map(|name| matcher.match_symbol(name)) else {
                continue;
            };
            if function.kind == SymbolKind::NoType && matches!(label.as_str(), "etext" | "_etext" | "__etext")
            {
                continue;
            }
            match self.place(function.link, function.size, function.kind, label, offset) {
                Ok(place) => places.push(place),
                Err(refusal) => refused = refused.or(Some(refusal)),
            }
        }
        if !places.is_empty() {
            return Ok(places);
        }
        Err(refused.unwrap_or_else(|| Refusal::NoSymbol {
            symbol: asked.to_owned(),
            object: self.file.path().display().to_string(),
            nearest: None,
        }))
    }

    fn places(
        &self,
        symbols: &[Symbol<'_>],
        label: impl Fn(&Symbol<'_>) -> String,
        offset: u64,
    ) -> Result<Vec<Resolved>, Refusal> {
        let mut symbols: Vec<&Symbol<'_>> = symbols.iter().collect();
        // Of aliases the one that knows its size.
        symbols.sort_by_key(|s| (s.link, std::cmp::Reverse(s.size)));
        symbols.dedup_by_key(|s| s.link);
        symbols.into_iter().map(|s| self.place(s.link, s.size, s.kind, label(s), offset)).collect()
    }

    fn place(
        &self,
        start: LinkAddr,
        size: u64,
        kind: SymbolKind,
        symbol: String,
        symbol_offset: u64,
    ) -> Result<Resolved, Refusal> {
        let not_executable = |link: LinkAddr| Refusal::NotExecutable { offset: link.0 };
        let offset = self.file.offset_of(start).ok_or_else(|| not_executable(start))?;
        if kind == SymbolKind::Ifunc {
            let symbol = Some(symbol);
            return Ok(Resolved { link: start, offset, symbol, symbol_offset, ifunc: true, bounds: None });
        }
        let bounds = self.bounds(start, size).ok_or_else(|| not_executable(start))?;
        let size = bounds.end.0.saturating_sub(start.0);
        if symbol_offset >= size {
            return Err(Refusal::OutsideFunction { symbol, offset: symbol_offset, size });
        }
        let link = start.add(symbol_offset);
        let offset = self.file.offset_of(link).ok_or_else(|| not_executable(link))?;
        Ok(Resolved { link, offset, symbol: Some(symbol), symbol_offset, ifunc: false, bounds: Some(bounds) })
    }

    fn bounds(&self, start: LinkAddr, size: u64) -> Option<Bounds> {
        if size == 0 {
            // Whatever it is in: where a symbol is, an instruction begins.
            return self.file.bounds_at(start).map(|bounds| Bounds { start, ..bounds });
        }
        let segment = self.file.layout().segment_at(start)?;
        let end = LinkAddr(start.0.saturating_add(size).min(segment.file_end()));
        Some(Bounds { start, end, from: BoundsFrom::Symbol })
    }

    fn at_offset(&self, offset: FileOffset) -> Result<Resolved, Refusal> {
        // Made-up segments may lie over each other; then the offset may be nowhere in memory.
        let link = self.file.link_of(offset).filter(|&link| self.file.is_executable(link));
        let link = link.filter(|&link| self.file.offset_of(link) == Some(offset));
        let Some(link) = link else { return Err(Refusal::NotExecutable { offset: offset.0 }) };
        let symbol = self.file.symbolize_with(link, self.files);
        Ok(Resolved {
            link,
            offset,
            symbol: symbol.map(|(name, _)| name.to_owned()),
            symbol_offset: symbol.map_or(0, |(_, offset)| offset),
            ifunc: false,
            bounds: self.file.bounds_at(link),
        })
    }

    fn nearest(&self, name: &str) -> Option<String> {
        // The name is right and the version wrong.
        if let Some(symbol) = self.tables().find_map(|table| table.named(name).next()) {
            return Some(written(&symbol));
        }
        nearest(name, self.tables().flat_map(|t| t.iter()).filter(|s| is_code(s)).map(|s| s.name))
    }

    fn nearest_demangled(&self, name: &str) -> Option<String> {
        let prefilters: Vec<Prefilter> = name
            .split("::")
            .map(|part| Prefilter::new(std::iter::once(part)))
            .filter(Prefilter::is_selective)
            .collect();
        let symbols =
            self.own_tables().chain(self.file.debug_table(self.files)).flat_map(|table| table.iter());
        let bases: Vec<String> = symbols
            .filter(|s| is_code(s) && prefilters.iter().any(|p| p.accepts(s.name)))
            .take(NEAREST_DEMANGLED)
            .filter_map(|s| Demangler::parse(s.name)?.base())
            .collect();
        nearest(name, bases.iter().map(String::as_str))
    }
}

fn is_code(symbol: &Symbol<'_>) -> bool {
    matches!(symbol.kind, SymbolKind::Func | SymbolKind::Ifunc)
}

fn has_version(symbol: &Symbol<'_>, version: Option<(&str, bool)>) -> bool {
    match version {
        None => true,
        Some((wanted, default)) => symbol.version.is_some_and(|v| v.name == wanted && !(default && v.hidden)),
    }
}

/// The symbol as a user would write it.
fn written(symbol: &Symbol<'_>) -> String {
    match symbol.version {
        Some(version) if version.hidden => format!("{}@{}", symbol.name, version.name),
        Some(version) => format!("{}@@{}", symbol.name, version.name),
        None => symbol.name.to_owned(),
    }
}
