//! A minute of the soak: `tests/soak/run MINUTES` is the long form.

mod common;

use std::path::Path;
use std::process::Command;

use common::*;

#[test]
fn redis_with_probes_of_all_its_functions_toggled_at_random() {
    let needed = ["redis-server", "redis-benchmark", "python3", "nm", "cc"];
    if !needed.into_iter().all(require_command) {
        return;
    }
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/soak/run");
    let outcome = Command::new(run).arg("1").env("UPROBE_LIBRARY", library()).output().expect("the program");
    let (stdout, stderr) =
        (String::from_utf8_lossy(&outcome.stdout), String::from_utf8_lossy(&outcome.stderr));
    assert!(outcome.status.success(), "{stdout}{stderr}");
    assert!(stdout.lines().last().is_some_and(|line| line.starts_with("soak: ok")), "{stdout}");
    println!("{stdout}");
}
