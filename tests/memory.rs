//! What many probes take of the process's memory, and that it is given back.

mod common;

use common::*;

#[test]
fn fifty_thousand_probes_come_and_go_and_leave_nothing_more_each_time() {
    let program = Program::new("many_probes.c").build();
    let outcome = Launch::new(program).arg(5).run();
    assert_eq!(outcome.end, End::Exit(0), "{outcome}");
    assert_eq!(outcome.stdout, "5 of 5 hits; falls: yes; grows: no\n", "{outcome}");
}

/// The number before `what` in the library's message.
fn number_before(message: &str, what: &str) -> u64 {
    let before = message.split(what).next().unwrap_or_default();
    let word = before.trim_end().rsplit(' ').next().unwrap_or_default();
    word.parse().unwrap_or_else(|_| panic!("no number before '{what}': {message}"))
}

#[test]
fn what_a_place_takes_is_told_and_is_little() {
    let program = Program::new("many_probes.c").build();
    let outcome = Launch::new(program).count("exe:fn_*").env("UPROBE_LOG", "info").run();
    let line = outcome.stderr.lines().find(|line| line.contains("places armed"));
    let line = line.unwrap_or_else(|| panic!("{outcome}"));
    assert_eq!(number_before(line, "places armed"), 50_000);
    let (memory, mapped) = (number_before(line, "bytes of memory"), number_before(line, "of address space"));
    // The probe's own text becomes a copy of this process, too.
    assert!((100..LIMIT).contains(&memory), "{line}");
    // With what is set aside for the report.
    assert!((100..MAPPED_LIMIT).contains(&mapped), "{line}");
}

/// Bytes a place, with some room for what does not grow with them.
const LIMIT: u64 = 450;
/// The same of address space.
const MAPPED_LIMIT: u64 = 1500;
