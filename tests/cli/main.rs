//! The command `uprobe` as a user sees it: what it prints, and its exit status.

mod check;
mod doctor;
#[path = "../common/script.rs"]
mod executable;
mod help;
mod list;
mod run;
#[path = "../common/signals.rs"]
mod signals;
mod trace;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What a command left behind.
struct Ran {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    #[track_caller]
    fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        Self {
            status: output.status.code().expect("uprobe exits, it is not killed"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// `uprobe` with these arguments, in an environment without anything of ours, and the library of
/// this very build: `cargo test` refreshes the one in `deps/` alone.
fn command(args: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uprobe"));
    let deps = std::env::current_exe().expect("a test has a path").with_file_name("libuprobe.so");
    command.args(args).stdin(Stdio::null()).env("UPROBE_LIBRARY", deps);
    for name in ["UPROBES", "UPROBE_STRICT", "UPROBE_LOG", "LD_PRELOAD", "NO_COLOR"] {
        command.env_remove(name);
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    signals::by_default(&mut command);
    command
}

fn uprobe(args: &[impl AsRef<OsStr>]) -> Ran {
    Ran::of(command(args).output().expect("uprobe was built"))
}

/// A directory of one test's own.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the target directory is ours");
        Self(path)
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).expect("the directory is ours");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// A file that may be executed.
    fn script(&self, name: &str, content: &str) -> String {
        let path = self.0.join(name);
        executable::write(&path, content);
        path.to_str().expect("UTF-8").to_owned()
    }

    /// Compiles C; `None` where these flags don't work here (no 32-bit or static libc).
    fn compile(&self, name: &str, source: &str, flags: &[&str]) -> Option<String> {
        let c = self.file(&format!("{name}.c"), source);
        let out = self.0.join(name).to_str().expect("UTF-8").to_owned();
        let gcc = Command::new("gcc").args(["-o", &out, &c]).args(flags).output().expect("gcc is installed");
        gcc.status.success().then_some(out)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
