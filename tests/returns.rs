//! Return probes and calls as a user asks for them by config: what is counted, fetched, filtered and logged.

mod common;

use std::process::Command;

use common::*;
use serde_json::{Value, json};

fn plain(rounds: u64) -> Launch {
    Launch::new(Program::new("r_plain.c").build()).arg(rounds)
}

/// A probe called `p`.
fn probe(launch: Launch, at: &str, kind: &str, keys: &str) -> Launch {
    launch.probe(at, &format!("name = 'p'\nkind = '{kind}'\n{keys}"))
}

/// Runs it; same output as natively.
fn run(launch: &Launch) -> Outcome {
    let outcome = assert_same_as_native(launch);
    assert_eq!(outcome.stderr, "", "{outcome}");
    outcome
}

fn events(outcome: &Outcome) -> Vec<Value> {
    outcome
        .event_lines()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

/// What follows the address or addresses, of each event; without the time it took.
fn values(outcome: &Outcome) -> Vec<String> {
    let after = |line: &str| {
        let values = line.split_once(") ").map_or("", |(_, values)| values);
        match values.rsplit_once(" latency=") {
            Some((values, ns)) if ns.parse::<u64>().is_ok() => values.to_string(),
            _ => values.to_string(),
        }
    };
    outcome.event_lines().iter().map(|line| after(line)).collect()
}

mod counts {
    use super::*;

    #[test]
    fn of_one_call_and_of_a_thousand() {
        for compiler in Compiler::installed() {
            for flags in
                [&["-O0"][..], &["-O2"], &["-O2", "-fno-pie", "-no-pie"], &["-Os", "-fcf-protection=full"]]
            {
                let program = flags.iter().fold(Program::new("r_plain.c"), |p, f| p.flag(f));
                let program = program.compiler(compiler).flag("-Wno-unused-command-line-argument").build();
                for rounds in [1, 1000] {
                    assert_followed(&Launch::new(&program).arg(rounds));
                }
            }
        }
    }

    /// Each probe alone counts what it counts beside others.
    #[test]
    fn of_one_kind_alone() {
        for kind in KINDS {
            let outcome = run(&probe(plain(100), "exe:recursive", kind, "action = ['count']"));
            let calls = outcome.calls("p");
            assert_eq!((calls.kind.as_str(), calls.state.as_str()), (kind, "armed"), "{outcome}");
            assert_eq!((calls.hits, calls.nmissed), (600, 0), "{outcome}");
            assert_eq!(calls.returns, if kind == "entry" { 0 } else { 600 }, "{outcome}");
            assert_eq!(calls.latency.count, if kind == "call" { 600 } else { 0 }, "{outcome}");
        }
    }

    #[test]
    fn of_many_probes_on_one_function() {
        let mut launch = plain(100);
        for i in 0..20 {
            let keys = "action = ['count']\nargs = ['a=$arg1']\nret = ['r=$retval']";
            let of_its_own = format!("name = 'p{i}'\nkind = 'return'\nfilter = 'a >= {i}'");
            launch = launch.probe("exe:work", &format!("{of_its_own}\n{keys}"));
        }
        let outcome = run(&launch);
        for i in 0..20 {
            let calls = outcome.calls(&format!("p{i}"));
            assert_eq!((calls.hits, calls.returns, calls.filtered), (100 - i, 100 - i, i), "{outcome}");
        }
    }

    #[test]
    fn of_what_is_disabled_or_by_breakpoint_only() {
        let launch = plain(100)
            .probe("exe:work", "name = 'off'\nkind = 'return'\nenabled = false")
            .probe("exe:work", "name = 'int3'\nkind = 'return'\nmethod = 'int3'\naction = ['count']");
        let outcome = run(&launch);
        let off = outcome.calls("off");
        assert_eq!((off.state.as_str(), off.hits, off.returns), ("disabled", 0, 0), "{outcome}");
        let int3 = outcome.calls("int3");
        assert_eq!((int3.state.as_str(), int3.hits, int3.returns), ("armed", 100, 100), "{outcome}");
        assert_eq!(outcome.events(), "", "{outcome}");
    }
}

mod limits {
    use super::*;

    #[test]
    fn sample_and_limit() {
        for kind in ["return", "call"] {
            let sampled = run(&probe(plain(100), "exe:work", kind, "sample = 3"));
            let calls = sampled.calls("p");
            assert_eq!((calls.hits, calls.returns, calls.sampled_out), (33, 33, 67), "{sampled}");
            assert_eq!(sampled.event_lines().len(), 33, "{sampled}");
            let limited = run(&probe(plain(100), "exe:work", kind, "limit = 7"));
            let calls = limited.calls("p");
            assert_eq!((calls.hits, calls.returns, calls.sampled_out), (7, 7, 93), "{limited}");
            assert_eq!(limited.event_lines().len(), 7, "{limited}");
        }
    }

    /// Of six calls at once, the first two are followed.
    #[test]
    fn maxactive() {
        for kind in ["return", "call"] {
            let keys = "maxactive = 2\nargs = ['n=$arg1:s32']\nret = ['sum=$retval:s32']";
            let outcome = run(&probe(plain(50), "exe:recursive", kind, keys));
            let calls = outcome.calls("p");
            assert_eq!((calls.hits, calls.returns, calls.nmissed), (100, 100, 200), "{outcome}");
            let expected = ["n=4 sum=10", "n=5 sum=15"].repeat(50);
            assert_eq!(values(&outcome), expected, "{outcome}");
        }
    }

    #[test]
    fn maxactive_of_a_one_liner() {
        let outcome = run(&plain(10).toml("[[probe]]\ndef = 'r3:deep exe:recursive sum=$retval:s32'"));
        let calls = outcome.calls("deep");
        assert_eq!((calls.hits, calls.returns, calls.nmissed), (30, 30, 30), "{outcome}");
        assert_eq!(values(&outcome), ["sum=6", "sum=10", "sum=15"].repeat(10), "{outcome}");
    }
}

mod fetched {
    use super::*;

    const WIDE: u64 = 0x8182_8384_8586_8788;

    #[test]
    fn the_return_value_as_each_type() {
        let types = [
            ("u8", "136", json!(0x88)),
            ("u16", "34696", json!(0x8788)),
            ("u32", "2240186248", json!(0x8586_8788_u32)),
            ("u64", "9332165983064197000", json!(WIDE)),
            ("s8", "-120", json!(-120)),
            ("s16", "-30840", json!(-30840)),
            ("s32", "-2054781048", json!(-2_054_781_048)),
            ("s64", "-9114578090645354616", json!(WIDE.cast_signed())),
            ("x8", "0x88", json!(0x88)),
            ("x16", "0x8788", json!(0x8788)),
            ("x32", "0x85868788", json!(0x8586_8788_u32)),
            ("x64", "0x8182838485868788", json!(WIDE)),
            ("b4@4/8", "8", json!(8)),
        ];
        let ret: Vec<String> = types.iter().map(|(t, ..)| format!("'{}=$retval:{t}'", name(t))).collect();
        for kind in ["return", "call"] {
            let keys = format!("ret = [{}, 'raw=$retval']", ret.join(", "));
            let launch = probe(plain(3), "exe:wide", kind, &keys);
            let mut expected: Vec<String> =
                types.iter().map(|(t, text, _)| format!("{}={text}", name(t))).collect();
            expected.push("raw=0x8182838485868788".into());
            assert_eq!(values(&run(&launch)), vec![expected.join(" "); 3]);
            for event in events(&run(&launch.clone().format("json"))) {
                for (t, _, value) in &types {
                    assert_eq!(event["args"][name(t)], *value, "{t}: {event}");
                }
                assert_eq!(event["args"]["raw"], json!(WIDE), "{event}");
            }
        }
    }

    /// A type as a name.
    fn name(of: &str) -> String {
        format!("v_{}", of.replace(['@', '/'], "_"))
    }

    #[test]
    fn strings_and_characters() {
        let launch =
            probe(plain(4), "exe:name_of", "return", "args = ['i=$arg1:s32']\nret = ['name=$retval:string']");
        let expected =
            ["i=0 name=\"zero\"", "i=1 name=\"one\\n\\\"two\\\"\"", "i=2 name=\"\"", "i=3 name=(fault)"];
        assert_eq!(values(&run(&launch)), expected);
        let names: Vec<Value> =
            events(&run(&launch.format("json"))).iter().map(|event| event["args"]["name"].clone()).collect();
        assert_eq!(names, [json!("zero"), json!("one\n\"two\""), json!(""), json!(null)]);
        let launch = probe(plain(3), "exe:letter", "return", "ret = ['c=$retval:char']");
        assert_eq!(values(&run(&launch)), ["c='a'", "c='b'", "c='c'"]);
    }

    /// The function has overwritten what its argument pointed to.
    #[test]
    fn arguments_as_they_were_at_entry() {
        for kind in ["return", "call"] {
            let keys = "args = ['text=$arg1:string', 'size=$arg2:u64']\n\
                        ret = ['r=$retval:s32', 'now=+0($stack):x64']";
            let outcome = run(&probe(plain(12), "exe:overwrite", kind, keys));
            for (i, line) in values(&outcome).iter().enumerate() {
                let size = format!("before {i}").len() + 1;
                let wanted = format!("text=\"before {i}\" size={size} r={size} now=0x");
                assert!(line.starts_with(&wanted), "{line}\n{outcome}");
            }
        }
    }

    #[test]
    fn arguments_of_an_event_in_the_order_of_the_returns() {
        let keys = "args = ['n=$arg1:s32']\nret = ['sum=$retval:s32']";
        let outcome = run(&probe(plain(2), "exe:recursive", "call", keys)
            .probe("exe:recursive", "name = 'entry'\nargs = ['n=$arg1:s32']"));
        let one = [
            "n=5",
            "n=4",
            "n=3",
            "n=2",
            "n=1",
            "n=0",
            "n=0 sum=0",
            "n=1 sum=1",
            "n=2 sum=3",
            "n=3 sum=6",
            "n=4 sum=10",
            "n=5 sum=15",
        ];
        assert_eq!(values(&outcome), one.repeat(2), "{outcome}");
    }

    #[test]
    fn the_latency() {
        let outcome = run(&probe(plain(20), "exe:work", "call", "ret = ['ns=$latency:u64']").format("json"));
        let times: Vec<u64> =
            events(&outcome).iter().map(|e| e["args"]["ns"].as_u64().expect("a number")).collect();
        let latency = outcome.calls("p").latency;
        assert_eq!(latency.count, 20, "{outcome}");
        assert_eq!(latency.sum_ns, times.iter().sum::<u64>(), "{outcome}");
        assert_eq!(Some(&latency.min_ns), times.iter().min(), "{outcome}");
        assert_eq!(Some(&latency.max_ns), times.iter().max(), "{outcome}");
        for (bucket, count) in latency.log2.iter().enumerate() {
            let within =
                times.iter().filter(|ns| ns.checked_ilog2().map_or(0, |log| log as usize + 1) == bucket);
            assert_eq!(within.count() as u64, *count, "bucket {bucket} of {latency:?}, {times:?}");
        }
    }
}

mod filters {
    use super::*;

    fn assert_filtered(rounds: u64, at: &str, keys: &str, hits: u64, filtered: u64) -> Outcome {
        let outcome = run(&probe(plain(rounds), at, "call", keys));
        let calls = outcome.calls("p");
        assert_eq!(calls.state, "armed", "{keys}: {calls:#?}\n{outcome}");
        assert_eq!((calls.hits, calls.returns, calls.filtered), (hits, hits, filtered), "{keys}\n{outcome}");
        assert_eq!((calls.fates(), calls.nmissed), ((hits, 0, 0), 0), "{keys}\n{outcome}");
        assert_eq!(outcome.event_lines().len() as u64, hits, "{keys}\n{outcome}");
        outcome
    }

    #[test]
    fn over_arguments() {
        let args = "args = ['a=$arg1:s64', 'b=$arg2:s64']\n";
        assert_filtered(100, "exe:work", &format!("{args}filter = 'a < 30 && b == 3'"), 30, 70);
        let path = "args = ['path=$arg1:string']\n";
        assert_filtered(100, "exe:open_like", &format!("{path}filter = 'path ~ \"/s*\"'"), 75, 25);
    }

    #[test]
    fn over_what_is_returned() {
        let keys = "args = ['path=$arg1:string']\nret = ['fd=$retval:s32']\n";
        let outcome = assert_filtered(100, "exe:open_like", &format!("{keys}filter = 'fd < 0'"), 25, 75);
        assert_eq!(values(&outcome), vec!["path=\"none\" fd=-1"; 25], "{outcome}");
        let both = format!("{keys}filter = 'path == \"/some\" && fd == 3'");
        assert_filtered(100, "exe:open_like", &both, 75, 25);
        assert_filtered(
            100,
            "exe:open_like",
            &format!("{keys}filter = 'path == \"/some\" && fd < 0'"),
            0,
            100,
        );
        let either = format!("{keys}filter = 'path == \"/some\" || fd < 0'");
        assert_filtered(100, "exe:open_like", &either, 100, 0);
        let text = "ret = ['s=$retval:string']\nfilter = 's == \"zero\"'";
        assert_filtered(100, "exe:name_of", text, 25, 75);
    }

    #[test]
    fn over_the_time_it_took() {
        assert_filtered(50, "exe:work", "filter = '$latency >= 0'", 50, 0);
        // A thousand seconds.
        assert_filtered(50, "exe:work", "filter = '$latency > 1000000000000'", 0, 50);
    }

    /// The filter comes first, then the sample, then the limit; each call is in one of the counts.
    #[test]
    fn with_sample_and_limit() {
        let keys = "ret = ['fd=$retval:s32']\nfilter = 'fd > 0'\nsample = 5\nlimit = 10";
        let outcome = run(&probe(plain(100), "exe:open_like", "return", keys));
        let calls = outcome.calls("p");
        assert_eq!((calls.hits, calls.filtered, calls.sampled_out), (10, 25, 65), "{outcome}");
    }
}

mod written {
    use super::*;

    /// Addresses of a function, first and last.
    fn extent(program: &std::path::Path, outcome: &Outcome, function: &str, name: &str) -> (u64, u64) {
        let output =
            Command::new("nm").args(["-S", "--defined-only"]).arg(program).output().expect("binutils");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let size = text
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|words| words.last() == Some(&function))
            .and_then(|words| u64::from_str_radix(words[1], 16).ok())
            .expect("it is there");
        let summary = outcome.summary();
        let probes = summary["probes"].as_array().expect("probes");
        let found = probes.iter().find(|probe| probe["name"] == name).expect("it is probed");
        let address = hex(found["address"].as_str().expect("armed"));
        (address, address + size)
    }

    fn hex(text: &str) -> u64 {
        u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_else(|_| panic!("{text}"))
    }

    /// As ftrace writes it: where it returned to, and from what.
    #[test]
    fn the_caller_and_the_function() {
        let program = Program::new("r_plain.c").build();
        for kind in ["return", "call"] {
            let launch = Launch::new(&program)
                .arg(5)
                .probe("exe:caller", "name = 'caller'\naction = ['count']")
                .probe("exe:work", "name = 'work'\naction = ['count']");
            let launch = probe(launch, "exe:work", kind, "args = ['a=$arg1:u64']\nret = ['r=$retval:u64']");
            let outcome = run(&launch);
            let (start, end) = extent(&program, &outcome, "caller", "caller");
            let (work, _) = extent(&program, &outcome, "work", "work");
            assert_eq!(outcome.event_lines().len(), 5, "{outcome}");
            for (i, line) in outcome.event_lines().iter().enumerate() {
                let (_, rest) = line.split_once(": p: (").unwrap_or_else(|| panic!("{line}"));
                let (addresses, values) = rest.split_once(") ").unwrap_or_else(|| panic!("{line}"));
                let (to, from) = addresses.split_once(" <- ").unwrap_or_else(|| panic!("{line}"));
                assert!((start + 1..end).contains(&hex(to)), "{start:#x}..{end:#x}: {line}");
                assert_eq!(hex(from), work, "{line}");
                let (values, latency) = values.split_once(" latency=").unwrap_or((values, ""));
                assert_eq!(values, format!("a={i} r={}", i * 3 + 1), "{line}");
                assert_eq!(latency.parse::<u64>().is_ok(), kind == "call", "{line}");
            }
            let json = run(&launch.format("json"));
            let (start, end) = extent(&program, &json, "caller", "caller");
            let (work, _) = extent(&program, &json, "work", "work");
            for (i, event) in events(&json).iter().enumerate() {
                assert_eq!(hex(event["address"].as_str().expect("text")), work, "{event}");
                let caller = hex(event["caller"].as_str().unwrap_or_else(|| panic!("{event}")));
                assert!((start + 1..end).contains(&caller), "{event}");
                assert_eq!(event["args"], json!({"a": i, "r": i * 3 + 1}));
                assert_eq!(event["latency_ns"].is_u64(), kind == "call", "{event}");
            }
        }
    }

    #[test]
    fn one_liners() {
        let outcome = run(&plain(5)
            .toml("[[probe]]\ndef = 'r:group/left exe:work r=$retval:s64'")
            .toml("[[probe]]\ndef = 'p:also exe:work%return r=$retval:s64 $comm'")
            .toml("[[probe]]\ndef = 'r exe:caller'"));
        let lines = outcome.event_lines();
        let of = |name: &str| lines.iter().filter(|line| line.contains(&format!(": {name}: ("))).count();
        assert_eq!((of("left"), of("also"), of("caller__return")), (5, 5, 5), "{outcome}");
        assert_eq!(lines.len(), 15, "{outcome}");
        assert!(lines[0].ends_with(") r=1"), "{outcome}");
        assert!(lines[1].ends_with(" r=1 arg2=\"r_plain\""), "{outcome}");
        for name in ["left", "also", "caller__return"] {
            let calls = outcome.calls(name);
            assert_eq!((calls.kind.as_str(), calls.hits, calls.returns), ("return", 5, 5), "{outcome}");
        }
    }

    /// The config of before, given to the command.
    #[test]
    fn by_the_command() {
        let program = Program::new("r_plain.c").build();
        let output = Command::new(own_command())
            .env("UPROBE_LIBRARY", library())
            .args(["run", "-e", "r:work exe:work r=$retval:s64", "--"])
            .arg(&program)
            .arg("3")
            .output()
            .expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        for r in ["r=1", "r=4", "r=7"] {
            assert!(stderr.lines().any(|line| line.contains(": work: (0x") && line.ends_with(r)), "{stderr}");
        }
        assert!(stderr.contains("RETURNS"), "{stderr}");
    }
}

