//! Objects that come and go: a probe waits for its object, is armed before the object's
//! constructors run, and waits again when it is gone; what it counted stays counted.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::*;

const FUNCTIONS: [&str; 3] = ["plugged_at_load", "plugged_work", "plugged_at_unload"];

fn object() -> PathBuf {
    Program::new("plugged.c").shared("libplugged.so").build()
}

fn host(rounds: u32, calls: u32, paths: &[&Path]) -> Launch {
    let launch = Launch::new(Program::new("host.c").build()).args([rounds, calls]);
    paths.iter().fold(launch, |l, p| l.arg(p.display()))
}

fn assert_account(outcome: &Outcome, object: &str, rounds: u32, calls: u32) {
    for (function, hits) in FUNCTIONS.iter().zip([rounds, rounds * calls, rounds]) {
        let probe = outcome.at(&format!("{object}:{function}"));
        assert_eq!((probe.hits, probe.nmissed), (u64::from(hits), 0), "{probe:?}\n{outcome}");
        assert_eq!(probe.state, "pending", "the object is gone: {probe:?}\n{outcome}");
    }
}

#[test]
fn a_pending_probe_is_armed_before_constructors_and_pending_after_dlclose() {
    for rounds in [1, 2, 100] {
        let launch =
            host(rounds, 10, &[&object()]).count_all(FUNCTIONS.map(|f| format!("libplugged.so:{f}")));
        let outcome = assert_same_as_native(&launch);
        assert_account(&outcome, "libplugged.so", rounds, 10);
    }
}

#[test]
fn an_ifunc_of_a_loaded_object_is_the_one_that_was_chosen() {
    let launch = host(20, 10, &[&object()]).count("libplugged.so:plugged_chosen");
    let outcome = assert_same_as_native(&launch);
    assert_eq!(outcome.hits("libplugged.so:plugged_chosen"), 200, "{outcome}");
}

#[test]
fn a_file_reached_by_several_names_is_one_object() {
    let object = object();
    let dir = scratch("links");
    let link = dir.join("another-name.so");
    let hard = dir.join("hard.so");
    symlink(&object, &link).expect("our directory");
    if fs::hard_link(&object, &hard).is_err() {
        symlink(&object, &hard).expect("our directory");
    }
    // Loaded by the file's own path, by the links, or by turns; probed by each.
    for paths in [vec![&*object], vec![&*link], vec![&*hard], vec![&*object, &*link, &*hard]] {
        for at in [&object, &link, &hard] {
            let at = at.display().to_string();
            let launch = host(6, 5, &paths).count_all(FUNCTIONS.map(|f| format!("{at}:{f}")));
            let outcome = assert_same_as_native(&launch);
            assert_account(&outcome, &at, 6, 5);
        }
    }
    fs::remove_dir_all(dir).expect("ours");
}

/// The loader knows a library by the link that it opened, /proc/self/maps by the file: users read both. Only the
/// former was compared with names, and with globs of paths.
#[test]
fn an_object_is_meant_by_the_name_of_its_file_and_by_globs_of_each_path() {
    let dir = scratch("versions").canonicalize().expect("our directory");
    fs::copy(object(), dir.join("libplug.so.1.2")).expect("our directory");
    symlink("libplug.so.1.2", dir.join("libplug.so.1")).expect("our directory");
    let at = dir.display();
    for loaded in [dir.join("libplug.so.1"), PathBuf::from("./libplug.so.1"), dir.join("libplug.so.1.2")] {
        for named in [
            "libplug.so.1.2".to_owned(),
            "lib*.so.1.2".to_owned(),
            format!("{at}/lib*.so.1.2"),
            "./*.so.1.2".to_owned(),
            format!("../{}/l*.so.1.2", dir.file_name().expect("a name").display()),
        ] {
            let places = FUNCTIONS.map(|f| format!("{named}:{f}"));
            let launch = host(3, 5, &[&loaded]).cwd(&dir).count_all(places);
            assert_account(&assert_same_as_native(&launch), &named, 3, 5);
        }
    }
    let elsewhere = host(3, 5, &[&dir.join("libplug.so.1")]).cwd(&dir).count("./other/*:plugged_work");
    assert_eq!(assert_same_as_native(&elsewhere).at("./other/*:plugged_work").hits, 0);
    fs::remove_dir_all(dir).expect("ours");
}

/// `python3` is a link to python3.11, and /proc/self/exe names the latter.
#[test]
fn the_program_is_meant_by_the_link_it_was_executed_by() {
    let program = Program::new("host.c").build();
    let dir = scratch("executed");
    let link = dir.join("called");
    symlink(&program, &link).expect("our directory");
    let script = dir.join("script");
    script::write(&script, &format!("#!{} 1\n", link.display()));
    for path in [&link, &script] {
        let launch = Launch::new(path).args([1, 0]).count_all(["called:main", "call*:main", "exe:main"]);
        let outcome = assert_same_as_native(&launch);
        for at in ["called:main", "call*:main", "exe:main"] {
            assert_eq!(outcome.hits(at), 1, "{at}\n{outcome}");
        }
    }
    fs::remove_dir_all(dir).expect("ours");
}

