//! What became of followed calls, and the comparisons with what a program tells of them.

use std::time::Duration;

use serde_json::Value;

use super::build::{Compiler, Program};
use super::launch::{End, Launch, Outcome};

/// The kinds of probes a place gets by [`Launch::follow`].
pub const KINDS: [&str; 3] = ["entry", "return", "call"];

/// Times from entry to return, of a summary.
#[derive(Clone, PartialEq, Debug)]
pub struct Latency {
    pub count: u64,
    pub sum_ns: u64,
    pub min_ns: u64,
    pub max_ns: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    /// Without the followed calls made in between.
    pub self_ns: u64,
    pub log2: Vec<u64>,
}

/// One probe of a summary, as far as calls go.
#[derive(Clone, PartialEq, Debug)]
pub struct Calls {
    pub name: String,
    pub kind: String,
    pub state: String,
    pub reason: String,
    pub hits: u64,
    pub returns: u64,
    pub unwound: u64,
    pub in_flight: u64,
    pub nmissed: u64,
    pub filtered: u64,
    pub sampled_out: u64,
    pub lost: u64,
    pub latency: Latency,
}

impl Calls {
    pub fn from_json(value: &Value) -> Self {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_string();
        let number = |of: &Value, key: &str| {
            of[key].as_u64().unwrap_or_else(|| panic!("'{key}' is no number in {value}"))
        };
        let latency = &value["latency"];
        let buckets = latency["log2"].as_array().unwrap_or_else(|| panic!("no latency in {value}"));
        Self {
            name: text("name"),
            kind: text("kind"),
            state: text("state"),
            reason: text("reason"),
            hits: number(value, "hits"),
            returns: number(value, "returns"),
            unwound: number(value, "unwound"),
            in_flight: number(value, "in_flight"),
            nmissed: number(value, "nmissed"),
            filtered: number(value, "filtered"),
            sampled_out: number(value, "sampled_out"),
            lost: number(value, "lost"),
            latency: Latency {
                count: number(latency, "count"),
                sum_ns: number(latency, "sum_ns"),
                min_ns: number(latency, "min_ns"),
                max_ns: number(latency, "max_ns"),
                p50_ns: number(latency, "p50_ns"),
                p99_ns: number(latency, "p99_ns"),
                self_ns: number(latency, "self_ns"),
                log2: buckets.iter().map(|n| n.as_u64().expect("buckets are numbers")).collect(),
            },
        }
    }

    /// hits = returns + unwound + in flight, whatever happened, and the times are consistent.
    pub fn assert_consistent(&self) {
        if self.kind == "entry" {
            return;
        }
        assert_eq!(self.hits, self.returns + self.unwound + self.in_flight, "{self:#?}");
        let latency = &self.latency;
        assert_eq!(latency.log2.iter().sum::<u64>(), latency.count, "{self:#?}");
        if self.kind == "call" {
            assert_eq!(latency.count, self.returns, "{self:#?}");
        }
        if latency.count > 0 {
            let most = latency.max_ns.checked_mul(latency.count).expect("no such times");
            assert!(latency.min_ns <= latency.max_ns, "{self:#?}");
            assert!(latency.min_ns * latency.count <= latency.sum_ns && latency.sum_ns <= most, "{self:#?}");
            assert!(latency.self_ns <= latency.sum_ns, "{self:#?}");
            assert!(latency.p50_ns <= latency.p99_ns && latency.p99_ns <= latency.max_ns, "{self:#?}");
        }
    }

    /// Returned, unwound, in flight.
    pub fn fates(&self) -> (u64, u64, u64) {
        (self.returns, self.unwound, self.in_flight)
    }

    /// How often the function was entered, by this probe's account.
    pub fn executions(&self) -> u64 {
        self.hits + self.nmissed + self.filtered + self.sampled_out
    }
}

impl Launch {
    /// Probes of each kind on one place, which count; called `KIND/PLACE`.
    pub fn follow(self, place: &str) -> Self {
        KINDS.into_iter().fold(self, |launch, kind| {
            launch.probe(place, &format!("name = '{kind}/{place}'\nkind = '{kind}'\naction = [\"count\"]"))
        })
    }

    /// As [`Self::follow`], for the places a program tells of: names of its own, or `OBJECT:NAME`.
    pub fn follow_all<S: AsRef<str>>(self, places: impl IntoIterator<Item = S>) -> Self {
        places.into_iter().fold(self, |launch, place| launch.follow(&full_place(place.as_ref())))
    }
}

