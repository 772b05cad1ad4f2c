//! Places in the C library of this machine: versions, aliases, IFUNCs, debug file.

mod elf_support;

use elf_support::{LIBC, at_offset, exact, exact_at, glob, labels, nm, one, parse, regex};
use std::path::Path;
use uprobe::addr::LinkAddr;
use uprobe::elf::{BoundsFrom, ElfFile, ElfKind, NoFiles, StdFiles, boundary};
use uprobe::error::Refusal;

fn libc() -> ElfFile {
    parse(Path::new(LIBC))
}

#[test]
fn headers() {
    let libc = libc();
    assert_eq!(libc.kind(), ElfKind::Dyn);
    assert_eq!(libc.soname(), Some("libc.so.6"));
    assert_eq!(libc.needed().collect::<Vec<_>>(), ["ld-linux-x86-64.so.2"]);
    assert_eq!(libc.interp(), Some("/lib64/ld-linux-x86-64.so.2"));
    assert!(libc.has_dynamic());
    assert!(!libc.is_static());
    assert_eq!(libc.build_id().map(<[u8]>::len), Some(20));
    assert!(libc.load_segments().iter().any(|s| s.executable && !s.writable));
}

#[test]
fn a_function() {
    let libc = libc();
    let openat = one(exact(&libc, "openat"));
    assert_eq!(vec![openat.link.0], nm(Path::new(LIBC), "openat"));
    assert_eq!(openat.symbol.as_deref(), Some("openat"));
    assert_eq!(libc.offset_of(openat.link), Some(openat.offset));
    assert_eq!(libc.link_of(openat.offset), Some(openat.link));
    let bounds = openat.bounds.unwrap();
    assert_eq!((bounds.start, bounds.from), (openat.link, BoundsFrom::Symbol));
    assert_eq!(libc.bounds_at(openat.link.add(5)), Some(bounds));
    assert_eq!(boundary::check(&libc, openat.link, &bounds), Ok(()));
    // The name without version first, whether or not the debug file is there.
    let (_, offset) = libc.symbolize(openat.link.add(5)).unwrap();
    assert_eq!(offset, 5);
}

#[test]
fn versions() {
    let libc = libc();
    let default = one(exact(&libc, "memcpy"));
    assert!(default.ifunc);
    assert_eq!(default, one(exact(&libc, "memcpy@@GLIBC_2.14")));
    assert_eq!(default, one(exact(&libc, "memcpy@GLIBC_2.14")));
    let old = one(exact(&libc, "memcpy@GLIBC_2.2.5"));
    assert_ne!(old.link, default.link);
    assert_eq!(old.symbol.as_deref(), Some("memcpy"));
    for wrong in ["memcpy@@GLIBC_2.2.5", "memcpy@GLIBC_9", "memcpy@"] {
        let refusal = exact(&libc, wrong).unwrap_err();
        assert!(matches!(refusal, Refusal::NoSymbol { nearest: Some(_), .. }), "{wrong}: {refusal}");
        assert!(refusal.to_string().contains("did you mean 'memcpy@"), "{refusal}");
    }
}

#[test]
fn ifuncs() {
    let libc = libc();
    let strlen = one(exact(&libc, "strlen"));
    assert!(strlen.ifunc);
    assert_eq!(strlen.bounds, None);
    let inside = one(exact_at(&libc, "strlen", 4));
    assert_eq!((inside.link, inside.symbol_offset), (strlen.link, 4));
    assert!(glob(&libc, "strle?").unwrap().iter().any(|p| p.link == strlen.link && p.ifunc));
}

#[test]
fn aliases_are_one_place() {
    let libc = libc();
    let open = one(exact(&libc, "open"));
    assert_eq!(open.link, one(exact(&libc, "open64")).link);
    assert_eq!(open.link, one(exact(&libc, "__open")).link);
    let places = glob(&libc, "*open*").unwrap();
    let addresses: Vec<LinkAddr> = places.iter().map(|p| p.link).collect();
    assert!(addresses.is_sorted_by(|a, b| a < b), "each address once, in order");
    let found: Vec<_> = places.iter().filter(|p| p.link == open.link).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].symbol.as_deref(), Some("open"), "the nicest name");
    let function = *libc.functions(&NoFiles).iter().find(|f| f.link == open.link).unwrap();
    let names: Vec<&str> = libc.names(&function).collect();
    for name in ["open", "open64", "__open", "__open64"] {
        assert!(names.contains(&name), "{names:?}");
    }
}

