//! The program to be probed: found as a shell finds it, and refused with a reason where
//! the library could not be loaded into it.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::process;

/// A program that can be started with the library in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// The file to execute.
    pub path: PathBuf,
    /// Its arguments, the name first.
    pub argv: Vec<OsString>,
    /// The ELF file that runs: `path`, the interpreter of a script, or what the dynamic loader is told to run.
    pub image: PathBuf,
    /// The dynamic loader of `image` (PT_INTERP).
    pub loader: PathBuf,
}

/// Why a program isn't started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotRunnable {
    /// 127: not found, 126: can't be run with probes.
    pub status: u8,
    /// A sentence.
    pub message: String,
    /// Another, of what to do; or nothing.
    pub advice: &'static str,
}

/// What the first bytes of a file say it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Image {
    /// An x86-64 program with this dynamic loader.
    Dynamic { loader: PathBuf },
    /// The dynamic loader itself, run as a program.
    Loader,
    /// `#!`: interpreter and its argument.
    Script { interpreter: PathBuf, argument: Option<OsString> },
    /// No known format: as `execvp` does, given to the shell.
    Plain,
    /// Can't be probed: the reason, to follow "the program".
    Unfit(String),
}

/// Scripts whose interpreter is a script, and so on: the kernel's own limit.
const MOST_INTERPRETERS: usize = 4;
/// The kernel reads this much of a `#!` line.
const SCRIPT_LINE: usize = 256;
/// Program headers are looked for in this much of the file.
const HEAD: u64 = 64 * 1024;

/// Finds the program `name` stands for and looks at it.
///
/// # Errors
/// Not found, not executable, or of a kind the library can't be loaded into.
pub fn find(name: &OsStr, args: &[OsString], search: Option<&OsStr>) -> Result<Program, NotRunnable> {
    let path = which(name, search)?;
    let mut argv = vec![name.to_os_string()];
    argv.extend_from_slice(args);
    follow(path, argv, search)
}

/// Follows `#!` until there is an ELF file.
fn follow(path: PathBuf, mut argv: Vec<OsString>, search: Option<&OsStr>) -> Result<Program, NotRunnable> {
    let mut start = path.clone();
    let mut image = path;
    for _ in 0..=MOST_INTERPRETERS {
        secure_execution(&image)?;
        match inspect(&head_of(&image)?) {
            Image::Dynamic { loader } => {
                if !is_glibc_loader(&loader) {
                    return Err(unfit(
                        &image,
                        &format!("is linked for the loader {}, not for glibc's", loader.display()),
                    ));
                }
                return Ok(Program { path: start, argv, image, loader });
            }
            Image::Loader if is_glibc_loader(&image) => {
                let loader = image;
                let image = program_of_loader(&argv).unwrap_or_else(|| loader.clone());
                return Ok(Program { path: start, argv, image, loader });
            }
            Image::Loader => return Err(unfit(&image, STATIC)),
            Image::Unfit(why) => return Err(unfit(&image, &why)),
            Image::Plain => {
                argv.splice(..1, [OsString::from("sh"), image.into_os_string()]);
                start = PathBuf::from("/bin/sh");
                image = start.clone();
            }
            Image::Script { interpreter, argument } => {
                // `env` would be a process of its own, in which `exe` is not what is meant.
                let through_env = interpreter.file_name() == Some(OsStr::new("env"));
                match argument {
                    Some(name) if through_env && is_plain_word(&name) && start == image => {
                        image = which(&name, search)?;
                        argv.splice(..1, [name, start.into_os_string()]);
                        start = image.clone();
                    }
                    _ => image = interpreter,
                }
            }
        }
    }
    Err(unfit(&image, "is a script whose interpreters are scripts, too many of them"))
}

/// Options of the dynamic loader's that are followed by a word.
const LOADER_OPTIONS: [&str; 7] = [
    "--library-path",
    "--glibc-hwcaps-prepend",
    "--glibc-hwcaps-mask",
    "--inhibit-rpath",
    "--audit",
    "--preload",
    "--argv0",
];

