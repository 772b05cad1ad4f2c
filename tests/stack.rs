//! uprobe_stack against backtrace(3): the programs compare the two at each hit and tell.

mod common;

use common::*;

const SHAPES: &str = "more than 150 instructions: 1\n\
                      functions: compared, the same\n\
                      deeper than 100: 1\n\
                      recursion: compared, the same\n\
                      a callback of libc: compared, the same\n\
                      a thread: compared, the same\n\
                      a signal handler: compared, the same\n\
                      a signal stack: compared, the same\n\
                      a timer: compared, the same\n\
                      in code without a description: 1, through it: 1\n\
                      objects come and go: compared, the same\n\
                      nothing: 0, no room: 0, no buffer: -22\n";

#[test]
fn every_instruction_of_every_shape() {
    let object = Program::new("plugged.c").shared("libplugged.so").build();
    for flag in ["-O0", "-fno-pie -no-pie", "-fno-asynchronous-unwind-tables"] {
        let program = flag.split(' ').fold(Program::new("h_stack.c"), Program::flag).build();
        let outcome = Launch::new(program).arg(object.display()).run();
        if flag == "-fno-asynchronous-unwind-tables" {
            // Nothing describes the program's own functions: the two may differ, and neither crashes.
            assert_eq!(outcome.end, End::Exit(0), "{outcome}");
            continue;
        }
        assert_eq!(outcome.stdout, SHAPES, "{flag}\n{outcome}");
        assert_eq!((outcome.stderr.as_str(), outcome.end), ("", End::Exit(0)), "{flag}\n{outcome}");
    }
}

#[test]
fn cplusplus() {
    for flag in ["-O0", "-O2"] {
        let outcome = Launch::new(Program::new("h_stack_cpp.cpp").flag(flag).build()).run();
        assert_eq!(outcome.stdout, "armed 1, compared 1, different 0\n", "{flag}\n{outcome}");
        assert_eq!((outcome.stderr.as_str(), outcome.end), ("", End::Exit(0)), "{flag}\n{outcome}");
    }
}

/// In programs of the distribution, stripped, with libraries of all kinds.
#[test]
fn real_programs() {
    let plugin = Program::new("h_stack_plugin.c").shared("h_stack_plugin.so").build();
    // backtrace is slow, and these programs call malloc all the time.
    let keys = format!("sample = 7\naction = [\"call({}:check_stack)\"]", plugin.display());
    let mut seen = 0;
    for (program, args) in [
        ("/usr/bin/python3", ["-S", "-c", "import json, re\nprint(json.dumps(sorted([3, 1]), indent=1))"]),
        (
            "/usr/bin/sqlite3",
            [":memory:", "create table t(a); insert into t values(2),(1)", "select * from t order by a"],
        ),
    ] {
        if !require_command(program) {
            continue;
        }
        seen += 1;
        let launch = ["malloc", "memcpy", "strlen", "read", "free", "realloc", "write"]
            .into_iter()
            .fold(Launch::new(program).args(args), |launch, name| {
                launch.probe(&format!("libc.so.6:{name}"), &keys)
            });
        let outcome = launch.run();
        assert_eq!(outcome.stderr, "compared, the same, deeper than 5: 1\n", "{outcome}");
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
    }
    assert!(seen > 0, "no program to look at");
}

#[test]
fn return_probes_are_seen_through() {
    for flag in ["-O1", "-O2"] {
        let outcome = Launch::new(Program::new("h_stack_returns.c").flag(flag).build()).run();
        assert_eq!(
            outcome.stdout, "enough addresses, the same\nat returns: 14, wrong: 0\n",
            "{flag}\n{outcome}"
        );
        assert_eq!((outcome.stderr.as_str(), outcome.end), ("", End::Exit(0)), "{flag}\n{outcome}");
    }
}
