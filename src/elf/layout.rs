//! What the headers of an ELF file say: segments, sections, the dynamic table. Copied out once, so
//! that nothing later has to be checked against the file again but the ranges it reads.

use object::LittleEndian as LE;
use object::elf;
use object::pod;

use super::error::ElfError;
use crate::addr::{FileOffset, LinkAddr};

/// The kernel takes 64 KiB of program headers at most.
const SEGMENTS_MAX: u64 = 65536 / size_of::<elf::ProgramHeader64<LE>>() as u64;
/// Longer strings in headers (paths, versions) are taken for none.
const STRING_MAX: usize = 4096;

/// Whether the addresses in the file are final.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ElfKind {
    /// `ET_EXEC`: loaded where it says (`-no-pie`).
    Exec,
    /// `ET_DYN`: a shared object or PIE, loaded anywhere.
    Dyn,
}

/// A `PT_LOAD` segment. `file_size` is cut to what the file has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Its first byte in the file.
    pub offset: FileOffset,
    /// Bytes in the file.
    pub file_size: u64,
    /// Its first byte in memory.
    pub link: LinkAddr,
    /// Bytes in memory, at least `file_size`.
    pub mem_size: u64,
    /// Mapped readable.
    pub readable: bool,
    /// Mapped writable.
    pub writable: bool,
    /// Mapped executable.
    pub executable: bool,
}

impl Segment {
    /// The end of the part that comes from the file.
    pub(super) const fn file_end(&self) -> u64 {
        self.link.0.saturating_add(self.file_size)
    }
}

/// A section header, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    pub(super) name: u32,
    pub(super) kind: u32,
    pub(super) flags: u64,
    pub(super) link: u64,
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) linked: u32,
}

impl Section {
    const fn is_executable(&self) -> bool {
        let wanted = elf::SHF_ALLOC.0 | elf::SHF_EXECINSTR.0;
        self.flags & wanted == wanted
    }

    /// Its content; empty where it has none or lies beyond the file.
    pub(super) fn content<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        if self.kind == elf::SHT_NOBITS.0 || self.flags & elf::SHF_COMPRESSED.0 != 0 {
            return &[];
        }
        range(bytes, self.offset, self.size).unwrap_or(&[])
    }
}

/// `PT_DYNAMIC`, as far as it matters here; 0 where an entry is missing.
#[derive(Clone, Debug, Default)]
pub(super) struct Dynamic {
    pub(super) symtab: u64,
    pub(super) strtab: u64,
    pub(super) strings_size: u64,
    pub(super) hash: u64,
    pub(super) gnu_hash: u64,
    pub(super) versym: u64,
    pub(super) verdef: u64,
    pub(super) soname: Option<u64>,
    pub(super) init: Option<u64>,
    pub(super) needed: Vec<u64>,
    pub(super) flags_1: u64,
}

/// All headers of one file.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) kind: ElfKind,
    pub(super) entry: LinkAddr,
    pub(super) segments: Vec<Segment>,
    pub(super) sections: Vec<Section>,
    pub(super) section_names: Option<Section>,
    pub(super) dynamic: Option<Dynamic>,
    pub(super) interp: Option<(u64, u64)>,
    pub(super) notes: Vec<(u64, u64)>,
    /// `PT_GNU_EH_FRAME`.
    pub(super) frame_header: Option<LinkAddr>,
    /// Where sections with code are, sorted.
    code: Vec<(u64, u64)>,
    /// Where sections without code are, sorted: some linkers put them in the executable segment, too.
    data: Vec<(u64, u64)>,
}

/// `len` bytes at `offset`, or nothing when they are not all there.
pub(super) fn range(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    bytes.get(start..end)
}

/// A table of `count` records at `offset`.
pub(super) fn table<T: object::Pod>(bytes: &[u8], offset: u64, count: u64) -> Option<&[T]> {
    let from = bytes.get(usize::try_from(offset).ok()?..)?;
    pod::slice_from_bytes(from, usize::try_from(count).ok()?).ok().map(|(records, _)| records)
}

/// The bytes at `at` in a string table up to the NUL, if there is one.
pub(super) fn string_at(strings: &[u8], at: u64) -> Option<&[u8]> {
    let from = strings.get(usize::try_from(at).ok()?..)?;
    let from = &from[..from.len().min(STRING_MAX)];
    Some(&from[..memchr::memchr(0, from)?])
}

