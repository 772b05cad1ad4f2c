//! Signals that arrive while a probe's handler runs: the program's handlers wait for its end, and see
//! what they would have seen without it. At an entry the kernel keeps them back, at a return we do.

mod common;

use common::*;

/// The ways to come into a probe's handler.
const SIDES: [&str; 2] = ["entry", "return"];

fn launch(program: &str, side: &str) -> Launch {
    Launch::new(Program::new(program).build()).arg(side)
}

#[test]
fn handlers_see_masks_stacks_and_senders_as_ever() {
    for side in SIDES {
        let outcome = assert_same_as_native(&launch("defer_masks.c", side));
        assert!(outcome.stdout.ends_with("end\n"), "{outcome}");
        assert!(outcome.stdout.contains("hits as calls: 1, missed: 0, handlers as calls: 1"), "{outcome}");
        // The handlers' own calls of libc are probed as well.
        let places = ["sigprocmask", "pthread_sigmask", "sigaction", "siglongjmp", "getpid"];
        let places = places.map(|function| format!("libc.so.6:{function}"));
        assert_same_as_native(&launch("defer_masks.c", side).count_all(&places));
    }
}

#[test]
fn a_flood_is_received_once_and_in_order() {
    for side in SIDES {
        let outcome = assert_same_as_native(&launch("defer_flood.c", side).arg("stay"));
        let expected = "received 6000 and 6000, out of order 0, on top 0\n\
                        others 1, ticks 1, jumped 0\n\
                        mask as before 1\n\
                        hits as calls: 1, missed: 0, handlers as calls: 1\n";
        assert_eq!(outcome.stdout, expected, "{outcome}");
    }
}

#[test]
fn handlers_may_leave_by_siglongjmp() {
    for side in SIDES {
        let outcome = assert_same_as_native(&launch("defer_flood.c", side).arg("jump"));
        let expected = "received 6000 and 6000, out of order 0, on top 0\n\
                        others 1, ticks 1, jumped 4000\n\
                        mask as before 1\n";
        assert_eq!(outcome.stdout, expected, "{outcome}");
    }
}

#[test]
fn a_deadly_one_kills_after_the_hit_with_the_report_complete() {
    for side in SIDES {
        let kind = format!("kind = '{side}'\naction = ['count']");
        let outcome = launch("defer_ends.c", side).arg("kill").probe("exe:work", &kind).run();
        assert_eq!(outcome.end, End::Signal(15), "{outcome}");
        let probe = outcome.at("exe:work");
        assert_eq!((probe.hits, probe.nmissed), (100, 0), "{probe:?}\n{outcome}");
    }
}

#[test]
fn a_cancelled_thread_unwinds_after_the_hit() {
    for side in SIDES {
        let outcome = assert_same_as_native(&launch("defer_ends.c", side).arg("cancel"));
        let round = "cleaned up, in the probe's handler: 0\ncancelled 1, clean 1\n";
        assert_eq!(outcome.stdout, round.repeat(20), "{outcome}");
    }
}

#[test]
fn a_profiler_sees_the_whole_stack() {
    for side in SIDES {
        let outcome = assert_same_as_native(&launch("defer_samples.c", side));
        let expected = "lost 0, on top 0\nhits as calls: 1, missed: 0, handlers as calls: 1\n";
        assert_eq!(outcome.stdout, expected, "{outcome}");
    }
}
