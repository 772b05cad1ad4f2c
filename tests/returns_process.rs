//! Followed calls where processes begin and end, and in code that comes and goes or is like no compiler's.

mod common;

use common::*;

mod children {
    use super::*;

    fn program(way: &str) -> Launch {
        launch(Program::new("r_fork.c"), &[way])
    }

    fn pids(outcome: &Outcome) -> Vec<u64> {
        let text = std::fs::read_to_string(outcome.dir.join("pids")).unwrap_or_default();
        text.lines().map(|line| line.parse().expect("a pid")).collect()
    }

    /// Of the child's summary: the probe of that name.
    fn find<'a>(child: &'a [Calls], name: &str) -> &'a Calls {
        child.iter().find(|probe| probe.name == name).unwrap_or_else(|| panic!("no {name} in {child:#?}"))
    }

    #[test]
    fn parent_and_child_return_once_each_from_what_was_under_way() {
        let outcome = assert_followed(&program("fork"));
        let children = outcome.children();
        assert_eq!(children.len(), 1, "{outcome}");
        for kind in ["return", "call"] {
            for (place, calls) in [("exe:forker", 3), ("exe:work", 5), ("libc.so.6:fork", 1)] {
                let probe = find(&children[0], &format!("{kind}/{place}"));
                assert_eq!((probe.hits, probe.fates()), (calls, (calls, 0, 0)), "{probe:#?}\n{outcome}");
                assert_eq!(probe.nmissed, 0, "{probe:#?}\n{outcome}");
            }
        }
        for (place, calls) in [("exe:forker", 0), ("exe:work", 5), ("libc.so.6:fork", 0)] {
            let probe = find(&children[0], &format!("entry/{place}"));
            assert_eq!((probe.hits, probe.nmissed), (calls, 0), "{probe:#?}\n{outcome}");
        }
    }

    #[test]
    fn of_children_of_children() {
        let outcome = assert_followed(&program("family"));
        for kind in ["return", "call"] {
            let of = |place: &str| {
                let name = format!("{kind}/{place}");
                let mut hits: Vec<(u64, u64)> = outcome
                    .children()
                    .iter()
                    .map(|child| (find(child, &name).hits, find(child, &name).returns))
                    .collect();
                hits.sort_unstable();
                hits
            };
            // Those under way, and its own.
            assert_eq!(of("exe:family"), [(2, 2), (3, 3), (3, 3)], "{outcome}");
            assert_eq!(of("libc.so.6:fork"), [(1, 1), (2, 2), (2, 2)], "{outcome}");
        }
    }

    /// The child returns from vfork by the parent's stack; the parent, later, with the child's pid.
    #[test]
    fn by_vfork() {
        for way in ["vfork-exec", "vfork-exit"] {
            assert_followed(&program(way));
            let outcome = program(way)
                .format("json")
                .probe("libc.so.6:vfork", "name = 'v'\nkind = 'return'\nret = ['pid=$retval:s32']")
                .run();
            let mut of_parent = Vec::new();
            for line in outcome.event_lines() {
                let event: serde_json::Value = serde_json::from_str(&line).expect("an object a line");
                let pid = event["args"]["pid"].as_i64().unwrap_or_else(|| panic!("{line}"));
                of_parent.push(u64::try_from(pid).expect("no error"));
            }
            assert_eq!(of_parent, pids(&outcome), "{way}\n{outcome}");
        }
    }

    /// Whatever the other threads are doing at that moment.
    #[test]
    fn while_other_threads_are_inside() {
        let launch = launch(Program::new("r_fork_storm.c"), &["150"]);
        let outcome = launch.follow("exe:work").follow("exe:deeper").run();
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
        assert!(!outcome.stdout.contains("a child"), "{outcome}");
        assert_calls_as_told(&outcome);
        let children = outcome.children();
        assert_eq!(children.len(), 150, "{outcome}");
        for child in &children {
            for kind in KINDS {
                let deeper = find(child, &format!("{kind}/exe:deeper"));
                assert_eq!((deeper.hits, deeper.nmissed), (2, 0), "{deeper:#?}\n{outcome}");
            }
        }
    }

    /// What is under way then is in flight for ever; the new program begins afresh.
    #[test]
    fn of_itself_by_exec() {
        let launch = program("exec").follow("exe:becomes").follow("exe:main").follow("exe:work");
        let outcome = assert_same_as_native(&launch);
        let summaries = outcome.summaries();
        let mine: Vec<Vec<Calls>> = summaries[&outcome.pid].iter().map(calls_of).collect();
        assert_eq!(mine.len(), 2, "{outcome}");
        for kind in ["return", "call"] {
            let fates = |summary: usize, place: &str| {
                let calls = find(&mine[summary], &format!("{kind}/exe:{place}"));
                (calls.hits, calls.fates())
            };
            assert_eq!(fates(0, "becomes"), (3, (0, 0, 3)), "{outcome}");
            assert_eq!(fates(0, "main"), (1, (0, 0, 1)), "{outcome}");
            assert_eq!(fates(1, "becomes"), (0, (0, 0, 0)), "{outcome}");
            assert_eq!(fates(1, "main"), (1, (1, 0, 0)), "{outcome}");
            assert_eq!(fates(1, "work"), (1, (1, 0, 0)), "{outcome}");
        }
    }

    #[test]
    fn by_libc() {
        for way in ["posix_spawn", "system", "popen"] {
            let outcome = assert_followed(&program(way));
            // What they executed is followed too.
            let children = outcome.children();
            let works = children.iter().map(|child| find(child, &format!("return/libc.so.6:{way}"))).count();
            assert!(works >= 10, "{outcome}");
        }
    }
}

