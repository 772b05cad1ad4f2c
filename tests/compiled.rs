//! Whatever is compiled into a detour decides, counts and logs what the general code does at an int3: pseudo-random
//! filters over pseudo-random registers, in front of every kind of action, at functions' first instructions
//! and inside them.

mod common;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use common::*;
use serde_json::Value;

/// As many functions as the program has of each kind.
const FUNCTIONS: usize = 96;
const THREADS: u64 = 2;
const ROUNDS: u64 = 300;

/// splitmix64
struct Random(u64);

impl Random {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        self.word() % n
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

const REGISTERS: [&str; 22] = [
    "ax", "bx", "cx", "dx", "si", "di", "r8", "r9", "eax", "ebx", "ecx", "edx", "esi", "edi", "r8d", "r9d",
    "al", "ah", "bh", "dl", "r8b", "r9w",
];
const TYPES: [&str; 14] = [
    "u64",
    "s64",
    "u32",
    "s32",
    "u16",
    "s16",
    "u8",
    "s8",
    "x64",
    "x32",
    "b5@3/32",
    "b1@0/64",
    "b20@10/64",
    "b40@9/64",
];

fn source(random: &mut Random) -> String {
    // The last bits of the stack pointer are the same in each run.
    if random.below(24) == 0 {
        return "%sp:b4@0/64".to_owned();
    }
    format!("%{}:{}", random.one(&REGISTERS), random.one(&TYPES))
}

fn comparison(random: &mut Random, args: &[String]) -> String {
    let index = random.below(args.len() as u64) as usize;
    let name = char::from(b'a' + index as u8);
    if random.below(4) == 0 {
        return format!("{name} & {:#x}", random.one(&[1, 2, 8, 0xff, 0x8000_0000, 1 << 40, u64::MAX]));
    }
    let relation = random.one(&["==", "!=", "<", "<=", ">", ">="]);
    let small = random.below(12);
    if args[index].contains(":s") {
        let wide = random.one(&[0x7f, 0x80, 0x7fff_ffff, 0x8000_0000, i64::MAX]);
        let constant = random.one(&[small as i64, small as i64, -(small as i64), wide, -wide]);
        return format!("{name} {relation} {constant}");
    }
    let wide = random.one(&[0x7f, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 40, u64::MAX]);
    format!("{name} {relation} {}", random.one(&[small, small, small, wide]))
}

fn filter(random: &mut Random, args: &[String], depth: u32) -> String {
    match random.below(if depth == 0 { 1 } else { 5 }) {
        0 => comparison(random, args),
        1 => format!("!({})", filter(random, args, depth - 1)),
        kind => {
            let joint = if kind == 2 { " || " } else { " && " };
            let terms: Vec<String> = (0..2 + random.below(2))
                .map(|_| match filter(random, args, depth - 1) {
                    term if term.contains('&') || term.contains('|') => format!("({term})"),
                    term => term,
                })
                .collect();
            terms.join(joint)
        }
    }
}

/// The keys of a probe of the Nth function.
fn keys(random: &mut Random, n: usize, is_entry: bool) -> String {
    let args: Vec<String> = (0..1 + random.below(4)).map(|_| source(random)).collect();
    let named: Vec<String> =
        args.iter().zip('a'..).map(|(source, name)| format!("'{name}={source}'")).collect();
    let filter = match random.below(8) {
        0 => String::new(),
        _ => format!("filter = '{}'\n", filter(random, &args, 2)),
    };
    let actions: &[&str] = &[
        "action = ['count']",
        "action = ['hist(a)']",
        "action = ['log']",
        "action = ['count', 'log']",
        "action = ['count', 'hist(a)']",
        "action = ['hist(a)', 'log']",
        "action = ['count']\nsample = 3",
        "action = ['log']\nlimit = 50",
        "kind = 'call'\naction = ['count']",
        "kind = 'return'\naction = ['count']",
        "kind = 'call'\naction = ['log']",
    ];
    let kinds = if is_entry { actions.len() } else { 8 };
    let name = if is_entry { 'p' } else { 'm' };
    format!("name = '{name}_{n}'\nargs = [{}]\n{filter}{}", named.join(", "), actions[n % kinds])
}

fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| Program::new("chains.c").flag("-O1").build()).clone()
}

