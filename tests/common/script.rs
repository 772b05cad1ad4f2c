//! Files that are executed.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes a program's text, by another process. Who forks while a file is open for writing here has it open there too
/// until it executes something, and so long the kernel executes the file for nobody ("Text file busy"): other tests
/// start programs all the time.
pub fn write(path: &Path, text: &str) {
    let mut shell = Command::new("/bin/sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut into = shell.stdin.take().expect("piped");
    into.write_all(text.as_bytes()).expect("the shell reads");
    drop(into);
    assert!(shell.wait().expect("our child").success(), "{}", path.display());
}
