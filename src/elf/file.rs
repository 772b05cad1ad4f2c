//! One ELF file, its bytes owned, everything expensive read when first asked for.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::debugfile::{self, DebugFile};
use super::error::ElfError;
use super::frame::Frames;
use super::functions::{Function, FunctionIndex};
use super::layout::{ElfKind, Layout, Segment, range, string_at};
use super::source::{FileBytes, FileId, FileSource};
use super::symtab::{SymbolKind, SymbolSource, SymbolTable, SymbolView};
use super::walked::Walked;
use crate::addr::{FileOffset, LinkAddr};
use crate::sys::SIGNAL_RETURN;

/// `DF_1_PIE` in `DT_FLAGS_1`: a program, though `ET_DYN`.
const DF_1_PIE: u64 = 0x0800_0000;

/// How the ends of a function are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BoundsFrom {
    /// A symbol: by its size or, without one, up to what comes next.
    Symbol,
    /// A frame description in `.eh_frame`.
    Fde,
    /// Nothing says: the rest of the section.
    Section,
}

/// The extent of a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Its first byte.
    pub start: LinkAddr,
    /// The byte after its last.
    pub end: LinkAddr,
    /// How that is known.
    pub from: BoundsFrom,
}

/// An ELF file for x86-64: a program or a shared object.
#[derive(Debug)]
pub struct ElfFile {
    path: PathBuf,
    bytes: FileBytes,
    layout: Layout,
    dynsym: Option<SymbolTable>,
    symtab: Option<SymbolTable>,
    debug: OnceLock<Option<Box<DebugFile>>>,
    frames: OnceLock<Frames>,
    own: OnceLock<FunctionIndex>,
    merged: OnceLock<FunctionIndex>,
    is_go: OnceLock<bool>,
    walked: OnceLock<Walked>,
}

impl ElfFile {
    /// Reads the headers of the file at `path` (canonical, it is where the debug file is looked for).
    ///
    /// # Errors
    /// When the loader would not take the file.
    pub fn parse(path: &Path, bytes: FileBytes) -> Result<Self, ElfError> {
        let layout = Layout::parse(&bytes)?;
        Ok(Self {
            path: path.to_path_buf(),
            dynsym: SymbolTable::dynsym(&layout, &bytes),
            symtab: SymbolTable::symtab(&layout, &bytes, SymbolSource::Symtab),
            bytes,
            layout,
            debug: OnceLock::new(),
            frames: OnceLock::new(),
            own: OnceLock::new(),
            merged: OnceLock::new(),
            is_go: OnceLock::new(),
            walked: OnceLock::new(),
        })
    }

    /// Opens and parses.
    ///
    /// # Errors
    /// When it can't be opened, or the loader would not take it.
    pub fn open(path: &Path, files: &dyn FileSource) -> Result<Self, ElfError> {
        Self::parse(path, files.open(path).ok_or(ElfError::Unreadable)?)
    }

    /// Gives back the memory of what can be had again from the file: the indices, and the file's own pages.
    pub fn release(&mut self) {
        self.own = OnceLock::new();
        self.merged = OnceLock::new();
        self.frames = OnceLock::new();
        let debug = self.debug.get_mut().and_then(Option::as_deref_mut);
        let debug = debug.map(|debug| {
            debug.bytes.release();
            &mut debug.symbols
        });
        for table in [self.dynsym.as_mut(), self.symtab.as_mut(), debug].into_iter().flatten() {
            table.release();
        }
        self.bytes.release();
    }

    /// As given to [`ElfFile::parse`].
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which file it is.
    #[must_use]
    pub fn id(&self) -> FileId {
        self.bytes.id()
    }

    /// Whether it is loaded where it says, or anywhere.
    #[must_use]
    pub fn kind(&self) -> ElfKind {
        self.layout.kind
    }

