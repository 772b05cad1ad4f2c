//! What the system says, before anything is tried.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::finding::Finding;
use crate::cli::{Failure, process};
use crate::sys;

/// Everything that does not depend on a program.
pub fn look(library: Result<&Path, &Failure>) -> Vec<Finding> {
    let mut found = vec![kernel(), libc(), proc()];
    found.extend(self::library(library));
    found.extend([text(), barriers(), code(), seccomp()]);
    found.extend(selinux());
    found.extend(shadow_stack());
    found.extend(limits());
    found.extend(config());
    found.push(Finding::ok("ptrace", "not needed, whatever kernel.yama.ptrace_scope says; nor is root"));
    found
}

fn read(path: &str) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.read_to_string(&mut text).ok()?;
    Some(text)
}

/// A line of /proc/self/status.
fn status(field: &str) -> Option<String> {
    let text = read("/proc/self/status")?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

fn kernel() -> Finding {
    let release = process::kernel_release();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < (4, 16) {
        let advice = "Probes are breakpoints there, never jumps: some microseconds a hit.";
        return Finding::warning("kernel", format!("Linux {release}, older than 4.16"), advice);
    }
    Finding::ok("kernel", format!("Linux {release}"))
}

fn libc() -> Finding {
    Finding::ok("libc", format!("glibc {}", process::glibc_version()))
}

fn proc() -> Finding {
    if read("/proc/self/maps").is_none_or(|maps| maps.is_empty()) {
        let advice = "Mount it (mount -t proc proc /proc): probes stay breakpoints, code is made writable to be changed, \
                      threads that block SIGTRAP go unseen, and the program's file is guessed from its name.";
        return Finding::warning("proc", "/proc is not mounted, or not readable", advice);
    }
    Finding::ok("proc", "/proc is there")
}

/// Where libuprobe.so is, and whether code may be loaded from there.
pub fn library(library: Result<&Path, &Failure>) -> Option<Finding> {
    let path = match library {
        Ok(path) => path,
        Err(Failure::Failed(_, why) | Failure::Usage(why)) => {
            return Some(Finding::fails("library", why.clone(), "Build it: cargo build --release."));
        }
        Err(Failure::Said(_)) => return None,
    };
    let shown = path.display();
    if let Err(error) = File::open(path) {
        return Some(Finding::fails("library", format!("{shown}: {error}"), "Make it readable."));
    }
    if process::is_noexec(path) {
        let advice = "Copy it elsewhere, and set UPROBE_LIBRARY to its path.";
        return Some(Finding::fails(
            "library",
            format!("{shown} is on a file system mounted noexec"),
            advice,
        ));
    }
    Some(Finding::ok("library", shown.to_string()))
}

/// Whether read-only memory can be written through /proc/self/mem.
fn text() -> Finding {
    static WITNESS: [u8; 1] = [0x5A];
    let written = File::options()
        .write(true)
        .open("/proc/self/mem")
        .and_then(|memory| memory.write_at(&WITNESS, WITNESS.as_ptr() as u64));
    match written {
        Ok(_) => Finding::ok("text", "code can be changed through /proc/self/mem"),
        Err(error) => Finding::warning(
            "text",
            format!("code can't be changed through /proc/self/mem: {error}"),
            "It is made writable for a moment instead (mprotect); see proc_mem.force_override= of the kernel.",
        ),
    }
}

fn barriers() -> Finding {
    const QUERY: i32 = 0;
    match sys::membarrier(QUERY) {
        Ok(known) if known as i32 & sys::MEMBARRIER_SYNC_CORE != 0 => {
            Finding::ok("membarrier", "membarrier(SYNC_CORE) is there: probes become jumps")
        }
        Ok(_) => Finding::warning(
            "membarrier",
            "the kernel has no membarrier(SYNC_CORE)",
            "Probes stay breakpoints: some microseconds a hit. CONFIG_MEMBARRIER, Linux 4.16.",
        ),
        Err(errno) => Finding::warning(
            "membarrier",
            format!("membarrier is not allowed: {}", std::io::Error::from_raw_os_error(errno)),
            "Probes stay breakpoints: some microseconds a hit. Let the seccomp filter pass it.",
        ),
    }
}

/// Whether there can be executable memory that comes from no file.
fn code() -> Finding {
    match process::can_map_code() {
        Ok(()) => Finding::ok("code", "executable memory can be had"),
        Err(error) => Finding::fails(
            "code",
            format!("executable memory that is no file's can't be had: {error}"),
            "SELinux: allow execmem for this domain (setsebool allow_execmem on); else another security \
             module forbids it, or prctl(PR_SET_MDWE).",
        ),
    }
}

fn seccomp() -> Finding {
    match status("Seccomp").as_deref() {
        None | Some("0") => Finding::ok("seccomp", "no filter is in force"),
        Some(_) => Finding::warning(
            "seccomp",
            "a filter is in force here, which programs inherit",
            "The trial below runs under it. A call that it forbids may kill a program: membarrier and openat \
             are the likely ones.",
        ),
    }
}

fn selinux() -> Option<Finding> {
    let enforces = read("/sys/fs/selinux/enforce")?;
    let domain = read("/proc/self/attr/current").unwrap_or_default();
    let domain = domain.trim_matches(['\0', '\n']).to_owned();
    Some(match enforces.trim() {
        "1" => Finding::warning(
            "selinux",
            format!("SELinux enforces; this process is {domain}"),
            "A program in another domain may lack execmem or execmod: its probes are then refused (text-not-writable, \
             no-slot-in-reach).",
        ),
        _ => Finding::ok("selinux", "SELinux does not enforce"),
    })
}

/// How shadow stacks are turned off.
pub const TURN_OFF: &str = "Turn it off for the program: GLIBC_TUNABLES=glibc.cpu.x86_shstk=off.";

/// Shadow stacks in force in this process, and so in its children.
pub fn shadow_stack() -> Option<Finding> {
    let features = status("x86_Thread_features")?;
    if features.split_whitespace().any(|feature| feature == "shstk") {
        let text = "hardware shadow stacks are in force: returns through our stubs would be faults";
        return Some(Finding::fails("shadow-stack", text, TURN_OFF));
    }
    Some(Finding::ok("shadow-stack", "not in force"))
}

fn limits() -> Vec<Finding> {
    const LEAST_SPACE: u64 = 512 << 20;
    const LEAST_FILES: u64 = 16;
    let limit = |name: &str| {
        let text = read("/proc/self/limits")?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        line[name.len()..].split_whitespace().next()?.parse::<u64>().ok()
    };
    let mut found = Vec::new();
    if let Some(space) = limit("Max address space").filter(|space| *space < LEAST_SPACE) {
        found.push(Finding::warning(
            "limits",
            format!("only {} MiB of address space are allowed (RLIMIT_AS)", space >> 20),
            "The library wants about 100 of it for itself: raise the limit by as much (ulimit -v).",
        ));
    }
    if let Some(files) = limit("Max open files").filter(|files| *files < LEAST_FILES) {
        found.push(Finding::warning(
            "limits",
            format!("only {files} files may be open (RLIMIT_NOFILE)"),
            "The library keeps up to four: raise the hard limit by as much (ulimit -Hn).",
        ));
    }
    if let Some(size) = limit("Max file size") {
        found.push(Finding::warning(
            "limits",
            format!("files may have {size} bytes at most (RLIMIT_FSIZE)"),
            "What doesn't fit of events is lost, and counted; a report that doesn't fit is not written (ulimit -f).",
        ));
    }
    if found.is_empty() {
        found.push(Finding::ok("limits", "none that would be in the way"));
    }
    found
}

/// The config of the environment, where there is one.
fn config() -> Option<Finding> {
    let value = std::env::var_os("UPROBES").filter(|value| !value.is_empty())?;
    if value.to_string_lossy().starts_with("toml:") {
        return Some(Finding::ok("config", "UPROBES holds a config"));
    }
    let path = PathBuf::from(value);
    let shown = path.display();
    Some(match fs::read(&path) {
        Ok(_) => Finding::ok("config", format!("UPROBES is {shown}; see: uprobe check {shown}")),
        Err(error) => {
            let advice = "Set UPROBES to a file that can be read, from wherever programs start; best an absolute path.";
            Finding::fails("config", format!("UPROBES is {shown}: {error}"), advice)
        }
    })
}
