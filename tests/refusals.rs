//! What can't be probed is refused with a reason, and the program runs as if nothing had been asked.

mod common;

use crate::common::*;

/// Place, and the code its reason begins with; none where it is armed.
const PLACES: [(&str, Option<&str>); 13] = [
    ("exe:plain", None),
    ("exe:around_data", None),
    ("exe:restartable", None),
    ("exe:around_data+0xa", Some("data-in-text")),
    ("exe:restartable+0x3", Some("denied")),
    ("exe:never_run", Some("foreign-breakpoint")),
    ("exe:never_run+0x1", Some("insn-not-relocatable")),
    ("exe:never_run+0x3", Some("insn-not-relocatable")),
    ("exe:plain+0x1", Some("not-a-boundary")),
    ("exe:plain+0x40", Some("outside-function")),
    ("exe:number", Some("not-a-function")),
    ("exe:nothing_of_that_name", Some("no-symbol")),
    ("libuprobe.so:register_uprobe", Some("own-code")),
];

#[test]
fn each_place_has_its_reason() {
    let launch = Launch::new(Program::new("refused.c").flag("-O1").build());
    let launch = PLACES.iter().fold(launch, |launch, (at, _)| launch.count(at));
    let outcome = assert_same_as_native(&launch);
    for (at, code) in PLACES {
        let probe = outcome.at(at);
        let reason = probe.reason.as_deref().unwrap_or_default();
        match code {
            None => {
                assert_eq!((probe.state.as_str(), probe.hits), ("armed", 100), "{at}: {probe:?}");
                assert_eq!(reason, "", "{at}");
            }
            Some(code) => {
                assert_eq!((probe.state.as_str(), probe.hits), ("refused", 0), "{at}: {probe:?}");
                assert!(reason.starts_with(&format!("{code}: ")), "{at}: {reason}");
                assert!(probe.method.is_none(), "{at}: {probe:?}");
            }
        }
        let said = outcome.stderr.contains(&format!("error: {}: ", code.unwrap_or("nothing")));
        assert_eq!(said, code.is_some(), "{at}\n{outcome}");
    }
}

/// What a later version will have is refused by name, not armed as something else.
#[test]
fn what_is_not_there_yet_is_refused() {
    let launch = Launch::new(Program::new("refused.c").flag("-O1").build())
        .probe("exe:plain", "name = 'raises'\naction = ['signal(SIGUSR1)']")
        .probe("exe:plain", "name = 'stack'\naction = ['stack(5)']")
        .count("exe:plain");
    let outcome = assert_same_as_native(&launch);
    for name in ["raises", "stack"] {
        let probe = outcome.at(name);
        assert_eq!((probe.state.as_str(), probe.hits), ("refused", 0), "{probe:?}");
        let reason = probe.reason.unwrap_or_default();
        assert!(reason.starts_with("not-yet: "), "{reason}");
    }
    assert_eq!(outcome.stderr.matches("is not in this version yet").count(), 2, "{outcome}");
    assert_eq!(outcome.probes().iter().map(|probe| probe.hits).sum::<u64>(), 100, "{outcome}");
}

/// Go's runtime moves stacks and looks at the return addresses on them.
#[test]
fn no_return_is_followed_in_go_code() {
    let launch = Launch::new(Program::new("go_like.c").build());
    let launch = launch.probe("exe:called", "name = 'entry'\naction = ['count']");
    let launch = launch.probe("exe:called", "name = 'back'\nkind = 'return'\naction = ['count']");
    let outcome = assert_same_as_native(&launch);
    let find = |name: &str| outcome.probes().into_iter().find(|probe| probe.name == name).expect(name);
    assert_eq!((find("entry").state.as_str(), find("entry").hits), ("armed", 3), "{outcome}");
    assert_eq!((find("back").state.as_str(), find("back").hits), ("refused", 0), "{outcome}");
    let reason = find("back").reason.unwrap_or_default();
    assert!(reason.starts_with("return-denied: the object is Go's"), "{reason}");
}

/// The kernel put the signal frame of a breakpoint, 3 KiB of it, on the goroutine's stack of 2 KiB: what lay below was
/// overwritten, and every program with a breakpoint in its Go code crashed. What blocks all signals by a system
/// call of its own died at the next one, and the report was never written. When it was, the library's own fault
/// overwrote the frame of the breakpoint it came from: to the kernel the alternate stack was not in use, since the library
/// was on a stack of its own.
#[test]
fn go_code_has_breakpoints_that_leave_small_stacks_alone() {
    let launch = Launch::new(Program::new("go_stacks.c").build());
    let native = launch.native().run();
    for actions in ["['count']", "['log']"] {
        let launch = Launch::new(Program::new("go_stacks.c").build());
        let launch = launch.probe("exe:compute", &format!("args = ['n=$arg1']\naction = {actions}"));
        let outcome = launch.probe("libc.so.6:qsort", "kind = 'call'\naction = ['count']").run();
        assert_same_output(&outcome, &native);
        assert_eq!(outcome.end, End::Exit(7), "{outcome}");
        let probe = outcome.at("exe:compute");
        assert_eq!((probe.hits, probe.nmissed), (2000, 0), "{outcome}");
        assert_ne!(probe.method.as_deref(), Some("jump"), "{outcome}");
        assert!(probe.reason.unwrap_or_default().starts_with("small-stack: "), "{outcome}");
    }
}
