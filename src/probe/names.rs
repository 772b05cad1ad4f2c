//! Names of probes, each given once.

use std::hash::{BuildHasher, BuildHasherDefault};

use crate::sys::{FixedHashMap, FixedHasher};

/// How often there was a name, by its hash. Those that were given just once are found again in the instances that
/// have them, and forgotten meanwhile.
#[derive(Default)]
pub(super) struct Names {
    counts: FixedHashMap<u64, u32>,
    /// All of them.
    is_complete: bool,
}

impl Names {
    /// The name, or, where there is one of that name already, the name with a number. `all` gives the names that
    /// are in use.
    pub(super) fn give<'a, I: Iterator<Item = &'a str>>(
        &mut self,
        name: String,
        all: impl FnOnce() -> I,
    ) -> String {
        if !self.is_complete {
            for name in all() {
                self.counts.entry(hash(name)).or_insert(1);
            }
            self.is_complete = true;
        }
        // Where two had the same hash, one would have a number without need.
        let mut times = self.add(&name);
        if times == 1 {
            return name;
        }
        loop {
            // A function may have such a name itself.
            let numbered = format!("{name}_{}", times - 1);
            if self.add(&numbered) == 1 {
                return numbered;
            }
            times = self.add(&name);
        }
    }

    fn add(&mut self, name: &str) -> u32 {
        let count = self.counts.entry(hash(name)).or_insert(0);
        *count += 1;
        *count
    }

    /// Forgets what can be found again.
    pub(super) fn release(&mut self) {
        self.counts.retain(|_, count| *count > 1);
        self.counts.shrink_to_fit();
        self.is_complete = false;
    }
}

fn hash(name: &str) -> u64 {
    BuildHasherDefault::<FixedHasher>::default().hash_one(name)
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn no_name_is_given_twice_whatever_is_forgotten_meanwhile() {
        let mut names = Names::default();
        let mut given: Vec<String> = Vec::new();
        for round in 0..3 {
            for name in ["open", "close", "open", "open"] {
                let new = names.give(name.to_owned(), || given.iter().map(String::as_str));
                assert!(!given.contains(&new), "{round} {new}");
                given.push(new);
            }
            names.release();
        }
        assert_eq!(given[..4], ["open", "close", "open_1", "open_2"]);
        assert_eq!(given[5], "close_1");
    }

    #[test]
    fn a_name_that_looks_like_a_numbered_one_is_given_once() {
        let mut names = Names::default();
        let mut give = |name: &str| names.give(name.to_owned(), std::iter::empty);
        assert_eq!(
            ["init", "init_1", "init", "init", "init_2"].map(&mut give),
            ["init", "init_1", "init_2", "init_3", "init_2_1"]
        );
    }
}
