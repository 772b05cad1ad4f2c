//! The code of runtimes that walk their own stacks by return address.

use super::file::ElfFile;
use super::symtab::{Symbol, SymbolSource};
use crate::addr::LinkAddr;

/// What an object has of them.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Walked {
    /// Their code in the object: first byte, and first behind.
    pub ranges: Vec<(LinkAddr, LinkAddr)>,
    /// They make more as they run.
    pub generates: bool,
}

const V8_CODE: &str = "v8_Default_embedded_blob_code_";
const V8_SIZE: &str = "v8_Default_embedded_blob_code_size_";
/// `v8::internal::DefaultEmbeddedBlobCode()` and `DefaultEmbeddedBlobCodeSize()`, which return those two. A stripped
/// program that exports its functions (node, for its addons) has only them.
const V8_GET_CODE: &str = "_ZN2v88internal23DefaultEmbeddedBlobCodeEv";
const V8_GET_SIZE: &str = "_ZN2v88internal27DefaultEmbeddedBlobCodeSizeEv";
/// What debuggers and its own tools find HotSpot's layout by; exported by every libjvm.so of its.
const HOTSPOT: &str = "gHotSpotVMStructs";

impl Walked {
    /// OCaml: `camlNAME__code_begin` and `_end` of each unit (`camlNAME.code_begin` later), between the first and last of
    /// which all is taken for its own by the runtime, too; and of its assembly, which is elsewhere.
    /// V8: the builtins, one block of code that was made when it was built; what it compiles is in no object.
    /// HotSpot: all that it runs is made as it runs.
    pub(super) fn of(file: &ElfFile) -> Self {
        let mut found = Found::default();
        // All that is in the one is in the other.
        if let Some(table) =
            [SymbolSource::Symtab, SymbolSource::Dynsym].into_iter().find_map(|s| file.table(s))
        {
            let is_meant = |name: &[u8]| {
                let first = |prefix: &[u8]| name.starts_with(prefix);
                first(b"caml") || first(b"v8_Default") || first(b"_ZN2v88internal2") || first(b"gHotSpotVMS")
            };
            table.iter_where(is_meant).for_each(|symbol| found.look_at(&symbol));
        }
        let Found { units, system, hotspot, .. } = found;
        let builtins = found.v8_builtins(file);
        let is_code = |range: &Range| range.0 < range.1 && file.is_executable(range.0);
        Self {
            generates: hotspot || builtins.is_some(),
            ranges: [units.range(), system.range(), builtins].into_iter().flatten().filter(is_code).collect(),
        }
    }
}

type Range = (LinkAddr, LinkAddr);

#[derive(Clone, Copy, Default)]
struct Ends {
    first: Option<LinkAddr>,
    last: Option<LinkAddr>,
}

impl Ends {
    fn range(self) -> Option<Range> {
        Some((self.first?, self.last?))
    }
}

#[derive(Default)]
struct Found {
    units: Ends,
    system: Ends,
    code: Option<LinkAddr>,
    size: Option<LinkAddr>,
    get_code: Option<LinkAddr>,
    get_size: Option<LinkAddr>,
    hotspot: bool,
}

impl Found {
    fn look_at(&mut self, symbol: &Symbol<'_>) {
        let at = symbol.link;
        match symbol.name {
            V8_CODE => self.code = Some(at),
            V8_SIZE => self.size = Some(at),
            V8_GET_CODE => self.get_code = Some(at),
            V8_GET_SIZE => self.get_size = Some(at),
            HOTSPOT => self.hotspot = true,
            name if name.starts_with("caml") => {
                let ends = if name.starts_with("caml_system") { &mut self.system } else { &mut self.units };
                if name.ends_with("code_begin") {
                    ends.first = Some(ends.first.map_or(at, |first| first.min(at)));
                } else if name.ends_with("code_end") {
                    ends.last = ends.last.max(Some(at));
                }
            }
            _ => {}
        }
    }

    fn v8_builtins(&self, file: &ElfFile) -> Option<Range> {
        let code = self.code.or_else(|| loaded_address(file, self.get_code?))?;
        let size = self.size.or_else(|| read_address(file, self.get_size?))?;
        let size = file.bytes_at(size, 4).try_into().ok().map(u32::from_le_bytes)?;
        Some((code, code.add(u64::from(size))))
    }
}

/// The address that a function returns which does nothing else: `mov eax, address` or `lea rax, [rip + distance]`.
fn loaded_address(file: &ElfFile, function: LinkAddr) -> Option<LinkAddr> {
    match *file.bytes_at(function, 8) {
        [0xb8, a, b, c, d, 0xc3, ..] => Some(LinkAddr(u64::from(u32::from_le_bytes([a, b, c, d])))),
        [0x48, 0x8d, 0x05, a, b, c, d, 0xc3] => Some(behind(function, 7, [a, b, c, d])),
        _ => None,
    }
}

/// The address of the word that a function returns which does nothing else: `mov eax, [rip + distance]`.
fn read_address(file: &ElfFile, function: LinkAddr) -> Option<LinkAddr> {
    match *file.bytes_at(function, 7) {
        [0x8b, 0x05, a, b, c, d, 0xc3] => Some(behind(function, 6, [a, b, c, d])),
        _ => None,
    }
}

fn behind(function: LinkAddr, len: u64, distance: [u8; 4]) -> LinkAddr {
    LinkAddr(function.0.wrapping_add(len).wrapping_add_signed(i64::from(i32::from_le_bytes(distance))))
}
