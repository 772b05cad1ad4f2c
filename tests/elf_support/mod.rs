//! Compiling small programs and asking the resolver about them.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use uprobe::elf::{ElfFile, FileBytes, FileSource, Resolved, StdFiles, resolve};
use uprobe::error::Refusal;
use uprobe::place::{ObjectPattern, Place, SymbolPattern, Target};

pub const LIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";

/// An empty directory for one test.
pub fn directory(test: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("elf").join(test);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Runs a tool in `dir`; its standard output.
pub fn run(dir: &Path, tool: &str, args: &[&str]) -> String {
    let output = Command::new(tool).args(args).current_dir(dir).env("LC_ALL", "C").output();
    let output = output.unwrap_or_else(|error| panic!("{tool}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {args:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
}

pub fn parse(path: &Path) -> ElfFile {
    ElfFile::open(path, &StdFiles).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn symbol(pattern: SymbolPattern, offset: u64) -> Place {
    Place { object: ObjectPattern::Exe, target: Target::Symbol { pattern, offset } }
}

pub fn exact(file: &ElfFile, name: &str) -> Result<Vec<Resolved>, Refusal> {
    resolve(&symbol(SymbolPattern::Exact(name.into()), 0), file, &StdFiles)
}

pub fn exact_at(file: &ElfFile, name: &str, offset: u64) -> Result<Vec<Resolved>, Refusal> {
    resolve(&symbol(SymbolPattern::Exact(name.into()), offset), file, &StdFiles)
}

pub fn glob(file: &ElfFile, pattern: &str) -> Result<Vec<Resolved>, Refusal> {
    resolve(&symbol(SymbolPattern::Glob(pattern.into()), 0), file, &StdFiles)
}

pub fn regex(file: &ElfFile, pattern: &str) -> Result<Vec<Resolved>, Refusal> {
    resolve(&symbol(SymbolPattern::Regex(pattern.into()), 0), file, &StdFiles)
}

pub fn at_offset(file: &ElfFile, offset: u64) -> Result<Vec<Resolved>, Refusal> {
    let place = Place { object: ObjectPattern::Exe, target: Target::FileOffset(offset) };
    resolve(&place, file, &StdFiles)
}

/// The only place.
pub fn one(places: Result<Vec<Resolved>, Refusal>) -> Resolved {
    let places = places.unwrap_or_else(|refusal| panic!("{refusal}"));
    assert_eq!(places.len(), 1, "{places:x?}");
    places.into_iter().next().unwrap()
}

/// The symbols of the places, in their order, as a line.
pub fn labels(places: &Result<Vec<Resolved>, Refusal>) -> String {
    match places {
        Ok(places) => {
            let names: Vec<&str> = places.iter().map(|p| p.symbol.as_deref().unwrap_or("?")).collect();
            names.join(" | ")
        }
        Err(refusal) => refusal.to_string(),
    }
}

/// The same, sorted: for where the linker chooses the order.
pub fn sorted_labels(places: &Result<Vec<Resolved>, Refusal>) -> String {
    let labels = labels(places);
    let mut names: Vec<&str> = labels.split(" | ").collect();
    names.sort_unstable();
    names.join(" | ")
}

/// `nm`'s view: all addresses of a name in `.symtab` or `.dynsym`, sorted.
pub fn nm(path: &Path, name: &str) -> Vec<u64> {
    let mut addresses = Vec::new();
    for flags in [&["-P"][..], &["-P", "-D"]] {
        let output = Command::new("nm").args(flags).arg(path).output().unwrap();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let mut words = line.split(' ');
            let (Some(symbol), Some(_), Some(address)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            if symbol.split('@').next() == Some(name)
                && let Ok(address) = u64::from_str_radix(address, 16)
            {
                addresses.push(address);
            }
        }
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Files under other names than they have on disk.
#[derive(Default)]
pub struct FakeFiles {
    pub files: HashMap<PathBuf, PathBuf>,
    pub opened: std::sync::Mutex<Vec<PathBuf>>,
}

impl FileSource for FakeFiles {
    fn open(&self, path: &Path) -> Option<FileBytes> {
        self.opened.lock().unwrap().push(path.to_path_buf());
        StdFiles.open(self.files.get(path)?)
    }
}