#[test]
fn all_exported_functions() {
    let libc = libc();
    let functions = libc.functions(&NoFiles);
    assert!(functions.len() > 2000);
    assert!(functions.is_sorted_by(|a, b| a.link < b.link));
    let places = uprobe::elf::resolve(
        &elf_support::symbol(uprobe::place::SymbolPattern::Glob("*".into()), 0),
        &libc,
        &NoFiles,
    );
    assert_eq!(places.unwrap().len(), functions.len());
}

#[test]
fn regexes() {
    let libc = libc();
    let names = labels(&regex(&libc, "^(open|read)at(64)?$"));
    assert_eq!(names, "openat");
    let refusal = regex(&libc, "no such name at all").unwrap_err();
    assert_eq!(refusal.to_string(), format!("no-symbol: '{LIBC}' has no function '/no such name at all/'"));
}

#[test]
fn refusals() {
    let libc = libc();
    assert_eq!(exact(&libc, "environ"), Err(Refusal::NotAFunction { symbol: "environ".into() }));
    assert_eq!(exact(&libc, "errno").map_err(|r| r.code()).unwrap_err(), "not-a-function");
    let openat = one(exact(&libc, "openat")).bounds.unwrap();
    let size = openat.end.0 - openat.start.0;
    assert!(exact_at(&libc, "openat", size - 1).is_ok());
    assert_eq!(
        exact_at(&libc, "openat", size),
        Err(Refusal::OutsideFunction { symbol: "openat".into(), offset: size, size })
    );
    assert_eq!(
        labels(&exact(&libc, "opneat")),
        format!("no-symbol: '{LIBC}' has no function 'opneat'; did you mean 'openat'?")
    );
    assert_eq!(at_offset(&libc, 0), Err(Refusal::NotExecutable { offset: 0 }));
    assert_eq!(at_offset(&libc, u64::MAX), Err(Refusal::NotExecutable { offset: u64::MAX }));
}

#[test]
fn file_offsets() {
    let libc = libc();
    let openat = one(exact(&libc, "openat"));
    let place = one(at_offset(&libc, openat.offset.0 + 4));
    assert_eq!(place.link, openat.link.add(4));
    assert_eq!(place.symbol_offset, 4);
    assert_eq!(place.bounds, openat.bounds);
    assert!(place.symbol.unwrap().contains("openat"));
}

#[test]
fn boundaries() {
    let libc = libc();
    let openat = one(exact(&libc, "openat")).bounds.unwrap();
    let starts: Vec<LinkAddr> = boundary::starts(&libc, &openat).map(Result::unwrap).collect();
    let mut last = openat.start;
    for at in openat.start.0..openat.end.0 {
        let at = LinkAddr(at);
        let verdict = boundary::check(&libc, at, &openat);
        if starts.contains(&at) {
            last = at;
            assert_eq!(verdict, Ok(()));
        } else {
            let offset = |link| libc.offset_of(link).unwrap().0;
            assert_eq!(verdict, Err(Refusal::NotABoundary { offset: offset(at), insn: offset(last) }));
        }
    }
    let data = libc.load_segments().iter().find(|s| s.writable).unwrap().link;
    assert_eq!(boundary::check(&libc, data, &openat).unwrap_err().code(), "not-executable");
}

#[test]
fn debug_file_of_libc() {
    let libc = libc();
    let own = parse(Path::new(LIBC)).functions(&NoFiles).len();
    let all = libc.functions(&StdFiles).len();
    // Only where the package with the debug file is installed are there more.
    if all == own {
        eprintln!("no debug file for libc here");
        return;
    }
    let all: Vec<_> = libc.functions(&StdFiles).to_vec();
    assert!(all.len() > own);
    let local = all.iter().find(|f| f.is_local && f.size > 16).unwrap();
    let name = libc.names(local).next().unwrap().to_owned();
    let fresh = self::libc();
    assert!(exact(&fresh, &name).unwrap().iter().any(|p| p.link == local.link), "{name}");
}
