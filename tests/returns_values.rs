//! The program's values and registers go through followed calls untouched, whatever runs at the probes.

mod common;

use common::*;

/// Everything is fetched and logged at both ends.
fn logged(launch: Launch, places: &[String]) -> Launch {
    places.iter().enumerate().fold(launch, |launch, (i, place)| {
        let keys = "args = ['a=$arg1', 's=+0(%sp):x8[8]', 'c=$comm']\nret = ['r=$retval', 'top=$stack0']\n\
                    filter = 'a != 0x123456789abcdef'";
        launch
            .probe(place, &format!("name = 'call{i}'\nkind = 'call'\n{keys}"))
            .probe(place, &format!("name = 'return{i}'\nkind = 'return'\n{keys}"))
            .probe(place, &format!("name = 'entry{i}'\nargs = ['a=$arg1:s64']"))
    })
}

fn assert_untouched(program: &Program, rounds: u64) {
    let launch = Launch::new(program.build()).arg(rounds);
    let counted = assert_followed(&launch);
    let native = launch.clone().native().run();
    assert_same_output(&counted, &native);
    assert!(!native.stdout.contains("differs"), "{native}");
    let told = told_calls(&native);
    let places: Vec<String> = told.iter().map(|told| told.place.clone()).collect();
    for format in ["text", "json"] {
        let outcome = logged(launch.clone(), &places).format(format).run();
        assert_same_output(&outcome, &native);
        let calls: u64 = told.iter().map(|told| told.hits).sum();
        assert_eq!(outcome.event_lines().len() as u64, 3 * calls, "{outcome}");
    }
    for line in native.stdout.lines().filter(|line| line.contains("NOT RUN")) {
        eprintln!("\n******** {line} ********\n");
    }
}

#[test]
fn values_of_every_kind() {
    for compiler in Compiler::installed() {
        for level in ["-O0", "-O2"] {
            // What clang says of vector arguments without AVX doesn't matter here.
            let program = Program::new("r_values.c").compiler(compiler).flag(level).flag("-Wno-psabi");
            assert_untouched(&program, 50);
        }
    }
}

#[test]
fn all_registers() {
    for compiler in Compiler::installed() {
        assert_untouched(&Program::new("r_registers.c").compiler(compiler), 100);
    }
}

/// Handlers in C, which use vectors, x87 and libc.
#[test]
fn all_registers_whatever_a_handler_does() {
    for compiler in Compiler::installed() {
        for flags in [&["-O1"][..], &["-O2", "-march=native"]] {
            let program = Program::new("h_return_registers.c").compiler(compiler).lib("-lm");
            let program = flags.iter().fold(program, |p, f| p.flag(f)).flag("-fPIE");
            let outcome = Launch::new(program.build()).arg(50).run();
            assert_eq!(outcome.end, End::Exit(0), "{outcome}");
            for line in outcome.stdout.lines().filter(|line| line.contains("NOT RUN")) {
                eprintln!("\n******** {line} ********\n");
            }
            let said: Vec<&str> = outcome.stdout.lines().filter(|line| !line.contains("NOT RUN")).collect();
            let expected =
                ["0 differences", "entries all, returns all, hits all, missed 0, otherwise 0, errno 7"];
            assert_eq!(said, expected, "{outcome}");
        }
    }
}