/// Where functions are called from, how they return, and what becomes of the objects they are in.
mod code {
    use super::*;

    #[test]
    fn that_returns_in_unusual_ways() {
        assert_ways("r_odd.c", &[&["100"]]);
    }

    /// There are so many addresses that can be returned to, and no more: what returns elsewhere is missed.
    #[test]
    fn that_calls_from_more_places_than_are_followed() {
        for sites in [1000, 40_000] {
            let launch = launch(Program::new("r_sites.c"), &[&sites.to_string()]);
            let probed = launch.follow("exe:work").follow("exe:settle");
            let outcome = assert_same_as_native(&probed);
            let executed = 4 * sites;
            assert_eq!(outcome.calls("entry/exe:work").hits, executed, "{outcome}");
            for kind in ["return", "call"] {
                let work = outcome.calls(&format!("{kind}/exe:work"));
                assert_eq!(work.executions(), executed, "{work:#?}\n{outcome}");
                assert_eq!(work.fates(), (work.hits, 0, 0), "{work:#?}\n{outcome}");
                if sites == 1000 {
                    assert_eq!(work.nmissed, 0, "{work:#?}\n{outcome}");
                } else {
                    assert!(work.hits >= 4 * 30_000, "{work:#?}\n{outcome}");
                    assert!(work.nmissed > 0, "{work:#?}\n{outcome}");
                }
            }
        }
    }

    #[test]
    fn of_objects_that_are_unloaded_under_calls() {
        let object = Program::new("r_plugged.c").shared("libplug.so").build();
        for compiler in Compiler::installed() {
            let program = Program::new("r_host.c").compiler(compiler);
            let launch = launch(program, &["200", &object.display().to_string()]);
            let native = launch.clone().native().run();
            let places: Vec<String> = told_calls(&native).into_iter().map(|told| told.place).collect();
            let outcome = launch.follow_all(&places).run();
            assert_same_output(&outcome, &native);
            for told in told_calls(&native) {
                for kind in ["return", "call"] {
                    let calls = outcome.calls(&format!("{kind}/{}", told.place));
                    assert_eq!((calls.hits, calls.nmissed), (told.hits, 0), "{calls:#?}\n{outcome}");
                    let fates = (told.returns, told.unwound, told.in_flight);
                    assert_eq!(calls.fates(), fates, "{calls:#?}\n{outcome}");
                }
            }
        }
    }

    #[test]
    fn whose_probes_come_and_go_under_calls() {
        for compiler in Compiler::installed() {
            let program = Program::new("h_return_race.c").compiler(compiler).flag("-fPIE");
            let outcome = launch(program, &["300"]).run();
            let expected = "handlers early 0, mixed 0; errors 0, miscounted 0, missed 0, wrong values 0\n";
            assert_eq!((outcome.stdout.as_str(), outcome.end), (expected, End::Exit(0)), "{outcome}");
            assert_eq!(outcome.stderr, "", "{outcome}");
        }
    }
}

mod ends {
    use super::*;

    #[test]
    fn constructors_main_exit_handlers_and_destructors() {
        assert_ways("r_ends.c", &[&["return"], &["exit"], &["_exit"]]);
    }

    #[test]
    fn by_death_inside() {
        for way in ["dies-abort", "dies-fault", "dies-signal"] {
            let program = launch(Program::new("r_fork.c"), &[way]);
            let outcome = assert_same_as_native(&program.follow("exe:dies").follow("exe:main"));
            assert!(matches!(outcome.end, End::Signal(_)), "{outcome}");
            for kind in ["return", "call"] {
                for place in ["dies", "main"] {
                    let calls = outcome.calls(&format!("{kind}/exe:{place}"));
                    assert_eq!((calls.hits, calls.fates()), (1, (0, 0, 1)), "{calls:#?}\n{outcome}");
                }
            }
        }
    }

    /// It is not called, so it can't return; a program that is asked to follow it is unharmed.
    #[test]
    fn the_first_function_of_all() {
        let plain = launch(Program::new("r_ends.c"), &["return"]);
        let launch = plain.clone().follow("exe:_start").follow("exe:main");
        let outcome = assert_same_as_native(&launch);
        assert_eq!(outcome.calls("entry/exe:_start").hits, 1, "{outcome}");
        for kind in ["return", "call"] {
            let start = outcome.calls(&format!("{kind}/exe:_start"));
            assert_eq!(start.state, "refused", "{start:#?}\n{outcome}");
            assert!(start.reason.contains(": "), "{start:#?}");
            assert_eq!(outcome.calls(&format!("{kind}/exe:main")).fates(), (1, 0, 0), "{outcome}");
        }
    }
}
