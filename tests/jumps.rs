//! Jumps in place of int3: switched on and off under running threads, met by signals and faults, beside all that
//! they must leave as it is. The programs check themselves; what they print is the same with int3.

mod common;

use std::time::Duration;

use common::*;

/// Position independent, where int3 can stand inside a jump, and at low addresses, where undefined opcodes
/// must.
const SHAPES: [[&str; 2]; 2] = [["-fPIE", "-pie"], ["-fPIE", "-no-pie"]];

fn build(name: &str, shape: [&str; 2]) -> std::path::PathBuf {
    let program = Program::new(name).lib("-lm");
    shape.iter().fold(program, |program, flag| program.flag(flag)).build()
}

/// The number after `word` in a line of words and numbers.
fn number(text: &str, word: &str) -> u64 {
    let mut words = text.split_whitespace().skip_while(|w| *w != word).skip(1);
    let number = words.next().and_then(|n| n.trim_end_matches(',').parse().ok());
    number.unwrap_or_else(|| panic!("no number after '{word}' in {text}"))
}

mod switching {
    use super::*;

    /// Every cut of five bytes into instructions, at every edge, entered at each of them.
    fn assert_switches(shape: [&str; 2], args: &[&str]) {
        let outcome = Launch::new(build("toggle.c", shape)).arg(20_000).args(args).run();
        let expected = "wrong results: 0\nwrong handlers: 0\nwrong counts: 0\nthreads ran: yes\n";
        assert!(outcome.stdout.starts_with(expected), "{outcome}");
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
        let seen = |what| number(&outcome.stdout, what);
        if only_int3() {
            assert_eq!(seen("jumps"), 0, "{outcome}");
            return;
        }
        assert_eq!(seen("others"), 0, "{outcome}");
        // What the test is about was there.
        assert!(seen("kept") > 0 && seen("int3") > 0 && seen("undefined") > 0, "{outcome}");
    }

    #[test]
    fn under_running_threads() {
        SHAPES.into_iter().for_each(|shape| assert_switches(shape, &[]));
    }

    /// The hits are the calls that were made while the probe was on.
    fn assert_bounded(across: &str) {
        let program = build("toggle_bounds.c", SHAPES[0]);
        let launch = Launch::new(program).arg(across).arg(100_000).timeout(Duration::from_secs(600));
        let outcome = launch.run();
        let jumps = if only_int3() { "none" } else { "all" };
        let expected = format!("wrong results: 0\nwithin bounds: yes\nhits: yes\njumps: {jumps}\n");
        assert_eq!(outcome.stdout, expected, "{outcome}");
    }

    #[test]
    fn a_hundred_thousand_times_across_a_cache_line() {
        assert_bounded("line");
    }

    #[test]
    fn a_hundred_thousand_times_across_a_page() {
        assert_bounded("page");
    }

    #[test]
    fn under_running_threads_that_get_signals() {
        SHAPES.into_iter().for_each(|shape| assert_switches(shape, &["storm"]));
    }
}

mod signals {
    use super::*;

    fn assert_seen(keys: &str, args: &[&str]) -> (Outcome, u64, u64) {
        let program = Program::new("detour_signals.c").build();
        let launch =
            Launch::new(program).arg(5000).args(args).probe("exe:window_*", keys).count("exe:nested");
        let outcome = launch.run();
        let expected = "foreign rip: 0\nwrong rsp: 0\nshort backtraces: 0\nwrong results: 0\nsignals: many\n";
        assert!(outcome.stdout.starts_with(expected), "{outcome}");
        assert_hits_as_told(&outcome);
        let (from, to) = (number(&outcome.stdout, "calls"), number(&outcome.stdout, "to"));
        let probes = outcome.probes();
        let windows = || probes.iter().filter(|probe| probe.at.contains("window_"));
        let others: Vec<_> =
            windows().filter(|window| !only_int3() && window.method.as_deref() != Some("jump")).collect();
        assert!(others.is_empty(), "{others:#?}");
        let hits: u64 = windows().map(|window| window.hits).sum();
        assert_eq!(windows().map(|window| window.nmissed).sum::<u64>(), 0, "{outcome}");
        // The calls before the first signal are not among those it tells of.
        assert!((from..=to).contains(&hits), "{hits} hits of {from} to {to} calls\n{outcome}");
        (outcome, from, to)
    }

    #[test]
    fn see_the_program_whatever_is_done_at_a_hit() {
        for keys in [
            "action = ['count']",
            "kind = 'call'\naction = ['count']",
            "kind = 'return'\naction = ['count']",
            "args = ['a=%ax:s32']\nfilter = 'a >= 0'\naction = ['count']",
        ] {
            let (outcome, from, to) = assert_seen(keys, &[]);
            assert_eq!(from, to, "{outcome}");
        }
    }

    #[test]
    fn may_be_left_by_siglongjmp_anywhere() {
        for keys in ["action = ['count']", "args = ['a=%ax:s32']\nfilter = 'a >= 0'\naction = ['count']"] {
            assert_seen(keys, &["jump"]);
        }
        // Whoever ended leaves nothing in flight.
        for kind in ["call", "return"] {
            let (outcome, ..) = assert_seen(&format!("kind = '{kind}'\naction = ['count']"), &["jump"]);
            let summary = outcome.summary();
            let probes = summary["probes"].as_array().expect("probes");
            let sum = |key: &str| probes.iter().filter_map(|probe| probe[key].as_u64()).sum::<u64>();
            assert_eq!(sum("in_flight"), 0, "{kind} {outcome}");
            assert!(sum("unwound") > 0, "{kind} {outcome}");
        }
    }
}

