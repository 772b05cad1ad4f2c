//! The C API: each program registers its own probes and tells what it saw; expected output is text.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::*;

fn run(program: &str, args: &[&str]) -> Outcome {
    let path = Program::new(program).lib("-lm").build();
    Launch::new(path).args(args).run()
}

/// The program ends well and prints just this; and without the library it says so.
fn assert_prints(program: &str, args: &[&str], expected: &str) {
    let path = Program::new(program).lib("-lm").build();
    let outcome = Launch::new(&path).args(args).run();
    assert_eq!(outcome.stdout, expected, "\n{outcome}");
    assert_eq!(outcome.end, End::Exit(0), "{outcome}");
    let without = Launch::new(&path).args(args).native().run();
    assert_eq!((without.stdout.as_str(), without.end), ("no library\n", End::Exit(0)), "{without}");
}

/// As [`assert_prints`], and nothing is printed by the library.
fn assert_prints_only(program: &str, args: &[&str], expected: &str) {
    assert_prints(program, args, expected);
    let outcome = run(program, args);
    assert_eq!(outcome.stderr, "", "the C API never prints\n{outcome}");
}

mod registers {
    use super::*;

    #[test]
    fn before_and_after_the_instruction() {
        assert_prints_only(
            "h_pre_post.c",
            &[],
            "add: result 113, hits 1, posts 1, rax 7 -> 12, rsp +0, then at the next instruction\n\
             jnz: result 113, hits 1, posts 1, rax 12 -> 12, rsp +0, then at the branch's target\n\
             call: result 113, hits 1, posts 1, rax 12 -> 12, rsp -8, then at the callee\n\
             ret: result 113, hits 1, posts 1, rax 113 -> 113, rsp +8, then at the caller\n\
             unprobed: 113\n",
        );
    }

    #[test]
    fn that_a_handler_changes_are_honoured() {
        assert_prints_only(
            "h_registers.c",
            &[],
            "10 - 3 = -7\n\
             10 - 3 = 7\n\
             argument 1 is 1\n\
             argument 2 is 2\n\
             argument 3 is 3\n\
             argument 4 is 4\n\
             argument 5 is 5\n\
             argument 6 is 6\n\
             argument 7 is 7\n\
             sum 721\n\
             skipped: 42\n\
             diverted: 5000\n\
             hits 1 1 1 1\n",
        );
    }

    #[test]
    fn and_everything_else_is_left_as_it_was() {
        assert_prints_only("h_context.c", &[], "result 31 errno 7\n1.5 2.5 3.5 4.5 1.5\nhits 1 1\n");
    }
}

mod several {
    use super::*;

    #[test]
    fn at_one_place_run_in_the_order_of_registration() {
        assert_prints_only(
            "h_order.c",
            &[],
            "three: abca'c', result 1\n\
             without b: aca'c', result 1\n\
             b again, last: acba'c', result 1\n\
             a disabled: cbc', result 1\n\
             a enabled, its place kept: acba'c', result 1\n\
             s skips the function, c still runs: absc, result 99\n\
             none: , result 1\n",
        );
    }

    #[test]
    fn are_registered_all_or_none() {
        assert_prints_only(
            "h_batch.c",
            &[],
            "with a bad one: No such file or directory\n\
             hits 0 0\n\
             none is registered: Invalid argument\n\
             two good ones: 0\n\
             hits 1 2\n\
             unregister: 0\n\
             hits 1 2\n\
             none: Invalid argument\n\
             one twice: Invalid argument\n",
        );
    }

    #[test]
    fn say_why_they_cannot_be_registered() {
        assert_prints_only(
            "h_errors.c",
            &[],
            "before the first call: -EINVAL -EINVAL -EINVAL -EINVAL\n\
             no such symbol: -ENOENT\n\
             no such symbol in libc: -ENOENT\n\
             data: -EINVAL\n\
             inside an instruction: -EILSEQ\n\
             its own int3: -EBUSY\n\
             beyond the function: -ERANGE\n\
             an address inside an instruction: -EILSEQ\n\
             an address of data: -EINVAL\n\
             an address of nothing: -EINVAL\n\
             a place in the library itself: -EINVAL\n\
             nothing said: -EINVAL\n\
             NULL: -EINVAL\n\
             unregister NULL: -EINVAL\n\
             once: 0\n\
             twice: -EINVAL\n\
             hits 1\n\
             unregister: 0\n\
             unregister again: -EINVAL\n\
             written over, and again: -EINVAL\n\
             unregister: 0\n\
             disable: -EINVAL\n\
             enable: -EINVAL\n\
             registered disabled: 0\n\
             hits 0, flag 1\n\
             enable: 0\n\
             hits 1, flag 0\n\
             not loaded: 0, pending 1\n\
             unregister: 0\n",
        );
    }
}

