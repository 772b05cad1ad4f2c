//! What a second reading of the engine found, each as a small program: the same as without the
//! library, and counts as the program's logic dictates.

mod common;

use common::*;

fn program(name: &str) -> Program {
    Program::at(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs_review").join(name))
}

/// A trap that found no room for its frame was the program's: SI_KERNEL and no address, and a fault in
/// our own handler left the thread inside a hit for good, so that each later one was missed.
#[test]
fn a_stack_that_overflows_at_a_probe_faults_at_its_guard() {
    let launch = Launch::new(program("overflow.c").build());
    let outcome = assert_same_as_native(&launch.count_all(["exe:recurse", "exe:trickle", "exe:tick"]));
    assert_hits_as_told(&outcome);
}

/// An emulated push, call or pop that faulted showed the trap's error code, vector and cr2: a handler
/// could not tell a write from a read.
#[test]
fn a_fault_of_an_emulated_instruction_is_a_page_fault() {
    let launch = Launch::new(program("emulated_fault.c").build());
    let outcome =
        assert_same_as_native(&launch.count_all(["exe:push_insn", "exe:call_insn", "exe:pop_insn"]));
    assert_hits_as_told(&outcome);
}

/// kill(getpid(), SIGTRAP) while all threads block it and one waits: the kernel, which knows of nothing
/// blocked, gave it to the main thread, where it stayed.
#[test]
fn a_signal_sent_to_the_process_reaches_the_thread_that_waits() {
    let launch = Launch::new(program("waiter.c").build());
    let outcome = assert_same_as_native(&launch.count("exe:work"));
    assert_hits_as_told(&outcome);
}

/// kill() of a fault signal inside a handler of ours ran the program's handler on top of it, which left
/// by siglongjmp.
#[test]
fn a_signal_sent_while_a_handler_runs_comes_after_it() {
    let outcome = Launch::new(program("sent_in_handler.c").build()).run();
    assert_eq!(outcome.end, End::Exit(0), "{outcome}");
    assert_eq!(outcome.stdout, "register 0\nseen 5 inside 0 nhit 5 nmissed 0\n", "{outcome}");
}

/// The grandchild, which borrows the child's memory, was taken for the child: it wrote the child's
/// report, and the child none.
#[test]
fn a_forked_child_that_vforks_first_reports_its_own() {
    let launch = Launch::new(program("fork_vfork.c").build());
    let outcome = assert_same_as_native(&launch.count("exe:work"));
    let mut hits: Vec<_> = outcome
        .summaries()
        .values()
        .flatten()
        .filter_map(|summary| summary["probes"][0]["hits"].as_u64())
        .collect();
    hits.sort_unstable();
    assert_eq!(hits, [1, 3], "{outcome}");
}

/// Each execve that failed left a report behind, and the counts stood in the last of four.
#[test]
fn a_program_that_can_not_be_executed_leaves_one_report() {
    let launch = Launch::new(program("exec_fails.c").build());
    let outcome = assert_same_as_native(&launch.count("exe:work"));
    assert_hits_as_told(&outcome);
    assert_eq!(outcome.summaries().values().flatten().count(), 1, "{outcome}");
}

/// An int3 of the program's at a place that was probed once was taken for ours and stepped over.
#[test]
fn an_int3_at_a_place_that_was_probed_is_the_programs() {
    let outcome = Launch::new(program("own_int3.c").build()).run();
    assert_eq!(outcome.end, End::Exit(0), "{outcome}");
    let round = "register 0\nunregister 0\n";
    assert_eq!(outcome.stdout, format!("{}trapped 3 sum 12 nhit 1\n", round.repeat(3)), "{outcome}");
}

/// Runs a program that registers its own probes and tells by its status whether all was well.
fn assert_well(name: &str) {
    let outcome = Launch::new(program(name).build()).run();
    assert_eq!(outcome.end, End::Exit(0), "{outcome}");
}

/// What a handler or a miss touches after unregister has returned is unmapped here.
#[test]
fn structs_may_go_as_soon_as_unregister_returns() {
    assert_well("storm_api.c");
}

/// A child forked in the middle of another thread's first call, or change, waited for ever.
#[test]
fn forks_beside_threads_that_register() {
    assert_well("fork_api.c");
}

/// The same before a fork was waited for at all.
#[test]
fn forks_beside_the_first_call_of_all() {
    assert_well("first_fork.c");
}

/// Only circles of two were seen.
#[test]
fn handlers_that_unregister_each_other_in_a_circle_end() {
    assert_well("circle.c");
}

/// Each registration looked at all that were there before: 1 ms each at 1,500.
#[test]
fn probes_registered_one_by_one_cost_the_same_each() {
    assert_well("one_by_one.c");
}

/// Objects at the same address by turns, and two threads in the linker.
#[test]
fn libraries_that_come_and_go_count_every_call() {
    let library = |n: u32| {
        program("churn_lib.c").flag(&format!("-DANSWER={n}")).shared(&format!("churn{n}.so")).build()
    };
    let libraries = [1, 2, 3].map(library);
    let launch = Launch::new(program("churn.c").build()).args(libraries.iter().map(|path| path.display()));
    let outcome = assert_same_as_native(&launch.count_all([
        "churn1.so:answer",
        "churn2.so:answer",
        "churn3.so:answer",
    ]));
    for n in 1..=3 {
        let probe = outcome.at(&format!("churn{n}.so:answer"));
        assert_eq!((probe.hits, probe.nmissed), (240, 0), "{probe:?}\n{outcome}");
    }
}

/// The kernel's frame, ours and the event's have room on the smallest stack, with all of libc probed.
#[test]
fn threads_of_sixteen_kilobytes() {
    let launch = Launch::new(program("small_stack.c").build());
    let args = r#"args = ['a=$arg1:string', 'b=$arg2:s32', 'c=+0($stack):x64[16]', 'd=$comm']
filter = 'a ~ "*text*" && b < 100'"#;
    let outcome = assert_same_as_native(&launch.probe("exe:work", args).count("libc.so.6:*"));
    assert_hits_as_told(&outcome);
}

/// Both steps had one record, which the inner one gave back: the outer one's post_handler never ran.
#[test]
fn a_stepped_system_call_may_be_interrupted_by_itself() {
    let outcome = Launch::new(program("nested_step.c").build()).run();
    let told = "register 0\ninterrupted 20 nested as handled 1 hits as calls 1 posts as hits 1\n\
                handled as calls 1\n";
    assert_eq!(outcome.stdout, told, "{outcome}");
}
