//! For tests that measure the whole process: others beside them, in threads of the same one, are measured, too.

use std::process::Command;

/// Set in the process of one test.
const ALONE: &str = "UPROBE_TEST_ALONE";

/// Whether this process runs `test` (its path from the crate's root) and nothing else. If it is not, one that does
/// has been run, and has passed: the caller has nothing left to do.
///
/// # Panics
/// If the test has failed there.
pub fn is_alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some_and(|name| name == test) {
        return true;
    }
    let this = std::env::current_exe().expect("a path");
    let child = Command::new(this).args(["--exact", test]).env(ALONE, test).output().expect("a process");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{}\n{said}", child.status);
    false
}