#[test]
fn a_thread_that_has_all_signals_blocked_outlives_the_first_call() {
    assert_prints_only("h_blocked.c", &[], "while it has: -EAGAIN\nafterwards: 0\nhits 1\n");
}

mod a_handler {
    use super::*;

    #[test]
    fn that_hits_probes_is_not_entered_again() {
        assert_prints_only(
            "h_reentry.c",
            &[],
            "target: hits 1000 nmissed 1000\n\
             other: hits 1000 nmissed 1000\n\
             deepest 1\n\
             from a post_handler: hits 10 nmissed 10\n",
        );
    }

    #[test]
    fn that_crashes_is_disabled_and_the_program_goes_on() {
        let outcome = run("h_crash.c", &["none"]);
        assert_eq!(
            outcome.stdout,
            "crashing: off, hits right, fault_handler called 0 times, last for signal 0\n\
             same place: on, hits right, fault_handler called 0 times, last for signal 0\n\
             beside: on, hits right, fault_handler called 0 times, last for signal 0\n\
             unregister: 0\n",
            "\n{outcome}"
        );
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
        assert!(outcome.stderr.starts_with("uprobe: "), "it is reported\n{outcome}");
        assert_eq!(outcome.stderr.lines().count(), 1, "once\n{outcome}");
    }

    #[test]
    fn that_crashes_after_the_instruction_too() {
        assert_prints(
            "h_crash.c",
            &["post"],
            "crashing: off, hits right, fault_handler called 0 times, last for signal 0\n\
             same place: on, hits right, fault_handler called 0 times, last for signal 0\n\
             beside: on, hits right, fault_handler called 0 times, last for signal 0\n\
             unregister: 0\n",
        );
    }

    #[test]
    fn that_crashes_is_first_its_fault_handlers_business() {
        assert_prints(
            "h_crash.c",
            &["refuse"],
            "crashing: off, hits right, fault_handler called 1 times, last for signal 11\n\
             same place: on, hits right, fault_handler called 1 times, last for signal 11\n\
             beside: on, hits right, fault_handler called 1 times, last for signal 11\n\
             unregister: 0\n",
        );
        assert_prints_only(
            "h_crash.c",
            &["deal"],
            "crashing: on, hits right, fault_handler called 5 times, last for signal 11\n\
             same place: on, hits right, fault_handler called 5 times, last for signal 11\n\
             beside: on, hits right, fault_handler called 5 times, last for signal 11\n\
             unregister: 0\n",
        );
    }

    #[test]
    fn that_crashes_ten_calls_deep_in_each_way() {
        assert_prints(
            "h_crash.c",
            &["deep"],
            "2 3\n\
             deep: off, hits right, fault_handler called 0 times, last for signal 0\n\
             2 3\n\
             deep: off, hits right, fault_handler called 0 times, last for signal 0\n\
             2 3\n\
             deep: off, hits right, fault_handler called 0 times, last for signal 0\n",
        );
    }

    /// A contained crash must not make the program immune to its own.
    #[test]
    fn that_crashed_leaves_the_programs_own_faults_alone() {
        let outcome = run("h_crash.c", &["none", "and then itself"]);
        assert_eq!(outcome.end, End::Signal(11), "{outcome}");
    }

    #[test]
    fn may_register_and_unregister_and_disable() {
        assert_prints_only(
            "h_self.c",
            &[],
            "registered from a handler: 0, then hits 2\n\
             unregistered: hits 2\n\
             unregistered itself: 0, hits 1\n\
             disabled itself: 0, hits 1\n\
             enabled: 0\n\
             hits 2\n\
             ended another at the place: 1, which then ran 0 times\n\
             target still works: 2\n",
        );
    }

