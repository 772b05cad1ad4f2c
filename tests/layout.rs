//! The import rule: modules use only what stands below them. With it `check` and `list` give the
//! same reasons as the runtime, from the same code, and what runs at a hit can't reach what must not
//! run there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Used by everybody, using nobody.
const LEAVES: [&str; 8] = ["addr", "error", "few", "place", "regs", "syntax", "sys", "thin"];

/// Each module with what it may use besides the leaves.
const ALLOWED: [(&str, &[&str]); 13] = [
    // The reasons that instructions give.
    ("error", &["insn"]),
    ("insn", &[]),
    ("unwind", &[]),
    ("elf", &[]),
    // The record a fetch writes into is a leaf of its own.
    ("fetch", &["trace::record"]),
    ("trace", &["fetch"]),
    ("config", &["fetch"]),
    ("hit", &["fetch", "trace", "insn", "unwind"]),
    ("code", &["hit", "insn"]),
    ("probe", &["config", "elf", "insn", "code", "fetch", "hit"]),
    ("runtime", &["probe", "code", "config", "elf", "insn", "hit", "trace"]),
    ("capi", &["runtime", "probe", "hit"]),
    // The table of what can't be followed is a leaf of its own.
    ("cli", &["config", "elf", "insn", "fetch", "trace", "probe::denied"]),
];

/// What names a thing that must not happen at a hit.
const FORBIDDEN_AT_A_HIT: [&str; 12] = [
    "println!",
    "eprintln!",
    "format!",
    "vec!",
    "Box::new",
    "String::new",
    "String::from",
    "Mutex",
    "RwLock",
    ".unwrap()",
    ".expect(",
    "panic!",
];

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a source folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
    files
}

/// The code of a file: no comments, and nothing from its tests on. A file of tests has none.
fn code(path: &Path) -> String {
    if path.ends_with("tests.rs") {
        return String::new();
    }
    let text = std::fs::read_to_string(path).expect("a source file");
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Every `crate::a::b` with its first two names, braces after `crate::` and `crate::a::` resolved.
fn uses(text: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_' || c.is_ascii_digit()).collect()
    };
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let first = word(rest);
        let second = rest.get(first.len()..).and_then(|rest| rest.strip_prefix("::")).map(word);
        match second {
            Some(second) if !second.is_empty() => found.insert(format!("{first}::{second}")),
            _ => found.insert(first),
        };
    }
    found
}

#[test]
fn modules_import_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for path in rust_files(&src) {
        let inside = path.strip_prefix(&src).expect("below src");
        let module = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
        let module = module.trim_end_matches(".rs");
        if matches!(module, "lib" | "main") || inside.to_string_lossy().contains("tests") {
            continue;
        }
        let may: &[&str] = allowed.get(module).copied().unwrap_or(&[]);
        for used in uses(&code(&path)) {
            seen += 1;
            let top = used.split("::").next().unwrap_or_default();
            let known = src.join(top).is_dir() || src.join(format!("{top}.rs")).is_file();
            let fine = !known
                || top == module
                || (LEAVES.contains(&top) && module != "sys")
                || may.contains(&top)
                || may.contains(&used.as_str());
            if !fine {
                wrong.push(format!("{}: {module} must not use {used}", inside.display()));
            }
        }
    }
    assert!(seen > 100, "the scan found only {seen} imports: it does not see the code any more");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn hit_path_names_no_allocation_lock_or_panic() {
    let hit = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/hit");
    let mut wrong = Vec::new();
    for path in rust_files(&hit) {
        for (number, line) in code(&path).lines().enumerate() {
            for name in FORBIDDEN_AT_A_HIT.iter().filter(|name| line.contains(**name)) {
                // Growing the table is registration's work, under its lock.
                if path.ends_with("address_table.rs") && line.contains("Box::leak") {
                    continue;
                }
                wrong.push(format!("{} (code line {}): {name}", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The compiler calls these; they must be our own hidden ones (`sys::string`), or a probe on libc's would
/// be hit from inside every hit.
#[test]
fn library_does_not_import_memcpy() {
    let library = std::env::current_exe().expect("own path").with_file_name("libuprobe.so");
    let imports = imports(&library);
    assert!(imports.iter().any(|name| name == "dl_iterate_phdr"), "{imports:?}");
    for name in ["memcpy", "memmove", "memset", "memcmp", "bcmp", "strlen"] {
        assert!(!imports.iter().any(|import| import == name), "{name} is imported from libc");
    }
}

/// The undefined names in .dynsym.
fn imports(library: &Path) -> Vec<String> {
    use object::{Object, ObjectSymbol};
    let bytes = std::fs::read(library).expect("readable");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    file.dynamic_symbols()
        .filter(|symbol| symbol.is_undefined())
        .filter_map(|symbol| symbol.name().ok().map(str::to_owned))
        .collect()
}
