//! Nearly every function of real programs and libraries has a jump, and they run as without: each is armed
//! whole, by its symbols and its unwind tables, in a process that uses it.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;
use serde_json::Value;

/// Of those that are armed.
const LEAST_PERCENT: usize = 99;

/// Counts at every function of `object` while `launch` runs.
fn assert_optimized(object: &Path, launch: &Launch) {
    let object = fs::canonicalize(object).expect("it exists");
    let path = object.display();
    let offsets = functions_by_unwind(&object);
    let places = offsets.iter().map(|offset| format!("{path}:{offset:#x}"));
    let outcome = assert_same_as_native(&launch.clone().count(&format!("{path}:*")).count_all(places));

    let summary = outcome.summary();
    let probes = summary["probes"].as_array().expect("probes");
    // A function has many names.
    let places: BTreeMap<u64, &Value> =
        probes.iter().filter_map(|probe| Some((probe["file_offset"].as_u64()?, probe))).collect();
    let text = |place: &Value, key: &str| place[key].as_str().map(String::from);
    let armed: Vec<&Value> = places.values().copied().filter(|place| place["state"] == "armed").collect();
    let jumps = armed.iter().filter(|place| place["method"] == "jump").count();
    let others: Vec<String> = armed
        .iter()
        .filter(|place| place["method"] != "jump")
        .map(|place| format!("{:?} {:?}", text(place, "symbol"), text(place, "reason")))
        .collect();
    let refused: BTreeSet<Option<String>> = places
        .values()
        .filter(|place| place["state"] != "armed")
        .map(|place| text(place, "reason"))
        .collect();
    println!("{path}: {jumps} of {}, refused {refused:?}", armed.len());
    assert!(armed.len() >= offsets.len().max(1000), "{path}: {} armed of {}", armed.len(), offsets.len());
    assert!(
        jumps * 100 >= armed.len() * LEAST_PERCENT,
        "{path}: {jumps} of {}, the others: {others:#?}",
        armed.len()
    );
    assert!(armed.iter().any(|place| place["hits"] != 0), "{path}: nothing was hit\n{outcome}");
}

/// The path of a program of the distribution; loud where it is missing.
fn installed(path: &str) -> Option<PathBuf> {
    require_command(path).then(|| fs::canonicalize(path).expect("it exists"))
}

/// The library of this name that `program` is linked with.
fn linked(program: &Path, name: &str) -> PathBuf {
    let output = Command::new("ldd").arg(program).output().expect("libc's ldd");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.contains(name));
    let path = line.and_then(|line| line.split_whitespace().nth(2));
    path.unwrap_or_else(|| panic!("no {name} in {text}")).into()
}

fn python(program: &Path, source: &str) -> Launch {
    Launch::new(program).args(["-S", "-E", "-c", source]).env("PYTHONHASHSEED", 0)
}

#[test]
fn git() {
    let Some(git) = installed("/usr/bin/git") else { return };
    assert_optimized(&git, &Launch::new(&git).args(["--no-pager", "help", "-a"]).cwd("/"));
}

#[test]
fn redis_server() {
    let Some(redis) = installed("/usr/bin/redis-server") else { return };
    // It looks at its own name.
    assert_optimized(&redis, &Launch::new("/usr/bin/redis-server").arg("--version"));
}

/// Where it is the distribution's it is linked at low addresses, where int3 can't stand inside a jump.
#[test]
fn python3() {
    let Some(program) = installed("/usr/bin/python3") else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/real.py");
    assert_optimized(&program, &python(&program, &fs::read_to_string(script).expect("ours")));
}

#[test]
fn libcrypto() {
    let Some(openssl) = installed("/usr/bin/openssl") else { return };
    let launch = Launch::new(&openssl).args(["dgst", "-sha3-256", "/etc/passwd"]);
    assert_optimized(&linked(&openssl, "libcrypto.so"), &launch);
}

#[test]
fn libstdcxx_and_libc() {
    let program = Program::new("stl.cpp").flag("-O2").build();
    assert_optimized(&linked(&program, "libstdc++.so"), &Launch::new(&program));
    assert_optimized(&linked(&program, "libc.so"), &Launch::new(&program));
}
