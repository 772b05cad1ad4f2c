//! One to one with `include/uprobe.h`, and the initialiser of the shared library.

/// DT_INIT of `libuprobe.so` (see `build.rs`).
#[unsafe(no_mangle)]
#[allow(unsafe_code)]
pub extern "C" fn uprobe_init(_argc: i32, _argv: *const *const i8, _envp: *const *const i8) {}
