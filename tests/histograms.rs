//! `hist(NAME)` counts every value that a probe's hits have, once, in the bucket of its binary digits:
//! of every type, on both sides of a call, behind filters, from many threads, in parent and child.

mod common;

use common::*;
use serde_json::Value;

/// Around every power of two, and negative ones.
fn all_values() -> Vec<u64> {
    let mut values = vec![0];
    for power in 0..64 {
        values.extend([1 << power, (1_u64 << power).wrapping_sub(1), (1_u64 << power).wrapping_neg()]);
    }
    values
}

/// The buckets of these values, as the summary has them.
fn buckets(values: impl IntoIterator<Item = i128>) -> Vec<u64> {
    let mut counts = vec![0; 65];
    for value in values {
        // A negative one goes where no value of its type can be.
        counts[if value < 0 { 64 } else { (128 - value.leading_zeros()) as usize }] += 1;
    }
    while counts.last() == Some(&0) {
        counts.pop();
    }
    counts
}

/// Each so many times.
fn times(buckets: &[u64], n: u64) -> Vec<u64> {
    buckets.iter().map(|count| count * n).collect()
}

fn found(probe: &Value, name: &str) -> Vec<u64> {
    let all = probe["hist"][name].as_array().unwrap_or_else(|| panic!("{name} in {probe}"));
    all.iter().map(|n| n.as_u64().expect("a count")).collect()
}

type Typed = (&'static str, &'static str, fn(u64) -> i128);

/// What is fetched, and what that makes of a value.
const TYPES: [Typed; 12] = [
    ("u", "$arg1:u64", |v| v.into()),
    ("s", "$arg1:s64", |v| (v as i64).into()),
    ("x", "$arg1", |v| v.into()),
    ("u8", "$arg1:u8", |v| (v as u8).into()),
    ("s8", "$arg1:s8", |v| (v as i8).into()),
    ("u16", "%di:u16", |v| (v as u16).into()),
    ("s32", "$arg1:s32", |v| (v as i32).into()),
    ("c", "$arg1:char", |v| (v as u8).into()),
    ("bits", "$arg1:b5@3/32", |v| (v >> 3 & 31).into()),
    ("part", "%edi:x32", |v| (v as u32).into()),
    ("memory", "+0($arg2):s64", |v| (v as i64).into()),
    ("low", "+0(%si):u16", |v| (v as u16).into()),
];

fn program() -> std::path::PathBuf {
    Program::new("hist_values.c").flag("-O2").build()
}

fn launch(threads: u64, rounds: u64, values: &[u64]) -> Launch {
    Launch::new(program()).args([threads, rounds]).args(values)
}

fn every_type() -> (String, String) {
    let args: Vec<String> = TYPES.iter().map(|(name, source, _)| format!("'{name}={source}'")).collect();
    let hists: Vec<String> = TYPES.iter().map(|(name, _, _)| format!("'hist({name})'")).collect();
    (format!("args = [{}]", args.join(", ")), hists.join(", "))
}

#[test]
fn of_every_type_at_every_kind_of_probe() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 50;
    let values = all_values();
    let (args, hists) = every_type();
    for method in ["auto", "int3"] {
        let mut launch = launch(THREADS, ROUNDS, &values);
        for kind in ["entry", "return", "call"] {
            let keys = format!("kind = '{kind}'\nmethod = '{method}'\n{args}\naction = [{hists}]");
            launch = launch.probe("exe:take", &keys);
        }
        let outcome = launch.run();
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
        let summaries = outcome.summaries();
        assert_eq!(summaries.len(), 2, "parent and child\n{outcome}");
        for (pid, summary) in &summaries {
            let passes = if *pid == outcome.pid { THREADS * ROUNDS + 1 } else { 1 };
            for probe in summary[0]["probes"].as_array().expect("probes") {
                assert_eq!(probe["method"] == "jump", method == "auto", "{probe}");
                assert_eq!(probe["hits"], passes * values.len() as u64, "{probe}");
                for (name, source, make) in TYPES {
                    let expected = times(&buckets(values.iter().map(|v| make(*v))), passes);
                    assert_eq!(found(probe, name), expected, "{source} of {pid}: {probe}");
                }
            }
        }
    }
}

#[test]
fn of_the_return_and_of_the_time() {
    let values = all_values();
    let keys = "args = ['a=$arg1:s64', 's=+0($arg2):string']\nret = ['r=$retval:s32', 'ns=$latency']\n\
                kind = 'call'";
    let outcome = launch(2, 10, &values)
        .probe("exe:take", &format!("{keys}\naction = ['hist(r)', 'hist($latency)', 'hist(ns)']"))
        .probe("exe:take", &format!("{keys}\naction = ['hist($latency)']"))
        .probe("exe:take", &format!("{keys}\naction = ['log', 'hist(a)', 'hist(r)', 'hist($latency)']"))
        .run();
    let summary = &outcome.summaries()[&outcome.pid][0];
    let returned = times(&buckets(values.iter().map(|v| (*v as i32).into())), 21);
    for probe in summary["probes"].as_array().expect("probes") {
        let times = &probe["latency"]["log2"];
        assert_eq!(probe["hist"]["$latency"], *times, "{probe}");
        if !probe["hist"]["ns"].is_null() {
            assert_eq!(probe["hist"]["ns"], *times, "{probe}");
        }
        if !probe["hist"]["r"].is_null() {
            assert_eq!(found(probe, "r"), returned, "{probe}");
        }
    }
    let logs = &summary["probes"][2];
    assert_eq!(found(logs, "a"), times(&buckets(values.iter().map(|v| (*v as i64).into())), 21), "{logs}");
    assert_eq!(outcome.event_lines().len(), 21 * values.len(), "of the parent");
}