fn launch(probes: &[(String, String)], method: &str) -> Launch {
    let launch = Launch::new(program()).args([THREADS, ROUNDS]).format("trace");
    probes.iter().fold(launch, |launch, (at, keys)| launch.probe(at, &format!("{keys}\nmethod = '{method}'")))
}

/// Every event's name and values, in order: not when, where and by whom it was logged.
fn logged(outcome: &Outcome) -> Vec<String> {
    let trace = outcome.dir.join(format!("events.{}", outcome.pid));
    let report =
        Command::new(own_command()).args(["report", "--json"]).arg(trace).output().expect("our command");
    assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stderr));
    let event = |line: &str| {
        let event: Value = serde_json::from_str(line).expect("JSON");
        format!("{} {}", event["name"], event["args"])
    };
    let mut events: Vec<String> =
        String::from_utf8(report.stdout).expect("UTF-8").lines().map(event).collect();
    events.sort_unstable();
    events
}

/// What is the same in each run, of each probe.
fn counts(outcome: &Outcome) -> Vec<Value> {
    let summary = outcome.summary();
    let keys = ["name", "hits", "returns", "nmissed", "filtered", "sampled_out", "lost", "unwound", "hist"];
    let probes = summary["probes"].as_array().expect("probes");
    probes.iter().map(|probe| keys.iter().map(|key| (*key, probe[*key].clone())).collect()).collect()
}

/// A limit is reached by whichever thread is first.
fn without_limited(mut events: Vec<String>, probes: &[(String, String)]) -> Vec<String> {
    let name = |keys: &str| keys.split('\'').nth(1).expect("a name").to_owned();
    let limited = probes.iter().filter(|(_, keys)| keys.contains("limit"));
    let limited: Vec<String> = limited.map(|(_, keys)| format!("\"{}\" ", name(keys))).collect();
    events.retain(|event| !limited.iter().any(|name| event.starts_with(name)));
    events
}

#[test]
fn filters_values_and_events_are_those_of_int3() {
    for seed in 0..3 {
        let mut random = Random(seed);
        let mut probes = Vec::new();
        for n in 0..FUNCTIONS {
            probes.push((format!("exe:p_{n}"), keys(&mut random, n, true)));
            probes.push((format!("exe:m_{n}+13"), keys(&mut random, n, false)));
        }
        let jumps = launch(&probes, "auto").run();
        let traps = launch(&probes, "int3").run();
        assert_same_output(&jumps, &launch(&[], "auto").native().run());
        assert_same_output(&traps, &jumps);
        let (compiled, general) = (counts(&jumps), counts(&traps));
        for (((at, keys), compiled), general) in probes.iter().zip(&compiled).zip(&general) {
            assert_eq!(compiled, general, "seed {seed}, {at}:\n{keys}");
        }
        let probed = jumps.probes();
        for probe in &probed {
            assert_eq!(probe.method.as_deref(), Some("jump"), "{probe:?}");
            assert_eq!(probe.executions(), THREADS * ROUNDS, "{probe:?}");
        }
        // The filters are no empty words.
        let both = probed.iter().filter(|probe| probe.hits > 0 && probe.filtered > 0).count();
        assert!(both * 3 > probed.len(), "{both} of {}", probed.len());
        let (compiled, general) = (logged(&jumps), logged(&traps));
        let (compiled, general) = (without_limited(compiled, &probes), without_limited(general, &probes));
        assert!(compiled.len() > 1000, "{}", compiled.len());
        let first = compiled.iter().zip(&general).find(|(one, other)| one != other);
        assert_eq!((first, compiled.len()), (None, general.len()), "seed {seed}");
    }
}
