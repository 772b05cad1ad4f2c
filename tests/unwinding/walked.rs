//! Runtimes that walk their own stacks by the return addresses on them: what their code calls is not followed, and
//! counted as missed. With the stubs' addresses among theirs OCaml's programs died of SIGSEGV at the first garbage
//! collection, node and java of their own checks.

use super::common::*;

/// What one kind of runtime is told by, where its code runs, and flags besides.
struct Runtime {
    name: &'static str,
    /// How often the code is run in the object, and where it was copied to.
    places: (u64, u64),
    flags: &'static [&'static str],
}

const RUNTIMES: [Runtime; 4] = [
    Runtime { name: "OCAML", places: (1, 0), flags: &[] },
    Runtime { name: "V8", places: (1, 1), flags: &[] },
    Runtime { name: "EXPORTED", places: (1, 1), flags: &["-s"] },
    Runtime { name: "HOTSPOT", places: (0, 1), flags: &[] },
];
/// As in the program.
const CALLS: u64 = 10;
const DEPTH: u64 = 3;

fn program(name: &str, flags: &[&str]) -> Program {
    let program = Program::new("walked.c").flag(&format!("-D{name}"));
    flags.iter().fold(program, |program, flag| program.flag(flag))
}

/// Each kind of probe that follows calls.
fn followed(launch: &Launch, at: &[&str], check: impl Fn(&Outcome)) {
    let native = launch.clone().native().run();
    for kind in ["return", "call"] {
        let keys = format!("kind = '{kind}'\naction = ['count']");
        let outcome = at.iter().fold(launch.clone(), |launch, at| launch.probe(at, &keys)).run();
        assert_same_output(&outcome, &native);
        check(&outcome);
    }
}

fn counts(outcome: &Outcome, at: &str) -> (u64, u64) {
    let probe = outcome.at(at);
    (probe.hits, probe.nmissed)
}

#[test]
fn calls_by_runtimes_that_walk_their_stacks() {
    for Runtime { name, places, flags } in RUNTIMES {
        let launch = Launch::new(program(name, flags).build());
        followed(&launch, &["exe:collect", "exe:generated", "exe:expects"], |outcome| {
            let runs = places.0 + places.1;
            assert_eq!(counts(outcome, "exe:collect"), (0, CALLS * runs), "{name}: {outcome}");
            // By C, and by itself.
            let generated = (CALLS * places.0, CALLS * DEPTH * places.0);
            assert_eq!(counts(outcome, "exe:generated"), generated, "{name}: {outcome}");
            assert_eq!(counts(outcome, "exe:expects"), (CALLS * (DEPTH + 1) * runs, 0), "{name}: {outcome}");
        });
        followed(&launch, &["exe:*"], |_| {});
    }
}

/// All calls are followed where no such runtime is, from code in no object, too.
#[test]
fn calls_by_other_generated_code() {
    let launch = Launch::new(program("NONE", &[]).build());
    followed(&launch, &["exe:collect", "exe:generated"], |outcome| {
        assert_eq!(counts(outcome, "exe:collect"), (CALLS * 2, 0), "{outcome}");
        assert_eq!(counts(outcome, "exe:generated"), (CALLS * (DEPTH + 1), 0), "{outcome}");
    });
}

/// A library with such code that is loaded later.
#[test]
fn calls_by_such_code_in_a_library() {
    let library = program("OCAML", &["-DLIBRARY"]).shared("libwalked.so").build();
    let launch = Launch::new(program("NONE", &[]).build()).arg(library.display());
    followed(&launch, &["libwalked.so:collect", "libwalked.so:generated"], |outcome| {
        assert_eq!(counts(outcome, "libwalked.so:collect"), (0, CALLS), "{outcome}");
        assert_eq!(counts(outcome, "libwalked.so:generated"), (CALLS, CALLS * DEPTH), "{outcome}");
    });
}
