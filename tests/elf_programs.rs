//! Places in small C and assembly programs, compiled here in every way that matters: static functions,
//! labels without size, stripped, with a separate debug file, fixed address, no section headers.

mod elf_support;

use std::path::{Path, PathBuf};

use elf_support::{
    FakeFiles, at_offset, directory, exact, exact_at, glob, labels, nm, one, parse, regex, run, write,
};
use uprobe::addr::LinkAddr;
use uprobe::elf::{BoundsFrom, ElfFile, ElfKind, NoFiles, SymbolKind, SymbolSource, boundary, resolve};
use uprobe::error::Refusal;
use uprobe::place::SymbolPattern;

const TWO_FILES: [(&str, &str); 2] = [
    (
        "a.c",
        "#include <stdio.h>
        int table[4] = {1, 2, 3, 4};
        __thread int counter;
        __attribute__((noinline)) static int twice(int x) { __asm__ volatile(\"\"); return x * 2; }
        __attribute__((noinline)) static int both(int x) { __asm__ volatile(\"\"); return x + 1; }
        int other(int);
        int main(int argc, char **argv) { counter = argc; return printf(\"%d\\n\", twice(argc) + both(argc) + other(argc)) < 0; }",
    ),
    (
        "b.c",
        "__attribute__((noinline)) static int twice(int x) { __asm__ volatile(\"\"); return x * 22; }
        __attribute__((noinline)) int both(int x) { __asm__ volatile(\"\"); return x + 11; }
        int other(int x) { return twice(x) + both(x); }",
    ),
];

fn program(test: &str, flags: &[&str]) -> PathBuf {
    let dir = directory(test);
    for (name, text) in TWO_FILES {
        write(&dir, name, text);
    }
    run(&dir, "gcc", &[&["-O2", "-g", "-o", "program", "a.c", "b.c"], flags].concat());
    dir.join("program")
}

fn addresses(file: &ElfFile, name: &str) -> Vec<u64> {
    exact(file, name).unwrap().iter().map(|p| p.link.0).collect()
}

#[test]
fn static_functions_of_one_name_are_all_meant() {
    let path = program("statics", &[]);
    let file = parse(&path);
    assert_eq!(file.kind(), ElfKind::Dyn);
    let twice = addresses(&file, "twice");
    assert_eq!(twice.len(), 2);
    assert_eq!(twice, nm(&path, "twice"));
}

#[test]
fn a_global_function_comes_before_static_ones() {
    for (test, flags) in [("global", &[][..]), ("global-exported", &["-rdynamic"])] {
        let path = program(test, flags);
        let file = parse(&path);
        let both = one(exact(&file, "both"));
        assert_eq!(nm(&path, "both").len(), 2);
        let function = file.functions(&NoFiles).iter().find(|f| f.link == both.link).unwrap();
        assert!(!function.is_local, "{test}");
    }
}

#[test]
fn variables_are_refused() {
    let file = parse(&program("variables", &[]));
    for name in ["table", "counter"] {
        assert_eq!(exact(&file, name), Err(Refusal::NotAFunction { symbol: name.into() }));
    }
    assert_eq!(labels(&glob(&file, "tabl*")).split(':').next(), Some("no-symbol"));
    assert_eq!(exact(&file, "printf").unwrap_err().code(), "no-symbol", "an import is no function of ours");
}

#[test]
fn every_instruction_of_a_function_and_nothing_between() {
    let file = parse(&program("offsets", &[]));
    let main = one(exact(&file, "main")).bounds.unwrap();
    let starts: Vec<u64> = boundary::starts(&file, &main).map(|start| start.unwrap().0).collect();
    for at in main.start.0..main.end.0 {
        let place = one(exact_at(&file, "main", at - main.start.0));
        let verdict = boundary::check(&file, place.link, &place.bounds.unwrap());
        assert_eq!(verdict.is_ok(), starts.contains(&at), "{at:x}: {verdict:?}");
    }
}

#[test]
fn fixed_address() {
    let path = program("no-pie", &["-no-pie"]);
    let file = parse(&path);
    assert_eq!(file.kind(), ElfKind::Exec);
    let main = one(exact(&file, "main"));
    assert_eq!(vec![main.link.0], nm(&path, "main"));
    assert!(main.link.0 >= 0x40_0000);
    assert!(main.offset.0 < 0x40_0000);
    assert_eq!(file.link_of(main.offset), Some(main.link));
    assert!(!file.is_static());
}

#[test]
fn statically_linked() {
    for (test, flags) in [("static", "-static"), ("static-pie", "-static-pie")] {
        let file = parse(&program(test, &[flags]));
        assert!(file.is_static(), "{test}");
        assert_eq!(file.interp(), None);
        one(exact(&file, "main"));
    }
    assert!(!parse(&program("dynamic", &[])).is_static());
}

#[test]
fn stripped_has_only_what_it_exports_and_frames() {
    let path = program("stripped", &["-rdynamic"]);
    let whole = parse(&path);
    let twice = exact(&whole, "twice").unwrap()[0].clone();
    run(path.parent().unwrap(), "strip", &["program"]);
    let file = parse(&path);
    one(exact(&file, "other"));
    assert_eq!(exact(&file, "twice").unwrap_err().code(), "no-symbol");
    let place = one(at_offset(&file, twice.offset.0));
    assert_eq!(place.symbol, None);
    let bounds = place.bounds.unwrap();
    assert_eq!(bounds.from, BoundsFrom::Fde);
    assert_eq!((bounds.start, bounds.end), (twice.link, twice.bounds.unwrap().end));
}

/// Splits the debug information off as distributions do.
fn split(path: &Path, link: bool) {
    let dir = path.parent().unwrap();
    run(dir, "objcopy", &["--only-keep-debug", "program", "program.debug"]);
    run(dir, "strip", &["program"]);
    if link {
        run(dir, "objcopy", &["--add-gnu-debuglink=program.debug", "program"]);
    }
}

#[test]
fn debug_file_beside_the_program() {
    for (test, flag) in [("link-id", "-Wl,--build-id"), ("link-crc", "-Wl,--build-id=none")] {
        let path = program(test, &[flag]);
        let expected = nm(&path, "twice");
        split(&path, true);
        let file = parse(&path);
        assert_eq!(file.build_id().is_some(), test == "link-id");
        assert_eq!(addresses(&file, "twice"), expected, "{test}");
        assert!(file.functions(&NoFiles).iter().any(|f| f.source == SymbolSource::Debug));
        let place = one(at_offset(&file, exact(&file, "twice").unwrap()[0].offset.0 + 1));
        assert_eq!((place.symbol.as_deref(), place.symbol_offset), (Some("twice"), 1));

        // In .debug/ below, too.
        let dir = path.parent().unwrap();
        std::fs::create_dir(dir.join(".debug")).unwrap();
        std::fs::rename(dir.join("program.debug"), dir.join(".debug/program.debug")).unwrap();
        assert_eq!(addresses(&parse(&path), "twice"), expected, "{test}");
    }
}

#[test]
fn a_debug_file_of_another_build_is_not_believed() {
    for (test, flag) in [("stale-id", "-Wl,--build-id"), ("stale-crc", "-Wl,--build-id=none")] {
        let path = program(test, &[flag]);
        split(&path, true);
        let other = program(&format!("{test}-other"), &["-O1", flag]);
        split(&other, false);
        let name = "program.debug";
        std::fs::copy(other.parent().unwrap().join(name), path.parent().unwrap().join(name)).unwrap();
        assert_eq!(exact(&parse(&path), "twice").unwrap_err().code(), "no-symbol", "{test}");
    }
}

#[test]
fn debug_file_by_build_id_is_opened_only_when_needed() {
    let path = program("build-id", &["-Wl,--build-id", "-rdynamic"]);
    let expected = nm(&path, "twice");
    split(&path, false);
    let file = parse(&path);
    let id: Vec<String> = file.build_id().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    let wanted = PathBuf::from(format!("/usr/lib/debug/.build-id/{}/{}.debug", id[0], id[1..].concat()));
    let files =
        FakeFiles { files: [(wanted.clone(), path.with_extension("debug"))].into(), ..FakeFiles::default() };
    let ask = |pattern: SymbolPattern| resolve(&elf_support::symbol(pattern, 0), &file, &files);
    one(ask(SymbolPattern::Exact("other".into())));
    assert_eq!(*files.opened.lock().unwrap(), [""; 0].map(PathBuf::from));
    let found: Vec<u64> =
        ask(SymbolPattern::Exact("twice".into())).unwrap().iter().map(|p| p.link.0).collect();
    assert_eq!(found, expected);
    assert_eq!(*files.opened.lock().unwrap(), [wanted]);
    assert_eq!(ask(SymbolPattern::Glob("twic?".into())).unwrap().len(), 2);
    assert_eq!(files.opened.lock().unwrap().len(), 1, "read once");
}

#[test]
fn debug_link_is_looked_for_where_gdb_does() {
    let path = program("link-places", &["-Wl,--build-id=none"]);
    split(&path, true);
    let dir = path.parent().unwrap();
    let files = FakeFiles::default();
    let refusal =
        resolve(&elf_support::symbol(SymbolPattern::Exact("twice".into()), 0), &parse(&path), &files);
    assert_eq!(refusal.unwrap_err().code(), "no-symbol");
    let expected = [
        dir.join("program.debug"),
        dir.join(".debug/program.debug"),
        Path::new("/usr/lib/debug").join(dir.strip_prefix("/").unwrap()).join("program.debug"),
    ];
    assert_eq!(*files.opened.lock().unwrap(), expected);
}

/// What `sstrip` does: no section headers, so no names of sections.
fn without_section_headers(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[40..48].fill(0);
    bytes[58..64].fill(0);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn no_section_headers() {
    for (test, hash) in [("sstrip-gnu", "gnu"), ("sstrip-sysv", "sysv"), ("sstrip-both", "both")] {
        let path = program(test, &["-rdynamic", &format!("-Wl,--hash-style={hash}")]);
        let whole = parse(&path);
        let twice = exact(&whole, "twice").unwrap()[0].clone();
        let other = one(exact(&whole, "other"));
        without_section_headers(&path);
        let file = parse(&path);
        assert_eq!(one(exact(&file, "other")), other, "{test}");
        assert_eq!(exact(&file, "twice").unwrap_err().code(), "no-symbol");
        let bounds = file.bounds_at(twice.link).unwrap();
        assert_eq!((bounds.start, bounds.end), (twice.link, twice.bounds.unwrap().end));
        assert_eq!(file.needed().collect::<Vec<_>>(), whole.needed().collect::<Vec<_>>());
        assert_eq!(file.build_id(), whole.build_id());
    }
}

#[test]
fn libc_without_section_headers() {
    let path = directory("sstrip-libc").join("libc.so.6");
    std::fs::copy(elf_support::LIBC, &path).unwrap();
    without_section_headers(&path);
    let (whole, file) = (parse(Path::new(elf_support::LIBC)), parse(&path));
    for name in ["openat", "memcpy", "memcpy@GLIBC_2.2.5", "strlen"] {
        assert_eq!(exact(&file, name), exact(&whole, name));
    }
    assert_eq!(file.functions(&NoFiles).len(), whole.functions(&NoFiles).len());
}

const ASSEMBLY: &str = "
    .globl sized, unsized, untyped, last, framed
    .section .text.asm, \"ax\"
    .type sized, @function
sized:
    nop
    ret
    .size sized, . - sized
    .type unsized, @function
unsized:
    xor %eax, %eax
local_label:
    ret
untyped:
    mov $1, %eax
    ret
    .type framed, @function
framed:
    .cfi_startproc
    push %rax
    .cfi_adjust_cfa_offset 8
    pop %rax
    ret
    .cfi_endproc
    .type table_in_text, @object
table_in_text:
    .quad 1
    .size table_in_text, 8
    .type last, @function
last:
    nop
    ret
    .section .note.GNU-stack, \"\", @progbits
";

#[test]
fn assembly_without_sizes() {
    let dir = directory("assembly");
    write(&dir, "asm.s", ASSEMBLY);
    write(&dir, "main.c", "int main(void) { return 0; }");
    run(&dir, "gcc", &["-o", "program", "main.c", "asm.s"]);
    let file = parse(&dir.join("program"));
    let extent = |name: &str| {
        let place = one(exact(&file, name));
        let bounds = place.bounds.unwrap();
        (place.link.0 - bounds.start.0, bounds.end.0 - bounds.start.0, bounds.from)
    };
    assert_eq!(extent("sized"), (0, 2, BoundsFrom::Symbol));
    // Up to the next label: a longer one would only be a guess.
    assert_eq!(extent("unsized"), (0, 2, BoundsFrom::Symbol));
    assert_eq!(extent("local_label"), (0, 1, BoundsFrom::Symbol));
    assert_eq!(extent("untyped"), (0, 6, BoundsFrom::Symbol));
    assert_eq!(extent("framed"), (0, 3, BoundsFrom::Fde));
    let last = one(exact(&file, "last")).bounds.unwrap();
    let section_end = file.bounds_at(last.start).unwrap().end;
    assert_eq!(last.end, section_end);
    assert_eq!(exact(&file, "table_in_text"), Err(Refusal::NotAFunction { symbol: "table_in_text".into() }));
    // A glob doesn't mean local labels.
    assert_eq!(
        labels(&regex(&file, "^(sized|unsized|untyped|local_label|table_in_text)$")),
        "sized | unsized | untyped"
    );
    assert_eq!(file.symbolize(one(exact(&file, "untyped")).link.add(5)), Some(("untyped", 5)));
}

const DATA_IN_TEXT: &str = "
    .globl f, main
    .text
    .type f, @function
f:
    nop
    jmp 1f
    .byte 0x06, 0x0e, 0x16
1:  ret
    .size f, . - f
    .type g, @function
    .globl g
g:
    ret
    .byte 0x06
    .size g, . - g
    .type h, @function
    .globl h
h:
    ret
    .ascii \"one two three\"
    .size h, . - h
main:
    xor %eax, %eax
    ret
    .section .note.GNU-stack, \"\", @progbits
";

#[test]
fn data_in_text() {
    let dir = directory("data-in-text");
    write(&dir, "data.s", DATA_IN_TEXT);
    run(&dir, "gcc", &["-o", "program", "data.s"]);
    let file = parse(&dir.join("program"));
    let check = |name: &str, offset: u64| {
        let place = one(exact_at(&file, name, offset));
        boundary::check(&file, place.link, &place.bounds.unwrap())
    };
    let f = one(exact(&file, "f")).offset.0;
    assert_eq!(check("f", 0), Ok(()));
    assert_eq!(check("f", 1), Ok(()));
    assert_eq!(check("f", 2), Err(Refusal::NotABoundary { offset: f + 2, insn: f + 1 }));
    assert_eq!(check("f", 6), Err(Refusal::DataInText { offset: f + 3 }));
    let undecodable = check("g", 1).unwrap_err();
    assert!(matches!(&undecodable, Refusal::Undecodable { bytes } if bytes[0] == 0x06), "{undecodable}");
    assert_eq!(check("h", 4).unwrap_err().code(), "data-in-text");
}

const VERSIONED: &str = "
    int old(void) { return 1; }
    int older(void) { return 2; }
    int newest(void) { return 3; }
    int gone1(void) { return 4; }
    int gone2(void) { return 5; }
    int single(void) { return 6; }
    __asm__(\".symver old, answer@V_1\");
    __asm__(\".symver older, answer@V_2\");
    __asm__(\".symver newest, answer@@V_3\");
    __asm__(\".symver gone1, gone@V_1\");
    __asm__(\".symver gone2, gone@V_2\");
    __asm__(\".symver single, only@V_1\");";

#[test]
fn symbol_versions() {
    let dir = directory("versions");
    write(&dir, "v.c", VERSIONED);
    write(
        &dir,
        "v.map",
        "V_1 { local: old; older; newest; gone1; gone2; single; }; V_2 { } V_1; V_3 { } V_2;",
    );
    run(&dir, "gcc", &["-O2", "-shared", "-fPIC", "-o", "libv.so", "v.c", "-Wl,--version-script=v.map"]);
    let path = dir.join("libv.so");
    // The same from .dynsym with its versions and, in .symtab, from the names.
    for stripped in [false, true] {
        if stripped {
            run(&dir, "strip", &["libv.so"]);
        }
        let file = parse(&path);
        let default = one(exact(&file, "answer"));
        assert_eq!(default, one(exact(&file, "answer@@V_3")));
        assert_eq!(default, one(exact(&file, "answer@V_3")));
        assert_ne!(default.link, one(exact(&file, "answer@V_1")).link);
        assert_ne!(one(exact(&file, "answer@V_1")).link, one(exact(&file, "answer@V_2")).link);
        assert_eq!(exact(&file, "answer@@V_1").unwrap_err().code(), "no-symbol");
        assert_eq!(
            exact(&file, "gone"),
            Err(Refusal::AmbiguousSymbol {
                symbol: "gone".into(),
                candidates: vec!["gone@V_1".into(), "gone@V_2".into()]
            })
        );
        one(exact(&file, "gone@V_2"));
        assert_eq!(one(exact(&file, "only")), one(exact(&file, "only@V_1")));
        assert_eq!(glob(&file, "answer").unwrap().len(), 3);
    }
}

#[test]
fn an_ifunc_of_a_program() {
    let dir = directory("ifunc");
    write(
        &dir,
        "i.c",
        "static int a(void) { return 1; }
        static int (*choose(void))(void) { return a; }
        int chosen(void) __attribute__((ifunc(\"choose\")));
        int main(void) { return chosen(); }",
    );
    run(&dir, "gcc", &["-O1", "-o", "program", "i.c"]);
    let file = parse(&dir.join("program"));
    let chosen = one(exact(&file, "chosen"));
    assert!(chosen.ifunc);
    assert_eq!(vec![chosen.link.0], nm(&dir.join("program"), "choose"));
    let function = file.functions(&NoFiles).iter().find(|f| f.link == chosen.link).unwrap();
    assert_eq!(function.kind, SymbolKind::Ifunc);
    assert!(!one(exact(&file, "choose")).ifunc, "the resolver by its own name is a function");
}

#[test]
fn the_plt_is_a_function_by_its_frame() {
    let path = program("plt", &[]);
    let file = parse(&path);
    let text = run(path.parent().unwrap(), "objdump", &["-d", "-j", ".plt", "program"]);
    let plt =
        text.lines().find_map(|l| l.strip_suffix(":")?.split_once(" <")?.0.parse::<String>().ok()).unwrap();
    let plt = LinkAddr(u64::from_str_radix(&plt, 16).unwrap());
    assert_eq!(file.bounds_at(plt).map(|b| (b.start, b.from)), Some((plt, BoundsFrom::Fde)));
}

#[test]
fn compilers_copies_are_named_to_who_asks_for_the_original() {
    let dir = directory("clones");
    write(
        &dir,
        "c.c",
        "#include <stdlib.h>
        __attribute__((noinline)) static int work(int x, int unused) { if (x == 7) abort(); return x * rand(); }
        int main(int argc, char **argv) { return work(argc, 1) + work(argc + 1, 1); }",
    );
    run(&dir, "gcc", &["-O2", "-o", "program", "c.c"]);
    let file = parse(&dir.join("program"));
    match exact(&file, "work") {
        Ok(_) => {}
        Err(refusal) => {
            assert!(refusal.to_string().contains("did you mean 'work."), "{refusal}");
            let places = labels(&glob(&file, "work*"));
            assert!(!places.contains(".cold"), "{places}");
        }
    }
}

#[test]
fn data_in_the_executable_segment_is_not_executable() {
    let path = program("noseparate-code", &["-Wl,-z,noseparate-code"]);
    let file = parse(&path);
    let text = run(path.parent().unwrap(), "readelf", &["-SW", "program"]);
    let rodata = text.lines().find(|line| line.contains(" .rodata ")).unwrap();
    let words: Vec<&str> = rodata.split_once(".rodata").unwrap().1.split_whitespace().collect();
    let offset = u64::from_str_radix(words[2], 16).unwrap();
    let main = one(exact(&file, "main"));
    let segment = *file.load_segments().iter().find(|s| s.executable).unwrap();
    assert!(
        segment.offset.0 <= offset && offset < segment.offset.0 + segment.file_size,
        "shares the segment"
    );
    assert!(main.offset.0 < segment.offset.0 + segment.file_size);
    assert_eq!(at_offset(&file, offset), Err(Refusal::NotExecutable { offset }));
}
