//! DT_INIT of `libuprobe.so`: before every other constructor of the process.

use std::ffi::CStr;

use crate::probe::is_program;
use crate::runtime::start::{Environment, Strictness, initialise};

/// Called by the dynamic linker with the program's arguments; `environ` is not set yet. Without
/// UPROBES it does nothing at all.
///
/// # Safety
/// `envp` is the process's environment, as the ABI passes it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn uprobe_init(
    _argc: libc::c_int,
    _argv: *const *const libc::c_char,
    envp: *const *const libc::c_char,
) {
    // SAFETY: the caller's promise.
    let config = unsafe { variable(envp, b"UPROBES=") };
    if config.is_empty() {
        return;
    }
    let environment = Environment {
        config,
        // SAFETY: the caller's promise.
        level: unsafe { variable(envp, b"UPROBE_LOG=") },
        // SAFETY: the caller's promise.
        strictness: strictness(&unsafe { variable(envp, b"UPROBE_STRICT=") }),
    };
    let _ = std::panic::catch_unwind(|| initialise(&environment));
}

/// `1`, or the path of the one program that is meant: what that program executes inherits the
/// variable, and need not have the functions that are probed.
fn strictness(value: &str) -> Strictness {
    let path = std::ffi::CString::new(value).unwrap_or_default();
    match value {
        "1" => Strictness::Strict,
        path_of_one if path_of_one.starts_with('/') && is_program(&path) => Strictness::Strict,
        path_of_another if path_of_another.starts_with('/') => Strictness::Inherited,
        _ => Strictness::Lenient,
    }
}

/// The value of `name` (with its `=`), or nothing.
unsafe fn variable(envp: *const *const libc::c_char, name: &[u8]) -> String {
    let mut entry = envp;
    if entry.is_null() {
        return String::new();
    }
    loop {
        // SAFETY: pointers up to a null one.
        let text = unsafe { *entry };
        if text.is_null() {
            return String::new();
        }
        // SAFETY: terminated strings.
        let text = unsafe { CStr::from_ptr(text) }.to_bytes();
        if let Some(value) = text.strip_prefix(name) {
            return String::from_utf8_lossy(value).into_owned();
        }
        // SAFETY: not beyond the null.
        entry = unsafe { entry.add(1) };
    }
}
