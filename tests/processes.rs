//! Processes that begin and end in every way, with each function of libc, of the linker and of the program
//! probed: the same output and status as without the library, and every call counted once, in one of the
//! reports.

mod common;

use common::*;

fn source(name: &str) -> Program {
    Program::at(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs_process").join(name))
}

fn start(name: &str, args: &[&str]) -> Launch {
    launch(source(name), args)
}

/// Every probe of every report of all processes.
fn all_reported(outcome: &Outcome) -> Vec<Calls> {
    outcome.summaries().values().flatten().flat_map(calls_of).collect()
}

/// What all processes together counted of the program's own function.
fn works(all: &[Calls]) -> u64 {
    all.iter().filter(|probe| probe.name == "work").map(|probe| probe.hits).sum()
}

/// The program with each function followed, or only met at its entry.
fn probed(launch: &Launch, kind: &str) -> Launch {
    let keys = format!("kind = '{kind}'\naction = ['count']");
    ["exe:*", "libc.so.6:*", "ld-linux-x86-64.so.2:*"]
        .iter()
        .fold(launch.clone(), |launch, at| launch.probe(at, &keys))
}

/// Each function followed; nothing is seen of it, and each process has counted what it did.
fn assert_unnoticed(launch: &Launch) -> Outcome {
    assert_same(&launch.clone().native().run(), &probed(launch, "call"))
}

/// The same, with nothing but entries besides.
fn assert_unnoticed_twice(launch: &Launch) {
    let native = launch.clone().native().run();
    for kind in ["entry", "call"] {
        assert_same(&native, &probed(launch, kind));
    }
}

fn assert_same(native: &Outcome, probed: &Launch) -> Outcome {
    let probed = probed.run();
    assert_same_output(&probed, native);
    assert_eq!(probed.stderr, native.stderr, "standard error\n{probed}");
    let all = all_reported(&probed);
    let missed: Vec<_> = all.iter().filter(|probe| probe.nmissed + probe.lost > 0).collect();
    assert!(missed.is_empty(), "{missed:#?}\n{probed}");
    let told: Vec<u64> =
        probed.stdout.lines().filter_map(|line| line.strip_prefix("hits work ")?.parse().ok()).collect();
    if let Some(told) = told.last() {
        assert_eq!(works(&all), *told, "{probed}");
    }
    probed
}

mod children {
    use super::*;

    #[test]
    fn of_posix_spawn_with_each_attribute_and_action() {
        let outcome = assert_unnoticed(&start("spawn.c", &[]));
        let ended = outcome.stdout.lines().filter(|line| line.ends_with(": exit 7")).count();
        assert!(ended >= 20, "{outcome}");
    }

    /// A task that has its parent's thread-local storage and runs beside it took the parent's state for its own: calls
    /// were counted as missed, for ever after. One that is made without signal handlers died of the first breakpoint.
    #[test]
    fn of_clone_in_its_forms() {
        assert_unnoticed(&start("clones.c", &[]));
    }

    #[test]
    fn of_each_kind() {
        for kind in ["exit", "_exit", "vfork", "killed"] {
            let outcome = assert_unnoticed(&start("many.c", &["30", kind]));
            let of_children = if ["exit", "_exit"].contains(&kind) { 30 } else { 0 };
            assert_eq!(outcome.summaries().len(), 1 + of_children, "{kind} {outcome}");
        }
    }

    #[test]
    fn by_the_thousand() {
        let launch = start("many.c", &["1000", "_exit"]).count("exe:work");
        let outcome = assert_same_as_native(&launch);
        assert_eq!(works(&all_reported(&outcome)), 2001, "{outcome}");
        assert_eq!(outcome.summaries().len(), 1001, "{outcome}");
    }

    #[test]
    fn whose_ends_are_told() {
        assert_unnoticed_twice(&start("ends.c", &[]));
    }

    #[test]
    fn that_outlive_their_parents() {
        assert_unnoticed_twice(&start("daemons.c", &[]));
    }

    /// Where files are named by the process's number, those of several namespaces may have one name.
    #[test]
    fn in_other_namespaces() {
        let launch = start("namespaces.c", &[]);
        let without_numbers = |outcome: &Outcome| -> Vec<String> {
            let word = |word: &str| match word.parse::<u32>() {
                Ok(number) if number > 10 => "N".to_owned(),
                _ => word.to_owned(),
            };
            let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
            outcome.stdout.lines().map(line).collect()
        };
        let native = launch.clone().native().run();
        if native.stdout.contains("not allowed") {
            eprintln!("\n******** SKIPPED: some namespaces are not allowed here ********\n");
        }
        for kind in ["entry", "call"] {
            let outcome = probed(&launch, kind).run();
            assert_eq!(outcome.end, native.end, "{outcome}");
            assert_eq!(without_numbers(&outcome), without_numbers(&native), "{outcome}");
        }
    }
}

mod following {
    use super::*;

    /// A log of each, or one that all share: each event once, in a line of its own.
    #[test]
    fn writes_each_event_once() {
        for (path, logs) in [("events.%p", 41), ("events", 1)] {
            let dir = scratch("following");
            let launch = start("many.c", &["50", "exit"])
                .cwd(&dir)
                .toml(&format!("[output]\npath = '{path}'\nformat = 'json'\n"))
                .probe("exe:work", "args = ['a=%di:s32']");
            let outcome = launch.run();
            assert_eq!(outcome.end, End::Exit(0), "{outcome}");
            let written: Vec<String> = std::fs::read_dir(&dir)
                .expect("ours")
                .map(|entry| std::fs::read_to_string(entry.expect("ours").path()).expect("text"))
                .collect();
            assert_eq!(written.len(), logs, "{path} {outcome}");
            let lines: Vec<&str> = written.iter().flat_map(|log| log.lines()).collect();
            assert_eq!(lines.len(), 101, "{path} {outcome}");
            for line in &lines {
                let event: serde_json::Value = serde_json::from_str(line).expect("an object a line");
                assert_eq!(event["args"]["a"].as_u64().map(|a| a < 5), Some(true), "{line}");
            }
            std::fs::remove_dir_all(dir).expect("ours");
        }
    }

    /// `follow = false`: the process, and no other.
    #[test]
    fn is_not_done_where_it_is_not_wanted() {
        for (name, args) in [("many.c", &["30", "exit"][..]), ("spawn.c", &[]), ("daemons.c", &[])] {
            let launch = start(name, args);
            let native = launch.clone().native().run();
            let probed = launch.toml("follow = false").count("exe:*").count("libc.so.6:*").run();
            assert_same_output(&probed, &native);
            let pids: Vec<u32> = probed.summaries().into_keys().collect();
            assert_eq!(pids, [probed.pid], "{probed}");
        }
    }
}

/// Execution of itself by each function that can, with and without what makes it probed.
#[test]
fn programs_that_execute_themselves() {
    for how in [
        "plain",
        "fexecve",
        "execveat",
        "descriptor",
        "execvp",
        "execle",
        "number",
        "alone",
        "bare",
        "unprobed",
    ] {
        let outcome = assert_unnoticed(&start("execs.c", &[how]));
        let reports = if ["alone", "bare", "unprobed"].contains(&how) { 1 } else { 4 };
        assert_eq!(outcome.summaries().values().flatten().count(), reports, "{how} {outcome}");
    }
}

#[test]
fn programs_that_are_started_to_be_traced() {
    assert_unnoticed_twice(&start("debugger.c", &[]));
}

#[test]
fn programs_that_are_executed_by_threads_and_vfork_children() {
    for how in ["thread", "vforked"] {
        let launch = start("execs.c", &[how]);
        let outcome = assert_same_as_native(&launch.count("exe:*").count("libc.so.6:*"));
        assert_eq!(outcome.summaries().values().flatten().count(), 4, "{how} {outcome}");
    }
}

mod threads {
    use super::*;

    /// A registration asked the linker for a symbol, for which it needed the lock that dlopen held while it waited
    /// for the registry in our hook. And a callback of dl_iterate_phdr holds the one that a registration takes.
    #[test]
    fn fork_while_others_register_and_load_and_list() {
        let library = Program::new("plugged.c").shared("libplugged.so").build();
        for forks in ["1", "700"] {
            let outcome = start("fork_threads.c", &[forks, &library.display().to_string()]).run();
            let expected = "wrong 0 failures 0 handled 1\n";
            assert_eq!((outcome.stdout.as_str(), outcome.end), (expected, End::Exit(0)), "{outcome}");
        }
    }

    #[test]
    fn fork_in_handlers() {
        let outcome = start("fork_inside.c", &[]).run();
        let line = |mode: u32| format!("mode {mode}: wrong 0, children 20\n");
        assert_eq!(outcome.stdout, (0..4).map(line).collect::<String>(), "{outcome}");
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
    }
}
