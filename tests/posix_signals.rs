//! All that POSIX and Linux let a program do with signals, with every function of libc and of the program probed,
//! at its entry and at its return, by jumps and by breakpoints: it prints what it prints without us, and ends so.
//!
//! The programs print what they see; nothing here is compared with what somebody thought it should be.

mod common;

use common::*;

fn built(name: &str) -> Launch {
    let program = Program::at(format!("{}/tests/programs_signals/{name}", env!("CARGO_MANIFEST_DIR")))
        .flag("-Wno-deprecated-declarations");
    Launch::new(program.build())
}

/// Everything that can be probed, in each of the ways.
fn everything(launch: &Launch, method: &str) -> Launch {
    ["entry", "return"].into_iter().fold(launch.clone(), |launch, kind| {
        let keys = format!("kind = '{kind}'\nmethod = '{method}'\naction = ['count']");
        ["libc.so.6:*", "exe:*"].into_iter().fold(launch, |launch, at| launch.probe(at, &keys))
    })
}

fn assert_unnoticed(launch: &Launch) {
    let native = launch.clone().native().run();
    for method in ["auto", "int3"] {
        let probed = everything(launch, method).run();
        assert_same_output(&probed, &native);
        assert!(!probed.stderr.contains("no report"), "one is lost\n{probed}");
        assert!(hits_of_each(&probed).iter().sum::<u64>() > 0, "nothing was probed\n{probed}");
    }
}

/// In each summary.
fn hits_of_each(outcome: &Outcome) -> Vec<u64> {
    let mut all = Vec::new();
    outcome.each_summary(|_, summary| {
        let probes = summary["probes"].as_array().into_iter().flatten();
        all.push(probes.filter_map(|probe| probe["hits"].as_u64()).sum());
    });
    all
}

