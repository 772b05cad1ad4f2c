//! C++ exceptions.

use super::account::{
    Account, Look, assert_as_told, assert_followed, assert_followed_by, assert_followed_with, follow,
    follow_each, followed, told,
};
use super::common::*;

/// By both compilers, as far as installed, with and without tail calls.
fn programs() -> Vec<Launch> {
    let mut programs = vec![program()];
    for compiler in Compiler::installed() {
        programs.push(Launch::new(Program::new("throws.cpp").compiler(compiler).flag("-O2").build()));
    }
    programs
}

fn program() -> Launch {
    Launch::new(Program::new("throws.cpp").build())
}

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        const SCENARIOS: &[&str] = &[$(stringify!($name)),*];

        /// Every scenario the program has is one of the tests below.
        #[test]
        fn none_is_forgotten() {
            let listed = program().native().run();
            let mut listed: Vec<&str> = listed.stdout.lines().collect();
            let mut tested: Vec<&str> = SCENARIOS.to_vec();
            tested.push("terminate");
            tested.sort_unstable();
            listed.sort_unstable();
            assert_eq!(listed, tested);
        }

        mod scenario {
            $(#[test] fn $name() {
                for program in super::programs() {
                    super::assert_followed(&program.arg(stringify!($name)));
                }
            })*
        }
    };
}

scenarios!(
    one,
    two,
    hundred,
    without_pads,
    direct,
    itself,
    rethrow,
    nested,
    carried,
    sorted,
    loop_,
    threads,
    tails,
    jumps,
    altstack,
);

/// An exception meets a function that lets none out: std::terminate says what it says, and the calls
/// that led there are under way for good. gcc leaves their frames alone; clang's code is unwound into the
/// function, which then ends the program.
#[test]
fn that_end_the_program() {
    assert_followed(&program().arg("terminate"));
    for program in programs() {
        let native = program.clone().arg("terminate").native().run();
        let probed = program.arg("terminate");
        let probed = ["sealed", "bare", "thrower"]
            .iter()
            .fold(probed, |launch, place| follow(launch, "call", &format!("exe:{place}")))
            .run();
        assert_eq!(probed.end, End::Signal(6), "{probed}");
        assert_same_output(&probed, &native);
        assert_eq!(probed.stderr, native.stderr, "{probed}");
        for (followed, hits) in followed(&probed).iter().zip([2, 6, 2]) {
            assert_eq!(followed.account.hits, hits, "{followed:?}\n{probed}");
            assert_eq!(followed.account.returns, hits / 2, "{followed:?}\n{probed}");
            assert!(followed.account.adds_up(), "{followed:?}\n{probed}");
        }
    }
}

/// What an exception left is known to be left at the end, also where no call that is followed came after.
#[test]
fn after_which_nothing_is_followed() {
    for scenario in ["one", "hundred", "without_pads", "rethrow", "loop_", "jumps"] {
        assert_followed_by(&program().arg(scenario).arg("quiet"), Look::Return);
    }
}

/// An event each for the calls that came back, and none for the others.
#[test]
fn are_no_events() {
    for (kind, format) in [("return", "text"), ("call", "text"), ("return", "json"), ("call", "json")] {
        let outcome =
            program().arg("threads").format(format).probe("exe:nest", &format!("kind = '{kind}'")).run();
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
        let account = followed(&outcome)[0].account;
        let expected = Account { hits: 48_000, returns: 8_000, unwound: 40_000, in_flight: 0 };
        assert_eq!(account, expected, "{outcome}");
        let lost = outcome.probes()[0].lost;
        assert_eq!(outcome.event_lines().len() as u64 + lost, account.returns, "{outcome}");
    }
}

/// What throws is left by an exception, and what catches comes back.
#[test]
fn in_the_accounts_of_the_runtime() {
    let places = [
        "libgcc_s.so.1:_Unwind_RaiseException",
        "libstdc++.so.6:__cxa_begin_catch",
        "libstdc++.so.6:__cxa_end_catch",
    ];
    let outcome = places.iter().fold(program().arg("loop_"), |l, at| follow(l, "return", at)).run();
    assert_eq!(outcome.end, End::Exit(0), "{outcome}");
    let accounts: Vec<Account> = followed(&outcome).iter().map(|f| f.account).collect();
    let left = Account { hits: 21_000, returns: 0, unwound: 21_000, in_flight: 0 };
    let returned = Account { hits: 21_000, returns: 21_000, unwound: 0, in_flight: 0 };
    assert_eq!(accounts, [left, returned, returned], "{outcome}");
}

