//! Followed calls that don't simply return: left by longjmp, on other stacks, interrupted, ended with their
//! thread, forked, recursive, and tail calls. The program does what it does natively, and what became of
//! each call is counted exactly.

mod common;

use std::time::Duration;

use common::*;

fn launch(program: Program, args: &[&str]) -> Launch {
    Launch::new(program.build()).args(args).timeout(Duration::from_secs(240))
}

/// The program's places, followed, as it tells of them.
fn assert_ways(source: &str, ways: &[&[&str]]) {
    for compiler in Compiler::installed() {
        for way in ways {
            assert_followed(&launch(Program::new(source).compiler(compiler), way));
        }
    }
}

mod longjmp {
    use super::*;

    #[test]
    fn out_of_ten_thousand_calls_two_hundred_times() {
        let program = Program::new("r_longjmp.c");
        let outcome = assert_followed(&launch(program, &["deep"]));
        assert_eq!(outcome.calls("return/exe:nested").unwound, 2_000_000, "{outcome}");
        assert!(outcome.stdout.contains("bounded"), "{outcome}");
    }

    /// The calls that are left make room for others.
    #[test]
    fn out_of_more_calls_than_are_followed_at_once() {
        let launch = launch(Program::new("r_longjmp.c"), &["deep"]);
        let keys = "name = 'p'\nkind = 'return'\nmaxactive = 5\naction = ['count']";
        let outcome = assert_same_as_native(&launch.probe("exe:nested", keys).follow("exe:settle"));
        let calls = outcome.calls("p");
        assert_eq!((calls.hits, calls.nmissed), (1000, 2_000_000 - 1000), "{calls:#?}\n{outcome}");
        assert_eq!(calls.fates(), (0, 1000, 0), "{calls:#?}\n{outcome}");
    }

    #[test]
    fn with_setjmp_itself_followed_at_two_sites() {
        assert_ways("r_longjmp.c", &[&["two-sites"]]);
    }

    #[test]
    fn out_of_signal_handlers() {
        assert_ways("r_longjmp.c", &[&["handlers"], &["altstack"]]);
    }
}

mod contexts {
    use super::*;

    #[test]
    fn one_that_is_returned_to_again_and_again() {
        assert_ways("r_contexts.c", &[&["loop"]]);
    }

    #[test]
    fn hundreds_of_coroutines() {
        assert_ways("r_contexts.c", &[&["many", "500"]]);
    }

    #[test]
    fn ten_thousand_coroutines_at_once() {
        assert_followed(&launch(Program::new("r_contexts.c"), &["many", "10000"]));
    }

    #[test]
    fn a_coroutine_on_a_thousand_threads() {
        assert_ways("r_contexts.c", &[&["migrate"]]);
    }

    #[test]
    fn a_stack_that_is_left_and_used_afresh() {
        let outcome = assert_followed(&launch(Program::new("r_contexts.c"), &["reuse"]));
        assert!(outcome.stdout.contains("bounded"), "{outcome}");
    }
}

mod signals {
    use super::*;

    #[test]
    fn whose_handlers_call_what_they_interrupted() {
        assert_ways("r_signals.c", &[&["nested"], &["altstack"]]);
    }

    /// What the program tells differs from run to run.
    fn assert_storm(launch: &Launch) {
        for kinds in [&["entry", "return", "call"][..], &["call"]] {
            let mut probed = launch.clone();
            for place in ["exe:work", "exe:inner", "exe:on_signal"] {
                for kind in kinds {
                    let keys = format!("name = '{kind}/{place}'\nkind = '{kind}'\naction = [\"count\"]");
                    probed = probed.probe(place, &keys);
                }
            }
            let outcome = probed.run();
            assert_eq!(outcome.end, End::Exit(0), "{outcome}");
            assert!(!outcome.stdout.contains("wrong"), "{outcome}");
            let all = outcome.all_calls();
            for told in told_calls(&outcome) {
                for probe in all.iter().filter(|probe| probe.name.ends_with(&told.place)) {
                    assert_eq!((probe.hits, probe.nmissed), (told.hits, 0), "{probe:#?}\n{outcome}");
                    if probe.kind != "entry" {
                        assert_eq!(probe.fates(), (told.hits, 0, 0), "{probe:#?}\n{outcome}");
                    }
                }
            }
        }
    }

    #[test]
    fn in_storms() {
        for compiler in Compiler::installed() {
            let program = Program::new("r_signals.c").compiler(compiler);
            assert_storm(&launch(program.clone(), &["storm", "4", "500"]));
            assert_storm(&launch(program, &["storm-altstack", "4", "500"]));
        }
    }

    /// Where followed calls fill the stack, the program's handler is called just the same.
    #[test]
    fn of_stacks_that_overflow() {
        for compiler in Compiler::installed() {
            let launch = launch(Program::new("r_overflow.c").compiler(compiler), &["50"]).follow("exe:down");
            let outcome = assert_same_as_native(&launch);
            for kind in ["return", "call"] {
                let down = outcome.calls(&format!("{kind}/exe:down"));
                assert_eq!((down.returns, down.nmissed), (0, 0), "{down:#?}\n{outcome}");
                assert!(down.hits > 50 * 10, "{down:#?}\n{outcome}");
            }
        }
    }
}

