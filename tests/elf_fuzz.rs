//! The same as `elf_hostile`, for as long as you like: `UPROBE_FUZZ_SECONDS=600 cargo test --release --test elf_fuzz -- --nocapture`.
//! Blind mutation with what was accepted mutated again; `fuzz/` has the coverage-guided one.

mod elf_support;
#[path = "elf_support/exercise.rs"]
mod exercise;
#[path = "elf_support/mutate.rs"]
mod mutate;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use elf_support::{directory, parse};
use mutate::{Random, mutate, real, seeds};
use uprobe::elf::pattern::SymbolMatcher;
use uprobe::elf::{NoFiles, demangle};

const LONG: Duration = Duration::from_secs(5);
/// Mutants kept to be mutated again.
const POOL: usize = 200;

fn seconds() -> Duration {
    let seconds = std::env::var("UPROBE_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok());
    Duration::from_secs(seconds.unwrap_or(5))
}

fn random() -> Random {
    let seed = std::env::var("UPROBE_FUZZ_SEED").ok().and_then(|s| s.parse().ok());
    Random(seed.unwrap_or(0x1234_5678_9abc_def1))
}

/// Runs `test`; keeps `input` and says where it is when that fails.
fn keeping(dir: &Path, input: &[u8], test: impl FnOnce()) {
    let begun = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(test));
    if result.is_err() || begun.elapsed() > LONG {
        let path = dir.join("failed");
        std::fs::write(&path, input).unwrap();
        panic!("failed after {:?} on {}", begun.elapsed(), path.display());
    }
}

#[test]
fn files() {
    let dir = directory("fuzz-files");
    let mut pool = seeds("fuzz-seeds");
    pool.push(real("/bin/true"));
    let good = pool.len();
    let mut random = random();
    let (begun, end) = (Instant::now(), Instant::now() + seconds());
    let (mut tried, mut accepted, mut longest) = (0u64, 0u64, Duration::ZERO);
    while Instant::now() < end {
        let (name, bytes, debug) = &pool[random.below(pool.len())];
        let (name, mut bytes, mut debug) = (name.clone(), bytes.clone(), debug.clone());
        mutate(&mut bytes, &mut random);
        if !debug.is_empty() && random.below(4) == 0 {
            mutate(Arc::make_mut(&mut debug), &mut random);
        }
        let mut parsed = false;
        let started = Instant::now();
        keeping(&dir, &bytes, || parsed = exercise::exercise(bytes.clone(), debug.clone()));
        if started.elapsed() > longest {
            longest = started.elapsed();
            std::fs::write(dir.join("slowest"), &bytes).unwrap();
        }
        tried += 1;
        accepted += u64::from(parsed);
        if parsed && random.below(8) == 0 {
            let mutant = (name, bytes, debug);
            if pool.len() < POOL {
                pool.push(mutant);
            } else {
                let at = good + random.below(POOL - good);
                pool[at] = mutant;
            }
        }
    }
    println!("{tried} files in {:?}, {accepted} accepted, the longest took {longest:?}", begun.elapsed());
    assert!(accepted > 10);
}

#[test]
fn names() {
    let dir = directory("fuzz-names");
    let library = parse(Path::new("/usr/lib/x86_64-linux-gnu/libstdc++.so.6"));
    let functions = library.functions(&NoFiles);
    let mut names: Vec<Vec<u8>> =
        functions.iter().filter_map(|f| library.names(f).next()).map(|n| n.as_bytes().to_vec()).collect();
    for rust in [
        "_RNvMNtCskvE5CbEM6iP_5depot5storeINtB2_5ShelfNtNtCslNYArtu3iFV_5alloc6string6StringE3putB4_",
        "_RNSNvYNCINvNtCsjrHSEGnQ3l9_3std2rt10lang_startuE0INtNtNtCsgEmfK2I1SDS_4core3ops8function6FnOnceuE9call_once6vtableCskvE5CbEM6iP_5depot",
        "_ZN69_$LT$depot..store..Shelf$LT$u8$GT$$u20$as$u20$depot..store..Label$GT$5label17h6aadf45bf200d5b2E",
    ] {
        names.extend(std::iter::repeat_n(rust.as_bytes().to_vec(), functions.len() / 10));
    }
    let matcher = SymbolMatcher::glob("*::?");
    const LETTERS: &[u8] = b"_ZNKSIETPRXLDFCJMsabtdlcinvx0123456789Q.$uUfp";
    let mut random = random();
    let (begun, end) = (Instant::now(), Instant::now() + seconds());
    let (mut tried, mut demangled, mut longest) = (0u64, 0u64, Duration::ZERO);
    while Instant::now() < end {
        let mut name = names[random.below(names.len())].clone();
        for _ in 0..=random.below(5) {
            let at = 2 + random.below(name.len().saturating_sub(2));
            match random.below(5) {
                0 if at < name.len() => drop(name.remove(at)),
                1 => name.insert(at.min(name.len()), LETTERS[random.below(LETTERS.len())]),
                2 if at < name.len() => {
                    let size = random.below(40).min(name.len() - at);
                    let piece = name[at..at + size].to_vec();
                    let to = 2 + random.below(name.len() - 2);
                    name.splice(to..to, piece);
                }
                _ if at < name.len() => name[at] = LETTERS[random.below(LETTERS.len())],
                _ => {}
            }
        }
        let Ok(text) = String::from_utf8(name) else { continue };
        let started = Instant::now();
        let mut found = false;
        keeping(&dir, text.as_bytes(), || {
            found = demangle(&text).is_some();
            let _ = matcher.match_symbol(&text);
        });
        longest = longest.max(started.elapsed());
        tried += 1;
        demangled += u64::from(found);
        if found && random.below(4) == 0 && text.len() < 2000 {
            let at = random.below(names.len());
            names[at] = text.into_bytes();
        }
    }
    println!("{tried} names in {:?}, {demangled} demangled, the longest took {longest:?}", begun.elapsed());
    assert!(demangled > 10);
}