/// What is asked for, and which values pass.
type Filtered = (&'static str, fn(u64) -> bool);

/// What the filter, `sample` or `limit` leave out is in no histogram, and what can't be read is not either.
#[test]
fn of_the_hits_that_count() {
    let values = all_values();
    let cases: [Filtered; 7] = [
        ("args = ['a=$arg1:u64']\nfilter = 'a > 5'", |v| v > 5),
        ("args = ['a=$arg1:u64', 'b=$arg1:s64']\nfilter = 'b < 0 || a == 3'", |v| (v as i64) < 0 || v == 3),
        ("kind = 'call'\nargs = ['a=$arg1:u64']\nfilter = 'a & 0x10'", |v| v & 16 != 0),
        ("kind = 'return'\nargs = ['a=$arg1:u64']\nret = ['r=$retval:s32']\nfilter = 'r < 0'", |v| {
            (v as i32) < 0
        }),
        ("kind = 'call'\nargs = ['a=$arg1:u64']\nret = ['r=$retval:s32']\nfilter = 'r < 0 && a > 5'", |v| {
            (v as i32) < 0 && v > 5
        }),
        ("args = ['a=$arg1:u64', 's=+0($arg2):string']\nfilter = 's == \"A\"'", |v| v == 0x41),
        ("args = ['a=$arg1:u64', 'c=$comm']\nfilter = 'c ~ \"hist*\" && $tid > 0 && $ts > 0'", |_| true),
    ];
    let mut values = values;
    values.push(0x41);
    let mut launch = launch(2, 10, &values);
    for (keys, _) in cases {
        for action in ["'hist(a)'", "'log', 'hist(a)'"] {
            launch = launch.probe("exe:take", &format!("{keys}\naction = [{action}]"));
        }
    }
    for keys in ["sample = 3", "limit = 100"] {
        launch = launch.probe("exe:take", &format!("{keys}\nargs = ['a=$arg1']\naction = ['hist(a)']"));
    }
    let fault = "args = ['a=+0($arg1):u64', 'b=$arg1:u64']\naction = ['hist(a)', 'hist(b)']";
    launch = launch.probe("exe:take", fault);
    let outcome = launch.run();
    assert_eq!(outcome.end, End::Exit(0), "{outcome}");
    let summary = &outcome.summaries()[&outcome.pid][0];
    let probes = summary["probes"].as_array().expect("probes");
    for (at, probe) in probes.iter().take(2 * cases.len()).enumerate() {
        let (keys, passes) = cases[at / 2];
        let expected = times(&buckets(values.iter().filter(|v| passes(**v)).map(|v| (*v).into())), 21);
        assert_eq!(found(probe, "a"), expected, "{keys}: {probe}");
        assert_eq!(probe["hits"], expected.iter().sum::<u64>(), "{keys}: {probe}");
        let executions = probe["hits"].as_u64().unwrap_or(0) + probe["filtered"].as_u64().unwrap_or(0);
        assert_eq!(executions, 21 * values.len() as u64, "{keys}: {probe}");
    }
    for probe in &probes[2 * cases.len()..2 * cases.len() + 2] {
        assert_eq!(probe["hits"], found(probe, "a").iter().sum::<u64>(), "{probe}");
        assert_ne!(probe["sampled_out"], 0, "{probe}");
    }
    let faults = probes.last().expect("the last");
    assert_eq!(found(faults, "a").iter().sum::<u64>(), 0, "{faults}");
    assert_eq!(found(faults, "b").iter().sum::<u64>(), 21 * values.len() as u64, "{faults}");
}

/// Histograms need so many cells that those of the last functions have none.
#[test]
fn of_more_probes_than_there_are_cells() {
    let program = Program::new("cell_many.c").build();
    let keys = "args = ['a=$arg1']\naction = ['hist(a)']";
    let outcome = Launch::new(&program).arg(3).probe("exe:f_*", keys).run();
    assert_eq!(outcome.end, End::Exit(0), "{outcome}");
    let summary = outcome.summary();
    let probes = summary["probes"].as_array().expect("probes");
    assert_eq!(probes.len(), 2000);
    for probe in probes {
        let symbol = probe["symbol"].as_str().unwrap_or_default();
        let number: i128 = symbol.trim_start_matches("f_").parse().expect("f_N");
        assert_eq!(found(probe, "a"), times(&buckets(0..number % 7), 3), "{probe}");
    }
}
