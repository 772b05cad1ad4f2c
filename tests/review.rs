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