    /// Where the program begins (`e_entry`); 0 in most shared objects.
    #[must_use]
    pub fn entry(&self) -> LinkAddr {
        self.layout.entry
    }

    /// What the loader maps.
    #[must_use]
    pub fn load_segments(&self) -> &[Segment] {
        &self.layout.segments
    }

    /// The program interpreter, `/lib64/ld-linux-x86-64.so.2`.
    #[must_use]
    pub fn interp(&self) -> Option<&str> {
        let (offset, size) = self.layout.interp?;
        std::str::from_utf8(string_at(range(&self.bytes, offset, size)?, 0)?).ok()
    }

    /// The objects it is linked to (`DT_NEEDED`), in the order of the file.
    pub fn needed(&self) -> impl Iterator<Item = &str> {
        let needed = self.layout.dynamic.as_ref().map_or(&[][..], |d| &d.needed);
        needed.iter().filter_map(|&at| self.dynamic_string(at))
    }

    /// The name it is linked by (`DT_SONAME`).
    #[must_use]
    pub fn soname(&self) -> Option<&str> {
        self.dynamic_string(self.layout.dynamic.as_ref()?.soname?)
    }

    /// Whether Go's linker made it, by its table of functions: its code runs on stacks of 2 KiB and more, which the
    /// runtime makes larger when a function says that it needs it; behind them are no guard pages, but other data.
    #[must_use]
    pub fn is_go(&self) -> bool {
        const TABLES: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];
        *self.is_go.get_or_init(|| TABLES.iter().any(|table| self.section_in_memory(table).is_some()))
    }

    /// The code of runtimes that walk their own stacks by return address.
    #[must_use]
    pub fn walked(&self) -> &Walked {
        self.walked.get_or_init(|| Walked::of(self))
    }

    /// Where the section `name` is in memory, and how long it is; `None` without section headers.
    #[must_use]
    pub fn section_in_memory(&self, name: &str) -> Option<(LinkAddr, u64)> {
        let section = self.layout.section(&self.bytes, name)?;
        (section.link != 0 && section.size != 0).then_some((LinkAddr(section.link), section.size))
    }

    /// The first of its own functions that the loader calls (`DT_INIT`), after relocating it.
    #[must_use]
    pub fn init(&self) -> Option<LinkAddr> {
        let init = LinkAddr(self.layout.dynamic.as_ref()?.init?);
        self.is_executable(init).then_some(init)
    }

    fn dynamic_string(&self, at: u64) -> Option<&str> {
        let strings = LinkAddr(self.layout.dynamic.as_ref()?.strtab);
        std::str::from_utf8(string_at(self.layout.bytes_from(&self.bytes, strings), at)?).ok()
    }

    /// The identity the linker gave it.
    #[must_use]
    pub fn build_id(&self) -> Option<&[u8]> {
        debugfile::build_id(&self.layout, &self.bytes)
    }

    /// Whether it has a dynamic table (`PT_DYNAMIC`).
    #[must_use]
    pub fn has_dynamic(&self) -> bool {
        self.layout.dynamic.is_some()
    }

    /// A program that no dynamic loader starts, so that nothing can be preloaded into it.
    #[must_use]
    pub fn is_static(&self) -> bool {
        let is_pie = || self.layout.dynamic.as_ref().is_some_and(|d| d.flags_1 & DF_1_PIE != 0);
        self.layout.interp.is_none() && (self.layout.kind == ElfKind::Exec || is_pie())
    }

    /// Where the byte at `link` is in the file; `None` where nothing is loaded from it.
    #[must_use]
    pub fn offset_of(&self, link: LinkAddr) -> Option<FileOffset> {
        self.layout.offset_of(link)
    }

    /// Where the byte at `offset` is loaded: the executable place if there are several.
    #[must_use]
    pub fn link_of(&self, offset: FileOffset) -> Option<LinkAddr> {
        let covers = |s: &&Segment| offset >= s.offset && offset.0 - s.offset.0 < s.file_size;
        let segments = &self.layout.segments;
        let segment =
            segments.iter().filter(covers).find(|s| s.executable).or_else(|| segments.iter().find(covers))?;
        Some(segment.link.add(offset.0 - segment.offset.0))
    }

    /// Whether the byte at `link` comes from the file and can be run: it is mapped executable, and in no
    /// section that is said to be data (`.rodata` shares the segment with `-z noseparate-code`).
    #[must_use]
    pub fn is_executable(&self, link: LinkAddr) -> bool {
        self.layout.is_code(link)
    }

    /// Up to `len` bytes at `link`; fewer, or none, where the segment ends.
    #[must_use]
    pub fn bytes_at(&self, link: LinkAddr, len: usize) -> &[u8] {
        let bytes = self.layout.bytes_from(&self.bytes, link);
        &bytes[..bytes.len().min(len)]
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// One symbol table; the debug file's only if it has been read before.
    pub(super) fn table(&self, source: SymbolSource) -> Option<SymbolView<'_>> {
        match source {
            SymbolSource::Dynsym => Some(self.dynsym.as_ref()?.view(&self.bytes)),
            SymbolSource::Symtab => Some(self.symtab.as_ref()?.view(&self.bytes)),
            SymbolSource::Debug => {
                let debug = self.debug.get()?.as_ref()?;
                Some(debug.symbols.view(&debug.bytes))
            }
        }
    }

    /// The symbols of the separate debug file, which is looked for now. A file that still has its
    /// `.symtab` needs none.
    pub(super) fn debug_table(&self, files: &dyn FileSource) -> Option<SymbolView<'_>> {
        self.debug.get_or_init(|| {
            if self.symtab.is_some() {
                return None;
            }
            debugfile::find(&self.layout, &self.bytes, &self.path, files).map(Box::new)
        });
        self.table(SymbolSource::Debug)
    }

    fn own_functions(&self) -> &FunctionIndex {
        self.own.get_or_init(|| {
            let tables = [self.table(SymbolSource::Dynsym), self.table(SymbolSource::Symtab)];
            FunctionIndex::build(&self.layout, tables.into_iter().flatten())
        })
    }

    fn all_functions(&self, files: &dyn FileSource) -> &FunctionIndex {
        let Some(debug) = self.debug_table(files) else { return self.own_functions() };
        self.merged.get_or_init(|| {
            let tables = [self.table(SymbolSource::Dynsym), self.table(SymbolSource::Symtab), Some(debug)];
            FunctionIndex::build(&self.layout, tables.into_iter().flatten())
        })
    }

    /// The best that is known without opening another file.
    fn known_functions(&self) -> &FunctionIndex {
        self.merged.get().unwrap_or_else(|| self.own_functions())
    }

    /// All functions of `.dynsym`, `.symtab` and the separate debug file, by address.
    pub fn functions(&self, files: &dyn FileSource) -> &[Function] {
        self.all_functions(files).functions()
    }

    /// The names of one of [`ElfFile::functions`], without versions, the nicest first.
    pub fn names<'a>(&'a self, function: &Function) -> impl Iterator<Item = &'a str> + 'a {
        self.known_functions().names(function, |source| self.table(source))
    }

    /// All known names of the function that begins at `link`, without opening another file.
    pub fn names_at(&self, link: LinkAddr) -> impl Iterator<Item = &str> {
        let functions = self.known_functions();
        let function = functions.covering(link).filter(|function| function.link == link);
        function.into_iter().flat_map(move |function| functions.names(function, |source| self.table(source)))
    }

    fn frames(&self) -> &Frames {
        self.frames.get_or_init(|| Frames::find(&self.layout, &self.bytes))
    }

    /// The function that covers `at`: by a symbol with a size, by `.eh_frame`, or else from the last
    /// symbol (or the section's start) to whatever comes next. `None` outside code.
    #[must_use]
    pub fn bounds_at(&self, at: LinkAddr) -> Option<Bounds> {
        let segment = *self.layout.segment_at(at).filter(|_| self.layout.is_code(at))?;
        let functions = self.known_functions();
        if let Some(function) = functions.covering(at) {
            let end = function.link.add(function.size);
            return Some(Bounds { start: function.link, end, from: BoundsFrom::Symbol });
        }
        let (before, next_frame) = self.frames().around(&self.layout, &self.bytes, at);
        if let Some((start, end)) = before
            && (start..end).contains(&at.0)
            && start >= segment.link.0
        {
            let end = LinkAddr(end.min(segment.file_end()));
            // That of a return from a signal, to which nobody calls, begins a byte before it: unwinders look there.
            let is_early = self.bytes_at(LinkAddr(start + 1), SIGNAL_RETURN.len()) == SIGNAL_RETURN;
            let start = if is_early && at.0 > start { start + 1 } else { start };
            return Some(Bounds { start: LinkAddr(start), end, from: BoundsFrom::Fde });
        }
        Some(self.bounds_between(at, &segment, before.map(|(_, end)| end), next_frame))
    }

    /// Whether a function is called at `at`, as far as a symbol of that type, or else a frame description, says
    /// so. Labels in assembly code don't.
    pub(super) fn is_called_at(&self, at: LinkAddr) -> bool {
        match self.known_functions().covering(at) {
            Some(function) => function.link == at && function.kind != SymbolKind::NoType,
            None => self
                .frames()
                .around(&self.layout, &self.bytes, at)
                .0
                .is_some_and(|(start, end)| start == at.0 && at.0 < end),
        }
    }

    /// Neither a sized symbol nor a frame covers `at`: between what comes before and after.
    fn bounds_between(
        &self,
        at: LinkAddr,
        segment: &Segment,
        frame_end: Option<u64>,
        next_frame: Option<u64>,
    ) -> Bounds {
        let (mut start, mut end) = (segment.link.0, segment.file_end());
        if let Some((section_start, section_end)) = self.layout.code_section_at(at) {
            start = start.max(section_start);
            end = end.min(section_end);
        }
        start = start.max(frame_end.filter(|&end| end <= at.0).unwrap_or(0));
        let (before, after) = self.known_functions().around(at);
        let mut from = BoundsFrom::Section;
        if let Some(before) = before {
            let before_end = before.link.0 + before.size;
            if before.size == 0 && before.link.0 >= start {
                (start, from) = (before.link.0, BoundsFrom::Symbol);
            } else if before_end <= at.0 {
                start = start.max(before_end);
            }
        }
        end = end.min(after.map_or(u64::MAX, |f| f.link.0)).min(next_frame.unwrap_or(u64::MAX));
        Bounds { start: LinkAddr(start), end: LinkAddr(end.max(at.0 + 1)), from }
    }

    /// The name of the function at `link` and the distance from its start, as far as it is known
    /// without opening another file (or with it, after [`ElfFile::functions`]).
    #[must_use]
    pub fn symbolize(&self, link: LinkAddr) -> Option<(&str, u64)> {
        let functions = self.known_functions();
        let function = match functions.covering(link) {
            Some(function) => function,
            None => {
                let before = functions.around(link).0.filter(|f| f.size == 0)?;
                let bounds = self.bounds_at(link)?;
                (bounds.start <= before.link).then_some(before)?
            }
        };
        let name = functions.names(function, |source| self.table(source)).next()?;
        Some((name, link.0 - function.link.0))
    }

    /// As [`ElfFile::symbolize`], reading the debug file when the file itself doesn't know.
    pub fn symbolize_with(&self, link: LinkAddr, files: &dyn FileSource) -> Option<(&str, u64)> {
        let known = self.symbolize(link);
        if known.is_some() {
            return known;
        }
        self.all_functions(files);
        self.symbolize(link)
    }
}
