//! Compiles the programs of `tests/programs`, once per content, compiler and flags.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::launch::only_int3;

/// Who compiles. C++ sources (`.cpp`) go to the C++ driver of the same family, Rust (`.rs`) to rustc.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Compiler {
    Gcc,
    Clang,
}

impl Compiler {
    pub const BOTH: [Self; 2] = [Self::Gcc, Self::Clang];

    fn driver(self, source: &Path) -> &'static str {
        if is_rust(source) {
            return "rustc";
        }
        let cplusplus = source.extension() == Some(OsStr::new("cpp"));
        match (self, cplusplus) {
            (Self::Gcc, false) => "gcc",
            (Self::Gcc, true) => "g++",
            (Self::Clang, false) => "clang",
            (Self::Clang, true) => "clang++",
        }
    }

    /// The compilers that are installed. One that is not is named loudly: a run without it
    /// shows less than it seems to (`.ci/run` installs both).
    pub fn installed() -> Vec<Self> {
        Self::BOTH.into_iter().filter(|c| require_command(c.driver(Path::new("x.c")))).collect()
    }
}

/// A program to be compiled.
#[derive(Clone, Debug)]
pub struct Program {
    source: PathBuf,
    compiler: Compiler,
    flags: Vec<String>,
    libs: Vec<String>,
    file_name: Option<String>,
}

impl Program {
    /// `tests/programs/NAME`, with gcc at -O1 and -pthread.
    pub fn new(name: &str) -> Self {
        Self::at(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(name))
    }

    /// A source anywhere.
    pub fn at(source: impl Into<PathBuf>) -> Self {
        Self {
            source: source.into(),
            compiler: Compiler::Gcc,
            flags: vec!["-O1".into()],
            libs: Vec::new(),
            file_name: None,
        }
    }

    pub fn compiler(mut self, compiler: Compiler) -> Self {
        self.compiler = compiler;
        self
    }

    /// Adds a compiler flag.
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// Adds an argument after the source: a library.
    pub fn lib(mut self, lib: impl fmt::Display) -> Self {
        self.libs.push(lib.to_string());
        self
    }

    /// Makes a shared object called `file_name`.
    pub fn shared(mut self, file_name: &str) -> Self {
        self.flags.extend(["-shared".into(), "-fPIC".into()]);
        self.file_name = Some(file_name.into());
        self
    }

    fn c_args(&self, driver: &str) -> Vec<String> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut args: Vec<String> =
            ["-g", "-pthread", "-Wall", "-Wextra", "-Werror"].map(String::from).into();
        if driver.ends_with("++") {
            args.push("-std=c++17".into());
        } else {
            args.push("-std=gnu11".into());
        }
        args.push(format!("-I{}", manifest.join("include").display()));
        args.push(format!("-I{}", manifest.join("tests/programs").display()));
        let int3 = manifest.join("tests/programs/int3.h");
        if only_int3() {
            args.extend(["-include".into(), int3.display().to_string()]);
        }
        args.extend(self.flags.iter().cloned());
        args.push(self.source.display().to_string());
        args.extend(self.libs.iter().cloned());
        if self.file_name.is_none() {
            // Symbols the plugins and the tests look up by dlsym.
            args.push("-rdynamic".into());
        }
        args.push("-ldl".into());
        args
    }

    /// Flags are gcc's words everywhere, except that -O1 and -O2 are put into rustc's.
    fn rust_args(&self) -> Vec<String> {
        let mut args: Vec<String> = ["--edition", "2024", "-g", "-D", "warnings"].map(String::from).into();
        let level = self.flags.iter().rev().find_map(|flag| flag.strip_prefix("-O")).unwrap_or("1");
        args.extend(["-C".into(), format!("opt-level={level}"), self.source.display().to_string()]);
        args
    }

    /// Compiles, unless that was done before, and returns the path of the result.
    pub fn build(&self) -> PathBuf {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let driver = self.compiler.driver(&self.source);
        let args = if is_rust(&self.source) { self.rust_args() } else { self.c_args(driver) };

        let mut hash = DefaultHasher::new();
        (driver, &args, read(&self.source)).hash(&mut hash);
        read(&manifest.join("include/uprobe.h")).hash(&mut hash);
        for header in headers(&manifest.join("tests/programs")) {
            read(&header).hash(&mut hash);
        }
        if let Some(own) = self.source.parent() {
            headers(own).iter().for_each(|header| read(header).hash(&mut hash));
        }
        // One that is C to C and C++ to C++.
        if driver.ends_with("++") && self.source.with_extension("c").exists() {
            read(&self.source.with_extension("c")).hash(&mut hash);
        }
        let stem = self.source.file_stem().expect("a source has a name").to_string_lossy();
        let dir = target_tmp().join("programs").join(format!("{stem}-{:016x}", hash.finish()));
        let result = dir.join(self.file_name.as_deref().unwrap_or(&stem));
        if result.exists() {
            return result;
        }
        fs::create_dir_all(&dir).expect("the target directory is ours");
        // Several tests may build the same at once: the first stays, since a file that changes under
        // a running test would be another object.
        // rustc puts its objects beside its result, by the source's name.
        let own = dir.join(format!("new.{}.{}", std::process::id(), next()));
        fs::create_dir_all(&own).expect("the target directory is ours");
        let fresh = own.join("program");
        let output = Command::new(driver)
            .args(&args)
            .arg("-o")
            .arg(&fresh)
            .output()
            .unwrap_or_else(|e| panic!("{driver} can't be run: {e}"));
        assert!(
            output.status.success(),
            "{driver} {}\n{}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        if let Err(error) = fs::hard_link(&fresh, &result) {
            assert!(result.exists(), "{}: {error}", result.display());
        }
        let _ = fs::remove_dir_all(&own);
        result
    }
}

/// The headers in a folder.
fn headers(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension() == Some(OsStr::new("h")))
        .collect();
    found.sort();
    found
}

fn is_rust(source: &Path) -> bool {
    source.extension() == Some(OsStr::new("rs"))
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn target_tmp() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

fn next() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A fresh directory; the caller removes it, or leaves it to be looked at.
pub fn scratch(what: &str) -> PathBuf {
    let dir = target_tmp().join("run").join(format!("{what}-{}-{}", std::process::id(), next()));
    fs::create_dir_all(&dir).expect("the target directory is ours");
    dir
}

/// Whether `name` is found in PATH.
pub fn has_command(name: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}

/// As [`has_command`]; says so loudly where it is missing.
pub fn require_command(name: &str) -> bool {
    let found = has_command(name) || Path::new(name).is_file();
    if !found {
        eprintln!("\n******** SKIPPED: '{name}' is not installed, what needs it was not tested ********\n");
    }
    found
}

/// Our own `uprobe` command.
pub fn own_command() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_uprobe"))
}
