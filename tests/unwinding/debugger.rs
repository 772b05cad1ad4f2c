//! gdb: the frames of a probed program, live and in a core, are those of the same program unprobed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::account::follow;
use super::common::*;

fn program() -> PathBuf {
    Program::new("frames.c").build()
}

/// The program with `args`, with the returns of its functions followed.
fn probed(args: &[&str]) -> Launch {
    let launch = Launch::new(program()).args(args);
    ["outer", "middle", "inner"].iter().fold(launch, |l, f| follow(l, "return", &format!("exe:{f}")))
}

/// What gdb says in lines `| …` of `debugger.py` when it executes `commands` on the program, which it
/// starts as `launch` would be.
fn gdb(launch: &Launch, dir: &Path, files: &[&Path], commands: &[&str]) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/debugger.py");
    let mut gdb = Command::new("timeout");
    gdb.args(["--signal=KILL", "400", "gdb", "-nx", "-q", "-batch"]).current_dir(dir);
    for (name, value) in launch.command(dir).get_envs() {
        let (name, value) = (name.to_string_lossy(), value.map(|v| v.to_string_lossy()));
        // gdb itself and its shell are not to be probed.
        match value {
            Some(value) => gdb.args(["-ex", &format!("set environment {name} {value}")]),
            None => gdb.args(["-ex", &format!("unset environment {name}")]),
        };
    }
    gdb.arg("-x").arg(script);
    for command in commands {
        gdb.args(["-ex", &format!("python {command}")]);
    }
    let output = gdb.args(files).output().expect("gdb runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    let lines: Vec<String> = said.lines().filter(|l| l.starts_with("| ")).map(String::from).collect();
    assert!(!lines.is_empty() && !said.contains("Error"), "{said}\n{errors}");
    lines
}

/// The same lines with the library and without; returns them, and the directories of the two runs.
fn assert_same(args: &[&str], commands: &[&str]) -> (Vec<String>, [PathBuf; 2]) {
    let program = program();
    let launch = probed(args);
    let dirs = [scratch("gdb-native"), scratch("gdb-probed")];
    let native = gdb(&launch.clone().native(), &dirs[0], &[&program], commands);
    let probed = gdb(&launch, &dirs[1], &[&program], commands);
    assert_eq!(probed, native);
    (native, dirs)
}

fn remove(dirs: &[PathBuf]) {
    for dir in dirs {
        fs::remove_dir_all(dir).expect("ours");
    }
}

const CHAIN: [&str; 6] = ["inner", "middle", "middle", "middle", "outer", "main"];

/// `count` of the chain's frames stand one after the other, the last ones.
fn assert_chain(lines: &[String], count: usize) {
    let names: Vec<&str> =
        lines.iter().filter_map(|line| line.strip_prefix("| frame ")?.split(' ').next()).collect();
    let expected = &CHAIN[CHAIN.len() - count..];
    assert!(names.windows(count).any(|window| window == expected), "{lines:#?}");
}

#[test]
fn at_a_breakpoint() {
    if !require_command("gdb") {
        return;
    }
    let commands = ["gdb.execute('break stop_here')", "go('run')", "stack()", "go('continue')"];
    let (lines, dirs) = assert_same(&[], &commands);
    assert_chain(&lines, 6);
    assert_eq!(lines.last().map(String::as_str), Some("| exited with 4"), "{lines:#?}");
    remove(&dirs);
}

/// Out of each function in turn, up to main.
#[test]
fn finishes_each_function() {
    if !require_command("gdb") {
        return;
    }
    let mut commands = vec!["gdb.execute('break stop_here')", "go('run')"];
    for _ in 0..6 {
        commands.extend(["finish()", "stack()"]);
    }
    commands.push("go('continue')");
    let (lines, dirs) = assert_same(&[], &commands);
    assert_chain(&lines, 6);
    assert_eq!(lines.last().map(String::as_str), Some("| exited with 4"), "{lines:#?}");
    remove(&dirs);
}

/// At every single instruction between a function's and its caller's: the stub, and all that runs there.
#[test]
fn at_each_instruction_of_a_return() {
    if !require_command("gdb") {
        return;
    }
    let mut commands = vec!["gdb.execute('break stop_here')", "go('run')", "finish()"];
    commands.extend(["step_out(50000)"; 3]);
    commands.push("go('continue')");
    let (lines, dirs) = assert_same(&[], &commands);
    assert_eq!(lines.len(), 2 + 2 + 2 + 1, "{lines:#?}");
    remove(&dirs);
}

/// One that gdb writes where the program has received SIGABRT, inside nested probed calls.
#[test]
fn on_a_core_of_its_own() {
    if !require_command("gdb") {
        return;
    }
    let run = ["go('run abort')", "stack()", "gdb.execute('generate-core-file core')"];
    let (lines, dirs) = assert_same(&["abort"], &run);
    assert_chain(&lines, 6);
    for dir in &dirs {
        let core = dir.join("core");
        let read = gdb(&probed(&[]).native(), dir, &[&program(), &core], &["stack()"]);
        let stack: Vec<&String> = lines.iter().filter(|l| l.starts_with("| frame")).collect();
        assert_eq!(read.iter().collect::<Vec<_>>(), stack);
    }
    remove(&dirs);
}

/// One that the kernel writes.
#[test]
fn on_a_core_of_the_kernels() {
    if !require_command("gdb") {
        return;
    }
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if pattern.starts_with(['|', '/']) {
        eprintln!(
            "\n******** SKIPPED: cores go to {pattern}, those of the kernel were not tested ********\n"
        );
        return;
    }
    let stacks = [probed(&["core"]).native(), probed(&["core"])].map(|launch| {
        let dir = scratch("core");
        let outcome = launch.cwd(&dir).run();
        assert_eq!(outcome.end, End::Signal(6), "{outcome}");
        let mut files = fs::read_dir(&dir).expect("ours").map(|entry| entry.expect("ours").path());
        let core = files.next().unwrap_or_else(|| panic!("no core\n{outcome}"));
        let stack = gdb(&probed(&[]).native(), &dir, &[&program(), &core], &["stack()"]);
        fs::remove_dir_all(dir).expect("ours");
        stack
    });
    assert_chain(&stacks[0], 6);
    assert_eq!(stacks[1], stacks[0]);
}
