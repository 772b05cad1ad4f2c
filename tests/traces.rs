//! The binary trace: what a program writes, however it ends, and what `uprobe report` makes of it.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::*;
use serde_json::Value;

/// What `uprobe report` printed, and its exit status.
struct Report {
    status: i32,
    out: String,
    err: String,
}

fn report(args: &[&str], files: &[&Path]) -> Report {
    let ran = Command::new(env!("CARGO_BIN_EXE_uprobe"))
        .arg("report")
        .args(args)
        .args(files)
        .stdin(Stdio::null())
        .output()
        .expect("uprobe runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Report { status: ran.status.code().expect("it exits"), out: text(ran.stdout), err: text(ran.stderr) }
}

/// What it prints of a trace that is whole.
#[track_caller]
fn good(args: &[&str], files: &[&Path]) -> String {
    let report = report(args, files);
    assert_eq!((report.status, report.err.as_str()), (0, ""), "{args:?}");
    report.out
}

/// The events as JSON.
#[track_caller]
fn events(files: &[&Path]) -> Vec<Value> {
    good(&["--json"], files).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn trace_of(outcome: &Outcome) -> PathBuf {
    outcome.dir.join(format!("events.{}", outcome.pid))
}

fn traced(mode: &str, n: u32) -> Launch {
    Launch::new(Program::new("traced.c").build()).format("trace").arg(mode).arg(n)
}

/// Two registers, which are logged without Rust where there is a jump.
const WORK: &str = "name = 'work'\nargs = ['a=$arg1:s64', 'b=$arg2:s32']";
/// The same through a breakpoint.
const TRAPPED: &str = "name = 'work'\nmethod = 'int3'\nargs = ['a=$arg1:s64', 'b=$arg2:s32']";
/// And at a jump with a string, which takes the long way.
const LONG_WAY: &str = "name = 'work'\nargs = ['a=$arg1:s64', 'b=$arg2:s32', 's=\\\"text\"']";

/// How many events each of (pid, tid) has.
fn by_thread(events: &[Value]) -> BTreeMap<(u64, u64), usize> {
    let mut threads = BTreeMap::new();
    for event in events {
        let id = |key: &str| event[key].as_u64().expect("a number");
        *threads.entry((id("pid"), id("tid"))).or_default() += 1;
    }
    threads
}

/// A line without what differs from run to run: thread, processor, time, addresses.
fn without_chance(line: &str) -> String {
    let (_, rest) = line.split_once("] ..... ").unwrap_or_else(|| panic!("{line}"));
    let (_, rest) = rest.split_once(": ").expect("a time");
    let (name, rest) = rest.split_once(": (").expect("an address");
    let (_, values) = rest.split_once(')').expect("its end");
    let values = values.split(" latency=").next().unwrap_or_default();
    format!("{name}:{values}")
}

#[test]
fn events_print_as_the_log_would_have_them() {
    let probes = "[[probe]]\nat = 'exe:values'\nname = 'values'\nargs = ['n=$arg1:s32', 'u=$arg1:u8', \
        'x=$arg1:x16', 's=$arg2:string', 'v=+0($arg3):s32[3]', 'c=$arg4:char', 'names=+0($arg5):string[2]', \
        'bad=+0(\\8)', 'comm=$comm', 'bits=$arg4:b3@1/8', 'fault=+0(\\16):string']\n\
        [[probe]]\nat = 'exe:inner'\nkind = 'call'\nargs = ['n=$arg1:s64']\nret = ['r=$retval:s64']\n\
        [[probe]]\nat = 'exe:outer'\nkind = 'return'\nret = ['r=$retval:s64']\n";
    for (mode, count) in [("values", 5), ("calls", 9)] {
        for format in ["text", "json"] {
            let log = traced(mode, 3).format(format).toml(probes).run();
            let outcome = traced(mode, 3).toml(probes).run();
            assert_eq!((log.end, outcome.end), (End::Exit(0), End::Exit(0)), "{outcome}");
            let printed = good(&[&format!("--{format}")], &[&trace_of(&outcome)]);
            if format == "text" {
                let expected: Vec<String> =
                    log.event_lines().iter().map(|line| without_chance(line)).collect();
                let found: Vec<String> = printed.lines().map(without_chance).collect();
                assert_eq!((found.len(), &found), (count, &expected), "{mode}");
                assert_eq!(good(&[], &[&trace_of(&outcome)]), printed);
            } else {
                let values = |text: &str| -> Vec<(Value, Value, Vec<String>)> {
                    let parse = |line: &str| -> Value { serde_json::from_str(line).expect("JSON") };
                    let keys =
                        |event: &Value| event.as_object().expect("an object").keys().cloned().collect();
                    text.lines()
                        .map(parse)
                        .map(|e| (e["name"].clone(), e["args"].clone(), keys(&e)))
                        .collect()
                };
                assert_eq!(values(&printed), values(&log.events()), "{mode}");
            }
        }
    }
}

#[test]
fn nothing_of_it_is_seen_by_the_program() {
    for keys in [WORK, TRAPPED, LONG_WAY] {
        let outcome = assert_same_as_native(&traced("work", 5000).probe("exe:work", keys));
        let events = events(&[&trace_of(&outcome)]);
        assert_eq!((events.len(), outcome.hits("work")), (5000, 5000), "{outcome}");
        for (i, event) in events.iter().enumerate() {
            assert_eq!(
                (&event["args"]["a"], &event["args"]["b"]),
                (&i.into(), &(-(i as i64)).into()),
                "{event}"
            );
            assert_eq!(event["comm"], "traced");
        }
    }
}

#[test]
fn every_thread_has_its_own_events() {
    for keys in [WORK, TRAPPED, LONG_WAY] {
        let outcome = traced("threads", 3000).probe("exe:work", keys).run();
        let events = events(&[&trace_of(&outcome)]);
        let threads = by_thread(&events);
        assert_eq!(threads.values().copied().collect::<Vec<_>>(), [3000; 8], "{outcome}");
        let times: Vec<u64> = events.iter().map(|event| event["ts"].as_u64().expect("a time")).collect();
        assert!(times.is_sorted(), "by time");
    }
}

/// A thread that begins takes on what is left of a chunk whose thread is dead.
#[test]
fn short_threads_share_chunks() {
    let small = "[output]\nformat = 'trace'\nsize = '256K'\n";
    let dir = scratch("short-threads");
    let path = dir.join("trace");
    let outcome = traced("short threads", 300)
        .toml(&format!("{small}path = '{}'", path.display()))
        .probe("exe:work", WORK)
        .run();
    let threads = by_thread(&events(&[&path]));
    assert_eq!((threads.len(), outcome.at("work").lost), (300, 0), "{outcome}");
    fs::remove_dir_all(dir).expect("ours");
}

#[test]
fn a_renamed_thread_has_both_names() {
    for keys in [WORK, TRAPPED] {
        let outcome = traced("names", 10).probe("exe:work", keys).run();
        let names: Vec<Value> = events(&[&trace_of(&outcome)]).iter().map(|e| e["comm"].clone()).collect();
        assert_eq!(names[..10], ["traced"; 10], "{outcome}");
        assert_eq!(names[10..], ["another"; 10], "{outcome}");
    }
}

#[test]
fn fork_children_have_files_of_their_own_or_share_one() {
    for keys in [WORK, TRAPPED] {
        let outcome = assert_same_as_native(&traced("fork", 100).probe("exe:work", keys));
        let paths: Vec<PathBuf> =
            outcome.files("events.").keys().map(|pid| outcome.dir.join(format!("events.{pid}"))).collect();
        assert_eq!(paths.len(), 4, "{outcome}");
        let all: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let each: Vec<usize> = by_thread(&events(&all)).into_values().collect();
        assert_eq!(each.iter().sum::<usize>(), 500, "{each:?}");
        let mine = by_thread(&events(&[&trace_of(&outcome)]));
        assert_eq!(mine.into_iter().collect::<Vec<_>>(), [((outcome.pid.into(), outcome.pid.into()), 200)]);

        let dir = scratch("forks");
        let path = dir.join("trace");
        let output = format!("[output]\nformat = 'trace'\npath = '{}'", path.display());
        let outcome = assert_same_as_native(&traced("fork", 100).toml(&output).probe("exe:work", keys));
        let mut each = by_thread(&events(&[&path]));
        assert_eq!(each.remove(&(outcome.pid.into(), outcome.pid.into())), Some(200), "{outcome}");
        assert_eq!(each.into_values().collect::<Vec<_>>(), [100; 3], "{outcome}");
        fs::remove_dir_all(dir).expect("ours");
    }
}

/// A second run begins anew; what the process did before it executed another program is kept.
#[test]
fn a_file_goes_on_where_the_process_does() {
    let dir = scratch("exec");
    let path = dir.join("trace");
    let output = format!("[output]\nformat = 'trace'\npath = '{}'", path.display());
    for _ in 0..2 {
        let outcome = traced("exec", 70).toml(&output).probe("exe:work", WORK).run();
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
        let each = by_thread(&events(&[&path]));
        assert_eq!(each.into_values().collect::<Vec<_>>(), [140], "{outcome}");
    }
    fs::remove_dir_all(dir).expect("ours");
}

/// All events are there whose calls have returned, and at most the one that was just begun besides.
#[test]
fn what_was_logged_survives_sigkill() {
    for keys in [WORK, TRAPPED, LONG_WAY] {
        let files = scratch("kill");
        let output = format!("[output]\nformat = 'trace'\nsize = '1G'\npath = '{}/trace'", files.display());
        let mut running = traced("forever", 0).toml(&output).probe("exe:work", keys).start();
        let progress = running.dir().join("progress");
        let count = |at: usize| {
            let bytes = fs::read(&progress).unwrap_or_default();
            bytes.get(at..at + 8).map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().expect("eight")))
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while (count(0) < 3000 || count(64) < 3000) && Instant::now() < deadline && !running.has_ended() {
            std::thread::sleep(Duration::from_millis(5));
        }
        running.signal("KILL");
        let outcome = running.wait();
        assert_eq!(outcome.end, End::Signal(9), "{outcome}");
        let done = [count(0), count(64)];
        let events = events(&[&files.join("trace")]);
        for (thread, done) in done.into_iter().enumerate() {
            let mine: Vec<&Value> = events.iter().filter(|event| event["args"]["b"] == thread).collect();
            let found = mine.len() as u64;
            assert!(done >= 3000 && (done..=done + 1).contains(&found), "{found} of {done}\n{outcome}");
            assert!(mine.iter().enumerate().all(|(i, event)| event["args"]["a"] == i), "in order");
        }
        fs::remove_dir_all(files).expect("ours");
    }
}

#[test]
fn a_full_file_loses_exactly_what_it_says() {
    let dir = scratch("full");
    let path = dir.join("trace");
    let output = format!("[output]\nformat = 'trace'\nsize = '200K'\npath = '{}'", path.display());
    for keys in [WORK, TRAPPED, LONG_WAY] {
        for mode in ["work", "threads"] {
            let outcome = traced(mode, 20_000).toml(&output).probe("exe:work", keys).run();
            let probe = outcome.at("work");
            let report = report(&["--json"], &[&path]);
            let events = report.out.lines().count() as u64;
            assert_eq!(report.status, 0, "{}", report.err);
            assert!(probe.lost > 0 && events > 1000, "{events} {outcome}");
            assert_eq!(probe.hits, if mode == "work" { 20_000 } else { 160_000 }, "{outcome}");
            assert_eq!(events, probe.hits - probe.lost, "{outcome}");
            assert!(report.err.contains(&format!("{} events were lost", probe.lost)), "{}", report.err);
        }
    }
    fs::remove_dir_all(dir).expect("ours");
}

/// Pages that can't be had (somebody cut off the file; a full disk raises the same) end the trace,
/// and nothing else.
#[test]
fn a_file_that_is_cut_off_does_not_kill_the_program() {
    for keys in [WORK, TRAPPED, LONG_WAY] {
        let outcome = traced("truncate", 10_000).probe("exe:work", keys).run();
        assert_eq!((outcome.end, outcome.stdout.as_str()), (End::Exit(0), "0\n"), "{outcome}");
        let probe = outcome.at("work");
        assert_eq!(probe.hits, 20_000, "{outcome}");
        assert_eq!(probe.lost, 10_000, "{outcome}");
    }
}

/// Handlers of signals hit the same probe, whatever they interrupt, and may leave by longjmp.
#[test]
fn signals_leave_every_event_whole() {
    for keys in [WORK, TRAPPED] {
        for mode in ["ticks", "leaving ticks"] {
            let outcome = traced(mode, 300).probe("exe:work", keys).run();
            assert_eq!(outcome.end, End::Exit(0), "{outcome}");
            let numbers: Vec<u64> =
                outcome.stdout.split_whitespace().map(|n| n.parse().expect("a number")).collect();
            let events = events(&[&trace_of(&outcome)]);
            let probe = outcome.at("work");
            assert_eq!(events.len() as u64, probe.hits - probe.lost, "{outcome}");
            let ticks = events.iter().filter(|event| event["args"]["b"] == 1).count() as u64;
            assert_eq!(ticks, numbers[1], "{outcome}");
            // A handler that leaves between the count and the call takes one away.
            let calls = events.len() as u64 - ticks;
            let left = if mode == "ticks" { 0 } else { ticks };
            assert!((numbers[0] - left..=numbers[0]).contains(&calls), "{calls}\n{outcome}");
        }
    }
}

#[test]
fn calls_become_slices_and_stacks() {
    let probes = "[[probe]]\nat = 'exe:outer'\nname = 'outer'\nkind = 'call'\n\
        [[probe]]\nat = 'exe:inner'\nname = 'inner'\nkind = 'call'\nargs = ['n=$arg1:s64']\n\
        [[probe]]\nat = 'exe:inner'\nname = 'entered'\n";
    let outcome = traced("calls", 5).toml(probes).run();
    let path = trace_of(&outcome);
    let chrome: Value = serde_json::from_str(&good(&["--chrome"], &[&path])).expect("JSON");
    let slices = chrome["traceEvents"].as_array().expect("an array");
    let of = |name: &str, phase: &str| -> Vec<&Value> {
        slices.iter().filter(|slice| slice["name"] == name && slice["ph"] == phase).collect()
    };
    let (outer, inner) = (of("outer", "X"), of("inner", "X"));
    assert_eq!((outer.len(), inner.len(), of("entered", "i").len()), (5, 10, 10), "{chrome}");
    assert_eq!((of("process_name", "M").len(), of("thread_name", "M").len()), (1, 1), "{chrome}");
    let span = |slice: &Value| {
        let (ts, dur) = (slice["ts"].as_f64().expect("a time"), slice["dur"].as_f64().expect("a time"));
        (ts, ts + dur)
    };
    for (i, outer) in outer.iter().enumerate() {
        let (from, to) = span(outer);
        for inner in &inner[2 * i..2 * i + 2] {
            let (start, end) = span(inner);
            assert!(from <= start && start + 200.0 <= end && end <= to, "{inner} in {outer}");
        }
    }
    assert_eq!(inner[3]["args"], serde_json::json!({"n": 2}));

    let folded = good(&["--folded"], &[&path]);
    let lines: BTreeMap<&str, u64> = folded
        .lines()
        .map(|l| l.rsplit_once(' ').expect("a weight"))
        .map(|(s, n)| (s, n.parse().expect("ns")))
        .collect();
    assert_eq!(lines.keys().copied().collect::<Vec<_>>(), ["traced;outer", "traced;outer;inner"]);
    assert!(lines["traced;outer;inner"] >= 10 * 200_000, "{folded}");
    assert!(lines["traced;outer"] >= 5 * 400_000, "{folded}");
    let latencies: u64 =
        outer.iter().map(|slice| (slice["dur"].as_f64().expect("a time") * 1000.0).round() as u64).sum();
    assert!(lines.values().sum::<u64>().abs_diff(latencies) <= 5, "{folded}: all is in the outer calls");

    let svg = outcome.dir.join("flame.svg");
    assert_eq!(good(&["--flamegraph", svg.to_str().expect("UTF-8")], &[&path]), "");
    let svg = fs::read_to_string(svg).expect("written");
    assert!(svg.starts_with("<?xml") && svg.ends_with("</svg>\n"), "{svg}");
    assert_eq!(svg.matches("<g><title>").count(), 4, "{svg}");
    assert!(svg.contains("<title>outer ("), "{svg}");

    let summary = good(&["--summary"], &[&path]);
    let rows: Vec<Vec<&str>> = summary.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "EVENTS", "MEAN", "MIN", "P50", "P99", "MAX", "AT"], "{summary}");
    assert_eq!(rows.iter().find(|row| row[0] == "inner").map(|row| row[1]), Some("10"), "{summary}");
    assert_eq!(
        rows.iter().find(|row| row[0] == "entered").map(|row| row[1..7].join(" ")),
        Some("10 - - - - -".into())
    );
}