/// Traps inside a jump are no crash of the handler that comes there.
#[test]
fn handlers_run_probed_functions_from_the_middle() {
    for shape in SHAPES {
        let outcome = Launch::new(build("j_handlers.c", shape)).run();
        let expected = "wrong 0, nhit 1, gone 0\nhits 1, missed 1\ndiverted 1504500 of 1504500\n";
        assert_eq!(outcome.stdout, expected, "{outcome}");
        let jumps = number(&outcome.stderr, "jumps");
        assert_eq!(jumps, if only_int3() { 0 } else { number(&outcome.stderr, "of") }, "{outcome}");
    }
}

/// A place with one handler and nothing else has a way of its own: nested hits, signals, crashes, errno, flags,
/// registers, other threads.
#[test]
fn handlers_are_called_directly() {
    for (shape, mode) in SHAPES.into_iter().flat_map(|shape| [(shape, "any"), (shape, "spare")]) {
        let launch = Launch::new(build("j_direct.c", shape)).arg(mode);
        let outcome =
            launch.count("exe:counted").probe("exe:timed", "kind = \"call\"\naction = [\"count\"]").run();
        assert_eq!(outcome.stdout, "wrong 0\n", "{outcome}");
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
        for at in ["exe:counted", "exe:timed"] {
            let probe = outcome.at(at);
            assert_eq!((probe.hits, probe.nmissed), (10, 10), "{outcome}");
        }
    }
}

/// Without pushf, which is slow, where a handler needs no vector registers: none of the flags may be lost, nor
/// made up.
#[test]
fn flags_are_the_programs_and_the_handlers() {
    for (shape, mode) in SHAPES.into_iter().flat_map(|shape| [(shape, "any"), (shape, "spare")]) {
        let outcome = Launch::new(build("j_flags.c", shape)).arg(mode).run();
        assert_eq!(outcome.stdout, "wrong 0, hits right\n", "{outcome}");
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
    }
}

/// Wherever the faulting instruction stands in what a jump displaces.
#[test]
fn faults_are_the_programs_own() {
    for shape in SHAPES {
        let outcome = Launch::new(build("j_faults.c", shape)).run();
        assert_eq!(outcome.stdout, "wrong 0, hits right\n", "{outcome}");
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
        let (jumps, of) = (number(&outcome.stderr, "jumps"), number(&outcome.stderr, "of"));
        assert!(if only_int3() { jumps == 0 } else { jumps * 20 >= of * 19 }, "{outcome}");
    }
}

/// Traps inside jumps come through whatever the program blocks, and in children of each kind.
#[test]
fn blocked_signals_and_children_are_no_matter() {
    let jumps = if only_int3() { "none" } else { "all" };
    let expected = format!(
        "plain: 0\nblocked: 0\nfork, blocked: 0\nin a handler: 0\nin a thread: 0\nvfork: 0\nclone: 0\n\
         in the child: 0, jumps {jumps}\nfork: 0\nafterwards: 0\n"
    );
    for shape in SHAPES {
        let outcome = Launch::new(build("j_masks.c", shape)).run();
        assert_eq!(outcome.stdout, expected, "{outcome}");
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
    }
}

mod places {
    use super::*;

    fn assert_prints(what: &str, expected: &str) {
        for shape in SHAPES {
            let outcome = Launch::new(build("j_place.c", shape)).arg(what).run();
            assert_eq!(outcome.stdout, expected, "{outcome}");
            assert_eq!(outcome.end, End::Exit(0), "{outcome}");
        }
    }

    /// A branch over a lock prefix leads into the middle of an instruction.
    #[test]
    fn in_the_middle_of_an_instruction_that_a_branch_leads_to() {
        assert_prints("lock", "over: 10 hits 10\n");
        assert_prints("far", "far: 10 hits 5\n");
    }

    #[test]
    fn of_functions_shorter_than_a_jump() {
        assert_prints("data", "data: 0 hits 1 behind kept\n");
        assert_prints("tiny", "tiny: 6 hits 1\ntiny: 3 hits 1\n");
    }

    /// Each instruction of functions that keep something everywhere.
    #[test]
    fn inside_functions() {
        for shape in SHAPES {
            let program = build("midway.c", shape);
            for function in [
                "red_zone",
                "carries",
                "backwards",
                "vectors",
                "masks",
                "eighty",
                "rounding",
                "crooked",
                "ways",
                "early_loop",
                "blocks",
            ] {
                let offsets = instruction_offsets(&program, function);
                let outcome = Launch::new(&program).arg(function).args(&offsets).run();
                assert_eq!(outcome.end, End::Exit(0), "{function} {outcome}");
                if outcome.stdout == "skipped\n" {
                    eprintln!("\n******** SKIPPED: '{function}' needs another processor ********\n");
                    continue;
                }
                assert!(outcome.stdout.ends_with("\nwrong 0, hits some\n"), "{function} {outcome}");
                let jumps = ["time:", "once:", "other:"].map(|word| number(&outcome.stdout, word));
                if only_int3() {
                    assert_eq!(jumps, [0, 0, 0], "{function} {outcome}");
                } else {
                    // Neighbours are in each other's way, and no longer when they have gone.
                    assert!(jumps[0] * 4 >= offsets.len() as u64 * 3, "{function} {outcome}");
                    assert!(jumps[1] < jumps[0], "{function} {outcome}");
                }
            }
        }
    }
}
