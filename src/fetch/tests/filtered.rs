//! Which hits pass.

use super::{World, program};
use crate::fetch::{At, filter};
use crate::trace::record::RecordBuf;

const ARGS: [&str; 14] = [
    "path=$arg2:string",
    "flags=\\0x40:x32",
    "fd=\\-1:s32",
    "one=%di:u64",
    "max=\\-1:u64",
    "byte=\\0x180:u8",
    "neg=\\-128:s8",
    "c=\\0x41:char",
    "bits=\\0xf0:b4@4/8",
    "empty=@0x108b:string",
    "bad=@0",
    "badstr=\\0:string",
    "long=%r14:string",
    "big=\\0x8000000000000000:x64",
];

fn passes(args: &[&str], text: &str) -> bool {
    let world = World::new();
    let program = program(args, Some(text), At::Entry);
    assert!(program.has_filter());
    let mut record = RecordBuf::new();
    program.fetch(&world.input(), &mut record);
    program.accepts(&record, &world.input())
}

#[test]
fn comparisons() {
    for (text, expected) in [
        ("one == 1", true),
        ("one==1", true),
        ("one != 1", false),
        ("one < 1", false),
        ("one < 2", true),
        ("one <= 1", true),
        ("one <= 0", false),
        ("one > 0", true),
        ("one > 1", false),
        ("one >= 1", true),
        ("one >= 2", false),
        ("one == 0x1", true),
        ("one == 01", true),
        ("flags == 0100", true),
        ("flags == 64", true),
        ("flags == 0X40", true),
        ("flags & 0x40", true),
        ("flags&0x41", true),
        ("flags & 0x3f", false),
        ("flags & 0", false),
        // By the field's sign.
        ("fd == -1", true),
        ("fd==-1", true),
        ("fd < 0", true),
        ("fd<0", true),
        ("fd > -2", true),
        ("fd & 0x80000000", true),
        ("fd & 0x100000000", false),
        ("fd >= -0x8000000000000000", true),
        ("neg == -128", true),
        ("neg < -127", true),
        ("max == 0xffffffffffffffff", true),
        ("max > 9223372036854775808", true),
        ("max < 1", false),
        ("big > 1", true),
        ("byte == 128", true),
        ("byte == 0x180", false),
        ("byte > 127", true),
        ("bits == 15", true),
        ("c == 'A'", true),
        ("c == 65", true),
        ("c >= 'B'", false),
        ("one != 'A'", true),
        ("c != '\\n'", true),
    ] {
        assert_eq!(passes(&ARGS, text), expected, "{text}");
    }
}

#[test]
fn strings() {
    for (text, expected) in [
        ("path == \"/etc/passwd\"", true),
        ("path == '/etc/passwd'", true),
        ("path == /etc/passwd", true),
        ("path == \"/etc\"", false),
        ("path != \"/etc\"", true),
        ("path != \"/etc/passwd\"", false),
        ("path ~ \"/etc/*\"", true),
        ("path ~ /etc/*", true),
        ("path~\"*/pass??\"", true),
        ("path ~ \"*[p-q]ass*\"", true),
        ("path ~ \"*[!p-q]ass*\"", false),
        ("path ~ \"/etc\"", false),
        ("path ~ \"*\"", true),
        ("empty == \"\"", true),
        ("empty ~ \"\"", true),
        ("empty != ''", false),
        ("path == \"a\\\"b\"", false),
        ("long ~ \"xxx*\"", true),
        // 300 bytes, of which 255 are kept.
        ("long != \"x\"", true),
    ] {
        assert_eq!(passes(&ARGS, text), expected, "{text}");
    }
    let x = "x".repeat(255);
    assert!(!passes(&ARGS, &format!("long == {x}")));
    assert!(passes(&ARGS, &format!("long != {x}")));
    assert!(passes(&["s=\\\"a\\\"b\\\\\""], "s == \"a\\\"b\\\\\""));
}