#[test]
fn what_is_no_trace_or_is_damaged_is_said() {
    let outcome = traced("work", 3000).probe("exe:work", WORK).run();
    let whole = fs::read(trace_of(&outcome)).expect("a trace");
    let path = outcome.dir.join("damaged");
    for (bytes, err, lines) in [
        (&whole[..40_000], "warning: ", 900),
        (&b"nothing like it"[..], "error: ", 0),
        (&b""[..], "error: ", 0),
        (&whole[..100], "error: ", 0),
    ] {
        fs::write(&path, bytes).expect("our directory");
        for form in ["--text", "--json"] {
            let report = report(&[form], &[&path]);
            assert_eq!(report.status, 1, "{}", report.err);
            assert!(report.err.starts_with(&format!("uprobe: {err}")), "{}", report.err);
            assert!(report.out.lines().count() >= lines, "{}", report.out);
        }
    }
    let report = report(&[], &[&outcome.dir.join("absent"), &trace_of(&outcome)]);
    assert_eq!((report.status, report.out.lines().count()), (1, 3000), "{}", report.err);
}

#[test]
fn where_no_trace_can_be_is_said_before_the_program_runs() {
    for (path, why) in [("/dev/null", "no regular file"), ("/nowhere/at/all", "No such file")] {
        let output = format!("[output]\nformat = 'trace'\npath = '{path}'");
        let launch = traced("work", 10).toml(&output).probe("exe:work", WORK);
        let strict = launch.clone().env("UPROBE_STRICT", "1").run();
        assert_eq!((strict.end, strict.stdout.as_str()), (End::Exit(78), ""), "{strict}");
        assert!(strict.stderr.contains(why), "{strict}");
        let lenient = launch.run();
        let probe = lenient.at("work");
        assert_eq!((lenient.end, probe.hits, probe.lost), (End::Exit(0), 10, 10), "{lenient}");
    }
}

