//! Threads that end inside calls that are followed: cancelled, or by pthread_exit.

use super::account::{assert_followed, assert_followed_with, follow, followed};
use super::common::*;

/// In C with the handlers of a list and with those of unwind tables, and in C++ with destructors.
fn programs() -> Vec<Launch> {
    let mut programs = vec![
        Program::new("cancels.c"),
        Program::new("cancels.c").flag("-fexceptions"),
        Program::new("cancels.cpp"),
    ];
    if Compiler::installed().contains(&Compiler::Clang) {
        programs.push(Program::new("cancels.cpp").compiler(Compiler::Clang).flag("-O2"));
    }
    programs.iter().map(|program| Launch::new(program.build())).collect()
}

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        const SCENARIOS: &[&str] = &[$(stringify!($name)),*];

        /// Every scenario the program has is one of the tests below.
        #[test]
        fn none_is_forgotten() {
            let listed = programs()[0].clone().native().run();
            let mut listed: Vec<&str> = listed.stdout.lines().collect();
            let mut tested: Vec<&str> = SCENARIOS.to_vec();
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

scenarios!(waiting, testing, exiting, returning, async_waiting, async_spinning, async_calling, main);

/// A thread is cancelled at any place of a call: at its entry, in its stub, on its way back.
#[test]
fn cancelled_anywhere() {
    for program in programs() {
        let native = program.clone().arg("async_calling").native().run();
        for kind in ["return", "call"] {
            let probed = follow(program.clone().arg("async_calling"), kind, "exe:leaf").run();
            assert_same_output(&probed, &native);
            let account = followed(&probed)[0].account;
            assert!(account.adds_up() && account.in_flight == 0, "{account:?}\n{probed}");
            assert!(account.returns > 1000 && account.unwound <= 50, "{account:?}\n{probed}");
        }
    }
}

mod every_function {
    use super::*;

    fn assert_all(pattern: &str, least: usize) {
        for program in programs() {
            for scenario in SCENARIOS {
                assert_followed_with(&program.clone().arg(scenario), pattern, least);
            }
        }
    }

    #[test]
    fn of_the_program() {
        assert_all("exe:*", 0);
    }

    #[test]
    fn of_libgcc() {
        assert_all("libgcc_s.so.1:*", 0);
    }

    #[test]
    fn of_libc() {
        for scenario in SCENARIOS {
            assert_followed_with(&programs()[0].clone().arg(scenario), "libc.so.6:*", 10);
        }
    }
}
