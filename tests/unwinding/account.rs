//! What became of the calls of a function: by the summary, and by the program's own logic.

use super::common::*;

/// One probe's account of its calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Account {
    pub hits: u64,
    pub returns: u64,
    pub unwound: u64,
    pub in_flight: u64,
}

impl Account {
    /// hits = returns + unwound + in flight.
    pub fn adds_up(&self) -> bool {
        self.hits == self.returns + self.unwound + self.in_flight
    }

    /// What a probe without a return side says of the same calls.
    pub fn at_entry(&self) -> Self {
        Self { hits: self.hits, ..Self::default() }
    }
}

/// A probe of the summary with its account.
#[derive(Debug)]
pub struct Followed {
    pub probe: Probe,
    pub account: Account,
}

/// Every probe of the process that was started.
pub fn followed(outcome: &Outcome) -> Vec<Followed> {
    let summary = outcome.summary();
    let values = summary["probes"].as_array().expect("a summary lists its probes");
    let account = |value: &serde_json::Value| {
        let number =
            |key: &str| value[key].as_u64().unwrap_or_else(|| panic!("'{key}' is no number in {value}"));
        Account {
            hits: number("hits"),
            returns: number("returns"),
            unwound: number("unwound"),
            in_flight: number("in_flight"),
        }
    };
    let followed = |(probe, value)| Followed { probe, account: account(value) };
    outcome.probes().into_iter().zip(values).map(followed).collect()
}

/// A program tells what its logic dictates in lines `calls PLACE HITS RETURNS UNWOUND IN_FLIGHT`.
pub fn told(outcome: &Outcome) -> Vec<(String, Account)> {
    let told: Vec<_> = outcome
        .stdout
        .lines()
        .filter_map(|line| {
            let mut words = line.strip_prefix("calls ")?.split(' ');
            let place = words.next()?.to_string();
            let mut number = || words.next()?.parse().ok();
            let account =
                Account { hits: number()?, returns: number()?, unwound: number()?, in_flight: number()? };
            Some((place, account))
        })
        .collect();
    assert!(!told.is_empty(), "the program told nothing\n{outcome}");
    assert!(told.iter().all(|(_, account)| account.adds_up()), "{told:?}");
    told
}

/// How calls are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    Return,
    Call,
    /// By three probes at once, of kind entry, return and call.
    Each,
}

impl Look {
    pub const ALL: [Self; 3] = [Self::Return, Self::Call, Self::Each];

    fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Return => &["return"],
            Self::Call => &["call"],
            Self::Each => &["entry", "return", "call"],
        }
    }
}

/// A counting probe of `kind`.
pub fn follow(launch: Launch, kind: &str, at: &str) -> Launch {
    launch.probe(at, &format!("kind = '{kind}'\naction = ['count']"))
}

/// Probes functions of the program, by names made of kind and place.
pub fn follow_each(launch: Launch, look: Look, places: &[&str]) -> Launch {
    let probes = places.iter().flat_map(|place| look.kinds().iter().map(move |kind| (place, kind)));
    probes.fold(launch, |launch, (place, kind)| {
        let keys = format!("name = '{kind}.{place}'\nkind = '{kind}'\naction = ['count']");
        launch.probe(&format!("exe:{place}"), &keys)
    })
}

fn follow_told(launch: Launch, look: Look, told: &[(String, Account)]) -> Launch {
    let places: Vec<&str> = told.iter().map(|(place, _)| place.as_str()).collect();
    follow_each(launch, look, &places)
}

/// Each probe of [`follow_each`] says what was told.
pub fn assert_as_told(outcome: &Outcome, look: Look, told: &[(String, Account)]) {
    let followed = followed(outcome);
    for (place, expected) in told {
        for kind in look.kinds() {
            let name = format!("{kind}.{place}");
            let found = followed
                .iter()
                .find(|f| f.probe.name == name)
                .unwrap_or_else(|| panic!("no '{name}' in {followed:#?}"));
            assert_eq!(found.probe.state, "armed", "{found:#?}\n{outcome}");
            let expected = if *kind == "entry" { expected.at_entry() } else { *expected };
            assert_eq!((found.account, found.probe.nmissed), (expected, 0), "'{name}'\n{outcome}");
        }
    }
}

/// Runs it without the library, and with it in each way: the same comes out, and every call is accounted
/// for as the program tells.
pub fn assert_followed(launch: &Launch) {
    for look in Look::ALL {
        assert_followed_by(launch, look);
    }
}

/// The same in one way.
pub fn assert_followed_by(launch: &Launch, look: Look) -> Outcome {
    let native = launch.clone().native().run();
    let told = told(&native);
    let probed = follow_told(launch.clone(), look, &told).run();
    assert_same_output(&probed, &native);
    assert_eq!(probed.stderr, native.stderr, "standard error\n{probed}");
    assert_as_told(&probed, look, &told);
    probed
}

/// The same with the returns of everything `pattern` matches followed besides. Its probes add up, none
/// was missed, and `least` of them were hit.
pub fn assert_followed_with(launch: &Launch, pattern: &str, least: usize) -> Outcome {
    let native = launch.clone().native().run();
    let told = told(&native);
    let probed = follow(follow_told(launch.clone(), Look::Return, &told), "return", pattern).run();
    assert_same_output(&probed, &native);
    assert_eq!(probed.stderr, native.stderr, "standard error\n{probed}");
    assert_as_told(&probed, Look::Return, &told);
    let all = followed(&probed);
    let wrong: Vec<_> = all.iter().filter(|f| !f.account.adds_up() || f.probe.nmissed > 0).collect();
    assert!(wrong.is_empty(), "{wrong:#?}\n{probed}");
    let hit = all.iter().filter(|f| f.account.hits > 0).count();
    assert!(hit >= told.len() + least, "{hit} of {} were hit\n{probed}", all.len());
    probed
}
