//! Link arguments of `libuprobe.so` alone; the rlib, the command and the tests are not touched.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for arg in [
        // Our initialiser runs before every other constructor of the process, even libc's own.
        "-Wl,-z,initfirst",
        // DT_INIT instead of an .init_array entry: an entry would also run in whatever links the rlib.
        "-Wl,-init,uprobe_init",
        // Resolved before the first probe is armed: _dl_runtime_resolve itself may be probed.
        "-Wl,-z,now",
        // dlclose must not unmap code that probes jump into.
        "-Wl,-z,nodelete",
        "-Wl,-soname,libuprobe.so",
    ] {
        println!("cargo:rustc-cdylib-link-arg={arg}");
    }
}
