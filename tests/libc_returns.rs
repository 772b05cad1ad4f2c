//! Every function of the C and C++ run-time libraries with a return probe: the program's output stays
//! what it is without. The same with entry probes, which also work where a return probe is refused.

mod common;

use common::*;

/// Whether this version follows calls to their return; says so loudly where it does not.
fn has_return_probes() -> bool {
    let has = Launch::new("/bin/true")
        .env("UPROBE_STRICT", 1)
        .probe("libc.so.6:getenv", "kind = \"return\"\naction = [\"count\"]")
        .run()
        .end
        == End::Exit(0);
    if !has {
        eprintln!(
            "\n******** SKIPPED: there are no return probes yet, the calls were not followed ********\n"
        );
    }
    has
}

fn programs() -> [Program; 3] {
    [
        Program::new("libc_returns.c").lib("-lm"),
        Program::new("libc_returns_flow.c").lib("-lm"),
        Program::new("libc_returns.cpp"),
    ]
}

/// Runs the programs with a probe on all functions that `at` names.
fn same_with(at: &str, kind: &str) {
    // A C program has no C++ library.
    let programs = programs().into_iter().skip(if at.starts_with("libstdc++") { 2 } else { 0 });
    for program in programs {
        let launch = Launch::new(program.build())
            .probe(at, &format!("kind = \"{kind}\"\naction = [\"count\"]"))
            .timeout(std::time::Duration::from_secs(300));
        let probed = assert_same_as_native(&launch);
        let probes = probed.probes();
        let hits: u64 = probes.iter().map(|probe| probe.hits).sum();
        eprintln!("{at} {kind}: {} probes, {hits} hits", probes.len());
        assert!(probes.len() > 20, "{probed}");
    }
}

macro_rules! tests {
    ($($name:ident: $at:expr;)*) => {
        mod entries {
            $(#[test]
            fn $name() {
                super::same_with($at, "entry");
            })*
        }

        mod returns {
            $(#[test]
            fn $name() {
                if super::has_return_probes() {
                    super::same_with($at, "return");
                }
            })*
        }
    };
}

tests! {
    libc: "libc.so.6:*";
    loader: "ld-linux-x86-64.so.2:*";
    libm: "libm.so.6:*";
    libgcc: "libgcc_s.so.1:*";
    libstdcxx: "libstdc++.so.6:*";
}

/// Entry probes on what is refused.
#[test]
fn entries_of_what_is_refused() {
    let program = Program::new("libc_returns_flow.c").lib("-lm").build();
    let refused = ["dlopen", "dlmopen", "dlsym", "dlvsym", "dl_iterate_phdr"];
    let launch = Launch::new(&program).count_all(refused.map(|name| format!("libc.so.6:{name}")));
    let probed = assert_same_as_native(&launch);
    for name in refused {
        let probe = probed.at(&format!("libc.so.6:{name}"));
        assert_eq!(probe.state, "armed", "{probe:#?}");
        assert!(probe.hits > 0, "{probe:#?}\n{probed}");
    }
}

/// The same functions with return probes: each is refused with its reason, and the program runs.
#[test]
fn returns_of_what_is_refused() {
    if !has_return_probes() {
        return;
    }
    let program = Program::new("libc_returns_flow.c").lib("-lm").build();
    let refused = ["dlopen", "dlmopen", "dlsym", "dlvsym", "dl_iterate_phdr"];
    let launch = refused.iter().fold(Launch::new(&program), |launch, name| {
        launch.probe(&format!("libc.so.6:{name}"), "kind = \"return\"\naction = [\"count\"]")
    });
    let probed = assert_same_as_native(&launch);
    for name in refused {
        let probe = probed.at(&format!("libc.so.6:{name}"));
        assert_eq!(probe.state, "refused", "{probe:#?}");
        let reason = probe.reason.as_deref().unwrap_or_default();
        assert!(reason.starts_with("return-denied: it "), "{probe:#?}");
    }
}

/// What never returns is followed as any other: left with the frames it jumps over, or still there at the end.
#[test]
fn what_never_returns_is_followed() {
    if !has_return_probes() {
        return;
    }
    let program = Program::new("libc_returns_flow.c").lib("-lm").build();
    let all = ["longjmp", "exit", "thrd_exit", "pthread_exit", "_exit", "__libc_start_main"];
    for kind in ["return", "call"] {
        let keys = format!("kind = \"{kind}\"\naction = [\"count\"]");
        let launch = all
            .iter()
            .fold(Launch::new(&program), |launch, name| launch.probe(&format!("libc.so.6:{name}"), &keys));
        let outcome = assert_same_as_native(&launch);
        for (name, probe) in all.iter().zip(calls_of(&outcome.summary())) {
            assert_eq!(probe.state, "armed", "{probe:#?}");
            let (returned, unwound, in_flight) = probe.fates();
            assert!(probe.hits > 0 && returned == 0, "{probe:#?}\n{outcome}");
            let ends_the_process = ["exit", "_exit", "__libc_start_main"].contains(name);
            // A child of vfork calls _exit, too, on its parent's account.
            let at_the_end = u64::from(ends_the_process);
            assert_eq!((unwound, in_flight), (probe.hits - at_the_end, at_the_end), "{probe:#?}\n{outcome}");
        }
    }
}
