//! Comparisons the tests share.

use std::path::Path;
use std::process::Command;

use super::launch::{End, Launch, Outcome, only_int3};

/// A program tells what its logic dictates in lines `hits PLACE NUMBER`.
pub fn told(outcome: &Outcome) -> Vec<(String, u64)> {
    let told: Vec<(String, u64)> = outcome
        .stdout
        .lines()
        .filter_map(|line| {
            let mut words = line.strip_prefix("hits ")?.split(' ');
            Some((words.next()?.into(), words.next()?.parse().ok()?))
        })
        .collect();
    assert!(!told.is_empty(), "the program told nothing\n{outcome}");
    told
}

/// Each place was hit as often as the program says it was executed; nothing was missed.
pub fn assert_hits_as_told(outcome: &Outcome) {
    assert_eq!(outcome.end, End::Exit(0), "{outcome}");
    for (place, expected) in told(outcome) {
        let probe = outcome.at(&format!("exe:{place}"));
        assert_eq!(probe.state, "armed", "{probe:#?}\n{outcome}");
        let is_jump = probe.method.as_deref() == Some("jump");
        assert!(is_jump || only_int3() || probe.reason.is_some(), "no jump, and no reason {probe:#?}\n{outcome}");
        assert_eq!(
            (probe.hits, probe.nmissed),
            (expected, 0),
            "'{place}' hits and nmissed: {probe:?}\n{outcome}"
        );
    }
}

/// The promise: executions = hits + nmissed + filtered + sampled_out.
pub fn assert_identity(outcome: &Outcome, at: &str, executions: u64) {
    let probe = outcome.at(at);
    assert_eq!(probe.executions(), executions, "{probe:#?}\n{outcome}");
}

/// Same standard output and end.
pub fn assert_same_output(probed: &Outcome, native: &Outcome) {
    assert_eq!(probed.end, native.end, "the end differs\n=== probed {probed}\n=== native {native}");
    if probed.stdout != native.stdout {
        let difference = probed
            .stdout
            .lines()
            .zip(native.stdout.lines())
            .enumerate()
            .find(|(_, (p, n))| p != n)
            .map(|(i, (p, n))| format!("line {}:\n  probed {p}\n  native {n}", i + 1))
            .unwrap_or_else(|| "one is longer".into());
        panic!("standard output differs, {difference}\n=== probed {probed}\n=== native {native}");
    }
}

/// Runs it with the library and without: same output, same end.
pub fn assert_same_as_native(launch: &Launch) -> Outcome {
    let native = launch.clone().native().run();
    let probed = launch.run();
    assert_same_output(&probed, &native);
    probed
}

/// The functions an object exports, in address order, one name per address.
pub fn dynamic_functions(object: &Path) -> Vec<String> {
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(object).output().expect("binutils");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut functions: Vec<(u64, String)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            let kind = words.next()?;
            let name = words.next()?.split('@').next()?;
            ["T", "t", "W", "w"].contains(&kind).then(|| (address, name.to_string()))
        })
        .collect();
    functions.sort();
    functions.dedup_by_key(|f| f.0);
    functions.into_iter().map(|(_, name)| name).collect()
}

/// `count` of `all`, evenly.
pub fn every_nth(all: &[String], count: usize) -> Vec<String> {
    let count = count.min(all.len());
    (0..count).map(|i| all[i * all.len() / count].clone()).collect()
}

/// The offsets of the instructions of a function, by objdump.
pub fn instruction_offsets(program: &Path, function: &str) -> Vec<u64> {
    let output = Command::new("objdump")
        .args(["-d", "--no-show-raw-insn", &format!("--disassemble={function}")])
        .arg(program)
        .output()
        .expect("binutils");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let addresses: Vec<u64> = text
        .lines()
        .filter_map(|line| u64::from_str_radix(line.trim_start().split_once(":\t")?.0, 16).ok())
        .collect();
    assert!(!addresses.is_empty(), "objdump knows no '{function}'");
    addresses.iter().map(|a| a - addresses[0]).collect()
}

/// The functions of a stripped object, from its unwind tables, as offsets in the file.
pub fn functions_by_unwind(object: &Path) -> Vec<u64> {
    let run = |args: &[&str]| {
        let output = Command::new("readelf").args(args).arg(object).output().expect("binutils");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    // LOAD, offset, virtual address, physical address, file size, memory size, flags.
    let executable: Vec<(u64, u64, u64)> = run(&["-lW"])
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let loads = words.first() == Some(&"LOAD") && words.contains(&"E");
            loads.then(|| Some((hex(words[1])?, hex(words[2])?, hex(words[4])?)))?
        })
        .collect();
    let mut offsets: Vec<u64> = run(&["--debug-dump=frames"])
        .lines()
        .filter_map(|line| {
            let pc = hex(line.split_once(" FDE ")?.1.split_once("pc=")?.1.split_once("..")?.0)?;
            let (offset, address, _) = executable.iter().find(|(_, a, size)| (*a..a + size).contains(&pc))?;
            Some(pc - address + offset)
        })
        .collect();
    offsets.sort_unstable();
    offsets.dedup();
    offsets
}