    #[test]
    fn that_takes_ten_milliseconds_is_waited_for() {
        assert_prints_only(
            "h_slow.c",
            &[],
            "inside a handler when unregister returned: 0\nran as often as counted: yes\nquick: hits 2000\n",
        );
    }

    #[test]
    fn sees_faults_of_the_probed_instruction() {
        assert_prints_only(
            "h_fault.c",
            &[],
            "repaired by the fault_handler: wrote 7 then 8, hits 2, fault_handler 1, SIGSEGV 0, rip 1, si_addr 0\n\
             stepped over by it: wrote 0 then 8, hits 2, fault_handler 1, SIGSEGV 0, rip 0, si_addr 0\n\
             not its own: wrote 7 then 8, hits 2, fault_handler 1, SIGSEGV 1, rip 1, si_addr 1\n\
             no fault_handler: wrote 7 then 8, hits 2, fault_handler 0, SIGSEGV 1, rip 1, si_addr 1\n\
             left by siglongjmp: wrote 0 then 8, hits 2, fault_handler 0, SIGSEGV 1, rip 0, si_addr 0\n\
             left by siglongjmp, asked first: wrote 0 then 8, hits 2, fault_handler 1, SIGSEGV 1, rip 0, si_addr 0\n",
        );
    }

    /// Signals come while instructions are stepped: none is lost, and none sees where they really run.
    #[test]
    fn after_a_stepped_instruction_loses_no_signal() {
        for _ in 0..3 {
            assert_prints_only(
                "h_storm.c",
                &[],
                "received all: 1\nout of order: 0\nforeign rip: 0\nwrong results: 0\nposts as hits: 1\n",
            );
        }
    }

    #[test]
    fn reads_memory_without_faults() {
        assert_prints_only(
            "h_read.c",
            &[],
            "all: 64\n\
             to the end of memory: 10\n\
             nothing there: 0\n\
             NULL: 0\n\
             not canonical: 0\n\
             string: 5 hello\n\
             cut: 4 a lo\n\
             unterminated: 3 lox\n\
             no string: Bad address, terminated 1\n\
             14 from a handler\n\
             Bad address\n\
             hits 2\n",
        );
    }
}

mod a_race {
    use super::*;

    #[test]
    fn of_registering_and_hitting_loses_nothing() {
        for _ in 0..3 {
            assert_prints_only("h_race.c", &[], "wrong: 0\ncallers ran: yes\ntext restored: yes\n");
        }
    }

    #[test]
    fn of_many_at_one_place_keeps_counts_in_bounds() {
        assert_prints_only("h_many.c", &[], "out of bounds: 0\ncalls: 32000\n");
    }
}

/// UPROBE_FLAG_PERTHREAD: counted exactly, and known when somebody asks.
mod counts_of_each_thread {
    use super::*;

    #[test]
    fn are_added_up() {
        assert_prints_only("h_perthread.c", &[], "wrong 0\n");
    }

    #[test]
    fn are_added_up_where_handlers_touch_no_vectors() {
        assert_prints_only("h_perthread.c", &["0x20"], "wrong 0\n");
    }

    #[test]
    fn are_added_up_with_breakpoints() {
        assert_prints_only("h_perthread.c", &["0x10"], "wrong 0\n");
    }
}

mod the_header {
    use super::*;

