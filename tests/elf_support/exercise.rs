//! Everything that can be asked about a file, asked about one that may be hostile. Shared by the tests and
//! the fuzz target; fails by panicking or by taking too long.

use std::path::Path;
use std::sync::Arc;

use uprobe::addr::{FileOffset, LinkAddr};
use uprobe::elf::{ElfFile, FileBytes, FileId, FileSource, NoFiles, SymbolKind, boundary, demangle, resolve};
use uprobe::place::{ObjectPattern, Place, SymbolPattern, Target};

/// At most this many functions of a file are looked at one by one.
const FUNCTIONS_MAX: usize = 40;

/// Whatever debug file is asked for, it has these bytes.
struct Always(Arc<Vec<u8>>);

struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl FileSource for Always {
    fn open(&self, _: &Path) -> Option<FileBytes> {
        Some(FileBytes::new(Shared(self.0.clone()), FileId { ino: 2, ..FileId::default() }))
    }
}

fn ask(file: &ElfFile, target: Target, files: &dyn FileSource) {
    let place = Place { object: ObjectPattern::Exe, target };
    match resolve(&place, file, files) {
        Ok(places) => {
            assert!(!places.is_empty());
            assert!(places.is_sorted_by(|a, b| a.link < b.link), "{places:?}");
            for place in places.iter().take(FUNCTIONS_MAX) {
                assert_eq!(file.offset_of(place.link), Some(place.offset));
                assert!(file.is_executable(place.link), "{place:?}");
                if let Some(bounds) = place.bounds {
                    assert!(bounds.start <= place.link && place.link < bounds.end, "{place:?}");
                    let _ = boundary::check(file, place.link, &bounds);
                }
            }
        }
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
}

fn symbol(pattern: SymbolPattern) -> Target {
    Target::Symbol { pattern, offset: 0 }
}

/// Parses `bytes` and asks; a debug file looked for has the bytes `debug`. Returns whether it could be parsed.
pub fn exercise(bytes: Vec<u8>, debug: Arc<Vec<u8>>) -> bool {
    let len = bytes.len() as u64;
    let parsed = ElfFile::parse(
        Path::new("/tmp/hostile"),
        FileBytes::new(bytes, FileId { ino: 1, ..FileId::default() }),
    );
    let file = match parsed {
        Ok(file) => file,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    let files = Always(debug);
    let _ = (file.kind(), file.entry(), file.interp(), file.soname(), file.build_id(), file.is_static());
    let _ = (file.needed().count(), file.has_dynamic());
    for name in [
        "main",
        "memcpy",
        "memcpy@GLIBC_2.2.5",
        "answer",
        "gone",
        "mian",
        "shop::Cart::add",
        "shop::Crat::add",
    ] {
        ask(&file, symbol(SymbolPattern::Exact(name.into())), &NoFiles);
    }
    ask(&file, symbol(SymbolPattern::Exact("twice".into())), &files);
    for pattern in ["*", "*::?", "sh*p::*(*"] {
        ask(&file, symbol(SymbolPattern::Glob(pattern.into())), &files);
    }
    ask(&file, symbol(SymbolPattern::Regex("^[a-z]+::.*t$".into())), &files);
    for at in [0, 0x1000, len / 2, len.saturating_sub(1), u64::MAX] {
        ask(&file, Target::FileOffset(at), &files);
        let _ = file.link_of(FileOffset(at));
    }
    let functions = file.functions(&files);
    assert!(functions.is_sorted_by(|a, b| a.link < b.link));
    let step = functions.len() / FUNCTIONS_MAX + 1;
    for function in functions.iter().step_by(step) {
        assert!(!matches!(function.kind, SymbolKind::Object | SymbolKind::Tls));
        for name in file.names(function).take(4) {
            let _ = demangle(name);
        }
        around(&file, function.link);
    }
    for segment in file.load_segments() {
        around(&file, segment.link);
        around(&file, segment.link.add(segment.file_size));
    }
    true
}

fn around(file: &ElfFile, link: LinkAddr) {
    for at in [link, link.add(7), link.add(u64::MAX)] {
        let _ = file.symbolize(at);
        let _ = (file.is_executable(at), file.bytes_at(at, 16).len());
        if let Some(bounds) = file.bounds_at(at) {
            assert!(bounds.start <= at && at < bounds.end, "{at:?} {bounds:?}");
            let _ = boundary::check(file, at, &bounds);
        } else {
            assert!(!file.is_executable(at));
        }
    }
}