/// A name without an object is one of the program's.
pub fn full_place(place: &str) -> String {
    if place.contains(':') { place.into() } else { format!("exe:{place}") }
}

/// What the program tells of one place.
#[derive(Clone, PartialEq, Debug)]
pub struct Told {
    pub place: String,
    pub hits: u64,
    pub returns: u64,
    pub unwound: u64,
    pub in_flight: u64,
}

/// The lines `calls PLACE HITS RETURNS UNWOUND IN_FLIGHT` of a program.
pub fn told_calls(outcome: &Outcome) -> Vec<Told> {
    let told: Vec<Told> = outcome
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("calls "))
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| words[at].parse().unwrap_or_else(|_| panic!("{line}"));
            assert_eq!(words.len(), 5, "{line}");
            Told {
                place: full_place(words[0]),
                hits: number(1),
                returns: number(2),
                unwound: number(3),
                in_flight: number(4),
            }
        })
        .collect();
    assert!(!told.is_empty(), "the program told nothing\n{outcome}");
    told
}

impl Outcome {
    /// All probes of the process that was started, each consistent in itself.
    pub fn all_calls(&self) -> Vec<Calls> {
        calls_of(&self.summary())
    }

    /// The probe called `name`.
    pub fn calls(&self, name: &str) -> Calls {
        let all = self.all_calls();
        let found: Vec<&Calls> = all.iter().filter(|probe| probe.name == name).collect();
        assert_eq!(found.len(), 1, "'{name}' in the summary: {all:#?}\n{self}");
        found[0].clone()
    }

    /// The summaries of the other processes, in no order.
    pub fn children(&self) -> Vec<Vec<Calls>> {
        let summaries = self.summaries();
        let others = summaries.iter().filter(|(pid, _)| **pid != self.pid);
        others.flat_map(|(_, written)| written.iter().map(calls_of)).collect()
    }
}

/// The probes of one summary.
pub fn calls_of(summary: &Value) -> Vec<Calls> {
    let probes = summary["probes"].as_array().unwrap_or_else(|| panic!("no probes in {summary}"));
    let calls: Vec<Calls> = probes.iter().map(Calls::from_json).collect();
    calls.iter().for_each(Calls::assert_consistent);
    calls
}

/// Each probe of a followed place has counted what the program says; nothing was missed.
pub fn assert_calls_as_told(outcome: &Outcome) {
    let all = outcome.all_calls();
    for told in told_calls(outcome) {
        for kind in KINDS {
            let name = format!("{kind}/{}", told.place);
            let found = all.iter().find(|probe| probe.name == name);
            let probe = found.unwrap_or_else(|| panic!("no probe {name}\n{outcome}"));
            assert_eq!(probe.state, "armed", "{probe:#?}\n{outcome}");
            assert_eq!((probe.hits, probe.nmissed), (told.hits, 0), "hits, nmissed: {probe:#?}\n{outcome}");
            if kind != "entry" {
                assert_eq!(
                    probe.fates(),
                    (told.returns, told.unwound, told.in_flight),
                    "returned, unwound, in flight: {probe:#?}\n{outcome}"
                );
            }
        }
    }
}

/// The program runs natively and with each place it tells of followed: same output, same end, and all
/// as told.
pub fn assert_followed(launch: &Launch) -> Outcome {
    let native = launch.clone().native().run();
    assert!(matches!(native.end, End::Exit(_)), "{native}");
    let places: Vec<String> = told_calls(&native).into_iter().map(|told| told.place).collect();
    let probed = launch.clone().follow_all(&places).run();
    super::assert_same_output(&probed, &native);
    assert_calls_as_told(&probed);
    probed
}

/// A program with its arguments, and time enough for it on a busy machine.
pub fn launch(program: Program, args: &[&str]) -> Launch {
    Launch::new(program.build()).args(args).timeout(Duration::from_secs(240))
}

/// The places of `tests/programs/SOURCE`, followed, are as it tells of them, whichever way it goes.
pub fn assert_ways(source: &str, ways: &[&[&str]]) {
    for compiler in Compiler::installed() {
        for way in ways {
            assert_followed(&launch(Program::new(source).compiler(compiler), way));
        }
    }
}
