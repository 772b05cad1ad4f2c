//! Rust panics.

use super::account::{assert_followed, assert_followed_with, follow};
use super::common::*;

/// Once with as many frames as the source has, once with fewer.
fn programs() -> [Launch; 2] {
    ["-O1", "-O3"].map(|level| Launch::new(Program::new("panics.rs").flag(level).build()))
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
            tested.push("message");
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

scenarios!(catch, direct, resume, join, loops, threads);

/// Of the program, the standard library in it included.
#[test]
fn through_every_function() {
    for program in programs() {
        for scenario in SCENARIOS.iter().filter(|s| **s != "loops") {
            assert_followed_with(&program.clone().arg(scenario), "exe:*", 30);
        }
    }
}

/// Of the libraries it unwinds with.
#[test]
fn through_every_function_of_its_libraries() {
    for pattern in ["libgcc_s.so.1:*", "libc.so.6:*"] {
        for scenario in ["catch", "resume", "join"] {
            assert_followed_with(&programs()[0].clone().arg(scenario), pattern, 2);
        }
    }
}

/// The frames of a panic's message, by name; without those of ours, and with the thread's number cut out.
fn message(stderr: &str) -> Vec<String> {
    let mut lines = stderr.lines().peekable();
    let mut kept = Vec::new();
    while let Some(line) = lines.next() {
        let line = line.trim();
        let number = line.split(':').next().and_then(|n| n.parse::<u32>().ok());
        if number.is_none() {
            kept.push(line.split(") panicked").last().unwrap_or(line).to_string());
            continue;
        }
        let name = line.split_once(": ").map_or(line, |(_, name)| name).to_string();
        let place = lines.next_if(|next| next.trim().starts_with("at ")).unwrap_or("").trim().to_string();
        if !name.contains("uprobe") {
            kept.extend([name, place]);
        }
    }
    kept
}

/// With the stack, as RUST_BACKTRACE=1 has it, of nested probed functions.
#[test]
fn say_the_same() {
    for program in programs() {
        let launch = program.arg("message").env("RUST_BACKTRACE", 1);
        let native = launch.clone().native().run();
        let probed = follow(launch, "return", "exe:panics::*").run();
        assert_same_output(&probed, &native);
        let expected = message(&native.stderr);
        assert!(expected.iter().filter(|l| l.contains("panics::again")).count() >= 3, "{native}");
        assert_eq!(message(&probed.stderr), expected, "{probed}\n{native}");
    }
}
