//! The C API's return probes, jprobes and replacements: as in `handlers.rs`, each program registers its own
//! and tells what it saw; expected output is text.

mod common;

use common::*;

/// The program ends well, prints just this, and the library prints nothing; without the library it says so.
fn assert_prints(program: &str, args: &[&str], expected: &str) {
    let outcome = assert_prints_besides(program, args, expected);
    assert_eq!(outcome.stderr, "", "the C API never prints\n{outcome}");
}

/// As [`assert_prints`]; what the library prints is for the caller to look at.
fn assert_prints_besides(program: &str, args: &[&str], expected: &str) -> Outcome {
    let path = Program::new(program).build();
    let outcome = Launch::new(&path).args(args).run();
    assert_eq!(outcome.stdout, expected, "\n{outcome}");
    assert_eq!(outcome.end, End::Exit(0), "{outcome}");
    let without = Launch::new(&path).args(args).native().run();
    assert_eq!((without.stdout.as_str(), without.end), ("no library\n", End::Exit(0)), "{without}");
    outcome
}

/// A handler's crash is reported, once.
fn assert_reported(outcome: &Outcome) {
    assert!(outcome.stderr.starts_with("uprobe: "), "it is reported\n{outcome}");
    assert_eq!(outcome.stderr.lines().count(), 1, "once\n{outcome}");
}

mod the_header {
    use super::*;
    use std::mem::{offset_of, size_of};
    use uprobe::hit::c_structs::{CUjprobe, CUprobe, CUretprobe, CUretprobeInstance, MAX_INSTANCE_DATA};
    use uprobe::hit::jprobe::STACK_BYTES;

    macro_rules! line {
        ($name:literal, $type:ty, $($field:ident)*) => {
            [size_of::<$type>(), $(offset_of!($type, $field)),*]
                .iter()
                .fold($name.to_owned(), |line, number| format!("{line} {number}"))
        };
    }

    #[test]
    fn lays_out_its_structs_as_the_library_does() {
        let instance = line!("uretprobe_instance", CUretprobeInstance, rp ret_addr slot reserved);
        let lines = [
            line!("uprobe", CUprobe, pathname symbol_name offset addr pre_handler post_handler fault_handler data
                nhit nmissed flags reserved0 opaque),
            // The user's data, behind the rest.
            format!("{instance} {}", size_of::<CUretprobeInstance>()),
            line!("uretprobe", CUretprobe, up handler entry_handler maxactive reserved0 data_size nmissed opaque),
            line!("ujprobe", CUjprobe, up entry opaque),
            format!("constants {MAX_INSTANCE_DATA} {STACK_BYTES}"),
        ];
        let outcome = Launch::new(Program::new("header_layout.c").build()).native().run();
        assert_eq!(outcome.stdout.lines().collect::<Vec<_>>(), lines);
    }
}

mod a_return_probe {
    use super::*;

    #[test]
    fn says_why_it_cannot_be_registered() {
        assert_prints(
            "ret_errors.c",
            &[],
            "no handler: -EINVAL\n\
             only an entry_handler: -EINVAL\n\
             a pre_handler: -EINVAL\n\
             a post_handler: -EINVAL\n\
             too much data: -E2BIG\n\
             the most data: 0\n  unregister: 0\n\
             negative maxactive: -EINVAL\n\
             no such symbol: -ENOENT\n\
             data: -EINVAL\n\
             the second instruction: -EINVAL\n\
             its address: -EINVAL\n\
             the address of a function: 0\n  unregister: 0\n\
             dlopen: -EINVAL\n\
             NULL: -EINVAL\n\
             unregister NULL: -EINVAL\n\
             none: -EINVAL\n\
             one twice: -EINVAL\n\
             with a bad one: -EINVAL\n\
             5, called 0\n\
             two: 0\n\
             again: -EINVAL\n\
             found at target: 1\n\
             5, called 2\n\
             disable: 0\n\
             flag 1\n\
             5, called 3\n\
             enable: 0\n\
             5, called 5\n\
             unregister: 0\n\
             again: -EINVAL\n\
             5, called 5\n\
             hits 2 3\n\
             registered disabled: 0\n\
             5, called 5\n\
             unregister: 0\n",
        );
    }

