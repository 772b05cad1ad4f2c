//! backtrace(3): every frame of the program is there, in its place.

use std::time::Duration;

use super::account::{
    Account, Look, assert_as_told, assert_followed, assert_followed_with, follow_each, told,
};
use super::common::*;

/// By both compilers, as far as installed.
fn programs(name: &str) -> Vec<Launch> {
    let build = |compiler| Program::new(name).compiler(compiler).build();
    Compiler::installed().into_iter().map(|compiler| Launch::new(build(compiler))).collect()
}

macro_rules! walks {
    ($($name:ident: $how:literal),* $(,)?) => {
        mod walk {
            $(#[test] fn $name() {
                for program in super::programs("walks.c") {
                    super::assert_followed(&program.arg($how));
                }
            })*
        }
    };
}

walks!(
    by_backtrace: "backtrace",
    by_the_unwinder_itself: "_Unwind_Backtrace",
    from_a_signal_handler: "signal",
    from_a_handler_on_another_stack: "altstack",
);

/// Of the program, of libc and of the unwinder.
#[test]
fn with_every_function_followed() {
    for pattern in ["exe:*", "libgcc_s.so.1:*", "libc.so.6:*"] {
        for how in ["backtrace", "_Unwind_Backtrace", "signal", "altstack"] {
            assert_followed_with(&programs("walks.c")[0].clone().arg(how), pattern, 0);
        }
    }
}

/// Takes `count` samples at arbitrary places; no frame is missing in any of them, and the counts are right.
fn sample(look: Look, count: u64) {
    let places = ["run", "level_0", "level_1", "level_2", "level_3", "level_4", "level_5"];
    for program in programs("samples.c") {
        let launch = program.arg(count).arg(50).arg("tell").timeout(Duration::from_secs(300));
        let outcome = follow_each(launch, look, &places).run();
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
        assert!(outcome.stdout.contains(&format!("{count} samples, 0 broken\n")), "{outcome}");
        let told: Vec<(String, Account)> = told(&outcome);
        assert_as_told(&outcome, look, &told);
    }
}

mod samples {
    use super::*;

    #[test]
    fn under_return_probes() {
        sample(Look::Return, 20_000);
    }

    #[test]
    fn under_call_probes() {
        sample(Look::Call, 10_000);
    }

    #[test]
    fn under_probes_of_each_kind() {
        sample(Look::Each, 10_000);
    }
}