/// A probe that counts values besides is not one that does nothing but log registers; and what is asked about
/// the time is answered, though an event of the trace has its own.
#[test]
fn values_are_counted_beside_the_trace() {
    let histogram = "action = ['log', 'hist(a)']";
    let asks = [
        "name = 'plain'\nargs = ['a=$arg1:s64']",
        "name = 'trapped'\nmethod = 'int3'\nargs = ['a=$arg1:s64']",
        "name = 'timed'\nargs = ['a=$arg1:s64']\nfilter = '$ts > 0'",
        "name = 'call'\nkind = 'call'\nargs = ['a=$arg1:s64']\nfilter = '$ts > 0'",
        "name = 'return'\nkind = 'return'\nargs = ['a=$ts:u64']",
        "name = 'entry'\nargs = ['a=$ts:u64']",
    ];
    // One at a place, for the sake of the code that serves only one.
    for ask in asks {
        let outcome = traced("work", 100).probe("exe:work", &format!("{ask}\n{histogram}")).run();
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
        let summary = &outcome.summaries()[&outcome.pid][0];
        let probe = &summary["probes"][0];
        let hits = probe["hits"].as_u64().expect("a count");
        assert!(hits >= 100, "{probe}");
        let counts: Vec<u64> =
            probe["hist"]["a"].as_array().expect("counts").iter().filter_map(Value::as_u64).collect();
        assert_eq!(counts.iter().sum::<u64>(), hits, "{probe}");
        let events = events(&[&trace_of(&outcome)]);
        assert_eq!(events.len() as u64, hits, "{probe}");
        if ask.contains("a=$ts") {
            assert_eq!(counts[0], 0, "no time is zero: {probe}");
            assert!(events.iter().all(|event| event["args"]["a"].as_u64() > Some(0)), "{:?}", events[0]);
        }
    }
}