    #[test]
    fn has_an_instance_for_each_call() {
        assert_prints(
            "ret_data.c",
            &[],
            "all: entries 18, returns 18, wrong 0, dirty 0, nhit 18, nmissed 0 0\n\
             even: entries 18, returns 9, wrong 0, dirty 0, nhit 9, nmissed 0 0\n\
             two at once: entries 6, returns 6, wrong 0, dirty 0, nhit 6, nmissed 12 12\n\
             without data: entries 0, returns 18, wrong 0, dirty 0, nhit 18, nmissed 0 0\n\
             with the most: entries 0, returns 18, wrong 0, dirty 0, nhit 18, nmissed 0 0\n",
        );
    }

    #[test]
    fn takes_its_turn_among_others_at_the_place() {
        assert_prints(
            "ret_order.c",
            &[],
            "one: (aa), result 42\n\
             all: (apj(bp'a)b), result 42\n\
             a disabled: pj(bp'b), result 42\n\
             skipped: (apj(bs, result 7\n\
             not followed: 1 1\n\
             a and b: (a(ba)b), result 42\n\
             b: (bb), result 42\n\
             none: , result 42\n\
             hits 3 4 3 3\n",
        );
    }

    #[test]
    fn changes_what_its_handlers_change_and_nothing_else() {
        assert_prints(
            "ret_registers.c",
            &[],
            "swapped and negated: -5, errno kept\n\
             returned elsewhere: 996\n\
             swapped and not followed: 5, hits 0\n\
             sum 42\n\
             hits 16\n",
        );
    }

    #[test]
    fn may_go_while_its_calls_are_under_way() {
        assert_prints(
            "ret_in_flight.c",
            &[],
            "under way 8\n\
             handlers 100\n\
             returned right 8, handlers 100\n\
             from inside: 0\n\
             result 3, handlers 100, hits 1\n\
             from its handler: 8, handlers 101, hits 1\n\
             from its entry_handler: 8, handlers 101, hits 0\n\
             enabled: handlers 102\n",
        );
    }

    #[test]
    fn that_crashes_goes_and_leaves_the_function_alone() {
        let outcome = assert_prints_besides(
            "ret_crash.c",
            &[],
            "sum 15, called 1 times, gone, fault_handler 0, beside 10\n",
        );
        assert_reported(&outcome);
        let outcome = assert_prints_besides(
            "ret_crash.c",
            &["entry"],
            "sum 15, called 1 times, gone, fault_handler 0, beside 10\n",
        );
        assert_reported(&outcome);
        assert_prints(
            "ret_crash.c",
            &["deal"],
            "sum 15, called 5 times, there, fault_handler 55, beside 10\n",
        );
    }

    #[test]
    fn sees_the_return_of_a_replacement() {
        assert_prints(
            "ret_replaced.c",
            &[],
            "replaced and followed: (R), result 111, seen 111\n\
             and probed: (pR), result 111, seen 111\n\
             given back: (p), result 11, seen 11\n\
             hits 3 2\n",
        );
    }
}

mod a_jprobe {
    use super::*;

    #[test]
    fn gets_the_functions_arguments_and_changes_nothing() {
        assert_prints(
            "jp_arguments.c",
            &[],
            "register: 0\n\
             45, errno kept, saw 1 2 3 4 5 6 7 8 9\n\
             60, saw 1.5 2.5 3.5 4.5 5.5 6.5 7.5 8.5 9.5 10.5\n\
             220.875, saw 1 2.5 c 4.25 5.125 -6 seven\n\
             215, saw 1 100..111 3\n\
             5 6, saw 5, result at an address\n\
             96, saw 1.5 2 3 4.5 5.5 6.5 7.5 8.5 9.5 10.5 11.5 12.5 13 \n\
             3, saw 1 2 \n\
             42, saw \"0x2a\" NULL 16\n\
             unregister: 0\n\
             hits 1 1 1 1 1 2 1\n",
        );
    }

    #[test]
    fn ends_by_ujprobe_return_from_any_depth() {
        assert_prints(
            "jp_return.c",
            &[],
            "outside: returned\n\
             deep: left 50 times, went on 0 times\n\
             calls others: 3, went on 0 times\n\
             hits 50 50 1, nmissed 1 1 1\n\
             in a pre_handler: 2, returned 1 times\n",
        );
    }

    #[test]
    fn that_crashes_goes_and_leaves_the_function_alone() {
        let outcome = assert_prints_besides(
            "jp_crash.c",
            &[],
            "sum 33, called 4 times, gone, fault_handler 0, beside 12\n",
        );
        assert_reported(&outcome);
        assert_prints(
            "jp_crash.c",
            &["deal"],
            "sum 33, called 6 times, there, fault_handler 11, beside 12\n",
        );
    }