/// While an exception is on its way; on stacks of their own; out of signal handlers.
mod pads {
    use super::*;

    /// With exceptions out of any instruction.
    fn programs() -> Vec<Launch> {
        let build = |compiler, level| {
            let program = Program::new("pads.cpp").compiler(compiler).flag(level);
            Launch::new(program.flag("-fnon-call-exceptions").build())
        };
        Compiler::installed()
            .into_iter()
            .flat_map(|compiler| ["-O1", "-O2"].map(|level| build(compiler, level)))
            .collect()
    }

    fn assert_scenario(scenario: &str) {
        for program in programs() {
            assert_followed(&program.clone().arg(scenario));
        }
        for pattern in ["exe:*", "libgcc_s.so.1:*", "libstdc++.so.6:*", "libc.so.6:*"] {
            assert_followed_with(&programs()[0].clone().arg(scenario), pattern, 0);
        }
    }

    #[test]
    fn destructors() {
        assert_scenario("destructors");
    }

    #[test]
    fn handlers() {
        assert_scenario("handlers");
    }

    #[test]
    fn coroutines() {
        assert_scenario("coroutines");
    }

    #[test]
    fn signals() {
        assert_scenario("signals");
    }

    /// clang takes a function that makes no calls for one that throws nothing.
    #[test]
    fn faults() {
        for level in ["-O1", "-O2"] {
            let program = Program::new("pads.cpp").flag(level).flag("-fnon-call-exceptions");
            assert_followed(&Launch::new(program.build()).arg("fault"));
        }
    }

    /// How often is a matter of time.
    #[test]
    fn beside_a_timer() {
        let places = ["climb", "note", "recover", "thrower", "settle"];
        for program in programs() {
            for look in Look::ALL {
                let probed = follow_each(program.clone().arg("ticking"), look, &places).run();
                assert_eq!(probed.end, End::Exit(0), "{probed}");
                assert!(probed.stdout.contains("wrong 0, interrupted\n"), "{probed}");
                assert_as_told(&probed, look, &told(&probed));
            }
        }
    }
}

mod every_function {
    use super::*;

    fn assert_all(pattern: &str, least: usize) {
        for scenario in SCENARIOS.iter().filter(|s| !["loop_", "jumps", "threads"].contains(s)) {
            assert_followed_with(&program().arg(scenario), pattern, least);
        }
    }

    #[test]
    fn of_the_program() {
        assert_all("exe:*", 2);
        assert_followed_with(&program().arg("threads"), "exe:*", 5);
    }

    #[test]
    fn of_libstdcplusplus() {
        assert_all("libstdc++.so.6:*", 2);
    }

    #[test]
    fn of_libgcc() {
        assert_all("libgcc_s.so.1:*", 0);
        assert_followed_with(&program().arg("threads"), "libgcc_s.so.1:*", 2);
    }

    #[test]
    fn of_libc() {
        assert_all("libc.so.6:*", 10);
    }

    /// With libgcc's unwinder and the C++ library in the program itself, where the names of their inner
    /// functions are.
    #[test]
    fn of_a_program_that_has_its_own_unwinder() {
        let program = Program::new("throws.cpp").flag("-static-libgcc").flag("-static-libstdc++");
        let program = Launch::new(program.build());
        for scenario in SCENARIOS.iter().filter(|s| !["loop_", "jumps", "threads"].contains(s)) {
            assert_followed_with(&program.clone().arg(scenario), "exe:*", 2);
        }
    }

    /// The loader too.
    #[test]
    fn of_every_object() {
        for scenario in ["hundred", "nested", "carried", "sorted"] {
            assert_followed_with(&program().arg(scenario), "*:*", 50);
        }
    }
}

/// A caller with a personality routine and no table finds its things by its frame's address, which a stub's frame puts
/// elsewhere: its calls are not followed, and counted.
#[test]
fn caught_by_the_address_of_a_frame() {
    let launch = Launch::new(Program::new("by_address.c").build());
    let native = launch.clone().native().run();
    for kind in ["return", "call"] {
        let keys = format!("kind = '{kind}'\naction = ['count']");
        let outcome = launch.clone().probe("exe:raises", &keys).run();
        assert_same_output(&outcome, &native);
        let probes = outcome.probes();
        assert_eq!((probes[0].hits, probes[0].nmissed), (0, 3), "{outcome}");
    }
}
