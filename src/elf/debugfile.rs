//! The separate debug file of a stripped object: `.gnu_debuglink` and build-id, as gdb looks for them.

use std::path::{Path, PathBuf};

use object::LittleEndian as LE;
use object::elf;

use super::layout::{Layout, range, string_at, table};
use super::source::{FileBytes, FileSource};
use super::symtab::{SymbolSource, SymbolTable};

const DEBUG_ROOT: &str = "/usr/lib/debug";
/// `NT_GNU_BUILD_ID`.
const NOTE_BUILD_ID: u32 = 3;
/// Note sections searched, and the size up to which.
const NOTE_PARTS_MAX: usize = 64;
const NOTES_MAX: usize = 64 << 10;

/// A debug file that belongs to the object.
#[derive(Debug)]
pub(super) struct DebugFile {
    pub(super) bytes: FileBytes,
    pub(super) symbols: SymbolTable,
}

/// The identity the linker gave the object, if it did.
pub(super) fn build_id<'a>(layout: &Layout, bytes: &'a [u8]) -> Option<&'a [u8]> {
    let sections = layout.sections.iter().filter(|s| s.kind == elf::SHT_NOTE.0).map(|s| s.content(bytes));
    let segments = layout.notes.iter().filter_map(|&(offset, size)| range(bytes, offset, size));
    let parts = sections.take(NOTE_PARTS_MAX).chain(segments.take(NOTE_PARTS_MAX));
    parts.filter(|notes| notes.len() <= NOTES_MAX).find_map(build_id_in)
}

fn build_id_in(mut notes: &[u8]) -> Option<&[u8]> {
    while let Some([note]) = table::<elf::NoteHeader64<LE>>(notes, 0, 1) {
        let name_size = u64::from(note.n_namesz.get(LE));
        let size = u64::from(note.n_descsz.get(LE));
        let name_at = size_of::<elf::NoteHeader64<LE>>() as u64;
        let at = name_at + name_size.next_multiple_of(4);
        if note.n_type.get(LE).0 == NOTE_BUILD_ID && range(notes, name_at, name_size) == Some(b"GNU\0") {
            return range(notes, at, size).filter(|id| id.len() >= 2);
        }
        notes = notes.get(usize::try_from(at + size.next_multiple_of(4)).ok()?..)?;
    }
    None
}

/// The name and checksum of the debug file.
fn debug_link<'a>(layout: &Layout, bytes: &'a [u8]) -> Option<(&'a str, u32)> {
    let content = layout.section(bytes, ".gnu_debuglink")?.content(bytes);
    let name = std::str::from_utf8(string_at(content, 0)?).ok()?;
    let at = (name.len() + 1).next_multiple_of(4);
    let checksum = u32::from_le_bytes(content.get(at..at + 4)?.try_into().ok()?);
    // A name with a slash would lead anywhere.
    (!name.is_empty() && name != ".." && !name.contains('/')).then_some((name, checksum))
}

fn build_id_path(id: &[u8]) -> PathBuf {
    use std::fmt::Write;
    let mut path = format!("{DEBUG_ROOT}/.build-id/{:02x}/", id[0]);
    for byte in &id[1..] {
        // Writing to a String can't fail.
        let _ = write!(path, "{byte:02x}");
    }
    path.push_str(".debug");
    path.into()
}

/// Looks for the debug file of the object at `path`; one that doesn't belong to it, or has no
/// symbols, is none.
pub(super) fn find(
    layout: &Layout,
    bytes: &FileBytes,
    path: &Path,
    files: &dyn FileSource,
) -> Option<DebugFile> {
    let id = build_id(layout, bytes);
    if let Some(id) = id
        && let Some(found) = files.open(&build_id_path(id)).and_then(|b| accept(b, Some(id), None))
    {
        return Some(found);
    }
    let (name, checksum) = debug_link(layout, bytes)?;
    let directory = path.parent()?;
    let global = Path::new(DEBUG_ROOT).join(directory.strip_prefix("/").unwrap_or(directory));
    [directory.join(name), directory.join(".debug").join(name), global.join(name)].iter().find_map(|path| {
        let found = files.open(path)?;
        if found.id() == bytes.id() {
            return None;
        }
        accept(found, id, Some(checksum))
    })
}

/// A debug file belongs to the object when it has its build-id or, without one, its checksum.
fn accept(bytes: FileBytes, id: Option<&[u8]>, checksum: Option<u32>) -> Option<DebugFile> {
    let layout = Layout::parse_any(&bytes).ok()?;
    let belongs = match (id, build_id(&layout, &bytes), checksum) {
        (Some(ours), Some(its), _) => ours == its,
        (_, _, Some(checksum)) => crc32(&bytes) == checksum,
        _ => false,
    };
    if !belongs {
        return None;
    }
    let symbols = SymbolTable::symtab(&layout, &bytes, SymbolSource::Debug)?;
    Some(DebugFile { bytes, symbols })
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0u32; 256];
    let mut i = 0;
    while i < 256 {
        let mut value = i as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 != 0 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[i] = value;
        i += 1;
    }
    table
};

/// The checksum of `.gnu_debuglink` (CRC-32 as in zip).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| CRC_TABLE[((crc ^ u32::from(byte)) & 0xff) as usize] ^ (crc >> 8))
}

#[cfg(test)]
mod tests {
    use super::{build_id_in, build_id_path, crc32};

    #[test]
    fn crc32_is_the_one_of_zip() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn build_id_is_found_behind_other_notes() {
        let mut notes = Vec::new();
        notes.extend_from_slice(&[4, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0]);
        notes.extend_from_slice(b"GNU\0abcde\0\0\0");
        notes.extend_from_slice(&[4, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0]);
        notes.extend_from_slice(b"GNU\0\x12\x34\x56\0");
        let id = build_id_in(&notes).unwrap();
        assert_eq!(id, [0x12, 0x34, 0x56]);
        assert_eq!(build_id_path(id).to_str().unwrap(), "/usr/lib/debug/.build-id/12/3456.debug");
    }

    #[test]
    fn a_note_longer_than_its_section_is_none() {
        assert_eq!(build_id_in(b"\x04\0\0\0\xff\xff\xff\xff\x03\0\0\0GNU\0ab"), None);
        assert_eq!(build_id_in(b"\xff\xff\xff\xff\xff\xff\xff\xff\x03\0\0\0GNU\0ab"), None);
    }
}