    #[test]
    fn says_why_it_cannot_be_registered() {
        assert_prints(
            "jp_errors.c",
            &[],
            "no entry: -EINVAL\n\
             a pre_handler: -EINVAL\n\
             a post_handler: -EINVAL\n\
             no such symbol: -ENOENT\n\
             data: -EINVAL\n\
             the second instruction: -EINVAL\n\
             its address: -EINVAL\n\
             inside an instruction: -EINVAL\n\
             the address of a function: 0\n  unregister: 0\n\
             NULL: -EINVAL\n\
             unregister NULL: -EINVAL\n\
             none: -EINVAL\n\
             one twice: -EINVAL\n\
             with a bad one: -EINVAL\n\
             5, called 0\n\
             two: 0\n\
             again: -EINVAL\n\
             5, called 2\n\
             disable: 0\n\
             5, called 3\n\
             enable: 0\n\
             5, called 5\n\
             unregister: 0\n\
             again: -EINVAL\n\
             5, called 5\n",
        );
    }

    #[test]
    fn reads_no_further_than_the_stack_goes() {
        assert_prints("jp_stack_end.c", &[], "result 32, seen 30\n");
    }

    #[test]
    fn sees_its_own_threads_arguments() {
        assert_prints("jp_threads.c", &[], "wrong 0, hits 18000\n");
    }
}

mod a_replacement {
    use super::*;

    #[test]
    fn gets_all_calls_and_the_function_stays_callable() {
        assert_prints(
            "rep_calls.c",
            &[],
            "replace fib: 0\n\
             fib 10 is 55, in 177 calls\n\
             twice: -EBUSY\n\
             original untouched: 1\n\
             fib 10 is 55, in 177 calls\n\
             end: 0\n\
             fib 10 is 55, in 0 calls\n\
             by original afterwards: 55\n\
             end again: -EINVAL\n\
             replace mix: 0\n\
             137.5\n\
             end: 0\n\
             68.75\n\
             in libc: 0\n\
             1, its own called 1\n\
             end: 0\n\
             0\n\
             an IFUNC: 0\n\
             1234\n\
             end: 0\n\
             1\n\
             replace plain: 0\n\
             from a handler: 50\n\
             end from the same state: 0\n\
             from a handler: 6\n\
             no symbol: -EINVAL\n\
             no such symbol: -ENOENT\n\
             data: -EINVAL\n\
             an object not loaded: -ENOENT\n\
             the library's own: -EINVAL\n\
             original can't be written: -EFAULT\n\
             untouched: 1, 2\n",
        );
    }

    #[test]
    fn leaves_a_way_past_every_first_instruction() {
        let lines: String = [
            "endbr",
            "push",
            "sub",
            "mov",
            "store",
            "relative",
            "compare",
            "jump",
            "jump_memory",
            "immediate",
            "ret",
            "branch",
            "condition",
            "loop",
            "call",
            "call_memory",
        ]
        .iter()
        .map(|name| format!("f_{name}: 1023 24 25 26 0\n"))
        .collect();
        assert_prints("rep_first.c", &[], &lines);
    }

    #[test]
    fn comes_and_goes_under_running_threads() {
        assert_prints("rep_threads.c", &[], "wrong 0\n");
    }

    #[test]
    fn leaves_other_probes_at_the_place_working() {
        assert_prints(
            "rep_probes.c",
            &[],
            "probed: aj', result 12\n\
             replaced: ajR, result 112\n\
             registered later: ajbR, result 122\n\
             skipped: ajbs, result 77\n\
             without a and b: jR, result 102\n\
             alone: R, result 102\n\
             given back: a', result 12\n\
             unprobed: , result 2\n\
             hits 1 2 1 5, rip right 7\n",
        );
    }

    #[test]
    fn leaves_faults_of_the_function_where_they_were() {
        assert_prints(
            "rep_fault.c",
            &[],
            "load: 42 42 42, calls 2, faults 2, foreign rip 0\n\
             jump: 42 42 42, calls 2, faults 2, foreign rip 0\n",
        );
    }

    #[test]
    fn ends_when_its_object_is_unloaded() {
        let library = Program::new("rep_library.c").shared("rep_library.so").build();
        let library = library.display().to_string();
        assert_prints(
            "rep_unload.c",
            &[&library],
            "not loaded: -ENOENT\n\
             loaded: 2\n\
             replace: 0\n\
             replaced: 1002\n\
             not loaded: -ENOENT\n\
             loaded: 2\n\
             replace: 0\n\
             replaced: 1002\n\
             loaded again: 2\n\
             end: -EINVAL\n",
        );
    }
}