impl Layout {
    /// Reads the headers of a file that the loader would accept.
    ///
    /// # Errors
    /// When it would not.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ElfError> {
        let layout = Self::parse_any(bytes)?;
        if layout.segments.is_empty() {
            return Err(ElfError::NoSegments);
        }
        Ok(layout)
    }

    /// Reads the headers also of a file of which nothing is loaded (a separate debug file).
    ///
    /// # Errors
    /// When it is no ELF file for this processor.
    pub(super) fn parse_any(bytes: &[u8]) -> Result<Self, ElfError> {
        let header = header(bytes)?;
        let kind = match header.e_type.get(LE) {
            elf::ET_EXEC => ElfKind::Exec,
            elf::ET_DYN => ElfKind::Dyn,
            other => return Err(ElfError::NotLoadable { file_type: other.0 }),
        };
        let (sections, section_names) = sections(bytes, header);
        let mut layout = Self {
            kind,
            entry: LinkAddr(header.e_entry.get(LE)),
            segments: Vec::new(),
            sections,
            section_names,
            dynamic: None,
            interp: None,
            notes: Vec::new(),
            frame_header: None,
            code: Vec::new(),
            data: Vec::new(),
        };
        layout.code = layout.extents(Section::is_executable);
        layout.data = layout.extents(|s| s.flags & elf::SHF_ALLOC.0 != 0 && !s.is_executable());
        layout.read_segments(bytes, header)?;
        Ok(layout)
    }

    fn read_segments(&mut self, bytes: &[u8], header: &elf::FileHeader64<LE>) -> Result<(), ElfError> {
        let offset = header.e_phoff.get(LE);
        let count = u64::from(header.e_phnum.get(LE));
        if count > SEGMENTS_MAX {
            return Err(ElfError::TooManySegments { count });
        }
        if count == 0 || usize::from(header.e_phentsize.get(LE)) != size_of::<elf::ProgramHeader64<LE>>() {
            return Ok(());
        }
        let headers: &[elf::ProgramHeader64<LE>] =
            table(bytes, offset, count).ok_or(ElfError::Truncated { what: "program headers", offset })?;
        let mut dynamic = None;
        for header in headers {
            let at = (header.p_offset.get(LE), header.p_filesz.get(LE));
            match header.p_type.get(LE) {
                elf::PT_LOAD => self.segments.push(load_segment(header, bytes.len() as u64)),
                elf::PT_DYNAMIC => dynamic = Some(at),
                elf::PT_INTERP => self.interp = Some(at),
                elf::PT_NOTE => self.notes.push(at),
                elf::PT_GNU_EH_FRAME => self.frame_header = Some(LinkAddr(header.p_vaddr.get(LE))),
                _ => {}
            }
        }
        self.dynamic = dynamic.map(|(offset, size)| read_dynamic(bytes, offset, size));
        Ok(())
    }

    /// Where the byte at `link` is in the file.
    pub(super) fn offset_of(&self, link: LinkAddr) -> Option<FileOffset> {
        let segment = self.segment_at(link)?;
        Some(FileOffset(segment.offset.0 + (link.0 - segment.link.0)))
    }

    /// The segment that brings the byte at `link` from the file.
    pub(super) fn segment_at(&self, link: LinkAddr) -> Option<&Segment> {
        self.segments.iter().find(|s| link >= s.link && link.0 - s.link.0 < s.file_size)
    }

    /// Whether the byte at `link` comes from the file, is mapped executable, and is not known to be data.
    pub(super) fn is_code(&self, link: LinkAddr) -> bool {
        self.segment_at(link).is_some_and(|s| s.executable) && extent_at(&self.data, link).is_none()
    }

    /// The section with code that covers `link`.
    pub(super) fn code_section_at(&self, link: LinkAddr) -> Option<(u64, u64)> {
        extent_at(&self.code, link)
    }

    /// Where the sections of a sort are in memory. `.tbss` is no place in memory, whatever its address.
    fn extents(&self, is_wanted: impl Fn(&Section) -> bool) -> Vec<(u64, u64)> {
        let wanted =
            self.sections.iter().filter(|s| s.kind != elf::SHT_NOBITS.0 && s.size > 0 && is_wanted(s));
        let mut extents: Vec<(u64, u64)> = wanted.map(|s| (s.link, s.link.saturating_add(s.size))).collect();
        extents.sort_unstable();
        extents
    }

    /// The bytes at `link` up to the end of their segment; empty where nothing is loaded from the file.
    pub(super) fn bytes_from<'a>(&self, bytes: &'a [u8], link: LinkAddr) -> &'a [u8] {
        let Some(segment) = self.segment_at(link) else { return &[] };
        let skip = link.0 - segment.link.0;
        range(bytes, segment.offset.0 + skip, segment.file_size - skip).unwrap_or(&[])
    }

    /// The section with this name.
    pub(super) fn section(&self, bytes: &[u8], name: &str) -> Option<&Section> {
        let names = self.section_names?.content(bytes);
        self.sections.iter().find(|s| names.get(s.name as usize..).is_some_and(|n| is_named(n, name)))
    }

    /// The first section of this type.
    pub(super) fn section_of_kind(&self, kind: u32) -> Option<&Section> {
        self.sections.iter().find(|s| s.kind == kind)
    }
}

