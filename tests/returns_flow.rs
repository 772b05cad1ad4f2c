//! Followed calls that don't simply return: left by longjmp, on other stacks, interrupted, ended with their
//! thread, recursive, and tail calls. The program does what it does natively, and what became of
//! each call is counted exactly.

mod common;

use common::*;

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