/// At any instruction, our own included.
mod any_moment {
    use super::*;

    /// How many calls there were is nobody's business; but each is accounted for.
    fn assert_accounted(way: &str, count: u32) {
        for compiler in Compiler::installed() {
            let launch = launch(Program::new("r_async.c").compiler(compiler), &[way, &count.to_string()]);
            let places = ["exe:work", "exe:middle", "exe:deep", "exe:settle"];
            let outcome = assert_same_as_native(&launch.follow_all(places));
            for place in places {
                let [entry, returned, call] = KINDS.map(|kind| outcome.calls(&format!("{kind}/{place}")));
                assert_eq!((entry.nmissed, returned.nmissed), (0, 0), "{returned:#?}\n{outcome}");
                assert_eq!((returned.hits, returned.in_flight), (entry.hits, 0), "{returned:#?}\n{outcome}");
                assert_eq!(returned.fates(), call.fates(), "{call:#?}\n{outcome}");
            }
            let deep = outcome.calls("return/exe:deep");
            assert!(deep.unwound >= u64::from(count), "{deep:#?}\n{outcome}");
        }
    }

    #[test]
    fn is_left_by_longjmp() {
        assert_accounted("longjmp", 500);
    }

    #[test]
    fn is_left_by_cancellation() {
        assert_accounted("cancel", 300);
    }

    /// Frames that were begun by one thread on its own stack return in another: they are right, and each
    /// call is accounted for; that it came back isn't always known.
    #[test]
    fn is_gone_on_from_by_another_thread() {
        for compiler in Compiler::installed() {
            let launch = launch(Program::new("r_async.c").compiler(compiler), &["exchange", "100"]);
            let places = ["exe:around", "exe:swap", "exe:deep", "exe:work"];
            let outcome = assert_same_as_native(&launch.follow_all(places));
            for told in told_calls(&outcome) {
                for kind in ["return", "call"] {
                    let calls = outcome.calls(&format!("{kind}/{}", told.place));
                    assert_eq!((calls.hits, calls.nmissed), (told.hits, 0), "{calls:#?}\n{outcome}");
                    if ["exe:deep", "exe:work"].contains(&told.place.as_str()) {
                        assert_eq!(calls.fates(), (told.returns, 0, 0), "{calls:#?}\n{outcome}");
                    }
                }
            }
        }
    }
}

mod threads {
    use super::*;

    #[test]
    fn two_thousand_that_end_inside() {
        let outcome = assert_followed(&launch(Program::new("r_threads.c"), &["end", "2000"]));
        assert!(outcome.stdout.contains("bounded"), "{outcome}");
    }

    /// What they held of `maxactive` is free again.
    #[test]
    fn that_end_inside_where_one_call_is_followed_at_once() {
        let launch = launch(Program::new("r_threads.c"), &["in-turns", "200"]);
        for kind in ["return", "call"] {
            let keys = format!("name = 'p'\nkind = '{kind}'\nmaxactive = 1\naction = ['count']");
            let outcome = assert_same_as_native(&launch.clone().probe("exe:leave", &keys));
            let calls = outcome.calls("p");
            assert_eq!((calls.hits, calls.nmissed), (201, 0), "{calls:#?}\n{outcome}");
            assert_eq!(calls.fates(), (1, 200, 0), "{calls:#?}\n{outcome}");
        }
    }

    #[test]
    fn that_are_cancelled_inside() {
        assert_ways("r_threads.c", &[&["cancel"]]);
    }

    /// Counts are exact whoever counts.
    #[test]
    fn that_share_a_sample_and_a_limit() {
        let plain = launch(Program::new("r_threads.c"), &["at-once", "1000"]);
        assert_followed(&plain);
        let probe = |name: &str, keys: &str| {
            format!("name = '{name}'\nkind = 'call'\naction = ['count']\nargs = ['n=$arg1']\n{keys}")
        };
        let launch = plain
            .probe("exe:work", &probe("limit", "limit = 700"))
            .probe("exe:work", &probe("sample", "sample = 7"))
            .probe("exe:work", &probe("entry", "filter = 'n == 2'\nlimit = 70"))
            .probe("exe:work", &probe("return", "ret = ['r=$retval']\nfilter = 'r == 3'\nlimit = 70"));
        let outcome = assert_same_as_native(&launch);
        for (name, hits, filtered, sampled_out) in [
            ("limit", 700, 0, 15_300),
            ("sample", 2285, 0, 13_715),
            ("entry", 70, 8000, 7930),
            ("return", 70, 8000, 7930),
        ] {
            let calls = outcome.calls(name);
            let counts = (calls.hits, calls.filtered, calls.sampled_out, calls.nmissed);
            assert_eq!(counts, (hits, filtered, sampled_out, 0), "{calls:#?}\n{outcome}");
            assert_eq!(calls.fates(), (hits, 0, 0), "{calls:#?}\n{outcome}");
        }
    }