macro_rules! checks {
    ($program:ident: $($name:ident),* $(,)?) => {
        mod $program {
            const PROGRAM: &str = concat!(stringify!($program), ".c");

            /// Every check the program has is one of these tests.
            #[test]
            fn none_is_forgotten() {
                let listed = super::built(PROGRAM).native().run();
                let listed: Vec<&str> = listed.stdout.lines().collect();
                assert_eq!(listed, [$(stringify!($name)),*]);
            }

            $(#[test] fn $name() { super::assert_unnoticed(&super::built(PROGRAM).arg(stringify!($name))); })*
        }
    };
}

checks!(masks: seen, edited, let_through, blocked_inside, held_by_sa_mask, left, contexts, context_of_handler, old, threads, opened_by_number);
checks!(waits: let_through, masks_of_others, taken, from_outside, flood, trapping_beside, at_once);
checks!(returns: mask_in_context, blocked_for_a_time, queued_to_thread, alternate_stack, two_end_a_wait, stacked, left_fork);
checks!(inherits: nothing, blocked, ignored, handled, pending, inside_libc);
checks!(
    odd: stepping, stepping_by_context, own_breakpoints, barriers, stack_by_hand, stacks_in_arrays,
    preempted_contexts, tracer,
);

/// Each of some three hundred children has a hundred hits in its report, however it died.
#[test]
fn every_death_is_the_same_and_reported() {
    let launch = built("deaths.c");
    let native = launch.clone().native().run();
    for method in ["auto", "int3"] {
        let keys = format!("method = '{method}'\naction = ['count']");
        let probed = launch.clone().probe("exe:work", &keys).run();
        assert_same_output(&probed, &native);
        let children = native.stdout.lines().count();
        let exact = hits_of_each(&probed).into_iter().filter(|hits| *hits == 100).count();
        // Not those whose threads go on to call it, whose handlers do.
        assert!(exact >= children - 12, "{exact} of {children}\n{probed}");
    }
    assert_unnoticed(&launch);
}

#[test]
fn a_killed_vfork_child_leaves_no_hit_unfinished() {
    let outcome = built("killed_child.c").toml("").run();
    // Ten calls of each, and two in the handlers of signals, which are not for ever inside a hit.
    let hits = "status 0x9 handled 22";
    assert_eq!(outcome.end, End::Exit(0), "{outcome}");
    assert_eq!(outcome.stdout.matches(hits).count(), 9, "{outcome}");
    assert!(outcome.stdout.ends_with("killed 9\nend\n"), "{outcome}");
}

/// Breakpoints and the sender's signals share a number.
#[test]
fn a_sent_sigtrap_hides_no_breakpoint() {
    for method in ["auto", "int3"] {
        let keys = format!("method = '{method}'\naction = ['count']");
        let outcome = built("at_once.c").probe("exe:work", &keys).run();
        assert!(outcome.stdout.starts_with("wrong 0\n"), "{outcome}");
        let told = told(&outcome);
        assert_eq!(outcome.hits("exe:work"), told[0].1, "{outcome}");
    }
}

/// Behind a breakpoint a thread is for many reasons, and only one of them is a hit. What was looked at once was the
/// place: under such a flood the program crashed.
#[test]
fn a_thread_behind_a_breakpoint_has_not_always_run_into_it() {
    let places = ["behind_push", "behind_flags+2", "behind_lock+6", "work", "in_handler"];
    for method in ["auto", "int3"] {
        let keys = format!("method = '{method}'\naction = ['count']");
        let launch =
            places.iter().fold(built("hidden.c"), |launch, at| launch.probe(&format!("exe:{at}"), &keys));
        let outcome = launch.run();
        assert!(outcome.stdout.starts_with("wrong 0\n"), "{outcome}");
        let told = told(&outcome);
        assert_eq!(told.len(), places.len(), "{outcome}");
        for (at, executions) in told {
            assert_eq!(outcome.hits(&format!("exe:{at}")), executions, "{at}\n{outcome}");
        }
    }
}

/// Each on top of the one before, until the stack was full.
#[test]
fn a_flood_needs_no_more_of_a_stack_than_its_depth() {
    for method in ["auto", "int3"] {
        let keys = format!("method = '{method}'\naction = ['count']");
        let outcome = built("shallow.c").probe("exe:work", &keys).run();
        assert!(outcome.stdout.starts_with("TRAP\nSEGV\nBUS\nFPE\nILL\n"), "{outcome}");
        assert_eq!(outcome.hits("exe:work"), told(&outcome)[0].1, "{outcome}");
    }
}

#[test]
fn handlers_go_on_where_no_mask_can_be_changed() {
    for (method, how) in [("auto", "error"), ("int3", "error"), ("auto", "kill"), ("int3", "kill")] {
        let keys = format!("method = '{method}'\naction = ['count']");
        let launch = built("maskless.c").probe("exe:work", &keys);
        let outcome = if how == "kill" { launch.arg("kill") } else { launch }.run();
        assert!(outcome.stdout.starts_with("seen 55\n"), "{method} {how}\n{outcome}");
        assert_eq!(outcome.hits("exe:work"), told(&outcome)[0].1, "{method} {how}\n{outcome}");
    }
}

/// One in forty was lost where a thread's first breakpoint was under way.
#[test]
fn no_sigtrap_is_lost_to_a_thread_that_just_begins() {
    for method in ["auto", "int3"] {
        let keys = format!("method = '{method}'\naction = ['count']");
        assert_same_as_native(&built("newcomer.c").probe("exe:work", &keys));
    }
}

/// One in eight was lost to a breakpoint's SIGTRAP, when nearly all that the thread did was to hit them: the sender
/// waits for ever.
#[test]
fn no_sent_sigtrap_is_lost_to_a_breakpoint() {
    for method in ["auto", "int3"] {
        let keys = format!("method = '{method}'\naction = ['count']");
        assert_same_as_native(&built("answered.c").probe("exe:work", &keys).probe("libc.so.6:sig*", &keys));
    }
}

#[test]
fn handlers_stacked_by_the_kernel_see_the_interrupted_code_and_the_masks_below() {
    let launch = built("stacked.c");
    assert_unnoticed(&launch);
    assert_same_as_native(&launch.count("exe:*"));
}

/// Events go to standard error, where nothing else is said.
#[test]
fn a_log_that_nobody_reads_raises_nothing() {
    for method in ["auto", "int3"] {
        for kind in ["entry", "return"] {
            let keys = format!("kind = '{kind}'\nmethod = '{method}'");
            let config = format!(
                "[output]\nformat = 'text'\n[[probe]]\nat = 'exe:work'\n{keys}\n[summary]\nformat = 'none'\n"
            );
            assert_same_as_native(&built("broken_log.c").toml(&config));
        }
    }
}
