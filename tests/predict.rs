//! What `uprobe list` and `uprobe check` foretell is what comes of it.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use common::*;
use serde_json::Value;

/// Method and the reason's code, by offset in the file.
type Ways = BTreeMap<u64, (Option<String>, Option<String>)>;

fn code(reason: Option<&str>) -> Option<String> {
    reason.and_then(|reason| reason.split(": ").next()).map(String::from)
}

fn ways(places: &Value) -> Ways {
    let text = |place: &Value, key: &str| place[key].as_str().map(String::from);
    let way = |place: &Value| {
        let offset = place["file_offset"].as_u64()?;
        Some((offset, (text(place, "method"), code(place["reason"].as_str()))))
    };
    places.as_array().expect("places").iter().filter_map(way).collect()
}

fn uprobe(args: &[&str]) -> String {
    let output = Command::new(own_command()).args(args).output().expect("our command");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn listed(object: &Path) -> Ways {
    let json: Value =
        serde_json::from_str(&uprobe(&["list", "--json", object.to_str().expect("UTF-8")])).expect("JSON");
    ways(&json["places"])
}

/// The lines of `uprobe check` below a probe: `    OBJECT:OFFSET  SYMBOL  WAY  REASON`.
fn checked(at: &str, program: &Path) -> Ways {
    let config = scratch("predict-check").join("probes.toml");
    std::fs::write(&config, format!("[[probe]]\nat = '{at}'\naction = ['count']\n")).expect("our directory");
    let text = uprobe(&["check", config.to_str().expect("UTF-8"), "--", program.to_str().expect("UTF-8")]);
    let way = |line: &str| {
        let mut columns = line.strip_prefix("    ")?.split("  ");
        let offset = u64::from_str_radix(columns.next()?.rsplit_once(":0x")?.1, 16).ok()?;
        let word = columns.nth(1)?;
        let method = match word.strip_prefix("int3 (") {
            Some(method) => method.strip_suffix(')')?,
            None if word == "jump" => word,
            // Refused, or pending.
            None => return Some((offset, (None, code(word.split_once(' ').map(|(_, reason)| reason))))),
        };
        Some((offset, (Some(method.to_owned()), code(columns.next()))))
    };
    text.lines().filter_map(way).collect()
}

/// Runs the program with all functions of one object probed, and compares. How many jumps there are.
fn assert_foretold(program: &Path, at: &str, object: &Path) -> usize {
    let outcome = assert_same_as_native(&Launch::new(program).count(at));
    let real = ways(&outcome.summary()["probes"]);
    let (listed, checked) = (listed(object), checked(at, program));
    assert!(real.len() > 2, "{outcome}");
    let is = |way: &(Option<String>, Option<String>), what: &[&str]| {
        way.1.as_deref().is_some_and(|code| what.contains(&code))
    };
    let mut wrong = Vec::new();
    let mut compared = 0;
    for (offset, way) in &real {
        let (list, check) = (&listed[offset], &checked[offset]);
        // What only the process shows: memory; what stands where libuprobe itself has a breakpoint; what an
        // IFUNC chose.
        if is(way, &["no-detour-in-reach", "internal"]) || is(list, &["ifunc-not-ready"]) {
            continue;
        }
        compared += 1;
        // `list` is about each function alone.
        if list != way && !is(way, &["another-probe"]) {
            wrong.push(format!("{offset:#x}: list {list:?}, in fact {way:?}"));
        }
        // The other one may be ours.
        if check != way && !is(way, &["another-probe"]) {
            wrong.push(format!("{offset:#x}: check {check:?}, in fact {way:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{} of {compared} in {at}", wrong.join("\n"), wrong.len());
    let together = |ways: &Ways| ways.values().filter(|way| is(way, &["another-probe"])).count();
    assert!(together(&real) >= together(&checked), "check foretold neighbours that were none");
    assert!(compared * 10 > real.len() * 9, "{compared} of {} compared", real.len());
    real.values().filter(|way| way.0.as_deref() == Some("jump")).count()
}

#[test]
fn all_functions_of_libc() {
    let program = Program::new("calls.c").build();
    let libc = uprobe(&["list", "libc.so.6", "openat"]);
    let libc = libc.lines().next().and_then(|line| line.split_once(": ")).expect("its path").0;
    let jumps = assert_foretold(&program, "libc.so.6:*", Path::new(libc));
    assert!(jumps > 1500, "{jumps} jumps");
}

#[test]
fn all_functions_of_programs() {
    let flags: [&[&str]; 3] = [&["-O0"], &["-O2"], &["-O2", "-fcf-protection=none", "-fno-align-functions"]];
    for source in ["calls.c", "values.c"] {
        for flags in flags {
            let program = flags.iter().fold(Program::new(source), |program, flag| program.flag(flag)).build();
            assert_foretold(&program, "exe:*", &program);
        }
    }
}