/// The program that the loader is to run, `ld.so [OPTION]... PROGRAM`, where it is one that can be found without the
/// loader's search path.
fn program_of_loader(argv: &[OsString]) -> Option<PathBuf> {
    let mut words = argv.iter().skip(1);
    while let Some(word) = words.next() {
        if LOADER_OPTIONS.iter().any(|option| word == option) {
            words.next();
        } else if !word.as_bytes().starts_with(b"--") {
            let head = head_of(Path::new(word)).ok()?;
            return matches!(inspect(&head), Image::Dynamic { .. }).then(|| PathBuf::from(word));
        }
    }
    None
}

const STATIC: &str = "is statically linked: it has no dynamic loader that could load libuprobe.so";

fn unfit(path: &Path, why: &str) -> NotRunnable {
    let advice = ADVICE.iter().find(|(part, _)| why.contains(part)).map_or("", |(_, advice)| advice);
    NotRunnable { status: 126, message: format!("{}: {why}", path.display()), advice }
}

/// What to do, by what the reason says.
const ADVICE: [(&str, &str); 9] = [
    (
        "statically linked",
        "Link it dynamically, against glibc (for Go: -linkmode=external, for Rust: a -gnu target).",
    ),
    ("not for glibc's", "Build it against glibc; programs of musl, bionic and the like have another loader."),
    ("32-bit", "Build it for x86-64 (gcc -m64)."),
    ("another architecture", "Run libuprobe where the program runs: there is only x86-64 yet."),
    (
        "set-user-id",
        "Run it as the user it belongs to (sudo -u OWNER uprobe run ...), or probe a copy without the bit.",
    ),
    ("set-group-id", "Run it in its own group (sg GROUP), or probe a copy without the bit."),
    ("file capabilities", "Run it as root, or probe a copy, which has none."),
    ("not executable", "chmod +x makes it so, if it is a program."),
    ("damaged", "Build or install it again."),
];

/// A name after `#!/usr/bin/env`, not an option or an assignment.
fn is_plain_word(word: &OsStr) -> bool {
    let bytes = word.as_bytes();
    !bytes.starts_with(b"-") && !bytes.iter().any(|b| matches!(b, b'=' | b' ' | b'\t'))
}

fn is_glibc_loader(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"ld-linux-x86-64.so"))
}

/// As `execvp` searches: a name with a slash is a path, an empty element is `.`.
///
/// # Errors
/// 127 where nothing of the name exists, 126 where it can't be executed.
pub fn which(name: &OsStr, search: Option<&OsStr>) -> Result<PathBuf, NotRunnable> {
    let shown = name.to_string_lossy();
    let not_found = || NotRunnable {
        status: 127,
        message: format!("{shown}: command not found"),
        advice: "Give its path, or add its directory to PATH.",
    };
    if name.is_empty() {
        return Err(not_found());
    }
    if name.as_bytes().contains(&b'/') {
        return match std::fs::metadata(name) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(NotRunnable { status: 127, message: format!("{shown}: no such file"), advice: "" })
            }
            Err(error) => Err(NotRunnable { status: 126, message: format!("{shown}: {error}"), advice: "" }),
            Ok(meta) if meta.is_dir() => Err(unfit(Path::new(name), "is a directory")),
            Ok(_) if is_executable(Path::new(name)) => Ok(PathBuf::from(name)),
            Ok(_) => Err(unfit(Path::new(name), "is not executable")),
        };
    }
    let mut seen = None;
    for dir in std::env::split_paths(search.unwrap_or(OsStr::new("/bin:/usr/bin"))) {
        let path = if dir.as_os_str().is_empty() { Path::new(".").join(name) } else { dir.join(name) };
        if !path.is_file() {
            continue;
        }
        if is_executable(&path) {
            return Ok(path);
        }
        seen.get_or_insert(path);
    }
    Err(seen.map_or_else(not_found, |path| unfit(&path, "is not executable")))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && CString::new(path.as_os_str().as_bytes()).is_ok_and(|c| process::can_execute(&c))
}