fn extent_at(extents: &[(u64, u64)], link: LinkAddr) -> Option<(u64, u64)> {
    let after = extents.partition_point(|&(start, _)| start <= link.0);
    extents[..after].last().copied().filter(|&(_, end)| link.0 < end)
}

fn is_named(at: &[u8], name: &str) -> bool {
    at.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
}

fn header(bytes: &[u8]) -> Result<&elf::FileHeader64<LE>, ElfError> {
    let Some(ident) = bytes.get(..16) else { return Err(ElfError::NotElf) };
    if ident[..4] != *b"\x7fELF" {
        return Err(ElfError::NotElf);
    }
    if ident[4] != 2 {
        return Err(ElfError::Not64Bit { class: ident[4] });
    }
    if ident[5] != 1 {
        return Err(ElfError::NotLittleEndian { encoding: ident[5] });
    }
    let (header, _) = pod::from_bytes::<elf::FileHeader64<LE>>(bytes)
        .map_err(|()| ElfError::Truncated { what: "file header", offset: 0 })?;
    match header.e_machine.get(LE) {
        elf::EM_X86_64 => Ok(header),
        other => Err(ElfError::WrongMachine { machine: other.0 }),
    }
}

fn load_segment(header: &elf::ProgramHeader64<LE>, file_len: u64) -> Segment {
    let flags = header.p_flags.get(LE).0;
    let offset = header.p_offset.get(LE);
    let link = header.p_vaddr.get(LE);
    let file_size = header.p_filesz.get(LE).min(file_len.saturating_sub(offset)).min(u64::MAX - link);
    Segment {
        offset: FileOffset(offset),
        file_size,
        link: LinkAddr(link),
        mem_size: header.p_memsz.get(LE).max(file_size),
        readable: flags & elf::PF_R.0 != 0,
        writable: flags & elf::PF_W.0 != 0,
        executable: flags & elf::PF_X.0 != 0,
    }
}

/// The section headers. They are not needed to run, so a file where they are missing, cut off or
/// nonsense simply has none.
fn sections(bytes: &[u8], header: &elf::FileHeader64<LE>) -> (Vec<Section>, Option<Section>) {
    let offset = header.e_shoff.get(LE);
    if offset == 0 || usize::from(header.e_shentsize.get(LE)) != size_of::<elf::SectionHeader64<LE>>() {
        return (Vec::new(), None);
    }
    let Some([first]) = table::<elf::SectionHeader64<LE>>(bytes, offset, 1) else {
        return (Vec::new(), None);
    };
    let count = match header.e_shnum.get(LE) {
        0 => first.sh_size.get(LE),
        count => u64::from(count),
    };
    let Some(headers) = table::<elf::SectionHeader64<LE>>(bytes, offset, count) else {
        return (Vec::new(), None);
    };
    let sections: Vec<Section> = headers.iter().map(section).collect();
    let names = match header.e_shstrndx.get(LE).0 {
        0xffff => first.sh_link.get(LE) as usize,
        index => usize::from(index),
    };
    let names = sections.get(names).copied();
    (sections, names)
}

fn section(header: &elf::SectionHeader64<LE>) -> Section {
    Section {
        name: header.sh_name.get(LE),
        kind: header.sh_type.get(LE).0,
        flags: header.sh_flags.get(LE).0,
        link: header.sh_addr.get(LE),
        offset: header.sh_offset.get(LE),
        size: header.sh_size.get(LE),
        linked: header.sh_link.get(LE),
    }
}

fn read_dynamic(bytes: &[u8], offset: u64, size: u64) -> Dynamic {
    let mut dynamic = Dynamic::default();
    let there = (bytes.len() as u64).saturating_sub(offset).min(size);
    let entries: &[elf::Dyn64<LE>] =
        table(bytes, offset, there / size_of::<elf::Dyn64<LE>>() as u64).unwrap_or(&[]);
    for entry in entries {
        let value = entry.d_val.get(LE);
        match entry.d_tag.get(LE) {
            elf::DT_NULL => break,
            elf::DT_SYMTAB => dynamic.symtab = value,
            elf::DT_STRTAB => dynamic.strtab = value,
            elf::DT_STRSZ => dynamic.strings_size = value,
            elf::DT_HASH => dynamic.hash = value,
            elf::DT_GNU_HASH => dynamic.gnu_hash = value,
            elf::DT_VERSYM => dynamic.versym = value,
            elf::DT_VERDEF => dynamic.verdef = value,
            elf::DT_SONAME => dynamic.soname = Some(value),
            elf::DT_FLAGS_1 => dynamic.flags_1 = value,
            elf::DT_INIT => dynamic.init = Some(value),
            elf::DT_NEEDED => dynamic.needed.push(value),
            _ => {}
        }
    }
    dynamic
}
