//! Filters over registers decide the same whoever decides: compiled code in a detour, or what runs at a
//! hit; and the program's registers, flags and stack stay its own.

mod common;

use common::*;

const VALUES: [u64; 24] = [
    0,
    1,
    4,
    5,
    6,
    7,
    8,
    0x10,
    0x110,
    0x7f,
    0x80,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffb,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0005,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_7fff_ffff,
    0xffff_ffff_8000_0000,
    0xffff_ffff_ffff_fffa,
    0xffff_ffff_ffff_fffb,
    0xffff_ffff_ffff_ffff,
];

type Typed = (&'static str, fn(u64) -> i128);

/// What is compared, of each register that arguments are in and each width; those that have no
/// compiled form too.
const TYPES: [Typed; 11] = [
    ("$arg1:u64", |v| v.into()),
    ("$arg2:s64", |v| (v as i64).into()),
    ("$arg3:u32", |v| (v as u32).into()),
    ("$arg4:s32", |v| (v as i32).into()),
    ("%r8:x64", |v| v.into()),
    ("%r9d:x64", |v| (v as u32).into()),
    ("$arg6:s32", |v| (v as i32).into()),
    ("%edi:s64", |v| (v as u32).into()),
    ("$arg2:u8", |v| (v as u8).into()),
    ("$arg3:b32@0/64", |v| (v as u32).into()),
    ("$arg1:b4@1/32", |v| (v >> 1 & 15).into()),
];

type Tested = (&'static str, fn(i128) -> bool);

const TESTS: [Tested; 12] = [
    ("a == 5", |v| v == 5),
    ("a != 5", |v| v != 5),
    ("a < 5", |v| v < 5),
    ("a <= 5", |v| v <= 5),
    ("a > 5", |v| v > 5),
    ("a >= 5", |v| v >= 5),
    ("!(a > 5)", |v| v <= 5),
    ("!(a == 0)", |v| v != 0),
    ("a & 0x10", |v| v & 16 != 0),
    ("!(a & 0x11)", |v| v & 17 == 0),
    ("a > 0x7fffffff", |v| v > 0x7fff_ffff),
    ("a >= 5 && a <= 127", |v| (5..=127).contains(&v)),
];

/// Those that only some types have.
const SIGNED: [(usize, Tested); 8] = [
    (1, ("a < -5", |v| v < -5)),
    (1, ("a >= -5", |v| v >= -5)),
    (3, ("a <= -5", |v| v <= -5)),
    (3, ("a > -5", |v| v > -5)),
    (6, ("a == -5", |v| v == -5)),
    (0, ("a >= 0xffffffff80000000", |v| v >= 0xffff_ffff_8000_0000)),
    (0, ("a > 0x80000000", |v| v > 0x8000_0000)),
    (2, ("a >= 0xfffffffb", |v| v >= 0xffff_fffb)),
];

fn cases() -> Vec<(Typed, Tested)> {
    let all = TYPES.iter().flat_map(|ty| TESTS.iter().map(|test| (*ty, *test)));
    let cases: Vec<_> = all.chain(SIGNED.iter().map(|(ty, test)| (TYPES[*ty], *test))).collect();
    assert_eq!(cases.len(), 140, "each has a function of its own");
    cases
}

fn by_register(source: &str) -> String {
    let registers = ["%rdi", "%rsi", "%rdx", "%rcx", "%r8", "%r9"];
    let replace = |source: String, (n, reg): (usize, &&str)| source.replace(&format!("$arg{}", n + 1), reg);
    registers.iter().enumerate().fold(source.to_owned(), replace)
}

#[test]
fn decide_the_same_compiled_or_not() {
    const TIMES: u64 = 3 * 20;
    let program = Program::new("filters.c").flag("-O1").build();
    let launch = Launch::new(&program).args([3, 20]).args(VALUES);
    let native = launch.clone().native().run();
    let cases = cases();
    for (function, method) in [("f_N", "auto"), ("g_N+9", "auto"), ("f_N", "int3")] {
        for also in ["", "\nsample = 1000000"] {
            let launch = cases.iter().enumerate().fold(launch.clone(), |launch, (n, ((source, _), (test, _)))| {
                let at = format!("exe:{}", function.replace('N', &n.to_string()));
                // Only a function's first instruction has arguments.
                let source = if function == "f_N" { (*source).to_owned() } else { by_register(source) };
                let keys = format!(
                    "args = ['a={source}']\nfilter = '{test}'\nmethod = '{method}'\naction = ['count']{also}"
                );
                launch.probe(&at, &keys)
            });
            let outcome = launch.run();
            assert_same_output(&outcome, &native);
            for (probe, ((source, make), (test, holds))) in outcome.probes().iter().zip(&cases) {
                let case = format!("{source} {test} {probe:?}");
                assert_eq!(probe.method.as_deref() == Some("jump"), method == "auto", "{case}");
                let accepted = VALUES.iter().filter(|v| holds(make(**v))).count() as u64 * TIMES;
                assert_eq!(probe.hits + probe.sampled_out, accepted, "{case}");
                assert_eq!(probe.filtered, VALUES.len() as u64 * TIMES - accepted, "{case}");
            }
        }
    }
}

fn number(text: &str, before: &str) -> u64 {
    let mut words = text.split_whitespace().skip_while(|word| *word != before).skip(1);
    words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{before} N in {text}"))
}

/// Signals find the program as it is, anywhere in compiled code, and may leave it.
#[test]
fn are_not_seen_by_signals() {
    let program = Program::new("detour_signals.c").build();
    let rows: [(&str, bool, &str); 5] = [
        ("c == 7", true, ""),
        ("c != 7", false, ""),
        ("c > 3", true, "jump"),
        ("c & 8", false, "jump"),
        ("c == 8 && l > 0 || l & 4 && !(c < 7)", true, "jump"),
    ];
    for (filter, passes, arg) in rows {
        for action in ["count", "hist(l)"] {
            let keys =
                format!("args = ['c=%ecx:u32', 'l=%cl:s8']\nfilter = '{filter}'\naction = ['{action}']");
            let launch = Launch::new(&program).arg(5000).arg(arg).probe("exe:window_*", &keys);
            let outcome = launch.run();
            for line in ["foreign rip: 0", "wrong rsp: 0", "wrong results: 0", "signals: many"] {
                assert!(outcome.stdout.lines().any(|told| told == line), "{line} by {filter}: {outcome}");
            }
            let executions: u64 = outcome.probes().iter().map(|probe| probe.hits + probe.filtered).sum();
            let (from, to) = (number(&outcome.stdout, "calls"), number(&outcome.stdout, "to"));
            assert!((from..=to).contains(&executions), "{executions} of {from} to {to} calls\n{outcome}");
            for probe in outcome.probes() {
                assert_eq!(probe.method.as_deref(), Some("jump"), "{probe:?}");
                assert_eq!(if passes { probe.filtered } else { probe.hits }, 0, "{filter}: {probe:?}");
            }
            // A value is counted with its hit, whoever leaves between the two.
            for probe in outcome.summary()["probes"].as_array().expect("probes") {
                let Some(hist) = probe["hist"]["l"].as_array() else { continue };
                let values: u64 = hist.iter().filter_map(serde_json::Value::as_u64).sum();
                assert_eq!(probe["hits"], values, "{filter}: {probe}");
            }
        }
    }
}
