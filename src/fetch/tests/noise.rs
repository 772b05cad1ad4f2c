//! Random text and random bytes: whatever comes in, a result comes out.

use super::{Random, World};
use crate::fetch::{At, EventProgram, compile, filter, parse_arg};
use crate::trace::record::{RecordBuf, RecordView, Value};

/// Pieces that get far into the parsers, and some that get nowhere.
const PIECES: [&str; 64] = [
    "%di",
    "%ax",
    "$arg1",
    "$arg7",
    "$retval",
    "$stack3",
    "$stack",
    "$comm",
    "$tid",
    "$ts",
    "@0x1080",
    "@+8",
    "\\1",
    "\\-1",
    "\\\"a",
    "\"",
    "+8(",
    "-4(",
    "+u0(",
    ")",
    ")",
    ":",
    ":string",
    ":u8",
    ":x64[4]",
    ":s32",
    ":char",
    ":b4@2/8",
    "[",
    "]",
    "[3]",
    "x=",
    "y=",
    "=",
    "x",
    "y",
    " ",
    " ",
    "==",
    " == ",
    "!=",
    " < ",
    " <= ",
    " > ",
    " & ",
    " ~ ",
    "&&",
    " || ",
    "!",
    "(",
    "(",
    "'",
    "'a'",
    "\"/etc/*\"",
    "-1",
    "0x40",
    "077",
    "18446744073709551616",
    "é",
    "\u{0}",
    "\n",
    "->",
    ".",
    "$",
];

fn noise(random: &mut Random) -> String {
    let mut text = String::new();
    for _ in 0..random.below(9) {
        text.push_str(PIECES[random.below(PIECES.len())]);
    }
    text
}

fn checked<T>(text: &str, result: Result<T, crate::syntax::SyntaxError>) -> Option<T> {
    result
        .map_err(|error| {
            assert!(error.at <= text.len(), "{text:?}: {error:?}");
            assert!(error.len >= 1 && text.is_char_boundary(error.at), "{text:?}: {error:?}");
            let end = error.at + error.len;
            assert!(end <= text.len().max(error.at + 1), "{text:?}: {error:?}");
            assert!(end > text.len() || text.is_char_boundary(end), "{text:?}: {error:?}");
        })
        .ok()
}

#[test]
fn parsers_and_programs_survive() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut world = World::new();
    let (mut parsed_args, mut parsed_filters, mut compiled) = (0, 0, 0);
    for _ in 0..60_000 {
        let (arg_text, filter_text) = (noise(&mut random), noise(&mut random));
        let arg = checked(&arg_text, parse_arg(&arg_text));
        let expr = checked(&filter_text, filter::parse(&filter_text));
        parsed_args += usize::from(arg.is_some());
        parsed_filters += usize::from(expr.is_some());
        let at = [At::Entry, At::Inside, At::Return, At::Call][random.below(4)];
        let args: Vec<_> = arg.into_iter().collect();
        for filter in [None, expr.as_ref()] {
            if let Ok(program) = compile(super::sides(&args, at).0, super::sides(&args, at).1, filter, at) {
                world.regs.rdi = random.next();
                run(&world, &program);
                compiled += usize::from(!program.is_empty());
            }
        }
    }
    // The noise reaches what it is meant to reach.
    assert!(
        parsed_args > 1500 && parsed_filters > 100 && compiled > 1500,
        "{parsed_args} {parsed_filters} {compiled}"
    );
}

fn run(world: &World, program: &EventProgram) {
    let mut record = RecordBuf::new();
    program.fetch(&world.input(), &mut record);
    assert!(record.as_bytes().len() <= program.most_entry_bytes());
    program.fetch_return(&world.input(), &mut record);
    let _ = program.accepts(&record, &world.input());
    assert_eq!(record.view().count(), program.args().len());
    world.print(program);
}

#[test]
fn bytes_that_are_no_text_are_refused_or_taken() {
    let mut random = Random(7);
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..random.below(24)).map(|_| random.next() as u8).collect();
        let text = String::from_utf8_lossy(&bytes);
        checked(&text, parse_arg(&text));
        checked(&text, filter::parse(&text));
    }
}

#[test]
fn record_bytes_from_anywhere_end() {
    let mut random = Random(11);
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..random.below(64)).map(|_| (random.next() % 12) as u8).collect();
        let mut left = bytes.len();
        let mut restored = RecordBuf::new();
        restored.restore(&bytes);
        assert!(restored.view().eq(RecordView::new(&bytes)), "{bytes:?}");
        for value in RecordView::new(&bytes) {
            left = left.checked_sub(1).expect("a value takes at least a byte");
            if let Value::Array { elements, .. } = value {
                assert!(elements.count() <= bytes.len());
            }
        }
        let _ = RecordView::new(&bytes).is_full();
    }
}

/// Whatever the order and size of what is pushed, a record holds what it accepted.
#[test]
fn records_hold_what_they_took() {
    let mut random = Random(13);
    for _ in 0..300 {
        let mut record = RecordBuf::new();
        let mut taken = 0;
        loop {
            let width = [1, 2, 4, 8][random.below(4)];
            let fits = match random.below(3) {
                0 => record.push(|w| w.push_fault()),
                1 => record.push(|w| w.push_int(random.next(), width)),
                _ => record.push(|w| w.push_array(64, |w, i| w.push_int(i.into(), width))),
            };
            if !fits {
                break;
            }
            taken += 1;
        }
        assert_eq!(record.view().count(), taken);
        assert!(record.view().is_full());
    }
}