/// Where running the file changes who we are, the loader ignores LD_PRELOAD.
fn secure_execution(path: &Path) -> Result<(), NotRunnable> {
    let Ok(meta) = std::fs::metadata(path) else { return Ok(()) };
    let (uid, gid) = process::real_ids();
    let why = if meta.mode() & libc::S_ISUID != 0 && meta.uid() != uid {
        "is set-user-id"
    } else if meta.mode() & libc::S_ISGID != 0 && meta.mode() & libc::S_IXGRP != 0 && meta.gid() != gid {
        "is set-group-id"
    } else if uid != 0
        && CString::new(path.as_os_str().as_bytes()).is_ok_and(|c| process::has_capabilities(&c))
    {
        "has file capabilities"
    } else {
        return Ok(());
    };
    Err(unfit(path, &format!("{why}: the loader ignores LD_PRELOAD for it")))
}

fn head_of(path: &Path) -> Result<Vec<u8>, NotRunnable> {
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(HEAD).read_to_end(&mut head))
        .map_err(|error| unfit(path, &error.to_string()))?;
    Ok(head)
}

/// Says what a file is, from its first bytes.
#[must_use]
pub fn inspect(head: &[u8]) -> Image {
    if let Some(line) = head.strip_prefix(b"#!") {
        return script(line);
    }
    if !head.starts_with(b"\x7fELF") {
        return Image::Plain;
    }
    elf(head).unwrap_or_else(|| Image::Unfit("is a damaged ELF file".into()))
}

fn script(line: &[u8]) -> Image {
    let line = line.get(..SCRIPT_LINE).unwrap_or(line);
    let line = line.split(|b| *b == b'\n').next().unwrap_or_default().trim_ascii();
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (interpreter, argument) = line.split_at(end);
    if interpreter.is_empty() {
        return Image::Unfit("has an empty '#!' line".into());
    }
    let argument = argument.trim_ascii();
    Image::Script {
        interpreter: PathBuf::from(OsStr::from_bytes(interpreter)),
        argument: (!argument.is_empty()).then(|| OsString::from_vec(argument.to_vec())),
    }
}

const PT_INTERP: u64 = 3;
const EM_X86_64: u64 = 62;

/// `None` where a header lies outside what was read.
fn elf(head: &[u8]) -> Option<Image> {
    let (class, order) = (*head.get(4)?, *head.get(5)?);
    let machine = word(head, 18, 2)?;
    if class == 1 {
        return Some(Image::Unfit("is a 32-bit program; libuprobe is for x86-64".into()));
    }
    if class != 2 || order != 1 || machine != EM_X86_64 {
        return Some(Image::Unfit(format!(
            "is for another architecture (ELF machine {machine}), not x86-64"
        )));
    }
    let kind = word(head, 16, 2)?;
    let (offset, size, count) = (word(head, 32, 8)?, word(head, 54, 2)?, word(head, 56, 2)?);
    for i in 0..count {
        let at = usize::try_from(offset.checked_add(i.checked_mul(size)?)?).ok()?;
        if word(head, at, 4)? == PT_INTERP {
            let from = usize::try_from(word(head, at.checked_add(8)?, 8)?).ok()?;
            let len = usize::try_from(word(head, at.checked_add(32)?, 8)?).ok()?;
            let name = head.get(from..from.checked_add(len)?)?;
            let name = name.split(|b| *b == 0).next()?;
            return Some(Image::Dynamic { loader: PathBuf::from(OsStr::from_bytes(name)) });
        }
    }
    Some(match kind {
        2 => Image::Unfit(STATIC.into()),
        3 => Image::Loader,
        _ => Image::Unfit("is an ELF file, but not a program".into()),
    })
}

/// A little-endian word of `len` bytes at `at`.
pub fn word(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(len)?)?;
    Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