#[test]
fn logic() {
    for (text, expected) in [
        ("one == 1 && flags == 64", true),
        ("one == 1 && flags == 65", false),
        ("one == 2 && flags == 64", false),
        ("one == 2 || flags == 64", true),
        ("one == 1 || flags == 65", true),
        ("one == 2 || flags == 65", false),
        // && binds tighter.
        ("one == 1 || one == 2 && one == 3", true),
        ("one == 3 && one == 2 || one == 1", true),
        ("(one == 1 || one == 2) && one == 3", false),
        ("!one == 1", false),
        ("!(one == 1)", false),
        ("!!(one == 1)", true),
        ("! ! ! one == 1", false),
        ("!one == 2 && one == 1", true),
        ("!(one == 2 || flags == 65)", true),
        ("!(one == 1 && flags == 64)", false),
        ("!(one == 1 && !(flags == 65))", false),
        ("((((one == 1))))", true),
        ("(one == 2 || (flags == 64 && (fd == 3 || fd == -1)))&&!path ~ \"/tmp/*\"", true),
        ("one == 2 || flags == 1 || fd == -1", true),
        ("one == 1 && flags == 64 && fd == 0", false),
        // What can't be read compares as false, whatever the operator.
        ("bad == 0", false),
        ("bad != 0", false),
        ("!bad == 0", true),
        ("bad & 1", false),
        ("badstr == ''", false),
        ("badstr != ''", false),
        ("badstr ~ '*'", false),
        ("!(badstr ~ '*')", true),
        ("bad != 0 || one == 1", true),
    ] {
        assert_eq!(passes(&ARGS, text), expected, "{text}");
    }
}

#[test]
fn names_besides_the_arguments() {
    for (text, expected) in [
        ("$tid == 5543", true),
        ("$tid != 5543", false),
        ("common_pid == 5543", true),
        ("$ts > 12345678899", true),
        ("$ts >= 12345678901", false),
        ("$comm == cat", true),
        ("$comm == \"ca\"", false),
        ("$comm ~ \"c*\"", true),
        ("comm != 'dog'", true),
        ("COMM == 'cat'", true),
    ] {
        assert_eq!(passes(&[], text), expected, "{text}");
    }
    // An argument of that name comes first.
    assert!(passes(&["comm=\\1"], "comm == 1"));
    assert!(passes(&["$arg1"], "arg1 == 1"));
}

#[test]
fn an_argument_beyond_a_full_record_is_still_compared() {
    let mut args: Vec<String> = (0..12).map(|i| format!("s{i}=%r15:string")).collect();
    args.push("last=%di".to_owned());
    args.push("end=%r14:string".to_owned());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    assert!(passes(&args, "last == 1"));
    assert!(!passes(&args, "last != 1"));
    assert!(passes(&args, "s11 ~ 'y*' && end ~ 'x*' && end != 'x'"));
}

/// Every expression over two variables up to a size, against the same computed by this test.
#[test]
fn jumps_follow_logic() {
    // The text, and its truth for each of the four states of (a, b).
    let mut all: Vec<(String, [bool; 4])> =
        vec![("a == 1".into(), [false, true, false, true]), ("b == 1".into(), [false, false, true, true])];
    for round in 0..2 {
        let so_far = all.clone();
        for (x, xs) in &so_far {
            all.push((format!("!({x})"), xs.map(|x| !x)));
            for (y, ys) in so_far.iter().take(if round == 0 { 2 } else { 9 }) {
                let zip = |f: fn(bool, bool) -> bool| std::array::from_fn(|i| f(xs[i], ys[i]));
                all.push((format!("({x}) && ({y})"), zip(|x, y| x && y)));
                all.push((format!("({x}) || ({y}) || ({y})"), zip(|x, y| x || y)));
            }
        }
    }
    assert!(all.len() > 150);
    let world = World::new();
    for (text, expected) in all {
        for (state, expected) in expected.into_iter().enumerate() {
            let args = [format!("a=\\{}", state & 1), format!("b=\\{}", state >> 1)];
            let program = program(&[&args[0], &args[1]], Some(&text), At::Entry);
            let mut record = RecordBuf::new();
            program.fetch(&world.input(), &mut record);
            assert_eq!(program.accepts(&record, &world.input()), expected, "{text} in {state}");
        }
    }
}

#[test]
fn a_program_knows_what_it_has() {
    let none = program(&[], None, At::Entry);
    assert!(none.is_empty() && !none.has_filter());
    let world = World::new();
    assert!(none.accepts(&RecordBuf::new(), &world.input()));
    assert!(!program(&["%di"], None, At::Entry).is_empty());
    assert!(!program(&[], Some("$tid == 1"), At::Entry).is_empty());
    let named = program(&["x=%di", "%si"], None, At::Entry);
    assert_eq!(named.args().iter().map(|arg| arg.name()).collect::<Vec<_>>(), ["x", "arg2"]);
}

#[test]
fn a_long_chain_is_flat() {
    let text = vec!["one == 2"; 127].join(" || ") + " || one == 1";
    assert!(passes(&ARGS, &text));
    assert!(matches!(filter::parse(&text), Ok(filter::FilterExpr::Any(terms)) if terms.len() == 128));
}
