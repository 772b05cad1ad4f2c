//! Calls: what is fetched on which side, put away in between, and decided when.

use super::{BASE, World};
use crate::fetch::{At, EventProgram, HitInput, compile, filter, parse_arg};
use crate::trace::record::{RECORD_CAPACITY, RecordBuf, Value};

fn call(args: &[&str], ret: &[&str], filter_text: Option<&str>, at: At) -> EventProgram {
    let parsed = |texts: &[&str]| texts.iter().map(|text| parse_arg(text).unwrap()).collect::<Vec<_>>();
    let filter = filter_text.map(|text| filter::parse(text).unwrap_or_else(|e| panic!("{text}: {e}")));
    compile(&parsed(args), &parsed(ret), filter.as_ref(), at)
        .unwrap_or_else(|e| panic!("{args:?} {ret:?} {filter_text:?}: {e}"))
}

/// The record of a call whose entry part was put away in between, as at a hit.
fn record_of(program: &EventProgram, entry: &HitInput<'_>, back: &HitInput<'_>) -> RecordBuf {
    let mut record = RecordBuf::new();
    program.fetch(entry, &mut record);
    let kept = record.as_bytes().to_vec();
    assert!(kept.len() <= program.most_entry_bytes(), "{} {}", kept.len(), program.most_entry_bytes());
    // Another call's record in between.
    record.clear();
    record.push(|w| w.push_int(u64::MAX, 8));
    record.restore(&kept);
    assert_eq!(record.as_bytes(), kept);
    program.fetch_return(back, &mut record);
    record
}

#[test]
fn each_side_is_fetched_with_its_own_registers() {
    let (world, mut later) = (World::new(), World::new());
    (later.regs.rdi, later.regs.rax, later.regs.rsp) = (77, 5, BASE + 8);
    let program = call(
        &["path=$arg2:string", "fd=$arg1:u32"],
        &["ret=$retval:s32", "di=%di:u8", "top=$stack0:x8", "t=$latency:u64"],
        None,
        At::Call,
    );
    assert_eq!((program.entry_args(), program.args().len()), (2, 6));
    let back = HitInput { latency_ns: 1234, ..later.input() };
    let record = record_of(&program, &world.input(), &back);
    let values: Vec<_> = record.view().collect();
    assert_eq!(
        values,
        [
            Value::Text { bytes: b"/etc/passwd", cut: false },
            Value::Int { raw: 1, width: 4 },
            Value::Int { raw: 5, width: 4 },
            Value::Int { raw: 77, width: 1 },
            Value::Int { raw: 0xa1, width: 1 },
            Value::Int { raw: 1234, width: 8 },
        ]
    );
    assert!(!record.view().is_full());
}

#[test]
fn an_entry_program_has_no_other_side() {
    let world = World::new();
    let program = call(&["fd=$arg1"], &[], Some("fd == 1"), At::Entry);
    assert_eq!((program.entry_args(), program.filters_at_entry()), (1, true));
    let mut record = RecordBuf::new();
    program.fetch(&world.input(), &mut record);
    program.fetch_return(&world.input(), &mut record);
    assert_eq!(record.view().count(), 1);
}

#[test]
fn names_and_numbers_go_on_from_one_side_to_the_other() {
    let program = call(&["$arg1", "a=$arg2"], &["$retval"], None, At::Return);
    let names: Vec<_> = program.args().iter().map(|arg| arg.name()).collect();
    assert_eq!(names, ["arg1", "a", "arg3"]);
}

#[test]
fn the_return_side_of_a_full_record_is_left_out() {
    let world = World::new();
    let many: Vec<String> = (0..9).map(|i| format!("s{i}=%r15:string")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let program = call(&many, &["ret=$retval"], Some("ret == 5 || s8 ~ 'y*'"), At::Return);
    assert_eq!(program.most_entry_bytes(), RECORD_CAPACITY);
    let record = record_of(&program, &world.input(), &world.input());
    assert_eq!((record.view().count(), record.view().is_full()), (7, true));
    // What is not in the record is read anew at the return; what belongs to the entry can't be.
    assert!(!program.accepts(&record, &world.input()));
    let mut later = World::new();
    later.regs.rax = 5;
    assert!(program.accepts(&record, &later.input()));
    // While an entry's filter reads it.
    let program = call(&many, &["ret=$retval"], Some("s8 ~ 'y*'"), At::Return);
    assert!(program.filters_at_entry());
    assert!(program.accepts(&record, &world.input()));
}

#[test]
fn a_filter_is_decided_as_soon_as_it_can_be() {
    let (args, ret) = (["fd=$arg1:u32"], ["ret=$retval:s64"]);
    for (text, at_entry) in [
        ("fd == 1", true),
        ("fd == 1 && $tid == 5543 && $comm == cat && $ts > 0", true),
        ("ret == -2", false),
        ("fd == 1 && ret == -2", false),
        ("fd == 1 || $latency > 0", false),
    ] {
        let program = call(&args, &ret, Some(text), At::Call);
        assert_eq!(program.filters_at_entry(), at_entry, "{text}");
    }
    assert!(call(&args, &ret, None, At::Call).filters_at_entry());
}

#[test]
fn a_filter_sees_both_sides_and_the_latency() {
    let world = World::new();
    for (text, expected) in [
        ("fd == 1 && ret == -2", true),
        ("fd == 1 && ret == -3", false),
        ("$latency >= 1000", true),
        ("$latency > 1000", false),
        ("fd == 2 || $latency & 0x8", true),
        ("t == 1000", true),
    ] {
        let program = call(&["fd=$arg1:u32"], &["ret=$retval:s64", "t=$latency:u64"], Some(text), At::Call);
        let back = HitInput { latency_ns: 1000, ..world.input() };
        let record = record_of(&program, &world.input(), &back);
        assert_eq!(program.accepts(&record, &back), expected, "{text}");
    }
}

#[test]
fn what_must_be_kept_of_a_call() {
    for (args, bytes) in [
        (&[][..], 0),
        (&["a=$arg1"], 9),
        (&["a=$arg1:u8", "b=$arg2:s32"], 2 + 5),
        (&["s=$arg1:string"], 258),
        (&["c=$comm"], 19),
        (&["s=\\\"abc\""], 6),
        (&["a=+0($arg1):x16[4]"], 2 + 4 * 3),
        (&["a=+0($arg1):string[64]"], RECORD_CAPACITY),
    ] {
        assert_eq!(call(args, &["r=$retval"], None, At::Return).most_entry_bytes(), bytes, "{args:?}");
    }
}

/// An entry argument that neither the filter nor an action wanted was not put away, and the values of the
/// return then stood one too far in front in the record: the filter compared the string with 5.
#[test]
fn a_record_of_the_return_keeps_the_entry_in_front() {
    let (world, mut later) = (World::new(), World::new());
    later.regs.rax = 5;
    let program = call(
        &["unused=$arg1"],
        &["n=$retval", "path=%si:string"],
        Some("n == 5 && path == \"/etc/passwd\""),
        At::Return,
    );
    let needs = program.needs(false, true, std::iter::empty());
    assert!(!program.filters_at_entry() && needs.return_record);
    let mut record = RecordBuf::new();
    if needs.entry_record {
        program.fetch(&world.input(), &mut record);
    }
    let kept = if needs.kept { record.as_bytes().to_vec() } else { Vec::new() };
    record.restore(&kept);
    program.fetch_return(&later.input(), &mut record);
    assert!(program.accepts(&record, &later.input()));
}