    #[test]
    fn compiles_as_c99_and_cplusplus17_without_a_warning() {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        for (compiler, standard, source) in [
            ("gcc", "c99", "header.c"),
            ("gcc", "c17", "header.c"),
            ("clang", "c99", "header.c"),
            ("g++", "c++17", "header.cpp"),
            ("clang++", "c++17", "header.cpp"),
            ("clang++", "c++20", "header.cpp"),
        ] {
            if !require_command(compiler) {
                continue;
            }
            let dir = scratch("header");
            let program = dir.join("header");
            let output = Command::new(compiler)
                .args(["-Wall", "-Wextra", "-pedantic", "-Werror", "-Wconversion", "-Wshadow"])
                .arg(format!("-std={standard}"))
                .arg(format!("-I{}", manifest.join("include").display()))
                .arg(manifest.join("tests/programs").join(source))
                .arg("-rdynamic")
                .arg("-o")
                .arg(&program)
                .output()
                .expect("the compiler runs");
            let messages = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && messages.is_empty(), "{compiler} {standard}:\n{messages}");
            for launch in [Launch::new(&program), Launch::new(&program).native()] {
                let outcome = launch.run();
                assert_eq!(outcome.end, End::Exit(0), "{compiler} {standard} {outcome}");
            }
            fs::remove_dir_all(dir).expect("our directory");
        }
    }

    /// What the header declares, the library exports, and nothing besides: what it exports is
    /// in the way of the program's own names.
    #[test]
    fn declares_what_the_library_exports() {
        let output =
            Command::new("nm").args(["-D", "--defined-only"]).arg(library()).output().expect("binutils");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut exported: Vec<&str> = text.lines().filter_map(|l| l.split_whitespace().nth(2)).collect();
        exported.sort_unstable();
        let header = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("include/uprobe.h"))
            .expect("there");
        let mut declared: Vec<&str> = header
            .lines()
            .filter_map(|line| line.strip_prefix("UPROBE_WEAK ")?.split('(').next()?.split(' ').next_back())
            .collect();
        declared.sort_unstable();
        assert!(!declared.is_empty());
        let missing: Vec<&&str> = declared.iter().filter(|d| !exported.contains(d)).collect();
        assert!(missing.is_empty(), "declared but not exported: {missing:?}");
        let foreign: Vec<&&str> =
            exported.iter().filter(|e| !declared.contains(e) && !e.contains("uprobe")).collect();
        assert!(foreign.is_empty(), "exported into everybody's namespace: {foreign:?}");
    }
}

mod c_examples {
    use super::*;

    fn dir() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("c-examples")
    }

    fn expected(name: &str) -> String {
        let path = dir().join(format!("{name}.expected"));
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    fn build(name: &str) -> std::path::PathBuf {
        Program::at(dir().join(format!("{name}.c"))).build()
    }

    /// Every one but the plugin is a program of its own.
    #[test]
    fn print_what_they_promise() {
        let mut names: Vec<String> = fs::read_dir(dir())
            .expect("the directory")
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                (path.extension()? == "c")
                    .then(|| path.file_stem().unwrap_or_default().to_string_lossy().into())
            })
            .filter(|name| name != "plugin")
            .collect();
        names.sort();
        assert!(names.len() >= 7, "{names:?}");
        for name in names {
            let outcome = Launch::new(build(&name)).run();
            assert_eq!(outcome.stdout, expected(&name), "{name}\n{outcome}");
            assert_eq!(outcome.end, End::Exit(0), "{name}\n{outcome}");
        }
    }

    #[test]
    fn run_without_the_library() {
        let outcome = Launch::new(build("without_library")).native().run();
        assert_eq!(outcome.stdout, expected("without_library.plain"), "{outcome}");
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
    }

    /// Where a weak function is a link-time constant (no PIE, no GOT) the library would never be seen.
    #[test]
    fn see_the_library_in_a_program_without_pie() {
        let source = dir().join("without_library.c");
        let program = Program::at(source).flag("-fno-pie").flag("-no-pie").build();
        let outcome = Launch::new(program).run();
        assert_eq!(outcome.stdout, expected("without_library"), "{outcome}");
    }

    #[test]
    fn the_plugin_changes_what_cat_opens() {
        let plugin = Program::at(dir().join("plugin.c")).shared("plugin.so").build();
        let dir = scratch("plugin");
        fs::copy(&plugin, dir.join("plugin.so")).expect("our directory");
        fs::write(dir.join("first"), "one\n").expect("our directory");
        fs::write(dir.join("second"), "two\n").expect("our directory");
        let config = super::Path::new(env!("CARGO_MANIFEST_DIR")).join("c-examples/plugin.toml");
        let launch = Launch::new("/bin/cat").arg("first").cwd(&dir).env("UPROBES", config.display());
        let outcome = launch.run();
        assert_eq!(outcome.stdout, expected("plugin"), "{outcome}");
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
        fs::remove_dir_all(dir).expect("our directory");
    }
}

/// Found by the soak (`tests/soak`).
mod for_ever {
    use super::*;

    #[test]
    fn while_the_linker_is_at_work() {
        let object = Program::new("plugged.c").shared("libplugged.so").build();
        assert_prints_only("h_forever.c", &["linker", &object.display().to_string()], "1500 hits\n");
    }

    #[test]
    fn does_not_grow() {
        assert_prints_only("h_forever.c", &["growth"], "no growth\n");
    }
}