/// Where the library was there at the start, it was said; where it came later, only the summary had it. Of the
/// libraries that a glob means another one may have the function.
#[test]
fn what_a_library_loaded_later_lacks_is_said_once() {
    let launch = host(3, 1, &[&object()]).count_all([
        "libplugged.so:plugged_wrk",
        "libplugged.so:plugged_work",
        "libplug*.so:nothing_*",
    ]);
    let outcome = launch.run();
    assert_eq!(outcome.hits("libplugged.so:plugged_work"), 3, "{outcome}");
    let lines: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains("error: no-symbol")).collect();
    assert_eq!(lines.len(), 1, "{outcome}");
    assert!(lines[0].contains("probes.toml:") && lines[0].contains("'plugged_wrk'"), "{outcome}");
    assert!(outcome.stderr.contains("at = '''libplugged.so:plugged_wrk'''"), "{outcome}");
}

#[test]
fn a_glob_over_objects_and_symbols_meets_what_comes_later() {
    let launch = host(10, 5, &[&object()]).count("libplug*.so:plugged_*");
    let outcome = assert_same_as_native(&launch);
    let hits = |symbol: &str| {
        let summary = outcome.summary();
        let probes = summary["probes"].as_array().expect("probes").clone();
        probes.iter().filter(|p| p["symbol"] == symbol).filter_map(|p| p["hits"].as_u64()).sum::<u64>()
    };
    assert_eq!(hits("plugged_work"), 50, "{outcome}");
    assert_eq!(hits("plugged_at_load"), 10, "{outcome}");
    assert_eq!(hits("plugged_at_unload"), 10, "{outcome}");
}

#[test]
fn other_threads_may_load_and_unload_meanwhile() {
    let launch = host(200, 10, &[&object()])
        .env("OTHER_THREAD", 1)
        .count_all(FUNCTIONS.map(|f| format!("libplugged.so:{f}")))
        .count("exe:own")
        .count("libc.so.6:dlopen")
        .count("libc.so.6:dlclose");
    let outcome = assert_same_as_native(&launch);
    assert_account(&outcome, "libplugged.so", 200, 10);
}

/// Another namespace has its own list of objects, and its own libc.
#[test]
fn objects_of_another_namespace_are_found() {
    let launch = host(3, 10, &[&object()])
        .env("NAMESPACE", 1)
        .count_all(FUNCTIONS.map(|f| format!("libplugged.so:{f}")));
    let outcome = assert_same_as_native(&launch);
    assert_account(&outcome, "libplugged.so", 3, 10);
}

#[test]
fn events_of_a_vanished_object_are_not_lost() {
    let launch = host(10, 5, &[&object()]).probe("libplugged.so:plugged_work", "args = ['a=$arg1:s64']");
    let outcome = assert_same_as_native(&launch);
    assert_eq!(outcome.event_lines().len(), 50, "{outcome}");
}

#[test]
fn an_object_linked_at_start_is_armed_before_its_constructor() {
    let object = object();
    let dir = object.parent().expect("in a directory").display().to_string();
    let program = Program::new("linked.c")
        .lib(format!("-L{dir}"))
        .lib("-lplugged")
        .lib(format!("-Wl,-rpath,{dir}"))
        .lib("-Wl,--no-as-needed")
        .build();
    let launch = Launch::new(program)
        .count("libplugged.so:plugged_at_load")
        .count("libplugged.so:plugged_work")
        .count("exe:before_main")
        .count("exe:first_of_all");
    let outcome = assert_same_as_native(&launch);
    assert_eq!(outcome.hits("libplugged.so:plugged_at_load"), 1, "{outcome}");
    assert_eq!(outcome.hits("libplugged.so:plugged_work"), 3, "{outcome}");
    assert_eq!(outcome.hits("exe:before_main"), 1, "a constructor of the program\n{outcome}");
    assert_eq!(outcome.hits("exe:first_of_all"), 1, "its preinit_array\n{outcome}");
}

/// What was made for a place is never freed, as a thread may be in it; it must serve again.
#[test]
fn loading_and_unloading_for_ever_takes_no_more_memory() {
    let launch = Launch::new(Program::new("reload.c").build()).arg(object().display());
    let outcome = launch.count_all(FUNCTIONS.map(|f| format!("libplugged.so:{f}"))).run();
    assert_eq!((outcome.stdout.as_str(), outcome.end), ("bad 0 grown 0\n", End::Exit(0)), "{outcome}");
    assert_eq!(outcome.hits("libplugged.so:plugged_work"), 400, "{outcome}");
}

#[test]
fn registering_and_unregistering_for_ever_takes_no_more_memory() {
    let launch = Launch::new(Program::new("reload.c").build());
    // A probe that only counts needs a detour of its own kind, as long as it is alone.
    for (launch, counted) in [(launch.clone(), None), (launch.count("exe:work"), Some(1200))] {
        let outcome = launch.run();
        assert_eq!((outcome.stdout.as_str(), outcome.end), ("bad 0 grown 0\n", End::Exit(0)), "{outcome}");
        assert_eq!(counted.map(|_| outcome.hits("exe:work")), counted, "{outcome}");
    }
}