    #[test]
    fn that_are_inside_when_the_process_ends() {
        assert_ways("r_threads.c", &[&["around"]]);
    }
}

mod recursion {
    use super::*;

    fn program() -> Program {
        Program::new("r_recursion.c").flag("-O2")
    }

    #[test]
    fn a_hundred_thousand_deep() {
        assert_followed(&launch(program(), &["deep", "100000"]));
    }

    /// More calls at once than there is memory for: those are missed, and the others are right.
    #[test]
    fn deeper_than_can_be_followed() {
        let launch = launch(program(), &["deep", "700000"]);
        let places = ["exe:down", "exe:is_even", "exe:is_odd"];
        let outcome = assert_same_as_native(&launch.follow_all(places));
        for (place, executed) in places.iter().zip([1_400_000, 700_000, 700_000]) {
            assert_eq!(outcome.calls(&format!("entry/{place}")).hits, executed, "{outcome}");
            for kind in ["return", "call"] {
                let calls = outcome.calls(&format!("{kind}/{place}"));
                assert_eq!(calls.executions(), executed, "{calls:#?}\n{outcome}");
                assert_eq!(calls.fates(), (calls.hits, 0, 0), "{calls:#?}\n{outcome}");
                assert!(calls.hits > 200_000 && calls.nmissed > 0, "{calls:#?}\n{outcome}");
            }
        }
    }

    #[test]
    fn of_tail_calls_which_return_together() {
        for compiler in Compiler::installed() {
            assert_followed(&launch(program().compiler(compiler), &["tails", "1000"]));
        }
    }

    /// One place on the stack is that of so many calls that not all are followed; the others are counted
    /// as missed, and the answer is right.
    fn assert_chain(way: &str, count: u64, places: &[(&str, u64)]) {
        let launch = launch(program(), &[way, &count.to_string()]);
        let native = launch.clone().native().run();
        for kind in ["return", "call"] {
            let mut probed = launch.clone().follow("exe:last");
            for (place, _) in places {
                probed = probed.count(&format!("exe:{place}"));
                let keys = format!("name = '{place}'\nkind = '{kind}'\naction = [\"count\"]");
                probed = probed.probe(&format!("exe:{place}"), &keys);
            }
            let outcome = probed.run();
            assert_same_output(&outcome, &native);
            assert_calls_as_told(&outcome);
            let mut followed = 0;
            for (place, executed) in places {
                let entry = outcome.all_calls().into_iter().find(|p| p.name.starts_with(place));
                let entry = entry.expect("it is there");
                assert_eq!((entry.hits, entry.nmissed), (*executed, 0), "{entry:#?}\n{outcome}");
                let calls = outcome.calls(place);
                assert_eq!(calls.executions(), *executed, "{calls:#?}\n{outcome}");
                assert_eq!(calls.fates(), (calls.hits, 0, 0), "{calls:#?}\n{outcome}");
                followed += calls.hits;
            }
            let executed: u64 = places.iter().map(|(_, executed)| executed).sum();
            assert_eq!(followed, executed.min(CHAIN), "{outcome}");
        }
    }

    /// Most calls of one place on the stack that are followed at once.
    const CHAIN: u64 = 64;

    #[test]
    fn of_tail_calls_a_hundred_thousand_long() {
        assert_chain("mutual", 20, &[("tail_even", 11), ("tail_odd", 10)]);
        assert_chain("mutual", 100_000, &[("tail_even", 50_001), ("tail_odd", 50_000)]);
    }

    #[test]
    fn by_a_jump_to_the_first_instruction() {
        assert_chain("again", 1, &[("again", 1)]);
        assert_chain("again", 10, &[("again", 10)]);
        assert_chain("again", 1000, &[("again", 1000)]);
    }
}

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

/// With every function of every object followed, libc's, the loader's and the unwinder's among them, the
/// programs do what they do natively, and each call is accounted for.
#[test]
fn everything_at_once() {
    for (source, args) in [
        ("r_longjmp.c", &["two-sites"][..]),
        ("r_longjmp.c", &["altstack"]),
        ("r_contexts.c", &["many", "100"]),
        ("r_signals.c", &["altstack"]),
        ("r_threads.c", &["end", "100"]),
        ("r_threads.c", &["cancel"]),
        ("r_fork.c", &["family"]),
        ("r_fork.c", &["vfork-exec"]),
        ("r_fork.c", &["popen"]),
        ("r_ends.c", &["exit"]),
        ("r_odd.c", &["10"]),
        ("r_async.c", &["longjmp", "30"]),
        ("r_async.c", &["cancel", "30"]),
    ] {
        let launch = launch(Program::new(source), args);
        let outcome = assert_same_as_native(&launch.probe("*:*", "kind = 'call'\naction = ['count']"));
        let all = outcome.all_calls();
        assert!(all.iter().filter(|probe| probe.hits > 0).count() > 30, "{source} {args:?}\n{outcome}");
        let missed: Vec<&Calls> = all.iter().filter(|probe| probe.nmissed > 0).collect();
        assert!(missed.is_empty(), "{source} {args:?}: {missed:#?}\n{outcome}");
        // Consistent in itself, each.
        outcome.children();
    }
}