mod latency {
    use super::*;

    /// A thousandth less: the counter's rate is found within a millisecond.
    const MS: u64 = 999_000;

    fn launch(way: &str) -> Launch {
        Launch::new(Program::new("r_latency.c").build()).arg(way)
    }

    #[test]
    fn of_nested_calls_is_that_of_all_and_of_each() {
        let outcome = assert_followed(&launch("nested"));
        let [a, b, c] = ["a", "b", "c"].map(|name| outcome.calls(&format!("call/exe:{name}")).latency);
        assert_eq!([a.count, b.count, c.count], [3, 3, 6], "{outcome}");
        // At least what they sleep; those that call take all that the called take.
        assert!(c.min_ns >= 40 * MS && b.min_ns >= 100 * MS && a.min_ns >= 110 * MS, "{outcome}");
        assert!(a.sum_ns >= b.sum_ns && b.sum_ns >= c.sum_ns, "{outcome}");
        assert!(a.self_ns <= a.sum_ns - b.sum_ns && b.self_ns <= b.sum_ns - c.sum_ns, "{outcome}");
        assert!(a.self_ns >= 30 * MS && b.self_ns >= 60 * MS, "{outcome}");
        assert_eq!(c.self_ns, c.sum_ns, "{outcome}");
    }

    /// The inner call's start doesn't take the place of the outer's.
    #[test]
    fn of_recursion() {
        let outcome = assert_followed(&launch("recursion"));
        let deep = outcome.calls("call/exe:deep").latency;
        assert_eq!(deep.count, 5, "{outcome}");
        assert!(deep.max_ns >= 81 * MS, "{deep:?}\n{outcome}");
        // 1, 21, 41, 61, 81
        assert!(deep.sum_ns >= 205 * MS && deep.min_ns >= MS, "{deep:?}\n{outcome}");
        assert!(deep.self_ns >= 81 * MS && deep.self_ns <= deep.max_ns, "{deep:?}\n{outcome}");
    }

    #[test]
    fn of_threads_at_once() {
        let outcome = assert_followed(&launch("threads"));
        let deep = outcome.calls("call/exe:deep").latency;
        assert_eq!(deep.count, 40, "{outcome}");
        assert!(deep.sum_ns >= 8 * 205 * MS && deep.max_ns >= 81 * MS, "{deep:?}\n{outcome}");
        assert!(deep.self_ns >= 8 * 81 * MS, "{deep:?}\n{outcome}");
    }
}
