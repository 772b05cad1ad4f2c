//! Counts that every thread keeps for itself add up exactly: with many threads, with threads that are
//! gone, on both sides of a fork, and where there are more probes than room for such counts.

mod common;

use common::*;
use serde_json::Value;

/// The numbers of a probe of a summary.
fn numbers(summary: &Value, at: usize, keys: &[&str]) -> Vec<u64> {
    let probe = &summary["probes"][at];
    keys.iter().map(|key| probe[*key].as_u64().unwrap_or_else(|| panic!("{key} in {probe}"))).collect()
}

/// What `cell_counts` calls before it forks, and each side afterwards.
const ONCE: u64 = 25 * 8;
const UNDER_WAY: u64 = 5;

#[test]
fn of_threads_that_come_and_go_and_of_each_side_of_a_fork() {
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 100_000;
    let program = Program::new("cell_counts.c").flag("-O2").build();
    let launch = Launch::new(&program)
        .args([THREADS, ROUNDS])
        .count("exe:work")
        .probe("exe:work", "args = ['a=$arg1']\nfilter = 'a == 1'\naction = ['count']")
        .probe("exe:forks", "kind = 'call'\naction = ['count']")
        .count("exe:last");
    let outcome = launch.run();
    assert_eq!(outcome.end, End::Exit(0), "{outcome}");
    let summaries = outcome.summaries();
    assert_eq!(summaries.len(), 2, "parent and child\n{outcome}");
    for (pid, summary) in &summaries {
        let (before, after, ones) = if *pid == outcome.pid {
            (THREADS * ROUNDS + ONCE, 3 * 500, THREADS + ONCE + 3)
        } else {
            (0, 3 * 300, 3)
        };
        let summary = &summary[0];
        assert_eq!(numbers(summary, 0, &["hits"]), [before + after], "of {pid}\n{outcome}");
        let filtered = before + after - ones;
        assert_eq!(numbers(summary, 1, &["hits", "filtered"]), [ones, filtered], "of {pid}\n{outcome}");
        let calls = numbers(summary, 2, &["hits", "returns", "in_flight", "unwound"]);
        assert_eq!(calls, [UNDER_WAY, UNDER_WAY, 0, 0], "of {pid}\n{outcome}");
        assert_eq!(summary["probes"][2]["latency"]["count"], UNDER_WAY, "of {pid}\n{outcome}");
        assert_eq!(numbers(summary, 3, &["hits"]), [1], "of {pid}\n{outcome}");
    }
}

#[test]
fn of_calls_decided_at_their_return() {
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 2000;
    let program = Program::new("cell_counts.c").flag("-O2").build();
    let filter = "kind = 'call'\nret = ['r=$retval']\nfilter = 'r == 1'\naction = ['count']";
    let launch = Launch::new(&program).args([THREADS, ROUNDS]).probe("exe:work", filter);
    let outcome = launch.run();
    assert_eq!(outcome.end, End::Exit(0), "{outcome}");
    for (pid, summary) in &outcome.summaries() {
        let (ones, zeroes) = if *pid == outcome.pid {
            (THREADS * ROUNDS / 2 + ONCE + 3 * 250, THREADS * ROUNDS / 2 + 3 * 250)
        } else {
            (3 * 150, 3 * 150)
        };
        let counts = numbers(&summary[0], 0, &["hits", "returns", "filtered", "in_flight"]);
        assert_eq!(counts, [ones, ones, zeroes, 0], "of {pid}\n{outcome}");
        let latency = &summary[0]["probes"][0]["latency"];
        let buckets = latency["log2"].as_array().expect("buckets");
        let together: u64 = buckets.iter().filter_map(Value::as_u64).sum();
        assert_eq!((latency["count"].as_u64(), together), (Some(ones), ones), "of {pid}\n{outcome}");
        let [min, p50, max] = ["min_ns", "p50_ns", "max_ns"].map(|key| latency[key].as_u64());
        assert!(min <= p50 && p50 <= max && min < max, "{latency}");
    }
}

/// Latencies need so many cells that those of the last functions have none.
#[test]
fn of_more_probes_than_there_are_cells() {
    let program = Program::new("cell_many.c").build();
    let outcome = Launch::new(&program).arg(3).probe("exe:f_*", "kind = 'call'\naction = ['count']").run();
    assert_eq!(outcome.end, End::Exit(0), "{outcome}");
    let summary = outcome.summary();
    let probes = summary["probes"].as_array().expect("probes");
    assert_eq!(probes.len(), 2000);
    for probe in probes {
        let symbol = probe["symbol"].as_str().unwrap_or_default();
        let number: u64 = symbol.trim_start_matches("f_").parse().expect("f_N");
        let expected = number % 7 * 3;
        assert_eq!(probe["hits"], expected, "{probe}");
        assert_eq!(probe["returns"], expected, "{probe}");
        assert_eq!(probe["latency"]["count"], expected, "{probe}");
    }
}

#[test]
fn of_the_structs_of_the_c_api() {
    let outcome = Launch::new(Program::new("cell_api.c").flag("-O2").build()).run();
    assert_eq!(
        outcome.stdout,
        "one: nhit 5000, handled 5000, missed 5000, returns 5000, returned 5000\n\
         nine: nhit 50000, handled 50000, missed 50000, returns 50000, returned 50000\n\
         child: nhit 55000, handled 55000, missed 55000, returns 55000, returned 55000\n\
         parent: nhit 55000, handled 55000, missed 55000, returns 55000, returned 55000\n\
         wrong: 0 of 3000\n",
        "\n{outcome}"
    );
    assert_eq!(outcome.end, End::Exit(0), "{outcome}");
}
