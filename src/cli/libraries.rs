//! The libraries of a program, and where a library lies that is only named: the dynamic
//! loader itself is asked, since nobody else knows its search path. Nothing of the
//! program or of a library is run (`ld.so --list`, as `ldd` uses it).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::program::{self, Image};

/// What the loader would load.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Libraries {
    /// Paths, in the loader's order, the loader among them.
    pub found: Vec<PathBuf>,
    /// Names it can't find: the program would not start.
    pub missing: Vec<String>,
    /// What it said besides.
    pub complaint: String,
}

/// The libraries that `image` is linked against, directly or not.
///
/// # Errors
/// The loader can't be started, or says that it can't load the program: its words.
pub fn of_program(loader: &Path, image: &Path) -> Result<Libraries, String> {
    list(loader, image, None)
}

/// The same, and what comes of preloading `library`.
///
/// # Errors
/// As [`of_program`].
pub fn with_preloaded(loader: &Path, image: &Path, library: &Path) -> Result<Libraries, String> {
    list(loader, image, Some(library.as_os_str()))
}

/// Where the loader finds the library `name`; `None` where it doesn't.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let Image::Dynamic { loader } = program::inspect(&std::fs::read(&own).ok()?) else { return None };
    let libraries = list(&loader, &own, Some(OsStr::new(name))).ok()?;
    libraries.found.into_iter().find(|path| path.file_name() == Some(OsStr::new(name)))
}

fn list(loader: &Path, image: &Path, preload: Option<&OsStr>) -> Result<Libraries, String> {
    let mut command = Command::new(loader);
    if let Some(name) = preload {
        command.env("LD_PRELOAD", name);
    }
    let output = command
        .arg("--list")
        .arg(image)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", loader.display()))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(words.lines().next().unwrap_or("the loader can't list its libraries").to_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let complaint = words.lines().next().unwrap_or_default().to_owned();
    Ok(Libraries { complaint, ..parse(&output.stdout) })
}

/// Reads lines like `\tlibc.so.6 => /lib/libc.so.6 (0x00007f…)`.
fn parse(listing: &[u8]) -> Libraries {
    let mut libraries = Libraries::default();
    for line in listing.split(|b| *b == b'\n') {
        let line = line.trim_ascii();
        let (name, path) = match find_bytes(line, b" => ") {
            Some(at) => (line.get(..at).unwrap_or_default(), line.get(at + 4..).unwrap_or_default()),
            None => (line, line),
        };
        if path == b"not found" {
            libraries.missing.push(String::from_utf8_lossy(name).into_owned());
            continue;
        }
        // The last one: a path may contain one too.
        let end = path.windows(4).rposition(|w| w == b" (0x").unwrap_or(path.len());
        let path = path.get(..end).unwrap_or_default();
        if path.starts_with(b"/") {
            libraries.found.push(PathBuf::from(OsString::from_vec(path.to_vec())));
        } else if path.contains(&b'/') {
            libraries.found.push(Path::new(".").join(OsStr::from_bytes(path)));
        }
    }
    libraries
}

fn find_bytes(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_loaders_listing() {
        let listing = b"\tlinux-vdso.so.1 (0x00007ffc)\n\
            \tlibselinux.so.1 => /lib/x86_64-linux-gnu/libselinux.so.1 (0x00007f1)\n\
            \tlibodd.so => /opt/a (0xb) => c/libodd.so (0x00007f2)\n\
            \tlibgone.so => not found\n\
            \t./librel.so (0x00007f3)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f4)\n";
        let libraries = parse(listing);
        let found: Vec<&str> = libraries.found.iter().filter_map(|p| p.to_str()).collect();
        assert_eq!(
            found,
            [
                "/lib/x86_64-linux-gnu/libselinux.so.1",
                "/opt/a (0xb) => c/libodd.so",
                "././librel.so",
                "/lib64/ld-linux-x86-64.so.2"
            ]
        );
        assert_eq!(libraries.missing, ["libgone.so"]);
        assert_eq!(parse(b"\tstatically linked\n"), Libraries::default());
    }

    #[test]
    fn finds_libc_by_name() {
        let path = find("libc.so.6").expect("every glibc system has it");
        assert!(path.is_file(), "{}", path.display());
        assert_eq!(find("libdoes-not-exist.so.99"), None);
    }
}
